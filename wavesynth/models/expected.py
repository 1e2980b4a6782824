"""The band powers that a decoder's sounds have on average, computed without making the sounds.

A decoder of noise and steady tones trains much faster on these averages than on its sounds: in a sound, noise fluctuates and
neighbouring tones beat, and so do the gradients.

Bands are triangular, narrow for long windows and wide for short ones.
"""

from dataclasses import dataclass
from functools import cached_property, lru_cache

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from wavesynth.audio.rates import power_of_two
from wavesynth.audio.spectral import hann_window, num_frames, stft_magnitude, triangles

HANN_BINS = 1.5  # noise bandwidth of a Hann window
LEAST_BINS = 1.5  # from one band to the next
NOISE_POWER = 6.0  # of a bin of white noise of variance 1, times the samples of the window
RESOLUTIONS = (  # seconds of the window; the lowest and the highest frequency, Hz; bands per octave
    (0.186, 30.0, 2_500.0, 48),
    (0.093, 40.0, 5_000.0, 36),
    (0.046, 30.0, 20_000.0, 24),
    (0.023, 60.0, 20_000.0, 16),
    (0.0116, 100.0, 20_000.0, 12),
)


@dataclass(frozen=True)
class Frames:
    """Frames of noise and tones, overlap-added with Hann windows.

    Attributes:
        sample_rate: Hz.
        hop: samples from one frame to the next.
        window: samples of a frame.
        tones: frequencies of the tones, Hz.
        first: where the first frame begins, in hops; negative before the sound.
    """

    sample_rate: int
    hop: int
    window: int
    tones: tuple[float, ...]
    first: int = 0


class Bands:
    """The band powers of sounds in windows of one length, and what to expect of frames.

    Args:
        frames: of the decoder.
        seconds: length of the window; the nearest power of two in samples is taken.
        lowest: frequency where the first band begins, Hz.
        highest: frequency where the last band ends at most, Hz.
        per_octave: number of bands, where they are wide enough.
    """

    def __init__(self, frames: Frames, seconds: float, lowest: float, highest: float, per_octave: int) -> None:
        self.frames, rate = frames, frames.sample_rate
        self.window = power_of_two(seconds, rate, least=max(16, 2 * frames.hop))
        self.hop = max(self.window // 4, frames.hop)
        self._bins = np.arange(self.window // 2 + 1) * (rate / self.window)
        edges = [lowest]
        while edges[-1] <= min(highest, rate / 2):
            edges.append(max(edges[-1] * 2 ** (1 / per_octave), edges[-1] + LEAST_BINS * rate / self.window))
        self.filters = (triangles(self._bins, np.array(edges[:-1])) / HANN_BINS).astype(np.float32)

    def measured(self, sounds: Float[Array, "batch audio time"]) -> Float[Array, "batch audio windows bands"]:
        """The band powers of sounds."""
        return jnp.square(stft_magnitude(sounds, self.window, self.hop)) @ self.filters

    def expected(
        self,
        noise: Float[Array, "batch audio frames bins"],
        tones: Float[Array, "batch audio frames tones"],
        length: int,
    ) -> Float[Array, "batch audio windows bands"]:
        """The band powers that frames have on average.

        Args:
            noise: power of the noise at each bin of a frame; that of white noise of variance 1 is 1.
            tones: amplitudes of the tones.
            length: samples of the sound.
        """
        amplitude, power = self._weights(noise.shape[2], length)
        tonal = jnp.square(jnp.einsum("wf,baft->bawt", amplitude, tones)) @ self._tone_powers
        return tonal + jnp.einsum("wf,bafn->bawn", power, noise) @ self._noise_powers

    def _weights(self, count: int, length: int) -> tuple[np.ndarray, np.ndarray]:
        """How much each frame adds to the amplitudes, and to the powers, of each window: float32 [windows, frames]."""
        hop, margin = self.frames.hop, self.frames.window - self.frames.hop
        frame = hann_window(self.frames.window).astype(np.float64) * (2 * hop / self.frames.window)
        hann = hann_window(self.window).astype(np.float64)
        begins = np.arange(num_frames(length, self.hop)) * self.hop - self.window // 2
        weights = np.zeros((2, len(begins), count))
        for row, begin in enumerate(begins):
            inside = (np.arange(self.window) >= -begin) & (np.arange(self.window) < length - begin)
            # Where the frames begin in the padded window.
            offsets = (np.arange(count) + self.frames.first) * hop - begin + margin
            seen = (offsets >= 0) & (offsets <= self.window + margin - hop)
            for kind, window in enumerate((hann, np.square(hann))):
                padded = np.pad(window * inside, margin)
                shares = np.lib.stride_tricks.sliding_window_view(padded, len(frame))[::hop] @ frame / window.sum()
                weights[kind, row, seen] = shares[offsets[seen] // hop]
        return weights[0].astype(np.float32), weights[1].astype(np.float32)

    @cached_property
    def _tone_powers(self) -> np.ndarray:
        """The band powers of tones of amplitude 1: float32 [tones, bands]."""
        apart = (self._bins - np.array(self.frames.tones)[:, None]) * (self.window / self.frames.sample_rate)
        apart = np.where(np.abs(np.abs(apart) - 1) < 1e-6, 1 + 1e-6, np.abs(apart))
        leaked = np.square(np.sinc(apart) / (1 - np.square(apart)))  # of a Hann window
        return (leaked @ self.filters).astype(np.float32)

    @cached_property
    def _noise_powers(self) -> np.ndarray:
        """The band powers of noise of power 1 at each bin of a frame, interpolated between them: float32 [bins, bands]."""
        places = self._bins * (self.frames.window / self.frames.sample_rate)
        below = np.minimum(places.astype(int), self.frames.window // 2 - 1)
        between = np.zeros((self.frames.window // 2 + 1, len(places)))
        between[below, np.arange(len(places))] = 1 - (places - below)
        between[below + 1, np.arange(len(places))] = places - below
        return (between @ self.filters * (NOISE_POWER / self.window)).astype(np.float32)


@lru_cache
def bands(frames: Frames) -> tuple[Bands, ...]:
    """Bands at all resolutions whose windows last at least two hops, and at least at the first."""
    least = 2 * frames.hop / frames.sample_rate
    fitting = [resolution for resolution in RESOLUTIONS if resolution[0] * 2**0.5 > least]
    return tuple(Bands(frames, *resolution) for resolution in fitting or RESOLUTIONS[:1])
