"""Endless sampling from a WaveNet in chunks of constant size, over the op that decodes them."""

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from wavesynth.kernels.wavenet_decode import Conditioning, DecodeWeights, silent_cache, wavenet_decode
from wavesynth.sampling.strategies import Strategy

CHUNK = 1_024  # samples a call: long enough to hide its cost, short enough to stop, write and play in between


@dataclass(frozen=True)
class ConditioningSchedule:
    """What a network is schedule in time, in frames of which the first and the last are held.

    table: the first of some frames and their number K, to what the layers are schedule in them, [K, L, batch, 2 C]; so a long
    sound's conditions are projected as it goes on. num_frames: how many there are. before: how many of them lie before the
    first sample that is made. hop_length: samples that each lasts.
    """

    table: Callable[[int, int], jax.Array]
    num_frames: int
    before: int
    hop_length: int

    def at(self, place: np.ndarray) -> Conditioning:
        """What is schedule in a run of samples, the first that is made being number 0; of as many frames for any such run."""
        index = place // self.hop_length + self.before
        count = min(self.num_frames, (len(place) - 1) // self.hop_length + 2)
        first = int(np.clip(index[0], 0, self.num_frames - count))
        return Conditioning(self.table(first, count), jnp.asarray(np.clip(index - first, 0, count - 1), jnp.int32))


def stream(
    weights: DecodeWeights,
    batch: int,
    seed: int,
    *,
    shared_noise: bool = False,
    strategy: Strategy = Strategy(),
    schedule: ConditioningSchedule | None = None,
    periods: jax.Array | None = None,
    prime: np.ndarray | None = None,
    implementation: str | None = None,
) -> Iterator[np.ndarray]:
    """Yields float32 [batch, CHUNK], for ever.

    Row i depends on (seed, i) alone and not on how many rows there are: each has its own stream of uniforms. shared_noise: all
    have that of row 0.
    prime: float32 [P]; every row goes on from it. It is not part of what is yielded.
    """
    cache = silent_cache(weights, batch, None if schedule is None else schedule.table(0, 1)[0])

    def conditioning(place: np.ndarray) -> Conditioning | None:
        return None if schedule is None else schedule.at(place)

    primer = np.zeros(0, np.float32) if prime is None else prime
    for start in range(0, len(primer), CHUNK):
        forced = jnp.tile(jnp.asarray(primer[start : start + CHUNK])[:, None], (1, batch))
        place = np.arange(len(forced)) + start - len(primer)
        idle = jnp.zeros((len(forced), 2, batch))
        cache = wavenet_decode(
            weights, cache, conditioning(place), idle, periods=periods, forced=forced, implementation=implementation
        ).cache

    for chunk in itertools.count():
        decoded = wavenet_decode(
            weights, cache, conditioning(chunk * CHUNK + np.arange(CHUNK)), uniforms(seed, chunk, batch, shared_noise),
            periods=periods, temperature=strategy.temperature, top_k=strategy.top_k, top_p=strategy.top_p,
            implementation=implementation,
        )  # fmt: skip
        cache = decoded.cache
        yield np.asarray(decoded.samples.T)


def uniforms(seed: int, chunk: int, batch: int, shared_noise: bool = False) -> jax.Array:
    """The randomness of one chunk, float32 [CHUNK, 2, batch], drawn for each row by itself; `shared_noise`: for all that of row 0."""
    key = jax.random.key(seed)
    keys = jax.vmap(lambda row: jax.random.fold_in(jax.random.fold_in(key, row), chunk))(
        jnp.arange(batch) * (not shared_noise)
    )
    return jax.vmap(lambda key: jax.random.uniform(key, (CHUNK, 2)), out_axes=-1)(keys)
