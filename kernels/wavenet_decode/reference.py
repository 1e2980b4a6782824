"""The plain JAX loop: the reference for tests of all other implementations, and the fallback on every platform.

Each of T steps computes, for B streams in parallel:

1. the older taps of all layers in one batched product, because they do not depend on the newest sample;
2. the rest, layer by layer;
3. the skip path of all layers as one product, the head, and the draw;
4. one write of all layers' new inputs into the ring buffers.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from wavesynth.audio import mulaw
from wavesynth.kernels.wavenet_decode.cache import DecodeCache, read_past, ring_starts
from wavesynth.kernels.wavenet_decode.strategy import Strategy, nearest
from wavesynth.kernels.wavenet_decode.weights import DecodeWeights, Matrices, unpack
from wavesynth.models.likelihoods import MIN_LOG_SCALE, LogisticMixture, MulawSoftmax, quantize
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
    """See `wavesynth.kernels.wavenet_decode.api.wavenet_decode`, which checks the arguments."""
    likelihood, strategy = output_distribution(weights), Strategy(temperature, top_k, top_p)
    matrices = unpack(weights)
    slices = cut(weights, matrices)

    def step(cache: DecodeCache, now: tuple) -> tuple[DecodeCache, tuple]:
        uniform, frame, target = now
        outputs, inputs = predict(
            weights, matrices, slices, cache, None if conditioning is None else conditioning[frame], periods
        )
        if target is None:
            sample = draw(strategy, likelihood, outputs, uniform)
        else:
            sample = quantize(target, likelihood.quantization)
        log_prob = likelihood.log_prob(outputs, sample) if log_probs else None
        return advance(weights, cache, inputs, sample), (sample, log_prob)

    cache, (samples, scores) = jax.lax.scan(step, cache, (uniforms, frame_index, forced))
    return samples, scores, cache


def output_distribution(weights: DecodeWeights) -> LogisticMixture | MulawSoftmax:
    if weights.spec.output == "softmax":
        return MulawSoftmax()
    return LogisticMixture((weights.out_bias.size - weights.spec.inputs) // 3, weights.spec.quantization)


def draw(
    strategy: Strategy, likelihood: LogisticMixture | MulawSoftmax, outputs: jax.Array, uniforms: jax.Array
) -> jax.Array:
    """One sample [B] of each distribution [B, P], on its grid, from two uniforms [2, B]."""
    if isinstance(likelihood, MulawSoftmax):
        return mulaw.decode(strategy.draw((outputs,), (uniforms[0], uniforms[1]), mulaw.CODES))
    parts = jnp.split(outputs, 3, axis=-1)
    parts = parts[0], parts[1], jnp.maximum(parts[2], MIN_LOG_SCALE)
    value = strategy.draw(parts, (uniforms[0], uniforms[1]), likelihood.components)
    return nearest(value, likelihood.quantization)


class Slices(NamedTuple):
    """Slices of the matrices, created before the loop: inside it, they would be copied at every step."""

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
    """The distribution of the next sample [B, P], and each layer's input [L, B, C].

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
    """The cache after a step with the layers' inputs [L, B, C] and the sample [B]."""
    spec = weights.spec
    slots = ring_starts(spec) + cache.phase % jnp.array(spec.ring_lengths)
    return DecodeCache(
        recent=jnp.concatenate([cache.recent[1:], sample[None]]),
        rings=cache.rings.at[slots].set(inputs, unique_indices=True, mode="promise_in_bounds"),
        phase=(cache.phase + 1) % spec.period,
    )
