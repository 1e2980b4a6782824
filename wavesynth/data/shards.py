"""Shards: a folder of decoded audio that a random crop is read from in microseconds.

```
shards/
  shard-00000.pcm ...   clips end to end: raw little-endian int16, mono, up to 256 MiB a file
  manifest.json         what is where: sample rate, labels, files and clips, each with its SHA-256
  report.json           what `prepare` took and refused
```
A clip lies wholly in one file; a clip of over 256 MiB makes a larger one. The first line of the manifest holds the
SHA-256 of the bytes that follow that line, so that a changed byte anywhere is found.
"""

import hashlib
import json
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from wavesynth.audio.pcm import to_float
from wavesynth.data.splits import SPLITS
from wavesynth.errors import UserError

FORMAT = "wavesynth-shards"
VERSION = 1
MANIFEST = "manifest.json"
REPORT = "report.json"
SHARD_BYTES = 256 * 2**20
_COPY_BYTES = 2**20
_SHARD_NAME = re.compile(r"shard-\d{5,}\.pcm")


@dataclass(frozen=True)
class ClipRecord:
    """Where one clip lies and what is known of it.

    Attributes:
        file: the path it was decoded from, relative to the prepared folder. Bytes that are not UTF-8 are kept as
            surrogate escapes (`os.fsencode` gives them back); show it through `wavesynth.audio.names.display`.
        label: its label, or None.
        pitch: MIDI note number (60 is middle C; fractions are cents / 100), or None.
        split: "train", "valid" or "test".
        shard: index of its shard file.
        offset: where it begins in that file, in samples.
        length: number of samples.
        sha256: of its little-endian int16 bytes.
    """

    file: str
    label: str | None
    pitch: float | None
    split: str
    shard: int
    offset: int
    length: int
    sha256: str


@dataclass(frozen=True)
class ShardFile:
    """One data file: its name, its size in bytes and the SHA-256 of its content."""

    file: str
    bytes: int
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """Everything that manifest.json says.

    Attributes:
        sample_rate: Hz, of every clip.
        labels: every label that occurs, sorted.
        settings: what `prepare` was called with, as far as it decides the content.
        source: fingerprint of the files it was made from, by which `prepare` knows that nothing changed.
        shards: the data files.
        clips: the clips, in the order of their files' names.
    """

    sample_rate: int
    labels: tuple[str, ...]
    settings: dict[str, Any]
    source: str
    shards: tuple[ShardFile, ...]
    clips: tuple[ClipRecord, ...]

    def to_bytes(self) -> bytes:
        """The content of manifest.json: ASCII, one clip a line, the same bytes for the same manifest."""
        head = {"format": FORMAT, "version": VERSION, "sample_rate": self.sample_rate, "labels": self.labels}
        head |= {"settings": self.settings, "source": self.source}
        lines = [f"{json.dumps(name)}: {json.dumps(value)},\n" for name, value in head.items()]
        lines += ['"shards": [\n', _rows(self.shards), '],\n"clips": [\n', _rows(self.clips), "]\n}\n"]
        body = "".join(lines).encode("ascii")
        return b'{"sha256": "%s",\n' % hashlib.sha256(body).hexdigest().encode() + body

    @classmethod
    def from_bytes(cls, content: bytes) -> "Manifest":
        """The inverse of `to_bytes`. Raises ValueError with the reason when the content is not a whole manifest."""
        try:
            record = json.loads(content)
        except ValueError as error:
            raise ValueError(f"is not JSON ({error})") from None
        if not isinstance(record, dict) or record.get("format") != FORMAT:
            raise ValueError("is not a manifest of wavesynth shards")
        if record.get("version") != VERSION:
            raise ValueError(f"is of format version {record.get('version')}, this wavesynth reads version {VERSION}")
        if record.get("sha256") != hashlib.sha256(content.partition(b"\n")[2]).hexdigest():
            raise ValueError("was changed after it was written (its checksum differs)")
        return cls(
            sample_rate=record["sample_rate"],
            labels=tuple(record["labels"]),
            settings=record["settings"],
            source=record["source"],
            shards=tuple(ShardFile(**row) for row in record["shards"]),
            clips=tuple(ClipRecord(**row) for row in record["clips"]),
        )


def _rows(records: Iterable[ShardFile | ClipRecord]) -> str:
    return ",\n".join(json.dumps({f.name: getattr(r, f.name) for f in fields(r)}) for r in records) + "\n"


class Shards:
    """A shards folder, opened: clips by index, memory-mapped.

    It has `__len__` and `__getitem__`, so Grain and other loaders can wrap it and pickle it to their processes.

    >>> shards = Shards.open("shards/")                                     # doctest: +SKIP
    >>> shards.sample_rate, len(shards), shards.labels                      # doctest: +SKIP
    (16000, 1057, ('kick', 'snare'))
    >>> crop = to_float(shards.samples(3)[1000:9192])                       # doctest: +SKIP
    """

    def __init__(self, path: Path, manifest: Manifest):
        self.path = path
        self.manifest = manifest
        self._maps: dict[int, NDArray[np.int16]] = {}

    @classmethod
    def open(cls, path: str | os.PathLike[str], verify: bool = False) -> "Shards":
        """Opens a finished shards folder and checks its manifest and the sizes of its files.

        Args:
            path: the folder that `prepare` wrote.
            verify: also read every byte and compare the checksums.

        Raises:
            UserError: there are no finished shards, or a file is missing or was changed.
        """
        path = Path(path)
        try:
            content = (path / MANIFEST).read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            unfinished = path.with_name(path.name + ".partial").is_dir()
            reason = "its preparation did not finish, run it again" if unfinished else "make them"
            raise UserError(f"no shards in {path}: {reason} with `wavesynth prepare FOLDER {path}`") from None
        except OSError as error:
            raise UserError(f"{path / MANIFEST} cannot be read: {error.strerror}") from None
        try:
            shards = cls(path, Manifest.from_bytes(content))
        except ValueError as error:
            raise _broken(path, MANIFEST, str(error)) from None
        shards._check_sizes()
        if verify:
            shards.verify()
        return shards

    @property
    def sample_rate(self) -> int:
        """Hz, of every clip."""
        return self.manifest.sample_rate

    @property
    def labels(self) -> tuple[str, ...]:
        """Every label that occurs, sorted: a model's label indices are positions in it."""
        return self.manifest.labels

    @property
    def clips(self) -> tuple[ClipRecord, ...]:
        """The clips, in the order of their files' names."""
        return self.manifest.clips

    @cached_property
    def seconds(self) -> float:
        """Length of all clips together."""
        return sum(clip.length for clip in self.clips) / self.sample_rate

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of what a model can learn from: rate, labels, and each clip's content, label, pitch and split.

        Two folders with the same fingerprint give the same batches; file names and the layout on disk do not count.
        """
        content = [[c.sha256, c.length, c.label, c.pitch, c.split] for c in self.clips]
        return hashlib.sha256(json.dumps([self.sample_rate, self.labels, content]).encode()).hexdigest()

    def __len__(self) -> int:
        return len(self.clips)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """One whole clip: `samples` (float32 [T], a copy), `sample_rate`, `label`, `pitch`, `split` and `file`."""
        clip = self.clips[index]
        known = {"label": clip.label, "pitch": clip.pitch, "split": clip.split, "file": clip.file}
        return {"samples": to_float(self.samples(index)), "sample_rate": self.sample_rate} | known

    def samples(self, index: int) -> NDArray[np.int16]:
        """A read-only view [T] of one clip in its memory-mapped file: nothing is copied or read until it is used."""
        clip = self.clips[index]
        pcm = self._maps.get(clip.shard)
        if pcm is None:
            file = self.path / self.manifest.shards[clip.shard].file
            # A plain array over the map: slicing the memmap subclass costs several times as much.
            pcm = self._maps[clip.shard] = np.asarray(np.memmap(file, dtype="<i2", mode="r"))
        return pcm[clip.offset : clip.offset + clip.length]

    def split(self, name: str) -> tuple[int, ...]:
        """Indices of the clips of "train", "valid" or "test", ascending."""
        if name not in SPLITS:
            raise UserError(f"split={name!r}: choose one of {', '.join(SPLITS)}")
        return tuple(i for i, clip in enumerate(self.clips) if clip.split == name)

    def verify(self) -> None:
        """Reads every data file and compares its checksum. Raises UserError naming the first that differs."""
        for shard in self.manifest.shards:
            try:
                with open(self.path / shard.file, "rb") as file:
                    digest = hashlib.file_digest(file, "sha256").hexdigest()
            except OSError as error:
                raise _broken(self.path, shard.file, f"cannot be read ({error.strerror})") from None
            if digest != shard.sha256:
                raise _broken(self.path, shard.file, "was changed after it was written (its checksum differs)")

    def _check_sizes(self) -> None:
        for shard in self.manifest.shards:
            try:
                size = (self.path / shard.file).stat().st_size
            except OSError as error:
                raise _broken(self.path, shard.file, f"is missing or unreadable ({error.strerror})") from None
            if size != shard.bytes:
                raise _broken(self.path, shard.file, f"has {size:,} bytes where {shard.bytes:,} were written")

    def __reduce__(self) -> tuple[Any, ...]:
        # Maps are opened anew by whoever unpickles: pickled they would travel as copies of whole files.
        return Shards, (self.path, self.manifest)

    def __repr__(self) -> str:
        return f"Shards({str(self.path)!r}: {len(self)} clips, {self.seconds:.1f} s at {self.sample_rate} Hz)"


def _broken(path: Path, file: str, reason: str) -> UserError:
    return UserError(f"{path / file} {reason}: make the shards again with `wavesynth prepare FOLDER {path} --force`")


class ShardWriter:
    """Appends clips to the data files of a folder, in order; the same clips always give the same bytes.

    Args:
        folder: where the files go; it exists.
        keep: bytes to keep of each file that an earlier, interrupted run has written; what lies beyond is cut off.
        shard_bytes: size above which a new file is begun.
    """

    def __init__(self, folder: Path, keep: Sequence[int] = (), shard_bytes: int = SHARD_BYTES):
        self.folder = folder
        self.shard_bytes = shard_bytes
        self._sizes = list(keep)
        self._digests = []
        for index, size in enumerate(keep):
            with open(folder / shard_name(index), "r+b") as file:
                file.truncate(size)
                self._digests.append(hashlib.sha256())
                for block in iter(lambda: file.read(_COPY_BYTES), b""):
                    self._digests[-1].update(block)
        kept = {shard_name(index) for index in range(len(keep))}
        for path in folder.iterdir():
            if is_shard_name(path.name) and path.name not in kept:
                path.unlink()

    def append(self, pcm: IO[bytes], num_samples: int) -> tuple[int, int]:
        """Copies a clip (int16 bytes, from the current position of `pcm`). Returns its shard and offset in samples."""
        num_bytes = 2 * num_samples
        if not self._sizes or (self._sizes[-1] and self._sizes[-1] + num_bytes > self.shard_bytes):
            self._sizes.append(0)
            self._digests.append(hashlib.sha256())
        shard, offset = len(self._sizes) - 1, self._sizes[-1]
        with open(self.folder / shard_name(shard), "ab") as file:
            while block := pcm.read(min(_COPY_BYTES, num_bytes)):
                file.write(block)
                self._digests[-1].update(block)
                num_bytes -= len(block)
        self._sizes[-1] += 2 * num_samples
        return shard, offset // 2

    @property
    def files(self) -> tuple[ShardFile, ...]:
        """What has been written so far."""
        parts = enumerate(zip(self._sizes, self._digests))
        return tuple(ShardFile(shard_name(i), size, digest.hexdigest()) for i, (size, digest) in parts)


def shard_name(index: int) -> str:
    """Name of a data file."""
    return f"shard-{index:05d}.pcm"


def is_shard_name(name: str) -> bool:
    """Whether a file name is that of a data file."""
    return _SHARD_NAME.fullmatch(name) is not None
