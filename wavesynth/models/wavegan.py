"""WaveGAN (Donahue, McAuley and Puckette, 2019) and what has been learned since: a generator that makes a whole sound of a
latent vector at once, and critics that tell made sounds from real ones.

Activations are [B, time, channels]. A generator of strides (4, 4, 4, 4, 4) and 32 channels:

    latent, label, pitch -> style                       [B, D]
    dense                                               [B, 16, 512]
    5 stages, each four times as long: 256, 128, 64, 32 channels and the sound          [B, 16384]

With `noise_channels`, each stage adds noise that it has shaped itself: a snare need not be drawn from memory sample by
sample. With pitches, the wanted pitch's harmonics enter beside the noise (see `wavesynth.models.excitation`).
"""

import math
from dataclasses import dataclass
from typing import Literal

import jax
import jax.numpy as jnp
from flax import nnx

from wavesynth.audio.spectral import stft_magnitude
from wavesynth.config import check_at_least_one
from wavesynth.errors import UserError
from wavesynth.models.excitation import excitation
from wavesynth.models.layers import zeros
from wavesynth.models.polyphase import same, smoothed, strided, transposed

SPECTRAL_FLOOR = 1e-3  # of a magnitude, 60 dB below full scale: what is quieter looks alike to the spectral critics
PERIOD_STRIDE, PERIOD_WIDTH = 3, 5  # of the convolutions of the critics of periods
SPECTRAL_WIDTH = 5  # frames


@dataclass(frozen=True)
class WaveGANConfig:
    """The shape of a WaveGAN.

    Attributes:
        seconds: how long every sound is; the strides' product in samples divides it, so it is rounded up to the next
            length that they do.
        length: the same in samples. 0: filled in from `seconds` and the sample rate.
        latent: dimensions of the Gaussian that sounds are drawn from.
        style_channels: width of two layers that turn the latent and the condition into a style, which then scales and
            shifts the channels of every stage; 0 for none, as published: latent and condition enter at the front alone.
        channels: of the generator's last stage but one; each stage before it has twice as many.
        widest: the most channels of a stage.
        strides: by which each stage lengthens the sound.
        kernel_width: taps of its convolutions.
        smooth: whether upsampling is anti-aliased (see `wavesynth.models.polyphase.smoothed`).
        leak: slope of the generator's activations below zero; 0 as published.
        noise_channels: how many channels of noise each stage can shape and add; 0 for none.
        level: what the last stage's output is multiplied by, before a tanh. Sounds are quiet: where small weights had to
            make them so, a step that suits the other weights would throw those far off, and the sound with them.
        output_filter: taps of a filter learned for the output, 0 for none (the published one has 512).
        critic_channels: of the first stage of the critic that sees the waveform, 0 for no such critic.
        phase_shuffle: by up to how many samples that critic's activations are shifted at random, example by example.
        periods: of the critics that see every second, third, fifth ... sample side by side (Kong et al., 2020).
        period_channels: of their first layers.
        spectral_windows: of the critics that see a spectrogram, in samples.
        spectral_channels: of their layers.
        labels: how many there are. Filled in from the data.
        pitches: how many there are. Filled in from the data.
        sample_rate: Hz. Filled in from the data.
        dtype: of the activations, "float32" or "bfloat16"; parameters, losses and spectra are always float32.
    """

    seconds: float = 1.0
    length: int = 0
    latent: int = 128
    style_channels: int = 128
    channels: int = 16
    widest: int = 512
    strides: tuple[int, ...] = (4, 4, 4, 4, 4)
    kernel_width: int = 25
    smooth: bool = True
    leak: float = 0.2
    noise_channels: int = 4
    level: float = 0.05
    output_filter: int = 0
    critic_channels: int = 16
    phase_shuffle: int = 0
    periods: tuple[int, ...] = ()
    period_channels: int = 16
    spectral_windows: tuple[int, ...] = (256, 1024)
    spectral_channels: int = 64
    labels: int = 0
    pitches: int = 0
    sample_rate: int = 0
    dtype: Literal["float32", "bfloat16"] = "float32"

    def __post_init__(self) -> None:
        check_at_least_one(self, "latent", "channels", "widest", "kernel_width")
        if not 0 < self.seconds < math.inf:
            raise UserError(f"seconds is {self.seconds}: it must be above 0 and finite")
        if not self.strides or min(self.strides) < 2:
            raise UserError(f"strides is {self.strides}: give at least one, each at least 2")
        if self.length % self.hop:
            raise UserError(
                f"length is {self.length}, which the strides' product {self.hop} does not divide: "
                f"the next that it does is {-(-self.length // self.hop) * self.hop}"
            )
        if not (self.critic_channels or self.periods or self.spectral_windows):
            raise UserError("critic_channels is 0 and there are no periods and no spectral_windows: give it one critic")
        if any(window % 4 or window < 16 for window in self.spectral_windows):
            raise UserError(f"spectral_windows is {self.spectral_windows}: each must be a multiple of 4, at least 16")

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


def normal(rngs: nnx.Rngs, *shape: int, gain: float = 1.0) -> nnx.Param:
    """Weights [..., inputs, outputs] of variance gain^2 / (all but the outputs)."""
    return nnx.Param(jax.random.normal(rngs.params(), shape) * (gain / math.sqrt(math.prod(shape[:-1]))))


def plus(x: jax.Array, bias: nnx.Param) -> jax.Array:
    """x [..., O] and bias [O], in the dtype of x."""
    return x + jnp.broadcast_to(bias[...].astype(x.dtype), x.shape)


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
        """style [B, S], pitch [B] in MIDI numbers (NaN for none) and keys [B] of the noise to sounds [B, length]."""
        config = self.config
        x = plus(style @ self.front[...], self.front_bias).astype(config.dtype)
        x = x.reshape(len(style), config.length // config.hop, config.stage_channels[0])
        rate = config.sample_rate / config.hop
        for index, stage in enumerate(self.stages):
            sources = None
            rate *= stage.stride
            if config.noise_channels:
                own = jax.vmap(jax.random.fold_in, in_axes=(0, None))(keys, index)
                sources = excitation(
                    own, pitch if config.pitches else None, x.shape[1] * stage.stride, rate, config.noise_channels
                )
            x = stage(jax.nn.leaky_relu(x, config.leak), style if config.style_channels else None, sources)
        sound = x.astype(jnp.float32)
        if self.filter is not None:
            sound = same(sound, self.filter[...])
        return jnp.tanh(config.level * sound[..., 0])


class Critic(nnx.Module):
    """A stack of convolutions that ends in one figure for each example; what it sees is [B, time, channels].

    places: how many places its last activations have, if each gets weights of its own, as published; 1 counts all alike.
    A condition enters as an inner product with their mean (Miyato and Koyama, 2018).
    """

    def __init__(
        self, inputs: int, channels: tuple[int, ...], stride: int, width: int, *, condition: int, places: int = 1,
        shuffle: int = 0, rngs: nnx.Rngs,
    ) -> None:  # fmt: skip
        self.stride, self.shuffle = stride, shuffle
        pairs = zip((inputs, *channels), channels, strict=False)
        self.kernels = nnx.List(normal(rngs, width, i, o, gain=2**0.5) for i, o in pairs)
        self.biases = nnx.List(zeros(o) for o in channels)
        self.condition = normal(rngs, condition, channels[-1]) if condition else None
        self.last = nnx.Param(normal(rngs, channels[-1], places)[...].T)

    def features(self, x: jax.Array, key: jax.Array) -> jax.Array:
        """[B, time, C] to the last activations [B, time / stride^layers, channels]."""
        for index, (kernel, bias) in enumerate(zip(self.kernels, self.biases, strict=True)):
            if index and self.shuffle:
                x = phase_shuffle(x, self.shuffle, jax.random.fold_in(key, index))
            x = jnp.pad(x, ((0, 0), (0, -x.shape[1] % self.stride), (0, 0)))
            x = plus(strided(x, kernel[...].astype(x.dtype), self.stride), bias)
            x = jax.nn.leaky_relu(x, 0.2)
        return x.astype(jnp.float32)

    def judge(self, features: jax.Array, condition: jax.Array) -> jax.Array:
        """Features [B, time, C] and condition [B, condition_channels] to [B]."""
        places = self.last.shape[0]
        value = jnp.mean(jnp.sum(features * self.last[...][None], axis=-1), axis=1) * math.sqrt(places)
        if self.condition is not None:
            value += jnp.sum(features.mean(axis=1) * (condition @ self.condition[...]), axis=-1)
        return value


class Critics(nnx.Module):
    """All critics of a model, each with its own view of a sound."""

    def __init__(self, config: WaveGANConfig, *, rngs: nnx.Rngs) -> None:
        self.config = config
        condition = config.condition_channels
        members: list[Critic] = []
        if config.critic_channels:
            depth = max(1, round(math.log(config.length / 16, 4)))
            channels = tuple(min(config.widest, config.critic_channels * 2**i) for i in range(depth))
            members.append(
                Critic(
                    1, channels, 4, config.kernel_width, condition=condition, places=-(-config.length // 4**depth),
                    shuffle=config.phase_shuffle, rngs=rngs,
                )
            )  # fmt: skip
        for period in config.periods:
            depth = max(1, round(math.log(config.length / period / 16, PERIOD_STRIDE)))
            channels = tuple(min(config.widest, config.period_channels * 2**i) for i in range(depth))
            members.append(Critic(1, channels, PERIOD_STRIDE, PERIOD_WIDTH, condition=condition, rngs=rngs))
        for window in config.spectral_windows:
            channels = (config.spectral_channels,) * 4
            members.append(Critic(window // 2 + 1, channels, 1, SPECTRAL_WIDTH, condition=condition, rngs=rngs))
        self.members = nnx.List(members)

    def __call__(self, views: list[jax.Array], condition: jax.Array, key: jax.Array) -> jax.Array:
        """Views as above and condition [B, condition_channels] to one figure of each critic, [B, critics]: real is more."""
        figures = []
        for index, (member, view) in enumerate(zip(self.members, views, strict=True)):
            features = member.features(view, jax.random.fold_in(key, index))
            features = features.reshape(len(condition), -1, features.shape[-1])
            figures.append(member.judge(features, condition))
        return jnp.stack(figures, axis=1)


def views(config: WaveGANConfig, sounds: jax.Array) -> list[jax.Array]:
    """What each critic sees of sounds [B, length]: [B, time, channels]; periods lie in the batch, [B period, ...]."""
    seen = []
    if config.critic_channels:
        seen.append(sounds[..., None])
    for period in config.periods:
        padded = jnp.pad(sounds, ((0, 0), (0, -config.length % period)))
        seen.append(
            padded.reshape(len(sounds), -1, period).transpose(0, 2, 1).reshape(-1, padded.shape[1] // period, 1)
        )
    for window in config.spectral_windows:
        magnitude = stft_magnitude(sounds, window, window // 4)
        seen.append(jnp.log(magnitude + SPECTRAL_FLOOR) / 2 + 2)  # about -1.5 to 2
    return [view.astype(config.dtype) for view in seen]


def phase_shuffle(x: jax.Array, most: int, key: jax.Array) -> jax.Array:
    """Shifts each example of x [B, t, C] by its own random number of places, -most to most; edges are mirrored.

    All shifts are made and one is kept by weights of 0 and 1: that is faster than to index, and as differentiable.
    """
    length = x.shape[1]
    shifts = jax.random.randint(key, (len(x),), 0, 2 * most + 1)
    padded = jnp.pad(x, ((0, 0), (most, most), (0, 0)), mode="reflect")
    chosen = jax.nn.one_hot(shifts, 2 * most + 1, dtype=x.dtype)
    return sum(chosen[:, i, None, None] * padded[:, i : i + length] for i in range(2 * most + 1))  # type: ignore[return-value]
