"""Training that begins from another model: what it takes over, what starts afresh, and that it resumes exactly."""

import dataclasses
import json
import shutil
import signal
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

import wavesynth
from tests.test_train_interrupts import assert_same_training
from wavesynth import api
from wavesynth.bases import Base, _relabelled
from wavesynth.config import Config, DatasetInfo
from wavesynth.data.batches import Batches
from wavesynth.errors import UserError
from wavesynth.families import bind, family_type
from wavesynth.runs import Run
from wavesynth.training.adversarial import AdversarialTraining
from wavesynth.training.checkpoints import flatten

PUBLISHED = "checkpoints/instruments"


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory, tiny_run: Path, tiny_shards: Path) -> Path:
    """A finished run of 12 steps that began from `tiny_run`."""
    run = tmp_path_factory.mktemp("begun") / "run"
    wavesynth.train(tiny_shards, run, base=tiny_run, steps=12, progress=False)
    return run


def test_it_begins_with_the_weights_of_the_base_and_says_so(begun: Path, tiny_run: Path):
    record = json.loads((begun / "config.json").read_text())["base"]
    assert record == Base(tiny_run).record
    assert record["name"] == tiny_run.name
    own, config = api.config_of(tiny_run), api.config_of(begun)
    assert config.model == own.model
    assert config.training == dataclasses.replace(own.training, steps=12)
    assert f"begun from   {tiny_run.name}" in api.describe(begun)
    assert "begun from" not in api.describe(tiny_run)
    before, after = (flatten(wavesynth.load(run).params) for run in (tiny_run, begun))
    moved = max(float(np.abs(after[name] - value).max()) for name, value in before.items())
    assert 0 < moved < 0.2  # fresh weights would be further away


def test_the_base_stays_published_until_training_betters_it(tiny_run: Path, tiny_shards: Path, tmp_path: Path):
    config = api.config_of(tiny_run)
    spoiling = dataclasses.replace(config.training, steps=4, learning_rate=0.05, validate_every=2, warmup=0, ema=0.0)
    run = tmp_path / "run"
    wavesynth.train(tiny_shards, run, dataclasses.replace(config, training=spoiling), base=tiny_run, progress=False)
    lines = [json.loads(line) for line in (run / "journal.jsonl").read_text().splitlines()]
    steps, bits = zip(*[(line["step"], line["valid_bits"]) for line in lines if "valid_bits" in line], strict=True)
    assert steps == (0, 2, 4)
    assert bits[0] < min(bits[1:])
    before, after = (flatten(wavesynth.load(run).params) for run in (tiny_run, run))
    for name, value in before.items():
        np.testing.assert_array_equal(after[name], value)


def test_resumed_it_is_as_if_never_stopped(
    begun: Path, tiny_run: Path, tiny_shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    run, real = tmp_path / "run", Batches.batch

    def batch(self: Batches, step: int) -> Any:
        if step == 7:
            signal.raise_signal(signal.SIGINT)
        return real(self, step)

    with monkeypatch.context() as patch:
        patch.setattr(Batches, "batch", batch)
        with pytest.raises(KeyboardInterrupt, match=r"stopped at step \d of 12"):
            wavesynth.train(tiny_shards, run, base=tiny_run, steps=12, progress=False)
    record = Run(run).read_base()
    wavesynth.train(tiny_shards, run, resume=True, progress=False)
    assert Run(run).read_base() == record
    same = [Path(folder, "model.safetensors").read_bytes() for folder in (run, begun)]
    assert same[0] == same[1]


def test_stopped_before_its_first_state_it_begins_from_the_base_again(
    begun: Path, tiny_run: Path, tiny_shards: Path, tmp_path: Path
):
    base, run = tmp_path / "base", tmp_path / "run"
    shutil.copytree(tiny_run, base)
    run.mkdir()
    for name in ("config.json", "source.json"):
        shutil.copy(begun / name, run)
    config, source = (json.loads((run / name).read_text()) for name in ("config.json", "source.json"))
    config["base"]["name"] = "base"
    (run / "config.json").write_text(json.dumps(config))
    (run / "source.json").write_text(json.dumps(source | {"base": str(base)}))
    lost = tmp_path / "lost"
    shutil.copytree(run, lost)
    wavesynth.train(tiny_shards, run, resume=True, progress=False)
    assert_same_training(run, begun)

    shutil.copy(begun / "model.safetensors", base)
    with pytest.raises(UserError, match=r"the base 'base', whose weights have changed: restore it, or start over"):
        wavesynth.train(tiny_shards, lost, resume=True, progress=False)
    shutil.rmtree(base)
    with pytest.raises(UserError, match=r"the base 'base': .* holds no config.json.*restore it, or start over"):
        wavesynth.train(tiny_shards, lost, resume=True, progress=False)


def test_a_resumed_run_takes_no_other_base(begun: Path, tiny_run: Path, tiny_shards: Path):
    with pytest.raises(UserError, match=r"resume and base \(.*\) are both given: a resumed run keeps its base"):
        wavesynth.train(tiny_shards, begun, base=tiny_run, resume=True)


def test_sounds_of_another_rate_are_refused():
    name = Base(PUBLISHED).name
    message = rf"base is '{name}', of 44100 Hz, and the sounds have 16000 Hz: prepare them with --sample-rate 44100"
    with pytest.raises(UserError, match=message):
        Base(PUBLISHED).dataset(DatasetInfo(16_000))


def test_sounds_take_the_channels_of_the_base():
    assert Base(PUBLISHED).dataset(DatasetInfo(44_100, channels=1)).channels == 2


def test_stereo_sounds_are_mixed_for_a_mono_base(tiny_run: Path):
    assert Base(tiny_run).dataset(DatasetInfo(16_000, channels=2)).channels == 1


def test_a_preset_of_another_family_is_refused(tmp_path: Path, tiny_shards: Path):
    config = wavesynth.preset("wavenet-tiny")
    with pytest.raises(UserError, match=r"the family 'autoencoder', and the config is of the family 'wavenet': leave"):
        wavesynth.train(tiny_shards, tmp_path / "run", config, base=PUBLISHED)
    assert not (tmp_path / "run").exists()


def test_settings_come_from_the_preset_and_the_network_from_the_base():
    base, preset = Base(PUBLISHED), wavesynth.preset("autoencoder-tiny")
    assert base.config(preset).model == api.config_of(PUBLISHED).model != preset.model
    assert base.config(preset).training == dataclasses.replace(preset.training, expected_until=0.0)
    assert base.shaped(preset).training == preset.training  # in Python a config is used as it is
    assert AdversarialTraining().from_base().generator_from == 0.05


def adapted(base: Base, dataset: DatasetInfo) -> Any:
    return bind(base.family.name, family_type(base.family.name).adapt(base.family.model, dataset), dataset)


def test_all_published_weights_are_taken_over_and_the_rest_is_fresh():
    base = Base(PUBLISHED)
    dataset = base.dataset(
        DatasetInfo(44_100, ("voice",), clip_seconds=60.0)
    )  # without pitches: the network keeps its own
    assert dataset.pitched
    assert dataset.pitches == (28.0, 96.0)
    family = adapted(base, dataset)
    fresh = jax.tree.map(lambda leaf: np.full(leaf.shape, 7.0, leaf.dtype), family.shapes())
    params, sentence = base.fitted(fresh, family)
    published = flatten(wavesynth.load(PUBLISHED).params)
    for name, value in flatten(params).items():
        np.testing.assert_array_equal(value, published.get(name, 7.0), err_msg=name)
    assert {name.split(".")[0] for name in flatten(params)} == {"coder", "discriminators", "probe"}
    count = len(flatten(params["coder"]))
    assert sentence == f"training begins from {base.name}: {count} of its {count} arrays fit; new labels: voice"


def test_a_base_without_pitches_ignores_those_of_the_sounds(tmp_path: Path, tiny_config: Config):
    base = Base(PUBLISHED)
    base.family = bind(
        "autoencoder", base.family.model, dataclasses.replace(base.family.dataset, pitched=False, pitches=())
    )
    notes = DatasetInfo(44_100, ("a",), True, 1.0, (60.0, 60.0), channels=2, typical=((0.0, 60.0),))
    assert base.dataset(notes) == DatasetInfo(44_100, ("a",), clip_seconds=1.0, channels=2, typical=((0.0, -1.0),))


def test_labels_keep_what_they_learned_by_name(tiny_run: Path):
    base = Base(tiny_run)
    own = base.family.dataset
    known = own.labels[2], own.labels[0]
    family = adapted(base, dataclasses.replace(own, labels=(known[0], "zither", known[1]), typical=()))
    fresh = jax.tree.map(lambda leaf: np.full(leaf.shape, 7.0, leaf.dtype), family.shapes())
    params, sentence = base.fitted(fresh, family)
    table = np.asarray(wavesynth.load(tiny_run).params["label_table"])
    np.testing.assert_array_equal(params["label_table"][0], table[2])
    np.testing.assert_array_equal(params["label_table"][1], np.full(table.shape[1], 7.0))
    np.testing.assert_array_equal(params["label_table"][2], table[0])
    assert sentence.endswith("arrays fit; new labels: zither")
    assert all((np.asarray(leaf) != 7.0).any() for leaf in jax.tree.leaves(params))


def test_an_array_with_other_entries_around_those_of_the_labels():
    # As a WaveGAN's first layer: 2 latent rows, then labels, then 1 row more.
    own = np.array([[1.0], [2.0], [10.0], [20.0], [9.0]])
    fresh = np.array([[-1.0], [-2.0], [-30.0], [-20.0], [-40.0], [-9.0]])
    found = _relabelled(own, fresh, 0, 2, ("a", "b"), ("c", "b", "d"))
    np.testing.assert_array_equal(found[:, 0], [1, 2, -30, 20, -40, 9])
    np.testing.assert_array_equal(_relabelled(own.T, fresh.T, 1, 2, ("a", "b"), ("c", "b", "d")), found.T)
    np.testing.assert_array_equal(_relabelled(own, own[[0, 1, 4]], 0, 2, ("a", "b"), ())[:, 0], [1, 2, 9])


@pytest.mark.parametrize("name", ["wavegan-tiny", "wavegan-paper", "wavenet-tiny", "classifier"])
def test_families_name_every_array_whose_shape_depends_on_the_labels(name: str):
    config = wavesynth.preset(name)
    kind = family_type(config.family)

    def shapes(labels: int) -> tuple[dict[str, Any], dict[str, tuple[int, int]]]:
        dataset = DatasetInfo(16_000, tuple(map(str, range(labels))), clip_seconds=1.0)
        family = kind(kind.adapt(config.model, dataset), dataset)
        return flatten(family.published(family.shapes()), asarray=False), family.label_parts()

    (two, parts), (three, same) = shapes(2), shapes(3)
    assert parts == same
    assert set(parts) == {path for path in two if two[path].shape != three[path].shape}
    for path, (axis, offset) in parts.items():
        assert three[path].shape[axis] == two[path].shape[axis] + 1 >= offset + 3
