"""Confidence intervals of a metric: how much it would vary with other samples of the same kind."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from wavesynth.errors import UserError

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Interval:
    """A metric with its 95 % confidence interval.

    Attributes:
        value: the metric of the samples as they are.
        low: lower limit.
        high: upper limit.
    """

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.4g} [{self.low:.4g}, {self.high:.4g}]"


def bootstrap(statistic: Callable[..., Any], *samples: ArrayLike, resamples: int = 1000, seed: int = 0) -> Interval:
    """The 95 % percentile interval of a statistic, by `scipy.stats.bootstrap`.

    Rows are resampled, so a sample may have any shape behind its first axis. Each sample is resampled independently of
    the others: put paired values (a score before and after) into the columns of one array. Repeated rows raise some
    statistics, such as the Fréchet distance. Their intervals lie too high, may not contain the value, and should only
    be compared with each other.

    Args:
        statistic: takes one array per sample and returns a number.
        samples: arrays [n_i, ...].
        resamples: number of times to resample.
        seed: the same seed gives the same interval.

    Returns:
        The interval. Samples of one row each cannot vary: low and high are the value.

    Raises:
        UserError: there are no samples, one is empty, or `resamples` is below 1.

    Reference: Efron, Bootstrap methods: another look at the jackknife (1979).

    >>> bootstrap(np.mean, [1.0, 1.0, 1.0])
    Interval(value=1.0, low=1.0, high=1.0)
    """
    arrays: list[NDArray[Any]] = [np.asarray(sample) for sample in samples]
    if not arrays:
        raise UserError("samples: none are given; give the statistic's arrays")
    for place, array in enumerate(arrays):
        if array.ndim < 1 or not len(array):
            raise UserError(f"samples: number {place} has shape {array.shape}; there must be rows to resample")
    if resamples < 1:
        raise UserError(f"resamples: {resamples} must be at least 1")
    value = float(statistic(*arrays))
    if all(len(array) == 1 for array in arrays):
        return Interval(value, value, value)
    from scipy import stats  # half a second to import

    # SciPy resamples numbers, so it gets the row numbers. It refuses samples of one number: such a row stands twice.
    rows = [np.arange(max(len(array), 2)) % len(array) for array in arrays]
    found = stats.bootstrap(
        rows,
        lambda *chosen: float(statistic(*(array[index] for array, index in zip(arrays, chosen, strict=True)))),
        n_resamples=resamples, vectorized=False, confidence_level=CONFIDENCE, method="percentile",
        rng=np.random.default_rng(seed),
    )  # fmt: skip
    return Interval(value, float(found.confidence_interval.low), float(found.confidence_interval.high))
