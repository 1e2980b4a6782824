"""Discriminators: networks that tell made sounds from real ones, each by its own view of them.

Activations are [B, time, channels].
"""

import math
from dataclasses import dataclass
from typing import Literal

import jax
import jax.numpy as jnp
from flax import nnx

from wavesynth.audio.spectral import stft_magnitude
from wavesynth.config import check_at_least_one, check_choice
from wavesynth.errors import UserError
from wavesynth.models.layers import zeros
from wavesynth.models.polyphase import strided

SPECTRAL_FLOOR = (
    1e-3  # of a magnitude, 60 dB below full scale: what is quieter looks alike to the spectral discriminators
)
PERIOD_STRIDE, PERIOD_WIDTH = 3, 5  # of the convolutions of the discriminators of periods
SPECTRAL_WIDTH = 5  # frames
Dtype = Literal["float32", "bfloat16"]


@dataclass(frozen=True)
class DiscriminatorsConfig:
    """The shape of a model's discriminators.

    Attributes:
        discriminator_channels: of the first stage of the discriminator that sees the waveform, 0 for no such discriminator.
        phase_shuffle: by up to how many samples that discriminator's activations are shifted at random, example by example.
        kernel_width: taps of its convolutions.
        widest: the most channels of a stage.
        periods: of the discriminators that see every second, third, fifth ... sample side by side (Kong et al., 2020).
        period_channels: of their first layers.
        spectral_windows: of the discriminators that see a spectrogram, in samples.
        spectral_channels: of their layers.
        dtype: of the activations, "float32" or "bfloat16"; parameters, losses and spectra are always float32.
    """

    discriminator_channels: int = 16
    phase_shuffle: int = 0
    kernel_width: int = 25
    widest: int = 512
    periods: tuple[int, ...] = ()
    period_channels: int = 16
    spectral_windows: tuple[int, ...] = (256, 1024)
    spectral_channels: int = 64
    dtype: Dtype = "float32"

    def __post_init__(self) -> None:
        check_at_least_one(self, "widest", "kernel_width")
        check_choice(self, "dtype", Dtype)
        for name in ("discriminator_channels", "phase_shuffle"):
            if getattr(self, name) < 0:
                raise UserError(f"{name} is {getattr(self, name)}: it must not be negative; 0 is for none")
        if not (self.discriminator_channels or self.periods or self.spectral_windows):
            raise UserError(
                "discriminator_channels is 0 and there are no periods and no spectral_windows: give it one discriminator"
            )
        if any(window % 4 or window < 16 for window in self.spectral_windows):
            raise UserError(f"spectral_windows is {self.spectral_windows}: each must be a multiple of 4, at least 16")
        if self.periods and min(self.periods) < 2:
            raise UserError(
                f"periods is {self.periods}: each must be at least 2; discriminator_channels is for period 1"
            )
        if self.periods:
            check_at_least_one(self, "period_channels")
        if self.spectral_windows:
            check_at_least_one(self, "spectral_channels")


def normal(rngs: nnx.Rngs, *shape: int, gain: float = 1.0) -> nnx.Param:
    """Weights [..., inputs, outputs] of variance gain^2 / (all but the outputs)."""
    return nnx.Param(jax.random.normal(rngs.params(), shape) * (gain / math.sqrt(math.prod(shape[:-1]))))


def plus(x: jax.Array, bias: nnx.Param) -> jax.Array:
    """x [..., O] and bias [O], in the dtype of x."""
    return x + jnp.broadcast_to(bias[...].astype(x.dtype), x.shape)


class Discriminator(nnx.Module):
    """A stack of convolutions that ends in one metric for each example; what it sees is [B, time, channels].

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

    def activations(self, x: jax.Array, key: jax.Array) -> list[jax.Array]:
        """[B, time, C] to the activations of each layer; the last ones are [B, time / stride^layers, channels]."""
        layers = []
        for index, (kernel, bias) in enumerate(zip(self.kernels, self.biases, strict=True)):
            if index and self.shuffle:
                x = phase_shuffle(x, self.shuffle, jax.random.fold_in(key, index))
            x = jnp.pad(x, ((0, 0), (0, -x.shape[1] % self.stride), (0, 0)))
            x = plus(strided(x, kernel[...].astype(x.dtype), self.stride), bias)
            x = jax.nn.leaky_relu(x, 0.2)
            layers.append(x)
        return layers

    def judge(self, features: jax.Array, condition: jax.Array) -> jax.Array:
        """Features [B, time, C] and condition [B, condition] to [B]."""
        places = self.last.shape[0]
        value = jnp.mean(jnp.sum(features * self.last[...][None], axis=-1), axis=1) * math.sqrt(places)
        if self.condition is not None:
            value += jnp.sum(features.mean(axis=1) * (condition @ self.condition[...]), axis=-1)
        return value


class Discriminators(nnx.Module):
    """All discriminators of a model, each with its own view of a sound.

    length: of the sounds, in samples; it says how deep discriminators are. condition: width of the vector that is told them.
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
                    1, channels, 4, config.kernel_width, condition=condition,
                    places=-(-length // 4**depth) if whole else 1, shuffle=config.phase_shuffle, rngs=rngs,
                )
            )  # fmt: skip
        for period in config.periods:
            depth = max(1, round(math.log(length / period / 16, PERIOD_STRIDE)))
            channels = tuple(min(config.widest, config.period_channels * 2**i) for i in range(depth))
            members.append(Discriminator(1, channels, PERIOD_STRIDE, PERIOD_WIDTH, condition=condition, rngs=rngs))
        for window in config.spectral_windows:
            channels = (config.spectral_channels,) * 4
            members.append(Discriminator(window // 2 + 1, channels, 1, SPECTRAL_WIDTH, condition=condition, rngs=rngs))
        self.members = nnx.List(members)

    def __call__(self, views: list[jax.Array], condition: jax.Array, key: jax.Array) -> jax.Array:
        """Views as above and condition [B, condition] to one metric of each discriminator, [B, discriminators]: real is more."""
        return self.discriminate(views, condition, key)[0]

    def discriminate(
        self, views: list[jax.Array], condition: jax.Array, key: jax.Array
    ) -> tuple[jax.Array, list[list[jax.Array]]]:
        """The same metrics, and every discriminator's activations, layer by layer."""
        metrics, heard = [], []
        for index, (member, view) in enumerate(zip(self.members, views, strict=True)):
            layers = member.activations(view, jax.random.fold_in(key, index))
            last = layers[-1].astype(jnp.float32)
            metrics.append(member.judge(last.reshape(len(condition), -1, last.shape[-1]), condition))
            heard.append(layers)
        return jnp.stack(metrics, axis=1), heard


def views(config: DiscriminatorsConfig, sounds: jax.Array) -> list[jax.Array]:
    """What each discriminator sees of sounds [B, length]: [B, time, channels]; periods lie in the batch, [B period, ...]."""
    seen = []
    if config.discriminator_channels:
        seen.append(sounds[..., None])
    for period in config.periods:
        padded = jnp.pad(sounds, ((0, 0), (0, -sounds.shape[1] % period)))
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
