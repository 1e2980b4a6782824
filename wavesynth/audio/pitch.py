"""The pitch of a sound, tracked. Needs the extra `pitch` (swift-f0, whose weights come with it)."""

import importlib.util
from functools import cache
from typing import Any

import numpy as np

from wavesynth.errors import UserError

SURE = 0.5  # confidence from which on a frame is voiced (its own threshold)
LEAST_FRAMES, FRAME_SECONDS = 3, 0.016  # shorter ones are clicks


def available() -> bool:
    """Whether pitches can be tracked: the extra `pitch` is installed."""
    return importlib.util.find_spec("swift_f0") is not None


def check_available() -> None:
    """A UserError where pitches cannot be tracked."""
    if not available():
        raise UserError("tracking pitches needs swift-f0: pip install 'wavesynth-jax[pitch]'")


def median_pitch(samples: np.ndarray, sample_rate: int) -> float | None:
    """The median over time of a sound's pitch, a MIDI number with fractions (69 is 440 Hz); None where it has none.

    Pitches from 47 to 2,094 Hz are found (swift-f0). samples: float [T].

    >>> tone = np.sin(2 * np.pi * 440 * np.arange(16_000) / 16_000)
    >>> round(median_pitch(tone, 16_000), 1)                                # doctest: +SKIP
    69.0
    """
    check_available()
    if len(samples) < LEAST_FRAMES * FRAME_SECONDS * sample_rate:
        return None
    tracked = _detector().detect(np.asarray(samples, np.float32), sample_rate)
    sure = tracked.confidence >= SURE
    if sure.sum() < LEAST_FRAMES:
        return None
    return float(np.median(69 + 12 * np.log2(tracked.pitch_hz[sure] / 440)))


@cache
def _detector() -> Any:
    from swift_f0 import SwiftF0

    return SwiftF0(threads=1, spin=False)
