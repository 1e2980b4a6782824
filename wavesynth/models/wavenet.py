"""WaveNet (van den Oord et al., 2016): a stack of gated, dilated, causal convolutions that predicts the next sample.

This is the parallel form, for training and scoring. Its step-by-step form, which samples, is the op
`wavesynth.kernels.wavenet_decode`; both compute the same function.

Time in one window [B, R + T]: R samples of left context (the receptive field), then T targets. Every convolution is
"valid": it eats its own part of the context, so that exactly T predictions are left.

    samples   |------------- R -------------|------ T ------|
    front         |-- taps eaten ------------------------|
    layer 1            |-- dilation eaten ---------------|
    ...
    outputs                                 |------ T ------|   outputs[t] predicts samples[R + t]
"""

from dataclasses import dataclass
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from wavesynth.audio import mulaw
from wavesynth.errors import UserError
from wavesynth.models.likelihoods import MIN_LOG_SCALE, LogisticMixture, MulawSoftmax, Quantization, quantize


@dataclass(frozen=True)
class WaveNetConfig:
    """The shape of a WaveNet.

    stacks, layers_per_stack: dilations 1, 2, 4 ... 2^(layers_per_stack - 1), repeated `stacks` times.
    channels: width of the residual path and of each gate; skip_channels, head_channels: of the two last layers.
    kernel_width: taps of each dilated convolution, 2 or 3.
    taps: how many past samples the first layer (and the linear prediction of a mixture) looks at.
    output: "mixture" of `mixtures` logistics, or a "softmax" over mu-law codes.
    quantization: the bins that a mixture's training integrates over; a softmax is always "mulaw".
    labels: rows of the table of label embeddings; 0 for none. Filled in from the data.
    vector_channels: width of the global conditioning vector (a label's embedding, or any vector given); 0 for none.
    frame_channels, hop_length: width of the local conditioning (0 for none), and how many samples one frame lasts.
    dtype: of the activations, "float32" or "bfloat16"; parameters and likelihoods are always float32.
    """

    stacks: int = 2
    layers_per_stack: int = 9
    channels: int = 64
    skip_channels: int = 128
    head_channels: int = 128
    kernel_width: int = 2
    taps: int = 32
    output: Literal["mixture", "softmax"] = "mixture"
    mixtures: int = 4
    quantization: Quantization = "int16"
    labels: int = 0
    vector_channels: int = 16
    frame_channels: int = 0
    hop_length: int = 512
    dtype: Literal["float32", "bfloat16"] = "float32"

    def __post_init__(self) -> None:
        sizes = (
            "stacks",
            "layers_per_stack",
            "channels",
            "skip_channels",
            "head_channels",
            "taps",
            "mixtures",
            "hop_length",
        )
        for name in sizes:
            if getattr(self, name) < 1:
                raise UserError(f"{name} is {getattr(self, name)}: it must be at least 1")
        if self.kernel_width not in (2, 3):
            raise UserError(f"kernel_width is {self.kernel_width}: choose 2 or 3")
        if self.output == "softmax" and self.quantization != "mulaw":
            raise UserError(
                f'quantization is "{self.quantization}": a softmax output is over mu-law codes, so set "mulaw"'
            )

    @property
    def dilations(self) -> tuple[int, ...]:
        return tuple(2**i for i in range(self.layers_per_stack)) * self.stacks

    @property
    def receptive_field(self) -> int:
        """How many past samples one prediction can see, the current target excluded."""
        return self.taps + (self.kernel_width - 1) * sum(self.dilations)

    @property
    def likelihood(self) -> LogisticMixture | MulawSoftmax:
        if self.output == "softmax":
            return MulawSoftmax()
        return LogisticMixture(self.mixtures, self.quantization)


def dense(rngs: nnx.Rngs, inputs: int, outputs: int, scale: float = 1.0) -> nnx.Param:
    """A matrix of variance scale^2 / inputs."""
    return nnx.Param(jax.random.normal(rngs.params(), (inputs, outputs)) * (scale / np.sqrt(inputs)))


def affine(x: jax.Array, matrix: nnx.Param, bias: nnx.Param) -> jax.Array:
    """x [..., I] @ matrix [I, O] + bias [O], in the dtype of x."""
    product = x @ matrix[...].astype(x.dtype)
    return product + jnp.expand_dims(bias[...].astype(x.dtype), range(product.ndim - 1))


def zeros(*shape: int) -> nnx.Param:
    return nnx.Param(jnp.zeros(shape))


class GatedLayer(nnx.Module):
    """One dilated causal convolution, its gate, and the way back to the residual path.

    All taps of the convolution are one matrix product over the shifted copies of the input, oldest first.
    """

    def __init__(self, config: WaveNetConfig, dilation: int, *, rngs: nnx.Rngs) -> None:
        self.dilation, self.kernel_width = dilation, config.kernel_width
        self.dilated = dense(rngs, config.kernel_width * config.channels, 2 * config.channels)
        self.dilated_bias = zeros(2 * config.channels)
        self.residual = dense(rngs, config.channels, config.channels, scale=len(config.dilations) ** -0.5)
        self.residual_bias = zeros(config.channels)

    def __call__(self, x: jax.Array, conditioning: jax.Array | None) -> tuple[jax.Array, jax.Array]:
        """x [B, t, C] and conditioning [B, >= t or 1, 2 C] to (x, gate), both [B, t - (width - 1) dilation, C]."""
        length = x.shape[1] - (self.kernel_width - 1) * self.dilation
        taps = [x[:, k * self.dilation : k * self.dilation + length] for k in range(self.kernel_width)]
        z = affine(jnp.concatenate(taps, axis=-1), self.dilated, self.dilated_bias)
        if conditioning is not None:
            z += conditioning[:, -length:]
        signal, gate = jnp.split(z, 2, axis=-1)
        gated = jnp.tanh(signal) * jax.nn.sigmoid(gate)
        return taps[-1] + affine(gated, self.residual, self.residual_bias), gated


class WaveNet(nnx.Module):
    """The network. Its parameters' names are the contract with `wavesynth.kernels.wavenet_decode.weights`.

    A mixture's locations are a learned linear prediction from the last `taps` samples plus the network's correction in
    units of each component's scale. Its first layer sees those samples in coordinates where they are white
    (`fixed_whitening`): audio is so predictable that its fine detail, which the network must model, is a thousandth of
    its amplitude, and a gradient would take hours to find it. `calibrate` sets both from the data. Parameters whose
    name begins with `fixed_` are not trained.
    """

    def __init__(self, config: WaveNetConfig, *, rngs: nnx.Rngs) -> None:
        self.config = config
        layers = len(config.dilations)
        if config.output == "softmax":
            self.front = nnx.Param(jax.random.normal(rngs.params(), (config.taps, mulaw.CODES, config.channels)))
        else:
            self.front = dense(rngs, config.taps, config.channels)
            self.fixed_whitening = nnx.Param(jnp.eye(config.taps))
            self.linear = zeros(config.taps)
            self.fixed_log_scale = zeros()
        self.front_bias = zeros(config.channels)
        if config.labels:
            self.label_table = nnx.Param(jax.random.normal(rngs.params(), (config.labels, config.vector_channels)))
        if config.vector_channels:
            self.vector_projection = dense(rngs, config.vector_channels, layers * 2 * config.channels, scale=0.5)
        if config.frame_channels:
            self.frame_projection = dense(rngs, config.frame_channels, layers * 2 * config.channels)
        self.layers = nnx.List([GatedLayer(config, dilation, rngs=rngs) for dilation in config.dilations])
        self.skip = dense(rngs, layers * config.channels, config.skip_channels)
        self.skip_bias = zeros(config.skip_channels)
        self.head = dense(rngs, config.skip_channels, config.head_channels)
        self.head_bias = zeros(config.head_channels)
        self.out = dense(rngs, config.head_channels, config.likelihood.width, scale=0.1)
        self.out_bias = zeros(config.likelihood.width)

    def __call__(
        self,
        samples: jax.Array,
        vector: jax.Array | None = None,
        frames: jax.Array | None = None,
        frame_start: jax.Array | None = None,
    ) -> jax.Array:
        """The likelihood's parameters of the last T samples of each window.

        samples: float32 [B, R + T], R the receptive field. vector: [B, vector_channels]. frames: [B, F,
        frame_channels], of which frame 0 begins at sample `frame_start` [B] of the window (default R, the first
        target); the first and last frames are held beyond the ends. Returns float32 [B, T, likelihood.width].
        """
        config = self.config
        targets = samples.shape[1] - config.receptive_field
        conditioning = self.conditioning(samples.shape, vector, frames, frame_start)
        x, prediction = self.read_past(quantize(samples[:, :-1], config.likelihood.quantization))
        gates = []
        for index, layer in enumerate(self.layers):
            x, gate = layer(x, None if conditioning is None else conditioning[index])
            gates.append(gate[:, -targets:])
        skip = jax.nn.relu(affine(jnp.concatenate(gates, axis=-1), self.skip, self.skip_bias))
        head = jax.nn.relu(affine(skip, self.head, self.head_bias))
        outputs = affine(head.astype(jnp.float32), self.out, self.out_bias)
        if config.output == "softmax":
            return outputs
        return mixture_outputs(outputs, prediction[:, -targets:], self.fixed_log_scale[...])

    def read_past(self, samples: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Samples [B, t] to the first layer's output [B, t - taps + 1, C] and the linear prediction [B, t - taps + 1]."""
        config = self.config
        length = samples.shape[1] - config.taps + 1
        shifted = [samples[:, k : k + length] for k in range(config.taps)]  # oldest first
        if config.output == "softmax":
            x = jnp.stack([self.front[k][mulaw.encode(tap)] for k, tap in enumerate(shifted)]).sum(axis=0)
            return (x + self.front_bias[...][None, None]).astype(config.dtype), jnp.zeros_like(shifted[0])
        past = jnp.stack(shifted, axis=-1)
        with jax.default_matmul_precision("highest"):  # the detail sought is a thousandth of the amplitude
            white = past @ jax.lax.stop_gradient(self.fixed_whitening[...])
            return affine(white, self.front, self.front_bias).astype(config.dtype), past @ self.linear[...]

    def conditioning(
        self, shape: tuple[int, ...], vector: jax.Array | None, frames: jax.Array | None, frame_start: jax.Array | None
    ) -> list[jax.Array] | None:
        """What each layer adds before its gate: a list of [B, 1 or R + T - 1, 2 C], aligned at the end; None for none."""
        config = self.config
        total = None
        if config.vector_channels and vector is not None:
            total = (vector @ self.vector_projection[...])[:, None]
        if config.frame_channels and frames is not None:
            projected = frames @ self.frame_projection[...]
            if frames.shape[1] > 1:
                start = jnp.full(shape[0], config.receptive_field) if frame_start is None else frame_start
                index = (jnp.arange(1, shape[1])[None] - start[:, None]) // config.hop_length
                index = jnp.clip(index, 0, frames.shape[1] - 1)
                projected = jnp.take_along_axis(projected, index[..., None], axis=1)
            total = projected if total is None else total + projected
        if total is None:
            return None
        return jnp.split(total.astype(config.dtype), len(config.dilations), axis=-1)


def mixture_outputs(outputs: jax.Array, prediction: jax.Array, log_scale: jax.Array) -> jax.Array:
    """The network's raw outputs [..., 3 K] and the linear prediction [...] to a mixture's logits, locations, log scales.

    Log scales are relative to `log_scale`, the typical error of the linear prediction; corrections of the location are
    in units of the component's own scale.
    """
    logits, corrections, log_scales = jnp.split(outputs, 3, axis=-1)
    log_scales = jnp.maximum(log_scales + log_scale, MIN_LOG_SCALE)
    locations = prediction[..., None] + jnp.exp(log_scales) * corrections
    return jnp.concatenate([logits, locations, log_scales], axis=-1)
