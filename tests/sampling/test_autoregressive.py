"""Endless sampling in chunks: its conditioning, its randomness, its device."""

import gc
import os
import warnings
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.tolerances import assert_close
from wavesynth.errors import UserError
from wavesynth.kernels.wavenet_decode import Conditioning, DecodeSpec, silent_cache, wavenet_decode
from wavesynth.models.functional import initialize
from wavesynth.models.wavenet import WaveNet, WaveNetConfig
from wavesynth.sampling import decoder, devices
from wavesynth.sampling.autoregressive import ConditioningSchedule, Place, WaveNetConditions, WaveNetDecoder, stream
from wavesynth.sampling.decoder import CHUNK, Randomness
from wavesynth.sampling.devices import packed_weights, place
from wavesynth.sampling.strategies import Strategy

MODEL = WaveNetConfig(
    stacks=1, layers_per_stack=3, channels=8, skip_channels=8, head_channels=8, taps=4, vector_channels=3,
    frame_channels=2, hop_length=200,
)  # fmt: skip
SPEC = DecodeSpec.of(MODEL)


@pytest.fixture(scope="module")
def params():
    fresh = initialize(lambda rngs: WaveNet(MODEL, rngs=rngs), jax.random.key(0))
    return jax.tree.map(np.asarray, fresh | {"fixed_log_scale": jnp.float32(-4)})


@pytest.fixture(scope="module")
def schedule(params):
    """Two sounds, local conditioning of nine frames, two of them before the first sample."""
    vector, frames = (np.random.default_rng(0).standard_normal(shape, np.float32) for shape in [(2, 3), (2, 9, 2)])
    return ConditioningSchedule.of(params, vector, frames, SPEC, 2, MODEL.hop_length)


def whole_table(schedule, place):
    """The conditioning of samples at `place`, looked up in the table of all frames."""
    table = np.asarray(schedule.table(0, schedule.num_frames))
    return table[np.clip(place // schedule.hop_length + schedule.before, 0, len(table) - 1)]


@pytest.mark.parametrize("num_frames", [1, 2, 5, 40])
@pytest.mark.parametrize("before", [0, 3])
def test_the_conditioning_of_a_chunk_is_a_part_of_the_whole(params, num_frames, before):
    frames = jnp.asarray(np.random.default_rng(0).standard_normal((1, num_frames, 2)), jnp.float32)
    schedule = ConditioningSchedule.of(params, jnp.ones((1, 3)), frames, SPEC, before, 8)
    assert schedule.num_frames == num_frames
    for start, length in [(-70, 64), (-3, 64), (0, 64), (64, 64), (57, 1), (128, 256), (10_000, 64)]:
        table, index = jax.jit(lambda place: schedule.at(place, length))(Place.of(start, 8))  # noqa: B023
        expected = whole_table(schedule, start + np.arange(length))
        assert_close(table[index], expected, terms=5, scale=4 * np.abs(expected).max())
        assert len(table) == min(num_frames, (length - 1) // 8 + 2)  # whatever the place: one program for all chunks


def test_a_place_goes_on_until_conditions_are_held(schedule):
    place = Place.of(-500, MODEL.hop_length)
    assert (place.frame, place.offset) == (-3, 100)
    for _ in range(50):
        place = place.after(CHUNK, schedule)
    assert (int(place.frame), int(place.offset)) == (schedule.num_frames, (50 * CHUNK - 500) % MODEL.hop_length)


def test_rows_have_randomness_of_their_own():
    two, three = (np.asarray(Randomness(np.uint32(7), np.uint32(1)).uniforms(50, rows)) for rows in (2, 3))
    np.testing.assert_array_equal(two, three[..., :2])
    key = jax.random.fold_in(jax.random.fold_in(jax.random.key(7), 1), 1)
    np.testing.assert_array_equal(two[..., 1], jax.random.uniform(key, (50, 2)))
    shared = np.asarray(Randomness(np.uint32(7), np.uint32(1), shared=True).uniforms(50, 3))
    np.testing.assert_array_equal(shared, np.broadcast_to(two[..., :1], shared.shape))
    assert not np.array_equal(two, Randomness(np.uint32(7), np.uint32(2)).uniforms(50, 2))


@pytest.mark.parametrize("primed", [False, True])
def test_a_stream_is_the_op_on_one_long_run(params, schedule, primed):
    """From sample 0, over three chunks: the same uniforms and conditions, given to one call of the op."""
    prime = (0.1 * np.sin(np.arange(CHUNK + 300))).astype(np.float32) if primed else None
    weights, placement = packed_weights(params, SPEC, "float32")
    blocks = stream((weights, placement), 2, 5, schedule=schedule, strategy=Strategy(0.8, top_k=3), prime=prime)
    made = np.concatenate([next(blocks) for _ in range(3)], axis=1)
    uniforms = jnp.concatenate([Randomness(np.uint32(5), np.uint32(chunk)).uniforms(CHUNK, 2) for chunk in range(3)])

    def conditioning(first, last):
        rows = np.arange(first, last)
        return Conditioning(jnp.asarray(whole_table(schedule, rows)), jnp.arange(len(rows), dtype=jnp.int32))

    cache = silent_cache(weights, 2, schedule.table(0, 1)[0])
    if prime is not None:
        forced, idle = jnp.tile(prime[:, None], (1, 2)), jnp.zeros((len(prime), 2, 2))
        cache = wavenet_decode(weights, cache, conditioning(-len(prime), 0), idle, forced=forced).cache
    how = dict(temperature=0.8, top_k=3, implementation=placement.implementation)
    whole = wavenet_decode(weights, cache, conditioning(0, 3 * CHUNK), uniforms, **how)
    np.testing.assert_array_equal(made, whole.samples.T)


def test_weights_are_packed_once_for_the_same_arrays(params):
    first, again = (packed_weights(params, SPEC, "float32") for _ in range(2))
    assert first is again
    assert packed_weights(params, SPEC, "bfloat16")[0].out.dtype == jnp.bfloat16
    assert packed_weights(params, SPEC, "float32") is first
    others = jax.tree.map(np.copy, params)
    assert packed_weights(others, SPEC, "float32") is not first
    count = len(devices._kept)
    del others
    gc.collect()
    assert len(devices._kept) == count - 1


def test_a_stream_needs_no_upload_per_chunk(params, schedule):
    weights, placement = packed_weights(params, SPEC, "float32")
    wavenet = WaveNetDecoder(weights, placement)
    conditions = wavenet.put(WaveNetConditions(schedule, None))
    state = wavenet.init(2, conditions)
    samples, state = wavenet.decode(state, conditions, Randomness(np.uint32(0), np.uint32(0)), 64)
    assert samples.shape == (2, 64)
    leaves = jax.tree.leaves((weights, conditions, state))
    assert all(isinstance(leaf, jax.Array) and leaf.committed for leaf in leaves)


class Counter:
    """The simplest decoder: row i counts up from 100 i, in steps of its condition."""

    def init(self, batch, conditions):
        return 100 * jnp.arange(batch)

    def decode(self, state, conditions, randomness, count):
        steps = conditions * jnp.arange(count)
        return state[:, None] + steps[None], state + conditions * count


def test_any_decoder_streams():
    blocks = decoder.stream(Counter(), 2, 0, 3, count=4)
    made = np.concatenate([next(blocks) for _ in range(2)], axis=1)
    np.testing.assert_array_equal(made, np.array([0, 100])[:, None] + 3 * np.arange(8))


def test_on_a_host_with_a_gpu_the_cpu_samples_and_that_is_said_once(params, monkeypatch):
    cpu, gpu = jax.devices()[0], SimpleNamespace(platform="gpu")
    monkeypatch.setattr(jax, "devices", lambda backend=None: [cpu if backend == "cpu" else gpu])
    monkeypatch.setattr(devices, "_said", set())
    weights, placement = packed_weights(params, SPEC, "float32")
    with pytest.warns(UserWarning, match="JAX runs on a gpu, but this model is sampled on the CPU"):
        chosen = place(None, weights)
    assert chosen == placement
    assert place(None, weights) == placement  # not said again: a warning would be an error
    assert place("pallas", weights) == ("pallas", gpu)
    assert place("jax", weights) == ("jax", gpu)
    if placement.implementation == "native":
        assert place("native", weights) == placement


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system has no fork")
def test_a_forked_process_says_why_it_cannot_sample():
    """It would wait for ever: JAX's threads are not in the child."""
    jax.devices()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # JAX and Python warn of the fork itself
        child = os.fork()
    if child == 0:
        try:
            devices.check_process()
        except UserError as error:
            os._exit(3 if "spawn" in str(error) else 4)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 3
    devices.check_process()  # the parent goes on
