"""Spectra of sounds: the short-time Fourier transform, mel bands, and distances in decibels.

Pure JAX functions of arrays with any leading axes, such as [channels, num_samples]. They compute in float32 and are
differentiable everywhere (silence has gradient zero). Sounds shorter than a window are padded with silence; NaN gives
NaN. The scale is absolute: a sine of amplitude 1 has magnitude 1 in its bin, and power 1 (0 dB) summed over mel bands.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from wavesynth.audio.rates import power_of_two
from wavesynth.errors import UserError

LOWEST_HZ, HIGHEST_HZ = 40.0, 20_000.0  # of mel bands: what people hear, as far as the sample rate goes
BAND_MELS = 0.5512  # from one mel band to the next: 80 bands at 16 kHz, 104 at 44.1 kHz
RANGE_DB = 80.0  # from the level of sounds down to the floor of the mel spectra that are compared
WINDOW_SECONDS = 0.06  # of mel spectra; the nearest power of two in samples is taken
RESOLUTIONS = (0.015, 0.03, 0.06, 0.12)  # seconds, windows of `multi_resolution_distance`
PASSED = 0.9  # of a recording's bandwidth; above it, resampling fades
SOFT_FLOOR = 1e-3  # added to magnitudes, 60 dB below a sine of amplitude 1


@dataclass(frozen=True)
class MelSettings:
    """Settings of a log-mel spectrogram.

    Attributes:
        window: samples of the Hann window and of the transform, even and a multiple of `hop`.
        hop: samples from one frame to the next.
        num_bands: number of triangular bands, spaced evenly on the mel scale.
        lowest_hz: lower edge of the first band.
        highest_hz: upper edge of the last band, or half the sample rate if that is lower.
        floor_db: level of silence, in decibels relative to a sine of amplitude 1. Lower levels are raised to it.

    Raises:
        UserError: a value is out of range.
    """

    window: int
    hop: int
    num_bands: int
    lowest_hz: float = LOWEST_HZ
    highest_hz: float = HIGHEST_HZ
    floor_db: float = -60.0

    def __post_init__(self) -> None:
        if self.hop < 1 or self.window < 2 or self.window % 2 or self.window % self.hop:
            raise UserError(f"window: {self.window} must be even and a multiple of the hop {self.hop}")
        if self.num_bands < 1:
            raise UserError(f"num_bands: {self.num_bands} must be at least 1")
        if not 0 <= self.lowest_hz < self.highest_hz:
            raise UserError(f"lowest_hz: {self.lowest_hz} must lie between 0 and highest_hz, {self.highest_hz}")


@functools.lru_cache
def mel_settings(sample_rate: int, *, floor_db: float = -60.0, seconds: float = WINDOW_SECONDS) -> MelSettings:
    """Settings that show the whole band of any sample rate, with the same resolution in seconds and in mels.

    Args:
        sample_rate: Hz.
        floor_db: level of silence, decibels.
        seconds: length of the window; the nearest power of two in samples is taken, and a quarter of it as the hop.

    >>> mel_settings(16_000)
    MelSettings(window=1024, hop=256, num_bands=80, lowest_hz=40.0, highest_hz=20000.0, floor_db=-60.0)
    >>> mel_settings(44_100).window, mel_settings(44_100).num_bands
    (2048, 104)
    """
    window = power_of_two(seconds, sample_rate, least=16)
    mels = float(hz_to_mel(min(HIGHEST_HZ, sample_rate / 2)) - hz_to_mel(LOWEST_HZ))
    return MelSettings(window, window // 4, max(1, round(mels / BAND_MELS) - 1), floor_db=floor_db)


def relative_mel(sample_rate: int, level_db: float, range_db: float = RANGE_DB) -> MelSettings:
    """Mel settings with a floor far below the level of some sounds, so that quiet sounds count like loud ones.

    >>> relative_mel(16_000, -20.0).floor_db
    -100.0
    """
    return mel_settings(sample_rate, floor_db=level_db - range_db)


def num_frames(num_samples: int, hop: int) -> int:
    """Number of frames of a sound, ``1 + num_samples // hop``. Frame k is centred on sample ``k * hop``.

    >>> num_frames(16_000, 256)
    63
    """
    return 1 + num_samples // hop


@functools.partial(jax.jit, static_argnames=("window", "hop"))
def stft(samples: jax.Array | np.ndarray, window: int, hop: int) -> jax.Array:
    """Short-time Fourier transform with a periodic Hann window.

    ``s[k, f] = 2 / sum(w) * sum_n w[n] x[k * hop - window / 2 + n] exp(-2 pi i f n / window)``, where x is zero before its
    first and after its last sample. A sine of amplitude A at a bin's frequency has magnitude A there. The first and the
    last bin (0 Hz and half the sample rate) read twice their amplitude.

    Args:
        samples: float [..., num_samples].
        window: samples of the window, even and a multiple of `hop`.
        hop: samples from one frame to the next.

    Returns:
        complex64 [..., num_frames(num_samples, hop), window // 2 + 1].

    Raises:
        UserError: the window is odd, or not a multiple of the hop.
    """
    samples = jnp.asarray(samples, jnp.float32)
    MelSettings(window, hop, num_bands=1)  # refuses sizes that do not fit
    frames = num_frames(samples.shape[-1], hop)
    blocks_per_window = window // hop
    num_padded = (frames - 1 + blocks_per_window) * hop
    after = num_padded - window // 2 - samples.shape[-1]
    padded = jnp.pad(samples, [(0, 0)] * (samples.ndim - 1) + [(window // 2, max(after, 0))])[..., :num_padded]
    # Overlapping frames are built from shifted blocks of `hop` samples: the gradient is a sum of slices, where that of
    # an indexed gather would be a scatter.
    blocks = padded.reshape(*samples.shape[:-1], -1, hop)
    framed = jnp.concatenate([blocks[..., i : i + frames, :] for i in range(blocks_per_window)], axis=-1)
    hann = hann_window(window)
    scaled = hann * np.float32(2 / hann.sum(dtype=np.float64))
    return jnp.fft.rfft(framed * jnp.broadcast_to(scaled, framed.shape), axis=-1)


@functools.partial(jax.jit, static_argnames=("window", "hop"))
def stft_magnitude(samples: jax.Array | np.ndarray, window: int, hop: int) -> jax.Array:
    """The magnitudes of `stft`, float32.

    >>> sine = np.sin(2 * np.pi * 1000 * np.arange(16_000) / 16_000)
    >>> round(float(stft_magnitude(sine, 1_024, 256)[30, 64]), 3)  # bin 64 of 1,024 lies at 1,000 Hz
    1.0
    """
    return jnp.abs(stft(samples, window, hop))


@functools.partial(jax.jit, static_argnames=("sample_rate", "settings"))
def log_mel(samples: jax.Array | np.ndarray, sample_rate: int, settings: MelSettings | None = None) -> jax.Array:
    """Log-mel spectrogram in decibels.

    ``10 log10(max(p, floor))`` with the power ``p[k, band] = sum_f m[k, f]^2 filter[f, band] / b``, where m is
    `stft_magnitude` and b = 1.5 the noise bandwidth of the Hann window in bins. Dividing by b makes the bands of a
    steady sine of amplitude A add up to A^2, wherever it lies between the centres of the first and the last band.

    Args:
        samples: float [..., num_samples] in [-1, 1].
        sample_rate: samples per second.
        settings: window, hop, bands and floor; None for `mel_settings(sample_rate)`.

    Returns:
        float32 [..., num_frames(num_samples, hop), num_bands], at least `settings.floor_db`.

    Raises:
        UserError: the bands do not fit below half the sample rate, or are too narrow (see `mel_filterbank`).

    >>> log_mel(np.zeros(16_000), sample_rate=16_000).shape
    (63, 80)
    """
    settings = settings or mel_settings(sample_rate)
    return mel_levels(stft_magnitude(samples, settings.window, settings.hop), sample_rate, settings)


def mel_levels(magnitude: jax.Array, sample_rate: int, settings: MelSettings) -> jax.Array:
    """The log-mel spectrogram of which these are the magnitudes, `stft_magnitude` with the window and hop of the settings."""
    hann = hann_window(settings.window).astype(np.float64)
    noise_bandwidth = settings.window * np.sum(hann**2) / np.sum(hann) ** 2
    filters = jnp.asarray(mel_filterbank(sample_rate, settings) / np.float32(noise_bandwidth))
    power = jnp.matmul(jnp.square(magnitude), filters, precision=jax.lax.Precision.HIGHEST)
    floor = 10 ** (settings.floor_db / 10)
    return 10 * jnp.log10(jnp.maximum(power, floor))


def log_mel_distance(
    a: jax.Array | np.ndarray,
    b: jax.Array | np.ndarray,
    sample_rate: int,
    settings: MelSettings | None = None,
) -> jax.Array:
    """Mean absolute difference of two log-mel spectrograms, in decibels.

    A difference in gain counts: two copies 6 dB apart have a distance of up to 6 dB.

    Args:
        a: float [..., num_samples].
        b: the same shape as `a`.
        sample_rate: samples per second of both.
        settings: window, hop, bands and floor; None for `mel_settings(sample_rate)`.

    Returns:
        float32 [...], the mean over frames and bands.

    Raises:
        UserError: the shapes differ.

    >>> noise = np.random.default_rng(0).normal(0, 0.1, 16_000)
    >>> round(float(log_mel_distance(noise, noise / 2, 16_000)))
    6
    """
    if np.shape(a) != np.shape(b):
        raise UserError(f"b: shape {np.shape(b)} differs from a's {np.shape(a)}; cut or pad the sounds to one length")
    difference = log_mel(a, sample_rate, settings) - log_mel(b, sample_rate, settings)
    return jnp.mean(jnp.abs(difference), axis=(-2, -1))


@functools.partial(jax.jit, static_argnames=("sample_rate", "floor", "resolutions"))
def multi_resolution_distance(
    a: jax.Array | np.ndarray,
    b: jax.Array | np.ndarray,
    sample_rate: int,
    *,
    floor: float = SOFT_FLOOR,
    resolutions: Sequence[float] = RESOLUTIONS,
) -> jax.Array:
    """Mean absolute difference of log-magnitude spectra in decibels, averaged over several resolutions.

    The hop is a quarter of each window.

    Args:
        a: float [..., num_samples].
        b: float, of a shape that broadcasts with a's.
        sample_rate: samples per second of both.
        floor: added to the magnitudes, so that the gradient does not vanish in silence; amplitude.
        resolutions: lengths of the windows in seconds; the nearest powers of two in samples are taken.

    Returns:
        float32 [...].

    Reference: Yamamoto, Song and Kim, Parallel WaveGAN (2020); Engel et al., DDSP (2020).

    >>> noise = np.random.default_rng(0).normal(0, 0.1, 4_000)
    >>> float(multi_resolution_distance(noise, noise, 16_000))
    0.0
    """
    distances = []
    for seconds in resolutions:
        window = power_of_two(seconds, sample_rate, least=4)
        levels = [20 * jnp.log10(stft_magnitude(sounds, window, window // 4) + floor) for sounds in (a, b)]
        distances.append(jnp.mean(jnp.abs(levels[0] - levels[1]), axis=(-2, -1)))
    return sum(distances) / len(distances)  # type: ignore[return-value]


def band_limited(
    samples: jax.Array | np.ndarray, sample_rate: int, bandwidth: jax.Array | np.ndarray | float
) -> jax.Array:
    """Sounds without the frequencies at which a resampled recording fades out and ends.

    Args:
        samples: float [..., num_samples].
        sample_rate: samples per second.
        bandwidth: where each recording ends, Hz, of a shape that broadcasts to samples' leading axes. Frequencies above nine
            tenths of it are removed. Half the sample rate leaves a sound as it is.

    Returns:
        float32, the shape of samples.

    >>> noise = np.random.default_rng(0).normal(0, 0.1, 16_000)
    >>> limited = band_limited(noise, 16_000, 4_000.0)
    >>> [round(float(jnp.var(x) / noise.var()), 2) for x in (limited, band_limited(noise, 16_000, 8_000.0))]
    [0.45, 1.0]
    """
    samples = jnp.asarray(samples, jnp.float32)
    ends = jnp.broadcast_to(jnp.asarray(bandwidth, jnp.float32), samples.shape[:-1])[..., None]
    spectrum = jnp.fft.rfft(samples, axis=-1)
    hz = np.linspace(0, sample_rate / 2, spectrum.shape[-1], dtype=np.float32)
    passed = jnp.broadcast_to(hz, spectrum.shape) <= PASSED * ends
    kept = jnp.fft.irfft(jnp.where(passed, spectrum, 0), samples.shape[-1], axis=-1)
    return jnp.where(ends < sample_rate / 2, kept, samples)


@functools.lru_cache
def hann_window(window: int) -> np.ndarray:
    """The periodic Hann window, ``0.5 - 0.5 cos(2 pi n / window)``, float32 [window]. Do not write to it."""
    return (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(window) / window)).astype(np.float32)


def hz_to_mel(hz: np.ndarray | float) -> np.ndarray:
    """Slaney's mel scale: 200/3 Hz per mel up to 1 kHz, above that a factor of 6.4 per 27 mels.

    Reference: Slaney, Auditory Toolbox (1998).

    >>> float(hz_to_mel(1000.0))
    15.0
    """
    hz = np.asarray(hz, np.float64)
    return np.where(hz < 1000, hz * 3 / 200, 15 + np.log(np.maximum(hz, 1000) / 1000) * 27 / np.log(6.4))


def mel_to_hz(mel: np.ndarray | float) -> np.ndarray:
    """The inverse of `hz_to_mel`.

    >>> float(mel_to_hz(15.0))
    1000.0
    """
    mel = np.asarray(mel, np.float64)
    return np.where(mel < 15, mel * 200 / 3, 1000 * np.exp((np.maximum(mel, 15) - 15) * np.log(6.4) / 27))


def band_edges(sample_rate: int, settings: MelSettings) -> np.ndarray:
    """Edges of the mel bands in Hz, evenly spaced in mels. Band i rises from edge i, peaks at i + 1 and ends at i + 2.

    Returns:
        float64 [num_bands + 2].

    Raises:
        UserError: the lowest band lies above half the sample rate.
    """
    highest_hz = min(settings.highest_hz, sample_rate / 2)
    if settings.lowest_hz >= highest_hz:
        raise UserError(f"sample_rate: {sample_rate} Hz has nothing above lowest_hz, {settings.lowest_hz} Hz")
    return mel_to_hz(np.linspace(hz_to_mel(settings.lowest_hz), hz_to_mel(highest_hz), settings.num_bands + 2))


@functools.lru_cache
def mel_filterbank(sample_rate: int, settings: MelSettings) -> np.ndarray:
    """Triangular filters of height 1 on Slaney's mel scale, not normalised by area.

    Neighbours overlap by half: between the centres of the first and the last band, the filters of a bin add up to 1.

    Returns:
        float32 [window // 2 + 1, num_bands]. Do not write to it.

    Raises:
        UserError: the lowest band lies above half the sample rate, or a band is so narrow that it holds no bin.

    >>> mel_filterbank(16_000, mel_settings(16_000)).shape
    (513, 80)
    """
    bins = np.arange(settings.window // 2 + 1) * (sample_rate / settings.window)
    filters = triangles(bins, band_edges(sample_rate, settings))
    if not filters.any(axis=0).all():
        raise UserError(
            f"num_bands: {settings.num_bands} bands are too narrow for bins of {sample_rate / settings.window:.1f} Hz;"
            f" use fewer bands or a window longer than {settings.window}"
        )
    return filters.astype(np.float32)


def triangles(places: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Triangular filters of height 1: filter i rises from edge i, peaks at edge i + 1 and ends at edge i + 2.

    Returns:
        float64 [places, filters].

    >>> triangles(np.array([1.0, 1.5, 2.0]), np.array([0.0, 1.0, 2.0, 3.0])).tolist()
    [[1.0, 0.0], [0.5, 0.5], [0.0, 1.0]]
    """
    bins = places[:, None]
    rising = (bins - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - bins) / (edges[2:] - edges[1:-1])
    return np.maximum(0, np.minimum(rising, falling))
