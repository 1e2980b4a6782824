"""The op on CPUs in C++, through XLA's foreign function interface; see native.h for how its sources are divided.

Inputs of products are float32 whatever the weights are; only `avx512bf16`, for processors that multiply pairs of bfloat16,
rounds them to bfloat16 where the weights are.

The library is built when wavesynth is installed. Where that failed, or the processor is not one that it was built for,
`unsupported_reason` says so and the plain JAX loop serves.
"""

import ctypes
import importlib.util
import os
from functools import cache as memoized
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from wavesynth.audio import mulaw
from wavesynth.kernels.wavenet_decode.cache import DecodeCache, ring_starts
from wavesynth.kernels.wavenet_decode.weights import DecodeWeights
from wavesynth.models.likelihoods import MIN_LOG_SCALE, quantize

TARGET = "wavesynth_wavenet_decode"
SHARED_WEIGHTS = 400_000  # matrix entries from which several threads on one stream are faster than one, as measured
MOST_SHARED_THREADS = 4  # on one stream: more wait for each other longer than they work


@memoized
def library() -> ctypes.CDLL | None:
    """The native library with its handler registered, or None where it was not built."""
    spec = importlib.util.find_spec(f"{__package__}._native")
    if spec is None or spec.origin is None or not Path(spec.origin).exists():
        return None
    loaded = ctypes.CDLL(spec.origin)
    loaded.wavesynth_instruction_sets.restype = ctypes.c_char_p
    jax.ffi.register_ffi_target(TARGET, jax.ffi.pycapsule(loaded.wavesynth_wavenet_decode), platform="cpu")
    return loaded


def instruction_sets() -> list[str]:
    """Those that the library has and this machine can run, the best first."""
    loaded = library()
    return [] if loaded is None else loaded.wavesynth_instruction_sets().decode().split()


def instruction_set() -> str:
    """The one that the loop uses where it can serve: the best, or what WAVESYNTH_INSTRUCTION_SET says."""
    return os.environ.get("WAVESYNTH_INSTRUCTION_SET") or next(iter(instruction_sets()), "")


def unsupported_reason(weights: DecodeWeights) -> str | None:
    """Why the native loop cannot serve here; None where it can."""
    if jax.default_backend() != "cpu":
        return f"it runs on CPUs, and JAX computes on {jax.default_backend()}"
    if library() is None:
        return (
            "its library was not built: install wavesynth again with GCC or Clang on the path (pip install -v says why)"
        )
    if instruction_set() not in instruction_sets():
        return f"WAVESYNTH_INSTRUCTION_SET is {instruction_set()!r}: this machine has {', '.join(instruction_sets())}"
    return None


def processors() -> int:
    """How many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def threads_for(weights: DecodeWeights, batch: int) -> int:
    """All processors for several streams; a few for one stream of a network that is large enough."""
    if batch > 1:
        return min(batch, processors())
    return min(processors(), MOST_SHARED_THREADS) if weights.size >= SHARED_WEIGHTS else 1


def decode(
    weights: DecodeWeights,
    cache: DecodeCache,
    conditioning: jax.Array | None,
    frame_index: jax.Array | None,
    periods: jax.Array | None,
    uniforms: jax.Array,
    forced: jax.Array | None,
    temperature: jax.Array,
    top_k: int | None,
    top_p: float | None,
    log_probs: bool,
    threads: int | None = None,
) -> tuple[jax.Array, jax.Array | None, DecodeCache]:
    """What `reference.decode` does; threads: None takes as many as `threads_for` says."""
    assert library() is not None, "whoever calls has asked `unsupported_reason`"
    spec = weights.spec
    steps, _, batch = uniforms.shape
    float32 = jnp.float32
    results = jax.ffi.ffi_call(
        TARGET,
        (
            jax.ShapeDtypeStruct((steps, batch), float32),
            jax.ShapeDtypeStruct((steps, batch) if log_probs else (0,), float32),
            jax.ShapeDtypeStruct(cache.recent.shape, float32),
            jax.ShapeDtypeStruct(cache.rings.shape, float32),
        ),
        input_output_aliases={23: 2, 24: 3},
    )(
        weights.whitening, weights.front, weights.front_bias, weights.linear, weights.log_scale,
        weights.dilated, weights.dilated_bias, weights.residual, weights.residual_bias, weights.skip, weights.skip_bias,
        weights.head, weights.head_bias, weights.out, weights.out_bias,
        mulaw.decode(jnp.arange(mulaw.CODES)),
        jnp.append(mulaw.bin_edges(jnp.arange(mulaw.CODES))[0], mulaw.bin_edges(jnp.array(mulaw.MU))[1]),
        jnp.zeros((0,), float32) if conditioning is None else conditioning,
        jnp.zeros((0,), jnp.int32) if frame_index is None else frame_index,
        jnp.zeros((batch,), jnp.int32) if periods is None else periods,
        uniforms,
        jnp.zeros((0,), float32) if forced is None else quantize(forced, spec.quantization),
        temperature, cache.recent, cache.rings, cache.phase,
        dilations=np.array(spec.dilations, np.int32), ring_starts=ring_starts(spec),
        kernel_width=np.int32(spec.kernel_width), taps=np.int32(spec.taps), taps_ago=np.int32(spec.taps_ago),
        softmax=spec.output == "softmax", mulaw=spec.quantization == "mulaw", min_log_scale=np.float32(MIN_LOG_SCALE),
        top_k=np.int32(top_k or 0), top_p=np.float32(-1 if top_p is None else top_p),
        threads=np.int32(threads or threads_for(weights, batch)),
    )  # fmt: skip
    samples, nats, recent, rings = results
    phase = (cache.phase + steps) % spec.period
    return samples, nats if log_probs else None, DecodeCache(recent, rings, phase)
