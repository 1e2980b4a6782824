"""Directions in a latent space: those of the largest variance, and those along which a descriptor grows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from os import PathLike
from typing import TYPE_CHECKING

import numpy as np

from wavesynth.audio.names import user_path
from wavesynth.data.batches import mono
from wavesynth.data.corpus import scan
from wavesynth.errors import UserError
from wavesynth.evaluation import descriptors
from wavesynth.progress import Progress
from wavesynth.timbre.points import Point
from wavesynth.timbre.timbre import Timbre, mean

if TYPE_CHECKING:
    from wavesynth.synth import Synth

RIDGE = 1e-2  # of the mean variance: keeps a regression on few sounds from fitting their noise


@dataclass(frozen=True, eq=False)
class Direction:
    """A step to add to timbres: `timbre + 2 * direction.step`.

    Attributes:
        name: "principal 1" ..., or the descriptor that grows along it.
        step: one standard deviation of the sounds long.
        share: of the sounds' variance that lies along it; of a descriptor's direction, the share of its variance explained.
        effect: the change by one step, measured on sounds decoded at both sides of the mean: brightness in octaves of the
            spectral centroid, attack in octaves of time, noisiness in dB of spectral flatness.
    """

    name: str
    step: Timbre
    share: float
    effect: Mapping[str, float]


def directions(
    synth: Synth,
    sounds: str | PathLike[str] | Sequence[Point],
    n: int = 4,
    *,
    sample_rate: float | None = None,
    pitch: float | None = None,
    progress: bool = False,
) -> list[Direction]:
    """Finds directions in latent space: the principal components of some sounds, brightness, attack and noisiness.

    Args:
        synth: a synth with timbres.
        sounds: a folder, or at least 3 timbres, labels or sounds.
        n: number of principal directions.
        sample_rate: sample rate of sounds given as arrays, Hz; None for the synth's.
        pitch: MIDI number to decode at; None for the mean pitch of the sounds.
        progress: show a progress bar.

    Returns:
        The n principal directions, then one per descriptor.

    Raises:
        UserError: there are fewer than 3 sounds, or they cannot be encoded.

    >>> found = ws.directions(synth, ["flute", "violin", "tuba", "trombone"], n=1, pitch=60)
    >>> [direction.name for direction in found]
    ['principal 1', 'brightness', 'attack', 'noisiness']
    >>> brighter = synth.timbre("flute") + 2 * found[1].step
    """
    if isinstance(sounds, str | PathLike) and user_path(sounds).is_dir():
        corpus = scan(user_path(sounds))
        sounds = [corpus.root / source.file for source in corpus.files]
    if isinstance(sounds, str | PathLike) or len(sounds) < 3:
        raise UserError("sounds holds fewer than 3 sounds: give more to find directions among")
    with Progress(len(sounds), "sound", "encode", shown=progress) as bar:
        timbres = synth.timbres(bar.over(sounds), sample_rate)
    middle = mean(timbres)
    pitch = middle.pitch if pitch is None else pitch
    seconds = max((timbre.seconds or 0.0 for timbre in timbres), default=0.0) or None
    points = np.stack([timbre.latent.reshape(-1, timbre.latent.shape[-1]).mean(axis=0) for timbre in timbres])
    described = _described(synth.sample(len(timbres), seconds, timbre=timbres, pitch=pitch), synth.sample_rate)
    found = {f"principal {index + 1}": part for index, part in enumerate(principal(points, n))}
    found |= {name: following(points, values) for name, values in described.items()}
    results = []
    for name, (step, share) in found.items():
        latent = np.float32(step if middle.latent.ndim == 1 else step[None])
        timbre = replace(middle, latent=latent, pitch=None, seconds=None, onset=None)
        sides = synth.sample(2, seconds, timbre=[middle - timbre, middle + timbre], pitch=pitch)
        effect = {what: float(np.diff(two)[0] / 2) for what, two in _described(sides, synth.sample_rate).items()}
        results.append(Direction(name, timbre, share, effect))
    return results


def _described(sounds: np.ndarray, sample_rate: int) -> dict[str, np.ndarray]:
    """Brightness, attack and noisiness of sounds [N, T] or [N, C, T], each [N], in the units of `Direction.effect`.

    Silence gets the mean of the others.
    """
    sounds = mono(sounds) if sounds.ndim == 3 else sounds
    values = {
        "brightness": np.log2(descriptors.spectral_centroid(sounds, sample_rate)),
        "attack": np.log2(descriptors.attack_time(sounds, sample_rate)),
        "noisiness": np.asarray(descriptors.spectral_flatness(sounds, sample_rate)),
    }
    filled = {}
    for name, value in values.items():
        known = np.isfinite(value)
        filled[name] = np.where(known, value, np.mean(value, where=known) if known.any() else 0.0).astype(np.float64)
    return filled


def principal(points: np.ndarray, n: int) -> list[tuple[np.ndarray, float]]:
    """The first n principal components [D] of points [N, D], each a standard deviation long, and their shares of the variance
    (Pearson, 1901). The largest number of each is positive."""
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
    """The direction [D] along which values [N] of points [N, D] grow, and the share of their variance that it explains.

    It is the mean displacement of the points when the prediction of a ridge regression rises by one standard deviation. The
    regression's gradient itself may lead away from all sounds.
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
