import jax
import jax.numpy as jnp
import numpy as np
import pytest

from wavesynth.audio import mulaw
from wavesynth.models.likelihoods import LogisticMixture, MulawSoftmax, quantize

GRIDS = {
    "int16": jnp.arange(-32_768, 32_768) / 32_768,
    "mulaw": mulaw.decode(jnp.arange(256)),
}


def mixture_outputs(locations, scales):
    logits = jnp.linspace(0.0, 1.0, len(locations))
    return jnp.concatenate([logits, jnp.array(locations), jnp.log(jnp.array(scales))])


@pytest.mark.parametrize("quantization", ["int16", "mulaw"])
@pytest.mark.parametrize(
    ("locations", "scales"),
    [
        ([0.0], [0.1]),
        ([0.3, -0.2], [1e-3, 1e-2]),
        ([0.0, 0.0], [1e-6, 3.0]),
        ([1.5, -1.5], [0.1, 0.1]),
        ([0.2], [2e-5]),
    ],
)
def test_the_mass_of_all_bins_is_one(quantization, locations, scales):
    grid = GRIDS[quantization]
    outputs = jnp.broadcast_to(mixture_outputs(locations, scales), (len(grid), 3 * len(locations)))
    nats = LogisticMixture(len(locations), quantization).log_prob(outputs, grid)
    assert float(jnp.exp(nats).sum()) == pytest.approx(1, abs=2e-3)
    assert bool(jnp.all(jnp.isfinite(nats)))


def test_a_fine_mixture_is_its_density_times_the_bin():
    location, scale = 0.1, 0.05
    samples = jnp.linspace(-0.2, 0.4, 61)
    nats = LogisticMixture(1, "int16").log_prob(
        jnp.broadcast_to(mixture_outputs([location], [scale]), (61, 3)), samples
    )
    z = (np.asarray(quantize(samples, "int16"), np.float64) - location) / scale
    density = np.exp(-z) / (scale * (1 + np.exp(-z)) ** 2)
    np.testing.assert_allclose(nats, np.log(density / 32_768), atol=1e-3)


def test_gradients_are_finite_far_from_the_mean():
    likelihood = LogisticMixture(2, "int16")
    outputs = mixture_outputs([0.9, 0.9], [1e-6, 1e-6])

    def log_prob(outputs, sample):
        return likelihood.log_prob(outputs[None], jnp.array([sample]))[0]

    for sample in (-1.0, -0.5, 0.0, 0.9, 1.0):
        assert bool(jnp.all(jnp.isfinite(jax.grad(log_prob)(outputs, sample))))


def test_a_softmax_is_a_distribution_over_codes():
    outputs = jax.random.normal(jax.random.key(0), (256,)) * 3
    nats = MulawSoftmax().log_prob(jnp.broadcast_to(outputs, (256, 256)), GRIDS["mulaw"])
    np.testing.assert_allclose(nats, jax.nn.log_softmax(outputs), atol=1e-5)


@pytest.mark.parametrize("quantization", ["int16", "mulaw"])
def test_quantizing_keeps_the_middles_of_bins(quantization):
    np.testing.assert_allclose(quantize(GRIDS[quantization], quantization), GRIDS[quantization], atol=1e-7)
