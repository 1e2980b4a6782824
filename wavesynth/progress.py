"""Progress reports: a bar in a terminal, occasional lines in a log file."""

import math
import sys
import time
from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import TypeVar

LINE_SECONDS = 30.0  # longest time between lines in a log file
LINE_SHARE = 0.05  # fraction of the work after which there is a line
LEAST_SECONDS = 5.0  # shortest time between lines

T = TypeVar("T")


class Progress:
    """Reports progress on stderr: a tqdm bar in a terminal, otherwise a line every 30 seconds or 5 percent.

    Args:
        total: how much there is to do, in `unit`s; inf where it has no end.
        unit: what is counted, in the singular, such as "step", "file" or "second".
        what: the work's name, such as "train".
        initial: how much was done before.
        shown: False prints nothing.

    >>> with Progress(3, "file", "decode", shown=False) as progress:
    ...     sum(size for size in progress.over([1, 2, 3]))
    6
    """

    def __init__(self, total: float, unit: str, what: str = "", *, initial: float = 0, shown: bool = True) -> None:
        self._total, self._unit, self._what = total, unit, what
        self._done, self._initial, self._note = initial, initial, ""
        self._bar, self._shown = None, shown
        if shown and sys.stderr.isatty():
            from tqdm import tqdm

            self._bar = tqdm(desc=what or None, total=total, initial=initial, unit=unit)
        self._began = self._printed_at = time.monotonic()
        self._printed = initial

    def update(self, count: float = 1, note: str = "") -> None:
        """Adds `count` units of work. `note`, such as the latest metrics, is shown after the progress."""
        self._done, self._note = self._done + count, note or self._note
        if self._bar is not None:
            if note:
                self._bar.set_postfix_str(note, refresh=False)
            self._bar.update(round(self._done, 1) - self._bar.n)
        elif self._shown:
            waited = time.monotonic() - self._printed_at
            far = self._done - self._printed >= LINE_SHARE * self._total
            if waited >= LINE_SECONDS or (far and waited >= LEAST_SECONDS):
                self._print_line()

    def over(self, items: Iterable[T]) -> Iterator[T]:
        """The items, each counted as one unit once it is done with."""
        for item in items:
            yield item
            self.update()

    def close(self) -> None:
        """Closes the bar, or prints a last line."""
        if self._bar is not None:
            self._bar.close()
        elif self._shown and self._done != self._printed:
            self._print_line()

    def __enter__(self) -> "Progress":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _print_line(self) -> None:
        now = time.monotonic()
        elapsed, made = now - self._began, self._done - self._initial
        whole = f" of {self._total:,.6g}" if math.isfinite(self._total) else ""
        parts = [f"{self._done:,.6g}{whole} {self._unit}s", f"{_duration(elapsed)} elapsed"]
        if whole and made and self._done < self._total:
            parts.append(f"{_duration(elapsed * (self._total - self._done) / made)} left")
        if self._note:
            parts.append(self._note)
        print(f"{self._what}: " * bool(self._what) + ", ".join(parts), file=sys.stderr, flush=True)
        self._printed, self._printed_at = self._done, now


def _duration(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"
