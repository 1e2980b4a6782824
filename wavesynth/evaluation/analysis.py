"""Lazy, cached measurements of a set of sounds."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, partial

import jax
import numpy as np
from numpy.typing import ArrayLike, NDArray

from wavesynth.audio.pitch import median_pitch
from wavesynth.audio.spectral import log_mel, mel_settings, num_frames
from wavesynth.errors import UserError
from wavesynth.evaluation import descriptors

COMMON_RMS = 1.0  # root mean square at which sounds are compared, 60 dB above the floor of the log-mel frames
LONGEST_SHIFT = 0.1  # seconds by which onsets are aligned; two sounds further apart differ in more than alignment
GAIN_FREE = ("onsets", "attacks", "centroids_and_flatness", "pitches", "frames", "step_sizes")


@dataclass(frozen=True, eq=False)
class Analysis:
    """Sounds of one length and their measurements.

    Every measurement is an attribute that is computed on first access and kept. Spacing a morph evenly, judging it and
    drawing it need the same ones, so one `Analysis` is passed from each to the next. Of sounds with several channels
    the mean of the channels is measured; `levels` alone counts each channel.

    Args:
        sounds: float [N, num_samples] or [N, channels, num_samples]; kept as float32.
        sample_rate: samples per second.

    Raises:
        UserError: there are no sounds, they are empty, or a sample is not finite.

    >>> tones = np.sin(2 * np.pi * np.array([[220.0], [440.0]]) * np.arange(16_000) / 16_000)
    >>> Analysis(tones, 16_000).centroids.round().tolist()
    [220.0, 440.0]
    """

    sounds: NDArray[np.float32]
    sample_rate: int

    def __post_init__(self) -> None:
        sounds = np.asarray(self.sounds, np.float32)
        if sounds.ndim not in (2, 3) or not sounds.size:
            raise UserError(f"sounds: shape {sounds.shape} holds no sounds; give [N, num_samples]")
        if not np.isfinite(sounds).all():
            raise UserError("sounds: a sample is NaN or infinite; remove it before measuring")
        object.__setattr__(self, "sounds", sounds)

    def __len__(self) -> int:
        return len(self.sounds)

    @cached_property
    def mono(self) -> NDArray[np.float32]:
        """The sounds, or the mean of their channels: float32 [N, num_samples]."""
        return self.sounds if self.sounds.ndim == 2 else self.sounds.mean(axis=1)

    @cached_property
    def levels(self) -> NDArray[np.float64]:
        """`descriptors.level` over all channels: float64 [N], decibels."""
        return descriptors.level(self.sounds.reshape(len(self), -1))

    @cached_property
    def onsets(self) -> NDArray[np.float64]:
        """`descriptors.onset_time`: float64 [N], seconds; NaN for silence."""
        return descriptors.onset_time(self.mono, self.sample_rate)

    @cached_property
    def attacks(self) -> NDArray[np.float64]:
        """`descriptors.attack_time`: float64 [N], seconds; NaN for silence."""
        return descriptors.attack_time(self.mono, self.sample_rate)

    @property
    def centroids(self) -> NDArray[np.float64]:
        """`descriptors.spectral_centroid`: float64 [N], Hz; NaN for silence."""
        return self.centroids_and_flatness[0]

    @property
    def flatness(self) -> NDArray[np.float64]:
        """`descriptors.spectral_flatness`: float64 [N], decibels; NaN for silence."""
        return self.centroids_and_flatness[1]

    @cached_property
    def centroids_and_flatness(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Both spectral descriptors, [N] each, from one XLA program."""
        centroids, flatness = _spectral_descriptors(self.mono, self.sample_rate)
        return np.asarray(centroids, np.float64), np.asarray(flatness, np.float64)

    @cached_property
    def pitches(self) -> NDArray[np.float64]:
        """`audio.pitch.median_pitch`: float64 [N], MIDI numbers; NaN where there is none. Needs the extra `pitch`."""
        tracked = [median_pitch(sound, self.sample_rate) for sound in self.mono]
        return np.array([np.nan if pitch is None else pitch for pitch in tracked])

    @cached_property
    def frames(self) -> NDArray[np.float64]:
        """Log-mel frames of the sounds at one level, with their onsets aligned: float64 [N, frames, bands], decibels."""
        aligned = _normalized(_aligned(self.mono, self.onsets, self.sample_rate))
        # Padding with silence keeps one length, and so one XLA program, whatever the shifts.
        padded = np.pad(aligned, ((0, 0), (0, self.mono.shape[1] - aligned.shape[1])))
        count = num_frames(aligned.shape[1], mel_settings(self.sample_rate).hop)
        return np.asarray(log_mel(padded, self.sample_rate), np.float64)[:, :count]

    @cached_property
    def step_sizes(self) -> NDArray[np.float64]:
        """Distance of each sound to the next, float64 [N - 1], decibels: the mean absolute difference of `frames`."""
        return np.abs(np.diff(self.frames, axis=0)).mean(axis=(1, 2))

    def scaled(self, gains: ArrayLike) -> Analysis:
        """The sounds times `gains` [N], float. What does not depend on the gain is not measured again."""
        factors = np.asarray(gains, np.float32).reshape(-1, *[1] * (self.sounds.ndim - 1))
        scaled = Analysis(self.sounds * factors, self.sample_rate)
        before, after = (descriptors.level(each.mono) <= descriptors.SILENCE_DB for each in (self, scaled))
        if np.array_equal(
            before, after
        ):  # a gain may push a sound below the level of silence, where it has no descriptors
            scaled.__dict__.update({name: self.__dict__[name] for name in GAIN_FREE if name in self.__dict__})
        return scaled


@partial(jax.jit, static_argnames="sample_rate")
def _spectral_descriptors(sounds: jax.Array, sample_rate: int) -> tuple[jax.Array, jax.Array]:
    return descriptors.spectral_centroid(sounds, sample_rate), descriptors.spectral_flatness(sounds, sample_rate)


def _aligned(sounds: NDArray[np.float32], onsets: NDArray[np.float64], sample_rate: int) -> NDArray[np.float32]:
    """Sounds shifted to the earliest onset, and cut to the samples that all of them have.

    They are cut, not padded: silence at the end would count as a difference from sounds that were shifted less.
    """
    if np.isnan(onsets).all():
        return sounds
    shifts = np.nan_to_num(onsets - np.nanmin(onsets))  # a silent sound is not shifted
    # At most a quarter of a short sound, so that there is something left to compare.
    shifts = np.minimum(np.round(np.minimum(shifts, LONGEST_SHIFT) * sample_rate), sounds.shape[1] // 4).astype(int)
    length = sounds.shape[1] - shifts.max()
    return np.stack([sound[shift : shift + length] for sound, shift in zip(sounds, shifts)])


def _normalized(sounds: NDArray[np.float32]) -> NDArray[np.float32]:
    """Each sound at `COMMON_RMS`. Silence stays silent: it is not amplified into noise."""
    rms = np.sqrt(np.mean(np.square(sounds, dtype=np.float64), axis=-1, keepdims=True))
    gain = np.where(rms < descriptors.SILENCE, 1, COMMON_RMS / np.maximum(rms, descriptors.SILENCE))
    return (sounds * gain).astype(np.float32)
