"""metadata.csv: labels, pitches and splits given by the user, which override file names.

The table is in the root of the folder. It has a header line, and fields separated by commas, semicolons or tabs. The
columns are `file` (the path relative to the root, or as shown in a report), and any of `label`, `pitch` (MIDI number from 0
to 127, fractions allowed) and `split` (train, valid, test, or another name that `wavesynth.data.splits` accepts). Empty
fields, and files without a line, keep the values from their names.

Names are compared in Unicode's composed form (NFC), with `/` or `\\`. The encoding is UTF-8 or UTF-16, or otherwise the common
encoding in which most names match files.
"""

import codecs
import csv
import io
import os
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from wavesynth.audio.names import display
from wavesynth.data.splits import NAMES, split_named
from wavesynth.errors import UserError

METADATA = "metadata.csv"
_COLUMNS = ("file", "label", "pitch", "split")
_ENCODINGS = ("cp1252", "mac_roman", "cp932", "gb18030", "cp949", "cp1251", "latin-1")
"""Encodings to try if a file is not Unicode: Western Windows, old Mac, Japanese, Chinese, Korean, Cyrillic, anything."""
_SHOWN = 3


@dataclass(frozen=True)
class Row:
    """The values of one line; None for empty fields."""

    label: str | None
    pitch: float | None
    split: str | None


def read_metadata(
    path: Path, files: Sequence[str], refused: Iterable[str] = ()
) -> tuple[dict[str, Row], list[tuple[str, str]]]:
    """Reads metadata.csv, if there is one.

    Args:
        path: of metadata.csv.
        files: the sound files of the folder, relative to it.
        refused: other files of the folder, whose lines are skipped.

    Returns:
        The rows by file, and warnings as (metadata.csv, text).

    Raises:
        UserError: it cannot be read, a line is invalid, or a line names a file that is not in the folder.

    >>> read_metadata(Path("sounds/metadata.csv"), [])
    ({}, [])
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return {}, []
    except OSError as error:
        raise UserError(f"{display(path)} cannot be read: {error.strerror}") from None
    known = _by_name([*files, *refused])
    table = _decoded(content, path, known)
    if "file" not in table.columns:
        raise UserError(f"{display(path)}, line 1: no column `file`; begin with the line file,label,pitch,split")
    odd = [name for name in table.columns if name not in _COLUMNS]
    warned = [(METADATA, f"the column {display(name)} is not used")] if (name := ", ".join(odd)) else []
    rows, taken = _rows(path, table, known), set(files)
    return {file: row for file, row in rows.items() if file in taken}, warned


@dataclass(frozen=True)
class _Table:
    """Columns, and the lines with their numbers."""

    columns: list[str]
    lines: list[tuple[int, dict[str, str], bool]]  # number, fields by column, whether there are too many fields


def _decoded(content: bytes, path: Path, known: dict[str, str]) -> _Table:
    """Decodes the table, with the encoding that matches most names."""
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return _parsed(content.decode("utf-16", errors="replace"), path)
    if b"\0" in content[:64]:
        order = "utf-16-le" if content[1:2] == b"\0" else "utf-16-be"
        return _parsed(content.decode(order, errors="replace"), path)
    try:
        return _parsed(content.decode("utf-8-sig"), path)
    except UnicodeDecodeError:
        pass
    # Names that are not Unicode may have the same bytes as in the file system.
    candidates = [_parsed(content.decode("utf-8-sig", errors="surrogateescape"), path)]
    for encoding in _ENCODINGS:
        try:
            candidates.append(_parsed(content.decode(encoding), path))
        except UnicodeDecodeError:
            continue
    return max(candidates, key=lambda table: sum(_find(line, known) is not None for _, line, _ in table.lines))


def _parsed(text: str, path: Path) -> _Table:
    head = text.partition("\n")[0]
    delimiter = max(",;\t", key=head.count)
    lines = csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter, restkey="\0")
    try:
        columns = [name.strip() for name in lines.fieldnames or ()]
        lines.fieldnames = columns
        table = []
        for fields in lines:
            extra = fields.pop("\0", None) is not None
            table.append((lines.line_num, {name: value or "" for name, value in fields.items()}, extra))
        return _Table(columns, table)
    except csv.Error as error:
        raise UserError(f"{display(path)}, line {lines.line_num}: {error}") from None


def _by_name(files: Iterable[str]) -> dict[str, str]:
    """Maps each file's name, its displayed name, and both in NFC, to the file."""
    names: dict[str, str] = {}
    for spell in (_same, display, _composed, lambda file: _composed(display(file))):
        for file in files:
            names.setdefault(spell(file), file)
    return names


def _same(name: str) -> str:
    return name


def _composed(name: str) -> str:
    return unicodedata.normalize("NFC", name)


def _find(fields: dict[str, str], known: dict[str, str]) -> str | None:
    """The file that a line is about."""
    name = fields.get("file") or ""
    slashed = os.path.normpath(name.strip().replace("\\", "/"))
    for spelling in (name, name.strip(), slashed, _composed(name), _composed(slashed)):
        if spelling in known:
            return known[spelling]
    return None


def _rows(path: Path, table: _Table, known: dict[str, str]) -> dict[str, Row]:
    rows: dict[str, Row] = {}
    lost: list[str] = []
    for number, fields, extra in table.lines:
        where = f"{display(path)}, line {number}"
        values = {name: fields.get(name, "").strip() for name in _COLUMNS}
        label = _composed(values["label"]) or None
        row = Row(label, _pitch(values["pitch"], where), _split(values["split"], where))
        file = _find(fields, known)
        if extra:
            raise UserError(f"{where}: more fields than columns; put names with commas in double quotes")
        if file is None:
            lost.append(f"line {number}: {display(fields.get('file', ''))}")
        elif file in rows:
            raise UserError(f"{where}: {display(fields['file'])} has a line already; keep one")
        else:
            rows[file] = row
    if lost:
        more = f" and {len(lost) - _SHOWN:,} more" if len(lost) > _SHOWN else ""
        raise UserError(
            f"{display(path)} names files that are not in the folder ({'; '.join(lost[:_SHOWN])}{more}): correct the names, "
            "or remove these lines"
        )
    return rows


def _pitch(text: str, where: str) -> float | None:
    if not text:
        return None
    try:
        pitch = float(text.replace(",", "."))
    except ValueError:
        pitch = -1.0
    if not 0 <= pitch <= 127:
        raise UserError(f"{where}: pitch {display(text)}; give a MIDI number from 0 to 127 or nothing")
    return pitch


def _split(text: str, where: str) -> str | None:
    if not text:
        return None
    split = split_named(text)
    if split is None:
        raise UserError(f"{where}: split {display(text)}; give one of {', '.join(NAMES)} or nothing")
    return split
