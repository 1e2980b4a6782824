"""What a decoder remembers between two samples."""

from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from wavesynth.audio import mulaw
from wavesynth.kernels.wavenet_decode.weights import DecodeSpec, DecodeWeights
from wavesynth.models.likelihoods import quantize


@partial(jax.tree_util.register_dataclass, data_fields=("recent", "rings", "phase"), meta_fields=())
@dataclass(frozen=True)
class DecodeCache:
    """The state of B streams.

    recent: float32 [taps, B], the last samples, oldest first.
    rings: float32 [sum(ring_lengths), B, C]: every layer's past inputs, one ring buffer after the other.
    phase: int32 []: steps taken, modulo `DecodeSpec.period`, so that it never overflows.
    """

    recent: jax.Array
    rings: jax.Array
    phase: jax.Array

    @property
    def batch(self) -> int:
        return self.recent.shape[1]


def ring_starts(spec: DecodeSpec) -> np.ndarray:
    """Where each layer's ring begins in `DecodeCache.rings`, int32 [L]."""
    return np.cumsum((0, *spec.ring_lengths[:-1]), dtype=np.int32)


def read_past(weights: DecodeWeights, recent: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The last samples [taps, B] to the first layer's input [B, C], and the past that is white of them [taps, B]."""
    if weights.spec.output == "softmax":
        embedded = jax.vmap(lambda table, tap: table[mulaw.encode(tap)])(weights.front, recent).sum(axis=0)
        return embedded + weights.front_bias[None], recent
    with jax.default_matmul_precision("highest"):
        white = weights.whitening.T @ recent
        return white.T @ weights.front + weights.front_bias[None], white


def silent_cache(weights: DecodeWeights, batch: int, conditioning: jax.Array | None = None) -> DecodeCache:
    """The steady state after endless digital silence: one vector a layer, found without running a single step.

    conditioning: [L, B, 2 C], held during that silence; None for none.
    """
    spec = weights.spec
    channels = weights.front_bias.shape[0]
    recent = quantize(jnp.zeros((spec.taps, batch)), spec.quantization)
    x, _ = read_past(weights, recent)
    rings = []
    for layer, length in enumerate(spec.ring_lengths):
        rings.append(jnp.broadcast_to(x, (length, batch, channels)))
        z = x @ weights.dilated[layer].sum(axis=0) + weights.dilated_bias[layer, None]
        if conditioning is not None:
            z += conditioning[layer]
        signal, gate = jnp.split(z, 2, axis=-1)
        x += (jnp.tanh(signal) * jax.nn.sigmoid(gate)) @ weights.residual[layer] + weights.residual_bias[layer, None]
    return DecodeCache(recent, jnp.concatenate(rings), jnp.zeros((), jnp.int32))
