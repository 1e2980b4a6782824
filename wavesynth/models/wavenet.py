"""WaveNet (van den Oord et al., 2016): a stack of gated, dilated, causal convolutions that predicts the next sample.

This is the parallel form, for training and scoring. Its step-by-step form, which samples, is the op
`wavesynth.kernels.wavenet_decode`; both compute the same function.

Time in one window [R + T]: R samples of left context (the receptive field), then T targets. Every convolution is
"valid": it eats its own part of the context, so that exactly T predictions are left.

    samples   |------------- R -------------|------ T ------|
    front         |-- taps eaten ------------------------|
    layer 1            |-- dilation eaten ---------------|
    ...
    outputs                                 |------ T ------|   outputs[t] predicts samples[R + t]
"""

from dataclasses import dataclass
from typing import Annotated, Literal

import jax
import jax.numpy as jnp
from flax import nnx

from wavesynth.audio import mulaw
from wavesynth.config import Width
from wavesynth.errors import UserError
from wavesynth.fields import Checked, Whole
from wavesynth.models.layers import affine, check_remembered, dense, gate, over_examples, shifted_copies, zeros
from wavesynth.models.likelihoods import MIN_LOG_SCALE, LogisticMixture, MulawSoftmax, Quantization, quantize

ALIGN = 16  # float32 in one AVX-512 register
MOST_MIXTURES = 64  # the native sampler has room for so many
MOST_LAYERS = 256  # a program of more takes minutes to build
MOST_CONTEXT = 2**20  # samples; a minute at 16 kHz


@dataclass(frozen=True)
class WaveNetConfig(Checked):
    """The shape of a WaveNet.

    Attributes:
        stacks: how often the dilations 1, 2, 4 ... are repeated.
        layers_per_stack: how many of them there are; the last is 2^(layers_per_stack - 1).
        channels: width of the residual path and of each gate.
        skip_channels: width of the last layer but one.
        head_channels: width of the last layer.
        kernel_width: taps of each dilated convolution, 2 or 3.
        taps: how many past samples the first layer (and the linear prediction of a mixture) looks at.
        period_taps: how many samples around the place one period of the pitch ago a mixture looks at too (as the
            quasi-periodic WaveNet of Wu et al., 2021, does in all layers); 0 for none.
        longest_period: samples; periods up to this long are looked back at, none if it is 0. Filled in from the data.
        output: "mixture" of logistics, or a "softmax" over mu-law codes.
        mixtures: how many logistics.
        quantization: the bins that a mixture is integrated over, and the grid that it sees; a softmax is always "mulaw".
        labels: rows of the table of label embeddings; 0 for none. Filled in from the data.
        vector_channels: width of the global conditioning vector (a label's embedding, or any vector given); 0 for none.
        frame_channels: width of the local conditioning; 0 for none. Filled in from the data.
        hop_length: samples that one frame of local conditioning lasts.
        dtype: of the activations, "float32" or "bfloat16"; parameters and likelihoods are always float32.
    """

    stacks: Annotated[int, Whole(1, 64)] = 2
    layers_per_stack: Annotated[int, Whole(1, 16)] = 9
    channels: Width = 64
    skip_channels: Width = 128
    head_channels: Width = 128
    kernel_width: Annotated[int, Whole(2, 3)] = 2
    taps: Annotated[int, Whole(1, 1_024)] = 32
    period_taps: Annotated[int, Whole(0, 256)] = 8
    longest_period: Annotated[int, Whole(0, 65_536)] = 0
    output: Literal["mixture", "softmax"] = "mixture"
    mixtures: Annotated[int, Whole(1, MOST_MIXTURES)] = 4
    quantization: Quantization = "int16"
    labels: Annotated[int, Whole(0, 65_536)] = 0
    vector_channels: Annotated[int, Whole(0, 4_096)] = 16
    frame_channels: Annotated[int, Whole(0, 4_096)] = 0
    hop_length: Annotated[int, Whole(1, 65_536)] = 128
    dtype: Literal["float32", "bfloat16"] = "float32"

    def __post_init__(self) -> None:
        super().__post_init__()
        layers = len(self.dilations)
        if layers > MOST_LAYERS:
            raise UserError(
                f"stacks is {self.stacks}: it makes {layers} layers in all, and at most {MOST_LAYERS} can be"
            )
        if self.receptive_field > MOST_CONTEXT:
            raise UserError(
                f"layers_per_stack is {self.layers_per_stack}: it makes a receptive field of {self.receptive_field:,} "
                f"samples, and at most {MOST_CONTEXT:,} can be"
            )
        check_remembered("channels", self.channels, (self.kernel_width - 1) * sum(self.dilations))
        if self.labels and not self.vector_channels:
            raise UserError(
                f"labels is {self.labels} and vector_channels 0: labels need an embedding, or set both to 0"
            )
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
        return self.history + (self.kernel_width - 1) * sum(self.dilations)

    @property
    def history(self) -> int:
        """How many past samples the first layer can see."""
        return max(self.taps, self.longest_period + self.taps_ago) if self.taps_ago else self.taps

    @property
    def taps_ago(self) -> int:
        """How many samples around one period ago are looked at: `period_taps` where there are pitches, for a mixture."""
        return self.period_taps if self.longest_period and self.output == "mixture" else 0

    @property
    def inputs(self) -> int:
        """How many past samples the first layer looks at."""
        return self.taps + self.taps_ago

    @property
    def context_frames(self) -> int:
        """How many frames of local conditioning the left context of a window takes."""
        return -(-self.receptive_field // self.hop_length)

    @property
    def output_channels(self) -> int:
        """Of the last layer: the likelihood's parameters and, for a mixture, how the linear prediction adapts."""
        return self.likelihood.width + (self.inputs if self.output == "mixture" else 0)

    @property
    def likelihood(self) -> LogisticMixture | MulawSoftmax:
        if self.output == "softmax":
            return MulawSoftmax()
        return LogisticMixture(self.mixtures, self.quantization)


class GatedLayer(nnx.Module):
    """One dilated causal convolution, its gate, and the way back to the residual path."""

    def __init__(self, config: WaveNetConfig, dilation: int, *, rngs: nnx.Rngs) -> None:
        self.shifts = [k * dilation for k in reversed(range(config.kernel_width))]  # of the taps, oldest first
        self.dilated = dense(rngs, config.kernel_width * config.channels, 2 * config.channels)
        self.dilated_bias = zeros(2 * config.channels)
        self.residual = dense(rngs, config.channels, config.channels, scale=len(config.dilations) ** -0.5)
        self.residual_bias = zeros(config.channels)

    def __call__(self, x: jax.Array, length: int, conditioning: jax.Array | None) -> tuple[jax.Array, jax.Array]:
        """x [C, t] and conditioning [2 C, F] to (x, gate), the last `length` places of both, [C, length]; F divides it."""
        z = affine(self.dilated, self.dilated_bias, shifted_copies(x, self.shifts, length))
        if conditioning is not None:
            z = (z.reshape(*conditioning.shape, -1) + conditioning[..., None]).reshape(z.shape)
        gated = gate(z)
        return x[:, -length:] + affine(self.residual, self.residual_bias, gated), gated


class WaveNet(nnx.Module):
    """The network. Its parameters' names are the contract with `wavesynth.kernels.wavenet_decode.weights`.

    A mixture's locations are a linear prediction from the last `taps` samples, bent by the network from sample to sample,
    plus the network's correction (see `mixture_outputs`). Its first layer sees those in coordinates where they are white
    (`fixed_whitening`): audio is so predictable that its fine detail, which the network must model, is a thousandth of
    its amplitude, and a gradient would take hours to find it. Both are set from the data. Parameters whose
    name begins with `fixed_` are not trained.
    """

    def __init__(self, config: WaveNetConfig, *, rngs: nnx.Rngs) -> None:
        self.config = config
        layers = len(config.dilations)
        if config.output == "softmax":
            self.front = nnx.Param(jax.random.normal(rngs.params(), (config.taps, mulaw.CODES, config.channels)))
        else:
            self.front = dense(rngs, config.inputs, config.channels)
            self.fixed_whitening = nnx.Param(jnp.eye(config.inputs))
            self.fixed_linear = zeros(config.inputs)
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
        self.out = dense(rngs, config.head_channels, config.output_channels, scale=0.1)
        self.out_bias = zeros(config.output_channels)

    def __call__(
        self,
        samples: jax.Array,
        vector: jax.Array | None = None,
        frames: jax.Array | None = None,
        periods: jax.Array | None = None,
    ) -> jax.Array:
        """The likelihood's parameters of the last T samples of each window.

        samples: float32 [B, R + T], R the receptive field. vector: [B, vector_channels]. frames: local conditioning
        [B, context_frames + ceil(T / hop_length), frame_channels], a frame beginning with the first target; or
        [B, 1, frame_channels], held throughout. periods: int32 [B], how many samples one period of each window's pitch
        lasts, taps_ago / 2 to longest_period; 0, or None, where it is not known. Returns float32 [B, T, likelihood.width].
        """
        return over_examples(self.one, samples, vector, frames, periods)

    def one(
        self, samples: jax.Array, vector: jax.Array | None, frames: jax.Array | None, period: jax.Array | None
    ) -> jax.Array:
        """What `__call__` does, for one window: samples [R + T] to [T, likelihood.width]."""
        config = self.config
        targets = samples.shape[0] - config.receptive_field
        framed = frames is not None and frames.shape[0] > 1
        unit = config.hop_length if framed else ALIGN
        samples = jnp.pad(quantize(samples, config.likelihood.quantization), (0, -targets % unit))
        lengths = self.lengths(samples.shape[0] - config.receptive_field, unit)
        conditioning = self.conditioning(vector, frames)
        x, past = self.read_past(samples[:-1], period)
        x = jnp.pad(x, ((0, 0), (lengths[0] - x.shape[1], 0)))
        gates = []
        for index, layer in enumerate(self.layers):
            length = lengths[index + 1]
            told = None if conditioning is None else conditioning[index][:, -length // unit if framed else 0 :]
            x, gated = layer(x, length, told)
            gates.append(gated[:, -lengths[-1] :])
        skip = jax.nn.relu(affine(self.skip, self.skip_bias, jnp.concatenate(gates)))
        head = jax.nn.relu(affine(self.head, self.head_bias, skip))
        outputs = affine(self.out, self.out_bias, head.astype(jnp.float32))
        if config.output == "mixture":
            constants = jax.lax.stop_gradient((self.fixed_linear[...], self.fixed_log_scale[...]))
            outputs = mixture_outputs(outputs, past[:, -lengths[-1] :], *constants)
        return outputs[:, :targets].T

    def lengths(self, targets: int, unit: int) -> list[int]:
        """How many places the front and each layer give, in whole units; what is too much comes first and is not used."""
        config = self.config
        left = [(config.kernel_width - 1) * sum(config.dilations[index:]) for index in range(len(config.dilations) + 1)]
        return [-(-(targets + context) // unit) * unit for context in left]

    def read_past(self, samples: jax.Array, period: jax.Array | None) -> tuple[jax.Array, jax.Array]:
        """Samples [t] to the first layer's input [C, t - history + 1], and the past that is white of them [inputs, same]."""
        config = self.config
        length = samples.shape[0] - config.history + 1
        first = config.history - config.taps
        past = [samples[first + k : first + k + length] for k in range(config.taps)]  # oldest first
        if config.output == "softmax":
            x = jax.vmap(lambda table, tap: table[mulaw.encode(tap)])(self.front[...], jnp.stack(past)).sum(axis=0).T
            return (x + self.front_bias[...][:, None]).astype(config.dtype), jnp.stack(past)
        if config.taps_ago:
            lag = jnp.int32(0) if period is None else period
            place = config.history - lag - config.taps_ago // 2  # of the first of them
            ago = [jax.lax.dynamic_slice(samples, (place + k,), (length,)) for k in range(config.taps_ago)]
            past = [jnp.where(lag > 0, tap, 0.0) for tap in ago] + past
        with jax.default_matmul_precision("highest"):  # the detail sought is a thousandth of the amplitude
            white = jax.lax.stop_gradient(self.fixed_whitening[...]).T @ jnp.stack(past)
            return affine(self.front, self.front_bias, white).astype(config.dtype), white

    def conditioning(self, vector: jax.Array | None, frames: jax.Array | None) -> list[jax.Array] | None:
        """What each layer adds before its gate: a list of [2 C, F], one column a frame; None for none."""
        config = self.config
        total = None
        if config.vector_channels and vector is not None:
            total = (vector @ self.vector_projection[...])[:, None]
        if config.frame_channels and frames is not None:
            projected = (frames @ self.frame_projection[...]).T
            total = projected if total is None else total + projected
        return None if total is None else jnp.split(total.astype(config.dtype), len(config.dilations))


def mixture_outputs(outputs: jax.Array, white: jax.Array, linear: jax.Array, log_scale: jax.Array) -> jax.Array:
    """What the network says [3 K + taps, t], with the white past [taps, t], to a mixture's parameters [3 K, t].

    Its first rows are logits, corrections and log scales. The others bend the linear prediction from sample to sample: a
    tone of any pitch is predicted from the past by some coefficients, and coefficients that hold as long as the tone does
    are easier to learn than the tone itself. The unit of the prediction's bending and of scales is exp(log_scale), the
    typical error of linear prediction; the unit of a correction is its component's own scale.
    """
    components = (outputs.shape[0] - white.shape[0]) // 3
    logits, corrections, log_scales, adaptive_coefficients = jnp.split(
        outputs, [components, 2 * components, 3 * components]
    )
    with jax.default_matmul_precision("highest"):
        prediction = linear @ white
    prediction += jnp.exp(log_scale) * jnp.sum(adaptive_coefficients * white, axis=0)
    log_scales = jnp.maximum(log_scales + log_scale, MIN_LOG_SCALE)
    locations = prediction[None] + jnp.exp(log_scales) * corrections
    return jnp.concatenate([logits, locations, log_scales])
