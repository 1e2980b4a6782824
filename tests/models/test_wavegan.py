"""WaveGAN: the published network where it is asked for, shapes for any length, and randomness that stays in its example."""

import math
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from wavesynth.audio.rates import power_of_two
from wavesynth.config import DatasetInfo
from wavesynth.errors import UserError
from wavesynth.families import preset
from wavesynth.families.wavegan import WaveGANFamily
from wavesynth.models.discriminators import Discriminators, views
from wavesynth.models.excitation import HARMONICS, excitation, harmonics, white
from wavesynth.models.functional import initialize, pure
from wavesynth.models.layers import PITCH_FEATURES
from wavesynth.models.wavegan import Generator, WaveGANConfig, stage_strides

EPS = float(jnp.finfo(jnp.float32).eps)
TINY = WaveGANConfig(
    length=1_024, strides=(8, 8), channels=4, discriminator_channels=4, latent=8, style_channels=8, periods=(2, 3),
    period_channels=4, spectral_windows=(0.004,), spectral_channels=8, phase_shuffle=1, labels=2, pitch_channels=PITCH_FEATURES,
    sample_rate=16_000,
)  # fmt: skip
BARE = replace(TINY, style_channels=0, noise_channels=0, labels=0, pitch_channels=0, smooth=False, output_filter=5)
SHAPES = {
    "tiny": TINY,
    "bare": BARE,
    "odd length, odd strides": replace(TINY, length=210, strides=(2, 5, 3)),
    "one stage, one frame": replace(TINY, length=64, strides=(64,), spectral_windows=(0.001,)),
    "bfloat16": replace(TINY, dtype="bfloat16"),
    "a stage that does not lengthen": replace(TINY, strides=(8, 8, 1)),
    "stereo": replace(TINY, audio_channels=2),
    "bare, stereo": replace(BARE, audio_channels=2),
}


def generator_of(config: WaveGANConfig) -> Callable:
    return lambda rngs: Generator(config, rngs=rngs)


def discriminators_of(config: WaveGANConfig) -> Callable:
    return lambda rngs: Discriminators(config, config.length, config.condition_channels, rngs=rngs)


def structure(make: Callable) -> dict:
    return jax.eval_shape(lambda: initialize(make, jax.random.key(0)))


def drawn(make: Callable) -> dict:
    """Parameters that are sooner made than the module's own, biases included."""
    random = np.random.default_rng(0)

    def draw(leaf: jax.ShapeDtypeStruct) -> np.ndarray:
        return random.standard_normal(leaf.shape, np.float32) / math.sqrt(max(math.prod(leaf.shape[:-1]), 1))

    return jax.tree.map(draw, structure(make))


def shapes(make: Callable) -> dict:
    return jax.tree.map(lambda leaf: leaf.shape, structure(make))


def count(make: Callable) -> int:
    return sum(leaf.size for leaf in jax.tree.leaves(structure(make)))


def play(config: WaveGANConfig) -> Callable:
    """(parameters, latent, condition, pitch, keys) to sounds."""

    def sounds(params, latent, condition, pitch, keys):
        generator = pure(generator_of(config))(params)
        return generator(generator.style(latent, condition), pitch, keys)

    return sounds


def options(config: WaveGANConfig) -> tuple:
    """Three latents, conditions, pitches and keys."""
    latent = np.random.default_rng(1).standard_normal((3, config.latent), np.float32)
    condition = np.ones((3, config.condition_channels), np.float32) / max(config.condition_channels, 1)
    return latent, condition, jnp.array([60.0, jnp.nan, 40.5]), jax.random.split(jax.random.key(2), 3)


@pytest.fixture(scope="module")
def tiny() -> Callable:
    """(latent, condition, pitch, keys) to the sounds of one network of the shape TINY."""
    params, sounds = drawn(generator_of(TINY)), jax.jit(play(TINY))
    return lambda *options: np.asarray(sounds(params, *options))


# Shapes.


@pytest.mark.parametrize("config", SHAPES.values(), ids=SHAPES)
def test_shapes_for_any_length(config: WaveGANConfig):
    made = jax.eval_shape(play(config), structure(generator_of(config)), *options(config))
    assert (made.shape, made.dtype) == ((3, config.audio_channels, config.length), jnp.float32)

    def metrics(params, sounds, key):
        return pure(discriminators_of(config))(params)(views(config, sounds), options(config)[1], key)

    scores = jax.eval_shape(metrics, structure(discriminators_of(config)), made, jax.random.key(0))
    assert (scores.shape, scores.dtype) == ((3, 1 + 2 + 1), jnp.float32)


def test_a_length_that_the_strides_do_not_divide():
    with pytest.raises(
        UserError, match=r"length is 1000, not a multiple of the strides' product 64.*next multiple is 1024"
    ):
        replace(TINY, length=1_000)
    # Seconds are rounded up to the next length that they do.
    adapted = WaveGANFamily.adapt(
        WaveGANConfig(seconds=0.0626, strides=(4, 4, 4)), DatasetInfo(16_000, ("kick",), True)
    )
    assert (adapted.length, adapted.labels, adapted.sample_rate) == (1_024, 1, 16_000)
    assert adapted.pitch_channels == PITCH_FEATURES


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(seconds=0), "seconds is 0: it must be above 0"),
        (dict(seconds=math.inf), "seconds is inf: it must be a finite number"),
        (dict(latent=0), "latent is 0: it must be at least 1"),
        (dict(strides=(1_024, 1_024, 17)), r"strides is .*: their product must be at most 16,777,216"),
        (dict(length=2**24, channels=8), "length is 16,777,216: with these channels, a sound would take 134,217,728"),
        (dict(strides=(2,) * 25), r"strides is .*: it must have 0 to 24 members"),
        (dict(strides=(4, 0)), r"strides\[1\] is 0: it must be at least 1"),
        (dict(frame_seconds=0.0), "frame_seconds is 0.0: it must be at least 0.001"),
        (dict(stages=0), "stages is 0: it must be at least 1"),
        (dict(audio_channels=0), "audio_channels is 0: it must be at least 1"),
        (dict(discriminator_channels=0, periods=(), spectral_windows=()), "give at least one discriminator"),
        (dict(spectral_windows=(66,)), r"spectral_windows\[0\] is 66: it must be at least 0.001 and at most 1"),
        (dict(spectral_windows=(0.0005,)), r"spectral_windows\[0\] is 0.0005: it must be at least 0.001"),
        (dict(dtype="float16"), "dtype is 'float16': choose one of 'float32', 'bfloat16'"),
        (dict(length=-64), "length is -64: it must be at least 0"),
        (dict(level=0.0), "level is 0.0: it must be above 0"),
        (dict(level=math.nan), "level is nan"),
        (dict(periods=(2, 1)), r"periods\[1\] is 1: it must be at least 2 and at most 4,096; period 1 is the waveform"),
        (dict(period_channels=0), "period_channels is 0: it must be at least 1"),
        (dict(spectral_channels=0), "spectral_channels is 0: it must be at least 1"),
        *(
            (dict.fromkeys((name,), -1), f"{name} is -1: it must be at least 0")
            for name in ("style_channels", "noise_channels", "output_filter", "discriminator_channels", "phase_shuffle")
        ),
    ],
)
def test_what_cannot_be(change: dict, message: str):
    with pytest.raises(UserError, match=message):
        replace(TINY, **change)


@pytest.mark.parametrize("stages", [1, 3, 5, 11, 14])
@pytest.mark.parametrize("sample_rate", [8_000, 16_000, 44_100, 96_000])
def test_stages_share_the_length_of_a_frame(stages: int, sample_rate: int):
    strides = stage_strides(0.06, stages, sample_rate)
    hop = math.prod(strides)
    assert len(strides) == stages
    assert hop == power_of_two(0.06, sample_rate)
    assert list(strides) == sorted(strides, reverse=True)
    assert strides[0] <= 2 * strides[-1]


def test_widths_of_discriminators_that_are_not_there_do_not_matter():
    assert (
        replace(TINY, periods=(), period_channels=0, spectral_windows=(), spectral_channels=0).discriminator_channels
        == 4
    )


# As published.


@pytest.fixture(scope="module")
def paper() -> WaveGANConfig:
    """For one second and a bit at 16 kHz, of sounds without labels."""
    return WaveGANFamily.adapt(preset("wavegan-paper").model, DatasetInfo(16_000))


def test_the_published_generator(paper: WaveGANConfig):
    found = shapes(generator_of(paper))
    assert found["front"] == (100, 16 * 1_024)
    channels = (1_024, 512, 256, 128, 64, 1)
    kernels = [(25, i, o) for i, o in pairwise(channels)]
    assert [found["stages"][str(i)]["kernel"] for i in range(5)] == kernels
    dense = 100 * 16_384 + 16_384
    assert count(generator_of(paper)) == dense + sum(25 * i * o + o for _, i, o in kernels)
    assert jax.eval_shape(play(paper), structure(generator_of(paper)), *options(paper)).shape == (3, 1, 16_384)


def test_the_published_discriminator(paper: WaveGANConfig):
    (found,) = shapes(discriminators_of(paper))["members"].values()
    channels = (1, 64, 128, 256, 512, 1_024)
    kernels = [(25, i, o) for i, o in pairwise(channels)]
    assert [found["kernels"][str(i)] for i in range(5)] == kernels
    assert math.prod(found["last"]) == 16 * 1_024  # to 1; no loss knows the constant that is left out
    assert count(discriminators_of(paper)) == 16_384 + sum(25 * i * o + o for _, i, o in kernels)
    assert paper.phase_shuffle == 2


# Chance and pitch.


def test_a_sound_depends_on_its_own_key_and_not_on_the_batch(tiny: Callable):
    latent, condition, pitch, keys = options(TINY)
    together = tiny(latent, condition, pitch, keys)
    # A matrix product of another size rounds otherwise: sums over at most 41 taps and 16 channels, in three stages.
    alone = tiny(latent[1:2], condition[1:2], pitch[1:2], keys[1:2])
    np.testing.assert_allclose(alone[0], together[1], atol=3 * EPS * math.sqrt(41 * 16) * together[1].std())
    others = tiny(latent, condition, pitch, keys.at[1].set(jax.random.key(99)))
    assert [np.array_equal(a, b) for a, b in zip(others, together)] == [True, False, True]


def test_a_pitch_a_condition_and_a_latent_are_heard(tiny: Callable):
    latent, condition, pitch, keys = options(TINY)
    before = tiny(latent, condition, pitch, keys)
    assert np.isfinite(before).all()
    assert (np.abs(before) <= 1).all()
    for changed in (
        (latent, condition, pitch.at[1].set(52.0), keys),
        (latent, np.where([[False], [True], [False]], np.float32(0), condition), pitch, keys),
        (np.where([[False], [True], [False]], np.float32(0.5), latent), condition, pitch, keys),
    ):
        after = tiny(*changed)
        assert [np.array_equal(a, b) for a, b in zip(after, before)] == [True, False, True]


def test_a_stereo_sound_has_two_channels_of_its_own_and_is_repeatable():
    config = replace(TINY, audio_channels=2)
    params, sounds = drawn(generator_of(config)), jax.jit(play(config))
    latent, condition, pitch, keys = options(config)
    made = np.asarray(sounds(params, latent, condition, pitch, keys))
    assert made.shape == (3, 2, config.length)
    assert np.isfinite(made).all()
    assert (np.abs(made) <= 1).all()
    assert all(not np.array_equal(left, right) for left, right in made)
    np.testing.assert_array_equal(sounds(params, latent, condition, pitch, keys), made)
    others = np.asarray(sounds(params, latent, condition, pitch, keys.at[1].set(jax.random.key(99))))
    assert [np.array_equal(a, b) for a, b in zip(others, made)] == [True, False, True]


def test_a_stereo_sound_without_a_side_is_the_mono_sound_on_both_channels():
    """The last stage makes the middle and the side: without the side's weights, left and right are alike."""
    config = replace(BARE, audio_channels=2, output_filter=0)
    mono = replace(config, audio_channels=1)
    params = drawn(generator_of(mono))
    last = max(params["stages"])
    flat = dict(params["stages"][last])
    for name in ("kernel", "bias"):
        flat[name] = np.concatenate([flat[name], np.zeros_like(flat[name])], axis=-1)
    wide = params | {"stages": params["stages"] | {last: flat}}
    both = np.asarray(jax.jit(play(config))(wide, *options(config)))
    np.testing.assert_array_equal(both[:, 0], both[:, 1])
    one = np.asarray(jax.jit(play(mono))(params, *options(mono)))[:, 0]
    # tanh(level m / sqrt(2)) on both channels.
    np.testing.assert_allclose(
        np.arctanh(both[:, 0].astype(np.float64)) * 2**0.5, np.arctanh(one.astype(np.float64)), rtol=1e-4, atol=1e-6
    )


def test_without_noise_the_key_is_not_heard():
    params, sounds = drawn(generator_of(BARE)), jax.jit(play(BARE))
    *others, keys = options(BARE)
    np.testing.assert_array_equal(sounds(params, *others, keys), sounds(params, *others, keys[::-1]))


def test_noise_is_white_and_follows_its_key_alone():
    keys = jax.random.split(jax.random.key(0), 4)
    noise, _ = (np.asarray(part) for part in white(keys, [500, 100], 3))
    assert noise.shape == (4, 500, 3)
    np.testing.assert_array_equal(white(keys[2:], [500, 100], 3)[0], noise[2:])
    assert [part.shape for part in white(keys, [500, 100], 3)] == [(4, 500, 3), (4, 100, 3)]
    assert noise.var() == pytest.approx(1, abs=5 * math.sqrt(2 / noise.size))
    flat = noise.transpose(0, 2, 1).reshape(12, 500)
    others = np.abs(np.corrcoef(flat) - np.eye(12)).max()
    assert others < 5 / math.sqrt(500)  # of chance
    assert jax.eval_shape(lambda: excitation(noise, jnp.full(4, 60.0), 16_000)).shape == (4, 500, 4)


@pytest.mark.parametrize("rate", [16_000, 1_000])
def test_harmonics_are_a_sum_of_sines(rate: int):
    pitches, length = (12.0, 24.5, 36.0, 60.0, 81.25, 100.0, 127.0), 4_096
    sines = jax.jit(harmonics, static_argnums=(1, 2))
    made = np.asarray(sines(jnp.array([*pitches, jnp.nan]), length, rate))
    assert not made[-1].any()
    for pitch, sound in zip(pitches, made):
        frequency = 440 * 2 ** ((pitch - 69) / 12)
        multiples = [k for k in range(1, HARMONICS + 1) if k * frequency < rate / 2]
        time = np.arange(length) / rate
        expected = sum((np.sin(2 * np.pi * k * frequency * time) / k for k in multiples), np.zeros(length))
        # A frequency in float32 has gone astray by eps of its turns at the end; no harmonic makes more than length / 2.
        np.testing.assert_allclose(sound, expected, atol=2 * np.pi * length * EPS)
        assert bool(multiples) == bool(sound.any())
