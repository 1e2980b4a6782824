"""The encoder of a WaveNet autoencoder (Engel et al., 2017): from a sound to a path of a few numbers, some 31 times a second.

The decoder is `wavesynth.models.wavenet.WaveNet`, told the path as local conditioning. The encoder sees the future too. Time
in one example, R samples of reach on each side and T a multiple of `code_hop`; every convolution is "valid":

    samples   |---- R ----|------------- T -------------|---- R ----|      companded: quiet parts count as well
    strides   |-|-|-|-|-|-|-|-|-|-|-|-|-|-|-|-|-|-|-|-|-|-|-|-|-|-|-|      folded into channels
    front       |-----------------------------------------------|          a stride eaten on either side
    layers          |-- dilation eaten on either side, each --|
    pooled                |-------|-------|-------|-------|                means, normalised, in some directions

A code is bounded, as what is normalised is seen in directions of unit length, and takes a little noise in training: what
is close together sounds alike, there is something between two sounds, and a path cannot carry a waveform's every detail. It
is not bounded by a tanh: early in training codes all move one way, as a bias would, and were at its ends after 200 steps, from
where there is no way back.
"""

from dataclasses import dataclass
from typing import Annotated

import jax
import jax.numpy as jnp
from flax import nnx

from wavesynth.audio.mulaw import compand
from wavesynth.config import Width
from wavesynth.errors import UserError
from wavesynth.fields import Real, Whole
from wavesynth.models.layers import affine, dense, over_examples, product, shifted_copies, zeros
from wavesynth.models.wavenet import MOST_CONTEXT, WaveNetConfig

WIDTH = 3  # taps of every convolution
EPSILON = 1e-3  # added to variances
FIRST_BIAS = 0.1  # standard deviation of the front's untrained biases: what is normalised still tells loud from quiet


@dataclass(frozen=True)
class WaveNetAutoencoderConfig(WaveNetConfig):
    """The shape of a WaveNet autoencoder: that of its decoder (see `WaveNetConfig`), and below that of its encoder.

    Attributes:
        code_channels: numbers in one frame of a path.
        code_hop: samples that it lasts; a multiple of `hop_length`.
        code_noise: standard deviation of the noise on codes in training; their own size is about 1.
        encoder_stride: samples that are folded into channels at the front; it divides `code_hop`.
        encoder_channels: width of the encoder.
        encoder_layers: of dilations 1, 2, 4 ... in strides.
    """

    code_channels: Annotated[int, Whole(1, 1_024)] = 16
    code_hop: Annotated[int, Whole(1, 65_536)] = 512
    code_noise: Annotated[float, Real(least=0, most=100)] = 0.1
    encoder_stride: Annotated[int, Whole(1, 8_192)] = 32
    encoder_channels: Width = 64
    encoder_layers: Annotated[int, Whole(1, 12)] = 5

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.encoder_reach > MOST_CONTEXT:
            raise UserError(
                f"encoder_layers is {self.encoder_layers}: the encoder would look at {self.encoder_reach:,} samples on either "
                f"side, and at most {MOST_CONTEXT:,} can be"
            )
        for name in ("hop_length", "encoder_stride"):
            if self.code_hop % getattr(self, name):
                raise UserError(f"code_hop is {self.code_hop}: it must be a multiple of {name}, {getattr(self, name)}")

    @property
    def encoder_dilations(self) -> tuple[int, ...]:
        return tuple(2**i for i in range(self.encoder_layers))

    @property
    def encoder_reach(self) -> int:
        """How many samples the encoder can see before and behind those of a code."""
        return (1 + sum(self.encoder_dilations)) * self.encoder_stride


class EncoderLayer(nnx.Module):
    """A dilated convolution between rectifiers, and the way back to the residual path."""

    def __init__(self, config: WaveNetAutoencoderConfig, dilation: int, *, rngs: nnx.Rngs) -> None:
        channels = config.encoder_channels
        self.dilation = dilation
        self.dilated = dense(rngs, WIDTH * channels, channels, scale=2**0.5)
        self.dilated_bias = zeros(channels)
        self.residual = dense(rngs, channels, channels, scale=config.encoder_layers**-0.5)
        self.residual_bias = zeros(channels)

    def __call__(self, x: jax.Array) -> jax.Array:
        """[C, t] to [C, t - 2 dilation], around the middle."""
        hidden = affine(self.dilated, self.dilated_bias, _neighbours(jax.nn.relu(x), self.dilation))
        middle = x[:, self.dilation : -self.dilation]
        return middle + affine(self.residual, self.residual_bias, jax.nn.relu(hidden))


class Encoder(nnx.Module):
    """Sounds to paths of codes. A code depends on its samples and on `encoder_reach` samples around them alone."""

    def __init__(self, config: WaveNetAutoencoderConfig, *, rngs: nnx.Rngs) -> None:
        self.config = config
        self.front = dense(rngs, WIDTH * config.encoder_stride, config.encoder_channels)
        self.front_bias = nnx.Param(FIRST_BIAS * jax.random.normal(rngs.params(), (config.encoder_channels,)))
        self.layers = nnx.List([EncoderLayer(config, dilation, rngs=rngs) for dilation in config.encoder_dilations])
        self.directions = nnx.Param(jax.random.normal(rngs.params(), (config.encoder_channels, config.code_channels)))

    def __call__(self, samples: jax.Array) -> jax.Array:
        """Samples [B, R + T + R], R the encoder's reach and T a multiple of `code_hop`, to float32 [B, T / code_hop, D]."""
        return over_examples(self.one, samples)

    def one(self, samples: jax.Array) -> jax.Array:
        """What `__call__` does, for one example: [R + T + R] to [T / code_hop, D]."""
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


def _neighbours(x: jax.Array, dilation: int) -> jax.Array:
    """The places of a convolution side by side: [C, t] to [WIDTH C, t - 2 dilation]."""
    around = (WIDTH - 1) * dilation
    return shifted_copies(x, range(around, -1, -dilation), x.shape[1] - around)
