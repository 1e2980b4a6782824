"""metadata.csv: what the user knows of the sounds better than their names tell.

A CSV file (comma or semicolon, UTF-8) in the root of the folder, with a header line. Columns: `file` (the path relative
to the root, with `/`; or as a report shows it), and any of `label`, `pitch` (MIDI number from 0 to 127, fractions
allowed) and `split` (train, valid or test). An empty field says nothing. Sounds without a line keep what their names
say.
"""

import csv
import io
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from wavesynth.audio.names import display
from wavesynth.data.splits import SPLITS
from wavesynth.errors import UserError

METADATA = "metadata.csv"
_COLUMNS = ("file", "label", "pitch", "split")


@dataclass(frozen=True)
class Row:
    """One line: what it says of a file, None where it says nothing."""

    label: str | None
    pitch: float | None
    split: str | None


def read_metadata(path: Path, files: Sequence[str]) -> tuple[dict[str, Row], list[tuple[str, str]]]:
    """Reads metadata.csv, if there is one.

    Args:
        path: of metadata.csv.
        files: the sound files of the folder, relative.

    Returns:
        What is said, by file, and warnings as (metadata.csv, what): columns without meaning, files that are not there.

    Raises:
        UserError: a value or the form of the file is wrong, naming the line.
    """
    try:
        # Names that are not UTF-8 come through as they do from the file system.
        text = path.read_text(encoding="utf-8-sig", errors="surrogateescape")
    except FileNotFoundError:
        return {}, []
    except OSError as error:
        raise UserError(f"{display(path)} cannot be read: {error.strerror}") from None
    head = text.partition("\n")[0]
    lines = csv.DictReader(io.StringIO(text, newline=""), delimiter=";" if ";" in head and "," not in head else ",")
    try:
        columns = [name.strip() for name in lines.fieldnames or ()]
        lines.fieldnames = columns
        if "file" not in columns:
            raise UserError(f"{display(path)}, line 1: no column `file`; begin with the line file,label,pitch,split")
        odd = [name for name in columns if name not in _COLUMNS]
        warned = [(METADATA, f"column {display(name)} means nothing here")] if (name := ", ".join(odd)) else []
        return _rows(path, lines, _by_name(files), warned), warned
    except csv.Error as error:
        raise UserError(f"{display(path)}, line {lines.line_num}: {error}") from None


def _by_name(files: Iterable[str]) -> dict[str, str]:
    """Each file under its own name and under the name it is shown by."""
    return {display(file): file for file in files} | {file: file for file in files}


def _rows(
    path: Path, lines: "csv.DictReader[str]", known: dict[str, str], warned: list[tuple[str, str]]
) -> dict[str, Row]:
    rows: dict[str, Row] = {}
    for fields in lines:
        where = f"{display(path)}, line {lines.line_num}"
        values = {name: (fields.get(name) or "").strip() for name in _COLUMNS}
        name = fields.get("file") or ""
        file = known.get(name, known.get(os.path.normpath(name).replace(os.sep, "/")))
        row = Row(values["label"] or None, _pitch(values["pitch"], where), _split(values["split"], where))
        if None in fields:
            raise UserError(f"{where}: more fields than columns; put names with commas in double quotes")
        if file is None:
            warned.append((METADATA, f"line {lines.line_num}: no sound file {display(name)}"))
        elif file in rows:
            raise UserError(f"{where}: {display(name)} has a line already; keep one")
        else:
            rows[file] = row
    return rows


def _pitch(text: str, where: str) -> float | None:
    if not text:
        return None
    try:
        pitch = float(text)
    except ValueError:
        pitch = -1.0
    if not 0 <= pitch <= 127:
        raise UserError(f"{where}: pitch {display(text)}; give a MIDI number from 0 to 127 or nothing")
    return pitch


def _split(text: str, where: str) -> str | None:
    if text and text not in SPLITS:
        raise UserError(f"{where}: split {display(text)}; give one of {', '.join(SPLITS)} or nothing")
    return text or None
