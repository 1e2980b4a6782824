"""Distance between two sets of sounds: the energy distance of their mel spectra."""

from dataclasses import replace

import jax
import jax.numpy as jnp

from wavesynth.audio.spectral import MelSettings, log_mel, relative_mel

RANGE_DB = 50.0  # from the level of sounds down to the floor of their spectra


def coarse_mel(sample_rate: int, level_db: float) -> MelSettings:
    """Settings of the spectra that are compared: half as fine as `mel_settings` in time and in frequency.

    >>> coarse_mel(16_000, -20.0)
    MelSettings(window=512, hop=256, num_bands=40, lowest_hz=40.0, highest_hz=20000.0, floor_db=-70.0)
    """
    fine = relative_mel(sample_rate, level_db, RANGE_DB)
    return replace(fine, window=fine.window // 2, num_bands=fine.num_bands // 2)


def spectra(samples: jax.Array, sample_rate: int, level_db: float) -> jax.Array:
    """Log-mel spectra as points, whose Euclidean distance is the root mean square difference of the spectra in decibels.

    Args:
        samples: float [B, ..., num_samples], such as [B, num_samples] or [B, channels, num_samples].
        sample_rate: samples per second.
        level_db: root mean square of the sounds that are compared, decibels, from which the floor of the spectra is counted.

    Returns:
        float32 [B, D].

    >>> noise = np.random.default_rng(0).normal(0, 0.1, (1, 4_000))
    >>> quiet, loud = (spectra(gain * noise, 16_000, -20.0)[0] for gain in (1, 2))
    >>> round(float(np.linalg.norm(loud - quiet)))
    6
    """
    levels = log_mel(samples, sample_rate, coarse_mel(sample_rate, level_db))
    return levels.reshape(len(levels), -1) / jnp.sqrt(levels[0].size)


def energy_distance(a: jax.Array, b: jax.Array, real_a: jax.Array, real_b: jax.Array) -> jax.Array:
    """The energy distance of two sets of points, ``2 E|A - B| - E|A - A'| - E|B - B'|``, without bias.

    Its expectation is 0 for two sets from the same distribution, however small they are (from 2 points on), and above 0
    for two distributions. So single values can be negative, and the mean over batches converges. A set of one point has
    an unknown spread, which is taken to be 0.

    Args:
        a: float [N, D].
        b: float [M, D].
        real_a: bool [N], which rows of a count.
        real_b: bool [M], which rows of b count.

    Returns:
        float32, in the unit of the points.

    Reference: Székely and Rizzo, Energy statistics: a class of statistics based on distances (2013).

    >>> a, b, all_rows = np.zeros((2, 1)), np.full((2, 1), 3.0), np.ones(2, bool)
    >>> float(energy_distance(a, b, all_rows, all_rows))
    6.0
    """
    within = [_mean_distance(x, x, real, real, apart=True) for x, real in ((a, real_a), (b, real_b))]
    return 2 * _mean_distance(a, b, real_a, real_b) - within[0] - within[1]


def _mean_distance(a: jax.Array, b: jax.Array, real_a: jax.Array, real_b: jax.Array, apart: bool = False) -> jax.Array:
    """Mean distance of all pairs of rows that count; with `apart`, without those of a row and itself."""
    squares = jnp.sum(jnp.square(a), axis=1)[:, None] + jnp.sum(jnp.square(b), axis=1)[None]
    product = jnp.matmul(a, b.T, precision=jax.lax.Precision.HIGHEST)
    distances = jnp.sqrt(jnp.maximum(squares - 2 * product, 0.0))
    counted = (real_a[:, None] & real_b[None]).astype(jnp.float32)
    if apart:
        counted *= 1 - jnp.eye(len(a))
    return jnp.sum(distances * counted) / jnp.maximum(counted.sum(), 1)
