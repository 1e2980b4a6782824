"""What a convolutional decoder shapes into sound: noise, and the harmonics of a wanted pitch.

After the neural source-filter model (Wang, Takaki and Yamagishi, 2019) and DDSP (Engel et al., 2020).
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

HARMONICS = 64  # at most; those above the Nyquist frequency are left out


def hertz(pitch: jax.Array) -> jax.Array:
    """The frequency of a MIDI number."""
    return 440.0 * 2.0 ** ((pitch - 69.0) / 12.0)


def white(keys: jax.Array, lengths: Sequence[int], channels: int) -> list[jax.Array]:
    """White noise of variance 1 at several rates: float32 [B, length, channels] of each length.

    keys: [B]: the same key gives the same noise, whatever the batch. All of it is one draw: many small ones would take
    longer to compile than all else.
    """
    drawn = jax.vmap(lambda key: jax.random.normal(key, (sum(lengths), channels)))(keys)
    ends = np.cumsum(lengths)[:-1]
    return jnp.split(drawn, [int(end) for end in ends], axis=1)


def excitation(noise: jax.Array, pitch: jax.Array, sample_rate: float) -> jax.Array:
    """Noise [B, T, C], and in a last channel the harmonics of MIDI numbers [B] (of NaN, zeros): [B, T, C + 1].

    sample_rate: of this rate, Hz.
    """
    return jnp.concatenate([noise, harmonics(pitch, noise.shape[1], sample_rate)[..., None]], axis=-1)


def harmonics(pitch: jax.Array, length: int, sample_rate: float) -> jax.Array:
    """Sines of all multiples of a pitch below half the sample rate, the k-th of amplitude 1 / k, from phase 0: [B, length]."""
    frequency = hertz(jnp.where(jnp.isnan(pitch), 0.0, pitch))[:, None]
    # The phase in turns, taken modulo 1 before it becomes an angle: float32 would blur it after some seconds.
    angle = 2 * jnp.pi * jnp.mod(jnp.arange(length)[None] * (frequency / sample_rate), 1.0)
    total, before, sine, twice = jnp.zeros_like(angle), jnp.zeros_like(angle), jnp.sin(angle), 2 * jnp.cos(angle)
    for multiple in range(1, HARMONICS + 1):  # sin (k + 1) a = 2 cos a sin k a - sin (k - 1) a: one pass, no more sines
        total += jnp.where(multiple * frequency < sample_rate / 2, sine / multiple, 0.0)
        before, sine = sine, twice * sine - before
    return jnp.where(jnp.isnan(pitch)[:, None], 0.0, total)
