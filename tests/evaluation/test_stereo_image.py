"""The stereo image: panned, decorrelated and inverted noise, and what is too quiet to count."""

import numpy as np
import pytest

from wavesynth.audio.spectral import log_mel_distance
from wavesynth.errors import UserError
from wavesynth.evaluation.stereo_image import image_error, stereo_image

RATE = 44_100


def noise(seed: int, seconds: float = 1.0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 0.1, round(seconds * RATE)).astype(np.float32)


@pytest.mark.parametrize("gain", [0.25, 1.0, 2.0])
def test_panned_noise_has_the_level_difference_of_its_gains(gain: float):
    image = stereo_image(np.stack([noise(0), gain * noise(0)]), RATE)
    np.testing.assert_allclose(image.level, 20 * np.log10(gain), atol=1e-3)
    np.testing.assert_allclose(image.correlation, 1.0, atol=1e-3)


@pytest.mark.parametrize("share", [-1.0, -0.5, 0.0, 0.6, 1.0])
def test_the_correlation_is_the_share_of_common_noise(share: float):
    right = share * noise(0, 10) + np.sqrt(1 - share**2) * noise(1, 10)
    measured = stereo_image(np.stack([noise(0, 10), right]), RATE).correlation
    assert np.median(np.abs(measured - share)) < 0.05


def test_the_error_counts_the_bands_with_sound():
    hz = np.arange(RATE // 2 + 1)[None]
    spectrum = np.fft.rfft(np.stack([noise(0), noise(0)]))
    low = np.fft.irfft(spectrum * (hz < 2_000)).astype(np.float32)
    swapped = np.fft.irfft(spectrum * ((hz < 2_000) + 1e-5 * np.array([[0.1], [1.0]])), RATE).astype(np.float32)
    assert image_error(low, swapped, RATE).level < 0.1  # 20 dB apart above 2 kHz, 100 dB below the rest
    assert image_error(low, low * np.array([[1.0], [0.5]], np.float32), RATE).level == pytest.approx(6.02, abs=0.01)
    assert image_error(low, low * np.array([[1.0], [-1.0]], np.float32), RATE).correlation == pytest.approx(2, abs=0.01)


def test_mono_and_silence_are_refused():
    with pytest.raises(UserError, match=r"\(44100,\) is not a stereo sound"):
        stereo_image(noise(0), RATE)
    silence = np.zeros((2, RATE), np.float32)
    with pytest.raises(UserError, match="it is silent"):
        image_error(silence, silence, RATE)


def test_distances_count_what_lies_above_8_khz():
    spectrum = np.fft.rfft(noise(0))
    dull = np.fft.irfft(spectrum * (np.arange(len(spectrum)) < 8_500), RATE).astype(np.float32)
    assert float(log_mel_distance(noise(0), dull, RATE)) > 5
