"""Reads untrusted JSON files in bounded memory. Any fault is reported in one line."""

import json
import os
import stat
from pathlib import Path
from typing import Any, NoReturn

from wavesynth.audio.names import display
from wavesynth.errors import UserError

MOST_BYTES = 2**24  # a config.json with the names of 65,536 labels has some 2 MB


def read(path: str | os.PathLike[str], remedy: str, most_bytes: int = MOST_BYTES) -> dict[str, Any]:
    """The JSON object that a file holds.

    Args:
        path: the file.
        remedy: what the user can do if it cannot be read, for the error message.
        most_bytes: larger files are rejected unread.

    Returns:
        The object's names and values. Names are unique and numbers are finite.

    Raises:
        UserError: the file cannot be opened, is not a regular file, is too large, is not UTF-8, is not strict JSON (RFC 8259
            has no NaN), is nested too deeply, repeats a name, or does not hold an object.
    """
    path = Path(path)
    try:
        return parse(_content(path, most_bytes))
    except OSError as error:
        reason = error.strerror or str(error)
    except ValueError as error:
        reason = " ".join(str(error).split())
    raise UserError(f"{display(path)} cannot be read ({reason}): {remedy}")


def _content(path: Path, most_bytes: int) -> bytes:
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):  # a pipe would never end
        raise ValueError("it is not a file")
    if status.st_size > most_bytes:
        raise ValueError(f"it has {status.st_size:,} bytes, where at most {most_bytes:,} are expected")
    with path.open("rb") as file:
        return file.read(most_bytes)


def parse(content: bytes) -> dict[str, Any]:
    """Parses UTF-8 JSON that holds an object. Raises ValueError if it is invalid."""
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"it is not UTF-8, at byte {error.start:,}") from None
    try:
        value = json.loads(text, object_pairs_hook=_once_each, parse_constant=_no_constant, parse_float=_finite)
    except RecursionError:
        raise ValueError("it is not JSON: it nests too deeply") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"it is not JSON: {error}") from None
    if not isinstance(value, dict):
        raise ValueError("it does not hold a JSON object")
    return value


def _once_each(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise ValueError(f"it names {name[:80]!r} twice")
        found[name] = value
    return found


def _no_constant(token: str) -> NoReturn:
    raise ValueError(f"it is not JSON: {token} is not a number")


def _finite(digits: str) -> float:
    number = float(digits)
    if number in (float("inf"), float("-inf")):
        raise ValueError(f"{digits[:40]} is too large a number")
    return number
