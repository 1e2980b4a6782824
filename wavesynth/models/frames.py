"""Sound as hops and as overlapping windows, and the excitation of a decoder of frames, generated from any hop on.

A hop is a run of samples [B, H, hop]. A window spans several hops, and windows begin one hop apart. Everything works hop by
hop, so that blocks of any length add up to the whole.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key, UInt

from wavesynth.models.excitation import hertz


def windowed(hops: Float[Array, "batch hops hop"], window: int) -> Float[Array, "batch windows {window}"]:
    """The windows that begin with each hop, as far as they are whole.

    Args:
        hops: consecutive runs of samples.
        window: samples of a window, a multiple of the hop.

    Returns:
        ``hops - window / hop + 1`` windows.

    >>> windowed(jnp.arange(6.0).reshape(1, 3, 2), 4)[0].tolist()
    [[0.0, 1.0, 2.0, 3.0], [2.0, 3.0, 4.0, 5.0]]
    """
    each = window // hops.shape[-1]
    count = hops.shape[1] - each + 1
    return jnp.concatenate([hops[:, i : i + count] for i in range(each)], axis=-1)


def overlapped(
    windows: Float[Array, "batch frames window"], hop: int, before: Float[Array, "batch overhang {hop}"]
) -> tuple[Float[Array, "batch frames {hop}"], Float[Array, "batch overhang {hop}"]]:
    """Overlap-add: the sum of windows, each in its place.

    Args:
        windows: they begin `hop` samples apart.
        hop: samples.
        before: what the windows before these still add, ``window / hop - 1`` hops.

    Returns:
        The hops that are complete, and what these windows add to those that follow.
    """
    count, each = windows.shape[1], windows.shape[2] // hop
    parts = [jnp.pad(windows[..., i * hop : (i + 1) * hop], ((0, 0), (i, each - 1 - i), (0, 0))) for i in range(each)]
    total = sum(parts) + jnp.pad(before, ((0, 0), (0, count), (0, 0)))
    return total[:, :count], total[:, count:]


def noise(
    keys: Key[Array, " batch"], first: UInt[Array, ""], count: int, hop: int
) -> Float[Array, "batch {count} {hop}"]:
    """White noise of variance 1. Each hop depends on its key and its number alone.

    It is uniform, which costs less than Gaussian noise and sounds the same once it is filtered.

    Args:
        keys: one for each row.
        first: number of the first hop.
        count: number of hops.
        hop: samples.

    >>> key, two = jax.random.split(jax.random.key(0), 1), jnp.uint32(2)
    >>> bool((noise(key, two, 1, 8)[:, 0] == noise(key, jnp.uint32(0), 3, 8)[:, 2]).all())
    True
    """

    def one(key: Array, number: Array) -> Array:
        return jax.random.uniform(jax.random.fold_in(key, number), (hop,), minval=-(3**0.5), maxval=3**0.5)

    numbers = first + jnp.arange(count, dtype=jnp.uint32)
    return jax.vmap(jax.vmap(one, in_axes=(None, 0)), in_axes=(0, None))(keys, numbers)


def pulses(
    pitch: Float[Array, " batch"], first: UInt[Array, ""], count: int, hop: int, sample_rate: float
) -> Float[Array, "batch {count} {hop}"]:
    """A pulse train: the sum of cosines of amplitude 1 at all multiples of a pitch's frequency below half the sample rate.

    The sum of K cosines has a closed form, ``sin((K + 1/2) a) / (2 sin(a / 2)) - 1/2``. Phases are 32-bit integers, 2^32 to
    the turn. They wrap around by themselves and are as exact after a day as at the beginning.

    Args:
        pitch: MIDI numbers; NaN for none, which gives silence.
        first: number of the first hop.
        count: number of hops.
        hop: samples.
        sample_rate: Hz.
    """
    frequency = hertz(jnp.where(jnp.isnan(pitch), 0.0, pitch))
    step = (frequency * (2.0**32 / sample_rate)).astype(jnp.uint32)
    place = first * np.uint32(hop) + jnp.arange(count * hop, dtype=jnp.uint32)
    phase = jax.lax.bitcast_convert_type(step[:, None] * place[None], jnp.int32)
    turns = phase.astype(jnp.float32) * np.float32(2.0**-32)  # -1/2 to 1/2
    highest = (jnp.ceil(sample_rate / 2 / frequency) - 1)[:, None]
    many = (highest + 0.5) * turns
    below = jnp.where(phase == 0, 1.0, 2 * jnp.sin(np.pi * turns))
    total = jnp.where(phase == 0, highest, jnp.sin(2 * np.pi * (many - jnp.round(many))) / below - 0.5)
    return jnp.where(jnp.isnan(pitch)[:, None], 0.0, total).reshape(len(pitch), count, hop)


def tones(
    frequencies: np.ndarray, first: UInt[Array, ""], count: int, hop: int, sample_rate: float
) -> tuple[Float[Array, "{count} tones"], Float[Array, "{count} tones"]]:
    """The cosines and the sines of the phases of steady tones at the beginning of each hop, as exact as `pulses`.

    Args:
        frequencies: float [G], Hz.
        first: number of the first hop.
        count: number of hops.
        hop: samples.
        sample_rate: Hz.

    >>> [part.round(3).astype(int).tolist() for part in tones(np.array([1_000.0]), jnp.uint32(0), 2, 4, 16_000)]
    [[[1], [0]], [[0], [1]]]
    """
    steps = np.round(frequencies * (2.0**32 / sample_rate)).astype(np.uint32)
    place = (first + jnp.arange(count, dtype=jnp.uint32)) * np.uint32(hop)
    phase = jax.lax.bitcast_convert_type(place[:, None] * steps[None], jnp.int32)
    angle = phase.astype(jnp.float32) * np.float32(np.pi * 2.0**-31)
    return jnp.cos(angle), jnp.sin(angle)


def tone_spectra(frequencies: np.ndarray, taper: np.ndarray, sample_rate: float) -> np.ndarray:
    """The spectra of tapered windows that tones of phase 0 begin with, then of those a quarter turn later.

    A window that begins with the phase p is ``cos(p)`` times the first and ``sin(p)`` times the second.

    Args:
        frequencies: float [G], Hz.
        taper: float [window].
        sample_rate: Hz.

    Returns:
        float32 [2 G, 2 bins]: real, then imaginary parts.
    """
    angle = 2 * np.pi * np.outer(frequencies, np.arange(len(taper))) / sample_rate
    spectra = np.fft.rfft(np.concatenate([np.cos(angle), -np.sin(angle)]) * taper)
    return np.concatenate([spectra.real, spectra.imag], axis=1).astype(np.float32)


def ramps(
    points: Float[Array, "batch points"], before: Float[Array, "batch 1"], length: int
) -> Float[Array, "batch samples"]:
    """Straight lines of `length` samples to each point, the first from `before`: [batch, points length].

    >>> ramps(jnp.array([[1.0, 0.0]]), jnp.array([[0.0]]), 2).tolist()
    [[0.5, 1.0, 0.5, 0.0]]
    """
    begin = jnp.concatenate([before, points[:, :-1]], axis=1)[..., None]
    share = (np.arange(1, length + 1, dtype=np.float32) / length)[None, None]
    return (begin + (points[..., None] - begin) * share).reshape(len(points), -1)
