"""The autoencoder's networks: frames add up, what looks back only does, and blocks make what the whole makes."""

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from wavesynth.errors import UserError
from wavesynth.models.autoencoder import Autoencoder, AutoencoderConfig, Decoder
from wavesynth.models.frames import noise, overlapped, pulses, ramps, windowed
from wavesynth.models.functional import initialize, pure

EPS = float(np.finfo(np.float32).eps)
RATE = 16_000
TINY = AutoencoderConfig(
    code_channels=3, hop=16, window=64, stride=2, gain_hop=8, encoder_channels=8, encoder_dilations=(1, 2), channels=12,
    dilations=(1, 4), spectral_windows=(64,), pitches=128, sample_rate=RATE,
)  # fmt: skip
FRAMES = 13
SHAPES = {
    "tiny": TINY,
    "looks ahead": replace(TINY, causal=False),
    "no pitches": replace(TINY, pitches=0),
    "bfloat16": replace(TINY, dtype="bfloat16"),
    "one frame a code, half overlapping": replace(TINY, stride=1, window=32),
    "eight windows overlap": replace(TINY, window=128, gain_hop=16),
}
KEYS = jax.random.split(jax.random.key(3), 2)
PITCH = jnp.array([69.0, jnp.nan])


@cache
def make(config: AutoencoderConfig) -> tuple[Any, Callable]:
    """Parameters, all of them drawn, so that none hides behind a zero; and the module of some."""

    def build(rngs):
        return Autoencoder(config, rngs=rngs)

    params = initialize(build, jax.random.key(0))
    leaves, tree = jax.tree.flatten(params)
    keys = jax.random.split(jax.random.key(1), len(leaves))
    drawn = [leaf + 0.05 * jax.random.normal(key, leaf.shape) for leaf, key in zip(leaves, keys, strict=True)]
    return jax.tree.unflatten(tree, drawn), pure(build)


def sounds_of(config: AutoencoderConfig, frames: int = FRAMES) -> np.ndarray:
    return 0.1 * np.random.default_rng(0).standard_normal((2, frames * config.code_hop), np.float32)


def codes_of(config: AutoencoderConfig, frames: int = FRAMES) -> np.ndarray:
    return np.random.default_rng(1).standard_normal((2, frames, config.code_channels), np.float32)


@cache
def programs(config: AutoencoderConfig) -> tuple[Callable, Callable]:
    """Whole sounds to means, and whole paths to sounds."""
    params, bind = make(config)
    encode = jax.jit(lambda sounds: bind(params).encoder(sounds))
    decode = jax.jit(lambda *given: bind(params).decoder(*given))
    return encode, lambda codes: decode(codes, PITCH, KEYS)


@pytest.fixture(scope="module")
def tiny() -> tuple[Callable, Callable]:
    return programs(TINY)


# Frames.


@pytest.mark.parametrize("window", [32, 64])
def test_windows_add_up_to_the_sound(window: int):
    hops = jnp.asarray(np.random.default_rng(0).standard_normal((2, 9, 16), np.float32))
    each = window // 16
    windows = windowed(hops, window)
    np.testing.assert_array_equal(windows[:, 3], hops[:, 3 : 3 + each].reshape(2, window))
    total, over = overlapped(windows / each, 16, jnp.zeros((2, each - 1, 16)))
    np.testing.assert_allclose(total[:, each - 1 :], hops[:, each - 1 : 10 - each], atol=8 * EPS)
    parts, kept = [], jnp.zeros((2, each - 1, 16))
    for part in (windows[:, :1], windows[:, 1:4], windows[:, 4:]):
        made, kept = overlapped(part / each, 16, kept)
        parts.append(made)
    np.testing.assert_allclose(np.concatenate(parts, axis=1), total, atol=8 * EPS)
    np.testing.assert_allclose(kept, over, atol=8 * EPS)


def test_noise_is_white_and_each_hop_has_its_own():
    whole = np.asarray(noise(KEYS, jnp.uint32(5), 64, 128))
    np.testing.assert_array_equal(noise(KEYS, jnp.uint32(9), 3, 128), whole[:, 4:7])
    np.testing.assert_array_equal(noise(KEYS[1:], jnp.uint32(5), 64, 128), whole[1:])
    count = whole[0].size
    assert whole.var() == pytest.approx(1, abs=5 / np.sqrt(count))
    neighbours = np.corrcoef(whole[0].ravel(), np.roll(whole[0].ravel(), 1))[0, 1]
    assert abs(neighbours) < 5 / np.sqrt(count)
    assert abs(np.corrcoef(whole[0].ravel(), whole[1].ravel())[0, 1]) < 5 / np.sqrt(count)


@pytest.mark.parametrize("pitch", [21.0, 57.3, 100.0])
def test_pulses_are_all_harmonics_below_half_the_rate(pitch: float):
    found = np.asarray(pulses(jnp.array([pitch, jnp.nan, 130.0]), jnp.uint32(0), 8, 64, RATE)).reshape(3, -1)
    frequency = np.float64(np.float32(440.0 * 2 ** ((pitch - 69) / 12)))
    multiples = np.arange(1, int(np.ceil(RATE / 2 / frequency)))
    wanted = np.cos(2 * np.pi * np.outer(multiples, np.arange(512)) * frequency / RATE).sum(axis=0)
    assert multiples[-1] * frequency < RATE / 2 <= (multiples[-1] + 1) * frequency
    # The phase of the highest harmonic has turned hundreds of times, each time as exactly as float32 is.
    turns = multiples[-1] * 512 * frequency / RATE
    np.testing.assert_allclose(found[0], wanted, atol=len(multiples) * 16 * EPS * turns)
    assert not found[1].any()
    np.testing.assert_allclose(found[2], 0, atol=8 * EPS)  # beyond the Nyquist frequency


def test_pulses_do_not_lose_their_phase_in_a_day():
    hop, late = 64, 16_000 * 86_400 // 64
    whole = np.asarray(pulses(jnp.array([60.0]), jnp.uint32(late), 8, hop, RATE))
    np.testing.assert_array_equal(pulses(jnp.array([60.0]), jnp.uint32(late + 5), 2, hop, RATE), whole[:, 5:7])
    spectrum = np.abs(np.fft.rfft(whole.reshape(-1) * np.hanning(512), 2**16))
    frequency = 440 * 2 ** (-9 / 12)
    low = int(1.5 * frequency / RATE * 2**16)
    assert np.argmax(spectrum[:low]) * RATE / 2**16 == pytest.approx(frequency, rel=0.01)


def test_ramps_go_straight_to_each_point():
    line = np.asarray(ramps(jnp.array([[1.0, -1.0]]), jnp.array([[0.0]]), 4))
    np.testing.assert_array_equal(line, [[0.25, 0.5, 0.75, 1.0, 0.5, 0.0, -0.5, -1.0]])


# Shapes.


@pytest.mark.parametrize("config", SHAPES.values(), ids=SHAPES.keys())
def test_shapes_of_the_shortest_sounds(config: AutoencoderConfig):
    frames = 1
    encode, decode = programs(config)
    mean, log_variance = encode(sounds_of(config, frames))
    assert mean.shape == log_variance.shape == (2, frames, config.code_channels)
    made = decode(mean)
    assert made.shape == (2, frames * config.code_hop)
    assert {mean.dtype, log_variance.dtype, made.dtype} == {jnp.dtype("float32")}
    assert np.isfinite(made).all()
    assert made.std() > 0


def test_silence_is_heard_and_has_slopes():
    params, bind = make(TINY)

    @jax.jit
    @jax.value_and_grad
    def loss(params: Any, sounds: jax.Array, keys: jax.Array) -> jax.Array:
        mean, log_variance = bind(params).encoder(sounds)
        return jnp.square(bind(params).decoder(mean + log_variance, PITCH, keys)).sum()

    value, input_gradients = loss(params, jnp.zeros((2, FRAMES * TINY.code_hop)), KEYS)
    assert np.isfinite(value)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(input_gradients))
    assert np.any(input_gradients["encoder"]["out"])


WRONG = [
    (dict(window=100), "window is 100: it must be a multiple of the hop 16, 2 to 64 times as long"),
    (dict(window=16), "window is 16: it must be a multiple of the hop"),
    (dict(window=2_048), "window is 2048: it must be a multiple of the hop"),
    (dict(window=63), "window is 63: it must be a multiple of 2"),
    (dict(gain_hop=5), "gain_hop is 5: it must divide the hop 16"),
    (dict(dilations=(1, 0)), r"dilations\[1\] is 0: it must be at least 1"),
    (dict(stride=0), "stride is 0: it must be at least 1"),
    (dict(dilations=(1_024,) * 64, channels=8_192), "channels is 8,192: with these dilations, a stream would cache"),
    (
        dict(hop=4_096, window=8_192, stride=32, gain_hop=1),
        "stride is 32: with the hop 4096, a code would last 131,072",
    ),
]


@pytest.mark.parametrize(("change", "message"), WRONG, ids=[message for _, message in WRONG])
def test_what_cannot_be(change: dict, message: str):
    with pytest.raises(UserError, match=message):
        replace(TINY, **change)


# Time.


def test_what_looks_ahead_knows_the_future():
    encode, decode = programs(SHAPES["looks ahead"])
    codes, sounds = codes_of(TINY), sounds_of(TINY)
    later, other = codes.copy(), sounds.copy()
    later[:, 6:] += 1
    other[:, 8 * TINY.code_hop :] *= -3
    assert (np.asarray(decode(later)) != decode(codes))[:, 5 * TINY.code_hop : 6 * TINY.code_hop].any()
    assert (np.asarray(encode(other)[0]) != encode(sounds)[0])[:, 5].any()


# Pitch and chance.


def test_an_untrained_decoder_is_in_tune():
    config = AutoencoderConfig(channels=16, dilations=(1,), pitches=128, sample_rate=RATE)
    build = lambda rngs: Autoencoder(config, rngs=rngs)  # noqa: E731
    params, bind = initialize(build, jax.random.key(0)), pure(build)
    pitches, size = np.array([45.0, 69.0, 80.5], np.float32), 2**17
    still = jnp.zeros((3, 16, config.code_channels))
    keys = jax.random.split(KEYS[0], 3)
    decode = jax.jit(lambda params, *given: bind(params).decoder(*given))
    made = np.asarray(decode(params, still, jnp.asarray(pitches), keys))
    for sound, pitch in zip(made, pitches, strict=True):
        spectrum = np.abs(np.fft.rfft(sound * np.hanning(len(sound)), size))
        wanted = 440 * 2 ** ((pitch - 69) / 12)
        loudest = np.argmax(spectrum) * RATE / size
        assert loudest / wanted == pytest.approx(round(loudest / wanted), rel=0.002)
        near = slice(int(0.7 * wanted / RATE * size), int(1.4 * wanted / RATE * size))
        assert (near.start + np.argmax(spectrum[near])) * RATE / size == pytest.approx(wanted, rel=0.002)
        assert spectrum[near].max() > spectrum.max() / 4


def test_each_row_has_its_own_noise_and_pitch():
    params, bind = make(TINY)
    decode = jax.jit(lambda codes, pitch, keys: bind(params).decoder(codes, pitch, keys))
    codes = np.repeat(codes_of(TINY)[:1], 2, axis=0)
    same = np.asarray(decode(codes, jnp.array([60.0, 60.0]), KEYS[jnp.array([0, 0])]))
    np.testing.assert_array_equal(same[0], same[1])
    chance = np.asarray(decode(codes, jnp.array([60.0, 60.0]), KEYS))
    np.testing.assert_array_equal(chance[0], same[0])
    assert not np.array_equal(chance[1], chance[0])
    played = np.asarray(decode(codes, jnp.array([60.0, 60.5]), KEYS[jnp.array([0, 0])]))
    np.testing.assert_array_equal(played[0], same[0])
    assert not np.array_equal(played[1], played[0])


def test_a_pitch_that_was_never_learned_changes_the_excitation_alone():
    table = jax.eval_shape(lambda: make(TINY)[0])["decoder"]["pitch"]
    fresh = initialize(lambda rngs: Decoder(TINY, rngs=rngs), jax.random.key(0))["pitch"]
    assert fresh.shape == table.shape == (128, TINY.channels)
    assert not np.any(fresh)
