"""Directions in a latent space: where the sounds of a folder spread most, and where a descriptor grows."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from wavesynth.timbre.timbre import Timbre

RIDGE = 1e-2  # of the mean variance: keeps a regression on few sounds from following their accidents


@dataclass(frozen=True, eq=False)
class Direction:
    """A step to add to timbres: `timbre + 2 * direction.step`.

    name: "principal 1" ..., or the descriptor that grows along it. step: as far as one standard deviation of the folder's
    sounds. share: of the sounds' variance that lies along it (of a descriptor's, the share of it that is explained).
    effect: what one step changes, measured on sounds decoded at both sides of the mean: the descriptors of
    `wavesynth.evaluation.descriptors`, brightness in octaves of the centroid, attack in octaves of time, noisiness in dB of
    flatness.
    """

    name: str
    step: Timbre
    share: float
    effect: Mapping[str, float]


def principal(points: np.ndarray, n: int) -> list[tuple[np.ndarray, float]]:
    """The n directions [D] along which points [N, D] spread most, each a standard deviation long, and their shares of
    the variance (Pearson, 1901). Signs are such that the largest number of each is positive."""
    centred = points - points.mean(axis=0)
    _, lengths, rows = np.linalg.svd(centred, full_matrices=False)
    variances = np.square(lengths) / len(points)
    total = max(float(variances.sum()), np.finfo(np.float32).tiny)
    signs = np.sign(rows[np.arange(len(rows)), np.abs(rows).argmax(axis=1)])
    return [
        (row * sign * np.sqrt(variance), float(variance / total))
        for row, sign, variance in list(zip(rows, signs, variances, strict=True))[:n]
    ]


def following(points: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, float]:
    """The direction [D] along which values [N] of points [N, D] grow, a standard deviation of theirs long, and the share
    of their variance that a linear function of the points explains.

    It is how points move, on average, where the prediction of ridge regression does: not its slope, which may point to
    where no sound is.
    """
    centred, wanted = points - points.mean(axis=0), values - values.mean()
    covariance = centred.T @ centred / len(points)
    ridge = RIDGE * np.trace(covariance) / len(covariance) + np.finfo(np.float32).tiny
    slope = np.linalg.solve(covariance + ridge * np.eye(len(covariance)), centred.T @ wanted / len(points))
    predicted = centred @ slope
    deviation = predicted.std()
    if deviation < 1e-12:
        return np.zeros(points.shape[1]), 0.0
    unexplained = np.square(wanted - predicted).mean() / max(np.square(wanted).mean(), np.finfo(np.float32).tiny)
    return centred.T @ predicted / len(points) / deviation, float(max(0.0, 1 - unexplained))
