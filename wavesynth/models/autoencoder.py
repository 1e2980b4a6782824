"""A variational autoencoder of sounds, after RAVE (Caillon and Esling, 2021), that works at frame rate throughout.

Activations are [B, frames, channels]. At 16 kHz and in mono, with the defaults:

    sound -> log-magnitude spectra, window 512, a frame every 128 samples                      [B, F, 257]
    level of every four frames, by which their spectra are divided                             [B, F / 4, 1]
    another spectrum for every four frames, window 2,048, which ends where theirs do           [B, F / 4, 1024]
    residual dilated convolutions; four frames become one; mean and log variance of features   [B, F / 4, 32]
    features, pitch -> residual dilated convolutions, first at code rate, then at frame rate   [B, F, 192]
    dense -> filters for a pulse train of that pitch and for noise, gains
    inverse Fourier transform, scaling to the level, overlap-add, gains -> sound               [B, 1, 128 F]

The decoder filters an excitation in the frequency domain (neural source-filter, Wang, Takaki and Yamagishi, 2019; DDSP, Engel
et al., 2020), and an inverse transform gives the samples (Vocos, Siuzdak, 2023). It is in tune by construction, and needs about
a twentieth of the multiply-adds of an upsampling convolutional decoder.

A code consists of features and a level. The networks see and generate spectra relative to the level. So any sound comes back
as loud as it was, even a kind that was never trained on. Silence has features 0 and level 0. Of stereo sounds, the encoder
sees left, right, middle and side. The decoder generates filters for left and right and, for each bin and each tone, the
correlation of the two.

A decoder of sounds without pitches mixes steady tones in place of the pulse train, at frequencies that the training sounds
have. Training first compares the average power of its noise and tones, which `powers` gives, with that of the sounds.

Frame k begins at sample `hop k`, in the encoder and in the decoder. So the decoder generates `code_hop` samples from each code,
and the encoder looks `lookahead` samples ahead, which is the latency of a stream. Before the first code, the decoder repeats
that code until its windows overlap.
"""

from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, Key, UInt

from wavesynth.audio.rates import power_of_two
from wavesynth.audio.spectral import hann_window
from wavesynth.audio.stereo import mid_side
from wavesynth.config import Frequencies, Width, check_frequencies
from wavesynth.errors import UserError
from wavesynth.fields import Count, Real, Whole
from wavesynth.models.discriminators import DiscriminatorsConfig, normal, plus
from wavesynth.models.frames import noise, overlapped, pulses, ramps, tone_spectra, tones, windowed
from wavesynth.models.layers import PITCH_FEATURES, check_remembered, pitch_features, zeros

Cache = dict[str, Any]

WIDTH = 3  # taps of a convolution
SPECTRUM_UNIT = 3.0  # of the encoder's input, the natural logarithm of magnitudes over the floor
CODE_DILATIONS = (1, 2)  # of the convolutions at the rate of codes
PULSE_LEVEL, NOISE_LEVEL = 0.02, 0.005  # of an untrained decoder's sources: quiet, as sounds are
TONE_LEVEL = 0.005  # likewise, of each steady tone
HISS_LEVEL = 0.001  # likewise, of noise beside tones; louder noise would be learned instead of them
TILT_HZ = 300.0  # above it, an untrained pulse filter falls by 6 dB per octave
PULSE, PHASE = 0, 1  # indices of filters
FIRST_LOG_VARIANCE = -3.0
PROBE_CHANNELS = 128
LOUDEST = 6.0  # natural logarithm of a filter's largest magnitude
RELATIVE_FLOOR = 1e-4  # of magnitudes relative to the level, 80 dB below it
QUIETEST = 1e-5  # amplitude, 100 dB below full scale: the level of silence
LEVEL_UNIT = 5.0  # of a code's level, the logarithm of an amplitude over `QUIETEST`: silence is 0, full scale 2.3
MOST_LEVEL = 2.5  # a root mean square of 2.7
RIGHT = 2**31  # folded into the keys of the right channel's own noise
COMMON = 1.5  # of an untrained stereo decoder: the hyperbolic tangent of it is the correlation of left and right
MOST_COMMON = 1 - 1e-6  # a larger correlation leaves a difference of the channels that rounding can make negative
LONG_HZ = 8_000.0  # the highest frequency of the encoder's second spectra
MOST_CODE_HOP = 65_536  # samples
Dilations = Annotated[tuple[Annotated[int, Whole(1, 1_024)], ...], Count(0, 64)]


@dataclass(frozen=True)
class AutoencoderConfig(DiscriminatorsConfig):
    """The shape of an autoencoder. At 16 kHz the defaults need 47 + 143 million multiply-adds per second of mono
    sound, and 9 million more without pitches.

    Attributes:
        code_channels: features of a code. Its level is one number more.
        hop_seconds: time from one frame to the next; the nearest power of two in samples is taken.
        overlap: hops in a frame's window.
        stride: frames per code.
        gains: values of the decoder's gain per hop.
        long_seconds: window of the encoder's second spectra, one for each code, in seconds; the nearest power of two in code
            hops is taken. They look back, so that they add no latency. 0 for none.
        encoder_channels: channels of the encoder.
        encoder_dilations: dilations of the encoder's residual convolutions at frame rate.
        channels: channels of the decoder.
        dilations: dilations of the decoder's residual convolutions at frame rate.
        causal: whether convolutions only look back, so that sounds can be encoded and decoded live.
        pitches: number of pitches. Filled in from the data.
        tones: frequencies of steady tones that the decoder of sounds without pitches mixes, Hz. Filled in from the data.
    """

    discriminator_channels: int = 0
    spectral_channels: int = 48
    code_channels: Annotated[int, Whole(1, 1_024)] = 32
    hop_seconds: Annotated[float, Real(least=0.0005, most=0.1)] = 0.0075
    overlap: Literal[2, 4, 8, 16] = 4
    stride: Annotated[int, Whole(1, 256)] = 4
    gains: Literal[1, 2, 4, 8, 16] = 4
    long_seconds: Annotated[float, Real(least=0, most=1.0)] = 0.18
    encoder_channels: Width = 128
    encoder_dilations: Dilations = (1, 2, 4, 8)
    channels: Width = 192
    dilations: Dilations = (1, 2, 4, 1, 2, 4)
    causal: bool = True
    pitches: Annotated[int, Whole(0, 128)] = 0
    tones: Frequencies = field(default=(), repr=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.sample_rate and self.code_hop > MOST_CODE_HOP:
            raise UserError(
                f"stride is {self.stride}: with the hop {self.hop}, a code would last {self.code_hop:,} samples, more than "
                f"{MOST_CODE_HOP:,}"
            )
        check_frequencies("tones", self.tones, self.sample_rate)
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
    def code_width(self) -> int:
        """Numbers in a code: its features and its level."""
        return self.code_channels + 1

    @property
    def lookahead(self) -> int:
        """Samples after the end of a code's span that the code depends on, in a causal model."""
        return self.window - self.hop

    @property
    def long_window(self) -> int:
        """Samples of a window of the encoder's second spectra; 0 for none."""
        if not self.long_seconds:
            return 0
        least = 1 << ((self.code_hop + self.lookahead - 1) // self.code_hop).bit_length()
        return self.code_hop * power_of_two(self.long_seconds, self.sample_rate / self.code_hop, least=least)

    @property
    def long_bins(self) -> int:
        """Frequency bins of the encoder's second spectra."""
        return int(min(LONG_HZ / self.sample_rate, 0.5) * self.long_window)

    @property
    def lookback(self) -> int:
        """Samples before a code's span that its second spectrum depends on."""
        return max(0, self.long_window - self.code_hop - self.lookahead)

    @property
    def filters(self) -> int:
        """Values of the decoder per bin and channel: magnitude and phase of the pulses, if there are pitches; magnitude of the
        noise."""
        return self.noise_filter + 1

    @property
    def noise_filter(self) -> int:
        """The index of the filter of the noise."""
        return 2 if self.pitches else 0

    @property
    def knows_average(self) -> bool:
        """Whether `Decoder.powers` is known."""
        return not self.pitches

    @property
    def views(self) -> int:
        """Channels that the encoder sees: of stereo sounds left, right, middle and side."""
        return 4 if self.audio_channels == 2 else 1

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
        self.front = normal(rngs, config.views * config.bins, channels)
        self.front_bias = zeros(channels)
        self.stack = Stack(channels, config.encoder_dilations, causal, rngs=rngs)
        self.down = normal(rngs, config.stride * channels, channels)
        self.long = normal(rngs, config.views * config.long_bins, channels) if config.long_bins else None
        self.down_bias = zeros(channels)
        self.code_stack = Stack(channels, CODE_DILATIONS, causal, rngs=rngs)
        self.out = normal(rngs, channels, 2 * config.code_channels, gain=0.5)
        first = [0.0] * config.code_channels + [FIRST_LOG_VARIANCE] * config.code_channels
        self.out_bias = nnx.Param(jnp.array(first))

    def init_cache(self, ahead: Float[Array, "batch audio lookahead"]) -> Cache:
        """The state of a stream before its first code. ahead: the first `lookahead` samples."""
        own = [stack.init_cache(len(ahead), self.config.dtype) for stack in (self.stack, self.code_stack)]
        samples = jnp.pad(ahead, ((0, 0), (0, 0), (self.config.lookback, 0)))
        return {"samples": samples, "frames": own[0], "codes": own[1]}

    def step(
        self, samples: Float[Array, "batch audio time"], cache: Cache | None
    ) -> tuple[Float[Array, "batch codes code_width"], Float[Array, "batch codes code_channels"], Cache]:
        """Encodes the next samples.

        Args:
            samples: [B, C, n code_hop]; they run `lookahead` samples ahead of the codes. Without a cache, `lookahead` samples
                more.
            cache: the state before them; None if the samples are the whole sound.

        Returns:
            The mean of n codes, the log variance of their features, and the state after them. Features of silence have the
            mean 0 and the log variance 0.
        """
        config = self.config
        before = np.zeros((*samples.shape[:2], config.lookback), np.float32) if cache is None else cache["samples"]
        known = jnp.concatenate([before, samples], axis=2)
        x, long, level = self._spectra(known)
        x = x.astype(config.dtype)
        x = plus(x @ self.front[...].astype(x.dtype), self.front_bias)
        x, frames = self.stack(x, None if cache is None else cache["frames"])
        x = x.reshape(len(x), -1, config.stride * x.shape[-1])
        x = plus(x @ self.down[...].astype(x.dtype), self.down_bias)
        if self.long is not None:
            x += long.astype(x.dtype) @ self.long[...].astype(x.dtype)
        x, codes = self.code_stack(x, None if cache is None else cache["codes"])
        x = plus(x.astype(jnp.float32) @ self.out[...], self.out_bias)
        # Silence is decoded as silence whatever its features are, so no loss would keep them small.
        mean, log_variance = jnp.split(jnp.where(level > 0, x, 0.0), 2, axis=-1)
        kept = {
            "samples": known[..., known.shape[2] - config.lookahead - config.lookback :],
            "frames": frames,
            "codes": codes,
        }
        return jnp.concatenate([mean, level], axis=-1), jnp.clip(log_variance, -12.0, 4.0), kept

    def _spectra(
        self, samples: Float[Array, "batch audio time"]
    ) -> tuple[Float[Array, "batch frames inputs"], Float[Array, "batch codes long"], Float[Array, "batch codes 1"]]:
        """Log-magnitude spectra relative to the level of each code, second spectra, and the levels.

        samples: they begin `lookback` samples before the first code.
        """
        config, (batch, audio, _) = self.config, samples.shape
        seen = jnp.concatenate([samples, mid_side(samples)], axis=1) if audio == 2 else samples
        windows = self._tapered(seen[..., config.lookback :], config.hop, config.window)
        hann = hann_window(config.window)
        power = jnp.square(windows[:, :audio]).sum(axis=(1, 3)) * np.float32(1 / (np.square(hann).sum() * audio))
        power = power.reshape(batch, -1, config.stride).mean(axis=2, keepdims=True)
        level = jnp.log(power / QUIETEST**2 + 1) / (2 * LEVEL_UNIT)
        scale = 1 / amplitude(level)[:, None]
        x = self._logarithms(windows * scale.repeat(config.stride, axis=2))
        if not config.long_window:
            return x, jnp.zeros((batch, x.shape[1] // config.stride, 0)), level
        long = self._tapered(seen, config.code_hop, config.long_window) * scale
        return x, self._logarithms(long, config.long_bins), level

    @staticmethod
    def _tapered(
        samples: Float[Array, "batch audio time"], hop: int, window: int
    ) -> Float[Array, "batch audio frames {window}"]:
        """The windows that begin with each hop, as far as they are whole, times a Hann window."""
        batch, audio, _ = samples.shape
        hops = samples.reshape(batch * audio, -1, hop)
        windows = windowed(hops, window)
        return (windows * jnp.broadcast_to(hann_window(window), windows.shape)).reshape(batch, audio, -1, window)

    def _logarithms(
        self, windows: Float[Array, "batch audio frames window"], bins: int | None = None
    ) -> Float[Array, "batch frames inputs"]:
        """The logarithms of the windows' magnitudes over a floor; silence is 0, as is the time before a sound."""
        batch, _, frames, window = windows.shape
        magnitude = jnp.abs(jnp.fft.rfft(windows)[..., :bins]) * np.float32(2 / hann_window(window).sum())
        x = jnp.log(magnitude / RELATIVE_FLOOR + 1) / SPECTRUM_UNIT
        return x.transpose(0, 2, 1, 3).reshape(batch, frames, -1)

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
        # Zeros at first: octaves that training does not have add nothing here, and their pitches still set the excitation.
        self.pitch = zeros(PITCH_FEATURES, channels) if config.pitches else None
        self.code_stack = Stack(channels, CODE_DILATIONS, config.causal, rngs=rngs)
        self.up = normal(rngs, channels, config.stride * channels)
        self.up_bias = zeros(config.stride * channels)
        self.stack = Stack(channels, config.dilations, config.causal, rngs=rngs)
        hertz = np.arange(bins) * (config.sample_rate / config.window)
        own = np.zeros((config.filters, bins), np.float32)  # of each channel: see `_windows`
        own[config.noise_filter] = np.log(HISS_LEVEL if config.tones else NOISE_LEVEL)
        if config.pitches:
            own[PULSE] = np.log(PULSE_LEVEL) - np.log(np.maximum(hertz / TILT_HZ, 1))
        audio = config.audio_channels
        common = np.full((bins + len(config.tones)) * (audio - 1), COMMON, np.float32)
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
        x, code_cache, frame_cache = self._network(codes, pitch, None if whole else cache)
        windows, gains = self._windows(x, pitch, keys, cache["frame"])
        windows = self._at_level(windows, codes[..., config.code_channels :])
        windows, gains = windows.reshape(-1, *windows.shape[2:]), gains.reshape(-1, gains.shape[-1])
        hops, over = overlapped(windows, config.hop, cache["over"])
        gain = ramps(gains, cache["gain"], config.gain_hop)
        kept = {
            "codes": code_cache, "frames": frame_cache, "over": over, "gain": gains[:, -1:],
            "frame": cache["frame"] + np.uint32(x.shape[1]),
        }  # fmt: skip
        return (hops.reshape(len(hops), -1) * gain).reshape(len(codes), config.audio_channels, -1), kept

    def _network(
        self, codes: Float[Array, "batch codes code_width"], pitch: Float[Array, " batch"], cache: Cache | None
    ) -> tuple[Float[Array, "batch frames outputs"], list[Array], list[Array]]:
        """The output for the next codes, and the states of both stacks. cache: None if these are all codes."""
        config = self.config
        x = codes[..., : config.code_channels].astype(config.dtype)
        x = plus(x @ self.front[...].astype(x.dtype), self.front_bias)
        if self.pitch is not None:
            x += (pitch_features(pitch) @ self.pitch[...])[:, None].astype(x.dtype)
        x, code_cache = self.code_stack(x, None if cache is None else cache["codes"])
        x = plus(x @ self.up[...].astype(x.dtype), self.up_bias)
        x = x.reshape(len(x), -1, config.channels)
        x, frame_cache = self.stack(x, None if cache is None else cache["frames"])
        x = plus(jax.nn.silu(x) @ self.out[...].astype(x.dtype), self.out_bias).astype(jnp.float32)
        return x, code_cache, frame_cache

    def _windows(
        self,
        x: Float[Array, "batch frames outputs"],
        pitch: Float[Array, " batch"],
        keys: Key[Array, " batch"],
        first: UInt[Array, ""],
    ) -> tuple[Float[Array, "batch audio frames window"], Float[Array, "batch audio gains"]]:
        """Windows of sound and their gains from the network's output [B, F, outputs]; frame `first` is the first."""
        config, audio, bins = self.config, self.config.audio_channels, self.config.bins
        filters, common, mixed, shared, gains = self._parts(x)
        taper = np.sqrt(hann_window(config.window))
        count = x.shape[1] + config.overlap - 1

        def source(hops: Array) -> Array:
            windows = windowed(hops, config.window)
            return jnp.fft.rfft(windows * jnp.broadcast_to(taper, windows.shape))

        hisses = source(noise(keys, first, count, config.hop))[:, None]
        if audio == 2:  # the right channel's noise is partly the left one's, partly its own
            others = source(noise(jax.vmap(jax.random.fold_in, (0, None))(keys, RIGHT), first, count, config.hop))
            right = common * hisses[:, 0] + _rest(common) * others
            hisses = jnp.concatenate([hisses, right[:, None]], axis=1)
        spectrum = jnp.exp(jnp.minimum(filters[config.noise_filter], LOUDEST)) * hisses
        if config.pitches:
            harmonic = source(pulses(pitch, first, count, config.hop, config.sample_rate))[:, None]
            size = jnp.exp(jnp.minimum(filters[PULSE], LOUDEST))
            spectrum += jax.lax.complex(size * jnp.cos(filters[PHASE]), size * jnp.sin(filters[PHASE])) * harmonic
        if config.tones:
            size = jnp.exp(jnp.minimum(mixed, LOUDEST))
            cosines, sines = tones(np.array(config.tones), first, x.shape[1], config.hop, config.sample_rate)
            pairs = [jnp.broadcast_to(part, mixed[:, :1].shape) for part in (cosines, sines)]
            if audio == 2:  # the right channel's phase is ahead of the left one's
                pairs = [
                    jnp.concatenate([own, shared * own + sign * _rest(shared) * other], axis=1)
                    for own, other, sign in ((*pairs, -1), (*pairs[::-1], 1))
                ]
            parts = jnp.concatenate([size * part for part in pairs], axis=-1)
            tonal = parts @ tone_spectra(np.array(config.tones), taper, config.sample_rate)
            spectrum += jax.lax.complex(tonal[..., :bins], tonal[..., bins:])
        # The tapers before and after make a Hann window; overlapping Hann windows sum to half the hops in a window.
        windows = jnp.fft.irfft(spectrum, config.window)
        windows *= jnp.broadcast_to(taper * np.float32(2 / config.overlap), windows.shape)
        gains = gains.reshape(*x.shape[:2], audio, config.gains).transpose(0, 2, 1, 3).reshape(len(x), audio, -1)
        shaped = jax.nn.log_sigmoid(gains.reshape(len(x), audio, -1, config.stride * config.gains))
        loudest = jax.lax.stop_gradient(shaped.max(axis=3, keepdims=True))
        shaped = jnp.exp(shaped - loudest)  # the loudest is 1, so the level is not 0
        level = jnp.sqrt(jnp.square(shaped).mean(axis=3, keepdims=True))  # gains shape a code and leave its power
        return windows, (shaped / level).reshape(gains.shape)

    def _parts(self, x: Float[Array, "batch frames outputs"]) -> tuple[Array, Array, Array, Array, Array]:
        """The network's output as filters [filters, B, C, F, bins], the correlation of left and right noise [B, F, bins], the
        logarithms of tones' amplitudes [B, C, F, G], the correlation of left and right tones [B, 1, F, G], and gains."""
        config, audio, bins = self.config, self.config.audio_channels, self.config.bins
        count = len(config.tones)
        sizes = [config.filters * audio * bins, (audio - 1) * bins, (audio - 1) * count, audio * count]
        filters, common, shared, mixed, gains = jnp.split(x, np.cumsum(sizes), axis=-1)
        filters = filters.reshape(*x.shape[:2], audio, config.filters, bins).transpose(3, 0, 2, 1, 4)
        mixed = mixed.reshape(*x.shape[:2], audio, -1).transpose(0, 2, 1, 3)
        common, shared = (np.float32(MOST_COMMON) * jnp.tanh(each) for each in (common, shared))
        return filters, common, mixed, shared[:, None], gains

    def powers(
        self, codes: Float[Array, "batch codes code_width"]
    ) -> tuple[Float[Array, "batch audio frames bins"], Float[Array, "batch audio frames tones"]]:
        """The power of the noise and the amplitudes of the tones in each frame of whole paths, on average over the noise.

        Of stereo sounds: left, right, middle and side. The first frame begins `held * stride` hops before the sound. For a
        decoder without pitches.
        """
        config = self.config
        codes = self._held(codes)
        unpitched = jnp.full(len(codes), jnp.nan)
        filters, common, mixed, shared, _ = self._parts(self._network(codes, unpitched, None)[0])
        magnitude = jnp.exp(jnp.minimum(filters[config.noise_filter], LOUDEST))
        size = jnp.exp(jnp.minimum(mixed, LOUDEST))
        power = jnp.square(magnitude).mean(axis=(1, 3)) + jnp.square(size).sum(axis=3).mean(axis=1) / 2
        scale = self._scale(power, codes[..., config.code_channels :])[:, None, :, None]
        magnitude, size = magnitude * scale, size * scale
        if config.audio_channels == 1:
            return jnp.square(magnitude), size
        hiss = jnp.concatenate([jnp.square(magnitude), _middle_and_side(magnitude, common[:, None])], axis=1)
        return hiss, jnp.concatenate([size, jnp.sqrt(_middle_and_side(size, shared) + 1e-20)], axis=1)

    def _at_level(
        self, windows: Float[Array, "batch audio frames window"], level: Float[Array, "batch codes 1"]
    ) -> Float[Array, "batch audio frames window"]:
        """The windows, scaled so that each code's windows have its level, measured as in the encoder."""
        config = self.config
        full = np.square(hann_window(config.window) * np.float32(2 / config.overlap)).sum() * config.audio_channels
        power = jnp.square(windows).sum(axis=(1, 3)) * np.float32(1 / full)
        return windows * self._scale(power, level)[:, None, :, None]

    def _scale(
        self, power: Float[Array, "batch frames"], level: Float[Array, "batch codes 1"]
    ) -> Float[Array, "batch frames"]:
        """The factors that bring frames of a power to the levels of their codes."""
        power = power.reshape(len(power), -1, self.config.stride).mean(axis=2)
        wanted = amplitude(level)[..., 0] - QUIETEST  # silence is exactly 0
        return (jnp.maximum(wanted, 0.0) * jax.lax.rsqrt(power + 1e-12)).repeat(self.config.stride, axis=1)

    def __call__(
        self,
        codes: Float[Array, "batch codes code_width"],
        pitch: Float[Array, " batch"],
        keys: Key[Array, " batch"],
    ) -> Float[Array, "batch audio time"]:
        """Sounds [B, C, F code_hop] of whole paths. pitch: MIDI numbers, NaN for none. keys: of the noise."""
        sounds, _ = self.step(self._held(codes), pitch, keys, self.init_cache(len(codes)), whole=True)
        return sounds[..., self.config.held * self.config.code_hop :]

    def _held(self, codes: Float[Array, "batch codes code_width"]) -> Float[Array, "batch _ code_width"]:
        """Paths whose first code is repeated before the sound begins."""
        return jnp.concatenate([jnp.repeat(codes[:, :1], self.config.held, axis=1), codes], axis=1)


def _rest(common: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """The amplitude of what a channel has of its own, given its correlation with the other channel."""
    return jnp.sqrt(1 - jnp.square(common))


def _middle_and_side(
    size: Float[Array, "batch audio frames places"], common: Float[Array, "batch 1 frames places"]
) -> Float[Array, "batch audio frames places"]:
    """The powers of the middle and of the side, given left and right amplitudes and the correlation of left and right."""
    mean, both = jnp.square(size).mean(axis=1, keepdims=True), common * size[:, :1] * size[:, 1:]
    return jnp.concatenate([mean + both, mean - both], axis=1)


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
