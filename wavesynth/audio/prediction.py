"""Linear prediction of a signal from its own past."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from wavesynth.errors import UserError

NOISE_FLOOR = (
    2.0**-15
)  # one 16-bit step: white noise this loud is assumed in every signal, so that silence can be inverted


@dataclass(frozen=True)
class LinearPrediction:
    """A linear model of a sample given the samples before it.

    Attributes:
        coefficients: float64 [order], oldest sample first; the prediction is the sum of the past weighted by them.
        scale: root mean square of the prediction's error, as an amplitude.
        whitening: float64 [order, order]; ``past @ whitening`` has unit covariance. Its column k depends only on the
            k + 1 oldest samples of the past: it is their k-th innovation.
    """

    coefficients: np.ndarray
    scale: float
    whitening: np.ndarray


def fit(windows: np.ndarray, order: int) -> LinearPrediction:
    """Fits a linear prediction by least squares.

    This is the covariance method: only samples with a full past inside their window are predicted, so the edges of a
    window are not mistaken for silence.

    Args:
        windows: float [N, num_samples], each longer than `order`.
        order: how many past samples to predict from.

    Raises:
        UserError: the windows are too short.

    Reference: Makhoul, Linear prediction: a tutorial review (1975).

    >>> sine = np.sin(0.1 * np.arange(1000))
    >>> fit(sine[None], order=2).coefficients.round(2).tolist()  # x[t] = 2 cos(0.1) x[t-1] - x[t-2]
    [-1.0, 1.99]
    """
    if np.shape(windows)[-1] <= order:
        raise UserError(
            f"windows: {np.shape(windows)[-1]} samples are too few to predict from {order}; give longer ones"
        )
    return fit_lagged(np.lib.stride_tricks.sliding_window_view(window, order + 1) for window in windows)


def fit_lagged(lagged: Iterable[np.ndarray]) -> LinearPrediction:
    """Fits a linear prediction to examples of a past and the sample that follows it.

    Args:
        lagged: blocks of examples, float [N, order + 1]; a row holds the past, oldest sample first, then the sample.

    Raises:
        UserError: there are no examples, or one is not finite.
    """
    covariance, count = np.zeros((1, 1)), 0
    for rows in lagged:
        exact = np.asarray(rows, np.float64)
        covariance, count = covariance + exact.T @ exact, count + len(exact)
    if not count or not np.isfinite(covariance).all():
        raise UserError("lagged: linear prediction needs at least one example, all of them finite; give other sounds")
    covariance = covariance / count + NOISE_FLOOR**2 * np.eye(len(covariance))
    past, cross = covariance[:-1, :-1], covariance[:-1, -1]
    coefficients = np.linalg.solve(past, cross)
    variance = covariance[-1, -1] - cross @ coefficients
    return LinearPrediction(coefficients, float(np.sqrt(variance)), np.linalg.inv(np.linalg.cholesky(past)).T)
