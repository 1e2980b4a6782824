"""Converts labels, timbre files and sounds to timbres."""

import unicodedata
import warnings
from collections.abc import Callable
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from wavesynth.audio import pitch as pitches
from wavesynth.audio.names import display, has_sound_extension
from wavesynth.audio.sounds import Sound
from wavesynth.data.pitches import pitch_of
from wavesynth.errors import UserError
from wavesynth.timbre.timbre import Timbre

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
        path = Path(point).expanduser()
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
