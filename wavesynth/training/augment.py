"""Augmentations of the sounds that discriminators and classifiers are trained on.

In adversarial training, real and generated sounds receive the same augmentations, so that discriminators do not memorise a
small dataset (adaptive discriminator augmentation, Karras et al., 2020). Each augmentation is applied to an example with
probability p. As long as p is below 1, the generator's optimum is to generate sounds without augmentations.
"""

import jax
import jax.numpy as jnp

SHIFT = 1 / 32  # of the length, at most, forwards or backwards
GAIN_DB = 9.0
SPEED = 0.15  # octaves up or down
TILT = 0.5  # of the previous sample, added or subtracted: a few dB more or less treble
CUT = 1 / 4  # of the length, silenced


def augment(key: jax.Array, sounds: jax.Array, probability: jax.Array) -> jax.Array:
    """Sounds [B, C, T] with inverted polarity, shifted, louder or softer, faster or slower, brighter or duller, or cut.

    Each augmentation is applied to each sound with this probability (float [], 0 to 1). The result is linear in the sounds,
    and differentiable any number of times. The randomness depends on the key and the row alone.
    """
    keys = jax.random.split(key, len(sounds))
    channels = jax.vmap(_augment_one, in_axes=(None, 0, None))  # all channels of a sound change together
    return jax.vmap(channels, in_axes=(0, 0, None))(keys, sounds, probability)


def _augment_one(key: jax.Array, sound: jax.Array, probability: jax.Array) -> jax.Array:
    length = len(sound)
    kinds = 6
    happens = jax.random.uniform(jax.random.fold_in(key, 0), (kinds,)) < probability
    amount = jax.random.uniform(jax.random.fold_in(key, 1), (kinds,), minval=-1.0, maxval=1.0)
    amount = jnp.where(happens, amount, 0.0)

    place = jnp.arange(length) * 2.0 ** (SPEED * amount[0]) + amount[1] * SHIFT * length
    whole = jnp.floor(place)
    share = place - whole
    at = whole.astype(jnp.int32)
    inside = [(at + step >= 0) & (at + step < length) for step in (0, 1)]
    here, after = (jnp.where(inside[step], sound[jnp.clip(at + step, 0, length - 1)], 0.0) for step in (0, 1))
    moved = here * (1 - share) + after * share

    tilted = moved + TILT * amount[2] * jnp.pad(moved, (1, 0))[:-1]
    sign = jnp.where(happens[3] & (amount[3] > 0), -1.0, 1.0)
    level = sign * 10 ** (GAIN_DB / 20 * amount[4])
    begin = (amount[5] + 1) / 2 * length
    silenced = happens[5] & (jnp.arange(length) >= begin) & (jnp.arange(length) < begin + CUT * length)
    return jnp.where(silenced, 0.0, tilted * level)
