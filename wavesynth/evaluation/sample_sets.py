"""How a sample_set of made sounds compares with real ones: as a classifier hears them, by their spectra, and whether training
sounds were learned by heart.

A metric alone says little, so each stands beside the same one of real sounds: of the held-out sounds themselves or, where
it is a distance from those, of as many training sounds. A perfect model has these.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import jax
import numpy as np
from numpy.typing import ArrayLike, NDArray

from wavesynth.audio.pcm import to_float
from wavesynth.data.shards import Shards
from wavesynth.errors import UserError
from wavesynth.evaluation.bootstrap import Interval, bootstrap
from wavesynth.evaluation.energy import energy_distance, spectra
from wavesynth.evaluation.frechet import frechet_distance, inception_score
from wavesynth.evaluation.neighbours import memorization

ROWS = 64  # sounds whose spectra are made at once
RESAMPLES = 300

_spectra = jax.jit(spectra, static_argnums=1)
_energy_distance = jax.jit(energy_distance)


@dataclass(frozen=True)
class Judge:
    """A classifier, ready to hear sounds float [N, T].

    features: what it sums them up in, float [N, D]. probabilities: of each label, float [N, labels].
    """

    features: Callable[[NDArray[np.float32]], ArrayLike]
    probabilities: Callable[[NDArray[np.float32]], ArrayLike]


@dataclass(frozen=True, eq=False)
class SampleSet:
    """Sounds of one length. sounds: float32 [N, T]. labels: int [N], of each sound, or those it was asked for; -1: none."""

    sounds: NDArray[np.float32]
    labels: NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.sounds)


@dataclass(frozen=True)
class Beside:
    """A metric of made sounds, and that of real ones."""

    made: float
    real: float


@dataclass(frozen=True)
class BesideInterval:
    """A metric of made sounds, and that of real ones, each with its interval."""

    made: Interval
    real: Interval


@dataclass(frozen=True)
class SampleSetMetrics:
    """What `compare` measures; `str` makes a table of it.

    Attributes:
        made: how many sounds were made.
        held_out: how many held-out sounds they are compared with.
        drawn: how many sounds of each kind the inception score and the Fréchet distance are measured on.
        seconds: length of all sounds.
        energy: energy distance from the held-out sounds, decibels; real: that of training sounds.
        nearest: median distance to the nearest training sound, decibels, all brought to one peak; real: that of held-out
            sounds. What is made far nearer was learned by heart.
        accuracy: share of the sounds of which the judge guesses the label; None without a judge, as all below.
        inception: inception score.
        frechet: Fréchet distance from the held-out sounds; real: that of training sounds.
    """

    made: int
    held_out: int
    drawn: int
    seconds: float
    energy: Beside
    nearest: Beside
    accuracy: BesideInterval | None = None
    inception: BesideInterval | None = None
    frechet: BesideInterval | None = None

    def __str__(self) -> str:
        rows: list[tuple[str, Beside | BesideInterval | None, str]] = [
            ("label accuracy", self.accuracy, "held-out sounds"),
            (f"inception score of {self.drawn}", self.inception, "held-out sounds"),
            (f"Fréchet distance of {self.drawn}", self.frechet, "training sounds"),
            ("energy distance, dB", self.energy, "training sounds"),
            ("nearest training sound, dB", self.nearest, "held-out sounds"),
        ]
        head = f"{self.made} made sounds beside {self.held_out} held-out ones, of {self.seconds:.3g} seconds"
        cells = [("", "made", "real", "real is of")]
        cells += [(name, _cell(pair.made), _cell(pair.real), real) for name, pair, real in rows if pair is not None]
        widths = [max(len(line[column]) for line in cells) for column in range(3)]
        lines = ["  ".join([*(cell.ljust(width) for cell, width in zip(line, widths)), line[3]]) for line in cells]
        return "\n".join([head, *lines])


def compare(
    made: SampleSet,
    held_out: SampleSet,
    training: SampleSet,
    library: Iterable[tuple[str, ArrayLike]],
    sample_rate: int,
    judge: Judge | None = None,
    *,
    seed: int = 0,
) -> SampleSetMetrics:
    """The metrics of made sounds beside those of real ones.

    Inception score and Fréchet distance depend on the number of sounds: they are measured on as many of each kind as the
    smallest sample_set has. The intervals are those of `wavesynth.evaluation.bootstrap`; that of a Fréchet distance lies too
    high, for both alike.

    Args:
        made: the model's sounds, and the labels it was asked for.
        held_out: real sounds that neither the model nor the judge was trained on.
        training: some of the sounds that the model was trained on, of the same labels as those held out.
        library: names and sounds, float [num_samples_i], of all that it was trained on.
        sample_rate: samples per second of all.
        judge: a classifier of the same labels; None leaves out what needs one.
        seed: of the intervals.

    Raises:
        UserError: sample_sets of fewer than 2 sounds or of differing lengths; as `memorization`.
    """
    sample_sets = {"made": made, "held_out": held_out, "training": training}
    for name, sample_set in sample_sets.items():
        if len(sample_set) < 2 or sample_set.sounds.shape[1] != made.sounds.shape[1]:
            raise UserError(
                f"{name}: sounds of shape {sample_set.sounds.shape} cannot be compared; give at least 2, as long as all others"
            )
    drawn = min(map(len, sample_sets.values()))
    points = [_points(sample_set.sounds, sample_rate) for sample_set in (made, held_out, training)]
    loud = ((name, _match_peak(np.asarray(sound, np.float32))) for name, sound in library)
    distances = memorization(_match_peak(made.sounds), _match_peak(held_out.sounds), loud, sample_rate)
    metrics = SampleSetMetrics(
        made=len(made), held_out=len(held_out), drawn=drawn, seconds=made.sounds.shape[1] / sample_rate,
        energy=Beside(_energy(points[0], points[1]), _energy(points[2], points[1])),
        nearest=Beside(distances.generated, distances.held_out),
    )  # fmt: skip
    if judge is None:
        return metrics

    def interval(statistic: Callable, *samples: ArrayLike) -> Interval:
        return bootstrap(statistic, *samples, resamples=RESAMPLES, seed=seed)

    chances = [np.asarray(judge.probabilities(sample_set.sounds)) for sample_set in (made, held_out)]
    some = {
        name: np.argsort(sample_set.labels, kind="stable")[evenly(len(sample_set), drawn)]
        for name, sample_set in sample_sets.items()
    }
    scores = [
        interval(inception_score, chances[0][some["made"]]),
        interval(inception_score, chances[1][some["held_out"]]),
    ]
    ours, theirs, known = (
        np.asarray(judge.features(sample_set.sounds[some[name]])) for name, sample_set in sample_sets.items()
    )
    hits = [
        (rows.argmax(axis=1) == sample_set.labels)[sample_set.labels >= 0]
        for rows, sample_set in zip(chances, (made, held_out), strict=True)
    ]
    return replace(
        metrics,
        accuracy=BesideInterval(*(interval(np.mean, hit) for hit in hits)) if all(map(len, hits)) else None,
        inception=BesideInterval(*scores),
        frechet=BesideInterval(
            *(interval(_frechet_of_pairs, np.stack([sample_set, theirs], axis=1)) for sample_set in (ours, known))
        ),
    )


def evenly(among: int, n: int) -> NDArray[np.intp]:
    """`n` of so many places, as evenly apart as they can be, ascending; each comes several times where n is larger.

    >>> evenly(4, 2).tolist(), evenly(2, 4).tolist()
    ([1, 3], [0, 0, 1, 1])
    """
    return (2 * np.arange(n) + 1) * among // (2 * n)


def spread(shards: Shards, clips: Sequence[int], n: int) -> list[int]:
    """`n` of these clips, sorted by label and pitch: every label is as frequent among them as before, but for one clip."""

    def place(clip: int) -> tuple[str, float, int]:
        record = shards.clips[clip]
        return record.label or "", -1.0 if record.pitch is None else record.pitch, clip

    order = sorted(clips, key=place)
    return [order[index] for index in evenly(len(order), n)]


def matching(shards: Shards, wanted: Sequence[int], among: Sequence[int], seed: int) -> list[int]:
    """For each wanted clip another one of its label, drawn from `among`, none twice; where none is left, of any label.

    `among` has at least as many clips as are wanted.
    """
    left = defaultdict(list)
    for clip in np.random.default_rng(seed).permutation(among).tolist():
        left[shards.clips[clip].label].append(clip)
    found = []
    for clip in wanted:
        own = left[shards.clips[clip].label]
        found.append(own.pop() if own else None)
    others = iter([clip for clips in left.values() for clip in clips])
    return [next(others) if clip is None else clip for clip in found]


def gather(shards: Shards, clips: Sequence[int], length: int) -> SampleSet:
    """These clips from their beginnings, cut or padded with silence to `length` samples."""
    sounds = np.zeros((len(clips), length), np.float32)
    for row, clip in enumerate(clips):
        heard = to_float(shards.samples(clip)[0, :length])
        sounds[row, : len(heard)] = heard
    return SampleSet(sounds, labels_of(shards, clips))


def labels_of(shards: Shards, clips: Sequence[int]) -> NDArray[np.int32]:
    """The number of each clip's label, int32 [N]; -1 for none."""
    names = [shards.clips[clip].label for clip in clips]
    return np.array([-1 if name is None else shards.labels.index(name) for name in names], np.int32)


def _points(sounds: NDArray[np.float32], sample_rate: int) -> NDArray[np.float32]:
    padded = np.pad(sounds, ((0, -len(sounds) % ROWS), (0, 0))).reshape(-1, ROWS, sounds.shape[1])
    return np.concatenate([np.asarray(_spectra(rows, sample_rate)) for rows in padded])[: len(sounds)]


def _energy(a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
    return float(_energy_distance(a, b, np.ones(len(a), bool), np.ones(len(b), bool)))


def _frechet_of_pairs(pairs: NDArray[np.float32]) -> float:
    """[n, 2, D]: drawing whole pairs anew keeps the labels of both sample_sets alike."""
    return frechet_distance(pairs[:, 0], pairs[:, 1])


def _match_peak(sounds: NDArray[np.float32]) -> NDArray[np.float32]:
    """Each sound [..., T] with a peak of 1; silence stays silent."""
    peaks = np.abs(sounds).max(axis=-1, keepdims=True)
    return (sounds / np.where(peaks > 0, peaks, 1)).astype(np.float32)


def _cell(metric: float | Interval) -> str:
    return str(metric) if isinstance(metric, Interval) else f"{metric:.3g}"
