"""What a user may hand over as a sound: samples, or a file."""

from os import PathLike

import numpy as np

from wavesynth.audio import files
from wavesynth.errors import UserError

Sound = np.ndarray | str | PathLike[str]
"""Samples, float [T] or [T, channels] in [-1, 1], or a file of any rate and channel count."""

MOST_CHANNELS = 8  # of an array; more are taken for a mistake in the order of its axes


def samples_of(sound: Sound, argument: str, sample_rate: int, own_rate: float | None = None) -> np.ndarray:
    """A sound as float32 [T] at `sample_rate` Hz: mixed to one channel, and resampled if it has another rate.

    argument: what it is called in errors. own_rate: of an array, Hz; None if it is `sample_rate` already.
    """
    if isinstance(sound, str | PathLike):
        return files.read(sound, sample_rate)
    samples = np.asarray(sound, np.float32)
    if samples.ndim == 2 and 0 < samples.shape[1] <= MOST_CHANNELS and len(samples):
        samples = _mixed(samples)
    if samples.ndim != 1 or not samples.size:
        raise UserError(f"{argument} has the shape {samples.shape}: give one sound as samples [T]")
    if not np.isfinite(samples).all():
        raise UserError(f"{argument} holds values that are not finite numbers: mend them first")
    if np.abs(samples).max() > 1:
        raise UserError(f"{argument} reaches {np.abs(samples).max():.3g}: scale it into [-1, 1]")
    if own_rate is None or own_rate == sample_rate:
        return samples
    import soxr

    files.check_sample_rate(own_rate)
    resampled = np.clip(soxr.resample(samples, own_rate, sample_rate, quality="HQ"), -1.0, 1.0)
    if not len(resampled):
        raise UserError(
            f"{argument} has {len(samples)} samples at {own_rate:,} Hz, none at {sample_rate:,} Hz: give more"
        )
    return resampled


def _mixed(samples: np.ndarray) -> np.ndarray:
    """Samples [T, channels] to [T]: their mean, or the loudest channel where that cancels, as of files."""
    mean = samples.mean(axis=1)
    energy = np.square(samples).sum(axis=0)
    return samples[:, energy.argmax()] if np.square(mean).sum() < 1e-4 * energy.max() else mean
