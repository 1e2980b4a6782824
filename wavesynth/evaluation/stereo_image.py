"""The stereo image of a sound: in each band, how much louder the right channel is, and how alike both are."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from wavesynth.audio.spectral import mel_filterbank, mel_settings, stft_magnitude
from wavesynth.audio.stereo import mid_side
from wavesynth.errors import UserError

AUDIBLE_DB = 50.0  # below the loudest band; an image of what is quieter does not count


class StereoImage(NamedTuple):
    """The image of a sound in mel bands.

    Attributes:
        level: level of the right channel over the left one, decibels, float64 [bands].
        correlation: of the channels, -1 to 1, float64 [bands].
        power: of both channels, float64 [bands].
    """

    level: NDArray[np.float64]
    correlation: NDArray[np.float64]
    power: NDArray[np.float64]


class ImageError(NamedTuple):
    """How far one image is from another: medians over the bands in which there is sound.

    Attributes:
        level: difference of the level differences, decibels.
        correlation: difference of the correlations.
    """

    level: float
    correlation: float


def stereo_image(samples: NDArray[np.float32], sample_rate: int) -> StereoImage:
    """Measures the image of a stereo sound.

    With orthonormal middle M and side S, the real part of the channels' cross-spectrum is ``(|M|^2 - |S|^2) / 2``.

    Args:
        samples: float [2, T].
        sample_rate: samples per second.

    Raises:
        UserError: the sound does not have two channels.

    >>> tone = np.sin(2 * np.pi * 440 * np.arange(16_000) / 16_000)
    >>> image = stereo_image(np.stack([tone, tone / 2]), 16_000)
    >>> round(float(image.level[np.argmax(image.power)]), 1), round(float(image.correlation[np.argmax(image.power)]), 2)
    (-6.0, 1.0)
    """
    if np.ndim(samples) != 2 or len(samples) != 2:
        raise UserError(f"samples: shape {np.shape(samples)} is not a stereo sound; give [2, T]")
    mel = mel_settings(sample_rate)
    channels = np.concatenate([samples, mid_side(np.asarray(samples, np.float32))])
    magnitudes = np.asarray(stft_magnitude(channels, mel.window, mel.hop), np.float64)
    left, right, middle, side = np.square(magnitudes).sum(axis=1) @ mel_filterbank(sample_rate, mel).astype(np.float64)
    left, right = (np.maximum(power, 1e-20) for power in (left, right))
    correlation = (middle - side) / 2 / np.sqrt(left * right)
    return StereoImage(10 * np.log10(right / left), np.clip(correlation, -1, 1), left + right)


def image_error(original: NDArray[np.float32], decoded: NDArray[np.float32], sample_rate: int) -> ImageError:
    """Compares the image of a decoded sound with that of the original.

    Args:
        original: float [2, T].
        decoded: float [2, T].
        sample_rate: samples per second of both.

    Raises:
        UserError: a sound does not have two channels, or the original is silent.

    >>> noise = np.random.default_rng(0).normal(0, 0.1, (2, 16_000)).astype(np.float32)
    >>> image_error(noise, noise[:, ::-1], 16_000).correlation < 0.05
    True
    """
    first, second = (stereo_image(sound, sample_rate) for sound in (original, decoded))
    audible = first.power > first.power.max() * 10 ** (-AUDIBLE_DB / 10)
    if first.power.max() < 1e-12:
        raise UserError("original: it is silent, so it has no image; give a sound")
    return ImageError(
        float(np.median(np.abs(first.level - second.level)[audible])),
        float(np.median(np.abs(first.correlation - second.correlation)[audible])),
    )
