"""The op `wavenet_decode`: decodes T samples of B streams with one of several implementations."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.core import Tracer

from wavesynth.errors import UserError
from wavesynth.kernels.wavenet_decode import buffers, native, pallas, reference
from wavesynth.kernels.wavenet_decode.cache import DecodeCache
from wavesynth.kernels.wavenet_decode.strategy import Strategy
from wavesynth.kernels.wavenet_decode.weights import DecodeWeights, sizes_of


class Conditioning(NamedTuple):
    """The conditioning of some steps, projected to the layers.

    table: float32 [F, L, B, 2 C], one row per frame; F = 1 for a global condition.
    index: int32 [T], the row of `table` that each step uses.
    """

    table: jax.Array
    index: jax.Array


class Decoded(NamedTuple):
    """samples: float32 [T, B]. log_probs: their log-probabilities, nats [T, B], if requested. cache: the state after them."""

    samples: jax.Array
    log_probs: jax.Array | None
    cache: DecodeCache


class Implementation(NamedTuple):
    """decode: a function with the signature of `reference.decode`. unsupported_reason: why it does not support some weights on
    a platform ("cpu", "gpu" ..., None if unknown); None if it does."""

    decode: Callable
    unsupported_reason: Callable[[DecodeWeights, str | None], str | None]


def _compiled(decode: Callable) -> Callable:
    return jax.jit(decode, static_argnames=("top_k", "top_p", "log_probs"), donate_argnames="cache")


IMPLEMENTATIONS = {
    "native": Implementation(_compiled(native.decode), native.unsupported_reason),
    "jax": Implementation(_compiled(reference.decode), lambda weights, platform: None),
    "pallas": Implementation(_compiled(pallas.decode), pallas.unsupported_reason),
}
"""Implementations by name, the fastest first. "pallas" is used only by name: it has not run on a GPU yet (bench/gpu.py)."""


def choose(implementation: str | None, weights: DecodeWeights, platform: str | None = None) -> str:
    """The name of the implementation to use: the given one, or the first of "native" and "jax" that supports the weights.

    platform: the platform to run on, "cpu" or "gpu"; None for that of the weights.
    """
    platform = platform or platform_of(weights)
    if implementation is None:
        platform = platform or jax.default_backend()
        return next(
            name for name, each in IMPLEMENTATIONS.items() if each.unsupported_reason(weights, platform) is None
        )
    if implementation not in IMPLEMENTATIONS:
        raise UserError(f"implementation is {implementation!r}: choose one of {', '.join(IMPLEMENTATIONS)}")
    reason = IMPLEMENTATIONS[implementation].unsupported_reason(weights, platform)
    if reason is not None:
        raise UserError(f"implementation is {implementation!r}, which cannot serve here: {reason}")
    return implementation


def platform_of(weights: DecodeWeights) -> str | None:
    """The platform of the weights; None inside a transformation, where it is unknown."""
    if isinstance(weights.out_bias, Tracer):
        return None
    if isinstance(weights.out_bias, jax.Array):
        return next(iter(weights.out_bias.devices())).platform
    return jax.default_backend()


def wavenet_decode(
    weights: DecodeWeights,
    cache: DecodeCache,
    conditioning: Conditioning | None,
    uniforms: jax.Array,
    *,
    periods: jax.Array | None = None,
    forced: jax.Array | None = None,
    temperature: float | jax.Array = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    log_probs: bool = False,
    implementation: str | None = None,
) -> Decoded:
    """Draws T samples of B streams, each given its past.

    This is the cached sampler of Paine et al., Fast Wavenet Generation Algorithm (2016).

    Args:
        weights: from `pack`.
        cache: from `silent_cache` or the previous call. It is donated: its memory is reused.
        conditioning: see `Conditioning`; None for none.
        uniforms: float32 [T, 2, B] in [0, 1), the only source of randomness, so every implementation draws the same samples.
        periods: int32 [B], the period of each stream in samples; 0 if unknown.
        forced: float32 [T, B], samples to use instead of drawing (for priming and scoring). They are quantised first.
        temperature: see `Strategy`, also for top_k and top_p.
        log_probs: also return the log-probability of every sample under the model itself (temperature 1, no truncation).
        implementation: "native" (C++, on CPUs), "jax" (anywhere) or "pallas" (one kernel, on GPUs). None uses "native" if it
            supports the weights, else "jax".

    Raises:
        UserError: an argument does not match the others, or the given implementation does not support the weights.
    """
    table, index = conditioning if conditioning is not None else (None, None)
    Strategy(temperature, top_k, top_p)  # checks them
    given = {name: getattr(weights, name) for name in buffers.WEIGHTS}
    given["embedding" if weights.spec.output == "softmax" else "front"] = given.pop("front")
    given |= {"conditioning": table, "frame_index": index, "periods": periods, "forced": forced, "uniforms": uniforms}
    given |= {"recent": cache.recent, "rings": cache.rings, "phase": cache.phase}
    wrong = buffers.mismatch(given, sizes_of(weights) | {"B": cache.batch})
    if wrong is not None:
        raise UserError(wrong)
    decode = IMPLEMENTATIONS[choose(implementation, weights)].decode
    return Decoded(
        *decode(
            weights, cache, table, index, periods, uniforms, forced, jnp.float32(temperature),
            top_k=top_k, top_p=top_p, log_probs=log_probs,
        )
    )  # fmt: skip
