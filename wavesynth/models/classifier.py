"""A classifier of whole sounds: a convolutional network over the frames of a log-mel spectrogram, and a mean over time.

Activations are [B, frames, channels]. At 16 kHz:

    sound -> log-mel spectrogram, 64 bands, a frame each 16 ms      [B, frames, 64]
    4 convolutions, each to half as many frames                     [B, frames / 16, 64]
    mean over the frames that are not silent, dense                 [B, 64]     the features
    dense                                                           [B, labels] logits

Silence is zero in the spectrogram and in all activations, and the mean leaves it out. So sounds may have any length, and
silence after the end changes nothing.
"""

from dataclasses import dataclass
from typing import Annotated

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from wavesynth.audio.rates import power_of_two
from wavesynth.audio.spectral import MelSettings, log_mel
from wavesynth.config import Width
from wavesynth.fields import Checked, Whole
from wavesynth.models.layers import dense, zeros
from wavesynth.models.polyphase import strided

WINDOW_SECONDS = 0.03  # of the spectrogram; the nearest power of two in samples is taken
FLOOR_DB = -70.0  # relative to a sine of amplitude 1; anything below is silence
UNIT_DB = 30.0  # of the network's input
STRIDE, WIDTH = 2, 5  # of the convolutions, in frames
EPSILON = 1e-3  # added to variances


@dataclass(frozen=True)
class ClassifierConfig(Checked):
    """The shape of a classifier.

    Attributes:
        bands: number of mel bands.
        channels: of each convolution.
        layers: number of convolutions; each halves the number of frames.
        features: size of the vector that summarises a sound.
        labels: number of labels. Filled in from the data.
        sample_rate: Hz. Filled in from the data.
    """

    bands: Annotated[int, Whole(1, 512)] = 64
    channels: Width = 64
    layers: Annotated[int, Whole(1, 24)] = 4
    features: Width = 64
    labels: Annotated[int, Whole(0, 65_536)] = 0
    sample_rate: Annotated[int, Whole(0, 768_000)] = 0

    @property
    def mel(self) -> MelSettings:
        """The settings of the spectrogram."""
        window = power_of_two(WINDOW_SECONDS, self.sample_rate)
        return MelSettings(window, window // 2, self.bands, highest_hz=self.sample_rate / 2, floor_db=FLOOR_DB)


class Layer(nnx.Module):
    """A convolution that halves the number of frames, layer normalisation (Ba et al., 2016), and a rectifier."""

    def __init__(self, inputs: int, outputs: int, *, rngs: nnx.Rngs) -> None:
        self.kernel = nnx.Param(dense(rngs, WIDTH * inputs, outputs)[...].reshape(WIDTH, inputs, outputs))
        self.gain = nnx.Param(jnp.ones(outputs))
        self.bias = zeros(outputs)

    def __call__(self, x: Float[Array, "batch frames inputs"]) -> Float[Array, "batch half_frames outputs"]:
        """[B, F, C] to [B, F / 2, O]; F is even."""
        y = strided(x, self.kernel[...], STRIDE)
        y -= y.mean(axis=-1, keepdims=True)
        y *= jax.lax.rsqrt(jnp.mean(jnp.square(y), axis=-1, keepdims=True) + EPSILON)
        return jax.nn.relu(y * self.gain[...][None, None] + self.bias[...][None, None])


class Classifier(nnx.Module):
    """A network from sounds to features, and from features to the logits of labels."""

    def __init__(self, config: ClassifierConfig, *, rngs: nnx.Rngs) -> None:
        self.config = config
        inputs = (config.bands, *[config.channels] * (config.layers - 1))
        self.layers = nnx.List(Layer(i, config.channels, rngs=rngs) for i in inputs)
        self.summary = dense(rngs, config.channels, config.features, 2**0.5)
        self.summary_bias = zeros(config.features)
        self.out = dense(rngs, config.features, config.labels)
        self.out_bias = zeros(config.labels)

    def features(self, sounds: Float[Array, "batch time"]) -> Float[Array, "batch features"]:
        """The vector that summarises each sound; its numbers are 0 or more."""
        mel = self.config.mel
        padded = jnp.pad(sounds, ((0, 0), (0, mel.window)))  # as far as a window reaches beyond the end
        x = (log_mel(padded, self.config.sample_rate, mel) - FLOOR_DB) / UNIT_DB
        sounding = x.max(axis=-1, keepdims=True) > 0
        for layer in self.layers:
            behind = ((0, 0), (0, -x.shape[1] % STRIDE), (0, 0))
            x, sounding = jnp.pad(x, behind), jnp.pad(sounding, behind)
            sounding = sounding.reshape(len(sounding), -1, STRIDE, 1).any(axis=2)
            x = jnp.where(sounding, layer(x), 0.0)
        mean = x.sum(axis=1) / jnp.maximum(sounding.sum(axis=1), 1)
        return jax.nn.relu(mean @ self.summary[...] + self.summary_bias[...][None])

    def logits(self, features: Float[Array, "batch features"]) -> Float[Array, "batch labels"]:
        """The logits of the labels, from features."""
        return features @ self.out[...] + self.out_bias[...][None]

    def __call__(self, sounds: Float[Array, "batch time"]) -> Float[Array, "batch labels"]:
        """The logits of the labels of sounds."""
        return self.logits(self.features(sounds))
