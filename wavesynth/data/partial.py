"""Unfinished shards: a folder that an interrupted run leaves behind, and the next run continues.

The folder is `SHARDS.partial`, beside the shards; or `SHARDS/.partial` if the shards cannot be replaced as a whole, on a
mount point or in a read-only folder. It holds the data files and a journal with a line for each finished file, written
after the file's samples. A later run keeps the lines that match the settings, the current sounds and the data files,
discards the rest, and continues.

Finished shards are renamed in one step. If that is impossible, the files are moved one by one, the manifest last: shards with a
manifest are complete. The journal carries the lock, and is removed before the lock is released. So another process cannot begin
in a folder that is about to be moved or removed.
"""

import errno
import hashlib
import os
import shutil
import tempfile
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from wavesynth.audio.names import display
from wavesynth.data.corpus import Corpus, SourceFile
from wavesynth.data.journal import JOURNAL, Outcome, header
from wavesynth.data.manifest import MANIFEST, Manifest, ShardFile, is_shard_name, shard_name
from wavesynth.data.report import Report
from wavesynth.data.shards import REPORT, ShardWriter
from wavesynth.data.sources import SOURCES, digest_of, to_json
from wavesynth.errors import UserError
from wavesynth.storage import flock, sync

INSIDE = ".partial"
_READ_BYTES = 2**20
_IMMOVABLE = (errno.EBUSY, errno.EXDEV, errno.EPERM, errno.EACCES)


def partial_folder(shards: Path) -> Path:
    """The folder for unfinished shards: beside `shards`, or in it if it cannot be replaced as a whole."""
    fixed = shards.is_dir() and (os.path.ismount(shards) or not os.access(shards.absolute().parent, os.W_OK))
    return shards / INSIDE if fixed else shards.with_name(shards.name + ".partial")


class Partial:
    """An unfinished shards folder, locked for this process. Use it in a `with` block.

    Args:
        shards: the finished folder.
        settings: the settings that affect the decoded samples; work done with other settings is discarded.
        corpus: the folder of sounds, whose files are recorded in order.
        channels: number of channels of the clips.

    Attributes:
        folder: the unfinished folder.
        outcomes: the results of the first files, in order; initially those of an interrupted run.
        discarded: why work of an interrupted run cannot be used, or "".
        locked: whether other processes are locked out; some filesystems do not support locks.

    Raises:
        UserError: another process is using the folder or has just finished it, or it is not a folder of `prepare`.
    """

    def __init__(self, shards: Path, settings: dict[str, Any], corpus: Corpus, channels: int = 1):
        self.shards = shards
        self.folder = partial_folder(shards)
        self._sample_bytes = 2 * channels
        self.folder.mkdir(parents=True, exist_ok=True)
        if any(self.folder.iterdir()) and not (self.folder / JOURNAL).exists():
            raise UserError(f"{display(self.folder)} is in the way and is not an unfinished shards folder: move it")
        self._journal = open(self.folder / JOURNAL, "a+b", buffering=0)  # noqa: SIM115, __exit__ closes it
        try:
            locked = flock(self._journal.fileno())
            if locked is False:
                raise UserError(f"{display(self.folder)}: another `prepare` is using it; wait for it, or stop it")
            self.locked = bool(locked)
            if self.locked and not self._is_in_place():
                raise UserError(f"{display(self.folder)}: another `prepare` has just finished it; run this one again")
            first = header(settings, channels)
            self.outcomes, self.discarded, num_bytes = self._replay(first, corpus)
            self._journal.truncate(num_bytes)
            if not num_bytes:
                self._append_line(first)
            self._writer = ShardWriter(self.folder, self._shard_sizes(), channels=channels)
        except BaseException:
            self._journal.close()
            raise
        self._file_of = {outcome.sha256: outcome.file for outcome in self.outcomes if outcome.length}

    @property
    def files(self) -> tuple[ShardFile, ...]:
        """The current data files."""
        return self._writer.files

    def record(self, outcome: Outcome, pcm: IO[bytes] | None = None, num_samples: int = 0) -> None:
        """Adds the next file: its samples (int16 bytes), unless they are stored already, then its line in the journal."""
        if pcm is not None:
            if original := self._file_of.get(outcome.sha256):
                outcome = replace(outcome, duplicate_of=original, warnings=(), sound=())
            else:
                shard, offset = self._writer.append(pcm, num_samples)
                outcome = replace(outcome, shard=shard, offset=offset, length=num_samples)
                self._file_of[outcome.sha256] = outcome.file
        self._append_line(outcome.to_line())
        self.outcomes.append(outcome)

    def digest(self, shard: int, offset: int, length: int) -> str:
        """SHA-256 of `length` samples of a data file, from sample `offset` on."""
        digest, rest = hashlib.sha256(), self._sample_bytes * length
        with open(self.folder / shard_name(shard), "rb") as file:
            file.seek(self._sample_bytes * offset)
            while block := file.read(min(rest, _READ_BYTES)):
                digest.update(block)
                rest -= len(block)
        return digest.hexdigest()

    def samples(self, shard: int, offset: int, length: int) -> NDArray[np.int16]:
        """`length` samples of a data file, from sample `offset` on, int16 [C, T]."""
        channels = self._sample_bytes // 2
        path = self.folder / shard_name(shard)
        pcm = np.fromfile(path, "<i2", length * channels, offset=self._sample_bytes * offset)
        return pcm.reshape(-1, channels).T

    def finish(self, manifest: Manifest, report: Report) -> None:
        """Writes the manifest and the report, and moves the folder to its final place, replacing older shards."""
        seen = {outcome.file: (outcome.size, outcome.mtime_ns, outcome.digest) for outcome in self.outcomes}
        (self.folder / SOURCES).write_text(to_json(seen), encoding="ascii")
        (self.folder / REPORT).write_text(report.to_json(), encoding="ascii")
        (self.folder / MANIFEST).write_bytes(manifest.to_bytes())
        for path in [*self.folder.iterdir(), self.folder]:
            sync(path)
        self._close_if_unlocked()
        if self.folder.parent == self.shards or not self._replace():
            self._move()
        self._journal.close()

    def discard(self) -> None:
        """Removes the folder."""
        for path in self.folder.iterdir():
            if path.name != JOURNAL and not path.is_dir():
                path.unlink()
        self._close_if_unlocked()
        self._remove_journal()

    def __enter__(self) -> "Partial":
        return self

    def __exit__(self, *_: object) -> None:
        self._journal.close()

    def _replace(self) -> bool:
        """Renames the old shards, then the new folder. Returns False if the old shards cannot be renamed."""
        replaced = None
        if self.shards.exists():
            replaced = tempfile.mkdtemp(prefix=self.shards.name + ".replaced-", dir=self.shards.parent)
            os.rmdir(replaced)
            try:
                os.rename(self.shards, replaced)
            except OSError as error:
                if error.errno in _IMMOVABLE:
                    return False
                raise
        os.rename(self.folder, self.shards)
        sync(self.shards.absolute().parent)
        (self.shards / JOURNAL).unlink()  # up to here, another run could have continued from it
        if replaced:
            shutil.rmtree(replaced)
        return True

    def _move(self) -> None:
        """Replaces the old files one by one. Meanwhile there is no manifest, so the shards do not look finished."""
        (self.shards / MANIFEST).unlink(missing_ok=True)
        for name in os.listdir(self.shards):
            if is_shard_name(name):
                (self.shards / name).unlink()
        names = [name for name in os.listdir(self.folder) if name not in (JOURNAL, MANIFEST)]
        for name in [*names, MANIFEST]:
            sync(self.shards)
            shutil.move(self.folder / name, self.shards / name)
        sync(self.shards)
        self._remove_journal()

    def _remove_journal(self) -> None:
        """Removes the journal and the folder that holds nothing else, unless another process begins in the folder."""
        (self.folder / JOURNAL).unlink()
        self._journal.close()
        with suppress(OSError):  # of another process
            self.folder.rmdir()

    def _close_if_unlocked(self) -> None:
        """Closes the journal where there are no locks to keep: Windows cannot move or remove an open file."""
        if not self.locked:
            self._journal.close()

    def _is_in_place(self) -> bool:
        """Whether the locked journal is still that of the folder. Its last holder may have moved or removed it."""
        try:
            return os.path.samestat(os.fstat(self._journal.fileno()), (self.folder / JOURNAL).stat())
        except FileNotFoundError:
            return False

    def _append_line(self, line: bytes) -> None:
        while line:
            line = line[self._journal.write(line) :]

    def _replay(self, first: bytes, corpus: Corpus) -> tuple[list[Outcome], str, int]:
        """The valid part of the journal: its outcomes, why the others are invalid, and its length in bytes."""
        self._journal.seek(0)
        lines = self._journal.read().splitlines(keepends=True)
        if not lines:
            return [], "", 0
        if lines[0] != first:
            return [], "it was prepared with other settings", 0
        outcomes, num_bytes, end = [], len(first), (-1, 0)
        for line, source in zip(lines[1:], corpus.files):
            try:
                outcome = Outcome.from_line(line)
            except ValueError:
                return outcomes, "", num_bytes  # the line that was being written
            if not _is_of(outcome, source, corpus.root):
                return outcomes, f"the sounds changed since ({display(source.file)})", num_bytes
            if outcome.length:
                if (outcome.shard, outcome.offset) not in (end, (end[0] + 1, 0)) or not self._is_there(outcome):
                    return outcomes, "its data files were changed", num_bytes
                end = (outcome.shard, outcome.offset + outcome.length)
            outcomes.append(replace(outcome, mtime_ns=source.mtime_ns))
            num_bytes += len(line)
        return outcomes, "", num_bytes

    def _is_there(self, outcome: Outcome) -> bool:
        try:
            return self.digest(outcome.shard, outcome.offset, outcome.length) == outcome.sha256
        except FileNotFoundError:
            return False

    def _shard_sizes(self) -> list[int]:
        """The size of each data file in bytes, according to the outcomes."""
        sizes: dict[int, int] = {}
        for outcome in self.outcomes:
            if outcome.length:
                sizes[outcome.shard] = self._sample_bytes * (outcome.offset + outcome.length)
        return [sizes[shard] for shard in sorted(sizes)]


def _is_of(outcome: Outcome, source: SourceFile, root: Path) -> bool:
    """Whether an outcome matches the current file."""
    if (outcome.file, outcome.size) != (source.file, source.size):
        return False
    return outcome.mtime_ns == source.mtime_ns or digest_of(root / source.file) == outcome.digest
