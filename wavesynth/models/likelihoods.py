"""Distributions of a sample given its past, parameterised by the outputs of a network.

Each is a frozen dataclass with the same three members:

* `width`: number of network outputs per sample;
* `quantization`: the bins of the distribution;
* `log_prob(outputs, samples)`: the log-probability, in nats, of the bin that holds each sample.

The sampler draws from them: see `wavesynth.kernels.wavenet_decode`.
"""

import math
from dataclasses import dataclass
from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from wavesynth.audio import mulaw

Quantization = Literal["int16", "mulaw"]
MIN_LOG_SCALE = math.log(1e-6)  # a logistic a thirtieth of a 16-bit step wide is as sharp as anything needs to be


@dataclass(frozen=True)
class MulawSoftmax:
    """A softmax over the 256 mu-law codes (van den Oord et al., 2016).

    >>> nats = MulawSoftmax().log_prob(jnp.zeros((3, 256)), jnp.zeros(3))
    >>> round(float(nats[0]), 4)                        # -log(256)
    -5.5452
    """

    quantization: Quantization = "mulaw"

    @property
    def width(self) -> int:
        """Logits for each sample."""
        return mulaw.CODES

    def log_prob(self, outputs: Float[Array, "*batch 256"], samples: Float[Array, "*batch"]) -> Float[Array, "*batch"]:
        """The log-probability of samples under logits, in nats."""
        codes = jnp.expand_dims(jnp.arange(mulaw.CODES), range(samples.ndim))
        hit = (
            codes == mulaw.encode(samples)[..., None]
        )  # a comparison: the gradient of an indexed read is a slow scatter
        return jnp.sum(jnp.where(hit, outputs, 0.0), axis=-1) - jax.nn.logsumexp(outputs, axis=-1)


@dataclass(frozen=True)
class LogisticMixture:
    """A mixture of logistics over amplitude, integrated over the bins of a quantisation (Salimans et al., 2017).

    The outputs for one sample are, side by side, `components` logits, locations (amplitude) and log scales.

    Attributes:
        components: K, how many logistics.
        quantization: "int16" or "mulaw".

    >>> outputs = jnp.tile(jnp.array([0.0, 0.0, -3.0]), (5, 1))                       # one logistic around 0
    >>> LogisticMixture(1).log_prob(outputs, jnp.linspace(-0.5, 0.5, 5)).argmax().item()
    2
    """

    components: int
    quantization: Quantization = "int16"

    @property
    def width(self) -> int:
        """Numbers for each sample: 3 K."""
        return 3 * self.components

    def split(self, outputs: Float[Array, "*batch width"]) -> tuple[Array, Array, Array]:
        """Outputs [..., 3 K] to log weights, locations and scales, each [..., K]."""
        logits, locations, log_scales = jnp.split(outputs, 3, axis=-1)
        return jax.nn.log_softmax(logits), locations, jnp.exp(jnp.maximum(log_scales, MIN_LOG_SCALE))

    def log_prob(
        self, outputs: Float[Array, "*batch width"], samples: Float[Array, "*batch"]
    ) -> Float[Array, "*batch"]:
        """The log-probability of samples, in nats; outputs are [..., 3 K].

        The mass of a bin from a to b under one logistic is ``sigmoid(b) - sigmoid(a)``, computed without cancellation as
        ``sigmoid(b) sigmoid(-a) (1 - exp(a - b))``. The outermost bins reach to infinity.
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

    def bins(
        self, samples: Float[Array, "*batch"]
    ) -> tuple[Float[Array, "*batch"], Float[Array, "*batch"], Bool[Array, "*batch"], Bool[Array, "*batch"]]:
        """The lower and upper edge of each sample's bin, and whether it is the lowest or the highest bin."""
        if self.quantization == "mulaw":
            codes = mulaw.encode(samples)
            return *mulaw.bin_edges(codes), codes == 0, codes == mulaw.MU
        steps = pcm_steps(samples)
        return (steps - 0.5) / 32768, (steps + 0.5) / 32768, steps <= -32768, steps >= 32767


def pcm_steps(samples: Float[Array, "*batch"]) -> Float[Array, "*batch"]:
    """Samples in 16-bit steps: whole numbers from -32768 to 32767, as floats.

    >>> pcm_steps(jnp.array([-1.0, 0.0, 1.0])).tolist()
    [-32768.0, 0.0, 32767.0]
    """
    return jnp.clip(jnp.round(samples * 32768), -32768, 32767)


def quantize(samples: Float[Array, "*batch"], quantization: Quantization) -> Float[Array, "*batch"]:
    """Samples moved to the middle of their bin.

    >>> quantize(jnp.array([0.1]), "int16").item() * 32768
    3277.0
    """
    if quantization == "mulaw":
        return mulaw.decode(mulaw.encode(samples))
    return pcm_steps(samples) / 32768
