"""Excitation signals that a convolutional decoder shapes into sound: noise, and the harmonics of a pitch.

After the neural source-filter model (Wang, Takaki and Yamagishi, 2019) and DDSP (Engel et al., 2020).
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

HARMONICS = 64  # at most; those above the Nyquist frequency are left out


def hertz(pitch: Float[Array, "*batch"]) -> Float[Array, "*batch"]:
    """The frequency of a MIDI number, ``440 * 2 ** ((pitch - 69) / 12)`` Hz.

    >>> float(hertz(jnp.array(57.0)))
    220.0
    """
    return 440.0 * 2.0 ** ((pitch - 69.0) / 12.0)


def white(keys: Key[Array, " batch"], lengths: Sequence[int], channels: int) -> list[Float[Array, "batch _ channels"]]:
    """White Gaussian noise of variance 1 at several rates.

    Args:
        keys: the same key gives the same noise, whatever the batch.
        lengths: samples at each rate.
        channels: of the noise.

    Returns:
        float32 [batch, length, channels] for each length. All of it is one draw, as many small ones would take longer to
        compile than everything else.

    >>> [part.shape for part in white(jax.random.split(jax.random.key(0), 2), [4, 16], 3)]
    [(2, 4, 3), (2, 16, 3)]
    """
    drawn = jax.vmap(lambda key: jax.random.normal(key, (sum(lengths), channels)))(keys)
    ends = np.cumsum(lengths)[:-1]
    return jnp.split(drawn, [int(end) for end in ends], axis=1)


def excitation(
    noise: Float[Array, "batch time channels"], pitch: Float[Array, " batch"], sample_rate: float
) -> Float[Array, "batch time channels+1"]:
    """Noise, and in a last channel the harmonics of a pitch.

    Args:
        noise: at `sample_rate`.
        pitch: MIDI numbers; NaN for none, whose channel is zero.
        sample_rate: Hz.
    """
    return jnp.concatenate([noise, harmonics(pitch, noise.shape[1], sample_rate)[..., None]], axis=-1)


def harmonics(pitch: Float[Array, " batch"], length: int, sample_rate: float) -> Float[Array, "batch {length}"]:
    """The sum of ``sin(2 pi k f t) / k`` over all multiples of a pitch's frequency f below half the sample rate.

    Args:
        pitch: MIDI numbers; NaN gives zeros.
        length: samples.
        sample_rate: Hz.

    >>> harmonics(jnp.array([69.0, jnp.nan]), 100, 16_000).shape
    (2, 100)
    """
    frequency = hertz(jnp.where(jnp.isnan(pitch), 0.0, pitch))[:, None]
    # The phase in turns, taken modulo 1 before it becomes an angle: float32 would blur it after some seconds.
    angle = 2 * jnp.pi * jnp.mod(jnp.arange(length)[None] * (frequency / sample_rate), 1.0)
    total, before, sine, twice = jnp.zeros_like(angle), jnp.zeros_like(angle), jnp.sin(angle), 2 * jnp.cos(angle)
    for multiple in range(1, HARMONICS + 1):  # sin (k + 1) a = 2 cos a sin k a - sin (k - 1) a: one pass, no more sines
        total += jnp.where(multiple * frequency < sample_rate / 2, sine / multiple, 0.0)
        before, sine = sine, twice * sine - before
    return jnp.where(jnp.isnan(pitch)[:, None], 0.0, total)
