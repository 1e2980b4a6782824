"""Descriptors of sounds whose brightness, attack, noisiness and level are known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.tolerances import assert_close, rounding
from wavesynth.errors import UserError
from wavesynth.evaluation.descriptors import (
    SILENCE_DB,
    attack_time,
    level,
    onset_time,
    spectral_centroid,
    spectral_flatness,
)

SAMPLE_RATE = 16_000
TIME = np.arange(SAMPLE_RATE) / SAMPLE_RATE
BIN_HZ = SAMPLE_RATE / 1024


def sine(hz: float) -> np.ndarray:
    return np.sin(2 * np.pi * hz * TIME)


def noise() -> np.ndarray:
    return np.random.default_rng(1).normal(0, 0.1, SAMPLE_RATE)


def test_the_centroid_of_sines() -> None:
    sounds = np.stack([sine(100.0), sine(440.0), sine(3000.0), sine(1000.0) + 0.5 * sine(3000.0)])
    expected = [100, 440, 3000, (1000 + 0.25 * 3000) / 1.25]
    # At its ends a sine is cut, which spreads its power over some bins.
    np.testing.assert_allclose(spectral_centroid(sounds, SAMPLE_RATE), expected, atol=BIN_HZ / 2)


def test_noise_is_flat_and_a_tone_is_not() -> None:
    impulse = np.roll(np.eye(1, SAMPLE_RATE)[0], 8_192)
    flat, tone, click = np.asarray(spectral_flatness(np.stack([noise(), sine(1000.0), impulse]), SAMPLE_RATE))
    assert -0.5 < flat <= 0
    assert tone < -40
    assert click == pytest.approx(0, abs=10 * rounding("float32", terms=1024))


@pytest.mark.parametrize("sample_rate", [8_000, 44_100, 96_000])
def test_spectra_mean_the_same_at_any_rate(sample_rate: int) -> None:
    time = np.arange(sample_rate) / sample_rate
    tone, hiss = np.sin(2 * np.pi * 1000 * time), np.random.default_rng(1).normal(0, 0.1, sample_rate)
    assert float(spectral_centroid(tone, sample_rate)) == pytest.approx(1000, abs=BIN_HZ)
    assert float(spectral_centroid(hiss, sample_rate)) == pytest.approx(sample_rate / 4, rel=0.02)
    assert -0.5 < float(spectral_flatness(hiss, sample_rate)) <= 0
    assert float(spectral_flatness(tone, sample_rate)) < -35


@pytest.mark.parametrize("seconds", [0.03, 0.1, 0.4])
def test_attack_and_onset_of_a_ramp(seconds: float) -> None:
    ramp = np.clip((TIME - 0.2) / seconds, 0, 1) * sine(500.0)
    assert attack_time(ramp, SAMPLE_RATE) == pytest.approx(0.4 * seconds, abs=0.003)  # from 10 % to 50 %
    assert onset_time(ramp, SAMPLE_RATE) == pytest.approx(0.2 + 0.1 * seconds, abs=0.015)  # the window sees ahead


@pytest.mark.parametrize("sample_rate", [8_000, 16_000, 44_100])
def test_the_shortest_attack_at_any_rate(sample_rate: int) -> None:
    sudden = np.sin(np.arange(sample_rate))
    assert 0.003 < attack_time(sudden, sample_rate) < 0.006
    assert 0 <= onset_time(sudden, sample_rate) < 0.003


def test_only_the_level_depends_on_the_gain_and_channels_are_independent() -> None:
    stereo = np.stack([sine(440.0), noise()])
    for measure in (
        lambda x: spectral_flatness(x, SAMPLE_RATE),
        lambda x: spectral_centroid(x, SAMPLE_RATE),
        lambda x: attack_time(x, SAMPLE_RATE),
    ):
        loud, quiet, first = np.asarray(measure(stereo)), np.asarray(measure(0.01 * stereo)), measure(stereo[:1])
        assert loud.shape == (2,)
        assert_close(quiet, loud, terms=1024, dtype="float32", condition=8)
        assert_close(first[0], loud[0], terms=1024, dtype="float32")
    assert_close(level(0.01 * stereo), level(stereo) - 40, dtype="float32")


def test_silence_has_no_timbre_and_a_finite_gradient() -> None:
    sounds = np.stack([sine(440.0), np.zeros(SAMPLE_RATE)])
    for measure in (lambda x: spectral_centroid(x, SAMPLE_RATE), lambda x: spectral_flatness(x, SAMPLE_RATE)):
        values, gradient = jax.jit(jax.value_and_grad(lambda x, f=measure: (y := f(x), jnp.nansum(y))[1]))(sounds)
        assert np.isfinite(values)
        assert np.isfinite(gradient).all()
        assert np.asarray(gradient)[0].any()
        assert np.isnan(np.asarray(measure(sounds))).tolist() == [False, True]
    assert np.isnan(attack_time(sounds, SAMPLE_RATE)).tolist() == [False, True]
    assert np.isnan(onset_time(sounds, SAMPLE_RATE)).tolist() == [False, True]
    assert level(np.zeros(10)) == SILENCE_DB == pytest.approx(-90.309, abs=1e-3)


def test_the_gradient_of_the_centroid_is_its_slope() -> None:
    sound, direction = jnp.asarray(sine(400.0), jnp.float32), jnp.asarray(sine(2000.0), jnp.float32)
    along = jax.jit(lambda t: spectral_centroid(sound + t * direction, SAMPLE_RATE))
    step = 0.01  # the difference quotient errs by the square of it, rounding by eps / step
    slope = (along(0.3 + step) - along(0.3 - step)) / (2 * step)
    np.testing.assert_allclose(jax.grad(along)(0.3), slope, rtol=100 * step**2)


@pytest.mark.parametrize(
    "sound",
    [np.ones(1), np.full(10, 0.5), 0.1 * np.random.default_rng(0).normal(size=700)],
    ids=["one sample", "a short constant", "shorter than a window"],
)
def test_short_and_constant_sounds_have_finite_descriptors(sound: np.ndarray) -> None:
    values = [spectral_centroid(sound, SAMPLE_RATE), spectral_flatness(sound, SAMPLE_RATE), level(sound)]
    values += [attack_time(sound, SAMPLE_RATE), onset_time(sound, SAMPLE_RATE)]
    assert np.isfinite(values).all()


def test_nan_gives_nan() -> None:
    broken = np.full(700, np.nan)
    values = [spectral_centroid(broken, SAMPLE_RATE), spectral_flatness(broken, SAMPLE_RATE), level(broken)]
    values += [attack_time(broken, SAMPLE_RATE), onset_time(broken, SAMPLE_RATE)]
    assert np.isnan(values).all()


@pytest.mark.parametrize(
    ("make", "argument"),
    [
        (lambda: attack_time(noise(), 900), "sample_rate"),
        (lambda: onset_time(np.zeros((2, 0)), SAMPLE_RATE), "samples"),
        (lambda: level(0.5), "samples"),
    ],
)
def test_a_wrong_argument_is_named(make, argument: str) -> None:
    with pytest.raises(UserError, match=f"^{argument}: "):
        make()
