"""Sound as hops and as windows that overlap, and what a decoder of frames shapes into sound, made from any hop on.

A hop is a run of samples [B, H, hop]; a window spans several hops, and windows begin a hop apart. All is made hop by hop, so
that blocks of any length add up to the whole.
"""

import jax
import jax.numpy as jnp
import numpy as np

from wavesynth.models.excitation import hertz


def windowed(hops: jax.Array, window: int) -> jax.Array:
    """Hops [B, H, hop] to the windows that begin with each of them but the last: [B, H - window / hop + 1, window]."""
    each = window // hops.shape[-1]
    count = hops.shape[1] - each + 1
    return jnp.concatenate([hops[:, i : i + count] for i in range(each)], axis=-1)


def overlapped(windows: jax.Array, hop: int, before: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The sum of windows [B, F, window] in place, and of what came before: [B, F, hop], and what still hangs over.

    before, and what hangs over: [B, window / hop - 1, hop].
    """
    count, each = windows.shape[1], windows.shape[2] // hop
    parts = [jnp.pad(windows[..., i * hop : (i + 1) * hop], ((0, 0), (i, each - 1 - i), (0, 0))) for i in range(each)]
    total = sum(parts) + jnp.pad(before, ((0, 0), (0, count), (0, 0)))
    return total[:, :count], total[:, count:]


def noise(keys: jax.Array, first: jax.Array, count: int, hop: int) -> jax.Array:
    """White noise of variance 1, `count` hops of it from hop `first` on: each depends on its key and its number alone.

    keys: [B]. first: uint32 []. It is evenly spread, which costs less than a Gaussian and sounds alike once filtered.
    """

    def one(key: jax.Array, number: jax.Array) -> jax.Array:
        return jax.random.uniform(jax.random.fold_in(key, number), (hop,), minval=-(3**0.5), maxval=3**0.5)

    numbers = first + jnp.arange(count, dtype=jnp.uint32)
    return jax.vmap(jax.vmap(one, in_axes=(None, 0)), in_axes=(0, None))(keys, numbers)


def pulses(pitch: jax.Array, first: jax.Array, count: int, hop: int, sample_rate: float) -> jax.Array:
    """Cosines of all multiples of a pitch below half the sample rate, each of amplitude 1: `count` hops from hop `first` on.

    pitch: MIDI numbers [B], NaN for none, which is silence. first: uint32 []. The sum has a closed form,
    ``sin((K + 1/2) a) / (2 sin(a / 2)) - 1/2``. Phases are 32-bit integers, 2^32 to the turn: they wrap around of themselves
    and are as exact after a day as at the beginning.
    """
    frequency = hertz(jnp.where(jnp.isnan(pitch), 0.0, pitch))
    step = (frequency * (2.0**32 / sample_rate)).astype(jnp.uint32)
    place = first * np.uint32(hop) + jnp.arange(count * hop, dtype=jnp.uint32)
    phase = jax.lax.bitcast_convert_type(step[:, None] * place[None], jnp.int32)
    turns = phase.astype(jnp.float32) * np.float32(2.0**-32)  # -1/2 to 1/2
    highest = (jnp.ceil(sample_rate / 2 / frequency) - 1)[:, None]
    many = (highest + 0.5) * turns
    below = jnp.where(phase == 0, 1.0, 2 * jnp.sin(np.pi * turns))
    total = jnp.where(phase == 0, highest, jnp.sin(2 * np.pi * (many - jnp.round(many))) / below - 0.5)
    return jnp.where(jnp.isnan(pitch)[:, None], 0.0, total).reshape(len(pitch), count, hop)


def ramps(points: jax.Array, before: jax.Array, length: int) -> jax.Array:
    """Straight lines of `length` samples to each of points [B, P], the first from `before` [B, 1]: [B, P length]."""
    begin = jnp.concatenate([before, points[:, :-1]], axis=1)[..., None]
    share = (np.arange(1, length + 1, dtype=np.float32) / length)[None, None]
    return (begin + (points[..., None] - begin) * share).reshape(len(points), -1)
