"""Metrics of sample sets whose answer is known, models evaluated from end to end, and mistakes that are named at once."""

import dataclasses
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import wavesynth
from wavesynth import Synth, UserError
from wavesynth.conditions import Conditions
from wavesynth.config import DatasetInfo, to_json
from wavesynth.data.prepare import prepare
from wavesynth.data.shards import Shards
from wavesynth.evaluation.bootstrap import Interval
from wavesynth.evaluation.sample_sets import (
    Comparison,
    Judge,
    SampleSet,
    SampleSetMetrics,
    compare,
    evenly_spaced,
    gather,
    labels_of,
    matched_by_label,
    stratified,
)
from wavesynth.families import Family, Request
from wavesynth.families.classifier import ClassifierFamily
from wavesynth.models.classifier import ClassifierConfig

RATE = 16_000
LENGTH = 2_048
LABELS = 4


def sample_set(n: int, seed: int, level: float = 0.1) -> SampleSet:
    """Noises of `LABELS` levels, a label each."""
    random = np.random.default_rng(seed)
    labels = (np.arange(n) % LABELS).astype(np.int32)
    sounds = random.normal(size=(n, LENGTH)) * level * (1.0 + labels)[:, None] / LABELS
    return SampleSet(sounds.astype(np.float32), labels)


def loudness(sounds: np.ndarray) -> np.ndarray:
    """[N, 1], the feature that separates those labels."""
    return np.sqrt(np.mean(np.square(sounds), axis=1, keepdims=True)) * LABELS / 0.1


def certain(sounds: np.ndarray) -> np.ndarray:
    """Probability 1 for the label of that level."""
    return np.eye(LABELS)[np.clip(loudness(sounds)[:, 0].round().astype(int) - 1, 0, LABELS - 1)]


JUDGE = Judge(features=loudness, probabilities=certain)
HELD_OUT, TRAINING = sample_set(40, 1), sample_set(40, 2)
LEVEL_DB = float(10 * np.log10(np.square(HELD_OUT.sounds).mean()))


def compared(generated: SampleSet, judge: Judge | None = JUDGE, training: SampleSet = TRAINING) -> SampleSetMetrics:
    library = [(str(i), sound) for i, sound in enumerate(TRAINING.sounds)]
    return compare(generated, HELD_OUT, training, library, RATE, judge, level_db=LEVEL_DB)


# What `compare` measures.


def test_a_perfect_model_has_the_metrics_of_real_sounds():
    metrics = compared(sample_set(80, 3))
    assert (metrics.generated, metrics.held_out, metrics.equal_count) == (80, 40, 40)
    assert metrics.seconds == LENGTH / RATE
    assert metrics.accuracy == Comparison(Interval(1, 1, 1), Interval(1, 1, 1))
    assert metrics.inception is not None
    assert metrics.frechet is not None
    assert metrics.inception.generated.value == pytest.approx(LABELS)
    assert metrics.inception.real.value == pytest.approx(LABELS)
    assert metrics.frechet.generated.value < 0.01
    assert metrics.frechet.real.value < 0.01
    assert abs(metrics.energy.generated - metrics.energy.real) < 0.2
    assert metrics.nearest.generated == pytest.approx(metrics.nearest.real, rel=0.05)


def test_a_model_that_generates_one_label_of_four():
    kick = sample_set(80, 3)
    kick = SampleSet(kick.sounds[kick.labels == 0], kick.labels[:20])  # labelled as all four
    metrics = compared(kick)
    assert metrics.equal_count == 20
    assert metrics.accuracy is not None
    assert metrics.inception is not None
    assert metrics.frechet is not None
    assert metrics.accuracy.generated.value == pytest.approx(1 / LABELS)
    assert metrics.accuracy.generated.low < 1 / LABELS < metrics.accuracy.generated.high
    assert metrics.inception.generated.value == pytest.approx(1)
    # Levels of 1 against levels of 1, 2, 3, 4: means 1.5 apart, variances 0 and 1.25 (over n - 1).
    assert metrics.frechet.generated.value == pytest.approx(1.5**2 + 1.25 * 20 / 19, rel=0.1)
    assert metrics.energy.generated > metrics.energy.real + 1


def test_copies_of_training_sounds_are_found():
    metrics = compared(TRAINING)
    assert metrics.nearest.generated < 0.01 < 1 < metrics.nearest.real


def test_distances_of_silence_are_large_however_quiet_the_sounds_are():
    for gain in (1.0, 1e-3):
        made, held_out = (SampleSet(np.float32(gain) * each.sounds, each.labels) for each in (TRAINING, HELD_OUT))
        metrics = compare(
            made,
            held_out,
            made,
            [(str(i), sound) for i, sound in enumerate(made.sounds)],
            RATE,
            level_db=LEVEL_DB + 20 * np.log10(gain),
        )
        assert metrics.energy.silence is not None
        assert metrics.nearest.silence is not None
        assert metrics.energy.silence > 10 * abs(metrics.energy.real) + 10
        assert metrics.nearest.silence > 2 * metrics.nearest.real


def test_sounds_without_a_label_do_not_count():
    made = sample_set(40, 3)
    half = SampleSet(made.sounds, np.where(np.arange(40) < 20, made.labels, -1))
    assert compared(half).accuracy == Comparison(Interval(1, 1, 1), Interval(1, 1, 1))
    none = SampleSet(made.sounds, np.full(40, -1, np.int32))
    metrics = compared(none)
    assert metrics.accuracy is None
    assert metrics.inception is not None


def test_what_needs_a_judge_is_left_out_without_one():
    metrics = compared(sample_set(40, 3), judge=None)
    assert (metrics.accuracy, metrics.inception, metrics.frechet) == (None, None, None)
    assert metrics.energy == compared(sample_set(40, 3)).energy


def test_sample_sets_that_do_not_fit_are_named():
    with pytest.raises(UserError, match=r"generated: sounds of shape \(1, 2048\) cannot be compared; give at least 2"):
        compared(sample_set(1, 3))
    short = SampleSet(TRAINING.sounds[:, 1:], TRAINING.labels)
    with pytest.raises(UserError, match=r"training: sounds of shape \(40, 2047\) cannot be compared"):
        compared(sample_set(40, 3), training=short)


def test_the_table_and_its_json():
    metrics = SampleSetMetrics(
        500, 203, 200, 1.024, Comparison(2.125, 0.25, 40.0), Comparison(9.0, 8.0, 30.5),
        accuracy=Comparison(Interval(0.75, 0.5, 0.8), Interval(0.9, 0.85, 0.95)),
    )  # fmt: skip
    assert str(metrics).splitlines() == [
        "500 generated and 203 held-out sounds of 1.02 seconds",
        "                            generated        real              silence  real sounds",
        "label accuracy              0.75 [0.5, 0.8]  0.9 [0.85, 0.95]           held-out sounds",
        "energy distance, dB         2.12             0.25              40       training sounds",
        "nearest training sound, dB  9                8                 30.5     held-out sounds",
    ]
    written = json.loads(to_json(metrics))
    assert written["accuracy"]["generated"] == {"value": 0.75, "low": 0.5, "high": 0.8}
    assert written["energy"] == {"generated": 2.125, "real": 0.25, "silence": 40.0}
    assert written["frechet"] is None


# Which sounds are compared.


@given(st.integers(1, 50), st.integers(1, 120))
def test_evenly_spaced_indices(count: int, n: int):
    places = evenly_spaced(count, n)
    assert len(places) == n
    frequencies = Counter(places.tolist())
    assert set(frequencies) <= set(range(count))
    assert max(frequencies.values()) - min(frequencies.get(place, 0) for place in range(count)) <= 1
    assert list(places) == sorted(places)


@pytest.mark.parametrize("n", [1, 7, 72, 150])
def test_stratified_clips_keep_the_frequencies_of_labels(tiny_shards: Path, n: int):
    shards = Shards.open(tiny_shards)
    clips = shards.split("train")
    wanted = Counter(labels_of(shards, clips).tolist())
    found = Counter(labels_of(shards, stratified(shards, clips, n)).tolist())
    for label, count in wanted.items():
        assert abs(found[label] - n * count / len(clips)) < 1


def test_matched_clips_have_the_same_labels(tiny_shards: Path):
    shards = Shards.open(tiny_shards)
    learned, held_out = shards.split("train"), [*shards.split("valid"), *shards.split("test")]
    found = matched_by_label(shards, held_out, learned, seed=0)
    assert set(found) <= set(learned)
    assert len(set(found)) == len(held_out)
    np.testing.assert_array_equal(labels_of(shards, found), labels_of(shards, held_out))
    assert found != matched_by_label(shards, held_out, learned, seed=1)
    everything = matched_by_label(
        shards, [learned[0]] * len(learned), learned, seed=0
    )  # more clips of one label than candidates
    assert sorted(everything) == sorted(learned)


def test_clips_are_cut_or_padded(tiny_shards: Path):
    shards = Shards.open(tiny_shards)
    shortest = min(range(len(shards)), key=lambda clip: shards.clips[clip].length)
    length = shards.clips[shortest].length + 100
    both = gather(shards, [shortest, shards.split("train")[0]], length)
    assert both.sounds.shape == (2, length)
    assert not both.sounds[0, -100:].any()
    np.testing.assert_array_equal(both.sounds[1], shards[shards.split("train")[0]]["samples"][0, :length])
    assert both.labels.tolist() == [
        shards.labels.index(str(shards.clips[c].label)) for c in (shortest, shards.split("train")[0])
    ]


# From end to end.


@pytest.fixture(scope="module")
def dataset(tiny_shards: Path) -> DatasetInfo:
    shards = Shards.open(tiny_shards)
    return DatasetInfo(RATE, shards.labels, pitched=True, clip_seconds=0.5)


@pytest.fixture(scope="module")
def judge(dataset: DatasetInfo) -> Synth:
    """An untrained classifier."""
    model = ClassifierFamily.adapt(ClassifierConfig(channels=4, layers=2), dataset)
    family = ClassifierFamily(model, dataset)
    return Synth(family, jax.jit(lambda: family.init(jax.random.key(0), {}))())


class Hiss(Family):
    """A family whose sounds are a quarter of a second of noise."""

    name = "hiss"
    autoregressive: ClassVar[bool] = False

    @classmethod
    def adapt(cls, model: Any, dataset: DatasetInfo) -> Any:
        return model

    autoregressive = False
    length = 4_000

    def generate(self, params: Any, conditions: Conditions, request: Request) -> Iterator[np.ndarray]:
        shape = (conditions.batch, 1, self.length)
        yield np.random.default_rng(request.seed).uniform(-1, 1, shape).astype(np.float32)

    init = shapes = objective = baselines = None  # type: ignore[assignment]


@pytest.fixture(scope="module")
def hiss(dataset: DatasetInfo) -> Synth:
    return Synth(Hiss(None, dataset), {})


def test_a_model_of_one_length_is_evaluated_at_that_length(hiss: Synth, tiny_shards: Path):
    metrics = wavesynth.evaluate(hiss, tiny_shards, n=20, progress=False)
    shards = Shards.open(tiny_shards)
    assert metrics.generated == 20
    assert metrics.held_out == min(20, len(shards.split("valid")) + len(shards.split("test")))
    assert metrics.seconds == 0.25
    assert metrics.energy.generated > 5 * abs(metrics.energy.real)  # noise is no instrument
    with pytest.raises(UserError, match=r"seconds is 0.3: this model's sounds last at most 0.25 seconds"):
        wavesynth.evaluate(hiss, tiny_shards, n=2, seconds=0.3, progress=False)


def test_a_classifier_adds_its_metrics(hiss: Synth, tiny_shards: Path, judge: Synth):
    options: dict[str, Any] = dict(n=20, seed=3, progress=False)
    metrics = wavesynth.evaluate(hiss, tiny_shards, judge, **options)
    assert metrics.accuracy is not None
    assert metrics.inception is not None
    assert metrics == wavesynth.evaluate(hiss, tiny_shards, judge, **options)
    plain = wavesynth.evaluate(hiss, tiny_shards, **options)
    assert plain == dataclasses.replace(metrics, accuracy=None, inception=None, frechet=None)


def test_labels_and_pitches_are_those_of_the_held_out_sounds(
    dataset: DatasetInfo, tiny_shards: Path, monkeypatch: pytest.MonkeyPatch
):
    class Endless(Hiss):
        length = None

    asked: list[tuple] = []

    def sample(self: Synth, n: int, seconds: float, *, label: str | None, pitch: float | None, seed: int) -> np.ndarray:
        asked.extend([(label, pitch)] * n)
        return np.random.default_rng(seed).normal(size=(n, round(seconds * RATE))).astype(np.float32) / 8

    monkeypatch.setattr(Synth, "sample", sample)
    shards = Shards.open(tiny_shards)
    held_out = [*shards.split("valid"), *shards.split("test")]
    metrics = wavesynth.evaluate(Synth(Endless(None, dataset), {}), tiny_shards, n=len(held_out), progress=False)
    wanted = Counter((shards.clips[clip].label, shards.clips[clip].pitch) for clip in held_out)
    assert Counter(asked) == wanted
    assert metrics.seconds == 0.5


def test_mistakes_are_named_before_anything_is_sampled(
    hiss: Synth, tiny_shards: Path, judge: Synth, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sounds: Path
):
    monkeypatch.setattr(Synth, "sample", lambda *_, **__: pytest.fail("it was sampled"))

    def of(synth: Synth, **dataset: Any) -> Synth:
        """The same, as if it had been trained on other sounds."""
        family = type(synth.family)(synth.family.model, dataclasses.replace(synth.family.dataset, **dataset))
        return Synth(family, synth.params)

    def fails(message: str, shards: Path = tiny_shards, classifier: Any = None, synth: Any = hiss, n: int = 9):
        with pytest.raises(UserError, match=message):
            wavesynth.evaluate(synth, shards, classifier, n=n, progress=False)

    fails("n is 1: ", n=1)
    fails("shards has 16,000 Hz, the model 8,000 Hz: give the shards for", synth=of(hiss, sample_rate=8_000))
    fails(r"shards has other labels \(cello, .*\) than the model \(a, b\): give", synth=of(hiss, labels=("a", "b")))
    fails("classifier has 8,000 Hz, the model 16,000 Hz", classifier=of(judge, sample_rate=8_000))
    fails(r"classifier has other labels \(a, b\) than the model", classifier=of(judge, labels=("a", "b")))
    fails("family 'hiss' cannot judge sounds", classifier=hiss)
    fails("holds no config.json", classifier=tmp_path)
    fails("no shards in", shards=tmp_path)
    prepare(sounds, tmp_path / "all", valid=0.0, test=0.0, workers=1, progress=False)
    fails("with 0 held-out and 72 training clips, but at least 2 of each are needed", shards=tmp_path / "all")
