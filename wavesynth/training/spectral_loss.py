"""The spectral loss of autoencoders, which transforms each window of a sound once."""

from collections.abc import Sequence
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from wavesynth.audio.rates import power_of_two
from wavesynth.audio.spectral import RANGE_DB, RESOLUTIONS, mel_levels, relative_mel, stft
from wavesynth.audio.stereo import mid_side

FINE_DB = 110.0  # from the sounds' level to the floor of fine spectra and band powers, below the noise of 16 bits
IMAGE_DB = 70.0  # likewise, of middle and side; further down, the side of nearly mono sounds would dominate
FAINT_DB = 40.0  # below that level, sounds count less in the spectral convergence


@dataclass(frozen=True)
class SpectralLoss:
    """The distance of the spectra of sounds, decibels: the sum of three parts.

    - The mean absolute difference of log-mel spectra, down to `RANGE_DB` below the sounds' level.
    - That of log-magnitude spectra at several resolutions, down to `FINE_DB`.
    - The spectral convergence at these resolutions, times a weight. The logarithms count every bin alike; this counts the
      loudest, and so the level.

    Of stereo sounds, the first two are means over left and right, and over middle and side, whose floors are `IMAGE_DB` below
    the level. Their spectra are sums and differences of those of left and right.

    Attributes:
        sample_rate: Hz.
        level_db: the root mean square of the training sounds, decibels.
        convergence_weight: weight of the spectral convergence, decibels.
        resolutions: lengths of the windows in seconds; the nearest powers of two in samples are taken. The hop is a quarter.

    References: Yamamoto, Song and Kim, Parallel WaveGAN (2020); Engel et al., DDSP (2020); Arık, Jun and Diamos, Fast
    spectrogram inversion using multi-head convolutional neural networks (2019).

    >>> noise = np.random.default_rng(0).normal(0, 0.1, (1, 2, 16_000))
    >>> loss = SpectralLoss(16_000, level_db=-20.0, convergence_weight=10.0)
    >>> round(float(loss(noise / 2, noise)))  # 6 dB in both logarithmic distances, and 10 times a half
    17
    """

    sample_rate: int
    level_db: float
    convergence_weight: float
    resolutions: Sequence[float] = RESOLUTIONS

    def __call__(self, made: jax.Array | np.ndarray, sounds: jax.Array | np.ndarray) -> jax.Array:
        """The distance of sounds [B, C, T] from `sounds`, float32 []."""
        floors = [(RANGE_DB, FINE_DB), (IMAGE_DB, IMAGE_DB)][: sounds.shape[1]]
        windows = [power_of_two(seconds, self.sample_rate, least=4) for seconds in self.resolutions]
        apart = loudest = jnp.zeros(())
        for window in windows:
            spectra = [stft(each, window, window // 4) for each in (made, sounds)]
            for view, (range_db, fine_db) in enumerate(floors):
                ours, real = (jnp.abs(mid_side(each, axis=1) if view else each) for each in spectra)
                apart += self._level_distance(ours, real, fine_db) / len(windows)
                mel = relative_mel(self.sample_rate, self.level_db, range_db)
                if window == mel.window:
                    levels = [mel_levels(each, self.sample_rate, mel) for each in (ours, real)]
                    apart += jnp.abs(levels[0] - levels[1]).mean()
                if not view:
                    loudest += convergence(ours, real, self._amplitude(FAINT_DB)).mean() / len(windows)
        return apart / len(floors) + self.convergence_weight * loudest

    def _level_distance(self, made: jax.Array, real: jax.Array, fine_db: float) -> jax.Array:
        """The mean absolute difference of magnitudes in decibels; a floor keeps the gradient from vanishing in silence."""
        levels = [20 * jnp.log10(magnitude + self._amplitude(fine_db)) for magnitude in (made, real)]
        return jnp.abs(levels[0] - levels[1]).mean()

    def _amplitude(self, below_db: float) -> float:
        """The amplitude so many decibels below the sounds' level."""
        return 10 ** ((self.level_db - below_db) / 20)


def convergence(made: jax.Array, real: jax.Array, floor: float) -> jax.Array:
    """The norm of the difference of magnitude spectra [..., F, bins] relative to that of the real ones; [...].

    floor: root mean square of noise whose norm is added to the real one, so that silence does not divide by zero.

    >>> noise = jnp.abs(jax.random.normal(jax.random.key(0), (100, 257)))
    >>> round(float(convergence(noise / 2, noise, 0.01)), 2)
    0.5
    """
    apart, whole = (jnp.square(x).sum(axis=(-2, -1)) for x in (made - real, real))
    # White noise of variance 1 has the power 6 / window in each of window / 2 bins.
    whole += np.float32(3 * floor**2 * real.shape[-2])
    differs = apart > 0  # the square root has no gradient at 0
    return jnp.where(differs, jnp.sqrt(jnp.where(differs, apart, 1.0) / whole), 0.0)
