from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from wavesynth.errors import UserError
from wavesynth.models.functional import initialize, pure
from wavesynth.models.layers import UNROLLED, gate, over_examples, product
from wavesynth.models.wavenet import WaveNet, WaveNetConfig

SMALL = WaveNetConfig(
    stacks=2, layers_per_stack=3, channels=8, skip_channels=12, head_channels=10, taps=4, vector_channels=0
)  # fmt: skip
TARGETS = 20


def network(config, seed=0):
    def make(rngs):
        return WaveNet(config, rngs=rngs)

    params = initialize(make, jax.random.key(seed))
    noise = jax.random.normal(jax.random.key(seed + 1), (1,))[0]
    return pure(make), jax.tree.map(lambda leaf: leaf + 0.1 * noise * jnp.ones_like(leaf), params)


def log_probs(config, params, bind, samples):
    outputs = bind(params)(samples)
    return config.likelihood.log_prob(outputs, samples[:, config.receptive_field :])


def test_one_period_ago_is_seen():
    """Of the last target, where the period reaches beyond the other taps; without a period those samples count nothing."""
    config = replace(SMALL, stacks=1, layers_per_stack=1, period_taps=4, longest_period=30)
    bind, params = network(config)
    samples = 0.3 * jax.random.normal(jax.random.key(2), (1, config.receptive_field + TARGETS))
    outputs = jax.jit(lambda samples, periods: bind(params)(samples, None, None, periods)[0, -1])
    target = samples.shape[1] - 1

    def seen(period):
        periods = jnp.array([period], jnp.int32)
        before = outputs(samples, periods)
        places = range(samples.shape[1])
        changed = [p for p in places if not np.array_equal(before, outputs(samples.at[0, p].multiply(-1), periods))]
        return [target - place for place in changed]

    recent = list(range(config.taps + 1, 0, -1))  # one more than the taps, by the dilated convolution
    assert seen(0) == recent
    assert seen(20) == [23, 22, 21, 20, 19, *recent]  # two before and one behind it, and one more
    assert max(seen(30)) == 33
    assert config.receptive_field >= 33


def test_one_frame_held_equals_frames_that_are_alike():
    config = replace(SMALL, frame_channels=3, hop_length=8)
    bind, params = network(config)
    samples = 0.3 * jax.random.normal(jax.random.key(2), (2, config.receptive_field + TARGETS))
    frame = jax.random.normal(jax.random.key(3), (2, 1, 3))
    count = config.context_frames + -(-TARGETS // config.hop_length)
    held, repeated = (bind(params)(samples, None, frames) for frames in (frame, jnp.repeat(frame, count, axis=1)))
    np.testing.assert_allclose(held, repeated, atol=1e-5)


def test_frames_are_heard_from_their_first_sample_on():
    config = replace(SMALL, frame_channels=3, hop_length=8)
    bind, params = network(config)
    samples = jnp.zeros((1, config.receptive_field + TARGETS))
    frames = jnp.zeros((1, config.context_frames + 3, 3))
    second = frames.at[0, config.context_frames + 1].set(1.0)
    changed = np.abs(bind(params)(samples, None, frames) - bind(params)(samples, None, second)).max(axis=(0, 2)) > 0
    assert changed.tolist() == [place >= config.hop_length for place in range(TARGETS)]


def test_bfloat16_is_close_to_float32():
    bind, params = network(SMALL)
    bind_half, _ = network(replace(SMALL, dtype="bfloat16"))
    samples = 0.3 * jax.random.normal(jax.random.key(2), (2, SMALL.receptive_field + 64))
    full, half = (log_probs(SMALL, params, one, samples).mean() for one in (bind, bind_half))
    assert float(full) == pytest.approx(float(half), rel=2e-2)
    assert full != half


def test_gate_is_the_published_one_and_so_is_its_gradient():
    z = jax.random.normal(jax.random.key(0), (10, 7))

    def plain(z):
        return jnp.tanh(z[:5]) * jax.nn.sigmoid(z[5:])

    weights = jax.random.normal(jax.random.key(1), (5, 7))
    np.testing.assert_allclose(gate(z), plain(z), atol=1e-6)
    gradients = [jax.grad(lambda z, f=f: (weights * f(z)).sum())(z) for f in (gate, plain)]
    np.testing.assert_allclose(*gradients, atol=1e-6)


def test_product_is_a_product_and_so_is_its_gradient():
    matrix, x = jax.random.normal(jax.random.key(0), (3, 4)), jax.random.normal(jax.random.key(1), (3, 9))
    weights = jax.random.normal(jax.random.key(2), (4, 9))
    pairs = zip(
        jax.grad(lambda m, x: (weights * product(m, x)).sum(), argnums=(0, 1))(matrix, x),
        jax.grad(lambda m, x: (weights * (m.T @ x)).sum(), argnums=(0, 1))(matrix, x),
        strict=True,
    )
    for ours, plain in pairs:
        np.testing.assert_allclose(ours, plain, atol=1e-5)


@pytest.mark.parametrize("size", [1, 3, 4, 5, 8, 18, 31])
def test_any_batch_is_a_program_of_few_copies(size):
    copies = []

    def one(x, nothing):
        assert nothing is None
        copies.append(x)
        return 2 * x

    x = jnp.arange(3.0 * size).reshape(size, 3)
    np.testing.assert_array_equal(over_examples(one, x, None), 2 * x)
    assert len(copies) < 2 * UNROLLED


@pytest.mark.parametrize("backend", ["cpu", "gpu"])
def test_examples_do_not_mix(monkeypatch, backend):
    """Eight examples run in groups on a CPU and as one batch elsewhere; each alone must give the same, gradients too."""
    bind, params = network(SMALL)
    samples = 0.3 * jax.random.normal(jax.random.key(2), (8, SMALL.receptive_field + TARGETS))

    def total(params, samples):
        return -log_probs(SMALL, params, bind, samples).sum()

    alone = [jax.value_and_grad(total)(params, samples[index : index + 1]) for index in range(8)]
    monkeypatch.setattr(jax, "default_backend", lambda: backend)
    value, gradient = jax.value_and_grad(total)(params, samples)
    assert float(value) == pytest.approx(sum(float(value) for value, _ in alone), rel=1e-6)
    added = jax.tree.map(lambda *leaves: sum(leaves), *(gradient for _, gradient in alone))
    for ours, expected in zip(jax.tree.leaves(gradient), jax.tree.leaves(added), strict=True):
        np.testing.assert_allclose(ours, expected, rtol=1e-3, atol=1e-4 * float(jnp.abs(expected).max() + 1))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(channels=0), "channels is 0: it must be at least 1"),
        (dict(kernel_width=4), "kernel_width is 4: it must be at least 2 and at most 3"),
        (dict(mixtures=80), "mixtures is 80: it must be at least 1 and at most 64"),
        (dict(stacks=10**6), "stacks is 1000000: it must be at least 1 and at most 64"),
        (dict(layers_per_stack=10**5), "layers_per_stack is 100000: it must be at least 0 and at most 16"),
        (dict(stacks=33, layers_per_stack=8), "stacks is 33: that gives 264 layers in total, more than 256"),
        (
            dict(stacks=16, layers_per_stack=16, kernel_width=3),
            "layers_per_stack is 16: that gives a receptive field of 2,0",
        ),
        (dict(layers_per_stack=16, channels=8_192), "channels is 8,192: with these dilations, a stream would cache"),
        (dict(output="foo"), "output is 'foo': choose one of 'mixture', 'softmax'"),
        (dict(output="softmax"), 'quantization is "int16": a softmax needs'),
        (dict(quantization="int8"), "quantization is 'int8': choose one of 'int16', 'mulaw'"),
        (dict(dtype="float64"), "dtype is 'float64': choose one of 'float32', 'bfloat16'"),
        (dict(period_taps=-3), "period_taps is -3: it must be at least 0"),
        (dict(vector_channels=-4), "vector_channels is -4: it must be at least 0"),
        (dict(labels=2, vector_channels=0), "labels is 2 and vector_channels 0: labels need an embedding"),
    ],
)
def test_an_impossible_shape_is_named(change, message):
    with pytest.raises(UserError, match=f"^{message}"):
        replace(SMALL, **change)
