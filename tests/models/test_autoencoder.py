"""The autoencoder's networks: frames add up, what looks back only does, and blocks make what the whole makes."""

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.tolerances import assert_close
from wavesynth.errors import UserError
from wavesynth.models.autoencoder import (
    COMMON,
    LEVEL_UNIT,
    MOST_LEVEL,
    QUIETEST,
    Autoencoder,
    AutoencoderConfig,
    Decoder,
    amplitude,
)
from wavesynth.models.frames import noise, overlapped, pulses, ramps, windowed
from wavesynth.models.functional import initialize, pure
from wavesynth.models.layers import PITCH_FEATURES

EPS = float(np.finfo(np.float32).eps)
RATE = 16_000
TINY = AutoencoderConfig(
    code_channels=3, hop_seconds=0.001, overlap=4, stride=2, gains=2, encoder_channels=8, encoder_dilations=(1, 2),
    channels=12, dilations=(1, 4), spectral_windows=(0.004,), pitches=128, long_seconds=0.02, sample_rate=RATE,
)  # fmt: skip
UNPITCHED = replace(TINY, pitches=0, tones=(440.0, 1_234.5, 3_000.0))
FRAMES = 13
SHAPES = {
    "tiny": TINY,
    "looks ahead": replace(TINY, causal=False),
    "no pitches": UNPITCHED,
    "without the long window": replace(TINY, long_seconds=0.0),
    "bfloat16": replace(TINY, dtype="bfloat16"),
    "one frame a code, half overlapping": replace(TINY, stride=1, overlap=2),
    "eight windows overlap": replace(TINY, overlap=8, gains=1),
    "stereo": replace(TINY, audio_channels=2),
    "stereo, no pitches": replace(UNPITCHED, audio_channels=2),
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
    shape = (2, config.audio_channels, frames * config.code_hop)
    return 0.1 * np.random.default_rng(0).standard_normal(shape, np.float32)


def codes_of(config: AutoencoderConfig, frames: int = FRAMES) -> np.ndarray:
    """Features, and levels of -42 to -33 dB of full scale."""
    codes = np.random.default_rng(1).standard_normal((2, frames, config.code_width), np.float32)
    codes[..., -1] = 1.45 + 0.1 * np.tanh(codes[..., -1])
    return codes


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
    assert mean.shape == (2, frames, config.code_channels + 1)
    assert log_variance.shape == (2, frames, config.code_channels)
    made = decode(mean)
    assert made.shape == (2, config.audio_channels, frames * config.code_hop)
    assert {mean.dtype, log_variance.dtype, made.dtype} == {jnp.dtype("float32")}
    assert np.isfinite(made).all()
    assert made.std() > 0


@pytest.mark.parametrize("config", [TINY, SHAPES["stereo"]], ids=["mono", "stereo"])
def test_silence_is_decoded_as_silence_and_has_gradients(config: AutoencoderConfig):
    params, bind = make(config)

    @jax.jit
    @jax.value_and_grad
    def loss(params: Any, sounds: jax.Array, keys: jax.Array) -> jax.Array:
        mean, log_variance = bind(params).encoder(sounds)
        features = mean[..., : log_variance.shape[-1]] + log_variance
        codes = jnp.concatenate([features, mean[..., log_variance.shape[-1] :]], axis=-1)
        return jnp.square(bind(params).decoder(codes, PITCH, keys)).sum()

    value, input_gradients = loss(params, jnp.zeros((2, config.audio_channels, FRAMES * config.code_hop)), KEYS)
    assert np.isfinite(value)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(input_gradients))
    assert value == 0


@pytest.mark.parametrize("config", [TINY, SHAPES["stereo"]], ids=["mono", "stereo"])
def test_a_sound_in_silence_has_gradients(config: AutoencoderConfig):
    """Codes of silence before and after a sound, and of a silent channel, do no harm to the gradients of the others."""
    params, bind = make(config)
    sounds = np.zeros((2, config.audio_channels, FRAMES * config.code_hop), np.float32)
    sounds[:, 0, 4 * config.code_hop : 7 * config.code_hop] = 0.1

    @jax.jit
    @jax.grad
    def gradients(given: Any) -> jax.Array:
        mean, log_variance = bind(given[0]).encoder(given[1])
        return jnp.square(bind(given[0]).decoder(mean, PITCH, KEYS)).sum() + jnp.square(log_variance).sum()

    found = gradients((params, sounds))
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(found))
    assert np.any(found[0]["encoder"]["out"])
    assert np.any(found[0]["decoder"]["out"])
    assert np.any(found[1])


@pytest.mark.parametrize("config", [TINY, SHAPES["stereo"]], ids=["mono", "stereo"])
def test_features_of_silence_are_zero(config: AutoencoderConfig):
    params, bind = make(config)
    sounds = sounds_of(config)
    sounds[0] = 0
    sounds[1, :, -4 * config.code_hop :] = 0
    for part in bind(params).encoder(sounds):
        assert not np.any(part[0])
        assert not np.any(part[1, -4:])
        assert np.all(part[1, :-4])


def test_the_smallest_gains_are_finite():
    """A network that closes all gains of a code plays it evenly."""
    params, bind = make(TINY)
    codes, gains = codes_of(TINY), slice(-TINY.gains, None)
    decoder = params["decoder"]
    closed, equal = (
        params | {"decoder": decoder | {
            "out": decoder["out"].at[:, gains].set(0), "out_bias": decoder["out_bias"].at[gains].set(value)
        }}
        for value in (-200.0, 0.0)
    )  # fmt: skip

    def loss(params: Any) -> jax.Array:
        return jnp.square(bind(params).decoder(codes, PITCH, KEYS)).sum()

    values, gradients = zip(*(jax.jit(jax.value_and_grad(loss))(each) for each in (closed, equal)), strict=True)
    assert_close(values[0], values[1], terms=codes.size)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradients[0]))


WRONG = [
    (dict(overlap=3), "overlap is 3: choose one of 2, 4, 8, 16"),
    (dict(overlap=1), "overlap is 1: choose one of"),
    (dict(overlap=32), "overlap is 32: choose one of"),
    (dict(overlap=4.0), "overlap is 4.0: choose one of"),
    (dict(gains=5), "gains is 5: choose one of 1, 2, 4, 8, 16"),
    (dict(hop_seconds=0.0), "hop_seconds is 0.0: it must be at least 0.0005 and at most 0.1"),
    (dict(causal=1), "causal is 1: it must be true or false"),
    (dict(audio_channels=3), "audio_channels is 3: it must be at least 1 and at most 2"),
    (dict(dilations=(1, 0)), r"dilations\[1\] is 0: it must be at least 1"),
    (dict(stride=0), "stride is 0: it must be at least 1"),
    (dict(dilations=(1_024,) * 64, channels=8_192), "channels is 8,192: with these dilations, a stream would cache"),
    (
        dict(hop_seconds=0.1, sample_rate=44_100, stride=32),
        "stride is 32: with the hop 4096, a code would last 131,072",
    ),
]


@pytest.mark.parametrize(("change", "message"), WRONG, ids=[message for _, message in WRONG])
def test_what_cannot_be(change: dict, message: str):
    with pytest.raises(UserError, match=message):
        replace(TINY, **change)


@pytest.mark.parametrize("sample_rate", [8_000, 22_050, 44_100, 96_000])
def test_a_hop_lasts_as_long_at_every_rate(sample_rate: int):
    config = AutoencoderConfig(sample_rate=sample_rate)
    assert 2**-0.5 <= config.hop / sample_rate / config.hop_seconds <= 2**0.5
    assert (config.window, config.gain_hop * config.gains) == (config.overlap * config.hop, config.hop)
    assert (config.code_hop, config.bins) == (config.stride * config.hop, config.window // 2 + 1)
    assert AutoencoderConfig(hop_seconds=0.0005, gains=16, sample_rate=8_000).gain_hop == 1  # the shortest


# Time.


def test_what_looks_ahead_knows_the_future():
    encode, decode = programs(SHAPES["looks ahead"])
    codes, sounds = codes_of(TINY), sounds_of(TINY)
    later, other = codes.copy(), sounds.copy()
    later[:, 6:, : TINY.code_channels] += 1
    other[..., 8 * TINY.code_hop :] *= -3
    assert (np.asarray(decode(later)) != decode(codes))[..., 5 * TINY.code_hop : 6 * TINY.code_hop].any()
    assert (np.asarray(encode(other)[0]) != encode(sounds)[0])[:, 5].any()


# Pitch and chance.


@pytest.mark.parametrize("rate", [RATE, 44_100])
def test_an_untrained_decoder_is_in_tune(rate: int):
    config = AutoencoderConfig(channels=16, dilations=(1,), pitches=128, sample_rate=rate)
    build = lambda rngs: Autoencoder(config, rngs=rngs)  # noqa: E731
    params, bind = initialize(build, jax.random.key(0)), pure(build)
    pitches, size = np.array([45.0, 69.0, 80.5], np.float32), 2**17
    still = jnp.zeros((3, 16, config.code_width)).at[..., -1].set(1.8)
    keys = jax.random.split(KEYS[0], 3)
    decode = jax.jit(lambda params, *given: bind(params).decoder(*given))
    made = np.asarray(decode(params, still, jnp.asarray(pitches), keys))[:, 0]
    for sound, pitch in zip(made, pitches, strict=True):
        spectrum = np.abs(np.fft.rfft(sound * np.hanning(len(sound)), size))
        wanted = 440 * 2 ** ((pitch - 69) / 12)
        loudest = np.argmax(spectrum) * rate / size
        assert loudest / wanted == pytest.approx(round(loudest / wanted), rel=0.002)
        near = slice(int(0.7 * wanted / rate * size), int(1.4 * wanted / rate * size))
        assert (near.start + np.argmax(spectrum[near])) * rate / size == pytest.approx(wanted, rel=0.002)
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
    assert fresh.shape == table.shape == (PITCH_FEATURES, TINY.channels)
    assert not np.any(fresh)


# Levels.

UNTRAINED = AutoencoderConfig(
    encoder_channels=16, encoder_dilations=(1, 2), channels=16, dilations=(1, 2), pitches=128, sample_rate=RATE
)


@cache
def untrained(config: AutoencoderConfig) -> tuple[Callable, Callable]:
    """Sounds to codes and codes to sounds, by a network as it is before training."""

    def build(rngs):
        return Autoencoder(config, rngs=rngs)

    params, bind = initialize(build, jax.random.key(0)), pure(build)
    encode = jax.jit(lambda sounds: bind(params).encoder(sounds)[0])
    return encode, jax.jit(lambda codes, pitch, keys: bind(params).decoder(codes, pitch, keys))


def given_sounds(config: AutoencoderConfig, codes: int = 24) -> dict[str, np.ndarray]:
    """Sounds [C, T] of many kinds and levels."""
    time = np.arange(codes * config.code_hop) / config.sample_rate
    tone, hiss = np.sin(2 * np.pi * 440 * time), np.random.default_rng(0).standard_normal((2, len(time)))
    fading = tone * np.exp(-time / 0.1)
    sounds = {
        "tone": 0.3 * tone,
        "noise": 0.1 * hiss[0],
        "square wave of full scale": np.sign(np.sin(2 * np.pi * 220 * time) + 1e-9),
        "tone at -60 dB": 1e-3 * 2**0.5 * tone,
        "noise at -60 dB": 1e-3 * hiss[0],
        "fading tone": 0.5 * fading,
    }
    stereo = {name: np.stack([sound, sound]) for name, sound in sounds.items()}
    stereo |= {"two noises": 0.1 * hiss, "left alone": np.stack([0.3 * tone, 0 * tone])}
    found = stereo if config.audio_channels == 2 else {name: sound[None] for name, sound in sounds.items()}
    return {name: sound.astype(np.float32) for name, sound in found.items()}


def level_db(sound: np.ndarray) -> float:
    return 10 * np.log10(np.square(sound, dtype=np.float64).mean())


@pytest.mark.parametrize("pitch", [57.0, np.nan])
@pytest.mark.parametrize("rate", [RATE, 44_100])
@pytest.mark.parametrize("audio", [1, 2])
def test_an_untrained_network_gives_back_every_sound_at_its_own_level(audio: int, rate: int, pitch: float):
    config = replace(UNTRAINED, audio_channels=audio, sample_rate=rate)
    encode, decode = untrained(config)
    sounds = given_sounds(config)
    rows = np.stack(list(sounds.values()))
    made = np.asarray(decode(encode(rows), jnp.full(len(rows), pitch), jax.random.split(KEYS[0], len(rows))))
    each = 8 * config.code_hop
    for name, sound, found in zip(sounds, rows, made, strict=True):
        for first in range(0, rows.shape[-1], each):
            wanted, had = (level_db(part[:, first : first + each]) for part in (sound, found))
            assert abs(had - wanted) < 6, f"{name}: {had:.1f} dB, not {wanted:.1f} dB, from sample {first} on"
            clipped = level_db(np.clip(found[:, first : first + each], -1, 1))  # as in a WAV file
            assert abs(clipped - wanted) < 6, f"{name}: {clipped:.1f} dB after clipping, not {wanted:.1f} dB"


@pytest.mark.parametrize("audio", [1, 2])
def test_silence_comes_back_as_exact_zeros(audio: int):
    config = replace(UNTRAINED, audio_channels=audio)
    encode, decode = untrained(config)
    sounds = np.zeros((2, audio, 16 * config.code_hop), np.float32)
    codes = np.asarray(encode(sounds))
    assert not codes[..., -1].any()
    assert not np.asarray(decode(codes, PITCH, KEYS)).any()
    end = 6 * config.code_hop
    sounds[:, :, :end] = 0.3 * np.sin(np.arange(end) / 7)
    codes = np.asarray(encode(sounds))
    made = np.asarray(decode(codes, PITCH, KEYS))
    assert (codes[:, :6, -1] > 1.9).all()  # -20 dB and more
    assert not codes[:, 6:, -1].any()
    assert made[..., :end].std() > 0.1
    assert made[..., end : end + config.lookahead].any()  # the last windows
    assert not made[..., end + config.lookahead :].any()


@pytest.mark.parametrize("audio", [1, 2])
def test_features_do_not_depend_on_the_gain_and_the_level_is_its_logarithm(audio: int):
    config = replace(UNTRAINED, audio_channels=audio)
    encode, decode = untrained(config)
    sounds = 0.3 * np.random.default_rng(2).standard_normal((2, audio, 12 * config.code_hop)).astype(np.float32)
    loud, quiet = (np.asarray(encode(gain * sounds)) for gain in np.float32([1, 0.1]))
    terms = 4 * config.bins + 12 * config.encoder_channels  # of a spectrum and the layers after it
    # Silence, 70 dB below the quiet sounds, counts in their levels too: in float32 it is below rounding.
    assert_close(quiet[..., :-1], loud[..., :-1], terms=terms, scale=8)
    drop = (loud[..., -1] - quiet[..., -1]) * LEVEL_UNIT * 20 / np.log(10)
    np.testing.assert_allclose(drop, 20, atol=1e-3)
    made = [
        np.asarray(decode(codes, PITCH, KEYS))
        for codes in (loud, np.concatenate([loud[..., :-1], quiet[..., -1:]], -1))
    ]
    assert_close(10 * made[1], made[0], terms=terms, condition=10)


def test_a_level_stands_for_its_root_mean_square():
    encode, _ = untrained(UNTRAINED)
    sounds = np.ones((4, 1, 8 * UNTRAINED.code_hop), np.float32) * np.float32([1, 0.1, 1e-3, 0])[:, None, None]
    levels = np.asarray(encode(sounds))[:, 1:-1, -1]
    np.testing.assert_allclose(
        amplitude(jnp.asarray(levels)),
        sounds[:, :, :6].max(axis=1) + QUIETEST * (sounds[:, :, :6].max(axis=1) == 0),
        rtol=1e-3,
    )
    np.testing.assert_array_equal(amplitude(jnp.array([-3.0, 99.0])), amplitude(jnp.array([0.0, MOST_LEVEL])))


# Stereo.


def test_rows_of_stereo_sounds_do_not_mix_and_are_repeatable():
    config = SHAPES["stereo"]
    encode, decode = programs(config)
    sounds, codes = sounds_of(config), codes_of(config)
    others, changed = sounds.copy(), codes.copy()
    others[1, 0] *= -3
    changed[1, :, 0] += 1
    for function, given, other in ((lambda x: encode(x)[0], sounds, others), (decode, codes, changed)):
        before = np.asarray(function(given))
        np.testing.assert_array_equal(function(given), before)
        after = np.asarray(function(other))
        np.testing.assert_array_equal(after[0], before[0])
        assert not np.array_equal(after[1], before[1])


def test_channels_that_are_swapped_or_inverted_have_other_codes():
    encode, decode = programs(SHAPES["stereo"])
    sounds = sounds_of(SHAPES["stereo"])
    before = np.asarray(encode(sounds)[0])
    for other in (sounds[:, ::-1], sounds * np.float32([[1], [-1]]), np.repeat(sounds[:, :1], 2, axis=1)):
        assert not np.array_equal(encode(other)[0], before)
    assert not np.array_equal(*np.moveaxis(np.asarray(decode(before)), 1, 0))


def test_the_noise_of_both_channels_is_partly_common():
    """As an untrained network mixes it: the correlation of left and right is that of its parameters."""
    config = replace(UNTRAINED, audio_channels=2, pitches=0)
    _, decode = untrained(config)
    codes = np.zeros((1, 64, config.code_width), np.float32)
    codes[..., -1] = 1.8
    ((left, right),) = np.asarray(decode(codes, PITCH[:1], KEYS[:1]))
    assert np.corrcoef(left, right)[0, 1] == pytest.approx(np.tanh(COMMON), abs=0.05)
    assert level_db(left) == pytest.approx(level_db(right), abs=1)


@pytest.mark.parametrize("correlation", [-0.9, 0.0, 0.7])
def test_the_tones_of_both_channels_have_any_correlation(correlation: float):
    config = replace(UNTRAINED, audio_channels=2, pitches=0, tones=(431.0, 1_234.5, 3_000.0))
    params, bind = make(config)
    place = 2 * config.filters * config.bins + config.bins  # behind the filters and the correlations of noise
    bias = params["decoder"]["out_bias"].at[place : place + len(config.tones)].set(np.arctanh(correlation))
    hushed = bias.at[: 2 * config.filters * config.bins].set(-20.0)
    params["decoder"] |= {"out_bias": hushed, "out": jnp.zeros_like(params["decoder"]["out"])}
    codes = np.zeros((1, 64, config.code_width), np.float32)
    codes[..., -1] = 1.8
    ((left, right),) = np.asarray(bind(params).decoder(codes, jnp.array([np.nan]), KEYS[:1]))
    assert np.corrcoef(left, right)[0, 1] == pytest.approx(correlation, abs=0.02)
    assert level_db(left) == pytest.approx(level_db(right), abs=0.2)


@pytest.mark.parametrize("saturated", [-50.0, 50.0])
def test_powers_of_equal_channels_have_finite_gradients(saturated: float):
    """Rounding must not make the power of their difference negative."""
    config = replace(UNTRAINED, audio_channels=2, pitches=0, tones=tuple(np.linspace(100.0, 3_000.0, 64).tolist()))
    params, bind = make(config)
    count, place = len(config.tones), 2 * config.filters * config.bins
    sizes = np.random.default_rng(0).uniform(-12, 2, count).astype(np.float32)
    filters = np.random.default_rng(1).uniform(-12, 2, config.bins).astype(np.float32)
    bias = np.array(params["decoder"]["out_bias"])
    bias[:place] = np.tile(filters, 2)
    bias[place : place + config.bins + count] = saturated
    bias[place + config.bins + count : place + config.bins + 3 * count] = np.tile(sizes, 2)
    params["decoder"] |= {"out_bias": jnp.asarray(bias), "out": jnp.zeros_like(params["decoder"]["out"])}
    codes = np.full((1, 8, config.code_width), 1.0, np.float32)

    def total(params: dict) -> jax.Array:
        hiss, size = bind(params).decoder.powers(jnp.asarray(codes))
        return jnp.log(hiss + 1e-12).sum() + jnp.log(jnp.square(size) + 1e-12).sum()

    hiss, size = bind(params).decoder.powers(jnp.asarray(codes))
    assert hiss.min() >= 0
    assert size.min() >= 0
    quiet = 3 if saturated > 0 else 2
    assert np.all(hiss[:, quiet] < 1e-5 * hiss[:, 5 - quiet])
    gradients = jax.grad(total)(params)
    assert all(bool(np.isfinite(leaf).all()) for leaf in jax.tree.leaves(gradients))
