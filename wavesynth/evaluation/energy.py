"""How far a sample_set of sounds lies from another: the energy distance of their mel spectra."""

import jax
import jax.numpy as jnp

from wavesynth.audio.spectral import MelSettings, log_mel

MEL = MelSettings(window=512, hop=256, num_bands=40, floor_db=-70.0)


def spectra(samples: jax.Array, sample_rate: int) -> jax.Array:
    """Points [B, D] whose Euclidean distance is the root mean square difference of log-mel spectra, dB, of sounds [B, T]."""
    levels = log_mel(samples, sample_rate, MEL)
    return levels.reshape(len(levels), -1) / jnp.sqrt(levels[0].size)


def energy_distance(a: jax.Array, b: jax.Array, real_a: jax.Array, real_b: jax.Array) -> jax.Array:
    """``2 E|A - B| - E|A - A'| - E|B - B'|`` of points a and b [N, D] (Székely and Rizzo, 2013), without bias.

    It is 0 in the mean for two draws from one sample_set, whatever their number from 2 on, so values below 0 occur; the mean
    over batches converges. Of one point nobody can tell how far its sample_set is spread: it is taken for a whole sample_set, of
    spread 0, and the result is the distance from that point, above 0 in the mean. real_a, real_b: bool [N], which rows count.
    """
    within = [_mean_distance(x, x, real, real, apart=True) for x, real in ((a, real_a), (b, real_b))]
    return 2 * _mean_distance(a, b, real_a, real_b) - within[0] - within[1]


def _mean_distance(a: jax.Array, b: jax.Array, real_a: jax.Array, real_b: jax.Array, apart: bool = False) -> jax.Array:
    squares = jnp.sum(jnp.square(a), axis=1)[:, None] + jnp.sum(jnp.square(b), axis=1)[None]
    product = jnp.matmul(a, b.T, precision=jax.lax.Precision.HIGHEST)
    distances = jnp.sqrt(jnp.maximum(squares - 2 * product, 0.0))
    counted = (real_a[:, None] & real_b[None]).astype(jnp.float32)
    if apart:
        counted *= 1 - jnp.eye(len(a))
    return jnp.sum(distances * counted) / jnp.maximum(counted.sum(), 1)
