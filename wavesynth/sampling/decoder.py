"""Endless sound from any decoder, chunk by chunk."""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

CHUNK = 1_024  # samples per call: many enough to hide its overhead, few enough for writing and playing in between

State = TypeVar("State")
Conditions = TypeVar("Conditions", contravariant=True)


@partial(jax.tree_util.register_dataclass, data_fields=("seed", "chunk"), meta_fields=("shared",))
@dataclass(frozen=True)
class Randomness:
    """The randomness of one chunk, drawn inside the compiled program that uses it.

    Row i depends only on (seed, i, chunk), not on the number of rows.

    Attributes:
        seed: uint32 [], the seed of the whole sound.
        chunk: uint32 [], the number of the chunk.
        shared: whether all rows use the randomness of row 0.
    """

    seed: Any
    chunk: Any
    shared: bool = False

    def keys(self, batch: int) -> jax.Array:
        """One key per row, [batch]."""
        key = jax.random.key(self.seed)
        rows = jnp.zeros(batch, jnp.int32) if self.shared else jnp.arange(batch)
        return jax.vmap(lambda row: jax.random.fold_in(jax.random.fold_in(key, row), self.chunk))(rows)

    def uniforms(self, count: int, batch: int) -> jax.Array:
        """Two uniforms in [0, 1) per step and row, float32 [count, 2, batch]."""
        return jax.vmap(lambda key: jax.random.uniform(key, (count, 2)), out_axes=-1)(self.keys(batch))


class Decoder(Protocol[State, Conditions]):
    """The interface of models for `stream`: state in, state out. Both methods run on the decoder's device.

    `conditions` apply to the whole sound. If they vary in time, the state contains the current position.
    """

    def init(self, batch: int, conditions: Conditions) -> State:
        """The state of `batch` sounds before their first sample."""
        ...

    def decode(
        self, state: State, conditions: Conditions, randomness: Randomness, count: int
    ) -> tuple[jax.Array, State]:
        """The next `count` samples, float32 [batch, count], and the state after them. `state` is consumed."""
        ...


def stream(
    decoder: Decoder[State, Conditions],
    batch: int,
    seed: int,
    conditions: Conditions,
    *,
    shared_noise: bool = False,
    state: State | None = None,
    count: int = CHUNK,
) -> Iterator[np.ndarray]:
    """Endless sounds, in constant memory.

    Args:
        decoder: the decoder.
        batch: number of sounds.
        seed: random seed. All randomness depends only on the seed, the row and the chunk.
        conditions: the decoder's conditioning.
        shared_noise: whether all rows use the randomness of row 0.
        state: the state to continue from; None to start.
        count: samples per chunk. A different count gives different samples.

    Yields:
        float32 [batch, count].
    """
    state = decoder.init(batch, conditions) if state is None else state
    for chunk in itertools.count():
        randomness = Randomness(np.uint32(seed), np.uint32(chunk), shared_noise)
        samples, state = decoder.decode(state, conditions, randomness, count)
        yield np.asarray(samples)
