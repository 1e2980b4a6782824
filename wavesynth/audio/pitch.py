"""Pitch tracking. Needs the extra `pitch` (swift-f0, which includes its weights)."""

import importlib.util
from functools import cache
from typing import Any

import numpy as np

from wavesynth.errors import UserError

VOICED = 0.5  # confidence from which a frame counts as voiced, swift-f0's own threshold
LEAP = 11  # semitones
MIN_FRAMES, FRAME_SECONDS = 3, 0.016  # anything shorter is a click


def available() -> bool:
    """Whether pitches can be tracked: the extra `pitch` is installed."""
    return importlib.util.find_spec("swift_f0") is not None


def check_available() -> None:
    """Raises UserError unless the extra `pitch` is installed."""
    if not available():
        raise UserError("tracking pitches needs swift-f0: pip install 'wavesynth-jax[pitch]'")


def median_pitch(samples: np.ndarray, sample_rate: int) -> float | None:
    """The median over time of a sound's pitch.

    swift-f0 finds pitches from 47 to 2,094 Hz.

    Args:
        samples: float [num_samples], or [channels, num_samples], of which the mean of the channels is tracked.
        sample_rate: samples per second.

    Returns:
        A MIDI number with fractions (69 is 440 Hz); None if fewer than three frames (48 ms) are voiced.

    Raises:
        UserError: swift-f0 is missing, or a sample is not finite.

    Reference: Nieradzik, SwiftF0: fast and accurate monophonic pitch detection (2025).

    >>> tone = np.sin(2 * np.pi * 440 * np.arange(16_000) / 16_000)
    >>> round(median_pitch(tone, 16_000), 1)
    69.0
    """
    pitches = _voiced(samples, sample_rate)
    return None if pitches is None else float(np.median(pitches))


def pitch_range(samples: np.ndarray, sample_rate: int) -> tuple[float, float] | None:
    """The lowest and the highest pitch that a sound has for a tenth of its voiced time.

    Frames almost an octave or more from the median are left out: there the tracker follows a partial.

    The arguments, errors and pitches are those of `median_pitch`.

    >>> time = np.arange(16_000) / 16_000
    >>> tones = np.sin(2 * np.pi * np.where(time < 0.5, 440, 660) * time)
    >>> [round(pitch) for pitch in pitch_range(tones, 16_000)]
    [69, 76]
    """
    pitches = _voiced(samples, sample_rate)
    if pitches is None:
        return None
    # The lower median is the pitch of a real frame; a mean of two could lie between octaves.
    middle = np.quantile(pitches, 0.5, method="lower")
    near = pitches[np.abs(pitches - middle) < LEAP]
    lowest, highest = np.quantile(near, [0.1, 0.9])
    return float(lowest), float(highest)


def _voiced(samples: np.ndarray, sample_rate: int) -> np.ndarray | None:
    """The pitches of voiced frames."""
    check_available()
    samples = np.asarray(samples, np.float32)
    if samples.ndim > 1:
        samples = samples.mean(axis=tuple(range(samples.ndim - 1)))
    if not np.isfinite(samples).all():
        raise UserError("samples: a value is NaN or infinite; remove it before tracking the pitch")
    if len(samples) < MIN_FRAMES * FRAME_SECONDS * sample_rate:
        return None
    tracked = _detector().detect(samples, sample_rate)
    voiced = tracked.confidence >= VOICED
    if voiced.sum() < MIN_FRAMES:
        return None
    return 69 + 12 * np.log2(tracked.pitch_hz[voiced] / 440)


@cache
def _detector() -> Any:
    from swift_f0 import SwiftF0

    return SwiftF0(threads=1, spin=False)
