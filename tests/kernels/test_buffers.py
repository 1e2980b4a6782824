"""The table of the op's buffers, which the API, the native library and the GPU kernel follow."""

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from wavesynth.errors import UserError
from wavesynth.kernels.wavenet_decode import buffers, native, pack, silent_cache, wavenet_decode
from wavesynth.kernels.wavenet_decode.api import choose
from wavesynth.kernels.wavenet_decode.arg_specs import TESTED, ArgSpec
from wavesynth.kernels.wavenet_decode.weights import sizes_of

MANY = replace(TESTED["mixture"].model)
object.__setattr__(MANY, "mixtures", 80)  # more than a config may have: the op must look for itself
needs_library = pytest.mark.skipif(native.library() is None, reason="the native library was not built")


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("name", ["mixture-odd", "softmax-width-3"])
def test_packed_weights_have_the_shapes_of_the_table(make_case, name, dtype):
    weights = make_case(TESTED[name], dtype).weights
    given = {field: getattr(weights, field) for field in buffers.WEIGHTS}
    if weights.spec.output == "softmax":
        given["embedding"] = given.pop("front")
    assert buffers.mismatch(given, sizes_of(weights)) is None


@needs_library
def test_a_library_of_another_version_is_not_used(monkeypatch):
    assert native.library().wavesynth_buffers().decode() == buffers.table()
    monkeypatch.setattr(buffers, "INPUTS", buffers.INPUTS[:-1])
    assert native.library.__wrapped__() is None


@pytest.mark.parametrize(
    ("field", "change"),
    [
        ("skip_bias", lambda a: a[:-1]),
        ("dilated", lambda a: a[:, :1]),
        ("whitening", lambda a: a.astype(jnp.bfloat16)),
        ("head", lambda a: a[..., None]),
    ],
)
def test_weights_that_do_not_fit_are_named(make_case, field, change):
    case = make_case(TESTED["mixture"])
    weights = replace(case.weights, **{field: change(getattr(case.weights, field))})
    with pytest.raises(UserError, match=f"{field}|head|dilated_bias"):
        wavenet_decode(weights, case.cache(), None, case.uniforms)


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"periods": jnp.zeros(2, jnp.int32)}, "periods is"),
        ({"periods": jnp.zeros(1)}, "periods is float32: it must be int32"),
        ({"forced": jnp.zeros((3, 1))}, "forced is"),
        ({"top_k": 0}, "top_k is 0"),
        ({"top_p": 1.5}, "top_p is 1.5"),
        ({"temperature": 0.0}, "temperature is 0"),
    ],
)
def test_arguments_that_do_not_fit_are_named(make_case, changed, named):
    case = make_case(TESTED["mixture"])
    with pytest.raises(UserError, match=named):
        wavenet_decode(case.weights, case.cache(), None, case.uniforms, **changed)


@needs_library
def test_many_logistics_are_left_to_the_plain_loop(make_case):
    weights = make_case(ArgSpec(MANY, steps=4)).weights
    assert choose(None, weights) == "jax"
    with pytest.raises(UserError, match="mixtures is 80: it draws from at most 64"):
        choose("native", weights)


def test_a_network_beyond_the_limits_is_not_for_the_native_loop(make_case, monkeypatch):
    monkeypatch.setitem(buffers.LIMITS, "H", (1, 4))
    monkeypatch.setattr(native, "library", lambda: object())
    monkeypatch.setattr(native, "instruction_sets", lambda: ["generic"])
    monkeypatch.setattr(native, "instruction_set", lambda: "generic")
    reason = native.unsupported_reason(make_case(TESTED["mixture"]).weights, "cpu")
    assert reason == "H is 20: it must lie between 1 and 4"


@needs_library
@pytest.mark.parametrize(
    ("name", "changed", "message"),
    [
        ("mixture", {"temperature": jnp.float32(0)}, "temperature"),
        ("mixture", {"temperature": jnp.float32(jnp.nan)}, "temperature"),
        ("mixture", {"top_k": -1}, "top_k is -1"),
        ("mixture", {"top_p": 2.0}, "top_p"),
        ("mixture", {"threads": -1}, "threads is -1"),
        ("mixture", {"phase": -1}, "phase is -1"),
        ("mixture", {"phase": 2**31 - 1}, "phase is"),
        ("mixture-periods", {"periods": jnp.array([41], jnp.int32) + 2}, "the period of stream 0 is 43"),
        ("mixture-periods", {"periods": jnp.array([-5], jnp.int32)}, "the period of stream 0 is -5"),
        ("mixture-conditioned", {"frame_index": jnp.full(64, 7, jnp.int32)}, "frame_index is 7 at step 0, of 7 frames"),
        ("mixture-conditioned", {"frame_index": jnp.full(64, -1, jnp.int32)}, "frame_index is -1"),
        ("mixture-conditioned", {"frame_index": None}, "without frame_index"),
        ("mixture", {"forced": jnp.zeros((64, 3))}, "forced has 3 places on axis 1: it must have 1"),
    ],
)
def test_the_library_refuses_what_would_lead_outside_its_buffers(make_case, name, changed, message):
    arguments = make_case(TESTED[name]).arguments() | {"threads": 1}
    if "phase" in changed:
        changed = {"cache": replace(arguments["cache"], phase=jnp.int32(changed["phase"]))}
    static = ("top_k", "top_p", "log_probs", "threads")
    with pytest.raises((ValueError, RuntimeError), match=message):
        jax.block_until_ready(jax.jit(native.decode, static_argnames=static)(**arguments | changed))


@needs_library
def test_the_library_refuses_many_logistics(make_case):
    case = make_case(ArgSpec(MANY, steps=4))
    with pytest.raises((ValueError, RuntimeError), match="at most 64 logistics"):
        jax.block_until_ready(jax.jit(partial(native.decode, top_k=None, top_p=None, log_probs=False))(
            **{k: v for k, v in case.arguments().items() if k not in ("top_k", "top_p", "log_probs")}
        ))  # fmt: skip


@needs_library
def test_dilations_need_not_be_powers_of_two(make_case):
    """Every ring buffer is back where it began after the least common multiple of their lengths."""
    case = make_case(TESTED["mixture"])
    spec = replace(case.decode_spec, dilations=(1, 2, 3, 1, 5, 4))
    assert spec.period == 60
    weights = pack(case.params, spec)
    uniforms = jax.random.uniform(jax.random.key(5), (90, 2, 1))
    cache = {name: silent_cache(weights, 1) for name in ("native", "jax")}
    samples = {}
    for name in cache:
        first = wavenet_decode(weights, cache[name], None, uniforms[:70], implementation=name)
        second = wavenet_decode(weights, first.cache, None, uniforms[70:], implementation=name)
        samples[name] = np.concatenate([first.samples, second.samples])
        assert int(second.cache.phase) == 30
    np.testing.assert_array_equal(samples["native"][:40], samples["jax"][:40])
