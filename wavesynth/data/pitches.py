"""Pitches from file names.

A name can give a pitch in one of three patterns:

- `NAME_060_090`: MIDI pitch and velocity, three digits each, at the end.
- `NAME_068-060-127`: NSynth's source, pitch and velocity.
- A note name that stands alone between `_`, `-`, `.`, blanks, brackets or the ends of the name: `Cello_C#4`, `A3`,
  `horn-Bb2`, `Piano.ff.Ab3`, `cello_As3_1` (s is sharp), `Cello c#4`; a velocity may follow (`A0v1`).

Many names look like this but have no pitch: numbers of takes (`take_001_002`), tempos (`break_120_125`), sides and tracks of a
record (`A1 - Intro`), variants (`snare_a1`). So a pattern counts only if most files of a label follow it and its pitches are
plausible: see `pitches_of`. Names that were not used are reported.
"""

import re
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from wavesynth.errors import UserError

MIDDLE_C = {"C3": 1, "C4": 0, "C5": -1}
"""Octaves to add to a note name, by the name of middle C (MIDI note 60)."""

_NUMBERS = re.compile(r"(?:_|^)(\d{3})_(\d{3})$")
_NSYNTH = re.compile(r"(?:_|^)\d{3}-(\d{3})-(\d{3})$")
_NOTE = re.compile(r"([A-Ga-g])(#|♯|s|b|♭)?(\d)(?:v\d{1,3})?")
_BETWEEN = re.compile(r"[_\-\s.()\[\]]+")
_SEMITONES = {"C": 0, "D": 2, "E": 4, "F": 5, "G": 7, "A": 9, "B": 11}
_ACCIDENTALS = {"": 0, "#": 1, "♯": 1, "s": 1, "b": -1, "♭": -1}
_PIANO = range(21, 109)
"""The keys of a piano. Pitches beyond them are rare; numbers of takes and tempos are often beyond them."""
_NO_PITCH = frozenset(
    ("take", "takes", "loop", "loops", "break", "breaks", "beat", "beats", "groove", "fill", "bpm", "track", "side", "part",
     "mix", "disc", "song")
)  # fmt: skip
"""Words that mark the numbers and letters in a name as something other than pitches."""
_LEAST_SHARE = 0.1
"""If fewer files have pitches, none are used: otherwise a folder without pitches could lead to a pitched model."""


@dataclass(frozen=True)
class _Reading:
    """A possible pitch in a name.

    Attributes:
        pattern: "numbers", "nsynth" or "note".
        pitch: MIDI note number.
        rest: the rest of the name, without digits.
        second: the velocity.
        letter, digit: of a note without an accidental, else "".
        leading: whether a note is at the beginning of a longer name.
        lower: whether the letter of a note without an accidental is lower case.
        excluded: whether the name contains a word of `_NO_PITCH`.
    """

    pattern: str
    pitch: int
    rest: str
    second: int = 0
    letter: str = ""
    digit: str = ""
    leading: bool = False
    lower: bool = False
    excluded: bool = False


def pitch_of(file: str, middle_c: str = "C4") -> float | None:
    """The pitch in a single file's name.

    Args:
        file: a path; only the name without its extension counts.
        middle_c: the name of middle C, MIDI note 60: "C3", "C4" or "C5".

    Returns:
        A MIDI note number, or None.

    >>> pitch_of("cello_060_090.flac"), pitch_of("Cello_C#4.wav"), pitch_of("snare 2.wav"), pitch_of("take_001_002.wav")
    (60.0, 61.0, None, None)
    """
    return pitches_of([file], [None], middle_c)[0][0]


def pitches_of(
    files: Sequence[str], labels: Sequence[str | None], middle_c: str = "C4"
) -> tuple[list[float | None], list[tuple[str, float]]]:
    """The plausible pitches in the names of a folder's files.

    A pattern counts for the files of one label if more than half of them follow it and these conditions hold:

    - No word contradicts it (take, loop, bpm ...).
    - Numbers: nine tenths are keys of a piano (21 to 108), and the second numbers do not count up from 0 or 1, like takes.
    - Notes: some have accidentals; or letters and digits do not count up (A1 A2 B1 B2), and if notes are at the beginning of
      longer names (`A1 - Intro`), the rest of the names repeats.

    In total, at least a tenth of all files must have a pitch.

    Args:
        files: paths; only the names without extensions count.
        labels: the label of each file.
        middle_c: the name of middle C, MIDI note 60: "C3", "C4" or "C5".

    Returns:
        The MIDI note number of each file, or None; and the files whose names contain an unused pitch, with that pitch.

    Raises:
        UserError: `middle_c` is none of the three.

    >>> pitches_of(["cello_C2.wav", "cello_D2.wav", "noise.wav"], ["cello"] * 3)
    ([36.0, 38.0, None], [])
    >>> pitches_of(["A1 - Intro.wav", "A2 - Two.wav"], [None] * 2)
    ([None, None], [('A1 - Intro.wav', 33.0), ('A2 - Two.wav', 45.0)])
    """
    check_middle_c(middle_c)
    readings = [_read(file, 12 * MIDDLE_C[middle_c]) for file in files]
    groups: dict[str | None, list[int]] = defaultdict(list)
    for index, label in enumerate(labels):
        groups[label].append(index)
    found: list[float | None] = [None] * len(files)
    for members in groups.values():
        by_pattern: dict[str, dict[int, _Reading]] = defaultdict(dict)
        for index in members:
            if (reading := readings[index]) and not reading.excluded:
                by_pattern[reading.pattern][index] = reading
        for pattern, followers in by_pattern.items():
            if 2 * len(followers) > len(members) and _PLAUSIBLE[pattern](list(followers.values())):
                for index, reading in followers.items():
                    found[index] = float(reading.pitch)
    if sum(pitch is not None for pitch in found) < _LEAST_SHARE * len(files):
        found = [None] * len(files)
    doubtful = [
        (file, float(reading.pitch))
        for file, reading, pitch in zip(files, readings, found)
        if reading and pitch is None
    ]
    return found, doubtful


def check_middle_c(middle_c: str) -> None:
    """Raises UserError unless it is one of the usual names of middle C.

    >>> check_middle_c("C3")
    """
    if middle_c not in MIDDLE_C:
        raise UserError(f"middle_c={middle_c!r}: choose one of {', '.join(MIDDLE_C)}, to match the names of your files")


def _read(file: str, shift: int) -> _Reading | None:
    """The possible pitch in one name; `shift` is added to note names."""
    stem = file.rpartition("/")[2].rpartition(".")[0]
    for pattern, expression in (("nsynth", _NSYNTH), ("numbers", _NUMBERS)):
        if numbers := expression.search(stem):
            pitch, velocity = int(numbers[1]), int(numbers[2])
            rest = _without_digits(stem[: numbers.start()])
            excluded = pattern == "numbers" and not _NO_PITCH.isdisjoint(re.findall("[a-z]+", rest))
            known = pitch <= 127 and velocity <= 127
            return _Reading(pattern, pitch, rest, velocity, excluded=excluded) if known else None
    tokens = [token for token in _BETWEEN.split(stem) if token]
    notes = {index: note for index, token in enumerate(tokens) if (note := _NOTE.fullmatch(token))}
    pitches = {_midi(note) + shift for note in notes.values()}
    if len(pitches) != 1 or not 0 <= (pitch := pitches.pop()) <= 127:
        return None
    rest = _without_digits(" ".join(token for index, token in enumerate(tokens) if index not in notes))
    excluded = all(index and _without_digits(tokens[index - 1]) in _NO_PITCH for index in notes)
    reading = _Reading("note", pitch, rest, excluded=excluded)
    note = next(iter(notes.values()))
    if len(notes) > 1 or note[2]:
        return reading
    leading, lower = 0 in notes and len(tokens) > 1, note[1].islower()
    return replace(reading, letter=note[1].upper(), digit=note[3], leading=leading, lower=lower)


def _midi(note: re.Match[str]) -> int:
    return 12 * (int(note[3]) + 1) + _SEMITONES[note[1].upper()] + _ACCIDENTALS[note[2] or ""]


def _without_digits(text: str) -> str:
    return re.sub(r"\d+", "", text).strip(" _-.").casefold()


def _plausible_numbers(readings: Sequence[_Reading]) -> bool:
    seconds = sorted({reading.second for reading in readings})
    count_up = len(seconds) > 2 and seconds[0] <= 1 and seconds[-1] - seconds[0] == len(seconds) - 1
    on_a_piano = sum(reading.pitch in _PIANO for reading in readings)
    return not count_up and 10 * on_a_piano >= 9 * len(readings)


def _plausible_notes(readings: Sequence[_Reading]) -> bool:
    plain = [reading for reading in readings if reading.letter]
    if 10 * len(plain) <= 9 * len(readings):  # accidentals are proof enough
        return True
    leading = [reading for reading in plain if reading.leading]
    doubtful = 2 * sum(reading.leading or reading.lower for reading in plain) > len(readings)
    if _counts_up(plain) and (doubtful or len({reading.letter for reading in plain}) > 1):
        return False
    if not doubtful:
        return True
    return len(readings) > 1 and 4 * len({reading.rest for reading in leading}) <= 3 * len(leading)


def _counts_up(readings: Sequence[_Reading]) -> bool:
    """Whether letters count up from A, and the digits of each from 1, like numbers of sides, tracks and variants."""
    digits: dict[str, set[int]] = defaultdict(set)
    for reading in readings:
        digits[reading.letter].add(int(reading.digit))
    letters = "".join(sorted(digits))
    if not "ABCDEF".startswith(letters):
        return False
    return all(found == set(range(1, len(found) + 1)) for found in digits.values())


_PLAUSIBLE: dict[str, Callable[[Sequence[_Reading]], bool]] = {
    "numbers": _plausible_numbers,
    "nsynth": lambda readings: True,
    "note": _plausible_notes,
}
