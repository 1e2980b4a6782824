"""How near a sample_set of samples comes to a sample_set of real sounds, seen through the features or classes of one network.

Metrics of two networks never compare, and neither do those of two numbers of samples.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from wavesynth.errors import UserError


def frechet_distance(a: ArrayLike, b: ArrayLike) -> float:
    """The Fréchet distance of the Gaussians fitted to two sets of features.

    ``|mean_a - mean_b|^2 + tr(A) + tr(B) - 2 tr((A B)^(1/2))``, A and B the unbiased covariances. With centred features
    X and Y, A = X^T X and B = Y^T Y (over n - 1), the last trace is the sum of the singular values of X Y^T. No
    covariance is multiplied out and no root taken of its eigenvalues, of which rounding makes some negative, so that
    fewer rows than columns do no harm.

    The distance is biased upwards, the more the fewer the rows (for equal Gaussians it still is of the order of
    tr(A) d / n): compare sets of equal n only, and give n beside the metric.

    Args:
        a: float [n, d], n >= 2.
        b: float [m, d], m >= 2.

    Returns:
        The distance, squared in the features' unit; 0 or more.

    Raises:
        UserError: shapes that do not fit, or features that are not finite.

    Reference: Heusel et al., GANs trained by a two time-scale update rule (2017); for audio Kilgour et al., Fréchet
    audio distance (2019).

    >>> round(frechet_distance([[0.0], [2.0]], [[3.0], [5.0]]), 6)
    9.0
    """
    first, second = _features("a", a), _features("b", b)
    if first.shape[1] != second.shape[1]:
        raise UserError(f"b: {second.shape[1]} features a row where a has {first.shape[1]}; take both from one network")
    mean_a, root_a = _gaussian(first)
    mean_b, root_b = _gaussian(second)
    overlap = np.linalg.svd(root_a @ root_b.T, compute_uv=False).sum()
    distance = np.sum((mean_a - mean_b) ** 2) + np.sum(root_a**2) + np.sum(root_b**2) - 2 * overlap
    return max(float(distance), 0.0)


def inception_score(probabilities: ArrayLike) -> float:
    """How sure of its class each sample is, and how evenly the samples fall into all classes.

    ``exp(mean_i KL(p_i | mean_j p_j))`` of a classifier's probabilities; 0 log 0 is 0. Few rows bias it downwards: at
    most n classes can be seen in n samples.

    Args:
        probabilities: float [n, classes], each row adding up to 1.

    Returns:
        From 1 (all rows alike) to the number of classes (each row sure, all classes equally many).

    Raises:
        UserError: not a table of probabilities.

    Reference: Salimans et al., Improved techniques for training GANs (2016).

    >>> round(inception_score([[1.0, 0.0], [0.0, 1.0]]), 6)
    2.0
    """
    p = np.asarray(probabilities, np.float64)
    if p.ndim != 2 or not p.size:
        raise UserError(f"probabilities: shape {p.shape} is no table; give [n, classes]")
    if not (np.isfinite(p).all() and (p >= 0).all() and np.allclose(p.sum(axis=1), 1, atol=1e-3)):
        raise UserError(
            "probabilities: a row is negative or does not add up to 1; give a softmax's output, not its logits"
        )
    p = p / p.sum(axis=1, keepdims=True)
    marginal = np.broadcast_to(p.mean(axis=0), p.shape)
    seen = p > 0
    divergence = np.sum(p[seen] * np.log(p[seen] / marginal[seen])) / len(p)
    return float(np.exp(divergence))


def _features(name: str, values: ArrayLike) -> NDArray[np.float64]:
    features = np.asarray(values, np.float64)
    if features.ndim != 2 or len(features) < 2 or not features.shape[1]:
        raise UserError(
            f"{name}: shape {features.shape} gives no covariance; give features [n, d] of at least 2 samples"
        )
    if not np.isfinite(features).all():
        raise UserError(f"{name}: holds features that are not finite; mend the samples or the network first")
    return features


def _gaussian(features: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The mean [d] and a root R [min(n, d), d] of the covariance, which is R^T R."""
    mean = features.mean(axis=0)
    root = np.linalg.qr(features - mean, mode="r")
    return mean, root / np.sqrt(len(features) - 1)
