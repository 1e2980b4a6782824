"""Ways between sounds, as they are heard: steps that are alike to the ear, at levels that go straight from end to end."""

from collections.abc import Callable

import numpy as np

from wavesynth.evaluation.descriptors import SILENCE, level
from wavesynth.evaluation.morphing import step_sizes

ROUNDS = 4  # of spacing anew; each closes most of what is left
MOST_GAIN = 20.0  # decibels: what is quieter is near silence, and stays quiet


def morph(
    render: Callable[[np.ndarray], np.ndarray],
    steps: int,
    sample_rate: int,
    *,
    even: bool = True,
    match_loudness: bool = True,
) -> np.ndarray:
    """Sounds from one end to the other, float32 [steps, T].

    render: shares of the way [n], 0 to 1 and both ends among them, to sounds [n, T]. even: the shares are spaced so that
    neighbours differ by the same to the ear (`step_sizes`), as far as the way allows: a latent space is no map of hearing.
    match_loudness: what lies between is brought to levels (root mean square) that go straight from one end's to the other's.
    """
    shares = np.linspace(0, 1, steps)
    sounds = render(shares)
    if even and steps > 2:
        best = _unevenness(sounds, sample_rate)
        trial, heard = shares, sounds
        for _ in range(ROUNDS):
            trial = evenly_heard(trial, step_sizes(heard, sample_rate))
            heard = render(trial)
            found = _unevenness(heard, sample_rate)
            if found < best:
                best, sounds = found, heard
    return leveled(sounds) if match_loudness else sounds


def evenly_heard(shares: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Shares [K + 1] of a way, moved so that its steps, now of these sizes [K], would be alike if they were straight."""
    way = np.concatenate([[0.0], np.cumsum(np.maximum(sizes, 1e-9))])
    return np.interp(np.linspace(0, way[-1], len(shares)), way, shares)


def leveled(sounds: np.ndarray) -> np.ndarray:
    """Sounds [K + 1, T] with levels straight from the first's to the last's; all softer alike where one would clip."""
    have = np.asarray(level(sounds), np.float64)
    gains = np.clip(np.linspace(have[0], have[-1], len(have)) - have, -MOST_GAIN, MOST_GAIN)
    gains[have <= 20 * np.log10(SILENCE)] = 0.0
    louder = sounds * (10 ** (gains / 20)).astype(np.float32)[:, None]
    peak = float(np.abs(louder).max())
    return louder / np.float32(peak) if peak > 1 else louder


def _unevenness(sounds: np.ndarray, sample_rate: int) -> float:
    sizes = step_sizes(sounds, sample_rate)
    return float(sizes.max() / max(sizes.mean(), 1e-9))
