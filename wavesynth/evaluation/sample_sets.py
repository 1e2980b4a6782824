"""Comparison of generated with real sounds: by a classifier, by spectra, and for memorisation of training sounds.

Each metric is paired with the same metric of real sounds: of the held-out sounds or, for distances from them, of an equal
number of training sounds. A perfect model would match it. Distances are also given for silence.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

import jax
import numpy as np
from numpy.typing import ArrayLike, NDArray

from wavesynth.audio.pcm import to_float
from wavesynth.data.batches import mono
from wavesynth.data.shards import Shards
from wavesynth.errors import UserError
from wavesynth.evaluation.bootstrap import Interval, bootstrap
from wavesynth.evaluation.energy import energy_distance, spectra
from wavesynth.evaluation.frechet import frechet_distance, inception_score
from wavesynth.evaluation.neighbours import memorization

ROWS = 64  # sounds whose spectra are computed at once
RESAMPLES = 300

_spectra = jax.jit(spectra, static_argnums=(1, 2))
_energy_distance = jax.jit(energy_distance)

Value = TypeVar("Value", float, Interval)


@dataclass(frozen=True)
class Judge:
    """A classifier of sounds, as two functions of float32 [N, num_samples].

    Attributes:
        features: returns float [N, D].
        probabilities: returns float [N, labels], each row adding up to 1.
    """

    features: Callable[[NDArray[np.float32]], ArrayLike]
    probabilities: Callable[[NDArray[np.float32]], ArrayLike]


@dataclass(frozen=True, eq=False)
class SampleSet:
    """Sounds of one length with their labels.

    Attributes:
        sounds: float32 [N, num_samples].
        labels: int32 [N], the number of each sound's label, or of the label it was generated for; -1 for none.
    """

    sounds: NDArray[np.float32]
    labels: NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.sounds)


@dataclass(frozen=True)
class Comparison(Generic[Value]):
    """A metric of generated and of real sounds, as numbers or intervals.

    Attributes:
        generated: of the model's sounds.
        real: of real sounds.
        silence: of silence, for distances; None for other metrics.
    """

    generated: Value
    real: Value
    silence: Value | None = None


@dataclass(frozen=True)
class SampleSetMetrics:
    """The result of `compare`; `str` makes a table of it.

    Attributes:
        generated: number of generated sounds.
        held_out: number of held-out sounds.
        equal_count: number of sounds per set for the inception score and the Fréchet distance.
        seconds: length of all sounds.
        energy: energy distance from the held-out sounds, decibels; real: of training sounds.
        nearest: median distance to the nearest training sound, decibels, with all peaks at 1; real: of held-out sounds.
            Generated sounds that are far nearer were memorised.
        accuracy: fraction of the sounds whose label the judge predicts; None without a judge or without labels.
        inception: inception score; None without a judge.
        frechet: Fréchet distance from the held-out sounds; real: of training sounds. None without a judge.
    """

    generated: int
    held_out: int
    equal_count: int
    seconds: float
    energy: Comparison[float]
    nearest: Comparison[float]
    accuracy: Comparison[Interval] | None = None
    inception: Comparison[Interval] | None = None
    frechet: Comparison[Interval] | None = None

    def __str__(self) -> str:
        rows: list[tuple[str, Comparison[float] | Comparison[Interval] | None, str]] = [
            ("label accuracy", self.accuracy, "held-out sounds"),
            (f"inception score of {self.equal_count}", self.inception, "held-out sounds"),
            (f"Fréchet distance of {self.equal_count}", self.frechet, "training sounds"),
            ("energy distance, dB", self.energy, "training sounds"),
            ("nearest training sound, dB", self.nearest, "held-out sounds"),
        ]
        head = f"{self.generated} generated and {self.held_out} held-out sounds of {self.seconds:.3g} seconds"
        cells = [("", "generated", "real", "silence", "real sounds")]
        cells += [
            (name, _cell(pair.generated), _cell(pair.real), _cell(pair.silence), real)
            for name, pair, real in rows
            if pair is not None
        ]
        widths = [max(len(line[column]) for line in cells) for column in range(4)]
        lines = ["  ".join([*(cell.ljust(width) for cell, width in zip(line, widths)), line[4]]) for line in cells]
        return "\n".join([head, *lines])


def compare(
    generated: SampleSet,
    held_out: SampleSet,
    training: SampleSet,
    library: Iterable[tuple[str, ArrayLike]],
    sample_rate: int,
    judge: Judge | None = None,
    *,
    level_db: float,
    seed: int = 0,
) -> SampleSetMetrics:
    """Metrics of generated sounds, each with the same metric of real sounds and, for distances, of silence.

    Inception score and Fréchet distance depend on the number of sounds, so they use as many of each set as the smallest
    one has. Intervals are those of `wavesynth.evaluation.bootstrap`; those of Fréchet distances lie too high, for
    generated and for real sounds.

    Args:
        generated: the model's sounds, with the labels they were generated for.
        held_out: real sounds that neither the model nor the judge was trained on.
        training: some of the model's training sounds, with the labels of the held-out ones.
        library: names and sounds, float [num_samples_i], of the whole training set.
        sample_rate: samples per second of all.
        judge: a classifier of the same labels; without it, the metrics that need one are None.
        level_db: root mean square of real sounds, decibels. The floor of the energy distance's spectra lies 50 dB below it.
        seed: of the intervals.

    Returns:
        The metrics.

    Raises:
        UserError: a set has fewer than 2 sounds, the lengths differ, or as `memorization`.
    """
    sample_sets = {"generated": generated, "held_out": held_out, "training": training}
    for name, sample_set in sample_sets.items():
        if len(sample_set) < 2 or sample_set.sounds.shape[1] != generated.sounds.shape[1]:
            raise UserError(
                f"{name}: sounds of shape {sample_set.sounds.shape} cannot be compared; give at least 2, of the same "
                "length as all others"
            )
    equal_count = min(map(len, sample_sets.values()))
    sounds = [sample_set.sounds for sample_set in sample_sets.values()]
    points = [_points(each, sample_rate, level_db) for each in (*sounds, np.zeros_like(held_out.sounds[:2]))]
    normalized = ((name, _peak_normalized(np.asarray(sound, np.float32))) for name, sound in library)
    distances = memorization(
        _peak_normalized(generated.sounds), _peak_normalized(held_out.sounds), normalized, sample_rate
    )
    metrics = SampleSetMetrics(
        generated=len(generated), held_out=len(held_out), equal_count=equal_count,
        seconds=generated.sounds.shape[1] / sample_rate,
        energy=Comparison(*(_energy(points[which], points[1]) for which in (0, 2, 3))),
        nearest=Comparison(distances.generated, distances.held_out, distances.silence),
    )  # fmt: skip
    return metrics if judge is None else _judged(metrics, sample_sets, judge, seed)


def evenly_spaced(count: int, n: int) -> NDArray[np.intp]:
    """`n` indices below `count`, ascending and as evenly spaced as possible; indices repeat if n is larger.

    >>> evenly_spaced(4, 2).tolist(), evenly_spaced(2, 4).tolist()
    ([1, 3], [0, 0, 1, 1])
    """
    return (2 * np.arange(n) + 1) * count // (2 * n)


def stratified(shards: Shards, clips: Sequence[int], n: int) -> list[int]:
    """`n` of these clips, sorted by label and pitch; every label is as frequent as before, to within one clip."""

    def place(clip: int) -> tuple[str, float, int]:
        record = shards.clips[clip]
        return record.label or "", -1.0 if record.pitch is None else record.pitch, clip

    order = sorted(clips, key=place)
    return [order[index] for index in evenly_spaced(len(order), n)]


def matched_by_label(shards: Shards, clips: Sequence[int], candidates: Sequence[int], seed: int) -> list[int]:
    """A random candidate with the label of each clip, each used once; one of any label if none of that label is left.

    There must be at least as many candidates as clips.
    """
    left = defaultdict(list)
    for clip in np.random.default_rng(seed).permutation(candidates).tolist():
        left[shards.clips[clip].label].append(clip)
    found = []
    for clip in clips:
        same_label = left[shards.clips[clip].label]
        found.append(same_label.pop() if same_label else None)
    others = iter([clip for remaining in left.values() for clip in remaining])
    return [next(others) if clip is None else clip for clip in found]


def gather(shards: Shards, clips: Sequence[int], num_samples: int) -> SampleSet:
    """The beginnings of these clips, cut or padded with silence to `num_samples`."""
    sounds = np.zeros((len(clips), num_samples), np.float32)
    for row, clip in enumerate(clips):
        beginning = mono(to_float(shards.samples(clip)[:, :num_samples]))
        sounds[row, : len(beginning)] = beginning
    return SampleSet(sounds, labels_of(shards, clips))


def labels_of(shards: Shards, clips: Sequence[int]) -> NDArray[np.int32]:
    """The number of each clip's label, int32 [N]; -1 for none."""
    names = [shards.clips[clip].label for clip in clips]
    return np.array([-1 if name is None else shards.labels.index(name) for name in names], np.int32)


def _judged(metrics: SampleSetMetrics, sample_sets: dict[str, SampleSet], judge: Judge, seed: int) -> SampleSetMetrics:
    """The metrics with those that need a judge."""

    def interval(statistic: Callable, sample: ArrayLike) -> Interval:
        return bootstrap(statistic, sample, resamples=RESAMPLES, seed=seed)

    count = metrics.equal_count
    by_label = {
        name: np.argsort(sample_set.labels, kind="stable")[evenly_spaced(len(sample_set), count)]
        for name, sample_set in sample_sets.items()
    }
    features = {
        name: np.asarray(judge.features(sample_set.sounds[by_label[name]])) for name, sample_set in sample_sets.items()
    }
    scores, hits, distances = {}, {}, {}
    for name in ("generated", "held_out"):
        labels = sample_sets[name].labels
        probabilities = np.asarray(judge.probabilities(sample_sets[name].sounds))
        scores[name] = interval(inception_score, probabilities[by_label[name]])
        hits[name] = (probabilities.argmax(axis=1) == labels)[labels >= 0]
    for name in ("generated", "training"):
        distances[name] = interval(_frechet_of_pairs, np.stack([features[name], features["held_out"]], axis=1))
    accuracy = None
    if all(map(len, hits.values())):
        accuracy = Comparison(*(interval(np.mean, hit) for hit in hits.values()))
    return replace(
        metrics, accuracy=accuracy, inception=Comparison(*scores.values()), frechet=Comparison(*distances.values())
    )


def _points(sounds: NDArray[np.float32], sample_rate: int, level_db: float) -> NDArray[np.float32]:
    padded = np.pad(sounds, ((0, -len(sounds) % ROWS), (0, 0))).reshape(-1, ROWS, sounds.shape[1])
    return np.concatenate([np.asarray(_spectra(rows, sample_rate, level_db)) for rows in padded])[: len(sounds)]


def _energy(a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
    return float(_energy_distance(a, b, np.ones(len(a), bool), np.ones(len(b), bool)))


def _frechet_of_pairs(pairs: NDArray[np.float32]) -> float:
    """Of features [n, 2, D]. Resampling whole pairs keeps the labels of both sets equally frequent."""
    return frechet_distance(pairs[:, 0], pairs[:, 1])


def _peak_normalized(sounds: NDArray[np.float32]) -> NDArray[np.float32]:
    """Each sound [..., num_samples] with a peak of 1; silence stays silent."""
    peaks = np.abs(sounds).max(axis=-1, keepdims=True)
    return (sounds / np.where(peaks > 0, peaks, 1)).astype(np.float32)


def _cell(metric: float | Interval | None) -> str:
    if metric is None:
        return ""
    return str(metric) if isinstance(metric, Interval) else f"{metric:.3g}"
