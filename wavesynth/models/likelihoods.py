"""Output distributions of one sample given its past: what a network's last layer parametrises.

Each is a small frozen dataclass with the same three members, so that a network, an objective and a sampler may hold any:

* `width`: how many numbers the network must give for each sample;
* `quantization`: the grid of bins it is integrated over;
* `log_prob(outputs, samples)`: nats of the bin that holds each sample.

Drawing from them is the sampler's work: see `wavesynth.kernels.wavenet_decode`.
"""

import math
from dataclasses import dataclass
from typing import Literal

import jax
import jax.numpy as jnp

from wavesynth.audio import mulaw

Quantization = Literal["int16", "mulaw"]
MIN_LOG_SCALE = math.log(1e-6)  # a logistic a thirtieth of a 16-bit step wide is as sharp as anything needs to be


@dataclass(frozen=True)
class MulawSoftmax:
    """A softmax over the 256 mu-law codes (van den Oord et al., 2016)."""

    quantization: Quantization = "mulaw"

    @property
    def width(self) -> int:
        return mulaw.CODES

    def log_prob(self, outputs: jax.Array, samples: jax.Array) -> jax.Array:
        """Logits [..., 256] and samples [...] to nats [...]."""
        codes = jnp.expand_dims(jnp.arange(mulaw.CODES), range(samples.ndim))
        hit = (
            codes == mulaw.encode(samples)[..., None]
        )  # a comparison: the gradient of an indexed read is a slow scatter
        return jnp.sum(jnp.where(hit, outputs, 0.0), axis=-1) - jax.nn.logsumexp(outputs, axis=-1)


@dataclass(frozen=True)
class LogisticMixture:
    """A mixture of logistics over amplitude, integrated over the bins of a quantisation (Salimans et al., 2017).

    The outputs of one sample are, side by side: `components` logits, locations (amplitude) and log scales.
    """

    components: int
    quantization: Quantization = "int16"

    @property
    def width(self) -> int:
        return 3 * self.components

    def split(self, outputs: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        """Outputs [..., 3 K] to log weights, locations and scales, each [..., K]."""
        logits, locations, log_scales = jnp.split(outputs, 3, axis=-1)
        return jax.nn.log_softmax(logits), locations, jnp.exp(jnp.maximum(log_scales, MIN_LOG_SCALE))

    def log_prob(self, outputs: jax.Array, samples: jax.Array) -> jax.Array:
        """Outputs [..., 3 K] and samples [...] to nats [...].

        A bin's mass under one logistic is sigmoid(b) - sigmoid(a) = sigmoid(b) sigmoid(-a) (1 - exp(a - b)): a product
        without cancellation. The outermost bins reach to infinity.
        """
        log_weights, locations, scales = self.split(outputs)
        lower, upper, is_lowest, is_highest = self.bins(samples)
        above = (upper[..., None] - locations) / scales
        below = (lower[..., None] - locations) / scales
        log_mass = jnp.where(is_highest[..., None], 0.0, jax.nn.log_sigmoid(above))
        log_mass += jnp.where(is_lowest[..., None], 0.0, jax.nn.log_sigmoid(-below))
        inside = ~(is_lowest | is_highest)[..., None]
        bin_width = (upper - lower)[..., None] / scales
        log_mass += jnp.where(inside, jnp.log(-jnp.expm1(-jnp.maximum(bin_width, 1e-12))), 0.0)
        return jax.nn.logsumexp(log_weights + log_mass, axis=-1)

    def bins(self, samples: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
        """Lower and upper edge of each sample's bin, and whether it is the lowest or the highest one."""
        if self.quantization == "mulaw":
            codes = mulaw.encode(samples)
            return *mulaw.bin_edges(codes), codes == 0, codes == mulaw.MU
        steps = pcm_steps(samples)
        return (steps - 0.5) / 32768, (steps + 0.5) / 32768, steps <= -32768, steps >= 32767


def pcm_steps(samples: jax.Array) -> jax.Array:
    """Samples [...] to whole 16-bit steps, float32 [...] in -32768..32767."""
    return jnp.clip(jnp.round(samples * 32768), -32768, 32767)


def quantize(samples: jax.Array, quantization: Quantization) -> jax.Array:
    """Samples [...] moved to the middles of their bins."""
    if quantization == "mulaw":
        return mulaw.decode(mulaw.encode(samples))
    return pcm_steps(samples) / 32768
