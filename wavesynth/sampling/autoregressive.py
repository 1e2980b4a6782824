"""A `Decoder` for WaveNets, based on the op `wavenet_decode`."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from wavesynth.kernels.wavenet_decode import (
    Conditioning,
    DecodeCache,
    DecodeSpec,
    DecodeWeights,
    condition_table,
    silent_cache,
    wavenet_decode,
)
from wavesynth.sampling import decoder
from wavesynth.sampling.decoder import CHUNK, Randomness
from wavesynth.sampling.devices import Placement
from wavesynth.sampling.strategies import Strategy

_ARRAYS = ("projections", "vector", "frames")


@partial(jax.tree_util.register_dataclass, data_fields=_ARRAYS, meta_fields=("spec", "before", "hop_length"))
@dataclass(frozen=True)
class ConditioningSchedule:
    """The conditioning of endless sounds: constant, or a sequence of frames whose first and last are held.

    Only the frames of one chunk are projected to the layers at a time, so memory does not grow with the length of a sound.

    Attributes:
        projections: the WaveNet's parameters "vector_projection" and "frame_projection", if it has them.
        vector: global conditioning [B, vector_channels], or moving [B, F, vector_channels]; None for none.
        frames: local conditioning [B, F, frame_channels], or constant [B, 1, frame_channels]; None for none.
        spec: the decoder's shape.
        before: number of frames before the first sampled one.
        hop_length: samples per frame.
    """

    projections: dict[str, Any]
    vector: jax.Array | None
    frames: jax.Array | None
    spec: DecodeSpec
    before: int
    hop_length: int

    @classmethod
    def of(
        cls, params: dict[str, Any], vector: jax.Array | None, frames: jax.Array | None, spec: DecodeSpec, before: int,
        hop_length: int,
    ) -> "ConditioningSchedule | None":  # fmt: skip
        """The schedule for a WaveNet's parameters and conditioning; None without conditioning."""
        given = {"vector_projection": vector, "frame_projection": frames}
        projections = {name: params[name] for name, part in given.items() if part is not None}
        return cls(projections, vector, frames, spec, before, hop_length) if projections else None

    @property
    def num_frames(self) -> int:
        return max(part.shape[1] if _moves(part) else 1 for part in (self.vector, self.frames) if part is not None)

    def table(self, first: jax.Array | int, count: int) -> jax.Array:
        """Frames [first, first + count), projected to the layers: [count, L, B, 2 C], or [1, L, B, 2 C] if constant."""
        own = (
            part if part is None or not _moves(part) else jax.lax.dynamic_slice_in_dim(part, first, count, axis=1)
            for part in (self.vector, self.frames)
        )
        table = condition_table(self.projections, self.spec, *own)
        assert table is not None
        return table

    def at(self, place: "Place", count: int) -> Conditioning:
        """The conditioning of the `count` samples from a place on."""
        index = place.frame + (place.offset + jnp.arange(count)) // self.hop_length + self.before
        frames = min(self.num_frames, (count - 1) // self.hop_length + 2)
        first = jnp.clip(index[0], 0, self.num_frames - frames)
        return Conditioning(self.table(first, frames), jnp.clip(index - first, 0, frames - 1).astype(jnp.int32))


def _moves(part: jax.Array) -> bool:
    return part.ndim == 3 and part.shape[1] > 1


class Place(NamedTuple):
    """A position in time, in whole frames and remaining samples, int32 []; negative before the first sample."""

    frame: jax.Array
    offset: jax.Array

    @classmethod
    def of(cls, samples: int, hop_length: int) -> "Place":
        return cls(jnp.int32(samples // hop_length), jnp.int32(samples % hop_length))

    def after(self, samples: int, schedule: ConditioningSchedule) -> "Place":
        """The place some samples later; behind the last frame time stands still, so that it never overflows."""
        over = self.offset + samples
        frame = jnp.minimum(self.frame + over // schedule.hop_length, schedule.num_frames)
        return Place(frame.astype(jnp.int32), (over % schedule.hop_length).astype(jnp.int32))


class WaveNetState(NamedTuple):
    """cache: the op's cache. place: the position in the schedule."""

    cache: DecodeCache
    place: Place


class WaveNetConditions(NamedTuple):
    """schedule: the layers' conditioning; None for none. periods: int32 [B], pitch periods in samples; None for none."""

    schedule: ConditioningSchedule | None
    periods: jax.Array | None


@dataclass(frozen=True)
class WaveNetDecoder:
    """A `wavesynth.sampling.decoder.Decoder` with packed weights on the device of `placement`."""

    weights: DecodeWeights
    placement: Placement
    strategy: Strategy = Strategy()

    def put(self, tree: Any) -> Any:
        """Moves arrays to the sampling device."""
        return jax.device_put(tree, self.placement.device)

    def init(self, batch: int, conditions: WaveNetConditions) -> WaveNetState:
        """The state after endless digital silence."""
        return self._init(batch, conditions, 0)

    def primed(self, batch: int, conditions: WaveNetConditions, samples: np.ndarray) -> WaveNetState:
        """The state after silence and the samples [P], the same in every row. The generated sounds follow them."""
        state = self._init(batch, conditions, -len(samples))
        for start in range(0, len(samples), CHUNK):
            state = _force(
                self.weights, state, conditions, self.put(samples[start : start + CHUNK]),
                implementation=self.placement.implementation,
            )  # fmt: skip
        return state

    def _init(self, batch: int, conditions: WaveNetConditions, start: int) -> WaveNetState:
        schedule = conditions.schedule
        place = Place.of(start, 1 if schedule is None else schedule.hop_length)
        return WaveNetState(_silence(self.weights, schedule, batch=batch), self.put(place))

    def decode(
        self, state: WaveNetState, conditions: WaveNetConditions, randomness: Randomness, count: int
    ) -> tuple[jax.Array, WaveNetState]:
        """See `wavesynth.sampling.decoder.Decoder`."""
        strategy = self.strategy
        return _draw(
            self.weights, state, conditions, randomness, np.float32(strategy.temperature), count=count,
            top_k=strategy.top_k, top_p=strategy.top_p, implementation=self.placement.implementation,
        )  # fmt: skip


@partial(jax.jit, static_argnames="batch")
def _silence(weights: DecodeWeights, schedule: ConditioningSchedule | None, *, batch: int) -> DecodeCache:
    return silent_cache(weights, batch, None if schedule is None else schedule.table(0, 1)[0])


@partial(
    jax.jit, static_argnames=("count", "top_k", "top_p", "implementation"), donate_argnames="state",
    compiler_options={"xla_cpu_multi_thread_eigen": False},  # XLA's threads spin on processors that the op needs
)  # fmt: skip
def _draw(
    weights: DecodeWeights, state: WaveNetState, conditions: WaveNetConditions, randomness: Randomness,
    temperature: jax.Array, *, count: int, top_k: int | None, top_p: float | None, implementation: str,
) -> tuple[jax.Array, WaveNetState]:  # fmt: skip
    """Draws the samples of one chunk in one program, with their randomness and conditioning."""
    schedule, periods = conditions
    decoded = wavenet_decode(
        weights, state.cache, None if schedule is None else schedule.at(state.place, count),
        randomness.uniforms(count, state.cache.batch), periods=periods, temperature=temperature, top_k=top_k, top_p=top_p,
        implementation=implementation,
    )  # fmt: skip
    return decoded.samples.T, _later(decoded.cache, state, schedule, count)


@partial(jax.jit, static_argnames="implementation", donate_argnames="state")
def _force(
    weights: DecodeWeights,
    state: WaveNetState,
    conditions: WaveNetConditions,
    samples: jax.Array,
    *,
    implementation: str,
) -> WaveNetState:
    """The state after the samples [T], the same in every row."""
    (schedule, periods), count, batch = conditions, len(samples), state.cache.batch
    decoded = wavenet_decode(
        weights, state.cache, None if schedule is None else schedule.at(state.place, count), jnp.zeros((count, 2, batch)),
        periods=periods, forced=jnp.tile(samples[:, None], (1, batch)), implementation=implementation,
    )  # fmt: skip
    return _later(decoded.cache, state, schedule, count)


def _later(cache: DecodeCache, state: WaveNetState, schedule: ConditioningSchedule | None, count: int) -> WaveNetState:
    return WaveNetState(cache, state.place if schedule is None else state.place.after(count, schedule))


def stream(
    weights: tuple[DecodeWeights, Placement],
    batch: int,
    seed: int,
    *,
    shared_noise: bool = False,
    strategy: Strategy = Strategy(),
    schedule: ConditioningSchedule | None = None,
    periods: jax.Array | None = None,
    prime: np.ndarray | None = None,
) -> Iterator[np.ndarray]:
    """Endless sounds of a WaveNet, float32 [batch, CHUNK] at a time.

    Args:
        weights: from `wavesynth.sampling.devices.packed_weights`, which caches them and chooses the implementation.
        batch: number of sounds.
        seed: row i depends only on (seed, i), not on the number of rows.
        shared_noise: whether all rows use the randomness of row 0.
        strategy: sampling strategy.
        schedule: the conditioning; None for none.
        periods: int32 [batch], pitch periods in samples, 0 if unknown; None for none.
        prime: float32 [P], the sound that every row continues. It is not repeated.
    """
    wavenet = WaveNetDecoder(*weights, strategy)
    conditions = wavenet.put(WaveNetConditions(schedule, periods))
    state = None if prime is None else wavenet.primed(batch, conditions, np.asarray(prime, np.float32))
    return decoder.stream(wavenet, batch, seed, conditions, shared_noise=shared_noise, state=state)
