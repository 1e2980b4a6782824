"""Sound arguments: what soundfile, librosa, PyTorch and JAX return is taken, exactly as a file of the same samples."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from wavesynth.audio.files import read
from wavesynth.audio.sounds import block_of, looks_like_file, samples_of
from wavesynth.errors import UserError

RATE = 16_000
TONE = 0.5 * np.sin(2 * np.pi * 440 * np.arange(4_000) / RATE)
"""Exact in float64; a step of each type below is the tolerance."""


def taken(sound: Any, own_rate: int | None = None, channels: int = 1) -> np.ndarray:
    return samples_of(sound, "sound", RATE, own_rate, channels)


class Tensor:
    """As much of a tensor of PyTorch as is used."""

    def __init__(self, values: np.ndarray, dtype: str = "torch.float32"):
        self.values, self.dtype = values, dtype

    def detach(self) -> "Tensor":
        return self

    def cpu(self) -> "Tensor":
        return self

    def float(self) -> "Tensor":
        return Tensor(self.values)

    def __array__(self, *_: Any, **__: Any) -> np.ndarray:
        assert self.dtype != "torch.bfloat16", "NumPy has no bfloat16"
        return self.values


@pytest.mark.parametrize(
    ("given", "step"),
    [
        (TONE, 2**-24),
        (TONE.astype(np.float32), 2**-24),
        (TONE.astype(">f8"), 2**-24),
        (TONE.astype(np.float16), 2**-12),
        (jnp.asarray(TONE, "bfloat16"), 2**-9),
        (jnp.asarray(TONE, "float32"), 2**-24),
        ((TONE * 2**15).astype(np.int16), 2**-15),
        ((TONE * 2**15).astype(">i2"), 2**-15),
        ((TONE * 2**31).astype(np.int32), 2**-24),
        ((TONE * 2**7).astype(np.int8), 2**-7),
        ((TONE * 2**7 + 128).astype(np.uint8), 2**-7),
        ((TONE * 2**15 + 2**15).astype(np.uint16), 2**-15),
        ((TONE * 2**31 + 2**31).astype(np.uint32), 2**-24),
        (Tensor(TONE.astype(np.float32)), 2**-24),
        (Tensor(TONE.astype(np.float32), "torch.bfloat16"), 2**-24),
        (TONE.tolist(), 2**-24),
    ],
    ids=lambda value: str(getattr(value, "dtype", type(value).__name__)),
)
def test_any_type(given: Any, step: float):
    samples = taken(given)
    assert samples.dtype == np.float32
    assert samples.shape == (1, 4_000)
    np.testing.assert_allclose(samples[0], TONE, rtol=0, atol=step)


def test_tensors_of_pytorch():
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    for dtype in (torch.float64, torch.float32, torch.float16, torch.bfloat16):
        tensor = torch.tensor(TONE, requires_grad=True).to(dtype)
        np.testing.assert_allclose(taken(tensor[None])[0], TONE, rtol=0, atol=2**-9)
    np.testing.assert_allclose(taken(torch.tensor(TONE * 2**15).short())[0], TONE, rtol=0, atol=2**-15)


@pytest.mark.parametrize(
    ("shape", "channels"),
    [((50,), 1), ((1, 50), 1), ((50, 1), 1), ((2, 50), 2), ((50, 2), 2), ((1, 2, 50), 2), ((1, 5), 1), ((3, 1), 1),
     ((8, 9), 8), ((1, 1), 1)],
)  # fmt: skip
def test_axes(shape: tuple[int, ...], channels: int):
    values = np.random.default_rng(0).uniform(-0.5, 0.5, shape).astype(np.float32)
    squeezed = values.reshape(shape[-2:]) if values.ndim == 3 else np.atleast_2d(values)
    expected = squeezed if len(squeezed) == channels and values.shape != (3, 1) else squeezed.T
    np.testing.assert_array_equal(taken(values, channels=channels), expected)
    np.testing.assert_allclose(taken(values), expected.mean(axis=0, keepdims=True), atol=2**-24)


@pytest.mark.parametrize("given", [TONE[::-1], TONE[::2], np.asfortranarray(np.stack([TONE, TONE])), TONE[:, None]])
def test_views_and_read_only_arrays(given: np.ndarray):
    given = given.view()
    given.flags.writeable = False
    samples = taken(given)
    np.testing.assert_allclose(samples, np.float32(given.reshape(1, -1) if given.ndim == 1 else samples))
    samples[0, 0] = 1  # the result is the caller's own
    assert given.flat[0] != 1


@pytest.mark.parametrize("own_rate", [8_000, 22_050, 48_000])
def test_another_rate(tmp_path: Path, own_rate: int):
    tone = 0.5 * np.sin(2 * np.pi * 440 * np.arange(own_rate // 4) / own_rate)
    samples = taken(tone, own_rate)
    np.testing.assert_allclose(samples[0, 500:3_500], TONE[500:3_500], atol=1e-3)
    np.testing.assert_array_equal(taken((tone, own_rate)), samples)
    soundfile.write(tmp_path / "x.wav", tone, own_rate, subtype="DOUBLE")
    np.testing.assert_array_equal(taken(soundfile.read(tmp_path / "x.wav")), samples)


LEVELS: list[tuple[str, Callable[[np.ndarray], np.ndarray]]] = [
    ("plain", lambda x: x),
    ("peak 1.02", lambda x: 2.04 * x),
    ("peak 3", lambda x: 6 * x),
    ("of int16", lambda x: 40_000 * x),
    ("of int24", lambda x: 2**23 * x),
    ("offset", lambda x: x + 0.4),
    ("antiphase", lambda x: np.stack([x, -x])),
    ("left only", lambda x: np.stack([x, 0 * x])),
    ("louder right", lambda x: np.stack([x, 4 * x])),
]


@pytest.mark.parametrize(("name", "change"), LEVELS, ids=[name for name, _ in LEVELS])
@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.filterwarnings("ignore:.*(peak|integers|cancel|offset)")
def test_an_array_is_treated_as_a_file_of_it(
    tmp_path: Path, name: str, change: Callable[[np.ndarray], np.ndarray], channels: int
):
    samples = change(TONE).astype(np.float32)
    soundfile.write(tmp_path / "x.wav", samples.T, 22_050, subtype="FLOAT")
    expected = read(tmp_path / "x.wav", RATE, channels)
    np.testing.assert_array_equal(taken(samples, 22_050, channels), expected)
    np.testing.assert_array_equal(taken(samples.T, 22_050, channels), expected)


def test_what_is_changed_is_warned_of():
    with pytest.warns(UserWarning, match=r"sound: peak 1\.020: scaled down to 1\.0"):
        assert np.abs(taken(TONE * 2.04)).max() == 1


def test_silence_is_a_sound():
    assert not taken(np.zeros(100)).any()
    assert not taken(np.zeros((2, 100), np.int16), 44_100).any()


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (
            np.zeros((4, 4)),
            r"sound has the shape \(4, 4\), and either axis could be its channels: give one channel \[T\]",
        ),
        (np.zeros((10, 4_000)), r"the shape \(10, 4000\): give one sound, .* at most 8 channels"),
        (np.zeros((2, 2, 50)), "the shape"),
        (np.zeros((0, 2)), "the shape"),
        ([], "the shape"),
        (0.5, "the shape"),
        (None, "sound is None: give a sound file"),
        (np.zeros(9, complex), "sound is of type complex128"),
        (np.zeros(9, bool), "sound is of type bool"),
        ([[1, 2], [3]], "sound cannot be used as samples"),
        (slice(0), "sound is of type slice"),
        (["a"], "sound is of type str"),
        (np.array([0.1, np.nan]), "NaN, infinite"),
        (np.array([0.1, 1e300]), "NaN, infinite"),
        (np.array([0.1, 1e30], np.float32), "matches no known scale"),
        ((TONE, 5), "sample_rate=5"),
        ("nowhere.wav", "nowhere.wav cannot be read: no such file"),
        ("~nobody-of-this-name/x.wav", "home folder is not known"),
    ],
    ids=str,
)
def test_mistakes(given: Any, says: str):
    with pytest.raises(UserError, match=says) as caught:
        taken(given)
    assert "\n" not in str(caught.value)


def test_too_short_for_a_sample():
    with pytest.raises(UserError, match="sound cannot be used: it is too short for one sample at 16,000 Hz"):
        taken(np.full(1, 0.5), 96_000)


@given(st.lists(st.floats(width=32), min_size=1, max_size=20), st.sampled_from([8_000, RATE, 44_100]))
@pytest.mark.filterwarnings("ignore:sound")
def test_any_floats(values: list[float], own_rate: int):
    try:
        samples = taken(values, own_rate)
    except UserError:
        return
    assert np.isfinite(samples).all()
    assert np.abs(samples).max(initial=0) <= 1


class TestBlocks:
    """A block cannot be scaled by the peak of a sound that is not over."""

    def test_values_saturate(self):
        np.testing.assert_array_equal(block_of([0.5, -1.5, 1.02], "blocks"), np.float32([[0.5, -1, 1]]))
        np.testing.assert_array_equal(block_of(np.int16([16_384]), "blocks"), [[0.5]])

    def test_channels(self):
        pair = np.stack([TONE, 0 * TONE])
        np.testing.assert_allclose(block_of(pair, "blocks")[0], TONE / 2, atol=2**-24)
        np.testing.assert_array_equal(block_of(pair.T, "blocks", 2), np.float32(pair))
        np.testing.assert_array_equal(block_of(TONE, "blocks", 2), np.float32([TONE, TONE]))

    @pytest.mark.parametrize("empty", [[], np.zeros((0, 2)), np.zeros((1, 0), np.int16)])
    def test_a_block_may_be_empty(self, empty: Any):
        assert block_of(empty, "blocks", 2).shape == (2, 0)

    @pytest.mark.parametrize("given", [[np.nan], 0.5, np.zeros((9, 9)), "x.wav"])
    def test_mistakes(self, given: Any):
        with pytest.raises(UserError, match="blocks"):
            block_of(given, "blocks")


def test_what_is_meant_as_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "take").write_text("")
    assert all(map(looks_like_file, ["flut.wav", "a/flute", "~/flute", "c:\\flute", "take"]))
    assert not any(map(looks_like_file, ["flute", "wav", "4.5", "a\0b"]))
