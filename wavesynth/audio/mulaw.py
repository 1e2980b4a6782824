"""Mu-law companding (ITU-T G.711's curve, 8 bits): encoding, decoding and the bins of the codes.

`decode` then `encode` is the identity on all 256 codes; codes c and 255 - c decode to opposite values, so there is no
bias; 0.0 encodes to 128, one of the two codes nearest to it; -1 and +1 encode to 0 and 255.
"""

import math

import jax
import jax.numpy as jnp

CODES = 256
MU = CODES - 1


def compand(samples: jax.Array) -> jax.Array:
    """Maps amplitude to the companded scale: sign(x) log(1 + mu |x|) / log(1 + mu), [-1, 1] to [-1, 1]."""
    return jnp.sign(samples) * jnp.log1p(MU * jnp.abs(samples)) / math.log1p(MU)


def expand(companded: jax.Array) -> jax.Array:
    """The inverse of `compand`."""
    return jnp.sign(companded) * jnp.expm1(jnp.abs(companded) * math.log1p(MU)) / MU


def encode(samples: jax.Array) -> jax.Array:
    """Samples, float [...] to codes, int32 [...] in 0..255; values outside [-1, 1] saturate.

    >>> encode(jnp.array([-1.0, 0.0, 1.0])).tolist()
    [0, 128, 255]
    """
    codes = jnp.floor((compand(samples) + 1) * (MU / 2) + 0.5)
    return jnp.clip(codes, 0, MU).astype(jnp.int32)


def decode(codes: jax.Array) -> jax.Array:
    """Codes, int [...] in 0..255 to samples, float32 [...] in [-1, 1]."""
    return expand((2 * codes - MU).astype(jnp.float32) / MU)  # the integer keeps opposite codes exactly opposite


def bin_edges(codes: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Lower and upper amplitude of each code's bin, float32 [...]; the outermost edges lie beyond -1 and +1."""
    below, above = 2 * codes - MU - 1, 2 * codes - MU + 1
    return expand(below.astype(jnp.float32) / MU), expand(above.astype(jnp.float32) / MU)
