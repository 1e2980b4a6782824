"""The GPU kernel, interpreted and compared with the plain loop; and that it lowers for CUDA.

Interpretation proves what the kernel computes, but not that threads wait for each other where they must.
"""

import contextlib
from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AbstractDevice, AbstractMesh, use_abstract_mesh

from wavesynth.errors import UserError
from wavesynth.kernels.wavenet_decode import IMPLEMENTATIONS, DecodeSpec, pallas, silent_cache, strategy
from wavesynth.kernels.wavenet_decode.api import choose
from wavesynth.kernels.wavenet_decode.arg_specs import NV, TESTED, ArgSpec
from wavesynth.kernels.wavenet_decode.weights import sizes_of
from wavesynth.models.wavenet import WaveNetConfig

STATIC = ("top_k", "top_p", "log_probs")
decode_plain = IMPLEMENTATIONS["jax"].decode
decode_interpreted = jax.jit(
    partial(pallas.decode, interpret=True), static_argnames=STATIC,
    compiler_options={"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True},  # in half the time
)  # fmt: skip
decode_compiled = jax.jit(pallas.decode, static_argnames=STATIC)

ODD = WaveNetConfig(
    stacks=1, layers_per_stack=3, channels=37, skip_channels=70, head_channels=5, mixtures=9, taps=20, kernel_width=3,
    vector_channels=0,
)  # fmt: skip
SPECS = TESTED | {
    "mixture-tile": replace(TESTED["mixture-conditioned"], batch=18),
    "softmax-tile": replace(TESTED["softmax-width-3"], batch=33),
    "odd-tile": ArgSpec(ODD, batch=19),
}


@pytest.mark.parametrize("name", SPECS)
def test_it_scores_as_the_plain_loop_does(make_case, name):
    make_case(SPECS[name]).check_scores(decode_interpreted)


def test_one_stream_multiplies_bfloat16_weights_in_float32(make_case):
    make_case(SPECS["mixture-periods"], "bfloat16").check_scores(decode_interpreted)


@pytest.mark.parametrize("name", ["mixture-tile", "softmax-tile"])
def test_a_tile_rounds_what_bfloat16_weights_are_multiplied_with(make_case, name):
    make_case(SPECS[name], "bfloat16").check_scores(decode_interpreted, rounded=True)


CUT = {"temperature": jnp.float32(0.7), "top_k": 3, "top_p": 0.8}


@pytest.mark.parametrize(
    ("name", "how"),
    [("mixture-periods", {}), ("softmax", {}), ("mixture-mulaw", CUT), ("softmax", CUT), ("softmax-tile", CUT)],
)
def test_it_draws_as_the_plain_loop_does(make_case, name, how):
    """On the edge of a bin one may fall either way, and all samples after it with it."""
    case = make_case(SPECS[name])
    plain, interpreted = (
        decode(**case.arguments(log_probs=False, **how)) for decode in (decode_plain, decode_interpreted)
    )
    same = np.asarray(interpreted[0] == plain[0])
    assert same[: len(same) // 2].mean() > 0.999
    assert interpreted[1] is None


def test_chunks_equal_the_whole(make_case):
    case = make_case(SPECS["mixture-conditioned"])
    arguments = case.arguments()
    whole = decode_interpreted(**arguments)
    cache, parts = arguments["cache"], []
    for part in (slice(0, 7), slice(7, 14), slice(14, 21)):  # of one length, so compiled once
        timed = {name: arguments[name][part] for name in ("uniforms", "frame_index")}
        samples, _, cache = decode_interpreted(**arguments | timed | {"cache": cache})
        parts.append(samples)
    np.testing.assert_array_equal(jnp.concatenate(parts), whole[0][:21])


@pytest.mark.parametrize(
    ("top_k", "top_p", "kept"),
    [(2, None, "0101"), (None, 0.5, "0101"), (None, 1.0, "1111"), (1, 0.9, "0100"), (9, None, "1111")],
)
@pytest.mark.parametrize("offset", [-3.0, 0.0, 90.0])
def test_what_is_likeliest_is_found_without_a_sort(top_k, top_p, kept, offset):
    logits = jnp.log(jnp.array([[0.1, 0.4, 0.2, 0.3]])) + offset
    assert np.isfinite(strategy.restrict(logits, top_k, top_p))[0].tolist() == [each == "1" for each in kept]


@pytest.mark.parametrize("name", ["mixture", "mixture-odd", "softmax-width-3", "odd-tile"])
def test_the_network_has_the_shapes_of_its_table(make_case, name):
    case = make_case(SPECS[name])
    likelihood = case.model.likelihood
    components = getattr(likelihood, "components", 0)
    plan = pallas.Plan(case.decode_spec, 1, components, None, None, True, 1, 1)
    sizes = sizes_of(case.weights) | {"M": components or 256}
    filled = {axis: max(16, 1 << (size - 1).bit_length()) if axis in "NCSHM" else size for axis, size in sizes.items()}
    network = jax.eval_shape(partial(pallas.lay_out, plan=plan), case.weights)._asdict()
    assert network.keys() == pallas.NETWORK.keys()
    for field, array in network.items():
        expected = [filled.get(axis, axis) for axis in pallas.NETWORK[field]]
        if not components and field in ("out", "out_bias"):
            expected[0] = 1
        assert array is None or list(array.shape) == expected, field
    absent = {field for field, array in network.items() if array is None}
    mixture_only = {"whitening", "linear", "log_scale", "front", "adaptive", "adaptive_bias"}
    assert absent == ({"embedding"} if components else mixture_only)


def test_equals_stay_together():
    logits = jnp.array([[0.0, 1.0, 1.0, -1.0]])
    assert np.isfinite(strategy.restrict(logits, 1, None))[0].tolist() == [False, True, True, False]


def test_no_steps_change_nothing(make_case):
    case = make_case(SPECS["mixture"])
    arguments = case.arguments() | {"uniforms": jnp.zeros((0, 2, 1))}
    samples, log_probs, cache = decode_interpreted(**arguments)
    assert samples.shape == log_probs.shape == (0, 1)
    jax.tree.map(np.testing.assert_array_equal, cache, arguments["cache"])


def test_tiles_grow_where_there_are_more_than_processors():
    assert [pallas.tile_for(batch) for batch in (1, 15, 16, 128, 2_048, 2_049, 100_000)] == [1, 1, 16, 16, 16, 32, 64]


@pytest.mark.skipif(jax.default_backend() == "gpu", reason="it can serve here")
def test_where_it_cannot_serve_it_says_why(make_case):
    with pytest.raises(UserError, match="'pallas', which cannot serve here: it runs on GPUs"):
        choose("pallas", make_case(SPECS["mixture"]).weights)


def without_a_gpu():
    """Lets JAX lower for a GPU that is not there; before 0.11 it did so by itself."""
    if jax.__version_info__ < (0, 11):
        return contextlib.nullcontext()
    device = AbstractDevice(device_kind="NVIDIA H200", num_cores=None, platform="gpu")
    return use_abstract_mesh(AbstractMesh((1,), ("x",), abstract_device=device))


def lower(arguments):
    with without_a_gpu():
        return decode_compiled.trace(**arguments).lower(lowering_platforms=("cuda",)).as_text()


@pytest.mark.parametrize("batch", [1, 16, 128])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_benchmarks_network_lowers_for_cuda(make_case, batch, dtype):
    weights = make_case(ArgSpec(NV), dtype).weights
    assert DecodeSpec.of(NV) == weights.spec
    arguments = dict(
        weights=weights, cache=jax.eval_shape(partial(silent_cache, batch=batch), weights), conditioning=None,
        frame_index=None, periods=None, uniforms=jax.ShapeDtypeStruct((512, 2, batch), jnp.float32), forced=None,
        temperature=jax.ShapeDtypeStruct((), jnp.float32), top_k=None, top_p=None, log_probs=False,
    )  # fmt: skip
    assert lower(arguments).count("wavenet_decode") >= 1


@pytest.mark.parametrize("name", ["mixture-conditioned", "mixture-periods", "softmax-conditioned", "odd-tile"])
def test_all_options_lower_for_cuda(make_case, name):
    case = make_case(SPECS[name])
    for forced in (None, case.samples.T):
        lower(case.arguments(forced=forced, top_k=3, top_p=0.8, log_probs=True))
