"""A stranger's timbre: any JSON and any numbers beside it load as a timbre that can be used, or fail with one clear line."""

import json
import math
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.numpy import save

from wavesynth.errors import UserError
from wavesynth.timbre.timbre import Timbre

quick = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=100)
PATH = Timbre(np.float32([[1, 0], [2, 0]]), "one", frame_rate=10.0, pitch=60.0, seconds=0.2, onset=0.0)
odd = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
    | st.sampled_from([1e308, 1e12, 10**400, -1, -0.0, 127, 128, "..", "/etc/passwd", [1], {"a": 1}, "x" * 10**5])
)  # fmt: skip


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    PATH.save(tmp_path / "a.json", force=True)
    return tmp_path / "a.json"


def fails_or_loads(path: Path) -> str | None:
    """The message of a timbre that cannot be loaded; None for one that can be, which then is one."""
    try:
        timbre = Timbre.load(path)
    except UserError as error:
        message = str(error)
        assert path.name in message or path.with_suffix(".safetensors").name in message
        assert message.isprintable()
        assert len(message) < 800
        return message
    assert timbre.latent.dtype == np.float32
    assert timbre.latent.ndim in (1, 2)
    assert np.isfinite(timbre.latent).all()
    assert timbre.pitch is None or 0 <= timbre.pitch <= 127
    for value in (timbre.frame_rate, timbre.seconds):
        assert value is None or 0 < value < 1e6
    assert ((timbre + 2 * timbre) / 3).latent.shape == timbre.latent.shape
    return None


@quick
@given(data=st.data())
def test_any_value_of_any_field(saved: Path, data: st.DataObject):
    PATH.save(saved, force=True)
    content = json.loads(saved.read_text())
    for name in data.draw(st.lists(st.sampled_from([*content, "more"]), min_size=1, max_size=2)):
        content[name] = data.draw(odd)
    saved.write_text(json.dumps(content))
    fails_or_loads(saved)


@quick
@given(data=st.data())
def test_any_bytes(saved: Path, data: st.DataObject):
    PATH.save(saved, force=True)
    path = data.draw(st.sampled_from([saved, saved.with_suffix(".safetensors")]))
    content = bytearray(path.read_bytes())
    first = data.draw(st.integers(0, len(content) - 1))
    content[first : first + data.draw(st.integers(0, 4))] = data.draw(st.binary(max_size=4) | st.just(b"[" * 2_000))
    path.write_bytes(content)
    fails_or_loads(saved)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("seconds", 1e308, "seconds is 1e\\+308: it must be above 0 and at most 86,400"),
        ("seconds", 0, "seconds is 0: it must be above 0"),
        ("frame_rate", 1e12, "frame_rate is 1000000000000.0: it must be above 0 and at most 768,000"),
        ("frame_rate", -5, "frame_rate is -5: it must be above 0"),
        ("frame_rate", None, "frame_rate is None and latent a path of 2 frames"),
        ("pitch", True, "pitch is True: it must be a number"),
        ("pitch", "C4", "pitch is 'C4': it must be a number"),
        ("pitch", 128, "pitch is 128: it must be at least 0 and at most 127"),
        ("onset", -1, "onset is -1: it must be at least 0"),
        ("synth", 3, "synth is 3: it must be text"),
        ("synth", "", "synth is '': it must have 1 to 256 characters"),
        ("latent", "b.safetensors", "b.safetensors cannot be read"),
        ("latent", 3, "latent is 3: it must be text"),
    ],
)
def test_what_is_refused_is_named(saved: Path, field: str, value: Any, message: str):
    content = json.loads(saved.read_text()) | {field: value}
    saved.write_text(json.dumps(content))
    with pytest.raises(UserError, match=message):
        Timbre.load(saved)
    if field != "latent":
        with pytest.raises(UserError, match=message):
            Timbre(PATH.latent, **({name: getattr(PATH, name) for name in ("synth", "frame_rate")} | {field: value}))


@pytest.mark.parametrize(
    "numbers",
    [
        {"latent": np.zeros((2, 2, 2), np.float32)},
        {"latent": np.zeros((), np.float32)},
        {"latent": np.zeros((0, 2), np.float32)},
        {"latent": np.zeros((2, 2), np.float64)},
        {"latent": np.full((2, 2), np.nan, np.float32)},
        {"other": np.zeros((2, 2), np.float32)},
        {"latent": np.zeros((2, 2), np.float32), "more": np.zeros(1, np.float32)},
    ],
    ids=lambda numbers: ", ".join(f"{name} {value.dtype} {value.shape}" for name, value in numbers.items()),
)
def test_numbers_that_are_no_latent(saved: Path, numbers: dict[str, np.ndarray]):
    saved.with_suffix(".safetensors").write_bytes(save(numbers))
    assert fails_or_loads(saved) is not None


@pytest.mark.parametrize(
    "latent",
    [
        [],
        [[]],
        np.zeros((2, 2, 2)),
        3.0,
        "abc",
        [1, "a"],
        [[1, 2], [3]],
        [np.nan],
        [math.inf],
        [1e39],
        [True],
        [1j],
        None,
    ],
    ids=repr,
)
def test_a_latent_is_a_point_or_a_path_of_finite_numbers(latent: Any):
    with pytest.raises(UserError, match=r"^latent "):
        Timbre(latent, "one", 10.0)


def test_nothing_waits_for_a_pipe(saved: Path):
    saved.unlink()
    os.mkfifo(saved)
    assert "it is not a file" in (fails_or_loads(saved) or "")
    saved.unlink()
    PATH.save(saved, force=True)
    saved.with_suffix(".safetensors").unlink()
    os.mkfifo(saved.with_suffix(".safetensors"))
    assert "it is not a file" in (fails_or_loads(saved) or "")


def test_a_file_of_gigabytes_is_not_read(saved: Path):
    with saved.open("ab") as file:
        file.truncate(2**33)
    assert "8,589,934,592 bytes" in (fails_or_loads(saved) or "")
