"""A variational autoencoder of sounds, after RAVE (Caillon and Esling, 2021), that works at frame rate throughout.

Activations are [B, frames, channels]. At 16 kHz and in mono, with the defaults:

    sound -> log-magnitude spectra, window 512, a frame every 128 samples                      [B, F, 257]
    level of every four frames, by which their spectra are divided                             [B, F / 4, 1]
    residual dilated convolutions; four frames become one; mean and log variance of features   [B, F / 4, 16]
    features, pitch -> residual dilated convolutions, first at code rate, then at frame rate   [B, F, 192]
    dense -> filters for a pulse train of that pitch and for noise, a spectrum added to both, gains
    inverse Fourier transform, scaling to the level, overlap-add, gains -> sound               [B, 1, 128 F]

The decoder filters an excitation in the frequency domain (neural source-filter, Wang, Takaki and Yamagishi, 2019; DDSP, Engel
et al., 2020), and an inverse transform gives the samples (Vocos, Siuzdak, 2023). It is in tune by construction, and needs about
a twentieth of the multiply-adds of an upsampling convolutional decoder.

A code consists of features and a level. The networks see and generate spectra relative to the level. So any sound comes back
as loud as it was, even a kind that was never trained on. Of stereo sounds, the encoder sees left, right, middle and side. The
decoder generates filters for left and right and, for each bin, the correlation of their noise.

A decoder of sounds without pitches also mixes steady tones a quarter of a semitone apart. With constant codes, its other
tonal source repeats in every frame and has only multiples of the frame rate; the tones fill the gaps.

Frame k begins at sample `hop k`, in the encoder and in the decoder. So the decoder generates `code_hop` samples from each code,
and the encoder looks `lookahead` samples ahead, which is the latency of a stream. Before the first code, the decoder repeats
that code until its windows overlap.
"""

from dataclasses import dataclass
from typing import Annotated, Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, Key, UInt

from wavesynth.audio.rates import power_of_two
from wavesynth.audio.spectral import SOFT_FLOOR, hann_window
from wavesynth.audio.stereo import mid_side
from wavesynth.config import Width
from wavesynth.errors import UserError
from wavesynth.fields import Count, Real, Whole
from wavesynth.models.discriminators import DiscriminatorsConfig, normal, plus
from wavesynth.models.frames import noise, overlapped, pulses, ramps, tone_spectra, tones, windowed
from wavesynth.models.layers import check_remembered, one_hot, zeros

Cache = dict[str, Any]

WIDTH = 3  # taps of a convolution
SPECTRUM_UNIT = 3.0  # of the encoder's input, the natural logarithm of magnitudes over the floor
CODE_DILATIONS = (1, 2)  # of the convolutions at the rate of codes
PULSE_LEVEL, NOISE_LEVEL = 0.02, 0.005  # of an untrained decoder's sources: quiet, as sounds are
OWN_LEVEL, TONE_LEVEL = 0.002, 2e-4  # likewise, of the spectrum added to them and of each steady tone
TILT_HZ = 300.0  # above it, an untrained pulse filter falls by 6 dB per octave
LOWEST_TONE, TONE_OCTAVES = 27.5, 8  # Hz, of the steady tones
FIRST_LOG_VARIANCE = -3.0
PROBE_CHANNELS = 128
LOUDEST = 6.0  # natural logarithm of a filter's largest magnitude
RELATIVE_FLOOR = 1e-4  # of magnitudes relative to the level, 80 dB below it
QUIETEST = 1e-5  # amplitude, 100 dB below full scale: the level of silence
LEVEL_UNIT = 5.0  # of a code's level, the logarithm of an amplitude over `QUIETEST`: silence is 0, full scale 2.3
MOST_LEVEL = 2.5  # a root mean square of 2.7
RIGHT = 2**31  # folded into the keys of the right channel's own noise
COMMON_NOISE = 1.5  # of an untrained stereo decoder: the hyperbolic tangent of it is the correlation of left and right
MOST_CODE_HOP = 65_536  # samples
Dilations = Annotated[tuple[Annotated[int, Whole(1, 1_024)], ...], Count(0, 64)]


@dataclass(frozen=True)
class AutoencoderConfig(DiscriminatorsConfig):
    """The shape of an autoencoder. At 16 kHz the defaults need 43 + 155 million multiply-adds per second of mono sound, and 59
    million more for the steady tones of sounds without pitches.

    Attributes:
        code_channels: features of a code. Its level is one number more.
        hop_seconds: time from one frame to the next; the nearest power of two in samples is taken.
        overlap: hops in a frame's window.
        stride: frames per code.
        gains: values of the decoder's gain per hop.
        leveled: whether codes have a level.
        tones_per_octave: steady tones that the decoder of sounds without pitches mixes, from 27.5 Hz to 7 kHz; 0 for none.
        encoder_channels: channels of the encoder.
        encoder_dilations: dilations of the encoder's residual convolutions at frame rate.
        channels: channels of the decoder.
        dilations: dilations of the decoder's residual convolutions at frame rate.
        causal: whether convolutions only look back, so that sounds can be encoded and decoded live.
        pitches: number of pitches. Filled in from the data.
    """

    discriminator_channels: int = 0
    spectral_channels: int = 48
    code_channels: Annotated[int, Whole(1, 1_024)] = 16
    hop_seconds: Annotated[float, Real(least=0.0005, most=0.1)] = 0.0075
    overlap: Literal[2, 4, 8, 16] = 4
    stride: Annotated[int, Whole(1, 256)] = 4
    gains: Literal[1, 2, 4, 8, 16] = 4
    leveled: bool = True
    tones_per_octave: Annotated[int, Whole(0, 96)] = 48
    encoder_channels: Width = 128
    encoder_dilations: Dilations = (1, 2, 4, 8)
    channels: Width = 192
    dilations: Dilations = (1, 2, 4, 1, 2, 4)
    causal: bool = True
    pitches: Annotated[int, Whole(0, 128)] = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.sample_rate and self.code_hop > MOST_CODE_HOP:
            raise UserError(
                f"stride is {self.stride}: with the hop {self.hop}, a code would last {self.code_hop:,} samples, more than "
                f"{MOST_CODE_HOP:,}"
            )
        check_remembered("encoder_channels", self.encoder_channels, (WIDTH - 1) * sum(self.encoder_dilations))
        check_remembered("channels", self.channels, (WIDTH - 1) * sum(self.dilations))

    @property
    def hop(self) -> int:
        """Samples from one frame to the next."""
        return power_of_two(self.hop_seconds, self.sample_rate, least=self.gains)

    @property
    def window(self) -> int:
        """Samples of a frame's window."""
        return self.overlap * self.hop

    @property
    def gain_hop(self) -> int:
        """Samples per value of the decoder's gain."""
        return self.hop // self.gains

    @property
    def code_hop(self) -> int:
        """Samples per code."""
        return self.hop * self.stride

    @property
    def tones(self) -> np.ndarray:
        """Frequencies of the decoder's steady tones, float64 [G], Hz. With pitches, a pulse train takes their place."""
        count = 0 if self.pitches else TONE_OCTAVES * self.tones_per_octave
        hertz = LOWEST_TONE * 2 ** (np.arange(count) / max(self.tones_per_octave, 1))
        return hertz[hertz < 0.45 * self.sample_rate]

    @property
    def code_width(self) -> int:
        """Numbers in a code: its features and, if it has one, its level."""
        return self.code_channels + self.leveled

    @property
    def lookahead(self) -> int:
        """Samples after the end of a code's span that the code depends on, in a causal model."""
        return self.window - self.hop

    @property
    def bins(self) -> int:
        """Frequency bins of a spectrum."""
        return self.window // 2 + 1

    @property
    def held(self) -> int:
        """How many times the decoder repeats the first code before the sound begins."""
        return -(-(self.overlap - 1) // self.stride)


class Residual(nnx.Module):
    """``x + W silu(convolution(norm(x)))``, where norm is RMS normalisation of each frame."""

    def __init__(self, channels: int, dilation: int, causal: bool, *, rngs: nnx.Rngs) -> None:
        self.dilation, self.causal, self.channels = dilation, causal, channels
        self.scale = nnx.Param(jnp.ones(channels))
        self.kernel = normal(rngs, WIDTH * channels, channels, gain=2**0.5)
        self.bias = zeros(channels)
        self.out = normal(rngs, channels, channels, gain=0.5)

    @property
    def reach(self) -> int:
        """Frames that it sees besides the current one."""
        return (WIDTH - 1) * self.dilation

    def init_cache(self, batch: int, dtype: Any) -> Float[np.ndarray, "{batch} reach channels"]:
        """The state before the first frame: zeros, of NumPy, so that no program is compiled for them."""
        return np.zeros((batch, self.reach, self.channels), dtype)

    def __call__(
        self, x: Float[Array, "batch frames channels"], cache: Float[Array, "batch reach channels"] | None
    ) -> tuple[Float[Array, "batch frames channels"], Float[Array, "batch _ channels"]]:
        """The next frames and the state after them. cache: the state before them; None if x is the whole sound."""
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
    """A sequence of residual convolutions."""

    def __init__(self, channels: int, dilations: tuple[int, ...], causal: bool, *, rngs: nnx.Rngs) -> None:
        self.members = nnx.List(Residual(channels, dilation, causal, rngs=rngs) for dilation in dilations)

    def init_cache(self, batch: int, dtype: Any) -> list[np.ndarray]:
        """The state before the first frame."""
        return [member.init_cache(batch, dtype) for member in self.members]

    def __call__(
        self, x: Float[Array, "batch frames channels"], caches: list[Array] | None
    ) -> tuple[Float[Array, "batch frames channels"], list[Array]]:
        """The next frames and the state after them. caches: the state before them; None if x is the whole sound."""
        kept = []
        for index, member in enumerate(self.members):
            x, cache = member(x, None if caches is None else caches[index])
            kept.append(cache)
        return x, kept


class Encoder(nnx.Module):
    """A network from a sound to the mean and the log variance of its codes. A level has no variance."""

    def __init__(self, config: AutoencoderConfig, *, rngs: nnx.Rngs) -> None:
        self.config = config
        channels, causal = config.encoder_channels, config.causal
        self.front = normal(rngs, config.bins * (4 if config.audio_channels == 2 else 1), channels)
        self.front_bias = zeros(channels)
        self.stack = Stack(channels, config.encoder_dilations, causal, rngs=rngs)
        self.down = normal(rngs, config.stride * channels, channels)
        self.down_bias = zeros(channels)
        self.code_stack = Stack(channels, CODE_DILATIONS, causal, rngs=rngs)
        self.out = normal(rngs, channels, 2 * config.code_channels, gain=0.5)
        first = [0.0] * config.code_channels + [FIRST_LOG_VARIANCE] * config.code_channels
        self.out_bias = nnx.Param(jnp.array(first))

    def init_cache(self, ahead: Float[Array, "batch audio lookahead"]) -> Cache:
        """The state of a stream before its first code. ahead: the first `lookahead` samples."""
        own = [stack.init_cache(len(ahead), self.config.dtype) for stack in (self.stack, self.code_stack)]
        return {"samples": ahead, "frames": own[0], "codes": own[1]}

    def step(
        self, samples: Float[Array, "batch audio time"], cache: Cache | None
    ) -> tuple[Float[Array, "batch codes code_width"], Float[Array, "batch codes code_channels"], Cache]:
        """Encodes the next samples.

        Args:
            samples: [B, C, n code_hop]; they run `lookahead` samples ahead of the codes. Without a cache, `lookahead` samples
                more.
            cache: the state before them; None if the samples are the whole sound.

        Returns:
            The mean of n codes, the log variance of their features, and the state after them.
        """
        config = self.config
        known = samples if cache is None else jnp.concatenate([cache["samples"], samples], axis=2)
        x, level = self._spectra(known)
        x = x.astype(config.dtype)
        x = plus(x @ self.front[...].astype(x.dtype), self.front_bias)
        x, frames = self.stack(x, None if cache is None else cache["frames"])
        x = x.reshape(len(x), -1, config.stride * x.shape[-1])
        x = plus(x @ self.down[...].astype(x.dtype), self.down_bias)
        x, codes = self.code_stack(x, None if cache is None else cache["codes"])
        x = plus(x.astype(jnp.float32) @ self.out[...], self.out_bias)
        mean, log_variance = jnp.split(x, 2, axis=-1)
        kept = {"samples": known[..., known.shape[2] - config.lookahead :], "frames": frames, "codes": codes}
        mean = mean if level is None else jnp.concatenate([mean, level], axis=-1)
        return mean, jnp.clip(log_variance, -12.0, 4.0), kept

    def _spectra(
        self, samples: Float[Array, "batch audio time"]
    ) -> tuple[Float[Array, "batch frames inputs"], Float[Array, "batch codes 1"] | None]:
        """Log-magnitude spectra relative to the level of each code, and the levels."""
        config, (batch, audio, _) = self.config, samples.shape
        seen = jnp.concatenate([samples, mid_side(samples)], axis=1) if audio == 2 else samples
        hops = seen.reshape(batch * seen.shape[1], -1, config.hop)
        hann = hann_window(config.window)
        windows = windowed(hops, config.window)
        windows = (windows * jnp.broadcast_to(hann, windows.shape)).reshape(batch, seen.shape[1], -1, config.window)
        level = None
        if config.leveled:
            power = jnp.square(windows[:, :audio]).sum(axis=(1, 3)) * np.float32(1 / (np.square(hann).sum() * audio))
            power = power.reshape(batch, -1, config.stride).mean(axis=2, keepdims=True)
            level = jnp.log(power / QUIETEST**2 + 1) / (2 * LEVEL_UNIT)
            windows /= amplitude(level).repeat(config.stride, axis=1)[:, None]
        magnitude = jnp.abs(jnp.fft.rfft(windows)) * np.float32(2 / hann.sum())
        floor = RELATIVE_FLOOR if config.leveled else SOFT_FLOOR
        x = jnp.log(magnitude / floor + 1) / SPECTRUM_UNIT  # silence is 0, as is the time before a sound
        return x.transpose(0, 2, 1, 3).reshape(batch, x.shape[2], -1), level

    def __call__(
        self, sounds: Float[Array, "batch audio time"]
    ) -> tuple[Float[Array, "batch codes code_width"], Float[Array, "batch codes code_channels"]]:
        """The mean and the log variance of the codes of whole sounds [B, C, F code_hop]; silence follows them."""
        return self.step(jnp.pad(sounds, ((0, 0), (0, 0), (0, self.config.lookahead))), None)[:2]


class Decoder(nnx.Module):
    """A network from codes and a pitch to a sound."""

    def __init__(self, config: AutoencoderConfig, *, rngs: nnx.Rngs) -> None:
        self.config = config
        channels, bins = config.channels, config.bins
        self.front = normal(rngs, config.code_channels, channels)
        self.front_bias = zeros(channels)
        # Zeros at first: a pitch that training does not have adds nothing here, and still sets the excitation.
        self.pitch = zeros(config.pitches, channels) if config.pitches else None
        self.code_stack = Stack(channels, CODE_DILATIONS, config.causal, rngs=rngs)
        self.up = normal(rngs, channels, config.stride * channels)
        self.up_bias = zeros(config.stride * channels)
        self.stack = Stack(channels, config.dilations, config.causal, rngs=rngs)
        hertz = np.arange(bins) * (config.sample_rate / config.window)
        own = np.zeros((5, bins), np.float32)  # of each channel: see `_windows`
        own[0] = np.log(PULSE_LEVEL) - np.log(np.maximum(hertz / TILT_HZ, 1))
        own[2] = np.log(NOISE_LEVEL)
        audio = config.audio_channels
        common = np.full(bins * (audio - 1), COMMON_NOISE, np.float32)
        mixed = np.full(audio * len(config.tones), np.log(TONE_LEVEL), np.float32)
        gains = np.zeros(audio * config.gains, np.float32)
        first = np.concatenate([np.tile(own.ravel(), audio), common, mixed, gains])
        self.out = normal(rngs, channels, len(first), gain=0.2)
        self.out_bias = nnx.Param(jnp.array(first))

    def init_cache(self, batch: int) -> Cache:
        """The state of a stream before its first code. That code must be given `held` times more, first."""
        config = self.config
        over = config.overlap - 1
        return {
            "codes": self.code_stack.init_cache(batch, config.dtype),
            "frames": self.stack.init_cache(batch, config.dtype),
            "over": np.zeros((batch * config.audio_channels, over, config.hop), np.float32),
            "gain": np.zeros((batch * config.audio_channels, 1), np.float32),
            "frame": np.array(-config.held * config.stride % 2**32, np.uint32),
        }

    def step(
        self,
        codes: Float[Array, "batch codes code_width"],
        pitch: Float[Array, " batch"],
        keys: Key[Array, " batch"],
        cache: Cache,
        whole: bool = False,
    ) -> tuple[Float[Array, "batch audio time"], Cache]:
        """Decodes the next codes.

        Args:
            codes: n of them.
            pitch: MIDI numbers; NaN for none.
            keys: of the noise.
            cache: the state before them.
            whole: whether these are all codes, and the cache is the one before the first.

        Returns:
            Samples [B, C, n code_hop] and the state after them.
        """
        config, cache = self.config, jax.tree.map(jnp.asarray, cache)
        x = codes[..., : config.code_channels].astype(config.dtype)
        x = plus(x @ self.front[...].astype(x.dtype), self.front_bias)
        if self.pitch is not None:
            x += (one_hot(pitch, config.pitches) @ self.pitch[...])[:, None].astype(x.dtype)
        x, code_cache = self.code_stack(x, None if whole else cache["codes"])
        x = plus(x @ self.up[...].astype(x.dtype), self.up_bias)
        x = x.reshape(len(x), -1, config.channels)
        x, frame_cache = self.stack(x, None if whole else cache["frames"])
        x = plus(jax.nn.silu(x) @ self.out[...].astype(x.dtype), self.out_bias).astype(jnp.float32)
        windows, gains = self._windows(x, pitch, keys, cache["frame"])
        if config.leveled:
            windows = self._at_level(windows, codes[..., config.code_channels :])
        windows, gains = windows.reshape(-1, *windows.shape[2:]), gains.reshape(-1, gains.shape[-1])
        hops, over = overlapped(windows, config.hop, cache["over"])
        gain = ramps(gains, cache["gain"], config.gain_hop)
        kept = {
            "codes": code_cache, "frames": frame_cache, "over": over, "gain": gains[:, -1:],
            "frame": cache["frame"] + np.uint32(x.shape[1]),
        }  # fmt: skip
        return (hops.reshape(len(hops), -1) * gain).reshape(len(codes), config.audio_channels, -1), kept

    def _windows(
        self,
        x: Float[Array, "batch frames outputs"],
        pitch: Float[Array, " batch"],
        keys: Key[Array, " batch"],
        first: UInt[Array, ""],
    ) -> tuple[Float[Array, "batch audio frames window"], Float[Array, "batch audio gains"]]:
        """Windows of sound and their gains from the network's output [B, F, outputs]; frame `first` is the first."""
        config, audio, bins = self.config, self.config.audio_channels, self.config.bins
        sizes = [5 * audio * bins, (audio - 1) * bins, audio * len(config.tones)]
        filters, common, mixed, gains = jnp.split(x, np.cumsum(sizes), axis=-1)
        filters = filters.reshape(*x.shape[:2], audio, 5, bins).transpose(3, 0, 2, 1, 4)
        pulse, phase, hiss, real, imaginary = filters  # each [B, C, F, bins]
        taper = np.sqrt(hann_window(config.window))
        count = x.shape[1] + config.overlap - 1

        def source(hops: Array) -> Array:
            windows = windowed(hops, config.window)
            return jnp.fft.rfft(windows * jnp.broadcast_to(taper, windows.shape))

        hisses = source(noise(keys, first, count, config.hop))[:, None]
        if audio == 2:  # the right channel's noise is partly the left one's, partly its own
            others = source(noise(jax.vmap(jax.random.fold_in, (0, None))(keys, RIGHT), first, count, config.hop))
            share = jnp.tanh(common)
            right = share * hisses[:, 0] + jnp.sqrt(1 - jnp.square(share) + 1e-6) * others
            hisses = jnp.concatenate([hisses, right[:, None]], axis=1)
        own = OWN_LEVEL * config.window
        spectrum = jnp.exp(jnp.minimum(hiss, LOUDEST)) * hisses + jax.lax.complex(own * real, own * imaginary)
        if config.pitches:
            harmonic = source(pulses(pitch, first, count, config.hop, config.sample_rate))[:, None]
            size = jnp.exp(jnp.minimum(pulse, LOUDEST))
            spectrum += jax.lax.complex(size * jnp.cos(phase), size * jnp.sin(phase)) * harmonic
        if mixed.shape[-1]:
            size = jnp.exp(jnp.minimum(mixed, LOUDEST)).reshape(*x.shape[:2], audio, -1).transpose(0, 2, 1, 3)
            phases = tones(config.tones, first, x.shape[1], config.hop, config.sample_rate)
            parts = jnp.concatenate([size, size], axis=-1) * jnp.broadcast_to(
                phases, (*size.shape[:3], phases.shape[1])
            )
            tonal = parts @ tone_spectra(config.tones, taper, config.sample_rate)
            spectrum += jax.lax.complex(tonal[..., :bins], tonal[..., bins:])
        # The tapers before and after make a Hann window; overlapping Hann windows sum to half the hops in a window.
        windows = jnp.fft.irfft(spectrum, config.window)
        windows *= jnp.broadcast_to(taper * np.float32(2 / config.overlap), windows.shape)
        gains = gains.reshape(*x.shape[:2], audio, config.gains).transpose(0, 2, 1, 3).reshape(len(x), audio, -1)
        gains = jax.nn.sigmoid(gains)
        if not config.leveled:
            return windows, 2 * gains
        power = (
            jnp.square(gains).reshape(len(x), audio, -1, config.stride * config.gains).mean(axis=(1, 3), keepdims=True)
        )
        level = jnp.sqrt(power).repeat(config.stride * config.gains, axis=2)
        return windows, gains / level.reshape(len(x), 1, -1)

    def _at_level(
        self, windows: Float[Array, "batch audio frames window"], level: Float[Array, "batch codes 1"]
    ) -> Float[Array, "batch audio frames window"]:
        """The windows, scaled so that each code's windows have its level, measured as in the encoder."""
        config = self.config
        full = np.square(hann_window(config.window) * np.float32(2 / config.overlap)).sum() * config.audio_channels
        power = jnp.square(windows).sum(axis=(1, 3)) * np.float32(1 / full)
        power = power.reshape(len(windows), -1, config.stride).mean(axis=2)
        wanted = amplitude(level)[..., 0] - QUIETEST  # silence is exactly 0
        scale = jnp.maximum(wanted, 0.0) * jax.lax.rsqrt(power + 1e-12)
        return windows * scale.repeat(config.stride, axis=1)[:, None, :, None]

    def __call__(
        self,
        codes: Float[Array, "batch codes code_width"],
        pitch: Float[Array, " batch"],
        keys: Key[Array, " batch"],
    ) -> Float[Array, "batch audio time"]:
        """Sounds [B, C, F code_hop] of whole paths. pitch: MIDI numbers, NaN for none. keys: of the noise."""
        held = self.config.held
        codes = jnp.concatenate([jnp.repeat(codes[:, :1], held, axis=1), codes], axis=1)
        sounds, _ = self.step(codes, pitch, keys, self.init_cache(len(codes)), whole=True)
        return sounds[..., held * self.config.code_hop :]


def amplitude(level: Float[Array, "*batch"]) -> Float[Array, "*batch"]:
    """The root mean square, at least `QUIETEST`, that a code's level stands for.

    >>> np.log10(amplitude(jnp.array([0.0, 1.0, 2.0]))).round(2).tolist() == np.float32([-5.0, -2.83, -0.66]).tolist()
    True
    """
    return QUIETEST * jnp.exp(LEVEL_UNIT * jnp.clip(level, 0.0, MOST_LEVEL))


class Autoencoder(nnx.Module):
    """An encoder and its decoder."""

    def __init__(self, config: AutoencoderConfig, *, rngs: nnx.Rngs) -> None:
        self.encoder = Encoder(config, rngs=rngs)
        self.decoder = Decoder(config, rngs=rngs)


class Probe(nnx.Module):
    """A classifier of the pitch from a single code. The encoder is trained to fool it."""

    def __init__(self, config: AutoencoderConfig, *, rngs: nnx.Rngs) -> None:
        self.front = normal(rngs, config.code_channels, PROBE_CHANNELS, gain=2**0.5)
        self.front_bias = zeros(PROBE_CHANNELS)
        self.out = normal(rngs, PROBE_CHANNELS, config.pitches)
        self.out_bias = zeros(config.pitches)

    def __call__(self, codes: Float[Array, "batch codes code_channels"]) -> Float[Array, "batch codes pitches"]:
        """The logits of the pitches, for each code's features."""
        return plus(jax.nn.silu(plus(codes @ self.front[...], self.front_bias)) @ self.out[...], self.out_bias)
