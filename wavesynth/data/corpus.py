"""Scans a folder of sounds: its files, and the labels, pitches and splits that names and metadata.csv give.

Files
- All folders below the root are scanned, sorted by the bytes of their names. Symbolic links to folders are followed last,
  and no folder is entered twice, so cycles end. A link to a file counts as a file.
- Ignored, and only counted: hidden names (`.DS_Store`, `._x.wav`), `__MACOSX` folders, and files without a sound file's
  extension in any case (`Thumbs.db`, `loop.mid`, `kick.wav.asd`, `x.wav.crdownload`, no extension).
- Refused, each with a reason: dangling and circular links, FIFOs, sockets and devices, unreadable files and folders. The
  content of a file is checked when it is decoded, by the rules of `wavesynth.audio.conversion`.

Metadata
- split: from folders named train, valid and test, or else from a hash of the content (`wavesynth.data.splits`).
- label: the first folder of the path that is not a split; none for files in the root.
- pitch: from the file name, if most names of the label follow a pattern (`wavesynth.data.pitches`).
- `metadata.csv` in the root (`wavesynth.data.metadata`) overrides all three.
"""

import os
import stat
import unicodedata
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from wavesynth.audio.names import display, has_sound_extension, user_path
from wavesynth.data.metadata import METADATA, read_metadata
from wavesynth.data.pitches import check_middle_c, pitches_of
from wavesynth.data.splits import SPLITS, split_folders
from wavesynth.errors import UserError

_SHOWN = 3


@dataclass(frozen=True)
class SourceFile:
    """One sound file of a folder.

    Attributes:
        file: its path relative to the root, with `/`, and surrogate escapes for bytes that are not UTF-8.
        size: bytes.
        mtime_ns: time of the last change, nanoseconds since 1970.
        label: its label, or None.
        pitch: MIDI note number, or None.
        pitch_source: where the pitch comes from, "metadata" or "name"; "" without one.
        splits: the splits that it may belong to.
    """

    file: str
    size: int
    mtime_ns: int
    label: str | None
    pitch: float | None
    pitch_source: str
    splits: tuple[str, ...]


@dataclass(frozen=True)
class Corpus:
    """The contents of a folder, before decoding.

    Attributes:
        root: the folder.
        files: the sound files, sorted by the bytes of their names.
        refused: (file, reason) for each entry that cannot be a sound file.
        warned: (file, text) for each problem.
        ignored: the number of ignored entries by kind.
        remarks: remarks on the whole folder, for the report.
    """

    root: Path
    files: tuple[SourceFile, ...]
    refused: tuple[tuple[str, str], ...]
    warned: tuple[tuple[str, str], ...]
    ignored: dict[str, int]
    remarks: tuple[str, ...] = ()


def scan(folder: str | os.PathLike[str], *, labels: bool = True, pitches: bool = True, middle_c: str = "C4") -> Corpus:
    """Scans a folder of sounds by the rules above. No sound file is opened.

    Args:
        folder: the root.
        labels: False ignores all labels.
        pitches: False ignores all pitches.
        middle_c: the name of middle C (MIDI note 60) in file names: "C3", "C4" or "C5".

    Raises:
        UserError: the folder is missing, not a folder or unreadable, or its metadata.csv is invalid.

    >>> corpus = scan("sounds/")
    >>> corpus.files[0].label is not None
    True
    """
    check_middle_c(middle_c)
    root = user_path(folder)
    try:
        os.listdir(root)
    except FileNotFoundError:
        raise UserError(f"{display(root)}: no such folder; give the folder that holds the sounds") from None
    except NotADirectoryError:
        raise UserError(f"{display(root)} is a file; give the folder that holds the sounds") from None
    except OSError as error:
        raise UserError(
            f"{display(root)} cannot be read: {error.strerror}; change its permissions or copy the sounds"
        ) from None
    walk = _Walk()
    found = sorted(walk.files(str(root)), key=lambda item: os.fsencode(item[0]))
    names = [file for file, _ in found]
    rows, warned = read_metadata(root / METADATA, names, [file for file, _ in walk.refused])
    level, splits_of = split_folders(names) or (0, {})
    folder_splits = [splits_of.get(_part(file, level)) for file in names]
    own_labels = [label_of(file, level if split else None) for file, split in zip(names, folder_splits)]
    named, doubtful = pitches_of(names, own_labels, middle_c)
    has_valid = "valid" in splits_of.values()
    files = []
    for (file, status), label, pitch, split in zip(found, own_labels, named, folder_splits):
        row = rows.get(file)
        source = "" if pitch is None else "name"
        choices = (split,) if split else SPLITS
        if split == "train" and not has_valid:
            choices = ("train", "valid")
        if row:
            label = label if row.label is None else row.label
            pitch, source = (pitch, source) if row.pitch is None else (row.pitch, "metadata")
            choices = choices if row.split is None else (row.split,)
        if not labels:
            label = None
        if not pitches:
            pitch, source = None, ""
        files.append(SourceFile(file, status.st_size, status.st_mtime_ns, label, pitch, source, choices))
    unused = {source.file for source in files if source.pitch is None}
    remarks = _remarks(splits_of, has_valid, [name for name in doubtful if pitches and name[0] in unused])
    return Corpus(root, tuple(files), tuple(sorted(walk.refused)), tuple(warned), dict(walk.ignored), remarks)


def _remarks(splits_of: dict[str, str], has_valid: bool, doubtful: list[tuple[str, float]]) -> tuple[str, ...]:
    remarks = []
    if splits_of:
        remarks.append(f"the folders {', '.join(map(display, splits_of))} are the splits, not labels")
        if not has_valid:
            remarks.append(
                "no folder is for validation: a share of the training sounds is held out, chosen by their hash"
            )
    if doubtful:
        examples = ", ".join(f"{display(file)} {pitch:g}" for file, pitch in doubtful[:_SHOWN])
        remarks.append(
            f"{len(doubtful):,} names look like pitches ({examples}) but are not used, because most other names do not, or "
            "because they look like takes, tempos or tracks; metadata.csv can give pitches"
        )
    return tuple(remarks)


def label_of(file: str, split_level: int | None = None) -> str | None:
    """The first folder of a relative path, in Unicode's composed form; None if there is none.

    Args:
        file: the path, with `/`.
        split_level: the level of folders that are splits, which is skipped.

    >>> label_of("kick/909/hard.wav"), label_of("hard.wav"), label_of("train/kick/hard.wav", 0)
    ('kick', None, 'kick')
    """
    folders = file.split("/")[:-1]
    if split_level is not None and len(folders) > split_level:
        del folders[split_level]
    # NFC: macOS stores names decomposed, and keyboards type them composed.
    return unicodedata.normalize("NFC", display(folders[0])) if folders else None


def _part(file: str, level: int) -> str:
    parts = file.split("/")
    return parts[level] if len(parts) > level + 1 else ""


@dataclass
class _Walk:
    """A walk through a tree of folders, which records refused, ignored and visited entries."""

    refused: list[tuple[str, str]] = field(default_factory=list)
    ignored: Counter[str] = field(default_factory=Counter)
    been: set[tuple[int, int]] = field(default_factory=set)

    def files(self, root: str) -> Iterator[tuple[str, os.stat_result]]:
        """Yields each sound file below `root` (relative path) with its status."""
        folders, links = [("", root)], []
        while folders or links:
            # Links come last, so that a file gets the label of its real folder.
            prefix, path = folders.pop() if folders else links.pop(0)
            try:
                status = os.stat(path)
                if (status.st_dev, status.st_ino) in self.been:
                    self.ignored["links to folders already seen"] += 1
                    continue
                self.been.add((status.st_dev, status.st_ino))
                with os.scandir(path) as listing:
                    entries = sorted(listing, key=lambda entry: os.fsencode(entry.name))
            except OSError as error:
                self.refused.append((prefix, f"the folder cannot be read: {_reason(error)}"))
                continue
            for entry in entries:
                file = prefix + entry.name
                if entry.name.startswith("."):
                    self.ignored["hidden"] += 1
                elif entry.name == "__MACOSX":
                    self.ignored["__MACOSX folders"] += 1
                elif _is_dir(entry):
                    (links if entry.is_symlink() else folders).append((file + "/", entry.path))
                elif has_sound_extension(entry.name):
                    yield from self._sound_file(file, entry.path)
                elif file != METADATA:
                    self.ignored["not sound files"] += 1

    def _sound_file(self, file: str, path: str) -> Iterator[tuple[str, os.stat_result]]:
        try:
            status = os.stat(path)
        except OSError as error:
            dangling = isinstance(error, FileNotFoundError) and os.path.islink(path)
            self.refused.append((file, "it is a dangling link" if dangling else _reason(error)))
            return
        if not stat.S_ISREG(status.st_mode):
            kind = "a FIFO" if stat.S_ISFIFO(status.st_mode) else "a socket or device"
            self.refused.append((file, f"it is {kind}, not a file"))
        elif not os.access(path, os.R_OK):
            self.refused.append((file, "permission denied"))
        else:
            yield file, status


def _is_dir(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a circular link
        return False


def _reason(error: OSError) -> str:
    return str(error.strerror).lower()
