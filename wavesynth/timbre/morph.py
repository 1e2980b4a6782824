"""Morphs: perceptually even steps along a path, with levels on a straight line."""

from collections.abc import Callable

import numpy as np

from wavesynth.evaluation.analysis import Analysis
from wavesynth.evaluation.descriptors import SILENCE_DB

ROUNDS = 4  # of spacing; each removes most of the remaining unevenness
EVEN_ENOUGH = 1.005  # ratio of the largest to the mean step at which spacing stops
ROUNDING = 1e-6  # keeps float32 products below 1
LARGEST_GAIN = 20.0  # decibels; a sound that would need more is nearly silent, and stays quiet


def morph(
    render: Callable[[np.ndarray], np.ndarray],
    steps: int,
    sample_rate: int,
    *,
    even: bool = True,
    match_loudness: bool = True,
) -> Analysis:
    """Renders sounds along a path.

    Equal steps in a latent space are not equally audible. With `even`, the positions are moved until neighbours differ
    by the same amount (`Analysis.step_sizes`), as far as the path allows.

    Args:
        render: takes positions on the path, float [n] from 0 to 1, and returns their sounds, float32 [n, num_samples].
            The sound at a position must not depend on the other positions.
        steps: number of sounds, at least 2, both ends included.
        sample_rate: samples per second.
        even: whether to make the steps perceptually even.
        match_loudness: whether to bring the sounds between the ends to root mean squares (in decibels) on the straight
            line from the first to the last.

    Returns:
        The sounds [steps, num_samples] as an `Analysis`.

    >>> morph(lambda t: np.sin(np.outer(0.1 + 0.2 * t, np.arange(800))), 5, 16_000).sounds.shape
    (5, 800)
    """
    positions = np.linspace(0, 1, steps)
    best = Analysis(render(positions), sample_rate)
    if even and steps > 2:
        latest = best
        for _ in range(ROUNDS):
            if _unevenness(best) <= EVEN_ENOUGH:
                break
            positions = respaced(positions, latest.step_sizes)
            inner = render(positions[1:-1])
            latest = Analysis(np.concatenate([best.sounds[:1], inner, best.sounds[-1:]]), sample_rate)
            best = min(best, latest, key=_unevenness)
    return level_matched(best) if match_loudness else best


def respaced(positions: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Moves positions [K + 1] to equalise the steps between them, whose sizes [K] were measured, assuming a straight path.

    >>> respaced(np.array([0.0, 0.5, 1.0]), np.array([1.0, 3.0])).round(3).tolist()
    [0.0, 0.667, 1.0]
    """
    travelled = np.concatenate([[0.0], np.cumsum(np.maximum(sizes, 1e-9))])
    return np.interp(np.linspace(0, travelled[-1], len(positions)), travelled, positions)


def level_matched(sounds: Analysis) -> Analysis:
    """Scales sounds to levels on the straight line from the first to the last.

    If a sound would clip, all of them are attenuated by the same factor.
    """
    levels = sounds.levels
    gains = np.clip(np.linspace(levels[0], levels[-1], len(levels)) - levels, -LARGEST_GAIN, LARGEST_GAIN)
    factors = np.where(levels <= SILENCE_DB, 1.0, 10 ** (gains / 20))
    peak = float((np.abs(sounds.sounds).reshape(len(sounds), -1).max(axis=1) * factors).max())
    return sounds.scaled(factors / (peak * (1 + ROUNDING)) if peak > 1 else factors)


def _unevenness(sounds: Analysis) -> float:
    return float(sounds.step_sizes.max() / max(sounds.step_sizes.mean(), 1e-9))
