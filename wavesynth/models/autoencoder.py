"""A variational autoencoder of sounds in the manner of RAVE (Caillon and Esling, 2021), all of it at the rate of frames.

Activations are [B, frames, channels]. At 16 kHz, with the defaults:

    sound -> log-magnitude spectra, window 512, a frame each 128 samples                [B, F, 257]
    residual dilated convolutions; four frames become one; mean and log variance        [B, F / 4, 16]  the code
    code and pitch -> residual dilated convolutions, first at its rate, then at the frames'    [B, F, 192]
    dense -> filters for a pulse train of the wanted pitch and for noise, a spectrum of its own, gains
    inverse transform, overlap-add, gains -> sound                                      [B, 128 F]

The decoder makes no waveform: it filters an excitation in the frequency domain (neural source-filter, Wang, Takaki and
Yamagishi, 2019; DDSP, Engel et al., 2020) and leaves the way to samples to an inverse transform (Vocos, Siuzdak, 2023). It is
in tune by construction, and needs about a twentieth of the multiply-adds of convolutions that upsample step by step.

Frame k spans the samples from `hop k` on, for a sound that is heard and one that is made alike. So the decoder makes `code_hop`
samples of each code as it comes, and the encoder looks ahead by `lookahead` samples: that is the delay of a stream. Before
its first code the decoder holds that code until its windows overlap.
"""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from wavesynth.audio.spectral import SOFT_FLOOR, hann_window
from wavesynth.config import check_at_least_one
from wavesynth.errors import UserError
from wavesynth.models.discriminators import DiscriminatorsConfig, normal, plus
from wavesynth.models.frames import noise, overlapped, pulses, ramps, windowed
from wavesynth.models.layers import one_hot, zeros

Cache = dict[str, Any]

WIDTH = 3  # frames that a convolution sees
SPECTRUM_UNIT = 3.0  # of the encoder's input, natural log of magnitudes over the floor
CODE_DILATIONS = (1, 2)  # of the convolutions at the rate of codes
PULSE_LEVEL, NOISE_LEVEL, OWN_LEVEL = 0.02, 0.005, 0.002  # of an untrained decoder's sources: quiet, as sounds are
TILT_HZ = 300.0  # above which an untrained filter of pulses falls by 6 dB an octave
FIRST_LOG_VARIANCE = -3.0
PROBE_CHANNELS = 128
LOUDEST = 6.0  # natural log of a filter's magnitude


@dataclass(frozen=True)
class AutoencoderConfig(DiscriminatorsConfig):
    """The shape of an autoencoder. The defaults need 43 + 155 million multiply-adds for a second of sound at 16 kHz.

    Attributes:
        code_channels: dimensions of a frame of the code.
        hop: samples from one frame to the next.
        window: samples of a frame, a multiple of the hop.
        stride: frames for each frame of the code.
        gain_hop: samples from one value of the decoder's gain to the next; it divides the hop.
        encoder_channels: of the encoder.
        encoder_dilations: of its residual convolutions at the rate of frames.
        channels: of the decoder.
        dilations: of its residual convolutions at the rate of frames.
        causal: whether convolutions look back only, so that sounds can be encoded and decoded as they come.
        pitches: how many there are. Filled in from the data.
        sample_rate: Hz. Filled in from the data.
    """

    discriminator_channels: int = 0
    spectral_windows: tuple[int, ...] = (256, 1024)
    spectral_channels: int = 48
    code_channels: int = 16
    hop: int = 128
    window: int = 512
    stride: int = 4
    gain_hop: int = 32
    encoder_channels: int = 128
    encoder_dilations: tuple[int, ...] = (1, 2, 4, 8)
    channels: int = 192
    dilations: tuple[int, ...] = (1, 2, 4, 1, 2, 4)
    causal: bool = True
    pitches: int = 0
    sample_rate: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_at_least_one(self, "code_channels", "hop", "window", "stride", "gain_hop", "encoder_channels", "channels")
        if self.window % self.hop or self.window % 2 or self.window // self.hop < 2:
            raise UserError(
                f"window is {self.window}: it must be even and at least twice the hop {self.hop}, which divides it"
            )
        if self.hop % self.gain_hop:
            raise UserError(f"gain_hop is {self.gain_hop}: it must divide the hop {self.hop}")
        for name in ("encoder_dilations", "dilations"):
            if any(dilation < 1 for dilation in getattr(self, name)):
                raise UserError(f"{name} is {getattr(self, name)}: each must be at least 1")

    @property
    def code_hop(self) -> int:
        """Samples that a frame of the code lasts."""
        return self.hop * self.stride

    @property
    def lookahead(self) -> int:
        """Samples behind the end of a frame of the code that it has heard, where convolutions look back only."""
        return self.window - self.hop

    @property
    def bins(self) -> int:
        return self.window // 2 + 1

    @property
    def held(self) -> int:
        """Frames of the code that the decoder holds the first one for, before the sound begins."""
        return -(-(self.window // self.hop - 1) // self.stride)


class Residual(nnx.Module):
    """x + W silu(convolution(x, normalised in each frame))."""

    def __init__(self, channels: int, dilation: int, causal: bool, *, rngs: nnx.Rngs) -> None:
        self.dilation, self.causal, self.channels = dilation, causal, channels
        self.scale = nnx.Param(jnp.ones(channels))
        self.kernel = normal(rngs, WIDTH * channels, channels, gain=2**0.5)
        self.bias = zeros(channels)
        self.out = normal(rngs, channels, channels, gain=0.5)

    @property
    def reach(self) -> int:
        """Frames that it sees beside the one it makes."""
        return (WIDTH - 1) * self.dilation

    def init_cache(self, batch: int, dtype: Any) -> jax.Array | np.ndarray:
        """What it remembers before the first frame: nothing but zeros."""
        return np.zeros((batch, self.reach, self.channels), dtype)

    def __call__(self, x: jax.Array, cache: jax.Array | None) -> tuple[jax.Array, jax.Array]:
        """x [B, F, C] to the same shape, and what to remember; without a cache x is all there is."""
        frames = x.shape[1]
        y = x.astype(jnp.float32)
        y *= jax.lax.rsqrt(jnp.mean(jnp.square(y), axis=-1, keepdims=True) + 1e-4)
        y = (y * self.scale[...][None, None]).astype(x.dtype)
        if cache is None:
            before = self.reach if self.causal else self.reach // 2
            y = jnp.pad(y, ((0, 0), (before, self.reach - before), (0, 0)))
        else:
            y = jnp.concatenate([cache, y], axis=1)
        seen = jnp.concatenate([y[:, i * self.dilation : i * self.dilation + frames] for i in range(WIDTH)], axis=-1)
        z = jax.nn.silu(plus(seen @ self.kernel[...].astype(x.dtype), self.bias))
        return x + z @ self.out[...].astype(x.dtype), y[:, frames:]


class Stack(nnx.Module):
    """Residual convolutions, one after the other."""

    def __init__(self, channels: int, dilations: tuple[int, ...], causal: bool, *, rngs: nnx.Rngs) -> None:
        self.members = nnx.List(Residual(channels, dilation, causal, rngs=rngs) for dilation in dilations)

    def init_cache(self, batch: int, dtype: Any) -> list[jax.Array | np.ndarray]:
        return [member.init_cache(batch, dtype) for member in self.members]

    def __call__(self, x: jax.Array, caches: list[jax.Array] | None) -> tuple[jax.Array, list[jax.Array]]:
        kept = []
        for index, member in enumerate(self.members):
            x, cache = member(x, None if caches is None else caches[index])
            kept.append(cache)
        return x, kept


class Encoder(nnx.Module):
    """A sound to the mean and the log variance of its code."""

    def __init__(self, config: AutoencoderConfig, *, rngs: nnx.Rngs) -> None:
        self.config = config
        channels, causal = config.encoder_channels, config.causal
        self.front = normal(rngs, config.bins, channels)
        self.front_bias = zeros(channels)
        self.stack = Stack(channels, config.encoder_dilations, causal, rngs=rngs)
        self.down = normal(rngs, config.stride * channels, channels)
        self.down_bias = zeros(channels)
        self.code_stack = Stack(channels, CODE_DILATIONS, causal, rngs=rngs)
        self.out = normal(rngs, channels, 2 * config.code_channels, gain=0.5)
        first = [0.0] * config.code_channels + [FIRST_LOG_VARIANCE] * config.code_channels
        self.out_bias = nnx.Param(jnp.array(first))

    def init_cache(self, ahead: jax.Array) -> Cache:
        """The state of a stream that has heard its first `lookahead` samples [B, lookahead], and made no code yet."""
        own = [stack.init_cache(len(ahead), self.config.dtype) for stack in (self.stack, self.code_stack)]
        return {"samples": ahead, "frames": own[0], "codes": own[1]}

    def step(self, samples: jax.Array, cache: Cache | None) -> tuple[jax.Array, jax.Array, Cache]:
        """The next samples [B, n code_hop] to n frames of the code: mean and log variance [B, n, D], and the state.

        Each code was heard `lookahead` samples before the last of these. Without a cache, `lookahead` samples more are
        given, and they are all there is.
        """
        config = self.config
        heard = samples if cache is None else jnp.concatenate([cache["samples"], samples], axis=1)
        windows = windowed(heard.reshape(len(heard), -1, config.hop), config.window)
        hann = hann_window(config.window)
        magnitude = jnp.abs(jnp.fft.rfft(windows * jnp.broadcast_to(hann, windows.shape))) * np.float32(2 / hann.sum())
        x = jnp.log(magnitude / SOFT_FLOOR + 1) / SPECTRUM_UNIT  # silence is 0, like what lies before a sound
        x = x.astype(config.dtype)
        x = plus(x @ self.front[...].astype(x.dtype), self.front_bias)
        x, frames = self.stack(x, None if cache is None else cache["frames"])
        x = x.reshape(len(x), -1, config.stride * x.shape[-1])
        x = plus(x @ self.down[...].astype(x.dtype), self.down_bias)
        x, codes = self.code_stack(x, None if cache is None else cache["codes"])
        x = plus(x.astype(jnp.float32) @ self.out[...], self.out_bias)
        mean, log_variance = jnp.split(x, 2, axis=-1)
        kept = {"samples": heard[:, heard.shape[1] - config.lookahead :], "frames": frames, "codes": codes}
        return mean, jnp.clip(log_variance, -12.0, 4.0), kept

    def __call__(self, sounds: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Whole sounds [B, F code_hop], silent behind their ends, to mean and log variance [B, F, D]."""
        return self.step(jnp.pad(sounds, ((0, 0), (0, self.config.lookahead))), None)[:2]


class Decoder(nnx.Module):
    """A code and a pitch to a sound."""

    def __init__(self, config: AutoencoderConfig, *, rngs: nnx.Rngs) -> None:
        self.config = config
        channels, bins = config.channels, config.bins
        self.front = normal(rngs, config.code_channels, channels)
        self.front_bias = zeros(channels)
        # From zero: a pitch that was never learned says nothing here, and its excitation says it all.
        self.pitch = zeros(config.pitches, channels) if config.pitches else None
        self.code_stack = Stack(channels, CODE_DILATIONS, config.causal, rngs=rngs)
        self.up = normal(rngs, channels, config.stride * channels)
        self.up_bias = zeros(config.stride * channels)
        self.stack = Stack(channels, config.dilations, config.causal, rngs=rngs)
        hertz = np.arange(bins) * (config.sample_rate / config.window)
        first = np.zeros(5 * bins + config.hop // config.gain_hop, np.float32)
        first[:bins] = np.log(PULSE_LEVEL) - np.log(np.maximum(hertz / TILT_HZ, 1))
        first[2 * bins : 3 * bins] = np.log(NOISE_LEVEL)
        self.out = normal(rngs, channels, len(first), gain=0.2)
        self.out_bias = nnx.Param(jnp.array(first))

    def init_cache(self, batch: int) -> Cache:
        """The state of a stream before the first code, which is to be given `held` times more than it lasts."""
        config = self.config
        over = config.window // config.hop - 1
        return {
            "codes": self.code_stack.init_cache(batch, config.dtype),
            "frames": self.stack.init_cache(batch, config.dtype),
            "over": np.zeros((batch, over, config.hop), np.float32),
            "gain": np.zeros((batch, 1), np.float32),
            "frame": np.array(-config.held * config.stride % 2**32, np.uint32),
        }

    def step(
        self, codes: jax.Array, pitch: jax.Array, keys: jax.Array, cache: Cache, whole: bool = False
    ) -> tuple[jax.Array, Cache]:
        """The next codes [B, n, D] to samples [B, n code_hop], and the state.

        pitch: [B], NaN for none. keys: [B] of the noise. whole: these codes are all there are, the cache has seen none.
        """
        config = self.config
        x = codes.astype(config.dtype)
        x = plus(x @ self.front[...].astype(x.dtype), self.front_bias)
        if self.pitch is not None:
            x += (one_hot(pitch, config.pitches) @ self.pitch[...])[:, None].astype(x.dtype)
        x, code_cache = self.code_stack(x, None if whole else cache["codes"])
        x = plus(x @ self.up[...].astype(x.dtype), self.up_bias)
        x = x.reshape(len(x), -1, config.channels)
        x, frame_cache = self.stack(x, None if whole else cache["frames"])
        x = plus(jax.nn.silu(x) @ self.out[...].astype(x.dtype), self.out_bias).astype(jnp.float32)
        windows, gains = self._windows(x, pitch, keys, cache["frame"])
        hops, over = overlapped(windows, config.hop, cache["over"])
        gain = ramps(gains, cache["gain"], config.gain_hop)
        kept = {
            "codes": code_cache, "frames": frame_cache, "over": over, "gain": gains[:, -1:],
            "frame": cache["frame"] + np.uint32(x.shape[1]),
        }  # fmt: skip
        return hops.reshape(len(codes), -1) * gain, kept

    def _windows(
        self, x: jax.Array, pitch: jax.Array, keys: jax.Array, first: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        """The network's output [B, F, 5 bins + gains] to windows of sound [B, F, window] and gains [B, F gains]."""
        config = self.config
        pulse, phase, hiss, real, imaginary, gains = jnp.split(x, [config.bins * i for i in range(1, 6)], axis=-1)
        taper = jnp.broadcast_to(np.sqrt(hann_window(config.window)), (*x.shape[:2], config.window))
        count = x.shape[1] + config.window // config.hop - 1

        def source(hops: jax.Array) -> jax.Array:
            return jnp.fft.rfft(windowed(hops, config.window) * taper)

        own = OWN_LEVEL * config.window
        spectrum = jnp.exp(jnp.minimum(hiss, LOUDEST)) * source(noise(keys, first, count, config.hop))
        spectrum += jax.lax.complex(own * real, own * imaginary)
        if config.pitches:
            harmonic = source(pulses(pitch, first, count, config.hop, config.sample_rate))
            size = jnp.exp(jnp.minimum(pulse, LOUDEST))
            spectrum += jax.lax.complex(size * jnp.cos(phase), size * jnp.sin(phase)) * harmonic
        # The tapers before and after make a Hann window, and those of all windows add up to half the hops in one.
        scale = np.float32(2 * config.hop / config.window)
        windows = jnp.fft.irfft(spectrum, config.window) * taper * scale
        return windows, 2 * jax.nn.sigmoid(gains.reshape(len(x), -1))

    def __call__(self, codes: jax.Array, pitch: jax.Array, keys: jax.Array) -> jax.Array:
        """Whole paths [B, F, D], pitch [B] and keys [B] to sounds [B, F code_hop]."""
        held = self.config.held
        codes = jnp.concatenate([jnp.repeat(codes[:, :1], held, axis=1), codes], axis=1)
        sounds, _ = self.step(codes, pitch, keys, self.init_cache(len(codes)), whole=True)
        return sounds[:, held * self.config.code_hop :]


class Autoencoder(nnx.Module):
    """An encoder and its decoder."""

    def __init__(self, config: AutoencoderConfig, *, rngs: nnx.Rngs) -> None:
        self.encoder = Encoder(config, rngs=rngs)
        self.decoder = Decoder(config, rngs=rngs)


class Probe(nnx.Module):
    """Guesses the pitch from one frame of the code."""

    def __init__(self, config: AutoencoderConfig, *, rngs: nnx.Rngs) -> None:
        self.front = normal(rngs, config.code_channels, PROBE_CHANNELS, gain=2**0.5)
        self.front_bias = zeros(PROBE_CHANNELS)
        self.out = normal(rngs, PROBE_CHANNELS, config.pitches)
        self.out_bias = zeros(config.pitches)

    def __call__(self, codes: jax.Array) -> jax.Array:
        """[B, F, D] to logits [B, F, pitches]."""
        return plus(jax.nn.silu(plus(codes @ self.front[...], self.front_bias)) @ self.out[...], self.out_bias)
