"""WaveGAN (Donahue, McAuley and Puckette, 2019) with later improvements: a generator that turns a latent vector into a whole
sound at once. `wavesynth.models.discriminators` has the discriminators.

Activations are [B, time, channels]. A generator of strides (4, 4, 4, 4, 4) and 32 channels:

    latent, label, pitch -> style                       [B, D]
    dense                                               [B, 16, 512]
    5 stages, each four times as long: 256, 128, 64, 32 channels and the sound          [B, 16384]

With `noise_channels`, each stage adds noise that it shapes, so the noise of a snare need not be memorised sample by sample.
With pitches, the harmonics of the pitch enter beside the noise (see `wavesynth.models.excitation`).
"""

import math
from dataclasses import dataclass
from typing import Annotated

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Key

from wavesynth.audio.rates import power_of_two
from wavesynth.audio.stereo import mid_side
from wavesynth.config import Width
from wavesynth.errors import UserError
from wavesynth.fields import Count, Real, Whole
from wavesynth.models.discriminators import DiscriminatorsConfig, WidthOrNone, normal, plus
from wavesynth.models.excitation import excitation, white
from wavesynth.models.layers import zeros
from wavesynth.models.polyphase import same, smoothed, transposed

LONGEST = 2**24  # samples of a sound, which is generated as a whole in memory
MOST_ACTIVATIONS = 2**26  # activations of a stage per sound: 256 MB


@dataclass(frozen=True)
class WaveGANConfig(DiscriminatorsConfig):
    """The shape of a WaveGAN. The generator shares `kernel_width`, `widest` and `dtype` with the discriminators.

    Attributes:
        seconds: length of every sound, rounded up to a multiple of the strides' product in samples.
        frame_seconds: time per place of the front; the nearest power of two in samples is taken.
        stages: number of stages, which share this factor.
        length: length in samples. Filled in from `seconds` and the sample rate.
        latent: dimensions of the Gaussian latent.
        style_channels: width of the two layers that map latent and conditioning to a style, which scales and shifts the
            channels of every stage. 0 for none, as published: latent and conditioning enter at the front only.
        channels: channels of the generator's last stage but one; each stage before it has twice as many.
        strides: the factor by which each stage lengthens the sound. Filled in from `frame_seconds`, `stages` and the sample
            rate.
        smooth: whether upsampling is anti-aliased (see `wavesynth.models.polyphase.smoothed`).
        leak: slope of the generator's activations below zero; 0 as published.
        noise_channels: channels of noise that each stage shapes and adds; 0 for none.
        level: factor of the last stage's output, before a tanh. Sounds are quiet; without this factor, the last weights would
            be so small that the learning rate would be too high for them.
        output_filter: taps of a learned filter of the output; 0 for none, 512 as published.
        labels: number of labels. Filled in from the data.
        pitch_channels: features of the pitch. Filled in from the data.
    """

    seconds: Annotated[float, Real(above=0, most=600)] = 1.0
    length: Annotated[int, Whole(0, LONGEST)] = 0
    latent: Width = 128
    style_channels: WidthOrNone = 128
    channels: Width = 16
    frame_seconds: Annotated[float, Real(least=0.001, most=10.0)] = 0.06
    stages: Annotated[int, Whole(1, 24)] = 5
    strides: Annotated[tuple[Annotated[int, Whole(1, 1_024)], ...], Count(0, 24)] = ()
    smooth: bool = True
    leak: Annotated[float, Real(least=0, most=1)] = 0.2
    noise_channels: Annotated[int, Whole(0, 1_024)] = 4
    level: Annotated[float, Real(above=0, most=1e3)] = 0.05
    output_filter: Annotated[int, Whole(0, 65_536)] = 0
    labels: Annotated[int, Whole(0, 65_536)] = 0
    pitch_channels: Annotated[int, Whole(0, 128)] = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.hop > LONGEST:
            raise UserError(f"strides is {self.strides}: their product must be at most {LONGEST:,} samples")
        size = self.length * max(self.channels, self.noise_channels)
        if size > MOST_ACTIVATIONS:
            raise UserError(
                f"length is {self.length:,}: with these channels, a sound would take {size:,} activations, more than "
                f"{MOST_ACTIVATIONS:,}"
            )
        if self.length % self.hop:
            raise UserError(
                f"length is {self.length}, not a multiple of the strides' product {self.hop}: "
                f"the next multiple is {-(-self.length // self.hop) * self.hop}"
            )

    @property
    def hop(self) -> int:
        """Samples per frame of the first stage."""
        return math.prod(self.strides)

    @property
    def condition_channels(self) -> int:
        """Width of the conditioning vector: a weight for each label, and features of the pitch."""
        return self.labels + self.pitch_channels

    @property
    def stage_channels(self) -> tuple[int, ...]:
        """Input channels of each stage; the output of the last is the sound."""
        return tuple(min(self.widest, self.channels * 2**i) for i in reversed(range(len(self.strides))))


def stage_strides(frame_seconds: float, stages: int, sample_rate: int) -> tuple[int, ...]:
    """Strides of `stages` stages, whose product is the power of two nearest to a duration: the first ones are the largest.

    >>> stage_strides(0.06, 5, 16_000), stage_strides(0.06, 5, 44_100)
    ((4, 4, 4, 4, 4), (8, 4, 4, 4, 4))
    """
    octaves = power_of_two(frame_seconds, sample_rate).bit_length() - 1
    return tuple(2 ** (octaves // stages + (stage < octaves % stages)) for stage in range(stages))


class Stage(nnx.Module):
    """One stage of the generator: it upsamples by `stride`, adds noise and applies the style."""

    def __init__(self, config: WaveGANConfig, inputs: int, outputs: int, stride: int, *, rngs: nnx.Rngs) -> None:
        self.stride, self.smooth, self.outputs = stride, config.smooth, outputs
        sources = config.noise_channels and config.noise_channels + bool(config.pitch_channels)
        self.sources = sources
        width = config.kernel_width
        # Of the kernel's taps each output meets one in `stride`, which evens out the variance.
        self.kernel = normal(rngs, width, inputs, outputs + sources, gain=math.sqrt(2 * stride))
        self.bias = zeros(outputs + sources)
        self.mix = normal(rngs, sources, outputs) if sources else None
        self.style = normal(rngs, config.style_channels, 2 * outputs, gain=0.5) if config.style_channels else None

    def __call__(
        self,
        x: Float[Array, "batch time inputs"],
        style: Float[Array, "batch style"] | None,
        sources: Float[Array, "batch longer sources"] | None,
    ) -> Float[Array, "batch longer outputs"]:
        """The output before its activation, `stride` times as long as x.

        Args:
            x: the activations of the stage before.
            style: scales and shifts the channels; None for none.
            sources: noise and harmonics at the output's rate; None for none.
        """
        kernel = smoothed(self.kernel[...], self.stride) if self.smooth else self.kernel[...]
        y = plus(transposed(x, kernel.astype(x.dtype), self.stride), self.bias)
        if self.mix is not None and sources is not None:
            shaped = y[..., self.outputs :] * sources[..., : self.sources].astype(x.dtype)
            y = y[..., : self.outputs] + shaped @ self.mix[...].astype(x.dtype)
        if self.style is not None and style is not None:
            scale, shift = jnp.split((style @ self.style[...])[:, None].astype(x.dtype), 2, axis=-1)
            y = y * (1 + scale) + shift
        return y


class Generator(nnx.Module):
    """A network from a latent vector and a conditioning vector to a sound."""

    def __init__(self, config: WaveGANConfig, *, rngs: nnx.Rngs) -> None:
        self.config = config
        inputs = config.latent + config.condition_channels
        style = config.style_channels
        if style:
            self.mapping = nnx.List([normal(rngs, inputs, style, gain=2**0.5), normal(rngs, style, style, gain=2**0.5)])
            self.mapping_biases = nnx.List([zeros(style), zeros(style)])
        first = config.stage_channels[0]
        self.front = normal(rngs, style or inputs, config.length // config.hop * first)
        self.front_bias = zeros(config.length // config.hop * first)
        outputs = (*config.stage_channels[1:], config.audio_channels)
        self.stages = nnx.List(
            Stage(config, i, o, stride, rngs=rngs)
            for i, o, stride in zip(config.stage_channels, outputs, config.strides, strict=True)
        )
        self.filter = normal(rngs, config.output_filter, 1, 1) if config.output_filter else None  # of each channel

    def style(
        self, latent: Float[Array, "batch latent"], condition: Float[Array, "batch condition"]
    ) -> Float[Array, "batch style"]:
        """The style that all stages share."""
        style = jnp.concatenate([latent, condition * math.sqrt(self.config.latent / 2)], axis=-1)
        if self.config.style_channels:
            style *= jax.lax.rsqrt(jnp.mean(jnp.square(style), axis=-1, keepdims=True) + 1e-8)
            for matrix, bias in zip(self.mapping, self.mapping_biases, strict=True):
                style = jax.nn.leaky_relu(plus(style @ matrix[...], bias), 0.2)
        return style

    def __call__(
        self,
        style: Float[Array, "batch style"] | Float[Array, "batch places style"],
        pitch: Float[Array, " batch"],
        keys: Key[Array, " batch"],
    ) -> Float[Array, "batch audio length"]:
        """Generates sounds.

        Args:
            style: from `style`; or [B, 1 + stages, S], with a style for the front and for each stage.
            pitch: MIDI numbers; NaN for none.
            keys: of the noise.

        Returns:
            float32 [B, C, length], in [-1, 1]. The last stage makes the middle and the side of stereo sounds.
        """
        config = self.config
        first, *styles = jnp.moveaxis(style, 1, 0) if style.ndim == 3 else [style] * (1 + len(self.stages))
        x = plus(first @ self.front[...], self.front_bias).astype(config.dtype)
        x = x.reshape(len(style), config.length // config.hop, config.stage_channels[0])
        shares = [math.prod(config.strides[index + 1 :]) for index in range(len(config.strides))]  # of the sound's rate
        sources: list[jax.Array | None] = [None] * len(shares)
        if config.noise_channels:
            sources = [*white(keys, [config.length // share for share in shares], config.noise_channels)]
        for stage, own, share, source in zip(self.stages, styles, shares, sources, strict=True):
            if source is not None and config.pitch_channels:
                source = excitation(source, pitch, config.sample_rate / share)
            x = stage(jax.nn.leaky_relu(x, config.leak), own if config.style_channels else None, source)
        sound = x.astype(jnp.float32).transpose(0, 2, 1)
        if self.filter is not None:
            sound = same(sound.reshape(-1, config.length, 1), self.filter[...]).reshape(sound.shape)
        return jnp.tanh(config.level * mid_side(sound))
