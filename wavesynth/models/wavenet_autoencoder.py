"""The encoder of a WaveNet autoencoder (Engel et al., 2017): from a sound to a path of codes, some 31 a second at 16 kHz.

The decoder is `wavesynth.models.wavenet.WaveNet` with the path as local conditioning. The encoder also sees the future. Time
in one example, with R samples of reach on each side and T a multiple of `code_hop`; every convolution is "valid":

    samples   |---- R ----|------------- T -------------|---- R ----|      companded, so that quiet parts count
    strides   |-|-|-|-|-|-|-|-|-|-|-|-|-|-|-|-|-|-|-|-|-|-|-|-|-|-|-|      folded into channels
    front       |-----------------------------------------------|          one stride less on each side
    layers          |----- one dilation less on each side ----|
    pooled                |-------|-------|-------|-------|                means, normalised, projected

Codes are bounded, because normalised means are projected on unit vectors, and training adds a little noise to them. So
nearby codes sound similar, paths between sounds lead through valid sounds, and a code cannot carry every detail of the
waveform. A tanh does not work instead: early in training, all codes move in one direction, and after 200 steps it had
saturated permanently.
"""

from dataclasses import dataclass
from typing import Annotated

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from wavesynth.audio.mulaw import compand
from wavesynth.config import Width
from wavesynth.errors import UserError
from wavesynth.fields import Real, Whole
from wavesynth.models.layers import affine, dense, gaussian, over_examples, product, shifted_copies, zeros
from wavesynth.models.wavenet import MOST_CONTEXT, WaveNetConfig

WIDTH = 3  # taps of every convolution
EPSILON = 1e-3  # added to variances
FIRST_BIAS = 0.1  # standard deviation of the front's untrained biases: loudness survives the normalisation


@dataclass(frozen=True)
class WaveNetAutoencoderConfig(WaveNetConfig):
    """The shape of a WaveNet autoencoder: that of its decoder (see `WaveNetConfig`) and of its encoder.

    Attributes:
        code_channels: dimensions of a code.
        code_seconds: time per code; the nearest power of two in samples is taken.
        code_hop: samples per code; a multiple of `hop_length`. Filled in from `code_seconds` and the sample rate.
        code_noise: standard deviation of the noise added to codes in training; that of codes is about 1.
        encoder_stride: samples folded into channels at the input; it divides `code_hop`. Filled in: a 16th of it.
        encoder_channels: width of the encoder.
        encoder_layers: number of layers, of dilations 1, 2, 4 ... strides.
    """

    code_channels: Annotated[int, Whole(1, 1_024)] = 16
    code_seconds: Annotated[float, Real(least=0.001, most=1.0)] = 0.03
    code_hop: Annotated[int, Whole(0, 65_536)] = 0
    code_noise: Annotated[float, Real(least=0, most=100)] = 0.1
    encoder_stride: Annotated[int, Whole(0, 8_192)] = 0
    encoder_channels: Width = 64
    encoder_layers: Annotated[int, Whole(1, 12)] = 5

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.encoder_reach > MOST_CONTEXT:
            raise UserError(
                f"encoder_layers is {self.encoder_layers}: the encoder would see {self.encoder_reach:,} samples on each side, "
                f"more than {MOST_CONTEXT:,}"
            )
        for name in ("hop_length", "encoder_stride"):
            if getattr(self, name) and self.code_hop % getattr(self, name):
                raise UserError(f"code_hop is {self.code_hop}: it must be a multiple of {name}, {getattr(self, name)}")

    @property
    def encoder_dilations(self) -> tuple[int, ...]:
        """The dilation of each layer, in strides."""
        return tuple(2**i for i in range(self.encoder_layers))

    @property
    def encoder_reach(self) -> int:
        """How many samples the encoder sees before and after those of a code."""
        return (1 + sum(self.encoder_dilations)) * self.encoder_stride


class EncoderLayer(nnx.Module):
    """A dilated convolution between rectifiers, added to the residual path."""

    def __init__(self, config: WaveNetAutoencoderConfig, dilation: int, *, rngs: nnx.Rngs) -> None:
        channels = config.encoder_channels
        self.dilation = dilation
        self.dilated = dense(rngs, WIDTH * channels, channels, scale=2**0.5)
        self.dilated_bias = zeros(channels)
        self.residual = dense(rngs, channels, channels, scale=config.encoder_layers**-0.5)
        self.residual_bias = zeros(channels)

    def __call__(self, x: Float[Array, "channels time"]) -> Float[Array, "channels shorter"]:
        """[C, t] to [C, t - 2 dilation]: the middle of x."""
        hidden = affine(self.dilated, self.dilated_bias, _neighbours(jax.nn.relu(x), self.dilation))
        middle = x[:, self.dilation : -self.dilation]
        return middle + affine(self.residual, self.residual_bias, jax.nn.relu(hidden))


class Encoder(nnx.Module):
    """A network from sounds to paths of codes. A code depends on its samples and `encoder_reach` samples on each side."""

    def __init__(self, config: WaveNetAutoencoderConfig, *, rngs: nnx.Rngs) -> None:
        self.config = config
        self.front = dense(rngs, WIDTH * config.encoder_stride, config.encoder_channels)
        self.front_bias = gaussian(rngs, config.encoder_channels, scale=FIRST_BIAS)
        self.layers = nnx.List([EncoderLayer(config, dilation, rngs=rngs) for dilation in config.encoder_dilations])
        self.directions = gaussian(rngs, config.encoder_channels, config.code_channels)

    def __call__(self, samples: Float[Array, "batch time"]) -> Float[Array, "batch codes code_channels"]:
        """The codes of sounds, T / code_hop of them.

        samples: [B, R + T + R], where R is the encoder's reach and T a multiple of `code_hop`.
        """
        return over_examples(self.one, samples)

    def one(self, samples: Float[Array, " time"]) -> Float[Array, "codes code_channels"]:
        """The codes of one sound: [R + T + R] to [T / code_hop, D]."""
        config = self.config
        x = compand(samples).astype(config.dtype).reshape(-1, config.encoder_stride).T
        x = affine(self.front, self.front_bias, _neighbours(x, 1))
        for layer in self.layers:
            x = layer(x)
        x = x.astype(jnp.float32).reshape(len(x), -1, config.code_hop // config.encoder_stride).mean(axis=-1)
        x -= x.mean(axis=0, keepdims=True)
        x *= jax.lax.rsqrt(jnp.mean(jnp.square(x), axis=0, keepdims=True) + EPSILON)
        directions = self.directions[...]
        directions *= jax.lax.rsqrt(jnp.sum(jnp.square(directions), axis=0, keepdims=True))
        return product(directions, x).T


def _neighbours(x: Float[Array, "channels time"], dilation: int) -> Float[Array, "stacked shorter"]:
    """The inputs of a convolution side by side: [C, t] to [WIDTH C, t - 2 dilation]."""
    around = (WIDTH - 1) * dilation
    return shifted_copies(x, range(around, -1, -dilation), x.shape[1] - around)
