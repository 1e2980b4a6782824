"""How far a metric would scatter if other samples of the same kind had been drawn."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from wavesynth.errors import UserError

TAILS = (2.5, 97.5)  # percentiles: 95 % lie between them


@dataclass(frozen=True)
class Interval:
    """A metric and where 95 % of its resampled values lie. value: of the samples as they are; low, high: the limits."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.4g} [{self.low:.4g}, {self.high:.4g}]"


def bootstrap(statistic: Callable[..., Any], *samples: ArrayLike, resamples: int = 1000, seed: int = 0) -> Interval:
    """The percentile interval of a statistic, 95 %.

    Each sample is drawn anew from itself, as many rows with replacement as it has, independently of the others. What
    belongs together (a score before and after) goes into one array, as columns. A statistic that grows with repeated
    rows, as the Fréchet distance does, has an interval that lies too high and may not hold its value: compare such
    intervals with one another only.

    Args:
        statistic: takes one array for each of `samples`, gives one number.
        samples: arrays [n_i, ...], drawn along the first axis.
        resamples: how many times to draw.
        seed: the same seed gives the same interval.

    Raises:
        UserError: no sample, an empty one, or fewer than 1 resamples.

    Reference: Efron, Bootstrap methods: another look at the jackknife (1979).

    >>> bootstrap(np.mean, [1.0, 1.0, 1.0])
    Interval(value=1.0, low=1.0, high=1.0)
    """
    arrays: list[NDArray[Any]] = [np.asarray(sample) for sample in samples]
    if not arrays:
        raise UserError("samples: none are given; give the statistic's arrays")
    for place, array in enumerate(arrays):
        if array.ndim < 1 or not len(array):
            raise UserError(f"samples: number {place} has shape {array.shape}; there must be rows to draw from")
    if resamples < 1:
        raise UserError(f"resamples: {resamples} must be at least 1")
    rng = np.random.default_rng(seed)
    values = [
        float(statistic(*(array[rng.integers(len(array), size=len(array))] for array in arrays)))
        for _ in range(resamples)
    ]
    low, high = np.percentile(values, TAILS)
    return Interval(float(statistic(*arrays)), float(low), float(high))
