"""The plain JAX loop: the truth that every other implementation is tested against, and the fallback everywhere.

One step of T does, for B streams at once:

1. all layers' older taps, read from the rings and multiplied in one batched product: they are known beforehand;
2. layer by layer what depends on the newest sample;
3. the skip path of all layers as one product, the head, the draw;
4. one write of all layers' new inputs into the rings.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from wavesynth.audio import mulaw
from wavesynth.kernels.wavenet_decode.cache import DecodeCache, read_past, ring_starts
from wavesynth.kernels.wavenet_decode.weights import DecodeWeights, Matrices, unpack
from wavesynth.models.likelihoods import LogisticMixture, MulawSoftmax, quantize
from wavesynth.models.wavenet import mixture_outputs


def decode(
    weights: DecodeWeights,
    cache: DecodeCache,
    conditioning: jax.Array | None,
    frame_index: jax.Array | None,
    periods: jax.Array | None,
    uniforms: jax.Array,
    forced: jax.Array | None,
    temperature: jax.Array,
    top_k: int | None,
    top_p: float | None,
    log_probs: bool,
) -> tuple[jax.Array, jax.Array | None, DecodeCache]:
    """See `wavesynth.kernels.wavenet_decode.api.wavenet_decode`, which has checked and completed the arguments."""
    likelihood = output_distribution(weights)
    matrices = unpack(weights)
    slices = cut(weights, matrices)

    def step(cache: DecodeCache, now: tuple) -> tuple[DecodeCache, tuple]:
        uniform, frame, target = now
        outputs, inputs = predict(
            weights, matrices, slices, cache, None if conditioning is None else conditioning[frame], periods
        )
        if target is None:
            sample = draw(outputs, uniform, likelihood, temperature, top_k, top_p)
        else:
            sample = quantize(target, likelihood.quantization)
        log_prob = likelihood.log_prob(outputs, sample) if log_probs else None
        return advance(weights, cache, inputs, sample), (sample, log_prob)

    cache, (samples, nats) = jax.lax.scan(step, cache, (uniforms, frame_index, forced))
    return samples, nats, cache


def output_distribution(weights: DecodeWeights) -> LogisticMixture | MulawSoftmax:
    if weights.spec.output == "softmax":
        return MulawSoftmax()
    return LogisticMixture((weights.out_bias.size - weights.spec.inputs) // 3, weights.spec.quantization)


class Slices(NamedTuple):
    """Slices of the matrices, made once before the loop: inside it each would be copied at every step."""

    older: jax.Array  # [L, W - 1, C, 2 C]: all taps but the newest
    newest: list[jax.Array]  # L times [C, 2 C]
    residual: list[jax.Array]  # L times [C, C]
    residual_bias: list[jax.Array]  # L times [1, C]
    skip: jax.Array  # [L C, S]


def cut(weights: DecodeWeights, matrices: Matrices) -> Slices:
    layers, _, gates = matrices.dilated.shape
    taps = matrices.dilated.reshape(layers, weights.spec.kernel_width, -1, gates)
    return Slices(
        older=taps[:, :-1],
        newest=list(taps[:, -1]),
        residual=list(matrices.residual),
        residual_bias=list(weights.residual_bias[:, None]),
        skip=matrices.skip.reshape(-1, matrices.skip.shape[-1]),
    )


def predict(
    weights: DecodeWeights, matrices: Matrices, slices: Slices, cache: DecodeCache, conditioning: jax.Array | None,
    periods: jax.Array | None,
) -> tuple[jax.Array, jax.Array]:  # fmt: skip
    """The distribution of the next sample [B, P], and what each layer took in [L, B, C], from a cache.

    conditioning: [L, B, 2 C] of this step, or None.
    """
    spec = weights.spec
    starts, lengths = ring_starts(spec), jnp.array(spec.ring_lengths)
    ages = (
        jnp.arange(spec.kernel_width - 1)[:, None] * jnp.array(spec.dilations)[None]
    )  # [W - 1, L]; slot 0 is the oldest
    past = cache.rings[starts[None] + (cache.phase + ages) % lengths[None]]  # [W - 1, L, B, C]
    pre = jnp.einsum("wlbc,lwcz->lbz", past, slices.older) + weights.dilated_bias[:, None]
    if conditioning is not None:
        pre += conditioning
    x, white = read_past(weights, matrices, cache.recent, periods)
    inputs, gates = [], []
    for layer in range(len(spec.dilations)):
        inputs.append(x)
        signal, gate = jnp.split(pre[layer] + x @ slices.newest[layer], 2, axis=-1)
        gates.append(jnp.tanh(signal) * jax.nn.sigmoid(gate))
        x += gates[-1] @ slices.residual[layer] + slices.residual_bias[layer]
    hidden = jax.nn.relu(jnp.concatenate(gates, axis=-1) @ slices.skip + weights.skip_bias[None])
    hidden = jax.nn.relu(hidden @ matrices.head + weights.head_bias[None])
    outputs = hidden @ matrices.out + weights.out_bias[None]
    if spec.output == "mixture":
        outputs = mixture_outputs(outputs.T, white, weights.linear, weights.log_scale).T
    return outputs, jnp.stack(inputs)


def advance(weights: DecodeWeights, cache: DecodeCache, inputs: jax.Array, sample: jax.Array) -> DecodeCache:
    """The cache after a step that took `inputs` [L, B, C] in and gave `sample` [B]."""
    spec = weights.spec
    slots = ring_starts(spec) + cache.phase % jnp.array(spec.ring_lengths)
    return DecodeCache(
        recent=jnp.concatenate([cache.recent[1:], sample[None]]),
        rings=cache.rings.at[slots].set(inputs, unique_indices=True, mode="promise_in_bounds"),
        phase=(cache.phase + 1) % spec.period,
    )


def draw(
    outputs: jax.Array,
    uniform: jax.Array,
    likelihood: LogisticMixture | MulawSoftmax,
    temperature: jax.Array,
    top_k: int | None,
    top_p: float | None,
) -> jax.Array:
    """One sample [B] of each distribution [B, P] by inverse CDF from two uniforms [2, B] in [0, 1).

    Of a softmax, top-k and top-p keep the likeliest codes. Of a mixture, top-k keeps the likeliest components, and
    top-p the middle part of each component's mass; its first uniform picks the component, its second the value.
    """
    if isinstance(likelihood, MulawSoftmax):
        return mulaw.decode(pick(restrict(outputs / temperature, top_k, top_p), uniform[0]))
    log_weights, locations, scales = likelihood.split(outputs)
    component = pick(restrict(log_weights / temperature, top_k, None), uniform[0])[:, None]
    location = jnp.take_along_axis(locations, component, axis=-1)[:, 0]
    scale = jnp.take_along_axis(scales, component, axis=-1)[:, 0] * temperature
    centred = jnp.clip(uniform[1], 1e-7, 1 - 1e-7) - 0.5
    quantile = 0.5 + centred * (1.0 if top_p is None else top_p)
    value = location + scale * (jnp.log(quantile) - jnp.log1p(-quantile))
    return quantize(value, likelihood.quantization)


def restrict(logits: jax.Array, top_k: int | None, top_p: float | None) -> jax.Array:
    """Logits [..., P] with all but the `top_k` likeliest, or the likeliest that hold `top_p` of the mass, at -inf."""
    if top_k is None and top_p is None:
        return logits
    descending = jnp.sort(logits, axis=-1)[..., ::-1]
    threshold = jnp.full_like(logits[..., :1], -jnp.inf)
    if top_k is not None:
        threshold = descending[..., min(top_k, logits.shape[-1]) - 1, None]
    if top_p is not None:
        mass = jax.nn.softmax(descending)
        kept = jnp.cumsum(mass, axis=-1) - mass < top_p
        least = jnp.where(kept, descending, jnp.inf).min(axis=-1, keepdims=True)
        threshold = jnp.maximum(threshold, least)
    return jnp.where(logits < threshold, -jnp.inf, logits)


def pick(logits: jax.Array, uniform: jax.Array) -> jax.Array:
    """The index [B] at which the CDF of softmax(logits) [B, P] first exceeds uniform [B]; never one without mass.

    The CDF is compared with a share of its own last value: a float sum of probabilities need not reach 1.
    """
    cdf = jnp.cumsum(jax.nn.softmax(logits), axis=-1)
    return jnp.minimum(jnp.sum(cdf <= uniform[:, None] * cdf[:, -1:], axis=-1), logits.shape[-1] - 1)
