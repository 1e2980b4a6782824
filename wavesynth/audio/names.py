"""Paths given by users, and names that are safe to print."""

import os
from collections.abc import Iterable
from pathlib import Path

from wavesynth.errors import UserError

_SOUNDFILE = "wav wave bwf rf64 w64 flac ogg oga opus mp3 mp2 aif aiff aifc au snd caf voc paf iff svx sf avr nist sph"
_PYAV = "m4a m4b mp4 m4v mov aac wma wmv webm mka mkv ape wv amr 3gp"
EXTENSIONS = frozenset(f"{_SOUNDFILE} {_PYAV}".split())
"""File name extensions of sound files, lower case. The content decides whether a file is a sound."""


def user_path(path: str | os.PathLike[str]) -> Path:
    """A path given by a user, with `~` and `~name` expanded to home folders.

    Every path given by a user passes through here once. Write `./~name` for a name that begins with `~`.

    Args:
        path: text or a path.

    Returns:
        The expanded path.

    Raises:
        UserError: it is not a path, is empty, contains a NUL character, or names an unknown home folder.

    >>> user_path("~/sounds") == Path.home() / "sounds"
    True
    >>> user_path("sounds/kick")
    PosixPath('sounds/kick')
    """
    try:
        text = os.fsdecode(path)
    except TypeError:
        raise UserError(f"path is {path!r}: give a path as text") from None
    if not text or "\0" in text:
        raise UserError(f"path is {display(text)!r}: give the name of a file or folder")
    expanded = os.path.expanduser(text)
    if expanded.startswith("~") and not os.path.lexists(text):
        raise UserError(f"{display(text)}: this home folder is not known; give the whole path, or ./{display(text)}")
    found = Path(expanded)
    # Path drops the "./" of "./~name", so a second call would expand the rest.
    return found.absolute() if str(found).startswith("~") else found


def has_sound_extension(name: str) -> bool:
    """Whether a file name has the extension of a sound file.

    >>> has_sound_extension("kick.WAV"), has_sound_extension("kick.mid"), has_sound_extension("wav")
    (True, False, False)
    """
    return "." in name and name.rpartition(".")[2].lower() in EXTENSIONS


def display(name: str | bytes | os.PathLike[str]) -> str:
    r"""Escapes text so that it is safe to print on one line.

    For file names, labels and other untrusted text. Control characters, bytes that are not UTF-8, and characters that change
    the direction of text are escaped.

    >>> print(display("new\nline.wav"), display(b"latin1_\xe9.wav"))
    new\nline.wav latin1_\xe9.wav
    """
    return "".join(_characters(os.fsdecode(name)))


def _characters(text: str) -> Iterable[str]:
    for character in text:
        if 0xDC80 <= ord(character) <= 0xDCFF:  # how os.fsdecode keeps a byte that is not UTF-8
            yield f"\\x{ord(character) - 0xDC00:02x}"
        elif character.isprintable():
            yield character
        else:
            yield character.encode("unicode_escape").decode("ascii")
