"""Sampling strategies: how to draw samples from the distributions that a model predicts.

This module defines temperature, top-k and top-p in operations that also lower to GPU kernels. The native loop has its own
implementation (`native_draw.cc`); tests compare the two.
"""

from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any

import jax
import jax.numpy as jnp

from wavesynth.audio import mulaw
from wavesynth.errors import UserError


@dataclass(frozen=True)
class Strategy:
    """Modifies a model's predicted distribution before sampling.

    Attributes:
        temperature: 1e-6 to 1e6, which float32 can divide logits by; below 1 sharpens every distribution, above 1 flattens it.
        top_k: draw from the k likeliest codes only (of a mixture: from its k likeliest components).
        top_p: nucleus sampling (Holtzman et al., 2020): draw from the fewest codes that hold this share of the mass. Of a
            mixture: from the middle part of each component that holds it.

    Raises:
        UserError: an attribute lies outside its range.

    >>> Strategy(temperature=0.9, top_p=0.95)
    Strategy(temperature=0.9, top_k=None, top_p=0.95)
    """

    temperature: float | jax.Array = 1.0
    top_k: int | None = None
    top_p: float | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.temperature, jax.Array) and not _is_real(self.temperature, 1e-6, 1e6):
            raise UserError(
                f"temperature is {self.temperature}: it must be a number from 1e-6 to 1e6 (1 draws from the model as it is)"
            )
        if self.top_k is not None and not (isinstance(self.top_k, Integral) and _is_real(self.top_k, 1, 2**31 - 1)):
            raise UserError(f"top_k is {self.top_k}: it must be a whole number, at least 1, or left out")
        if self.top_p is not None and not (_is_real(self.top_p, 0, 1) and self.top_p > 0):
            raise UserError(f"top_p is {self.top_p}: it must be above 0 and at most 1, or left out")

    def draw(self, outputs: tuple[jax.Array, ...], uniforms: tuple[jax.Array, jax.Array], codes: int) -> jax.Array:
        """One value of each distribution, by inverse CDF.

        Args:
            outputs: (logits,) of a softmax, or (logits, locations, log scales) of a mixture of logistics, each [B, K].
            uniforms: two arrays [B] in [0, 1). The first selects the code or the component, the second a component's value.
            codes: number of valid columns of the logits; the others are padding.

        Returns:
            Codes int32 [B] for a softmax, values float32 [B] for a mixture.
        """
        logits = outputs[0] / self.temperature
        if len(outputs) == 1:
            return pick(restrict(logits, self.top_k, self.top_p), uniforms[0], codes)
        component = pick(restrict(logits, self.top_k, None), uniforms[0], codes)
        location, log_scale = (entry(values, component) for values in outputs[1:])
        centred = jnp.clip(uniforms[1], 1e-7, 1 - 1e-7) - 0.5
        quantile = 0.5 + centred * (1.0 if self.top_p is None else self.top_p)
        return location + jnp.exp(log_scale) * self.temperature * (jnp.log(quantile) - jnp.log1p(-quantile))


def _is_real(value: Any, least: float, most: float) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool) and least <= value <= most


def nearest(value: jax.Array, quantization: str) -> jax.Array:
    """`models.likelihoods.quantize` without `round`, which Triton lacks: halves go to the even neighbour."""
    if quantization == "mulaw":
        return mulaw.decode(mulaw.encode(value))
    steps = value * 32768
    below = jnp.floor(steps)
    rest, is_odd = steps - below, below - 2 * jnp.floor(below / 2)
    up = (rest > 0.5) | ((rest == 0.5) & (is_odd > 0.5))
    return jnp.clip(below + jnp.where(up, 1.0, 0.0), -32768, 32767) / 32768


def pick(logits: jax.Array, uniform: jax.Array, codes: int) -> jax.Array:
    """The index [B] at which the CDF of softmax(logits) [B, K] first exceeds uniform [B], always one with probability > 0.

    The CDF is compared with a fraction of its last value, because a float sum of probabilities may differ from 1.
    """
    mass = jnp.exp(logits - jnp.max(logits, axis=1, keepdims=True))
    cdf = jnp.cumsum(mass / jnp.sum(mass, axis=1, keepdims=True), axis=1)
    total = entry(cdf, jnp.full(uniform.shape, logits.shape[1] - 1))
    passed = jnp.where(cdf <= (uniform * total)[:, None], 1, 0)
    return jnp.minimum(jnp.sum(passed, axis=1), codes - 1)


def entry(values: jax.Array, index: jax.Array) -> jax.Array:
    """The entry at index [B] in each row of [B, K], by comparison, because Triton cannot index registers."""
    columns = jax.lax.broadcasted_iota(jnp.int32, values.shape, 1)
    return jnp.sum(jnp.where(columns == index[:, None], values, 0.0), axis=1)


def restrict(logits: jax.Array, top_k: int | None, top_p: float | None) -> jax.Array:
    """Logits [B, K] restricted by top-k and top-p: all others become -inf."""
    kept = logits
    if top_k is not None:
        kept_k = among_likeliest(logits, jnp.ones_like(logits), float(min(top_k, logits.shape[1])))
        kept = jnp.where(kept_k, kept, -jnp.inf)
    if top_p is not None:
        mass = jnp.exp(logits - jnp.max(logits, axis=1, keepdims=True))
        kept = jnp.where(among_likeliest(logits, mass / jnp.sum(mass, axis=1, keepdims=True), top_p), kept, -jnp.inf)
    return kept


def among_likeliest(logits: jax.Array, mass: jax.Array, wanted: float) -> jax.Array:
    """The mask [B, K] of the smallest set of the most likely logits whose mass [B, K] is at least `wanted`, ties included.

    Triton has no sort. The smallest logit to keep is found bit by bit from the sign bit, as the largest possible integer:
    interpreted as integers, floats are sorted once the bits of negative ones are flipped.
    """
    bits = jax.lax.bitcast_convert_type(logits, jnp.int32)
    keys = jnp.where(bits < 0, bits ^ jnp.int32(0x7FFFFFFF), bits)

    def narrow(step: jax.Array, least: jax.Array) -> jax.Array:
        raised = least ^ jax.lax.shift_left(jnp.int32(1), 31 - step)
        held = jnp.sum(jnp.where(keys >= raised[:, None], mass, 0.0), axis=1)
        return jnp.where(held >= wanted, raised, least)

    lowest = jnp.full((logits.shape[0],), jnp.iinfo(jnp.int32).min, jnp.int32)
    return keys >= jax.lax.fori_loop(0, 32, narrow, lowest)[:, None]
