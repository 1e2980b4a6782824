"""The op: decodes T samples of B streams by one of several implementations."""

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
    """The conditioning of some steps, already projected to the layers.

    table: float32 [F, L, B, 2 C], one row per frame; F = 1 for a global condition.
    index: int32 [T], the row of `table` that each step uses.
    """

    table: jax.Array
    index: jax.Array


class Decoded(NamedTuple):
    """samples: float32 [T, B]. log_probs: of those samples, in nats [T, B], if asked for. cache: the state after them."""

    samples: jax.Array
    log_probs: jax.Array | None
    cache: DecodeCache


class Implementation(NamedTuple):
    """decode: has the signature of `reference.decode`. unsupported_reason: why it cannot serve some weights on a platform
    ("cpu", "gpu" ..., None where that is not known yet), or None if it can."""

    decode: Callable
    unsupported_reason: Callable[[DecodeWeights, str | None], str | None]


def _compiled(decode: Callable) -> Callable:
    return jax.jit(decode, static_argnames=("top_k", "top_p", "log_probs"), donate_argnames="cache")


IMPLEMENTATIONS = {
    "native": Implementation(_compiled(native.decode), native.unsupported_reason),
    "jax": Implementation(_compiled(reference.decode), lambda weights, platform: None),
    "pallas": Implementation(_compiled(pallas.decode), pallas.unsupported_reason),
}
"""By name, the fastest first. "pallas" is never chosen unless it is named: it has not run on a GPU yet (bench/gpu.py)."""


def choose(implementation: str | None, weights: DecodeWeights, platform: str | None = None) -> str:
    """The name of the implementation that will serve: the named one, or the first of "native" and "jax" that can.

    platform: where it is to run, "cpu" or "gpu"; None for where the weights are.
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
    """The platform that the weights are on; None inside of a transformation, where it is not known."""
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
    """Draws T samples of B streams, each from its past.

    The cached sampler of Paine et al., Fast Wavenet Generation Algorithm (2016).

    Args:
        weights: from `pack`.
        cache: from `silent_cache`, or of the call before. It is consumed: its memory is reused.
        conditioning: see `Conditioning`; None for none.
        uniforms: float32 [T, 2, B] in [0, 1). All randomness is here, so every implementation draws the same samples.
        periods: int32 [B], the period of each stream in samples; 0 where it is unknown.
        forced: float32 [T, B], samples to take instead of drawing (priming, scoring). They are quantised first.
        temperature: see `Strategy`, also for top_k and top_p.
        log_probs: also return the log-probability of every sample under the model itself (temperature 1, no truncation).
        implementation: "native" (C++, on CPUs), "jax" (anywhere) or "pallas" (one kernel, on GPUs). None takes the first of
            the first two that can serve here.

    Raises:
        UserError: an argument does not fit the others, or the named implementation cannot serve.
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
