"""File names as text that can be shown."""

import os
from collections.abc import Iterable


def display(name: str | bytes | os.PathLike[str]) -> str:
    r"""A file name on one line, in valid Unicode: what cannot be printed is escaped, everything else stays as it is.

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
