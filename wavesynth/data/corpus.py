"""A folder as users have it → the sound files in it, what is known of each, and what is amiss.

What is walked
- Every folder below the root, in the order of the names' bytes. A symbolic link to a folder is followed after all real
  folders, and no folder is entered twice: loops end, and counted as ignored. A link to a file is a file.
- Ignored and only counted: hidden names (`.DS_Store`, `._x.wav`), `__MACOSX` folders, and files without the extension
  of a sound file in upper or lower case (`Thumbs.db`, `loop.mid`, `kick.wav.asd`, `x.wav.crdownload`, no extension).
- Refused, each with its reason: dangling and circular links, FIFOs, sockets and devices, files and folders that may not
  be read. What a file's content makes of it is decided when it is decoded: `wavesynth.audio.files` has those rules.

What is known of a file
- label: the first folder below the root that it lies in; none when it lies in the root.
- pitch, in MIDI numbers (60 is middle C, C4), from its name without extension: `NAME_060_090` is pitch and velocity,
  three digits each; `NAME_068-060-127` is NSynth's source, pitch and velocity; otherwise a note name that stands alone
  between `_`, `-`, blanks or the name's ends: `Cello_C#4`, `A3`, `horn-Bb2`. Two different notes give no pitch.
- split: none; the content's hash decides it (`wavesynth.data.splits`).
- `metadata.csv` in the root (`wavesynth.data.metadata`) has the last word on all three.
"""

import hashlib
import os
import re
import stat
import unicodedata
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from wavesynth.audio.names import display
from wavesynth.data.metadata import METADATA, read_metadata
from wavesynth.errors import UserError

_BY_LIBSNDFILE = (
    "wav wave bwf rf64 w64 flac ogg oga opus mp3 mp2 aif aiff aifc au snd caf voc paf iff svx sf avr nist sph"
)
_BY_PYAV = "m4a m4b mp4 m4v mov aac wma wmv webm mka mkv ape wv amr 3gp"
EXTENSIONS = frozenset(f"{_BY_LIBSNDFILE} {_BY_PYAV}".split())
"""Endings that make a file one that should hold sound. What it does hold is decided by its content."""

_NUMBERS = re.compile(r"(?:_|^)(?:\d{3}-(\d{3})-(\d{3})|(\d{3})_(\d{3}))$")
_NOTE = re.compile(r"([A-G])(#|♯|b|♭)?(\d)")
_SEMITONES = {"C": 0, "D": 2, "E": 4, "F": 5, "G": 7, "A": 9, "B": 11}
_ACCIDENTALS = {"": 0, "#": 1, "♯": 1, "b": -1, "♭": -1}


@dataclass(frozen=True)
class SourceFile:
    """One sound file of a corpus.

    Attributes:
        file: its path relative to the root, with `/`; bytes that are not UTF-8 as surrogate escapes.
        size: bytes.
        mtime_ns: time of the last change, nanoseconds since 1970.
        label: its label, or None.
        pitch: MIDI note number, or None.
        split: the split that metadata.csv wants for it, or None.
    """

    file: str
    size: int
    mtime_ns: int
    label: str | None
    pitch: float | None
    split: str | None


@dataclass(frozen=True)
class Corpus:
    """What a folder holds, before anything is decoded.

    Attributes:
        root: the folder.
        files: the sound files, in the order of their names' bytes.
        refused: (file, reason) of what cannot be a sound file.
        warned: (file, what) that was noticed on the way.
        ignored: what was left aside by default, counted by kind.
        fingerprint: changes when a file is added, removed or changed, or metadata.csv is.
    """

    root: Path
    files: tuple[SourceFile, ...]
    refused: tuple[tuple[str, str], ...]
    warned: tuple[tuple[str, str], ...]
    ignored: dict[str, int]
    fingerprint: str


def scan(folder: str | os.PathLike[str]) -> Corpus:
    """Looks through a folder of sounds by the rules above. No sound file is opened.

    Raises:
        UserError: the folder is missing, is not a folder, or may not be read; or its metadata.csv is wrong.
    """
    root = Path(folder)
    try:
        os.listdir(root)
    except FileNotFoundError:
        raise UserError(f"{display(root)}: no such folder; give the folder that holds the sounds") from None
    except NotADirectoryError:
        raise UserError(f"{display(root)} is a file; give the folder that holds the sounds") from None
    except OSError as error:
        raise UserError(f"{display(root)} cannot be read: {error.strerror}; allow it or copy the sounds") from None
    walk = _Walk()
    found = sorted(walk.files(str(root)), key=lambda item: os.fsencode(item[0]))
    rows, warned = read_metadata(root / METADATA, [file for file, _ in found])
    files = []
    for file, status in found:
        row = rows.get(file)
        label, pitch = label_of(file), pitch_of(file)
        if row:
            label = label if row.label is None else row.label
            pitch = pitch if row.pitch is None else row.pitch
        files.append(SourceFile(file, status.st_size, status.st_mtime_ns, label, pitch, row.split if row else None))
    refused = tuple(sorted(walk.refused))
    return Corpus(root, tuple(files), refused, tuple(warned), dict(walk.ignored), _fingerprint(files, refused))


def _fingerprint(files: list[SourceFile], refused: tuple[tuple[str, str], ...]) -> str:
    return hashlib.sha256(ascii([files, refused]).encode()).hexdigest()


def label_of(file: str) -> str | None:
    """The first folder of a relative path, as text that can be typed; None without one.

    >>> label_of("kick/909/hard.wav"), label_of("hard.wav")
    ('kick', None)
    """
    folder, slash, _ = file.partition("/")
    # NFC: a label typed by hand is to match a folder whose name came from macOS.
    return unicodedata.normalize("NFC", display(folder)) if slash else None


def pitch_of(file: str) -> float | None:
    """The MIDI note number that a file's name tells by one of the patterns above, or None.

    >>> pitch_of("cello_060_090.flac"), pitch_of("Cello_C#4.wav"), pitch_of("snare 2.wav")
    (60.0, 61.0, None)
    """
    stem = file.rpartition("/")[2].rpartition(".")[0]
    if numbers := _NUMBERS.search(stem):
        pitch, velocity = (int(number) for number in numbers.groups() if number)
        return float(pitch) if pitch <= 127 and velocity <= 127 else None
    notes = {note.groups(default="") for token in re.split(r"[_\-\s]+", stem) if (note := _NOTE.fullmatch(token))}
    pitches = {12 * (int(octave) + 1) + _SEMITONES[name] + _ACCIDENTALS[sign] for name, sign, octave in notes}
    pitch = pitches.pop() if len(pitches) == 1 else -1
    return float(pitch) if 0 <= pitch <= 127 else None


@dataclass
class _Walk:
    """A walk through a tree that remembers what it refused, what it ignored and where it has been."""

    refused: list[tuple[str, str]] = field(default_factory=list)
    ignored: Counter[str] = field(default_factory=Counter)
    been: set[tuple[int, int]] = field(default_factory=set)

    def files(self, root: str) -> Iterator[tuple[str, os.stat_result]]:
        """Each sound file below `root` (relative path) and its status."""
        folders, links = [("", root)], []
        while folders or links:
            # Links last: what lies in a real folder is found, and labelled, by its real name.
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
                elif "." in entry.name and entry.name.rpartition(".")[2].lower() in EXTENSIONS:
                    yield from self._sound_file(file, entry.path)
                elif file != METADATA:
                    self.ignored["not sound files"] += 1

    def _sound_file(self, file: str, path: str) -> Iterator[tuple[str, os.stat_result]]:
        try:
            status = os.stat(path)
        except OSError as error:
            dangling = isinstance(error, FileNotFoundError) and os.path.islink(path)
            self.refused.append((file, "it is a link to nothing" if dangling else _reason(error)))
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
    except OSError:  # a link that leads to itself
        return False


def _reason(error: OSError) -> str:
    return str(error.strerror).lower()
