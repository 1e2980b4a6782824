"""A WaveNet as a `Decoder`, over the op that draws its samples."""

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
    """The conditioning of endless sounds. It is constant, or a row of frames of which the first and the last are held.

    Only the frames of one chunk are projected to the layers at a time, so the length of a sound takes no memory.

    Attributes:
        projections: the WaveNet's parameters "vector_projection" and "frame_projection", as far as it has them.
        vector: global conditioning [B, vector_channels], or one that moves [B, F, vector_channels]; None for none.
        frames: local conditioning [B, F, frame_channels], or [B, 1, frame_channels] for constant; None for none.
        spec: of the decoder.
        before: how many frames lie before the first sample that is drawn.
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
        """The schedule of a WaveNet's parameters and conditions; None where there are no conditions."""
        given = {"vector_projection": vector, "frame_projection": frames}
        projections = {name: params[name] for name, part in given.items() if part is not None}
        return cls(projections, vector, frames, spec, before, hop_length) if projections else None

    @property
    def num_frames(self) -> int:
        return max(part.shape[1] if _moves(part) else 1 for part in (self.vector, self.frames) if part is not None)

    def table(self, first: jax.Array | int, count: int) -> jax.Array:
        """Frames [first, first + count), projected to the layers: [count, L, B, 2 C]; [1, L, B, 2 C] where all are equal."""
        own = (
            part if part is None or not _moves(part) else jax.lax.dynamic_slice_in_dim(part, first, count, axis=1)
            for part in (self.vector, self.frames)
        )
        table = condition_table(self.projections, self.spec, *own)
        assert table is not None
        return table

    def at(self, place: "Place", count: int) -> Conditioning:
        """The conditioning of `count` samples from a place on."""
        index = place.frame + (place.offset + jnp.arange(count)) // self.hop_length + self.before
        frames = min(self.num_frames, (count - 1) // self.hop_length + 2)
        first = jnp.clip(index[0], 0, self.num_frames - frames)
        return Conditioning(self.table(first, frames), jnp.clip(index - first, 0, frames - 1).astype(jnp.int32))


def _moves(part: jax.Array) -> bool:
    return part.ndim == 3 and part.shape[1] > 1


class Place(NamedTuple):
    """How far sounds have come, in whole frames and samples over; int32 [], before the first sample negative."""

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
    """cache: of the op. place: where the schedule has come to."""

    cache: DecodeCache
    place: Place


class WaveNetConditions(NamedTuple):
    """schedule: of the layers; None for none. periods: int32 [B], of the pitches, in samples; None for none."""

    schedule: ConditioningSchedule | None
    periods: jax.Array | None


@dataclass(frozen=True)
class WaveNetDecoder:
    """Packed weights on the device of `placement`, and how to draw from them: a `wavesynth.sampling.decoder.Decoder`."""

    weights: DecodeWeights
    placement: Placement
    strategy: Strategy = Strategy()

    def put(self, tree: Any) -> Any:
        """Arrays on the device that samples."""
        return jax.device_put(tree, self.placement.device)

    def init(self, batch: int, conditions: WaveNetConditions) -> WaveNetState:
        """The state after endless digital silence."""
        return self._init(batch, conditions, 0)

    def primed(self, batch: int, conditions: WaveNetConditions, samples: np.ndarray) -> WaveNetState:
        """The state after silence and some samples [P], the same in every row. The sounds begin behind them."""
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


@partial(jax.jit, static_argnames=("count", "top_k", "top_p", "implementation"), donate_argnames="state")
def _draw(
    weights: DecodeWeights, state: WaveNetState, conditions: WaveNetConditions, randomness: Randomness,
    temperature: jax.Array, *, count: int, top_k: int | None, top_p: float | None, implementation: str,
) -> tuple[jax.Array, WaveNetState]:  # fmt: skip
    """One program per chunk: its randomness, its conditioning, its samples."""
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
    """The state after some samples [T], the same in every row."""
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
        weights: from `wavesynth.sampling.devices.packed_weights`, which keeps them and chooses the implementation.
        batch: how many sounds.
        seed: row i depends on (seed, i) only, not on how many rows there are.
        shared_noise: whether all rows get the randomness of row 0.
        strategy: how freely samples are drawn.
        schedule: the conditioning; None for none.
        periods: int32 [batch], of the pitches, in samples, 0 where unknown; None for none.
        prime: float32 [P], the sound that every row goes on from. It is not repeated.
    """
    wavenet = WaveNetDecoder(*weights, strategy)
    conditions = wavenet.put(WaveNetConditions(schedule, periods))
    state = None if prime is None else wavenet.primed(batch, conditions, np.asarray(prime, np.float32))
    return decoder.stream(wavenet, batch, seed, conditions, shared_noise=shared_noise, state=state)
