"""A classifier of the shipped sounds: trained for seconds, it recognises most of them; errors are one clear line."""

import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest
import soundfile

import wavesynth
from tests.tolerances import assert_close, rounding
from wavesynth import Synth, UserError
from wavesynth.config import DatasetInfo
from wavesynth.data.shards import Shards
from wavesynth.evaluation.sample_sets import SampleSet, gather
from wavesynth.families import Judging, bind, preset, require
from wavesynth.families.classifier import ROWS

UNIFORM = 1 / 9
PRESET = preset("classifier")
CONFIG = dataclasses.replace(
    PRESET,
    training=dataclasses.replace(
        PRESET.training, steps=200, batch_size=16, crop_seconds=0.512, learning_rate=5e-3, validate_every=50
    ),
)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, tiny_shards: Path, compile_cache: None) -> Path:
    folder = tmp_path_factory.mktemp("judge") / "run"
    wavesynth.train(tiny_shards, folder, CONFIG, progress=False)
    return folder


@pytest.fixture(scope="module")
def judge(run: Path) -> Synth:
    return wavesynth.load(run)


@pytest.fixture(scope="module")
def held_out(tiny_shards: Path) -> SampleSet:
    shards = Shards.open(tiny_shards)
    return gather(shards, [*shards.split("valid"), *shards.split("test")], 8_192)


def test_it_classifies_sounds(run: Path, judge: Synth, tiny_shards: Path, held_out: SampleSet):
    probabilities = judge.family.probabilities(judge.params, held_out.sounds)
    assert probabilities.shape == (len(held_out), len(judge.labels))
    assert_close(probabilities.sum(axis=1), 1.0, terms=9)
    assert np.mean(probabilities.argmax(axis=1) == held_out.labels) > 3 * UNIFORM
    learned = gather(Shards.open(tiny_shards), Shards.open(tiny_shards).split("train"), 8_192)
    assert np.mean(judge.family.probabilities(judge.params, learned.sounds).argmax(axis=1) == learned.labels) > 0.8
    assert not (run / "previews").exists()  # it generates no sounds


def test_more_sounds_than_rows_of_a_batch(judge: Synth, held_out: SampleSet):
    one = judge.family.features(judge.params, held_out.sounds[:1])
    assert one.shape == (1, 64)
    many = judge.family.features(judge.params, np.repeat(held_out.sounds[:1], ROWS + 3, axis=0))
    np.testing.assert_allclose(
        many, np.repeat(one, ROWS + 3, axis=0), rtol=0, atol=rounding("float32", 1_000, scale=one)
    )


def test_baselines(judge: Synth, tiny_shards: Path):
    learned = judge.family.windows(Shards.open(tiny_shards), CONFIG.training)
    metrics = judge.family.baselines(learned, judge.family.held_out(learned))
    assert metrics["uniform"] == pytest.approx(math.log2(9))
    clips = learned.shards.clips
    counts = {label: 1 + sum(clips[clip].label == label for clip in learned.clips) for label in judge.labels}
    bits = [math.log2(sum(counts.values()) / counts[str(clips[clip].label)]) for clip in learned.shards.split("valid")]
    assert metrics["frequencies"] == pytest.approx(np.mean(bits))


def test_windows_of_one_shots_begin_with_them_and_of_pieces_anywhere(judge: Synth, tiny_shards: Path):
    shards = Shards.open(tiny_shards)
    assert judge.family.windows(shards, CONFIG.training).whole
    pieces = dataclasses.replace(judge.family.dataset, clip_seconds=60.0)
    assert not bind("classifier", judge.family.model, pieces).windows(shards, CONFIG.training).whole


def test_it_judges_and_nothing_else(judge: Synth, tiny_synth: Synth):
    for ask, action in (
        (lambda: judge.sample(), "sample"),
        (lambda: judge.log_prob([0.1]), "score samples"),
        (lambda: judge.encode(np.ones(100) / 2), "encode, decode or morph timbres"),
        (lambda: judge.resynthesize([np.zeros(9)]), "resynthesize live sound"),
    ):
        with pytest.raises(UserError, match=f"family 'classifier' cannot {action}: it can judge sounds"):
            ask()
    with pytest.raises(UserError, match="family 'wavenet' cannot judge sounds: it can sample, score samples, encode"):
        require(tiny_synth.family, Judging)


@pytest.mark.parametrize(("labels", "have"), [((), "none"), (("kick",), "only 'kick'")])
def test_labels_are_needed(labels: tuple[str, ...], have: str):
    with pytest.raises(
        UserError, match=f"a classifier needs at least 2 labels, and the sounds have {have}: put each kind into its"
    ):
        type(bind("classifier", PRESET.model, DatasetInfo(16_000))).adapt(PRESET.model, DatasetInfo(16_000, labels))


def test_a_split_without_labels_is_named(tmp_path: Path):
    lines = ["file,label,split"]
    for i, (label, split) in enumerate([("a", "train"), ("b", "train"), ("", "valid")]):
        soundfile.write(tmp_path / f"{i}.wav", 0.5 * np.sin(np.arange(4_000) / (3 + i)), 16_000)
        lines.append(f"{i}.wav,{label},{split}")
    (tmp_path / "metadata.csv").write_text("\n".join(lines))
    with pytest.raises(UserError, match=r"no clip in the split 'valid' has a label: give labels in metadata.csv"):
        wavesynth.train(tmp_path, tmp_path.parent / "judge-of-none", CONFIG, progress=False)
