"""What an ear notices first about a timbre, one number a sound: brightness, attack, noisiness.

Pure functions of arrays with any leading axes, one number for each sound. None depends on the sound's gain. Silence has
no timbre: every descriptor of it is NaN, and its gradient there is zero.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from wavesynth.audio.spectral import DEFAULT_MEL, hann_window, stft_magnitude
from wavesynth.errors import UserError

SILENCE = 2.0**-15  # root mean square of one step of 16 bits: what is below it is not in the file
FLATNESS_FLOOR = 1e-6  # 60 dB below the mean power: where a spectrogram shows nothing, rounding must not decide
ENVELOPE_SECONDS = 0.02  # covers a period of 50 Hz, so that the envelope follows the note and not its waveform
# Shares of the highest envelope. To half and not to 90 %: an organ that beats, a cello that swells, a vibraphone's
# tremolo reach their height long after they have begun, one note of an instrument at 8 ms, the next at 70.
ATTACK_FROM, ATTACK_TO = 0.1, 0.5


@partial(jax.jit, static_argnames="sample_rate")
def spectral_centroid(samples: jax.Array | np.ndarray, sample_rate: int) -> jax.Array:
    """Centre of mass of the power spectrum in Hz: the higher, the brighter.

    ``sum_kf hz[f] m[k, f]^2 / sum_kf m[k, f]^2`` with m as `stft_magnitude` gives it. Weighted by power and not by
    magnitude, so that faint noise over all bins does not pull a tone's centroid upwards: at 50 dB below a tone it
    would by a quarter. Loud frames count more than the decay.

    Args:
        samples: float [..., num_samples].
        sample_rate: samples per second.

    Returns:
        float32 [...], Hz; NaN for silence. Differentiable.

    Reference: Grey and Gordon, Perceptual effects of spectral modifications on musical timbres (1978).

    >>> tone = np.sin(2 * np.pi * 440 * np.arange(16_000) / 16_000)
    >>> round(float(spectral_centroid(tone, 16_000)))
    440
    """
    power, silent = _mean_power(samples)
    hz = np.arange(power.shape[-1], dtype=np.float32) * np.float32(sample_rate / DEFAULT_MEL.window)
    centroid = jnp.sum(power * jnp.broadcast_to(hz, power.shape), axis=-1) / jnp.sum(power, axis=-1)
    return jnp.where(silent, jnp.nan, centroid)


@jax.jit
def spectral_flatness(samples: jax.Array | np.ndarray) -> jax.Array:
    """Geometric over arithmetic mean of the power spectrum in decibels: near 0 is noise, far below is a tone.

    ``10 log10(exp(mean_f ln(p[f] + c a)) / (a + c a))`` with p the power of a bin averaged over the frames, a its mean over
    the bins, c = 1e-6 a floor: it cannot read less than -60 dB.

    Args:
        samples: float [..., num_samples].

    Returns:
        float32 [...], decibels in [-60, 0]; NaN for silence. Differentiable.

    Reference: Johnston, Transform coding of audio signals using perceptual noise criteria (1988).

    >>> noise = np.random.default_rng(0).normal(0, 0.1, 16_000)
    >>> round(float(spectral_flatness(noise)))
    0
    """
    power, silent = _mean_power(samples)
    relative = power / jnp.mean(power, axis=-1, keepdims=True)
    flatness = 10 / np.log(10) * (jnp.mean(jnp.log(relative + FLATNESS_FLOOR), axis=-1) - np.log1p(FLATNESS_FLOOR))
    return jnp.where(silent, jnp.nan, flatness)


@partial(jax.jit, static_argnames="sample_rate")
def attack_time(samples: jax.Array | np.ndarray, sample_rate: int) -> jax.Array:
    """Seconds in which the envelope rises from 10 % to 50 % of its highest value.

    The envelope is the root mean square under a Hann window of 20 ms; its crossings are interpolated, so that two
    attacks a fraction of a millisecond apart differ. The window itself rises in about 5 ms: no attack reads less.

    Args:
        samples: float [..., num_samples].
        sample_rate: samples per second.

    Returns:
        float32 [...], seconds; NaN for silence. A time between two crossings: its gradient tells only how those move.

    Raises:
        UserError: the sample rate is too low for an envelope.

    Reference: Peeters et al., The Timbre Toolbox (2011), the method with fixed thresholds.

    >>> ramp = np.minimum(np.arange(16_000) / 1_600, 1)  # 100 ms
    >>> round(float(attack_time(ramp * np.sin(np.arange(16_000)), 16_000)), 2)
    0.04
    """
    start, stop, silent = _attack(samples, sample_rate)
    return jnp.where(silent, jnp.nan, stop - start)


@partial(jax.jit, static_argnames="sample_rate")
def onset_time(samples: jax.Array | np.ndarray, sample_rate: int) -> jax.Array:
    """Seconds from the first sample to the onset, where `attack_time` begins to count.

    A sudden onset reads 2 ms late, a slow one by a tenth of its attack.

    Args, raises and reference: as `attack_time`.

    Returns:
        float32 [...], seconds; NaN for silence.
    """
    start, _, silent = _attack(samples, sample_rate)
    return jnp.where(silent, jnp.nan, start)


@jax.jit
def level(samples: jax.Array | np.ndarray) -> jax.Array:
    """Root mean square in decibels relative to 1; silence reads -90.3 dB, one step of 16 bits.

    Args:
        samples: float [..., num_samples].

    Returns:
        float32 [...]. Differentiable.

    >>> round(float(level(np.full(100, 0.1))), 3)
    -20.0
    """
    return 10 * jnp.log10(jnp.maximum(_mean_square(samples), SILENCE**2))


def _mean_square(samples: jax.Array | np.ndarray) -> jax.Array:
    return jnp.mean(jnp.square(jnp.asarray(samples, jnp.float32)), axis=-1)


def _mean_power(samples: jax.Array | np.ndarray) -> tuple[jax.Array, jax.Array]:
    """Power of each bin averaged over the frames [..., bins], and which sounds are silent [...].

    Silence is given the power 1 in every bin, so that what is divided by it, or its gradient, stays finite.
    """
    silent = _mean_square(samples) < SILENCE**2
    power = jnp.mean(jnp.square(stft_magnitude(samples)), axis=-2)
    return jnp.where(silent[..., None], 1, power), silent


def _attack(samples: jax.Array | np.ndarray, sample_rate: int) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Seconds [...] at which the envelope first reaches each share of its highest value, and which sounds are silent."""
    block = sample_rate // 1000
    if block < 1:
        raise UserError(f"sample_rate: {sample_rate} Hz is too low for an envelope; it takes 1000 Hz")
    samples = jnp.asarray(samples, jnp.float32)
    silent = _mean_square(samples) < SILENCE**2
    taps = round(ENVELOPE_SECONDS * sample_rate / block)
    hann = hann_window(taps)
    leading = [(0, 0)] * (samples.ndim - 1)
    squares = jnp.pad(jnp.square(samples), [*leading, (0, -samples.shape[-1] % block)])
    blocks = jnp.mean(squares.reshape(*samples.shape[:-1], -1, block), axis=-1)
    count = blocks.shape[-1] + taps  # from one value before the sound, zero, to where the window has left it
    padded = jnp.pad(blocks, [*leading, (taps, taps)])
    energy = sum(hann[i] * padded[..., i : i + count] for i in range(taps))
    envelope = jnp.sqrt(jnp.where(energy > 0, energy, 0) + jnp.finfo(jnp.float32).tiny)
    highest = jnp.max(envelope, axis=-1, keepdims=True)

    def crossing(share: float) -> jax.Array:
        reached = envelope >= share * highest
        after = jnp.maximum(jnp.argmax(reached, axis=-1, keepdims=True), 1)
        low, high = (jnp.take_along_axis(envelope, at, axis=-1) for at in (after - 1, after))
        rise = jnp.where(high > low, high - low, 1)
        position = after - 1 + (share * highest - low) / rise
        return position[..., 0] * np.float32(block / sample_rate)

    return crossing(ATTACK_FROM), crossing(ATTACK_TO), silent
