"""The diary of a run: one JSON object a line, and TensorBoard's files where tensorboardX is installed."""

import importlib.util
import json
import math
import os
from contextlib import suppress
from pathlib import Path
from typing import Any


class Journal:
    """Appends metrics to RUN/journal.jsonl; each line has `step`, `seconds` (of training) and what was measured then.

    first_step: lines after this step are dropped on opening, since a resumed run writes them again. A line that a
    killed process or a full disk left unfinished is dropped as well. What is not a finite number is written as null.
    """

    def __init__(self, run: Path, first_step: int = 0) -> None:
        self.path = run / "journal.jsonl"
        kept = [line for line in read(self.path) if line["step"] <= first_step]
        temporary = self.path.with_suffix(".tmp")
        temporary.write_text("".join(json.dumps(line) + "\n" for line in kept))
        os.replace(temporary, self.path)
        self.seconds = kept[-1]["seconds"] if kept else 0.0
        self._file = self.path.open("a")
        self._board = _tensorboard(run / "tensorboard", first_step)

    def write(self, step: int, seconds: float, **metrics: Any) -> None:
        known = {
            name: None if isinstance(value, float) and not math.isfinite(value) else value
            for name, value in metrics.items()
        }
        self._file.write(json.dumps({"step": step, "seconds": round(seconds, 3), **known}) + "\n")
        self._file.flush()
        if self._board:
            for name, value in known.items():
                if isinstance(value, int | float):
                    self._board.add_scalar(name, value, step)

    def close(self) -> None:
        with suppress(OSError):  # every line was flushed when it was written, and a full disk reported then
            self._file.close()
        if self._board:
            with suppress(OSError):
                self._board.close()


def read(path: Path) -> list[dict[str, Any]]:
    """The lines of a journal up to the first that is not whole; none if there is no journal."""
    lines = []
    if path.exists():
        for line in path.read_bytes().splitlines(keepends=True):
            try:
                record = json.loads(line)
            except ValueError:
                break
            if not (line.endswith(b"\n") and isinstance(record, dict) and {"step", "seconds"} <= record.keys()):
                break
            lines.append(record)
    return lines


def _tensorboard(folder: Path, first_step: int) -> Any:
    if importlib.util.find_spec("tensorboardX") is None:
        return None
    from tensorboardX import SummaryWriter

    return SummaryWriter(str(folder), purge_step=first_step + 1 if first_step else None)
