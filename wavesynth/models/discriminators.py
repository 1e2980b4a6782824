"""Discriminators: networks that distinguish generated from real sounds, each with its own view of a sound.

Activations are [B, time, channels].
"""

import math
from dataclasses import dataclass
from typing import Annotated, Literal

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Key

from wavesynth.audio.rates import power_of_two
from wavesynth.audio.spectral import stft_magnitude
from wavesynth.audio.stereo import mid_side
from wavesynth.config import Width
from wavesynth.errors import UserError
from wavesynth.fields import Checked, Count, Real, Whole
from wavesynth.models.layers import gaussian, zeros
from wavesynth.models.polyphase import strided

SPECTRAL_FLOOR = 1e-3  # of a magnitude, 60 dB below full scale; spectral discriminators do not see what is quieter
PERIOD_STRIDE, PERIOD_WIDTH = 3, 5  # of the convolutions of period discriminators
SPECTRAL_WIDTH = 5  # frames
Dtype = Literal["float32", "bfloat16"]
RateOrUnknown = Annotated[int, Whole(0, 768_000)]  # 0 until it is filled in from the data
AudioChannels = Annotated[int, Whole(1, 2)]
WidthOrNone = Annotated[int, Whole(0, 8_192)]
WindowSeconds = Annotated[float, Real(least=0.001, most=1.0)]


@dataclass(frozen=True)
class DiscriminatorsConfig(Checked):
    """The shape of a model's discriminators.

    Attributes:
        discriminator_channels: channels of the waveform discriminator's first stage; 0 for no such discriminator.
        phase_shuffle: largest random shift of its activations, in places; 0 for none.
        kernel_width: taps of its convolutions.
        widest: the largest number of channels of a stage.
        periods: periods of the period discriminators (Kong et al., 2020), which see every second, third, fifth ... sample.
        period_channels: channels of their first layers.
        spectral_windows: windows of the spectral discriminators, which see spectrograms, in seconds. The nearest powers of two
            in samples are taken.
        spectral_channels: channels of their layers.
        dtype: data type of the activations, "float32" or "bfloat16"; parameters, losses and spectra are always float32.
        audio_channels: channels of the sounds, 1 or 2. Filled in from the data.
        sample_rate: Hz. Filled in from the data.
    """

    discriminator_channels: WidthOrNone = 16
    phase_shuffle: Annotated[int, Whole(0, 64)] = 0
    kernel_width: Annotated[int, Whole(1, 1_024)] = 25
    widest: Width = 512
    periods: Annotated[tuple[Annotated[int, Whole(2, 4_096, note="period 1 is the waveform")], ...], Count(0, 32)] = ()
    period_channels: WidthOrNone = 16
    spectral_windows: Annotated[tuple[WindowSeconds, ...], Count(0, 32)] = (0.015, 0.06)
    spectral_channels: WidthOrNone = 64
    dtype: Dtype = "float32"
    audio_channels: AudioChannels = 1
    sample_rate: RateOrUnknown = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not (self.discriminator_channels or self.periods or self.spectral_windows):
            raise UserError(
                "discriminator_channels is 0, and there are no periods or spectral_windows: give at least one discriminator"
            )
        for name, used in (("period_channels", self.periods), ("spectral_channels", self.spectral_windows)):
            if used and getattr(self, name) < 1:
                raise UserError(f"{name} is 0: it must be at least 1, unless its discriminators are left out")

    @property
    def spectral_window_samples(self) -> tuple[int, ...]:
        """`spectral_windows` in samples."""
        return tuple(power_of_two(seconds, self.sample_rate, least=16) for seconds in self.spectral_windows)


def normal(rngs: nnx.Rngs, *shape: int, gain: float = 1.0) -> nnx.Param:
    """Gaussian weights [..., inputs, outputs] of variance gain^2 / fan_in, where the fan-in is all but the outputs."""
    return gaussian(rngs, *shape, scale=gain / math.sqrt(math.prod(shape[:-1])))


def plus(x: Float[Array, "*batch outputs"], bias: nnx.Param) -> Float[Array, "*batch outputs"]:
    """``x + bias``, in the dtype of x; bias [outputs]."""
    return x + jnp.broadcast_to(bias[...].astype(x.dtype), x.shape)


class Discriminator(nnx.Module):
    """A stack of convolutions with one logit for each example; it sees [B, time, channels].

    The conditioning enters as an inner product with the mean of the last activations (projection discriminator, Miyato and
    Koyama, 2018).

    Args:
        inputs: channels of what it sees.
        channels: of each layer.
        stride: of every convolution.
        width: taps of every convolution.
        condition: width of the conditioning vector; 0 for none.
        places: 1 to weight all places of the last activations equally, or their number to give each its own weights, as in
            WaveGAN.
        shuffle: the most places of phase shuffle before each layer but the first.
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

    def activations(self, x: Float[Array, "batch time inputs"], key: Key[Array, ""]) -> list[Float[Array, "batch _ _"]]:
        """The activations of each layer; the last are [B, time / stride^layers, channels]."""
        layers = []
        for index, (kernel, bias) in enumerate(zip(self.kernels, self.biases, strict=True)):
            if index and self.shuffle:
                x = phase_shuffle(x, self.shuffle, jax.random.fold_in(key, index))
            x = jnp.pad(x, ((0, 0), (0, -x.shape[1] % self.stride), (0, 0)))
            x = plus(strided(x, kernel[...].astype(x.dtype), self.stride), bias)
            x = jax.nn.leaky_relu(x, 0.2)
            layers.append(x)
        return layers

    def judge(
        self, features: Float[Array, "batch time channels"], condition: Float[Array, "batch condition"]
    ) -> Float[Array, " batch"]:
        """The logit of each example, from its last activations; more is more real."""
        places = self.last.shape[0]
        value = jnp.mean(jnp.sum(features * self.last[...][None], axis=-1), axis=1) * math.sqrt(places)
        if self.condition is not None:
            value += jnp.sum(features.mean(axis=1) * (condition @ self.condition[...]), axis=-1)
        return value


class Discriminators(nnx.Module):
    """All discriminators of a model, each with its own view of a sound.

    Args:
        config: their shape.
        length: of the sounds, in samples; it sets the depth of the discriminators.
        condition: width of the conditioning vector; 0 for none.
        whole: whether all sounds are whole and of that length. Then each place of the waveform discriminator's last activations
            has weights of its own; otherwise sounds are crops of any length, and all places share weights.
    """

    def __init__(
        self, config: DiscriminatorsConfig, length: int, condition: int, *, whole: bool = True, rngs: nnx.Rngs
    ) -> None:
        members: list[Discriminator] = []
        if config.discriminator_channels:
            depth = max(1, round(math.log(length / 16, 4)))
            channels = tuple(min(config.widest, config.discriminator_channels * 2**i) for i in range(depth))
            members.append(
                Discriminator(
                    config.audio_channels, channels, 4, config.kernel_width, condition=condition,
                    places=-(-length // 4**depth) if whole else 1, shuffle=config.phase_shuffle, rngs=rngs,
                )
            )  # fmt: skip
        for period in config.periods:
            depth = max(1, round(math.log(length / period / 16, PERIOD_STRIDE)))
            channels = tuple(min(config.widest, config.period_channels * 2**i) for i in range(depth))
            members.append(
                Discriminator(
                    config.audio_channels, channels, PERIOD_STRIDE, PERIOD_WIDTH, condition=condition, rngs=rngs
                )
            )
        for window in config.spectral_window_samples:
            channels, inputs = (config.spectral_channels,) * 4, config.audio_channels * (window // 2 + 1)
            members.append(Discriminator(inputs, channels, 1, SPECTRAL_WIDTH, condition=condition, rngs=rngs))
        self.members = nnx.List(members)

    def __call__(
        self, views: list[Float[Array, "_ _ _"]], condition: Float[Array, "batch condition"], key: Key[Array, ""]
    ) -> Float[Array, "batch discriminators"]:
        """One logit per discriminator; more is more real.

        Args:
            views: what each discriminator sees, from `views`.
            condition: the conditioning vectors.
            key: of the phase shuffle.
        """
        return self.discriminate(views, condition, key)[0]

    def discriminate(
        self, views: list[Float[Array, "_ _ _"]], condition: Float[Array, "batch condition"], key: Key[Array, ""]
    ) -> tuple[Float[Array, "batch discriminators"], list[list[Float[Array, "_ _ _"]]]]:
        """The same logits, and the activations of every discriminator, layer by layer."""
        logits, activations = [], []
        for index, (member, view) in enumerate(zip(self.members, views, strict=True)):
            layers = member.activations(view, jax.random.fold_in(key, index))
            last = layers[-1].astype(jnp.float32)
            logits.append(member.judge(last.reshape(len(condition), -1, last.shape[-1]), condition))
            activations.append(layers)
        return jnp.stack(logits, axis=1), activations


def views(config: DiscriminatorsConfig, sounds: Float[Array, "batch audio length"]) -> list[Float[Array, "_ _ _"]]:
    """What each discriminator sees of sounds [B, C, T]: [B, time, channels]; for a period discriminator, [B period, time, C].

    Of stereo sounds they see the middle and the side.

    >>> config = DiscriminatorsConfig(periods=(3,), spectral_windows=(0.004,), sample_rate=16_000)
    >>> [view.shape for view in views(config, jnp.zeros((2, 1, 96)))]
    [(2, 96, 1), (6, 32, 1), (2, 7, 33)]
    """
    seen, sounds = [], mid_side(sounds)
    batch, audio, length = sounds.shape
    if config.discriminator_channels:
        seen.append(sounds.transpose(0, 2, 1))
    for period in config.periods:
        padded = jnp.pad(sounds, ((0, 0), (0, 0), (0, -length % period)))
        places = padded.shape[2] // period
        seen.append(
            padded.reshape(batch, audio, places, period).transpose(0, 3, 2, 1).reshape(batch * period, places, audio)
        )
    for window in config.spectral_window_samples:
        magnitude = stft_magnitude(sounds, window, window // 4)
        level = jnp.log(magnitude + SPECTRAL_FLOOR) / 2 + 2  # about -1.5 to 2
        seen.append(level.transpose(0, 2, 1, 3).reshape(batch, level.shape[2], -1))
    return [view.astype(config.dtype) for view in seen]


def phase_shuffle(
    x: Float[Array, "batch time channels"], most: int, key: Key[Array, ""]
) -> Float[Array, "batch time channels"]:
    """Shifts each example by its own random number of places, -most to most; edges are mirrored (Donahue et al., 2019).

    It computes all shifts and keeps one by weights of 0 and 1, which is faster than indexing and as differentiable.
    """
    length = x.shape[1]
    shifts = jax.random.randint(key, (len(x),), 0, 2 * most + 1)
    padded = jnp.pad(x, ((0, 0), (most, most), (0, 0)), mode="reflect")
    chosen = jax.nn.one_hot(shifts, 2 * most + 1, dtype=x.dtype)
    return sum(chosen[:, i, None, None] * padded[:, i : i + length] for i in range(2 * most + 1))  # type: ignore[return-value]
