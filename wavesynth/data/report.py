"""What `prepare` did with a folder: as a table on screen, as JSON beside the shards."""

import dataclasses
import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from wavesynth.audio.names import display
from wavesynth.data.splits import SPLITS

_SHOWN = 10
"""Lines of each list on screen; the JSON has them all."""


@dataclass(frozen=True)
class Report:
    """What was taken of a folder, and file by file what was not, and why.

    File names are relative to the folder and as they are on disk (`display` makes them fit to show).

    Attributes:
        taken: number of files whose sound is in the shards.
        refused: (file, reason), sorted by file; so are the next two.
        warned: (file, what), of files that were taken all the same.
        duplicates: (file, the file that holds the same sound and was taken).
        ignored: how many entries of the folder were left aside by default, by kind.
        labels: clips of each label; the label "" stands for none.
        splits: clips of train, valid and test.
        seconds: of sound that was taken.
        sample_rate: Hz, of the shards.
        remarks: on the whole, such as how a split was filled.
        status: "made", "continued" (from an interrupted run) or "up to date" (nothing was done); not part of the JSON.
    """

    taken: int
    refused: tuple[tuple[str, str], ...]
    warned: tuple[tuple[str, str], ...]
    duplicates: tuple[tuple[str, str], ...]
    ignored: dict[str, int]
    labels: dict[str, int]
    splits: dict[str, int]
    seconds: float
    sample_rate: int
    remarks: tuple[str, ...] = ()
    status: str = "made"

    def to_json(self) -> str:
        """The report as JSON in ASCII, one item a line."""
        record = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        del record["status"]
        return json.dumps(record, indent=1) + "\n"

    @classmethod
    def from_json(cls, text: str, status: str = "made") -> "Report":
        """The inverse of `to_json`."""
        record = json.loads(text)
        for name in ("refused", "warned", "duplicates"):
            record[name] = tuple((file, what) for file, what in record[name])
        return cls(**record | {"remarks": tuple(record["remarks"]), "status": status})

    def __str__(self) -> str:
        splits = ", ".join(f"{name} {self.splits.get(name, 0)}" for name in SPLITS)
        rows = [
            ("taken", f"{_files(self.taken)}, {duration(self.seconds)} at {self.sample_rate:,} Hz ({self.status})"),
            ("clips", splits),
            ("labels", _counts(self.labels) if any(self.labels) else ""),
            ("refused", _files(len(self.refused))),
            ("duplicates", _files(len(self.duplicates))),
            ("ignored", _counts(self.ignored)),
        ]
        lines = [f"{name:<12}{text}" for name, text in rows if text]
        lines += [f"{'note':<12}{remark}" for remark in self.remarks]
        lines += _section("refused", self.refused)
        lines += _section("taken, with a warning", self.warned)
        lines += _section("duplicates", ((file, f"same sound as {display(first)}") for file, first in self.duplicates))
        return "\n".join(lines)


def duration(seconds: float) -> str:
    """A length of sound for people to read.

    >>> duration(1.5), duration(90), duration(7_260)
    ('1.5 s', '1 min 30 s', '2 h 1 min')
    """
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def _files(count: int) -> str:
    return "" if count == 0 else "1 file" if count == 1 else f"{count:,} files"


def _counts(counts: dict[str, int]) -> str:
    most = Counter(counts).most_common(_SHOWN)
    text = ", ".join(f"{display(name) or '(none)'} {count:,}" for name, count in most)
    return text + (f" and {len(counts) - _SHOWN} more" if len(counts) > _SHOWN else "")


def _section(title: str, items: Iterable[tuple[str, str]]) -> list[str]:
    items = tuple(items)
    lines = [f"  {display(file)}: {display(what)}" for file, what in items[:_SHOWN]]
    if len(items) > _SHOWN:
        lines.append(f"  and {len(items) - _SHOWN:,} more, all in report.json")
    return [f"{title}:", *lines] if lines else []
