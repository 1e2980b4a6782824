"""Linear prediction of a signal from its own past (Makhoul, 1975)."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

QUIETEST = 2.0**-15  # one 16-bit step: noise this loud is assumed in every signal, so that silence can be inverted


@dataclass(frozen=True)
class LinearPrediction:
    """What is known of samples from the `order` before them, when both are jointly Gaussian.

    coefficients: float64 [order], oldest sample first; the prediction is their weighted sum.
    scale: root mean square of the prediction's error, amplitude.
    whitening: float64 [order, order]; past @ whitening has unit covariance, and its column k depends on the k + 1
        oldest samples of the past alone (it is their k-th innovation).
    """

    coefficients: np.ndarray
    scale: float
    whitening: np.ndarray

    @property
    def order(self) -> int:
        return len(self.coefficients)


def fit(windows: np.ndarray, order: int) -> LinearPrediction:
    """Least squares over windows [N, T], T > order (the covariance method, so edges are never taken for silence).

    >>> t = np.arange(1000)
    >>> prediction = fit(np.sin(0.1 * t)[None], order=2)        # sin is 2 cos(0.1) x[t-1] - x[t-2], exactly
    """
    return fit_lagged(np.lib.stride_tricks.sliding_window_view(window, order + 1) for window in windows)


def fit_lagged(lagged: Iterable[np.ndarray]) -> LinearPrediction:
    """Least squares over rows [N, order + 1]: what each sample is predicted from, oldest first, and at last the sample."""
    covariance, count = 0.0, 0
    for rows in lagged:
        exact = np.asarray(rows, np.float64)
        covariance, count = covariance + exact.T @ exact, count + len(exact)
    covariance = covariance / count + QUIETEST**2 * np.eye(np.shape(covariance)[0])
    past, cross = covariance[:-1, :-1], covariance[:-1, -1]
    coefficients = np.linalg.solve(past, cross)
    variance = covariance[-1, -1] - cross @ coefficients
    return LinearPrediction(coefficients, float(np.sqrt(variance)), np.linalg.inv(np.linalg.cholesky(past)).T)
