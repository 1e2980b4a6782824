"""The op: decode T samples of B streams, whichever implementation does it."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from wavesynth.errors import UserError
from wavesynth.kernels.wavenet_decode import reference
from wavesynth.kernels.wavenet_decode.cache import DecodeCache
from wavesynth.kernels.wavenet_decode.weights import DecodeWeights


class Conditioning(NamedTuple):
    """What the layers are told, already projected to them.

    table: float32 [F, L, B, 2 C], one row a frame; F = 1 for a global condition.
    index: int32 [T], the row of `table` that each step uses.
    """

    table: jax.Array
    index: jax.Array


class Decoded(NamedTuple):
    """samples: float32 [T, B]. log_probs: nats [T, B] of those samples, if asked for. cache: the state after them."""

    samples: jax.Array
    log_probs: jax.Array | None
    cache: DecodeCache


IMPLEMENTATIONS: dict[str, Callable] = {
    "jax": jax.jit(reference.decode, static_argnames=("top_k", "top_p", "log_probs"), donate_argnames="cache"),
}


def wavenet_decode(
    weights: DecodeWeights,
    cache: DecodeCache,
    conditioning: Conditioning | None,
    uniforms: jax.Array,
    *,
    forced: jax.Array | None = None,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    log_probs: bool = False,
    implementation: str | None = None,
) -> Decoded:
    """Draws T samples of B streams, each from its past.

    weights: from `pack`. cache: from `silent_cache`, or of the call before; it is consumed (its memory is reused).
    conditioning: see `Conditioning`; None for none.
    uniforms: float32 [T, 2, B] in [0, 1): all the randomness there is, so that every implementation draws the same.
    forced: float32 [T, B]: samples to take instead of drawing (priming, scoring); they are quantised on the way in.
    temperature, top_k, top_p: see `wavesynth.sampling.strategies.Strategy`.
    log_probs: also return the log-probability of every sample under the model itself (temperature 1, nothing cut).
    implementation: "jax"; None takes the best that is there. A named one that cannot serve is an error.

    Source: the cached sampler of Paine et al., Fast Wavenet Generation Algorithm (2016).
    """
    steps, uniforms_each, batch = uniforms.shape
    if uniforms_each != 2 or batch != cache.batch:
        raise UserError(f"uniforms are {uniforms.shape}: they must be [steps, 2, {cache.batch}] for this cache")
    if forced is not None and forced.shape != (steps, batch):
        raise UserError(f"forced is {forced.shape}: it must be {(steps, batch)}, a sample for each step and stream")
    if implementation is not None and implementation not in IMPLEMENTATIONS:
        raise UserError(f"implementation is {implementation!r}: choose one of {', '.join(IMPLEMENTATIONS)}")
    table, index = conditioning if conditioning is not None else (None, None)
    decode = IMPLEMENTATIONS[implementation or "jax"]
    return Decoded(
        *decode(
            weights, cache, table, index, uniforms, forced, jnp.float32(temperature),
            top_k=top_k, top_p=top_p, log_probs=log_probs,
        )
    )  # fmt: skip
