"""WaveNet (van den Oord et al., 2016): a stack of gated, dilated, causal convolutions that predicts the next sample.

This is the parallel form, for training and scoring. The op `wavesynth.kernels.wavenet_decode` is the sequential form, for
sampling. Both compute the same function.

Time in one window [R + T]: R samples of left context (the receptive field), then T targets. Every convolution is "valid": it
uses up its part of the context, so that exactly T predictions are left.

    samples   |------------- R -------------|------ T ------|
    front         |-- less its taps ---------------------|
    layer 1            |-- less its dilation ------------|
    ...
    outputs                                 |------ T ------|   outputs[t] predicts samples[R + t]
"""

from dataclasses import dataclass
from typing import Annotated, Literal

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int

from wavesynth.audio import mulaw
from wavesynth.config import Width
from wavesynth.errors import UserError
from wavesynth.fields import Checked, Real, Whole
from wavesynth.models.layers import (
    affine,
    check_remembered,
    dense,
    gate,
    gaussian,
    over_examples,
    shifted_copies,
    zeros,
)
from wavesynth.models.likelihoods import MIN_LOG_SCALE, LogisticMixture, MulawSoftmax, Quantization, quantize

ALIGN = 16  # float32 in one AVX-512 register
MOST_MIXTURES = 64  # the limit of the native sampler
MOST_LAYERS = 256  # more take minutes to compile
MOST_CONTEXT = 2**20  # samples; a minute at 16 kHz


@dataclass(frozen=True)
class WaveNetConfig(Checked):
    """The shape of a WaveNet.

    Attributes:
        stacks: number of repetitions of the dilations 1, 2, 4 ...
        longest_dilation: dilation of a stack's last layer, seconds; the nearest power of two in samples is taken.
        layers_per_stack: layers per stack; the last has the dilation 2^(layers_per_stack - 1). Filled in from
            `longest_dilation` and the sample rate.
        channels: width of the residual path and of each gate.
        skip_channels: width of the skip path.
        head_channels: width of the layer before the output.
        kernel_width: taps of each dilated convolution, 2 or 3.
        taps: past samples that the first layer (and the linear prediction of a mixture) sees.
        period_taps: additional past samples, around one period of the pitch back, for a mixture; 0 for none. The
            quasi-periodic WaveNet of Wu et al. (2021) does this in all layers.
        longest_period: the longest period of `period_taps`, in samples; 0 for none. Filled in from the data.
        output: "mixture" of logistics, or a "softmax" over mu-law codes.
        mixtures: number of logistics in a mixture.
        quantization: quantization of the input and of the bins of a mixture, "int16" or "mulaw". A softmax needs "mulaw".
        labels: rows of the table of label embeddings; 0 for none. Filled in from the data.
        vector_channels: width of the global conditioning vector, a label's embedding; 0 for none.
        frame_channels: width of the local conditioning; 0 for none. Filled in from the data.
        hop_seconds: time per frame of local conditioning; the nearest power of two in samples is taken.
        hop_length: samples per frame of local conditioning. Filled in from `hop_seconds` and the sample rate.
        dtype: data type of the activations, "float32" or "bfloat16"; parameters and likelihoods are always float32.
    """

    stacks: Annotated[int, Whole(1, 64)] = 2
    longest_dilation: Annotated[float, Real(least=1e-4, most=1.0)] = 0.015
    layers_per_stack: Annotated[int, Whole(0, 16)] = 0
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
    hop_seconds: Annotated[float, Real(least=1e-4, most=1.0)] = 0.0075
    hop_length: Annotated[int, Whole(0, 65_536)] = 0
    dtype: Literal["float32", "bfloat16"] = "float32"

    def __post_init__(self) -> None:
        super().__post_init__()
        layers = len(self.dilations)
        if layers > MOST_LAYERS:
            raise UserError(f"stacks is {self.stacks}: that gives {layers} layers in total, more than {MOST_LAYERS}")
        if self.receptive_field > MOST_CONTEXT:
            raise UserError(
                f"layers_per_stack is {self.layers_per_stack}: that gives a receptive field of {self.receptive_field:,} "
                f"samples, more than {MOST_CONTEXT:,}"
            )
        check_remembered("channels", self.channels, (self.kernel_width - 1) * sum(self.dilations))
        if self.labels and not self.vector_channels:
            raise UserError(
                f"labels is {self.labels} and vector_channels 0: labels need an embedding, or set both to 0"
            )
        if self.output == "softmax" and self.quantization != "mulaw":
            raise UserError(f'quantization is "{self.quantization}": a softmax needs "mulaw"')

    @property
    def dilations(self) -> tuple[int, ...]:
        """The dilation of each layer."""
        return tuple(2**i for i in range(self.layers_per_stack)) * self.stacks

    @property
    def receptive_field(self) -> int:
        """How many past samples one prediction sees, the current target excluded."""
        return self.history + (self.kernel_width - 1) * sum(self.dilations)

    @property
    def history(self) -> int:
        """How far back the first layer sees, in samples."""
        return max(self.taps, self.longest_period + self.taps_ago) if self.taps_ago else self.taps

    @property
    def taps_ago(self) -> int:
        """Samples around one period ago that are seen: `period_taps` for a mixture with pitches, else 0."""
        return self.period_taps if self.longest_period and self.output == "mixture" else 0

    @property
    def inputs(self) -> int:
        """How many past samples the first layer sees."""
        return self.taps + self.taps_ago

    @property
    def context_frames(self) -> int:
        """Frames of local conditioning in the left context of a window."""
        return -(-self.receptive_field // self.hop_length)

    @property
    def output_channels(self) -> int:
        """Outputs per sample: the parameters of the likelihood and, for a mixture, adaptive prediction coefficients."""
        return self.likelihood.width + (self.inputs if self.output == "mixture" else 0)

    @property
    def likelihood(self) -> LogisticMixture | MulawSoftmax:
        """The distribution of a sample given its past."""
        if self.output == "softmax":
            return MulawSoftmax()
        return LogisticMixture(self.mixtures, self.quantization)


class GatedLayer(nnx.Module):
    """A dilated causal convolution and its gate, added to the residual path."""

    def __init__(self, config: WaveNetConfig, dilation: int, *, rngs: nnx.Rngs) -> None:
        self.shifts = [k * dilation for k in reversed(range(config.kernel_width))]  # of the taps, oldest first
        self.dilated = dense(rngs, config.kernel_width * config.channels, 2 * config.channels)
        self.dilated_bias = zeros(2 * config.channels)
        self.residual = dense(rngs, config.channels, config.channels, scale=len(config.dilations) ** -0.5)
        self.residual_bias = zeros(config.channels)

    def __call__(
        self, x: Float[Array, "channels time"], length: int, conditioning: Float[Array, "gate_channels frames"] | None
    ) -> tuple[Float[Array, "channels {length}"], Float[Array, "channels {length}"]]:
        """The residual path and the gate at the last `length` places.

        Args:
            x: the residual path.
            length: places; a multiple of the number of frames.
            conditioning: what is added before the gate, [2 C, F].
        """
        z = affine(self.dilated, self.dilated_bias, shifted_copies(x, self.shifts, length))
        if conditioning is not None:
            z = (z.reshape(*conditioning.shape, -1) + conditioning[..., None]).reshape(z.shape)
        gated = gate(z)
        return x[:, -length:] + affine(self.residual, self.residual_bias, gated), gated


class WaveNet(nnx.Module):
    """The network. `wavesynth.kernels.wavenet_decode.weights` depends on the names of its parameters.

    The locations of a mixture are a linear prediction from the last `taps` samples, with coefficients that the network adapts
    from sample to sample, plus a correction by the network (see `mixture_outputs`). The first layer sees the past samples
    whitened (`fixed_whitening`). Audio is so predictable that the detail left to model is a thousandth of its amplitude, and
    without whitening gradient descent would take hours to find it. Both are computed from the data: parameters whose name
    begins with `fixed_` are not trained.

    >>> config = WaveNetConfig(stacks=1, layers_per_stack=2, channels=4, skip_channels=4, head_channels=4, taps=4)
    >>> network = WaveNet(config, rngs=nnx.Rngs(0))
    >>> network(jnp.zeros((1, config.receptive_field + 5))).shape                  # 3 parameters for each of 4 logistics
    (1, 5, 12)
    """

    def __init__(self, config: WaveNetConfig, *, rngs: nnx.Rngs) -> None:
        self.config = config
        layers = len(config.dilations)
        if config.output == "softmax":
            self.front = gaussian(rngs, config.taps, mulaw.CODES, config.channels)
        else:
            self.front = dense(rngs, config.inputs, config.channels)
            self.fixed_whitening = nnx.Param(jnp.eye(config.inputs))
            self.fixed_linear = zeros(config.inputs)
            self.fixed_log_scale = zeros()
        self.front_bias = zeros(config.channels)
        if config.labels:
            self.label_table = gaussian(rngs, config.labels, config.vector_channels)
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
        samples: Float[Array, "batch time"],
        vector: Float[Array, "batch vector_channels"] | None = None,
        frames: Float[Array, "batch frames frame_channels"] | None = None,
        periods: Int[Array, " batch"] | None = None,
    ) -> Float[Array, "batch targets width"]:
        """The parameters of the likelihood for the last T samples of each window.

        Args:
            samples: [B, R + T], where R is the receptive field.
            vector: global conditioning.
            frames: local conditioning, ``context_frames + ceil(T / hop_length)`` frames of which one begins with the first
                target; or one frame that holds throughout.
            periods: samples per period of each window's pitch, from taps_ago / 2 to longest_period; 0 where it is unknown.

        Returns:
            float32 [B, T, likelihood.width].
        """
        return over_examples(self.one, samples, vector, frames, periods)

    def one(
        self,
        samples: Float[Array, " time"],
        vector: Float[Array, " vector_channels"] | None,
        frames: Float[Array, "frames frame_channels"] | None,
        period: Int[Array, ""] | None,
    ) -> Float[Array, "targets width"]:
        """The parameters of the likelihood for one window: [R + T] to [T, likelihood.width]."""
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
            own = None if conditioning is None else conditioning[index][:, -length // unit if framed else 0 :]
            x, gated = layer(x, length, own)
            gates.append(gated[:, -lengths[-1] :])
        skip = jax.nn.relu(affine(self.skip, self.skip_bias, jnp.concatenate(gates)))
        head = jax.nn.relu(affine(self.head, self.head_bias, skip))
        outputs = affine(self.out, self.out_bias, head.astype(jnp.float32))
        if config.output == "mixture":
            constants = jax.lax.stop_gradient((self.fixed_linear[...], self.fixed_log_scale[...]))
            outputs = mixture_outputs(outputs, past[:, -lengths[-1] :], *constants)
        return outputs[:, :targets].T

    def lengths(self, targets: int, unit: int) -> list[int]:
        """Places that the front and each layer compute, in whole units; those beyond what is needed come first."""
        config = self.config
        left = [(config.kernel_width - 1) * sum(config.dilations[index:]) for index in range(len(config.dilations) + 1)]
        return [-(-(targets + context) // unit) * unit for context in left]

    def read_past(
        self, samples: Float[Array, " time"], period: Int[Array, ""] | None
    ) -> tuple[Float[Array, "channels places"], Float[Array, "inputs places"]]:
        """The input of the first layer and the whitened past, at t - history + 1 places of samples [t]."""
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
        with jax.default_matmul_precision("highest"):  # the detail to model is a thousandth of the amplitude
            white = jax.lax.stop_gradient(self.fixed_whitening[...]).T @ jnp.stack(past)
            return affine(self.front, self.front_bias, white).astype(config.dtype), white

    def conditioning(
        self, vector: Float[Array, " vector_channels"] | None, frames: Float[Array, "frames frame_channels"] | None
    ) -> list[Float[Array, "gate_channels _"]] | None:
        """What each layer adds before its gate, [2 C, F], a column per frame; None without conditioning."""
        config = self.config
        total = None
        if config.vector_channels and vector is not None:
            total = (vector @ self.vector_projection[...])[:, None]
        if config.frame_channels and frames is not None:
            projected = (frames @ self.frame_projection[...]).T
            total = projected if total is None else total + projected
        return None if total is None else jnp.split(total.astype(config.dtype), len(config.dilations))


def mixture_outputs(
    outputs: Float[Array, "outputs time"],
    white: Float[Array, "inputs time"],
    linear: Float[Array, " inputs"],
    log_scale: Float[Array, ""],
) -> Float[Array, "parameters time"]:
    """The parameters of a mixture of K logistics from the outputs of the network.

    The first 3 K rows of the outputs are logits, corrections and log scales. The others are added to the coefficients of the
    linear prediction, sample by sample. Some coefficients predict a tone of any pitch from its past, and coefficients that
    hold as long as the tone lasts are easier to learn than the tone itself. The added coefficients and the scales are in
    units of exp(log_scale), the typical error of the linear prediction; a correction is in units of its component's scale.

    Args:
        outputs: [3 K + inputs, t].
        white: the whitened past.
        linear: coefficients of the linear prediction from the whitened past.
        log_scale: natural logarithm of its typical error.

    Returns:
        [3 K, t]: logits, locations and log scales.
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
