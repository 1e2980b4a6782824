"""Chooses the sampler's implementation and device, and places the weights there."""

import os
import sys
import warnings
import weakref
from collections import OrderedDict
from typing import Any, Literal, NamedTuple

import jax

from wavesynth.errors import UserError
from wavesynth.kernels.wavenet_decode import DecodeSpec, DecodeWeights, pack
from wavesynth.kernels.wavenet_decode.api import choose

KEPT = 4  # cached packed weights: one synth in two types on two devices


class Placement(NamedTuple):
    """implementation: the implementation of `wavenet_decode`. device: the `jax.Device` of its arguments."""

    implementation: str
    device: Any


def place(implementation: str | None, weights: DecodeWeights) -> Placement:
    """Chooses the implementation and the device to sample with these weights.

    implementation: None for the fastest available: the native loop on the CPU, even on hosts with a GPU (with one warning). A
    named implementation is used without fallback, on its device.
    """
    default = jax.devices()[0]
    cpu = default if default.platform == "cpu" else _cpu()
    if implementation is None and cpu is not None:
        chosen = Placement(choose(None, weights, "cpu"), cpu)
        if cpu is not default:
            _say_once(
                f"JAX runs on a {default.platform}, but this model is sampled on the CPU, by {chosen.implementation!r}: to use "
                'the GPU kernel, set implementation="pallas"'
            )
        return chosen
    device = cpu if implementation == "native" and cpu is not None else default
    return Placement(choose(implementation, weights, device.platform), device)


def packed_weights(
    params: dict[str, Any], spec: DecodeSpec, dtype: Literal["float32", "bfloat16"], implementation: str | None = None
) -> tuple[DecodeWeights, Placement]:
    """A WaveNet's parameters, packed and moved to the sampling device, with a cache.

    The cache identifies arrays by `id`: arrays that are modified in place are not packed again.
    """
    check_process()
    leaves = jax.tree.leaves(params)
    wanted = (*map(id, leaves), spec, dtype, implementation)
    kept = _kept.get(wanted)
    if kept is not None and all(ref() is leaf for ref, leaf in zip(kept[0], leaves, strict=True)):
        _kept.move_to_end(wanted)
        return kept[1]
    shapes = jax.eval_shape(lambda: pack(params, spec, dtype))
    placement = place(implementation, shapes)
    weights = pack(jax.device_put(params, placement.device), spec, dtype)
    references = [weakref.ref(leaf, lambda _: _kept.pop(wanted, None)) for leaf in leaves]
    _kept[wanted] = references, (weights, placement)
    while len(_kept) > KEPT:
        _kept.popitem(last=False)
    return weights, placement


def check_process() -> None:
    """Raises UserError in a process forked from one that had used JAX, where most of JAX would hang."""
    if _forked:
        raise UserError(
            "this process was forked from one that had used JAX, whose threads do not survive a fork: start it with "
            'multiprocessing.get_context("spawn")'
        )


def check_precision() -> None:
    """Raises UserError where JAX computes in 64 bits: weights, states and kernels are of 32."""
    if jax.config.jax_enable_x64:  # pyright: ignore[reportAttributeAccessIssue]
        raise UserError(
            "JAX is set to 64 bits (JAX_ENABLE_X64), and the models are of 32: unset it, or call wavesynth inside "
            "`with jax.enable_x64(False):`"
        )


def _cpu() -> Any:
    try:
        return jax.devices("cpu")[0]
    except RuntimeError:  # JAX_PLATFORMS excludes the CPU
        return None


def _say_once(message: str) -> None:
    if message not in _said:
        _said.add(message)
        warnings.warn(message, stacklevel=2)


def _after_fork() -> None:
    global _forked
    bridge = sys.modules.get("jax._src.xla_bridge")  # JAX has no public API for this that does not start it
    _forked = getattr(bridge, "backends_are_initialized", lambda: True)()


_kept: OrderedDict[tuple, tuple[list, tuple[DecodeWeights, Placement]]] = OrderedDict()
_said: set[str] = set()
_forked = False
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
