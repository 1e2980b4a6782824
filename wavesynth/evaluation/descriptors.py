"""One number per sound for what a listener notices first: brightness, attack, noisiness, level.

Every function takes sounds with any leading axes, [..., num_samples], so that [channels, num_samples] gives one number
per channel. Only `level` depends on the gain. Silence has no timbre: its other descriptors are NaN. So are those of a
sound that holds a NaN.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike, NDArray

from wavesynth.audio.spectral import hann_window, mel_settings, stft_magnitude
from wavesynth.errors import UserError

SILENCE = 2.0**-15  # root mean square of one 16-bit step: a 16-bit file holds nothing below it
SILENCE_DB = float(10 * np.log10(SILENCE**2))  # the level of silence
FLATNESS_FLOOR = 1e-6  # of the mean power, 60 dB below it, so that rounding errors do not decide
ENVELOPE_SECONDS = 0.02  # one period of 50 Hz: the envelope follows the note, not its waveform
# Fractions of the envelope's maximum. 50 % rather than 90 %: a beating organ, a cello that swells or a vibraphone's
# tremolo reach their maximum long after the attack, and at different times for each note.
ATTACK_FROM, ATTACK_TO = 0.1, 0.5


@partial(jax.jit, static_argnames="sample_rate")
def spectral_centroid(samples: jax.Array | np.ndarray, sample_rate: int) -> jax.Array:
    """Centre of mass of the power spectrum, in Hz: the higher, the brighter.

    ``sum_kf hz[f] m[k, f]^2 / sum_kf m[k, f]^2`` with m from `stft_magnitude`. The weights are powers because
    magnitudes let faint broadband noise raise the centroid: noise 50 dB below a tone would raise it by a quarter.
    Loud frames count more than quiet ones.

    Args:
        samples: float [..., num_samples].
        sample_rate: samples per second.

    Returns:
        float32 [...], Hz; NaN for silence. Differentiable; the gradient is zero for silence.

    Reference: Grey and Gordon, Perceptual effects of spectral modifications on musical timbres (1978).

    >>> tone = np.sin(2 * np.pi * 440 * np.arange(16_000) / 16_000)
    >>> round(float(spectral_centroid(tone, 16_000)))
    440
    """
    power, silent = _mean_power(samples, sample_rate)
    hz = np.linspace(0, sample_rate / 2, power.shape[-1], dtype=np.float32)
    centroid = jnp.sum(power * jnp.broadcast_to(hz, power.shape), axis=-1) / jnp.sum(power, axis=-1)
    return jnp.where(silent, jnp.nan, centroid)


@partial(jax.jit, static_argnames="sample_rate")
def spectral_flatness(samples: jax.Array | np.ndarray, sample_rate: int) -> jax.Array:
    """Geometric over arithmetic mean of the power spectrum, in decibels: near 0 for noise, far below for a tone.

    ``10 log10(exp(mean_f ln(p[f] + c a)) / (a + c a))`` with p the power of a bin averaged over the frames, a the mean
    of p over the bins, and the floor c = 1e-6, which limits the result to -60 dB.

    Args:
        samples: float [..., num_samples].
        sample_rate: samples per second.

    Returns:
        float32 [...], decibels in [-60, 0]; NaN for silence. Differentiable; the gradient is zero for silence.

    Reference: Johnston, Transform coding of audio signals using perceptual noise criteria (1988).

    >>> noise = np.random.default_rng(0).normal(0, 0.1, 16_000)
    >>> round(float(spectral_flatness(noise, 16_000)))
    0
    """
    power, silent = _mean_power(samples, sample_rate)
    relative = power / jnp.mean(power, axis=-1, keepdims=True)
    flatness = 10 / np.log(10) * (jnp.mean(jnp.log(relative + FLATNESS_FLOOR), axis=-1) - np.log1p(FLATNESS_FLOOR))
    return jnp.where(silent, jnp.nan, flatness)


def attack_time(samples: ArrayLike, sample_rate: int) -> NDArray[np.float64]:
    """Seconds in which the envelope rises from 10 % to 50 % of its maximum.

    The envelope is the root mean square under a Hann window of 20 ms. Its crossings are interpolated, so the result is
    finer than the 1 ms between two values of the envelope. The window itself rises within about 5 ms, which is the
    shortest attack that can be measured.

    Args:
        samples: float [..., num_samples].
        sample_rate: samples per second, at least 1000.

    Returns:
        float64 [...], seconds; NaN for silence.

    Raises:
        UserError: there are no samples, or the sample rate is too low.

    Reference: Peeters et al., The Timbre Toolbox (2011), the method with fixed thresholds.

    >>> ramp = np.minimum(np.arange(16_000) / 1_600, 1)  # 100 ms
    >>> round(float(attack_time(ramp * np.sin(np.arange(16_000)), 16_000)), 2)
    0.04
    """
    start, stop = _envelope_crossings(samples, sample_rate)
    return np.asarray(stop - start)


def onset_time(samples: ArrayLike, sample_rate: int) -> NDArray[np.float64]:
    """Seconds from the first sample to the onset, where the envelope reaches 10 % of its maximum.

    A sudden onset reads 2 ms late, a slow one late by a tenth of its attack. See `attack_time` for the envelope.

    Args:
        samples: float [..., num_samples].
        sample_rate: samples per second, at least 1000.

    Returns:
        float64 [...], seconds; NaN for silence.

    Raises:
        UserError: there are no samples, or the sample rate is too low.

    >>> late = np.concatenate([np.zeros(8_000), np.sin(np.arange(8_000))])
    >>> round(float(onset_time(late, 16_000)), 2)
    0.5
    """
    start, _ = _envelope_crossings(samples, sample_rate)
    return start


def level(samples: ArrayLike) -> NDArray[np.float64]:
    """Root mean square in decibels relative to 1. Silence reads -90.3 dB, one 16-bit step.

    Args:
        samples: float [..., num_samples].

    Returns:
        float64 [...], decibels.

    Raises:
        UserError: there are no samples.

    >>> round(float(level(np.full(100, 0.1))), 3)
    -20.0
    """
    return 10 * np.log10(np.maximum(_mean_square(_checked(samples)), SILENCE**2))


def _checked(samples: ArrayLike) -> NDArray[np.float32]:
    checked = np.asarray(samples, np.float32)
    if not checked.ndim or not checked.shape[-1]:
        raise UserError(f"samples: shape {checked.shape} holds no samples; give [..., num_samples]")
    return checked


def _mean_square(samples: NDArray[np.float32]) -> NDArray[np.float64]:
    return np.asarray(np.mean(np.square(samples), axis=-1, dtype=np.float64))


def _mean_power(samples: jax.Array | np.ndarray, sample_rate: int) -> tuple[jax.Array, jax.Array]:
    """Power of each bin averaged over the frames [..., bins], and which sounds are silent [...].

    Silence gets power 1 in every bin, so that neither a division by it nor a gradient becomes infinite.
    """
    samples = jnp.asarray(samples, jnp.float32)
    silent = jnp.mean(jnp.square(samples), axis=-1) < SILENCE**2
    mel = mel_settings(sample_rate)
    power = jnp.mean(jnp.square(stft_magnitude(samples, mel.window, mel.hop)), axis=-2)
    return jnp.where(silent[..., None], 1, power), silent


def _envelope_crossings(samples: ArrayLike, sample_rate: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Seconds [...] at which the envelope first reaches `ATTACK_FROM` and `ATTACK_TO` of its maximum; NaN for silence."""
    block = sample_rate // 1000
    if block < 1:
        raise UserError(f"sample_rate: {sample_rate} Hz is too low to measure an envelope; it takes at least 1000 Hz")
    samples = _checked(samples)
    taps = round(ENVELOPE_SECONDS * sample_rate / block)
    hann = hann_window(taps).astype(np.float64)
    leading = [(0, 0)] * (samples.ndim - 1)
    squares = np.pad(np.square(samples), [*leading, (0, -samples.shape[-1] % block)])
    blocks = np.asarray(np.mean(squares.reshape(*samples.shape[:-1], -1, block), axis=-1, dtype=np.float64))
    # From one value before the sound, where the envelope is zero, to where the window has left the sound.
    count = blocks.shape[-1] + taps
    padded = np.pad(blocks, [*leading, (taps, taps)])
    envelope = np.sqrt(sum(hann[i] * padded[..., i : i + count] for i in range(taps)))
    highest = np.max(envelope, axis=-1, keepdims=True)
    sounding = _mean_square(samples) >= SILENCE**2  # also false where a sample is NaN

    def crossing(fraction: float) -> NDArray[np.float64]:
        reached = envelope >= fraction * highest
        after = np.maximum(np.argmax(reached, axis=-1, keepdims=True), 1)
        low, high = (np.take_along_axis(envelope, at, axis=-1) for at in (after - 1, after))
        rise = np.where(high > low, high - low, 1)
        position = after - 1 + (fraction * highest - low) / rise
        return np.where(sounding, position[..., 0] * (block / sample_rate), np.nan)

    return crossing(ATTACK_FROM), crossing(ATTACK_TO)
