"""manifest.json: the contents of a shards folder, clip by clip.

The first line holds the SHA-256 of the bytes after it, so that any change is detected. Records validate their values, so
that an untrusted manifest cannot refer to other files, to positions outside of a file, or to invalid numbers.
"""

import hashlib
import json
import math
import re
from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import Any

from wavesynth import strict_json
from wavesynth.audio.containers import MAX_SAMPLE_RATE, MIN_SAMPLE_RATE
from wavesynth.data.activity import Ranges
from wavesynth.data.splits import SPLITS

FORMAT = "wavesynth-shards"
VERSION = 2
MANIFEST = "manifest.json"
MOST_CHANNELS = 8
_MOST = 2**53  # larger integers lose digits in JSON
_SHARD_NAME = re.compile(r"shard-\d{5,9}\.pcm")
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class ClipRecord:
    """The position and metadata of one clip.

    Attributes:
        file: the source path, relative to the prepared folder. Bytes that are not UTF-8 are surrogate escapes, which
            `os.fsencode` restores. Use `wavesynth.audio.names.display` to print it.
        label: its label, or None.
        pitch: MIDI note number (60 is middle C; fractions are cents / 100), or None.
        split: "train", "valid" or "test".
        shard: index of its data file.
        offset: position in that file, in samples per channel.
        length: number of samples per channel.
        sha256: SHA-256 of its bytes.
        sound: the parts (begin, end) that are not silent, in samples; empty if unknown.
        bandwidth: where the sound ends, Hz, if its file has a lower sample rate than the shards; otherwise None.

    Raises:
        ValueError: a value is impossible.
    """

    file: str
    label: str | None
    pitch: float | None
    split: str
    shard: int
    offset: int
    length: int
    sha256: str
    sound: Ranges = ()
    bandwidth: float | None = None

    def __post_init__(self) -> None:
        _check(isinstance(self.file, str), "file", self.file)
        _check(self.label is None or isinstance(self.label, str), "label", self.label)
        _check(self.pitch is None or _is_number(self.pitch, 0, 127), "pitch", self.pitch)
        _check(self.split in SPLITS, "split", self.split)
        _check(_is_whole(self.shard, 0), "shard", self.shard)
        _check(_is_whole(self.offset, 0), "offset", self.offset)
        _check(_is_whole(self.length, 1), "length", self.length)
        _check(_is_sha256(self.sha256), "sha256", self.sha256)
        edges = [0, *(edge for part in self.sound for edge in part), self.length]
        ordered = all(_is_whole(edge, 0) for edge in edges) and edges == sorted(edges)
        _check(ordered and all(len(part) == 2 and part[0] < part[1] for part in self.sound), "sound", self.sound)
        _check(self.bandwidth is None or _is_number(self.bandwidth, 1, MAX_SAMPLE_RATE), "bandwidth", self.bandwidth)

    @property
    def sounding(self) -> Ranges:
        """The parts (begin, end) to draw from: `sound`, or the whole clip if unknown."""
        return self.sound or ((0, self.length),)


@dataclass(frozen=True)
class ShardFile:
    """One data file.

    Attributes:
        file: its name, `shard-00000.pcm`.
        bytes: its size.
        sha256: of its content.

    Raises:
        ValueError: a value is impossible.
    """

    file: str
    bytes: int
    sha256: str

    def __post_init__(self) -> None:
        _check(isinstance(self.file, str) and is_shard_name(self.file), "file", self.file)
        _check(_is_whole(self.bytes, 1), "bytes", self.bytes)
        _check(_is_sha256(self.sha256), "sha256", self.sha256)


@dataclass(frozen=True)
class Manifest:
    """The contents of manifest.json.

    Attributes:
        sample_rate: Hz, of every clip.
        labels: every label that occurs, sorted.
        settings: the settings of `prepare` that affect the contents.
        source: fingerprint of the source files, with which `prepare` detects changes.
        shards: the data files.
        clips: the clips, in the order of their files' names.
        channels: number of channels of every clip.

    Raises:
        ValueError: a value is impossible.
    """

    sample_rate: int
    labels: tuple[str, ...]
    settings: dict[str, Any]
    source: str
    shards: tuple[ShardFile, ...]
    clips: tuple[ClipRecord, ...]
    channels: int = 1

    def __post_init__(self) -> None:
        _check(_is_whole(self.sample_rate, MIN_SAMPLE_RATE, MAX_SAMPLE_RATE), "sample_rate", self.sample_rate)
        _check(_is_whole(self.channels, 1, MOST_CHANNELS), "channels", self.channels)
        known = set(self.labels) if all(isinstance(label, str) for label in self.labels) else set()
        _check(len(known) == len(self.labels), "labels", self.labels)
        _check(isinstance(self.settings, dict), "settings", self.settings)
        _check(isinstance(self.source, str), "source", self.source)
        for clip in self.clips:
            _check(clip.label is None or clip.label in known, "label", clip.label)
            _check(clip.shard < len(self.shards), "shard", clip.shard)
            end = 2 * self.channels * (clip.offset + clip.length)
            _check(end <= self.shards[clip.shard].bytes, "length", clip.length)

    def to_bytes(self) -> bytes:
        """The content of manifest.json: ASCII, one clip per line, and deterministic."""
        head = {"format": FORMAT, "version": VERSION, "sample_rate": self.sample_rate, "channels": self.channels}
        head |= {"labels": self.labels, "settings": self.settings, "source": self.source}
        lines = [f"{json.dumps(name)}: {json.dumps(value)},\n" for name, value in head.items()]
        lines += ['"shards": [\n', _rows(self.shards), '],\n"clips": [\n', _rows(self.clips), "]\n}\n"]
        body = "".join(lines).encode("ascii")
        return b'{"sha256": "%s",\n' % hashlib.sha256(body).hexdigest().encode() + body

    @classmethod
    def from_bytes(cls, content: bytes) -> "Manifest":
        """The inverse of `to_bytes`.

        Raises:
            ValueError: the content is not a complete manifest of this format; the message says why.
        """
        try:
            record = strict_json.parse(content)
        except ValueError as error:
            raise ValueError(f"cannot be read ({error})") from None
        if record.get("format") != FORMAT:
            raise ValueError("is not a manifest of wavesynth shards")
        if (version := record.get("version")) != VERSION or isinstance(version, bool):
            shown = version if isinstance(version, int) and abs(version) < _MOST else "unknown"
            raise ValueError(f"has format version {shown}, and this wavesynth reads version {VERSION}")
        if record.get("sha256") != hashlib.sha256(content.partition(b"\n")[2]).hexdigest():
            raise ValueError("was changed after it was written (its checksum differs)")
        try:
            return cls(
                sample_rate=record["sample_rate"],
                labels=tuple(record["labels"]),
                settings=record["settings"],
                source=record["source"],
                shards=tuple(ShardFile(**row) for row in record["shards"]),
                clips=tuple(ClipRecord(**row | {"sound": tuple(map(tuple, row["sound"]))}) for row in record["clips"]),
                channels=record["channels"],
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"has fields of the wrong form ({str(error)[:80]})") from None


def shard_name(index: int) -> str:
    """The name of a data file.

    >>> shard_name(3)
    'shard-00003.pcm'
    """
    return f"shard-{index:05d}.pcm"


def is_shard_name(name: str) -> bool:
    """Whether a file name is that of a data file."""
    return _SHARD_NAME.fullmatch(name) is not None


def _rows(records: Iterable[ShardFile | ClipRecord]) -> str:
    return ",\n".join(json.dumps({f.name: getattr(r, f.name) for f in fields(r)}) for r in records) + "\n"


def _check(true: bool, name: str, value: Any) -> None:
    if not true:
        raise ValueError(f"has an impossible {name}: {ascii(value)[:60]}")


def _is_whole(value: Any, low: int, high: int = _MOST) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and low <= value <= high


def _is_number(value: Any, low: float, high: float) -> bool:
    return (
        isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) and low <= value <= high
    )


def _is_sha256(value: Any) -> bool:
    return isinstance(value, str) and _SHA256.fullmatch(value) is not None
