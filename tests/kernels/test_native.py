"""The native sampler, compared with the plain loop: every instruction set of this machine, one thread and several."""

import ctypes
from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wavesynth.errors import UserError
from wavesynth.kernels.wavenet_decode import IMPLEMENTATIONS, native
from wavesynth.kernels.wavenet_decode.api import choose
from wavesynth.kernels.wavenet_decode.arg_specs import MEASURED, NV, TESTED, ArgSpec
from wavesynth.models.wavenet import WaveNetConfig

INSTRUCTION_SETS = native.instruction_sets()
STATIC = ("top_k", "top_p", "log_probs")
decode_native = jax.jit(native.decode, static_argnames=(*STATIC, "threads"))

pytestmark = pytest.mark.skipif(not INSTRUCTION_SETS, reason="the native library was not built")


@pytest.fixture(params=INSTRUCTION_SETS)
def instruction_set(request, monkeypatch):
    monkeypatch.setenv("WAVESYNTH_INSTRUCTION_SET", request.param)
    return request.param


def check_scores(case, threads):
    rounded = case.dtype == "bfloat16" and native.instruction_set() == "avx512bf16"
    case.check_scores(partial(decode_native, threads=threads), rounded)


def check_draws(case, threads, **options):
    """The same uniforms draw the same samples. At the edge of a bin one may fall either way, and then all after it differ."""
    drawn = case.arguments(log_probs=False, **options)
    same = np.asarray(decode_native(**drawn, threads=threads)[0] == case.decode_plain(**drawn)[0])
    assert same[: same.shape[0] // 2].mean() > 0.999


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("name", TESTED)
def test_it_equals_the_plain_loop(make_case, monkeypatch, name, threads):
    for instruction_set in INSTRUCTION_SETS:
        monkeypatch.setenv("WAVESYNTH_INSTRUCTION_SET", instruction_set)
        check_scores(make_case(TESTED[name]), threads)
    check_draws(make_case(TESTED[name]), threads)


@pytest.mark.parametrize("name", ["mixture-batch-5", "softmax-width-3"])
@pytest.mark.parametrize("how", [{"top_k": 2}, {"temperature": jnp.float32(0.7), "top_k": 3, "top_p": 0.9}])
def test_it_draws_as_the_plain_loop_does(make_case, name, how):
    check_draws(make_case(TESTED[name]), 1, **how)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("name", ["mixture-conditioned", "softmax-width-3", "mixture-periods", "mixture-odd"])
def test_bfloat16_weights_equal_the_plain_loop_on_the_same_weights(make_case, monkeypatch, name, threads):
    for instruction_set in INSTRUCTION_SETS:
        monkeypatch.setenv("WAVESYNTH_INSTRUCTION_SET", instruction_set)
        check_scores(make_case(TESTED[name], "bfloat16"), threads)


@pytest.mark.parametrize("name", MEASURED)
def test_the_shapes_that_benchmarks_measure(make_case, name):
    """Both types of weights, a few steps each; one stream by two threads, as benchmarks run it."""
    for dtype in ("float32", "bfloat16"):
        check_scores(make_case(replace(MEASURED[name], steps=24), dtype), 2)


@settings(max_examples=5)
@given(
    channels=st.integers(1, 70), skip=st.integers(1, 70), head=st.integers(1, 70), mixtures=st.integers(1, 9),
    taps=st.integers(1, 20), kernel_width=st.sampled_from([2, 3]), batch=st.integers(1, 9), threads=st.integers(1, 5),
    dtype=st.sampled_from(["float32", "bfloat16"]),
)  # fmt: skip
def test_any_shape(make_case, channels, skip, head, mixtures, taps, kernel_width, batch, threads, dtype):
    model = WaveNetConfig(
        stacks=1, layers_per_stack=3, channels=channels, skip_channels=skip, head_channels=head, mixtures=mixtures,
        taps=taps, kernel_width=kernel_width, vector_channels=0,
    )  # fmt: skip
    check_scores(make_case(ArgSpec(model, batch=batch, steps=20), dtype), threads)


def test_one_more_thread_than_there_are_processors_ends(make_case):
    check_scores(make_case(ArgSpec(NV, steps=100)), native.processors() + 1)


def test_exponentials_and_gates_are_within_their_bounds(instruction_set):
    library = native.library()
    values = np.concatenate([np.linspace(-87, 88, 1_000_003), [0, -0.0, 1e-30, -1e-30]]).astype(np.float32)
    computed = values.copy()
    library.wavesynth_exp(computed.ctypes.data_as(ctypes.c_void_p), len(computed))
    exact = np.exp(values.astype(np.float64))
    np.testing.assert_allclose(computed, exact, rtol=3e-7)
    signal, gate = (part.astype(np.float32) for part in np.random.default_rng(0).normal(0, 8, (2, 100_000)))
    signal[:6], gate[:6] = [0, 1e-6, -1e-6, 1e4, -1e4, 50], [0, 100, -100, 1e4, -1e4, -50]
    z, gated = np.concatenate([signal, gate, np.zeros(64, np.float32)]), np.zeros(len(signal) + 64, np.float32)
    library.wavesynth_gate(z.ctypes.data_as(ctypes.c_void_p), len(signal), gated.ctypes.data_as(ctypes.c_void_p))
    with np.errstate(over="ignore"):
        exact = np.tanh(signal.astype(np.float64)) / (1 + np.exp(-gate.astype(np.float64)))
    np.testing.assert_allclose(gated[: len(signal)], exact, rtol=0, atol=4e-7)


def test_nothing_is_taken_where_the_library_is_not(monkeypatch, make_case):
    weights = make_case(TESTED["mixture"]).weights
    assert choose(None, weights) == "native"
    monkeypatch.setattr(native, "library", lambda: None)
    assert choose(None, weights) == "jax"
    with pytest.raises(UserError, match="'native', which cannot serve here: its library was not built"):
        choose("native", weights)


def test_an_instruction_set_that_is_not_there_is_named(monkeypatch, make_case):
    monkeypatch.setenv("WAVESYNTH_INSTRUCTION_SET", "mmx")
    assert "mmx" in (IMPLEMENTATIONS["native"].unsupported_reason(make_case(TESTED["mixture"]).weights, "cpu") or "")


def test_one_stream_of_a_small_network_takes_one_thread(monkeypatch, make_case):
    monkeypatch.setattr(native, "processors", lambda: 8)
    small = make_case(TESTED["mixture"]).weights
    assert native.threads_for(small, 1) == 1
    assert native.threads_for(small, 5) == 5
    assert native.threads_for(small, 64) == 8
    large = replace(small, out=np.zeros(native.SHARED_WEIGHTS, np.float32))
    assert native.threads_for(large, 1) == native.MOST_SHARED_THREADS


def test_a_state_that_is_not_given_away_is_not_changed(make_case):
    case = make_case(TESTED["mixture-batch-5"])
    arguments = case.arguments()
    before = jax.tree.map(np.array, arguments["cache"])
    decode_native(**arguments, threads=2)
    jax.tree.map(np.testing.assert_array_equal, arguments["cache"], before)


def test_no_steps_change_nothing(make_case):
    case = make_case(TESTED["mixture"])
    arguments = case.arguments() | {"uniforms": jnp.zeros((0, 2, 1))}
    samples, _, cache = decode_native(**arguments)
    assert samples.shape == (0, 1)
    jax.tree.map(partial(np.testing.assert_array_equal), cache, arguments["cache"])


def test_several_threads_make_the_very_samples_of_one(make_case):
    """One stream is summed in the same order by any number of threads, also where they gave up in between."""
    case = make_case(ArgSpec(NV, steps=100))
    alone, together = (decode_native(**case.arguments(log_probs=False), threads=threads) for threads in (1, 2))
    jax.tree.map(np.testing.assert_array_equal, alone[2], together[2])
    np.testing.assert_array_equal(alone[0], together[0])
