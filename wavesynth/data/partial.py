"""Shards in the making: a folder `SHARDS.partial` that a killed run leaves and the next run continues.

Beside the data files it holds `journal.jsonl`: a line with the settings, then a line per finished file, written after
the file's samples. A later run keeps the longest beginning of the journal that fits the settings, the sounds as they
are now and the bytes that are there, cuts off what lies beyond, and goes on. A finished folder gets its name in one
step.
"""

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import IO, Any

import numpy as np

from wavesynth.audio.names import display
from wavesynth.data.corpus import SourceFile
from wavesynth.data.report import Report
from wavesynth.data.shards import MANIFEST, REPORT, VERSION, Manifest, ShardFile, ShardWriter, shard_name
from wavesynth.errors import UserError

JOURNAL = "journal.jsonl"
_READ_BYTES = 2**20


@dataclass(frozen=True)
class Outcome:
    """What became of one file: a line of the journal.

    Attributes:
        file: the file, as in `SourceFile`; so are the next two.
        size: bytes.
        mtime_ns: time of its last change.
        refused: the reason, or None.
        duplicate_of: the earlier file of the same content, or None.
        warnings: what is amiss with a file that was taken.
        sha256: of its int16 samples; empty when refused.
        shard: index of the data file that its samples lie in.
        offset: where they begin, in samples.
        length: number of samples; 0 when there are none of this file.
    """

    file: str
    size: int
    mtime_ns: int
    refused: str | None = None
    duplicate_of: str | None = None
    warnings: tuple[str, ...] = ()
    sha256: str = ""
    shard: int = 0
    offset: int = 0
    length: int = 0


def partial_folder(shards: Path) -> Path:
    """Where shards are made."""
    return shards.with_name(shards.name + ".partial")


class Partial:
    """An unfinished shards folder, locked for this process. Use it in a `with` block.

    Args:
        shards: where the finished folder will be; this one is beside it.
        settings: what decides the content; work done with other settings is discarded.
        sources: the files that will be recorded, in order.

    Attributes:
        folder: the folder.
        outcomes: of the first files, in order; those of an interrupted run are there from the start.
        discarded: why work of an interrupted run cannot be used, or "".

    Raises:
        UserError: another process is at work in the folder, or it is somebody else's.
    """

    def __init__(self, shards: Path, settings: dict[str, Any], sources: Sequence[SourceFile]):
        self.shards = shards
        self.folder = partial_folder(shards)
        self.folder.mkdir(parents=True, exist_ok=True)
        if any(self.folder.iterdir()) and not (self.folder / JOURNAL).exists():
            raise UserError(f"{display(self.folder)} is needed and is no unfinished shards folder: move it away")
        self._journal = open(self.folder / JOURNAL, "a+b", buffering=0)  # noqa: SIM115, __exit__ closes it
        try:
            _lock(self._journal, self.folder)
            header = json.dumps({"version": VERSION, "settings": settings}).encode() + b"\n"
            self.outcomes, self.discarded, num_bytes = self._replay(header, sources)
            self._journal.truncate(num_bytes)
            if not num_bytes:
                self._append_line(header)
            self._writer = ShardWriter(self.folder, _shard_sizes(self.outcomes))
        except BaseException:
            self._journal.close()
            raise
        self._file_of = {outcome.sha256: outcome.file for outcome in self.outcomes if outcome.length}

    @property
    def files(self) -> tuple[ShardFile, ...]:
        """The data files as they are now."""
        return self._writer.files

    def record(self, outcome: Outcome, pcm: IO[bytes] | None = None, num_samples: int = 0) -> None:
        """Adds the next file: its samples (int16 bytes), unless the same are there, then its line in the journal."""
        if pcm is not None:
            if original := self._file_of.get(outcome.sha256):
                outcome = replace(outcome, duplicate_of=original, warnings=())
            else:
                shard, offset = self._writer.append(pcm, num_samples)
                outcome = replace(outcome, shard=shard, offset=offset, length=num_samples)
                self._file_of[outcome.sha256] = outcome.file
        self._append_line(json.dumps(asdict(outcome)).encode() + b"\n")
        self.outcomes.append(outcome)

    def digest(self, shard: int, offset: int, length: int) -> str:
        """SHA-256 of `length` samples of a data file, from sample `offset` on."""
        digest, rest = hashlib.sha256(), 2 * length
        with open(self.folder / shard_name(shard), "rb") as file:
            file.seek(2 * offset)
            while block := file.read(min(rest, _READ_BYTES)):
                digest.update(block)
                rest -= len(block)
        return digest.hexdigest()

    def samples(self, shard: int, offset: int, length: int) -> np.ndarray:
        """`length` samples of a data file, from sample `offset` on, int16."""
        return np.fromfile(self.folder / shard_name(shard), "<i2", length, offset=2 * offset)

    def finish(self, manifest: Manifest, report: Report) -> None:
        """Writes manifest and report, and gives the folder its name, in place of the shards that were there."""
        (self.folder / REPORT).write_text(report.to_json(), encoding="ascii")
        (self.folder / MANIFEST).write_bytes(manifest.to_bytes())
        for path in [*self.folder.iterdir(), self.folder]:
            _sync(path)
        self._journal.close()
        replaced = None
        if self.shards.exists():
            replaced = tempfile.mkdtemp(prefix=self.shards.name + ".replaced-", dir=self.shards.parent)
            os.rmdir(replaced)
            os.rename(self.shards, replaced)
        os.rename(self.folder, self.shards)
        _sync(self.shards.parent)
        # Up to here the journal would have served a next run.
        (self.shards / JOURNAL).unlink()
        if replaced:
            shutil.rmtree(replaced)

    def discard(self) -> None:
        """Removes the folder."""
        self._journal.close()
        shutil.rmtree(self.folder)

    def __enter__(self) -> "Partial":
        return self

    def __exit__(self, *_: object) -> None:
        self._journal.close()

    def _append_line(self, line: bytes) -> None:
        while line:
            line = line[self._journal.write(line) :]

    def _replay(self, header: bytes, sources: Sequence[SourceFile]) -> tuple[list[Outcome], str, int]:
        """What of the journal still holds: its outcomes, why the others do not, and its length in bytes."""
        self._journal.seek(0)
        lines = self._journal.read().splitlines(keepends=True)
        if not lines:
            return [], "", 0
        if lines[0] != header:
            return [], "it was made with other settings", 0
        outcomes, num_bytes = [], len(header)
        for line, source in zip(lines[1:], sources):
            try:
                outcome = Outcome(**json.loads(line))
            except (ValueError, TypeError):
                return outcomes, "", num_bytes  # the line that was being written
            outcome = replace(outcome, warnings=tuple(outcome.warnings))
            if (outcome.file, outcome.size, outcome.mtime_ns) != (source.file, source.size, source.mtime_ns):
                return outcomes, f"the sounds changed since ({display(source.file)})", num_bytes
            if outcome.length and not self._is_there(outcome):
                return outcomes, "its data files were changed", num_bytes
            outcomes.append(outcome)
            num_bytes += len(line)
        return outcomes, "", num_bytes

    def _is_there(self, outcome: Outcome) -> bool:
        try:
            return self.digest(outcome.shard, outcome.offset, outcome.length) == outcome.sha256
        except FileNotFoundError:
            return False


def _shard_sizes(outcomes: Sequence[Outcome]) -> list[int]:
    """Bytes in each data file, by what is known to be in it."""
    sizes: dict[int, int] = {}
    for outcome in outcomes:
        if outcome.length:
            sizes[outcome.shard] = 2 * (outcome.offset + outcome.length)
    return [sizes[shard] for shard in sorted(sizes)]


def _lock(journal: IO[bytes] | Any, folder: Path) -> None:
    try:
        import fcntl
    except ImportError:  # Windows
        return
    try:
        fcntl.flock(journal, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise UserError(f"{display(folder)}: another `prepare` is at work in it; wait for it, or end it") from None


def _sync(path: Path) -> None:
    """Puts a file or folder on the disk for good."""
    if path.is_dir() and os.name == "nt":  # where a folder cannot be opened
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
