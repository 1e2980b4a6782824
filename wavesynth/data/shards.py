"""Shards: a folder of decoded audio with fast random access.

```
shards/
  shard-00000.pcm ...   clips end to end: raw little-endian int16, channels interleaved, up to 256 MiB a file
  manifest.json         what is where: sample rate, channels, labels, files and clips, each with its SHA-256
  report.json           what `prepare` took and refused
  sources.json          size, time and SHA-256 of the source files
```
A clip is never divided between files; a clip of over 256 MiB gets a larger file. Channels are interleaved, so that clips can be
written while they are decoded, and a crop is one contiguous part of the file. Clips are read as [C, T].
"""

import hashlib
import json
import os
import stat
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from wavesynth.audio.names import display, user_path
from wavesynth.audio.pcm import to_float
from wavesynth.data.manifest import MANIFEST, ClipRecord, Manifest, ShardFile, is_shard_name, shard_name
from wavesynth.data.splits import SPLITS
from wavesynth.errors import UserError

__all__ = ["MANIFEST", "ClipRecord", "Manifest", "ShardFile", "ShardWriter", "Shards", "is_shard_name", "shard_name"]

REPORT = "report.json"
SHARD_BYTES = 256 * 2**20
_COPY_BYTES = 2**20


class Shards:
    """An opened shards folder: clips by index, memory-mapped.

    It has `__len__` and `__getitem__`, so Grain and other loaders can wrap it and pickle it to their processes.

    >>> shards = Shards.open("shards/")
    >>> shards.sample_rate, shards.channels
    (16000, 1)
    >>> crop = to_float(shards.samples(0)[:, 1000:2000])
    >>> crop.shape
    (1, 1000)
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

        Returns:
            The shards. Samples are read when they are used.

        Raises:
            UserError: there are no finished shards, a file is missing or was changed, or the manifest is damaged.

        >>> len(Shards.open("shards/", verify=True)) > 0
        True
        """
        path = user_path(path)
        try:
            content = (path / MANIFEST).read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            name = display(path)
            unfinished = path.with_name(path.name + ".partial").is_dir() or (path / ".partial").is_dir()
            reason = "its preparation did not finish, run it again" if unfinished else "prepare them"
            raise UserError(f"no shards in {name}: {reason} with `wavesynth prepare FOLDER {name}`") from None
        except OSError as error:
            raise UserError(f"{display(path / MANIFEST)} cannot be read: {error.strerror}") from None
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
    def channels(self) -> int:
        """Number of channels of every clip."""
        return self.manifest.channels

    @property
    def labels(self) -> tuple[str, ...]:
        """Every label that occurs, sorted. A label's index in a model is its position here."""
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
        """SHA-256 of what training uses: rate, channels, labels, and each clip's content, label, pitch, split and silence.

        Folders with the same fingerprint give the same batches. File names and the layout on disk do not count.
        """
        content = [[c.sha256, c.length, c.label, c.pitch, c.split, c.sound] for c in self.clips]
        what = [self.sample_rate, self.channels, self.labels, content]
        return hashlib.sha256(json.dumps(what).encode()).hexdigest()

    def __len__(self) -> int:
        return len(self.clips)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """One whole clip: `samples` (float32 [C, T], a copy), `sample_rate`, `label`, `pitch`, `split` and `file`."""
        clip = self.clips[index]
        known = {"label": clip.label, "pitch": clip.pitch, "split": clip.split, "file": clip.file}
        return {"samples": to_float(self.samples(index)), "sample_rate": self.sample_rate} | known

    def samples(self, index: int) -> NDArray[np.int16]:
        """One clip, int16 [C, T]: a read-only view of the memory-mapped file. Samples are read when they are used.

        >>> Shards.open("shards/").samples(0).dtype
        dtype('int16')
        """
        clip = self.clips[index]
        pcm = self._maps.get(clip.shard)
        if pcm is None:
            shard = self.manifest.shards[clip.shard]
            frames = shard.bytes // (2 * self.channels)
            mapped = np.memmap(self.path / shard.file, dtype="<i2", mode="r", shape=(frames, self.channels))
            # A plain array: slicing the memmap subclass costs several times as much.
            pcm = self._maps[clip.shard] = np.asarray(mapped).T
        return pcm[:, clip.offset : clip.offset + clip.length]

    def split(self, name: str) -> tuple[int, ...]:
        """The indices of the clips in "train", "valid" or "test", ascending.

        Raises:
            UserError: there is no such split.

        >>> shards = Shards.open("shards/")
        >>> sum(len(shards.split(name)) for name in ("train", "valid", "test")) == len(shards)
        True
        """
        if name not in SPLITS:
            raise UserError(f"split={name!r}: choose one of {', '.join(SPLITS)}")
        return tuple(i for i, clip in enumerate(self.clips) if clip.split == name)

    def verify(self) -> None:
        """Reads every data file and compares its checksum.

        Raises:
            UserError: a file cannot be read or was changed; the message names the first.

        >>> Shards.open("shards/").verify()
        """
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
                status = (self.path / shard.file).stat()
            except OSError as error:
                raise _broken(self.path, shard.file, f"is missing or unreadable ({error.strerror})") from None
            if not stat.S_ISREG(status.st_mode):
                raise _broken(self.path, shard.file, "is not a file")
            if status.st_size != shard.bytes:
                raise _broken(self.path, shard.file, f"has {status.st_size:,} bytes where {shard.bytes:,} were written")

    def __reduce__(self) -> tuple[Any, ...]:
        # Without the maps, which would be pickled as copies of whole files.
        return Shards, (self.path, self.manifest)

    def __repr__(self) -> str:
        what = f"{len(self)} clips, {self.seconds:.1f} s at {self.sample_rate} Hz, {self.channels} ch"
        return f"Shards('{display(self.path)}': {what})"


def _broken(path: Path, file: str, reason: str) -> UserError:
    remedy = f"prepare the shards again with `wavesynth prepare FOLDER {display(path)} --force`"
    return UserError(f"{display(path / file)} {reason}: {remedy}")


class ShardWriter:
    """Appends clips to the data files of a folder, in order. The same clips always give the same bytes.

    Args:
        folder: where the files go; it exists.
        keep: bytes to keep of each file of an interrupted run; the rest is discarded.
        shard_bytes: size above which a new file is started.
        channels: of the clips.
    """

    def __init__(
        self, folder: Path, keep: Sequence[int] = (), shard_bytes: int = SHARD_BYTES, channels: int = 1
    ) -> None:
        self.folder = folder
        self.shard_bytes = shard_bytes
        self.channels = channels
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
        """Copies a clip.

        Args:
            pcm: its int16 bytes, channels interleaved, from the current position on.
            num_samples: how many there are of each channel.

        Returns:
            Index of its data file, and its offset in samples of each channel.
        """
        rest = num_bytes = 2 * self.channels * num_samples
        if not self._sizes or (self._sizes[-1] and self._sizes[-1] + num_bytes > self.shard_bytes):
            self._sizes.append(0)
            self._digests.append(hashlib.sha256())
        shard, offset = len(self._sizes) - 1, self._sizes[-1]
        with open(self.folder / shard_name(shard), "ab") as file:
            while block := pcm.read(min(_COPY_BYTES, rest)):
                file.write(block)
                self._digests[-1].update(block)
                rest -= len(block)
        self._sizes[-1] += num_bytes
        return shard, offset // (2 * self.channels)

    @property
    def files(self) -> tuple[ShardFile, ...]:
        """The files written so far."""
        parts = enumerate(zip(self._sizes, self._digests))
        return tuple(ShardFile(shard_name(i), size, digest.hexdigest()) for i, (size, digest) in parts)
