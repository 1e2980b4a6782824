"""The journal of a run: one JSON object of metrics per line, and TensorBoard files if tensorboardX is installed."""

import importlib.util
import json
import math
from contextlib import suppress
from pathlib import Path
from typing import Any

from wavesynth.storage import write_file


class Journal:
    """Appends metrics to a file. Each line has `step`, `seconds` (of training so far) and the metrics of that step.

    Values that are not finite are written as null.

    Args:
        path: the file, `journal.jsonl`. An incomplete last line, left by a killed process or a full disk, is dropped.
        first_step: lines of later steps are dropped, because a resumed run writes them again.
        board: the folder for TensorBoard; None for none.
    """

    def __init__(self, path: Path, first_step: int = 0, board: Path | None = None) -> None:
        kept = [line for line in read(path) if line["step"] <= first_step]
        write_file(path, "".join(json.dumps(line) + "\n" for line in kept).encode())
        self.seconds = kept[-1]["seconds"] if kept else 0.0
        self._file = path.open("a")
        self._board = _tensorboard(board, first_step) if board else None

    def write(self, step: int, seconds: float, **metrics: Any) -> None:
        """Appends one line and flushes it to disk."""
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
        """Closes the files."""
        with suppress(OSError):  # every line was flushed already, and a full disk reported
            self._file.close()
        if self._board:
            with suppress(OSError):
                self._board.close()


def read(path: Path) -> list[dict[str, Any]]:
    """The complete lines of a journal; none if there is no journal."""
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
