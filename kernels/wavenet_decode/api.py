"""The op: decode T samples of B streams, whichever implementation does it."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from wavesynth.errors import UserError
from wavesynth.kernels.wavenet_decode import native, pallas, reference
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


class Implementation(NamedTuple):
    """decode: has the signature of `reference.decode`. unsupported_reason: why it cannot serve some weights here; None if it can."""

    decode: Callable
    unsupported_reason: Callable[[DecodeWeights], str | None]


def _compiled(decode: Callable) -> Callable:
    return jax.jit(decode, static_argnames=("top_k", "top_p", "log_probs"), donate_argnames="cache")


IMPLEMENTATIONS = {
    "native": Implementation(_compiled(native.decode), native.unsupported_reason),
    "jax": Implementation(_compiled(reference.decode), lambda weights: None),
    "pallas": Implementation(_compiled(pallas.decode), pallas.unsupported_reason),
}
"""By name; the first that can serve is taken where none is named. On a GPU "pallas" is faster than "jax" by design, but it
must be named until bench/gpu.py has checked it on one: so far it has only been interpreted."""


def choose(implementation: str | None, weights: DecodeWeights) -> str:
    """The name of the implementation that will serve: the one that is named, or the first that can."""
    if implementation is None:
        return next(name for name, each in IMPLEMENTATIONS.items() if each.unsupported_reason(weights) is None)
    if implementation not in IMPLEMENTATIONS:
        raise UserError(f"implementation is {implementation!r}: choose one of {', '.join(IMPLEMENTATIONS)}")
    reason = IMPLEMENTATIONS[implementation].unsupported_reason(weights)
    if reason is not None:
        raise UserError(f"implementation is {implementation!r}, which cannot serve here: {reason}")
    return implementation


def wavenet_decode(
    weights: DecodeWeights,
    cache: DecodeCache,
    conditioning: Conditioning | None,
    uniforms: jax.Array,
    *,
    periods: jax.Array | None = None,
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
    periods: int32 [B]: how many samples ago each stream, a tone, was where it is now; 0 where that is not known.
    forced: float32 [T, B]: samples to take instead of drawing (priming, scoring); they are quantised on the way in.
    temperature, top_k, top_p: see `wavesynth.sampling.strategies.Strategy`.
    log_probs: also return the log-probability of every sample under the model itself (temperature 1, nothing cut).
    implementation: "native" (C++, on CPUs), "jax" (anywhere) or "pallas" (one kernel, on GPUs); None takes the first of
        the first two that can serve here, and a named one that cannot is an error that says why.

    Source: the cached sampler of Paine et al., Fast Wavenet Generation Algorithm (2016).
    """
    steps, uniforms_each, batch = uniforms.shape
    if uniforms_each != 2 or batch != cache.batch:
        raise UserError(f"uniforms are {uniforms.shape}: they must be [steps, 2, {cache.batch}] for this cache")
    if forced is not None and forced.shape != (steps, batch):
        raise UserError(f"forced is {forced.shape}: it must be {(steps, batch)}, a sample for each step and stream")
    table, index = conditioning if conditioning is not None else (None, None)
    decode = IMPLEMENTATIONS[choose(implementation, weights)].decode
    return Decoded(
        *decode(
            weights, cache, table, index, periods, uniforms, forced, jnp.float32(temperature),
            top_k=top_k, top_p=top_p, log_probs=log_probs,
        )
    )  # fmt: skip
