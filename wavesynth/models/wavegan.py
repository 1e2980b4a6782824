"""WaveGAN (Donahue, McAuley and Puckette, 2019) and what has been learned since: a generator that makes a whole sound of a
latent vector at once, for the discriminators of `wavesynth.models.discriminators`.

Activations are [B, time, channels]. A generator of strides (4, 4, 4, 4, 4) and 32 channels:

    latent, label, pitch -> style                       [B, D]
    dense                                               [B, 16, 512]
    5 stages, each four times as long: 256, 128, 64, 32 channels and the sound          [B, 16384]

With `noise_channels`, each stage adds noise that it has shaped itself: a snare need not be drawn from memory sample by
sample. With pitches, the wanted pitch's harmonics enter beside the noise (see `wavesynth.models.excitation`).
"""

import math
from dataclasses import dataclass
from typing import Annotated

import jax
import jax.numpy as jnp
from flax import nnx

from wavesynth.config import Width
from wavesynth.errors import UserError
from wavesynth.fields import Count, Real, Whole
from wavesynth.models.discriminators import DiscriminatorsConfig, RateOrUnknown, WidthOrNone, normal, plus
from wavesynth.models.excitation import excitation, white
from wavesynth.models.layers import zeros
from wavesynth.models.polyphase import same, smoothed, transposed

LONGEST = 2**24  # samples of a sound; it is made whole, in memory
MOST_ACTIVATIONS = 2**26  # numbers that a stage makes of a sound: 256 MB


@dataclass(frozen=True)
class WaveGANConfig(DiscriminatorsConfig):
    """The shape of a WaveGAN. The generator has the `kernel_width`, `widest` and `dtype` of the discriminators too.

    Attributes:
        seconds: how long every sound is; the strides' product in samples divides it, so it is rounded up to the next
            length that they do.
        length: the same in samples. 0: filled in from `seconds` and the sample rate.
        latent: dimensions of the Gaussian that sounds are drawn from.
        style_channels: width of two layers that turn the latent and the condition into a style, which then scales and
            shifts the channels of every stage; 0 for none, as published: latent and condition enter at the front alone.
        channels: of the generator's last stage but one; each stage before it has twice as many.
        strides: by which each stage lengthens the sound.
        smooth: whether upsampling is anti-aliased (see `wavesynth.models.polyphase.smoothed`).
        leak: slope of the generator's activations below zero; 0 as published.
        noise_channels: how many channels of noise each stage can shape and add; 0 for none.
        level: what the last stage's output is multiplied by, before a tanh. Sounds are quiet: where small weights had to
            make them so, a step that suits the other weights would throw those far off, and the sound with them.
        output_filter: taps of a filter learned for the output, 0 for none (the published one has 512).
        labels: how many there are. Filled in from the data.
        pitches: how many there are. Filled in from the data.
        sample_rate: Hz. Filled in from the data.
    """

    seconds: Annotated[float, Real(above=0, most=600)] = 1.0
    length: Annotated[int, Whole(0, LONGEST)] = 0
    latent: Width = 128
    style_channels: WidthOrNone = 128
    channels: Width = 16
    strides: Annotated[tuple[Annotated[int, Whole(2, 1_024)], ...], Count(1, 24)] = (4, 4, 4, 4, 4)
    smooth: bool = True
    leak: Annotated[float, Real(least=0, most=1)] = 0.2
    noise_channels: Annotated[int, Whole(0, 1_024)] = 4
    level: Annotated[float, Real(above=0, most=1e3)] = 0.05
    output_filter: Annotated[int, Whole(0, 65_536)] = 0
    labels: Annotated[int, Whole(0, 65_536)] = 0
    pitches: Annotated[int, Whole(0, 128)] = 0
    sample_rate: RateOrUnknown = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.hop > LONGEST:
            raise UserError(f"strides is {self.strides}: their product must be at most {LONGEST:,} samples")
        size = self.length * max(self.channels, self.noise_channels)
        if size > MOST_ACTIVATIONS:
            raise UserError(
                f"length is {self.length:,}: in these channels a sound would take {size:,} numbers at once, and at most "
                f"{MOST_ACTIVATIONS:,} can be"
            )
        if self.length % self.hop:
            raise UserError(
                f"length is {self.length}, which the strides' product {self.hop} does not divide: "
                f"the next that it does is {-(-self.length // self.hop) * self.hop}"
            )

    @property
    def hop(self) -> int:
        """Samples that one frame of the first stage becomes."""
        return math.prod(self.strides)

    @property
    def condition_channels(self) -> int:
        """Width of the vector that tells label and pitch: a weight for each."""
        return self.labels + self.pitches

    @property
    def stage_channels(self) -> tuple[int, ...]:
        """Channels before each stage; the last one's output is the sound."""
        return tuple(min(self.widest, self.channels * 2**i) for i in reversed(range(len(self.strides))))


class Stage(nnx.Module):
    """One stage of the generator: longer by `stride`, noise added, styled."""

    def __init__(self, config: WaveGANConfig, inputs: int, outputs: int, stride: int, *, rngs: nnx.Rngs) -> None:
        self.stride, self.smooth, self.outputs = stride, config.smooth, outputs
        sources = config.noise_channels and config.noise_channels + bool(config.pitches)
        self.sources = sources
        width = config.kernel_width
        # Of the kernel's taps each output meets one in `stride`, which evens out the variance.
        self.kernel = normal(rngs, width, inputs, outputs + sources, gain=math.sqrt(2 * stride))
        self.bias = zeros(outputs + sources)
        self.mix = normal(rngs, sources, outputs) if sources else None
        self.style = normal(rngs, config.style_channels, 2 * outputs, gain=0.5) if config.style_channels else None

    def __call__(self, x: jax.Array, style: jax.Array | None, sources: jax.Array | None) -> jax.Array:
        """x [B, t, C], style [B, S] and sources [B, t stride, N] to [B, t stride, O], before its activation."""
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
    """A latent and a condition to a sound."""

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
        outputs = (*config.stage_channels[1:], 1)
        self.stages = nnx.List(
            Stage(config, i, o, stride, rngs=rngs)
            for i, o, stride in zip(config.stage_channels, outputs, config.strides, strict=True)
        )
        self.filter = normal(rngs, config.output_filter, 1, 1) if config.output_filter else None

    def style(self, latent: jax.Array, condition: jax.Array) -> jax.Array:
        """latent [B, D] and condition [B, condition_channels] to the style that all stages see, [B, S]."""
        style = jnp.concatenate([latent, condition * math.sqrt(self.config.latent / 2)], axis=-1)
        if self.config.style_channels:
            style *= jax.lax.rsqrt(jnp.mean(jnp.square(style), axis=-1, keepdims=True) + 1e-8)
            for matrix, bias in zip(self.mapping, self.mapping_biases, strict=True):
                style = jax.nn.leaky_relu(plus(style @ matrix[...], bias), 0.2)
        return style

    def __call__(self, style: jax.Array, pitch: jax.Array, keys: jax.Array) -> jax.Array:
        """style [B, S], pitch [B] in MIDI numbers (NaN for none) and keys [B] of the noise to sounds [B, length].

        The front and each stage may also be given a style of its own: [B, 1 + stages, S].
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
            if source is not None and config.pitches:
                source = excitation(source, pitch, config.sample_rate / share)
            x = stage(jax.nn.leaky_relu(x, config.leak), own if config.style_channels else None, source)
        sound = x.astype(jnp.float32)
        if self.filter is not None:
            sound = same(sound, self.filter[...])
        return jnp.tanh(config.level * sound[..., 0])
