"""The state of a decoder between two samples."""

from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from wavesynth.audio import mulaw
from wavesynth.kernels.wavenet_decode.weights import DecodeSpec, DecodeWeights, Matrices, unpack
from wavesynth.models.likelihoods import quantize


@partial(jax.tree_util.register_dataclass, data_fields=("recent", "rings", "phase"), meta_fields=())
@dataclass(frozen=True)
class DecodeCache:
    """The state of B streams.

    recent: float32 [history, B], the last samples, oldest first.
    rings: float32 [sum(ring_lengths), B, C]: all layers' ring buffers of past inputs, one after the other.
    phase: int32 []: steps taken, modulo `DecodeSpec.period`, so that it never overflows.
    """

    recent: jax.Array
    rings: jax.Array
    phase: jax.Array

    @property
    def batch(self) -> int:
        return self.recent.shape[1]


def ring_starts(spec: DecodeSpec) -> np.ndarray:
    """The offset of each layer's ring in `DecodeCache.rings`, int32 [L]."""
    return np.cumsum((0, *spec.ring_lengths[:-1]), dtype=np.int32)


def read_past(
    weights: DecodeWeights, matrices: Matrices, recent: jax.Array, periods: jax.Array | None
) -> tuple[jax.Array, jax.Array]:
    """Computes the first layer's input [B, C] and the whitened past [inputs, B] from the last samples [history, B].

    periods: int32 [B], the period of each stream in samples; 0 or None if unknown.
    """
    spec = weights.spec
    past = recent[-spec.taps :]
    if spec.output == "softmax":
        embedded = jax.vmap(lambda table, tap: table[mulaw.encode(tap)])(matrices.front, past).sum(axis=0)
        return embedded + weights.front_bias[None], past
    if spec.taps_ago:
        ago = jnp.zeros((spec.taps_ago, recent.shape[1]))
        if periods is not None:
            place = spec.history - periods[None] + jnp.arange(spec.taps_ago)[:, None] - spec.taps_ago // 2
            known = (periods > 0)[None]
            ago = jnp.where(known, jnp.take_along_axis(recent, jnp.where(known, place, 0), axis=0), 0.0)
        past = jnp.concatenate([ago, past])
    with jax.default_matmul_precision("highest"):
        white = matrices.whitening.T @ past
        return white.T @ matrices.front + weights.front_bias[None], white


@partial(jax.jit, static_argnames="batch")
def silent_cache(weights: DecodeWeights, batch: int, conditioning: jax.Array | None = None) -> DecodeCache:
    """The steady state after endless digital silence, one vector per layer, computed without running steps.

    conditioning: [L, B, 2 C], constant during the silence; None for none.
    """
    spec, matrices = weights.spec, unpack(weights)
    channels = weights.front_bias.size
    recent = quantize(jnp.zeros((spec.history, batch)), spec.quantization)
    x, _ = read_past(weights, matrices, recent, None)
    rings = []
    for layer, length in enumerate(spec.ring_lengths):
        rings.append(jnp.broadcast_to(x, (length, batch, channels)))
        z = jnp.tile(x, spec.kernel_width) @ matrices.dilated[layer] + weights.dilated_bias[layer, None]
        if conditioning is not None:
            z += conditioning[layer]
        signal, gate = jnp.split(z, 2, axis=-1)
        x += (jnp.tanh(signal) * jax.nn.sigmoid(gate)) @ matrices.residual[layer] + weights.residual_bias[layer, None]
    return DecodeCache(recent, jnp.concatenate(rings), jnp.zeros((), jnp.int32))
