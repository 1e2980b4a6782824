"""The op on CPUs in C++, through XLA's foreign function interface. `native.h` describes the source files.

Products have float32 inputs for any type of weights, with one exception: the instruction set `avx512bf16`, for processors that
multiply pairs of bfloat16, rounds the inputs of bfloat16 weights to bfloat16.

The library is built when wavesynth is installed. If that failed, or the processor is not supported, `unsupported_reason`
says so, and the plain JAX loop is used.
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
from wavesynth.kernels.wavenet_decode import buffers
from wavesynth.kernels.wavenet_decode.cache import DecodeCache
from wavesynth.kernels.wavenet_decode.weights import DecodeWeights, sizes_of
from wavesynth.models.likelihoods import MIN_LOG_SCALE, quantize

TARGET = "wavesynth_wavenet_decode"
SHARED_WEIGHTS = 400_000  # matrix entries above which several threads are faster on one stream, as measured
MOST_SHARED_THREADS = 4  # on one stream; with more, threads mostly wait for each other


@memoized
def library() -> ctypes.CDLL | None:
    """The native library, with its handler registered; None if it was not built, or built from another version."""
    spec = importlib.util.find_spec(f"{__package__}._native")
    if spec is None or spec.origin is None or not Path(spec.origin).exists():
        return None
    loaded = ctypes.CDLL(spec.origin)
    if not hasattr(loaded, "wavesynth_buffers"):
        return None
    loaded.wavesynth_instruction_sets.restype = loaded.wavesynth_buffers.restype = ctypes.c_char_p
    if loaded.wavesynth_buffers().decode() != buffers.table():
        return None
    jax.ffi.register_ffi_target(TARGET, jax.ffi.pycapsule(loaded.wavesynth_wavenet_decode), platform="cpu")
    return loaded


def instruction_sets() -> list[str]:
    """The instruction sets that the library has and this machine supports, the best first."""
    loaded = library()
    return [] if loaded is None else loaded.wavesynth_instruction_sets().decode().split()


def instruction_set() -> str:
    """The instruction set in use: the best, or the one named by WAVESYNTH_INSTRUCTION_SET."""
    return os.environ.get("WAVESYNTH_INSTRUCTION_SET") or next(iter(instruction_sets()), "")


def unsupported_reason(weights: DecodeWeights, platform: str | None) -> str | None:
    """Why the native loop does not support these weights on a platform; None if it does."""
    if platform not in ("cpu", None):
        return f"it runs on CPUs, and the weights are on a {platform}"
    if library() is None:
        return (
            "its library was not built, or is from another version: install wavesynth again with GCC or Clang on the path "
            "(pip install -v says why it was not built)"
        )
    if instruction_set() not in instruction_sets():
        return f"WAVESYNTH_INSTRUCTION_SET is {instruction_set()!r}: this machine has {', '.join(instruction_sets())}"
    spec = weights.spec
    if spec.output == "mixture" and (components := (weights.out_bias.size - spec.inputs) // 3) > buffers.COMPONENTS:
        return f"mixtures is {components}: it draws from at most {buffers.COMPONENTS}"
    return buffers.beyond_limits(sizes_of(weights))


def processors() -> int:
    """The number of processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def threads_for(weights: DecodeWeights, batch: int) -> int:
    """The number of threads: all processors for several streams, a few for one stream of a large network."""
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
    """Like `reference.decode`. threads: number of threads; None for `threads_for`."""
    assert library() is not None, "callers ask `unsupported_reason` first"
    spec = weights.spec
    steps, _, batch = uniforms.shape
    softmax = spec.output == "softmax"
    edges = mulaw.bin_edges(jnp.arange(mulaw.CODES))
    inputs = {name: getattr(weights, name) for name in buffers.WEIGHTS if name != "front"} | {
        "front": None if softmax else weights.front,
        "embedding": weights.front if softmax else None,
        "grid": mulaw.decode(jnp.arange(mulaw.CODES)),
        "edges": jnp.append(edges[0], edges[1][-1]),
        "uniforms": uniforms,
        "conditioning": conditioning,
        "frame_index": frame_index,
        "periods": periods,
        "forced": None if forced is None else quantize(forced, spec.quantization),
        "temperature": temperature,
        "recent": cache.recent,
        "rings": cache.rings,
        "phase": cache.phase,
    }
    sizes = sizes_of(weights) | {"T": steps, "B": batch}
    names = [buffer.name for buffer in buffers.INPUTS]
    results = [
        jax.ShapeDtypeStruct((0,) if buffer.name == "log_probs" and not log_probs else buffer.shape(sizes), jnp.float32)
        for buffer in buffers.OUTPUTS
    ]
    aliases = {names.index(b.alias): place for place, b in enumerate(buffers.OUTPUTS) if b.alias is not None}
    samples, scores, recent, rings = jax.ffi.ffi_call(TARGET, results, input_output_aliases=aliases)(
        *(_or_empty(inputs[buffer.name], buffer) for buffer in buffers.INPUTS),
        dilations=np.array(spec.dilations, np.int32), kernel_width=np.int32(spec.kernel_width),
        taps=np.int32(spec.taps), taps_ago=np.int32(spec.taps_ago), softmax=softmax, mulaw=spec.quantization == "mulaw",
        min_log_scale=np.float32(MIN_LOG_SCALE), top_p=np.float32(-1 if top_p is None else top_p),
        top_k=np.int32(top_k or 0), threads=np.int32(threads or threads_for(weights, batch)),
    )  # fmt: skip
    phase = (cache.phase + steps) % spec.period
    return samples, scores if log_probs else None, DecodeCache(recent, rings, phase)


def _or_empty(array: jax.Array | None, buffer: buffers.Buffer) -> jax.Array:
    if array is not None:
        return array
    assert buffer.optional, buffer.name
    return jnp.zeros((0,), buffer.type)
