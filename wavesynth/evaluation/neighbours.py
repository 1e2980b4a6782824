"""The training sounds nearest to some samples, and whether a model has memorised its training sounds."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from os import PathLike
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike, NDArray

from wavesynth.audio.pcm import to_float
from wavesynth.audio.sounds import samples_of
from wavesynth.audio.spectral import MelSettings, log_mel, mel_settings, num_frames, relative_mel
from wavesynth.data.batches import mono
from wavesynth.data.shards import Shards
from wavesynth.errors import UserError
from wavesynth.sampling.devices import check_process
from wavesynth.timbre.points import Point
from wavesynth.timbre.timbre import Timbre

if TYPE_CHECKING:
    from wavesynth.synth import Synth

BLOCK_SAMPLES = 2**20  # of the library, held at once: 4 MB; their spectra are computed one by one
SAME = 0.01  # decibels; rounding errors alone give about 0.001


@dataclass(frozen=True)
class Neighbours:
    """The nearest sounds of a library to each of n samples.

    Attributes:
        names: [n][k], the nearest first.
        distances: float32 [n, k], decibels.
    """

    names: tuple[tuple[str, ...], ...]
    distances: NDArray[np.float32]


@dataclass(frozen=True)
class Memorization:
    """Median distance to the nearest training sound, in decibels.

    A model that memorised its training sounds has a `generated` far below `held_out`.

    Attributes:
        generated: of the model's samples.
        held_out: of real sounds that were not trained on.
        silence: of silence.
    """

    generated: float
    held_out: float
    silence: float


def nearest_sounds(
    samples: ArrayLike,
    library: Iterable[tuple[str, ArrayLike]],
    sample_rate: int,
    k: int = 1,
    *,
    mel: MelSettings | None = None,
    block_samples: int = BLOCK_SAMPLES,
) -> Neighbours:
    """The k sounds of a library nearest to each sample.

    The distance is `log_mel_distance`, the mean absolute difference of the log-mel frames in decibels. Both sounds are
    compared from their first sample on, and the shorter one is padded with silence. Gain counts: a copy at half the
    level is 6 dB away, as far as another piece of the same noise. To ignore gain, bring all sounds to one level first.
    Sounds at equal distances keep the library's order.

    The library is read once, in blocks, so that memory does not grow with it.

    Args:
        samples: float [n, num_samples].
        library: names and sounds, float [num_samples_i], of any lengths.
        sample_rate: samples per second of all.
        k: number of neighbours per sample.
        mel: of the spectra that are compared; None for those of `mel_settings`, with a floor 60 dB below full scale.
        block_samples: samples of the library to hold at once; a longer sound is a block of its own.

    Returns:
        Names and distances.

    Raises:
        UserError: a shape does not fit, a sample is not finite, or the library has fewer than k sounds.

    >>> noise = np.random.default_rng(0).normal(0, 0.1, (2, 4_000))
    >>> nearest_sounds(noise[1:], [("a", noise[0]), ("b", noise[1])], sample_rate=16_000).names
    (('b',),)
    """
    samples = _checked_samples("samples", samples)
    if k < 1:
        raise UserError(f"k: {k} must be at least 1")
    # Padded by one window: all later frames are at the floor, and are not kept.
    mel = mel or mel_settings(sample_rate)
    sample_mel = log_mel(np.pad(samples, ((0, 0), (0, mel.window))), sample_rate, mel)
    names: list[str] = []
    numbers = np.zeros((len(samples), 0), np.int64)
    distances = np.zeros((len(samples), 0), np.float32)
    for block_names, block, lengths in _blocks(library, block_samples, mel.window):
        frames = [num_frames(max(int(length), samples.shape[1]), mel.hop) for length in lengths]
        counts = np.array(frames, np.int32)
        found = np.asarray(_distances(sample_mel, block, counts, sample_rate, mel))[:, : len(block_names)]
        distances = np.concatenate([distances, found], axis=1)
        count = len(names) + np.arange(len(block_names))
        numbers = np.concatenate([numbers, np.broadcast_to(count, found.shape)], axis=1)
        order = np.argsort(distances, axis=1, kind="stable")[:, :k]
        distances = np.take_along_axis(distances, order, axis=1)
        numbers = np.take_along_axis(numbers, order, axis=1)
        names += block_names
    if len(names) < k:
        raise UserError(
            f"library: {len(names)} sounds are fewer than k = {k} neighbours; give more sounds or a smaller k"
        )
    return Neighbours(tuple(tuple(names[number] for number in row) for row in numbers), distances)


def nearest(
    synth: Synth, sound: Point, shards: str | PathLike[str], k: int = 5, *, sample_rate: float | None = None
) -> list[tuple[str, float]]:
    """Finds the training sounds nearest to a sound, or to the sound of a timbre or label.

    Args:
        synth: the synth.
        sound: a sound, a timbre or a label.
        shards: the shards that the synth was trained on.
        k: number of training sounds to return.
        sample_rate: sample rate of a sound given as an array, Hz; None for the synth's.

    Returns:
        File names and log-mel distances in decibels, the nearest first. The floor lies 80 dB below the level of the sounds
        that the synth was trained on.

    Raises:
        UserError: the shards have another sample rate, or fewer than k training sounds.

    >>> ws.nearest(ws.load("runs/mine"), "sounds/kick/kick.flac", "shards/", k=1)       # doctest: +SKIP
    [('kick/kick.flac', 0.0)]
    """
    check_process()
    if isinstance(sound, Timbre) or (isinstance(sound, str) and (sound in synth.labels or sound.endswith(".json"))):
        (timbre,) = synth.timbres([sound])
        samples = mono(np.atleast_2d(synth.decode(timbre)))
    else:
        samples = mono(samples_of(sound, "sound", synth.sample_rate, sample_rate, synth.channels))
    source = Shards.open(shards)
    if source.sample_rate != synth.sample_rate:
        raise UserError(
            f"shards has {source.sample_rate:,} Hz, the model {synth.sample_rate:,} Hz: give the shards it was trained on"
        )
    library = (
        (source.clips[clip].file, mono(to_float(source.samples(clip)))) for clip in source.split("train")
    )  # fmt: skip
    mel = relative_mel(synth.sample_rate, synth.family.dataset.level_db)
    found = nearest_sounds(samples[None], library, synth.sample_rate, k, mel=mel)
    return [(name, float(distance)) for name, distance in zip(found.names[0], found.distances[0], strict=True)]


def memorization(
    samples: ArrayLike,
    held_out: ArrayLike,
    library: Iterable[tuple[str, ArrayLike]],
    sample_rate: int,
) -> Memorization:
    """Median distances of samples, of held-out sounds and of silence to their nearest training sounds.

    Samples and held-out sounds must have the same length, because shared silence at the end makes any two sounds more similar.

    Args:
        samples: float [n, num_samples], the model's.
        held_out: float [m, num_samples], real.
        library: names and sounds of the training set.
        sample_rate: samples per second of all.

    Returns:
        The medians.

    Raises:
        UserError: as `nearest_sounds`, or the lengths differ, or most held-out sounds are in the library.

    >>> random = np.random.default_rng(0)
    >>> trained, held_out = random.normal(0, 0.1, (2, 3, 4_000))
    >>> library = [(str(number), sound) for number, sound in enumerate(trained)]
    >>> copies = memorization(trained, held_out, library, sample_rate=16_000)
    >>> copies.generated < 0.01 < copies.held_out
    True
    """
    samples, held_out = _checked_samples("samples", samples), _checked_samples("held_out", held_out)
    if samples.shape[1] != held_out.shape[1]:
        raise UserError(
            f"held_out: sounds of {held_out.shape[1]} samples, but the model's have {samples.shape[1]}; cut or pad them"
        )
    compared = np.concatenate([samples, held_out, np.zeros_like(samples[:1])])
    distances = nearest_sounds(compared, library, sample_rate).distances[:, 0]
    generated, real = distances[: len(samples)], distances[len(samples) : -1]
    metrics = Memorization(float(np.median(generated)), float(np.median(real)), float(distances[-1]))
    if metrics.held_out < SAME:
        raise UserError("held_out: most sounds are in the library too; give sounds that were not trained on")
    return metrics


def _checked_samples(name: str, samples: ArrayLike) -> NDArray[np.float32]:
    checked = np.asarray(samples, np.float32)
    if checked.ndim != 2 or not checked.size:
        raise UserError(f"{name}: shape {checked.shape} holds no sounds; give [n, num_samples]")
    if not np.isfinite(checked).all():
        raise UserError(f"{name}: a sample is NaN or infinite; remove it first")
    return checked


def _blocks(
    library: Iterable[tuple[str, ArrayLike]], block_samples: int, window: int
) -> Iterator[tuple[list[str], NDArray[np.float32], NDArray[np.int64]]]:
    """Names, sounds [rows, padded] and their true lengths [rows]. There may be more rows than names; they are empty.

    Lengths are padded to powers of two, and the number of rows depends only on that length: few shapes to compile.
    """
    names: list[str] = []
    sounds: list[NDArray[np.float32]] = []
    longest = 0

    def block() -> tuple[list[str], NDArray[np.float32], NDArray[np.int64]]:
        rows = np.zeros((max(1, block_samples // longest), longest), np.float32)
        for row, sound in zip(rows, sounds):
            row[: len(sound)] = sound
        lengths = np.zeros(len(rows), np.int64)
        lengths[: len(sounds)] = [len(sound) for sound in sounds]
        return names, rows, lengths

    for name, given in library:
        sound = np.asarray(given, np.float32)
        if sound.ndim != 1 or not sound.size or not np.isfinite(sound).all():
            raise UserError(
                f"library: {name!r} of shape {sound.shape} is not a sound; give finite samples [num_samples]"
            )
        # With room for the last window, which reaches beyond the end of the sound.
        padded = 1 << (len(sound) + window - 1).bit_length()
        if sounds and (len(sounds) + 1) * max(longest, padded) > block_samples:
            yield block()
            names, sounds, longest = [], [], 0
        names.append(name)
        sounds.append(sound)
        longest = max(longest, padded)
    if sounds:
        yield block()


@functools.partial(jax.jit, static_argnames=("sample_rate", "settings"))
def _distances(
    sample_mel: jax.Array, block: jax.Array, frames: jax.Array, sample_rate: int, settings: MelSettings
) -> jax.Array:
    """Mean absolute difference [n, rows] over the first `frames` [rows] frames of each pair.

    sample_mel: [n, F, bands]; block: [rows, padded]. Behind its last frame, a sound is at the floor. Behind the F frames
    of the samples the difference is the same for all of them.
    """
    floor = jnp.float32(settings.floor_db)
    known = sample_mel.shape[1]

    def to_all(row: tuple[jax.Array, jax.Array]) -> jax.Array:
        sound, count = row
        mel = log_mel(sound, sample_rate, settings)
        mel = jnp.pad(mel, ((0, max(known - len(mel), 0)), (0, 0)), constant_values=floor)
        within = (jnp.arange(len(mel)) < count)[:, None]
        near = jnp.where(within[None, :known], jnp.abs(sample_mel - mel[None, :known]), 0)
        far = jnp.where(within[known:], mel[known:] - floor, 0)
        return (jnp.sum(near, axis=(1, 2)) + jnp.sum(far)) / (count * mel.shape[-1])

    return jax.lax.map(to_all, (block, frames)).T
