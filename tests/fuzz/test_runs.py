"""A stranger's run: any config.json and any model.safetensors load as a working model, or fail with one clear line.

No traceback, no crash, no hang, and no more memory than the files' own size suggests.
"""

import json
import re
import resource
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file, save

import wavesynth
from wavesynth.config import FORMAT, DatasetInfo, TrainingConfig, to_json
from wavesynth.errors import UserError
from wavesynth.families import FAMILIES, presets
from wavesynth.fields import Choice, Count, Optional, Real, Whole, allowed_values
from wavesynth.training.checkpoints import flatten

quick = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
MOST_GROWTH = 300  # MB that a process may grow by, over all tries: programs, and no array that a file only speaks of

anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)


def near(allowed: Any) -> st.SearchStrategy:
    """Values at and around the limits of a field, and values of other types."""
    if isinstance(allowed, Whole):
        ends = [allowed.least or 0, allowed.most or 0, (allowed.least or 0) - 1, (allowed.most or 0) + 1]
        return st.sampled_from([*ends, 0, 1, 2, 2**31, 2**63, 10**30]) | anything
    if isinstance(allowed, Real):
        return st.sampled_from([0, -0.0, 1e-300, 1.0, 1e300, 1e308, -1]) | anything
    if isinstance(allowed, Choice):
        return st.sampled_from(allowed.values) | anything
    if isinstance(allowed, Optional):
        return st.none() | near(allowed.item)
    if isinstance(allowed, Count) and allowed.item is not None:
        return st.lists(near(allowed.item), max_size=4) | anything
    return anything


DATASET = DatasetInfo(16_000, ("a", "b"), True, 1.0, (60.0, 61.0))
SMALL = {
    "wavenet": dict(stacks=1, layers_per_stack=2, channels=4, skip_channels=4, head_channels=4, taps=4, mixtures=2),
    "autoencoder": dict(
        hop_seconds=0.001, overlap=2, gains=2, encoder_channels=4, encoder_dilations=(1,), channels=4, dilations=(1,),
    ),
}  # fmt: skip


def write_config(folder: Path, family: str, **model: Any) -> Any:
    """Writes the config.json of a network of this shape and returns its family, bound."""
    kind = FAMILIES[family]
    adapted = kind.adapt(kind.model_config(**model), DATASET)
    parts = {"model": adapted, "training": kind.training_config(), "dataset": DATASET}
    content = {"format": FORMAT, "family": family} | {name: json.loads(to_json(part)) for name, part in parts.items()}
    (folder / "config.json").write_text(json.dumps(content))
    return kind(adapted, DATASET)


@pytest.fixture(scope="module", params=SMALL)
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained run that may be damaged."""
    folder = tmp_path_factory.mktemp("fuzz")
    family = write_config(folder, request.param, **SMALL[request.param])
    shapes = flatten(family.published(family.shapes()) | family.memory_shapes(), asarray=False)
    random = np.random.default_rng(0)
    tensors = {name: random.standard_normal(leaf.shape, np.float32) for name, leaf in shapes.items()}
    (folder / "model.safetensors").write_bytes(save(tensors))
    return folder


def fails_or_loads(run: Path) -> str | None:
    """The message of a load that fails; None for one that works."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    try:
        synth = wavesynth.load(run)
    except UserError as error:
        message = str(error)
        assert str(run) in message or "parameters" in message
        assert "\n" not in message
        assert len(message) < 700
        return message
    finally:
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < MOST_GROWTH * 1024
    for name, leaf in flatten(synth.params).items():
        assert np.isfinite(leaf).all() or name == "memory.pitch"
    return None


@quick
@given(data=st.data())
def test_any_value_of_any_field(run: Path, data: st.DataObject):
    text = (run / "config.json").read_text()
    content = json.loads(text)
    part = data.draw(st.sampled_from(["model", "training", "dataset", None]))
    if part is None:
        content[data.draw(st.sampled_from([*content, "more"]))] = data.draw(anything)
    else:
        family = FAMILIES[content["family"]]
        kind = {"model": family.model_config, "training": family.training_config, "dataset": DatasetInfo}[part]
        allowed = allowed_values(kind)
        for name in data.draw(st.lists(st.sampled_from([*allowed]), min_size=1, max_size=2)):
            content[part][name] = data.draw(near(allowed[name]))
    try:
        (run / "config.json").write_text(json.dumps(content))
        fails_or_loads(run)
    finally:
        (run / "config.json").write_text(text)


@quick
@given(data=st.data())
def test_any_bytes_of_a_config(run: Path, data: st.DataObject):
    whole = (run / "config.json").read_bytes()
    content = bytearray(whole)
    for _ in range(data.draw(st.integers(1, 3))):
        first = data.draw(st.integers(0, len(content) - 1))
        last = first + data.draw(st.sampled_from([0, 1, 5, 10**6]))
        content[first:last] = data.draw(
            st.binary(max_size=6) | st.sampled_from([b"[" * 3_000, b"1e999", b"NaN", b"\xff"])
        )
    try:
        (run / "config.json").write_bytes(content)
        fails_or_loads(run)
    finally:
        (run / "config.json").write_bytes(whole)


ODD = {
    "deep": b"[" * 100_000,
    "deep object": b'{"a":' * 100_000,
    "deep and whole": b'{"format": 2, "model": ' + b"[" * 900 + b"]" * 900 + b"}",
    "nan": b'{"format": NaN}',
    "infinity": b'{"format": -Infinity}',
    "too large a number": b'{"format": 1e400}',
    "too many digits": b'{"format": ' + b"9" * 5_000 + b"}",
    "twice": b'{"format": 2, "format": 2}',
    "not utf-8": b'{"format": "\xe9"}',
    "utf-16": '{"format": 2}'.encode("utf-16"),
    "empty": b"",
    "a list": b"[]",
    "zeros": b"\0" * 1_000,
}


@pytest.mark.parametrize("content", ODD.values(), ids=ODD)
def test_json_that_is_none(run: Path, content: bytes):
    whole = (run / "config.json").read_bytes()
    try:
        (run / "config.json").write_bytes(content)
        assert fails_or_loads(run) is not None
    finally:
        (run / "config.json").write_bytes(whole)


def test_a_config_of_gigabytes_is_not_read(run: Path):
    whole = (run / "config.json").read_bytes()
    try:
        with (run / "config.json").open("wb") as file:
            file.truncate(8 * 2**30)
        assert "8,589,934,592 bytes" in (fails_or_loads(run) or "")
    finally:
        (run / "config.json").write_bytes(whole)


LARGE = {
    "wavenet": dict(channels=8_192, skip_channels=8_192, stacks=8, layers_per_stack=4),
    "wavenet-autoencoder": dict(encoder_channels=8_192),
    "wavegan": dict(channels=2_048, widest=8_192, length=2**14),
    "autoencoder": dict(channels=8_192, dilations=(1,) * 64),
    "classifier": dict(channels=8_192, layers=24),
}


@pytest.mark.parametrize("family", FAMILIES)
def test_a_network_that_its_weights_do_not_hold_is_not_made(family: str, tmp_path: Path):
    """Its config is compared with the header of the weights: nothing of that size is allocated."""
    write_config(tmp_path, family, **LARGE[family])
    (tmp_path / "model.safetensors").write_bytes(save({"front": np.zeros((3, 4), np.float32)}))
    assert re.search(
        "model.safetensors (lacks|holds)|^the model would have .* parameters", fails_or_loads(tmp_path) or ""
    )


# Weights.


@settings(quick, max_examples=15)  # tests/training/test_checkpoints.py tries more, without a model
@given(data=st.data())
def test_any_bytes_of_weights(run: Path, data: st.DataObject):
    whole = (run / "model.safetensors").read_bytes()
    header = int.from_bytes(whole[:8], "little") + 8
    content = bytearray(whole)
    kind = data.draw(st.sampled_from(["cut", "grown", "length", "header", "numbers"]))
    if kind == "cut":
        del content[data.draw(st.sampled_from([0, 4, 8, header - 1, header, len(whole) - 1])) :]
    elif kind == "grown":
        content += b"\0" * data.draw(st.integers(1, 9))
    elif kind == "length":
        content[:8] = struct.pack(
            "<Q", data.draw(st.sampled_from([0, 1, header, len(whole), 2**22 + 1, 2**63, 2**64 - 1]))
        )
    else:
        span = (8, header - 1) if kind == "header" else (header, len(whole) - 1)
        for _ in range(data.draw(st.integers(1, 4))):
            content[data.draw(st.integers(*span))] = data.draw(st.integers(0, 255))
    try:
        (run / "model.safetensors").write_bytes(content)
        fails_or_loads(run)
    finally:
        (run / "model.safetensors").write_bytes(whole)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_weights_that_are_not_finite(run: Path, bad: float):
    whole = (run / "model.safetensors").read_bytes()
    tensors = load_file(run / "model.safetensors")
    name = max(tensors, key=lambda name: tensors[name].size)
    tensors[name] = tensors[name].copy()
    tensors[name].flat[7] = bad
    try:
        (run / "model.safetensors").write_bytes(save(tensors))
        assert f": the weights are not finite numbers, {name} has 1 that are not: " in (fails_or_loads(run) or "")
    finally:
        (run / "model.safetensors").write_bytes(whole)


@pytest.mark.parametrize("name", presets())
def test_every_preset_is_allowed(name: str):
    config = presets()[name]
    assert isinstance(config.training, TrainingConfig)
    assert type(config.model)(**vars(config.model)) == config.model
