"""Fréchet distance and inception score of a set of sounds, from the features and class probabilities of a classifier.

Values of different classifiers cannot be compared, nor can values of different numbers of sounds.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from wavesynth.errors import UserError


def frechet_distance(a: ArrayLike, b: ArrayLike) -> float:
    """The Fréchet distance of the Gaussians fitted to two sets of features.

    ``|mean_a - mean_b|^2 + tr(A) + tr(B) - 2 tr((A B)^(1/2))`` with A and B the unbiased covariances. With centred
    features X and Y, A = X^T X / (n - 1) and B = Y^T Y / (m - 1), the last trace is the sum of the singular values of
    X Y^T, scaled. So no covariance matrix is formed, and no root of an eigenvalue that rounding made negative: fewer
    rows than columns are fine.

    The distance is biased upwards by about tr(A) d / n for equal Gaussians. Compare only sets of the same n, and report
    n with the distance.

    Args:
        a: float [n, d], n >= 2.
        b: float [m, d], m >= 2.

    Returns:
        The distance, in the squared unit of the features; 0 or more.

    Raises:
        UserError: a shape does not fit, or a feature is not finite.

    Reference: Heusel et al., GANs trained by a two time-scale update rule (2017); for audio Kilgour et al., Fréchet
    audio distance (2019).

    >>> round(frechet_distance([[0.0], [2.0]], [[3.0], [5.0]]), 6)
    9.0
    """
    first, second = _features("a", a), _features("b", b)
    if first.shape[1] != second.shape[1]:
        raise UserError(
            f"b: {second.shape[1]} features per row, but a has {first.shape[1]}; use one classifier for both"
        )
    mean_a, root_a = _gaussian(first)
    mean_b, root_b = _gaussian(second)
    overlap = np.linalg.svd(root_a @ root_b.T, compute_uv=False).sum()
    distance = np.sum((mean_a - mean_b) ** 2) + np.sum(root_a**2) + np.sum(root_b**2) - 2 * overlap
    return max(float(distance), 0.0)


def inception_score(probabilities: ArrayLike) -> float:
    """The inception score: high if each sample is clearly of one class, and the samples cover all classes.

    ``exp(mean_i KL(p_i | mean_j p_j))`` of a classifier's probabilities, with 0 log 0 = 0. It is biased downwards for
    few rows: n samples can show at most n classes.

    Args:
        probabilities: float [n, classes], each row adding up to 1.

    Returns:
        From 1 (all rows equal) to the number of classes (each row certain, all classes equally frequent).

    Raises:
        UserError: the values are not [n, classes] probabilities.

    Reference: Salimans et al., Improved techniques for training GANs (2016).

    >>> round(inception_score([[1.0, 0.0], [0.0, 1.0]]), 6)
    2.0
    """
    p = np.asarray(probabilities, np.float64)
    if p.ndim != 2 or not p.size:
        raise UserError(f"probabilities: shape {p.shape} is not a table; give [n, classes]")
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
        raise UserError(f"{name}: holds features that are not finite; check the sounds and the classifier")
    return features


def _gaussian(features: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The mean [d] and a root R [min(n, d), d] of the covariance, which is R^T R."""
    mean = features.mean(axis=0)
    root = np.linalg.qr(features - mean, mode="r")
    return mean, root / np.sqrt(len(features) - 1)
