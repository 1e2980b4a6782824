"""Converts labels, timbre files and sounds to timbres."""

import unicodedata
import warnings
from collections.abc import Callable
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from wavesynth.audio import pitch as pitches
from wavesynth.audio.names import display, has_sound_extension, user_path
from wavesynth.audio.sounds import Sound
from wavesynth.data.pitches import pitch_of
from wavesynth.errors import UserError
from wavesynth.timbre.timbre import Timbre

SEVERAL = 1.5  # semitones between the pitches of a sound, from which it is a melody and not a vibrato
Point = Timbre | Sound
"""A `Timbre`, a timbre file (`.json`), a label, or a sound."""


def as_point(
    point: Point, labels: tuple[str, ...], of_label: Callable[[str], Timbre], encode: Callable[[Sound], Timbre]
) -> Timbre:
    """Converts a timbre, a timbre file, a label or a sound to a timbre.

    Raises:
        UserError: it is none of these.
    """
    if isinstance(point, Timbre):
        return point
    if isinstance(point, str | PathLike):
        path = user_path(point)
        if path.suffix == ".json":
            return Timbre.load(path)
        if isinstance(point, str) and unicodedata.normalize("NFC", point) in labels:
            return of_label(point)
        if not path.exists():
            if isinstance(point, str) and not has_sound_extension(path.name) and path.name == point:
                return of_label(point)  # the error lists the labels
            raise UserError(f"no such file: {display(point)}; give a sound, a timbre (.json) or a label")
        return encode(path)
    return encode(point)


def warn_of_a_melody(samples: np.ndarray, sample_rate: int) -> None:
    """Warns if samples [T] have several pitches: a timbre has one. Nothing is said without the extra `pitch`."""
    if not pitches.available():
        return
    found = pitches.pitch_range(samples, sample_rate)
    if found is not None and found[1] - found[0] > SEVERAL:
        warnings.warn(
            f"sound has several pitches, from {found[0]:.0f} to {found[1]:.0f}, and a timbre has one: encode its notes one by "
            "one",
            stacklevel=3,
        )


def detected_pitch(sound: Any, samples: np.ndarray, sample_rate: int) -> float | None:
    """The pitch in a file's name, or else the tracked pitch of samples [T]; None if there is none."""
    named = pitch_of(Path(sound).name) if isinstance(sound, str | PathLike) else None
    if named is not None:
        return named
    if not pitches.available():
        warnings.warn(
            "the pitch of the sound is unknown, so it is encoded without one: give pitch, or install the extra pitch to track "
            "it: pip install 'wavesynth-jax[pitch]'",
            stacklevel=4,
        )
        return None
    return pitches.median_pitch(samples, sample_rate)
