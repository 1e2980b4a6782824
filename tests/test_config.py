"""Configs travel as JSON and come back the same; what does not fit is named with its file and field."""

import dataclasses
import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wavesynth.config import Config, DatasetInfo, TrainingConfig, check_seed, from_dict, to_json
from wavesynth.errors import UserError
from wavesynth.families import FAMILIES, bind, family_type, preset, presets
from wavesynth.fields import Choice, Flag, allowed_values

WHERE = "runs/mine/config.json: training"


@pytest.mark.parametrize("name", presets())
def test_every_preset_comes_back_from_json(name: str):
    config = preset(name)
    kind = family_type(config.family)
    assert kind.name == config.family
    assert from_dict(kind.model_config, json.loads(to_json(config.model)), name) == config.model
    assert from_dict(kind.training_config, json.loads(to_json(config.training)), name) == config.training
    dataset = DatasetInfo(16_000, ("kick", "ÿ\udce9"), True, 0.5)
    assert from_dict(DatasetInfo, json.loads(to_json(dataset)), name) == dataset
    adapted = kind.adapt(config.model, dataset)
    assert kind.adapt(adapted, dataset) == adapted
    assert from_dict(kind.model_config, json.loads(to_json(adapted)), name) == adapted
    assert bind(config.family, adapted, dataset).shapes()


def test_every_preset_is_of_a_known_family():
    assert set(presets()) == {name for family in FAMILIES.values() for name in family.presets}
    with pytest.raises(UserError, match=r"preset is 'wavenet-huge': choose one of .*wavenet-small"):
        preset("wavenet-huge")
    with pytest.raises(UserError, match=r"family is 'rnn', which neither this version of wavesynth nor .*wavenet"):
        family_type("rnn")


def values(**changes: object) -> dict:
    return json.loads(to_json(TrainingConfig())) | changes


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (values(stepz=3), "has the unknown field 'stepz': it was written by another version"),
        (values(steps="many"), "steps is 'many': it must be a whole number"),
        (values(steps=2.5), "steps is 2.5: it must be a whole number"),
        (values(steps=True), "steps is True: it must be a whole number"),
        (values(steps=None), "steps is None: it must be a whole number"),
        (values(learning_rate="fast"), "learning_rate is 'fast': it must be a number"),
        (values(learning_rate=False), "learning_rate is False: it must be a number"),
        (values(optimizer="sgd"), "optimizer is 'sgd': choose one of 'adamw', 'muon'"),
        (values(optimizer=["muon"]), r"optimizer is \['muon'\]: choose one of"),
        (values(steps=0), "steps is 0: it must be at least 1"),
        (values(ema=1.0), "ema is 1.0: it must be at least 0 and below 1"),
        (values(ema=math.nan), "ema is nan"),
        (values(learning_rate=math.nan), "learning_rate is nan: it must be a finite number"),
        (values(preview_seconds=math.inf), "preview_seconds is inf: it must be a finite number"),
        (values(weight_decay=-1), "weight_decay is -1: it must be at least 0"),
        (values(seed=2**32), "seed is 4294967296: it must be at least 0 and at most 4,294,967,295"),
        ([1, 2], r"holds \[1, 2\], not the fields of TrainingConfig"),
        (None, "holds None, not the fields of TrainingConfig"),
    ],
)
def test_what_does_not_fit_is_named(fields: object, message: str):
    with pytest.raises(UserError, match=f"^runs/mine/config.json: training:? {message}") as error:
        from_dict(TrainingConfig, fields, WHERE)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({}, "lacks the field 'sample_rate'"),
        ({"sample_rate": 16_000, "labels": "kick"}, "labels is 'kick': it must be a list"),
        ({"sample_rate": 16_000, "labels": ["kick", 3]}, r"labels\[1\] is 3: it must be text"),
        ({"sample_rate": 16_000, "pitched": 1}, "pitched is 1: it must be true or false"),
        ({"sample_rate": 0}, "sample_rate is 0: it must be at least 1,000 and at most 768,000"),
        ({"sample_rate": 16_000, "labels": ["kick", "kick"]}, r"labels is \('kick', 'kick'\): the labels must differ"),
        ({"sample_rate": 16_000, "pitches": [60]}, r"pitches is \(60.0,\): give the lowest and the highest, or none"),
        ({"sample_rate": 16_000, "pitches": [62, 60]}, r"pitches is \(62.0, 60.0\): give the lowest"),
        ({"sample_rate": 16_000, "pitches": [60, 128]}, r"pitches\[1\] is 128: it must be at least 0 and at most 127"),
    ],
)
def test_a_dataset_that_does_not_fit_is_named(fields: dict, message: str):
    with pytest.raises(UserError, match=f"^config.json: dataset:? {message}"):
        from_dict(DatasetInfo, fields, "config.json: dataset")


@dataclasses.dataclass(frozen=True)
class Odd:
    maybe: int | None = None
    floats: tuple[float, ...] = ()


def test_optional_fields_and_tuples():
    assert from_dict(Odd, {}, "x") == Odd()
    assert from_dict(Odd, {"maybe": None, "floats": [1, 2.5]}, "x") == Odd(None, (1.0, 2.5))
    with pytest.raises(UserError, match="x: maybe is 'a': it must be a whole number"):
        from_dict(Odd, {"maybe": "a"}, "x")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=4,
)


@given(st.dictionaries(st.sampled_from([f.name for f in dataclasses.fields(TrainingConfig)]), json_values, max_size=3))
def test_any_json_is_a_config_or_a_user_error(changes: dict):
    made, message = TrainingConfig(), "config.json"
    try:
        made = from_dict(TrainingConfig, changes, "config.json")
    except UserError as error:
        message = str(error)
    assert message.startswith("config.json")
    hash(made)  # whatever was taken is made of plain values


@pytest.mark.parametrize("optimizer", ["sgd", "", None])
def test_a_config_is_checked_when_made(optimizer):
    with pytest.raises(UserError, match=r"optimizer is .*: choose one of 'adamw', 'muon'"):
        TrainingConfig(optimizer=optimizer)
    with pytest.raises(UserError, match="crop_seconds is -1: it must be at least 0"):
        dataclasses.replace(TrainingConfig(), crop_seconds=-1)


def test_configs_cannot_be_changed():
    config = Config("wavenet", None, TrainingConfig())
    for target in (config, config.training, DatasetInfo(16_000)):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(target, dataclasses.fields(target)[0].name, 3)


def test_labels_are_looked_up():
    dataset = DatasetInfo(16_000, ("kick", "snare"))
    assert [dataset.label_index(label) for label in (None, "kick", "snare")] == [-1, 0, 1]
    with pytest.raises(UserError, match=r"label is 'hat', which the model does not know: .* \(kick, snare\)"):
        dataset.label_index("hat")
    with pytest.raises(UserError, match="trained without labels"):
        DatasetInfo(16_000).label_index("hat")


@pytest.mark.parametrize("name", FAMILIES)
def test_every_choice_of_a_shape_can_be_built(name: str):
    family, dataset = FAMILIES[name], DatasetInfo(16_000, ("a", "b"), True, 1.0, (60.0, 61.0))
    base = {"wavenet": dict(stacks=1, layers_per_stack=1), "wavegan": dict(strides=(64, 64))}.get(name, {})
    partners = {"output": {"quantization": "mulaw"}}  # a softmax needs it
    none = {"vector_channels", "period_taps", "phase_shuffle", "style_channels", "noise_channels", "output_filter"}
    for field, allowed in allowed_values(family.model_config).items():
        values = allowed.values if isinstance(allowed, Choice) else (True, False) if isinstance(allowed, Flag) else ()
        for value in (*values, *([0, 3] if field in none else [])):
            model = family.model_config(**base | partners.get(field, {}) | {field: value})
            assert bind(name, family.adapt(model, dataset), dataset).shapes()


@pytest.mark.parametrize("seed", [0, 2**32 - 1])
def test_seeds(seed: int):
    check_seed(seed)
    for wrong in (seed - 2**32, seed + 2**32):
        with pytest.raises(UserError, match=f"seed is {wrong}: it must be a whole number from 0 to 4294967295"):
            check_seed(wrong)


@pytest.mark.parametrize("seed", [True, 1.0, "1", None, math.nan, np.float32(1)])
def test_seeds_are_whole_numbers(seed: object):
    check_seed(np.uint32(3))  # type: ignore[arg-type]
    with pytest.raises(UserError, match=r"^seed is .*: it must be a whole number from 0 to 4294967295"):
        check_seed(seed)  # type: ignore[arg-type]


def test_a_config_holds_a_training_config():
    with pytest.raises(UserError, match="training is None: give a TrainingConfig"):
        Config("wavenet", None, None)  # type: ignore[arg-type]
