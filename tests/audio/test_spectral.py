"""Spectra against known answers, and against a discrete Fourier transform written out."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_numpy

from tests.tolerances import rounding
from wavesynth.audio.spectral import (
    MelSettings,
    band_edges,
    hz_to_mel,
    log_mel,
    log_mel_distance,
    mel_filterbank,
    mel_settings,
    mel_to_hz,
    multi_resolution_distance,
    num_frames,
    stft_magnitude,
)
from wavesynth.errors import UserError

SAMPLE_RATE = 16_000
MEL = mel_settings(SAMPLE_RATE)
TOLERANCE = rounding("float32", terms=1024)  # of a transform of samples in [-1, 1]
TOLERANCE_DB = rounding("float32", terms=1024, scale=60)  # of levels that reach the floor of -60 dB


def sine(hz: float, amplitude: float = 1.0, num_samples: int = 16_000) -> np.ndarray:
    return amplitude * np.sin(2 * np.pi * hz * np.arange(num_samples) / SAMPLE_RATE)


def plain_stft(samples: np.ndarray, window: int, hop: int) -> np.ndarray:
    """The formula of the docstring in float64."""
    n = np.arange(window)
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * n / window)
    kernel = np.exp(-2j * np.pi * np.outer(np.arange(window // 2 + 1), n) / window)
    padded = np.concatenate([np.zeros(window // 2), samples, np.zeros(window)])
    frames = [padded[k * hop : k * hop + window] * hann for k in range(1 + len(samples) // hop)]
    return 2 / hann.sum() * np.abs(np.stack(frames) @ kernel.T)


@pytest.mark.parametrize("num_samples", [1, 255, 256, 257, 1024, 3000])
@pytest.mark.parametrize(("window", "hop"), [(1024, 256), (256, 256), (64, 16), (16, 1)])
def test_stft_is_the_written_out_transform(num_samples: int, window: int, hop: int) -> None:
    samples = np.random.default_rng(0).uniform(-1, 1, num_samples)
    magnitude = stft_magnitude(samples, window, hop)
    expected = plain_stft(samples, window, hop)
    assert magnitude.shape == expected.shape == (num_frames(num_samples, hop), window // 2 + 1)
    assert magnitude.dtype == jnp.float32
    np.testing.assert_allclose(magnitude, expected, atol=TOLERANCE)


@given(
    st_numpy.arrays(
        np.float32,
        st.tuples(st.integers(1, 2), st.sampled_from([1, 64, 333])),
        elements=st.floats(-1, 1, width=32),
    )
)
def test_leading_axes_are_independent(samples: np.ndarray) -> None:
    together = stft_magnitude(samples, 64, 32)
    for row, alone in zip(together, samples):
        np.testing.assert_allclose(row, stft_magnitude(alone, 64, 32), atol=TOLERANCE)


def test_a_sine_on_a_bin_reads_its_amplitude_there() -> None:
    magnitude = np.asarray(stft_magnitude(sine(hz=64 * SAMPLE_RATE / 1024, amplitude=0.5), 1024, 256))
    middle = magnitude[20]
    np.testing.assert_allclose(middle[64], 0.5, atol=TOLERANCE)
    np.testing.assert_allclose(middle[[63, 65]], 0.25, atol=TOLERANCE)  # the Hann window's main lobe
    np.testing.assert_allclose(np.delete(middle, [63, 64, 65]), 0, atol=TOLERANCE)


def test_an_impulse_is_flat() -> None:
    samples = np.zeros(4096)
    samples[2048] = 1.0
    magnitude = np.asarray(stft_magnitude(samples, 1024, 256))
    np.testing.assert_allclose(magnitude[8], 2 / 512, atol=TOLERANCE)  # the frame centred on it, where the window is 1
    np.testing.assert_allclose(magnitude[[7, 9]], 2 / 512 * 0.5, atol=TOLERANCE)
    assert not np.delete(magnitude, [7, 8, 9], axis=0).any()  # the window is zero at its start, and no wider


def test_parseval() -> None:
    """A frame's bins hold the energy of its windowed samples, and the Hann windows of all frames that of the sound."""
    samples = np.random.default_rng(1).normal(0, 0.2, 16_384)
    samples[:1024] = samples[-1024:] = 0
    magnitude = np.asarray(stft_magnitude(samples, 1024, 256), np.float64) * 512 / 2  # back to the bare transform
    magnitude[:, 1:-1] *= np.sqrt(2)  # the other half of the bins
    energy = np.sum(magnitude**2) / 1024
    hann_squared_overlap = 3 / 8 * 1024 / 256
    np.testing.assert_allclose(energy, np.sum(samples**2) * hann_squared_overlap, rtol=TOLERANCE)


@pytest.mark.parametrize("hz", [100.0, 440.0, 999.0, 1000.0, 3210.0, 7000.0])
@pytest.mark.parametrize("amplitude", [1.0, 0.1])
def test_a_sines_power_lies_in_its_band_and_adds_up(hz: float, amplitude: float) -> None:
    middle = np.asarray(log_mel(sine(hz, amplitude), SAMPLE_RATE, mel_settings(SAMPLE_RATE, floor_db=-120)))[30]
    edges = band_edges(SAMPLE_RATE, MEL)
    loudest = int(middle.argmax())
    assert edges[loudest] <= hz <= edges[loudest + 2]
    np.testing.assert_allclose(
        10 * np.log10(np.sum(10 ** (middle / 10))), 20 * np.log10(amplitude), atol=0.01
    )  # a window of 64 ms leaks


def test_silence_is_at_the_floor() -> None:
    np.testing.assert_allclose(log_mel(np.zeros(5000), SAMPLE_RATE), -60, atol=rounding("float32", scale=60))
    np.testing.assert_allclose(
        log_mel(np.zeros(5000), SAMPLE_RATE, mel_settings(SAMPLE_RATE, floor_db=-90)),
        -90,
        atol=rounding("float32", scale=90),
    )


def test_the_filters_share_out_every_bin() -> None:
    filters = mel_filterbank(SAMPLE_RATE, MEL)
    centres = band_edges(SAMPLE_RATE, MEL)[1:-1]
    hz = np.arange(513) * SAMPLE_RATE / 1024
    inside = (hz >= centres[0]) & (hz <= centres[-1])
    np.testing.assert_allclose(filters[inside].sum(axis=1), 1, atol=rounding("float32", terms=2))
    assert not filters[hz <= 40].any()
    assert np.all(np.diff(filters.argmax(axis=0)) > 0)


def test_the_mel_scale_is_slaneys() -> None:
    np.testing.assert_allclose(hz_to_mel(np.array([0.0, 200 / 3, 1000.0, 6400.0])), [0, 1, 15, 42])
    hz = np.linspace(0, 20_000, 999)
    np.testing.assert_allclose(mel_to_hz(hz_to_mel(hz)), hz, atol=rounding("float64", scale=hz, terms=4))


@pytest.mark.parametrize("sample_rate", [8_000, 11_025, 16_000, 22_050, 44_100, 48_000, 96_000])
def test_every_usual_rate_has_its_bands(sample_rate: int) -> None:
    spectrogram = log_mel(np.random.default_rng(0).normal(0, 0.3, 3000), sample_rate)
    mel = mel_settings(sample_rate)
    assert spectrogram.shape == (num_frames(3000, mel.hop), mel.num_bands)
    assert np.all(np.asarray(spectrogram)[len(spectrogram) // 2] > -60)


@pytest.mark.parametrize("sample_rate", [8_000, 11_025, 16_000, 22_050, 44_100, 48_000, 96_000])
@pytest.mark.parametrize("seconds", [0.03, 0.06, 0.12])
def test_a_window_lasts_as_long_and_a_band_is_as_wide_at_every_rate(sample_rate: int, seconds: float) -> None:
    mel = mel_settings(sample_rate, seconds=seconds, floor_db=-75.0)
    assert mel.floor_db == -75
    assert 2**-0.5 <= mel.window / sample_rate / seconds <= 2**0.5
    assert (mel.window & (mel.window - 1), mel.window // mel.hop) == (0, 4)
    edges = band_edges(sample_rate, mel)
    assert (edges[0], edges[-1]) == (pytest.approx(40), pytest.approx(min(20_000, sample_rate / 2)))
    width = (hz_to_mel(edges[-1]) - hz_to_mel(edges[0])) / (mel.num_bands + 1)
    sixteen = band_edges(SAMPLE_RATE, MEL)
    assert width == pytest.approx((hz_to_mel(sixteen[-1]) - hz_to_mel(sixteen[0])) / (MEL.num_bands + 1), rel=0.02)


@pytest.mark.parametrize("sample_rate", [16_000, 44_100])
def test_the_distance_of_several_resolutions_is_their_mean(sample_rate: int) -> None:
    a, b = np.random.default_rng(4).normal(0, 0.1, (2, 2, 4096))
    expected = []
    for window in (
        (1024, 256) if sample_rate == 16_000 else (2048, 1024)
    ):  # the powers of two nearest to these durations
        levels = [
            20 * np.log10(np.stack([plain_stft(x, window, window // 4) for x in sounds]) + 0.01) for sounds in (a, b)
        ]
        expected.append(np.abs(levels[0] - levels[1]).mean(axis=(1, 2)))
    found = multi_resolution_distance(a, b, sample_rate, floor=0.01, resolutions=(0.06, 0.018))
    np.testing.assert_allclose(found, np.mean(expected, axis=0), atol=TOLERANCE_DB)


def test_distance_is_the_gain_in_decibels() -> None:
    noise = np.random.default_rng(2).normal(0, 0.1, (2, 8192))
    gains = np.array([[2.0], [0.5]])
    distance = log_mel_distance(noise, noise * gains, SAMPLE_RATE)
    np.testing.assert_allclose(distance, 20 * np.log10(2), rtol=1e-3)  # a few bins lie at the floor
    np.testing.assert_array_equal(log_mel_distance(noise, noise, SAMPLE_RATE), np.zeros(2))


def test_channels_and_short_sounds() -> None:
    stereo = np.random.default_rng(3).normal(0, 0.1, (2, 700))  # shorter than a window
    assert log_mel(stereo, SAMPLE_RATE).shape == (2, num_frames(700, 256), 80)
    assert multi_resolution_distance(stereo, stereo[::-1], SAMPLE_RATE).shape == (2,)
    assert np.isfinite(log_mel(np.zeros(0), SAMPLE_RATE)).all()
    assert np.isnan(log_mel(np.full(700, np.nan), SAMPLE_RATE)).all()


def test_gradients_are_finite_in_silence() -> None:
    target = jnp.asarray(sine(440.0), jnp.float32)
    for distance in (
        lambda x: log_mel_distance(x, target, SAMPLE_RATE),
        lambda x: jnp.sum(stft_magnitude(x, 1024, 256)),
    ):
        assert np.isfinite(np.asarray(jax.grad(distance)(jnp.zeros_like(target)))).all()
        assert np.asarray(jax.grad(distance)(0.5 * target)).any()


def test_inside_another_jit_it_is_the_same() -> None:
    samples = jnp.asarray(sine(300.0) + sine(2000.0, 0.1), jnp.float32)
    compiled = jax.jit(log_mel, static_argnums=(1, 2))(samples, SAMPLE_RATE, MEL)
    np.testing.assert_allclose(compiled, log_mel(samples, SAMPLE_RATE), atol=TOLERANCE_DB)


@pytest.mark.parametrize(
    ("make", "argument"),
    [
        (lambda: MelSettings(window=1000, hop=256, num_bands=80), "window"),
        (lambda: MelSettings(window=1024, hop=0, num_bands=80), "window"),
        (lambda: MelSettings(window=1024, hop=256, num_bands=0), "num_bands"),
        (lambda: replace(MEL, lowest_hz=21_000), "lowest_hz"),
        (lambda: log_mel(np.zeros(100), 60), "sample_rate"),
        (lambda: log_mel(np.zeros(100), 16_000, MelSettings(window=128, hop=32, num_bands=80)), "num_bands"),
        (lambda: log_mel_distance(np.zeros(100), np.zeros(101), 16_000), "b"),
    ],
)
def test_impossible_settings_are_named(make, argument: str) -> None:
    with pytest.raises(UserError, match=f"^{argument}: "):
        make()
