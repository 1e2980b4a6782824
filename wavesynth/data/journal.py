"""The journal of `prepare`: a line of JSON for each finished file, from which an interrupted run continues."""

import json
from dataclasses import asdict, dataclass, fields
from typing import Any

from wavesynth import strict_json
from wavesynth.data.activity import Ranges
from wavesynth.data.manifest import VERSION

JOURNAL = "journal.jsonl"


@dataclass(frozen=True)
class Outcome:
    """The result for one file.

    Attributes:
        file: the file, as in `SourceFile`; likewise the next two.
        size: bytes.
        mtime_ns: time of its last change.
        digest: SHA-256 of its content.
        refused: the reason, or None.
        duplicate_of: the earlier file with the same sound, or None.
        warnings: problems of a file that was used.
        sample_rate: Hz, of the file; 0 when refused.
        channels: of the file; 0 when refused.
        sha256: of its int16 samples; empty when refused.
        shard: index of the data file that holds its samples.
        offset: position in the data file, in samples per channel.
        length: number of samples per channel; 0 if none are stored.
        sound: the parts (begin, end) that are not silent.
        traits: see `wavesynth.audio.conversion.TRAITS`; empty when refused.
    """

    file: str
    size: int
    mtime_ns: int
    digest: str
    refused: str | None = None
    duplicate_of: str | None = None
    warnings: tuple[str, ...] = ()
    sample_rate: int = 0
    channels: int = 0
    sha256: str = ""
    shard: int = 0
    offset: int = 0
    length: int = 0
    sound: Ranges = ()
    traits: tuple[str, ...] = ()

    def to_line(self) -> bytes:
        """The outcome as a line of the journal."""
        return json.dumps(asdict(self)).encode() + b"\n"

    @classmethod
    def from_line(cls, line: bytes) -> "Outcome":
        """The inverse of `to_line`.

        Raises:
            ValueError: it is not a complete line.
        """
        try:
            record = strict_json.parse(line)
            if not line.endswith(b"\n") or set(record) != {field.name for field in fields(cls)}:
                raise ValueError("not a whole line")
            for field in fields(cls):
                if not isinstance(record[field.name], _FORMS[field.name]):
                    raise ValueError(f"{field.name} of another type")
            record["warnings"] = tuple(map(str, record["warnings"]))
            record["traits"] = tuple(map(str, record["traits"]))
            record["sound"] = tuple((int(begin), int(end)) for begin, end in record["sound"])
            outcome = cls(**record)
        except TypeError as error:
            raise ValueError(str(error)) from None
        if min(outcome.size, outcome.shard, outcome.offset, outcome.length) < 0:
            raise ValueError("negative")
        return outcome


_FORMS: dict[str, Any] = {
    **dict.fromkeys(("size", "mtime_ns", "sample_rate", "channels", "shard", "offset", "length"), int),
    **dict.fromkeys(("file", "digest", "sha256"), str),
    **dict.fromkeys(("refused", "duplicate_of"), str | None),
    **dict.fromkeys(("warnings", "sound", "traits"), list),
}


def header(settings: dict[str, Any], channels: int) -> bytes:
    """The first line: the settings that the outcomes depend on. With other settings, they cannot be reused."""
    return json.dumps({"version": VERSION, "channels": channels, "settings": settings}).encode() + b"\n"
