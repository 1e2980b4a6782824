"""Translates the options of `Synth` methods into the conditions, latents and request that a family takes."""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from os import PathLike
from typing import Any, get_args

import numpy as np

from wavesynth.audio.sounds import Sound, samples_of
from wavesynth.conditions import Conditions, CurveLike
from wavesynth.config import check_seed
from wavesynth.errors import UserError
from wavesynth.families import Generative, Request, Timbral, require
from wavesynth.families.protocols import Dtype
from wavesynth.options import MOST_SOUNDS, check_count, check_memory, check_pitch, num_samples
from wavesynth.sampling.blocks import finite, until
from wavesynth.sampling.devices import check_process
from wavesynth.sampling.strategies import Strategy
from wavesynth.timbre.interpolation import FILLS, Fill, same_length
from wavesynth.timbre.timbre import Timbre, lerp


@dataclass(frozen=True, eq=False)
class Renderer:
    """Renders sounds for a `Synth`.

    Attributes:
        family: the model's family.
        weights: the parameters, on the device.
        fingerprint: identifies the weights; the synth's timbres carry it.
    """

    family: Any
    weights: dict[str, Any]
    fingerprint: str

    @property
    def sample_rate(self) -> int:
        """Hz."""
        return self.family.dataset.sample_rate

    @property
    def longest(self) -> float:
        """Length of the longest sound that the family generates, seconds; inf if unlimited."""
        return (require(self.family, Generative).length or math.inf) / self.sample_rate

    def samples(self, sound: Sound, argument: str, sample_rate: float | None) -> np.ndarray:
        """A sound as float32 [C, T], at the synth's sample rate and with its channels."""
        return samples_of(sound, argument, self.sample_rate, sample_rate, self.family.dataset.channels)

    def blocks(
        self, n: int = 1, seconds: float = math.inf, *, seed: int = 0, label: str | None = None,
        timbre: Timbre | Sequence[Timbre] | None = None, fill: Fill = "hold", pitch: CurveLike | None = None,
        prime: Sound | None = None, sample_rate: float | None = None, temperature: float = 1.0, top_k: int | None = None,
        top_p: float | None = None, truncation: float = 1.0, implementation: str | None = None,
        dtype: Dtype | None = None,
    ) -> Iterator[np.ndarray]:  # fmt: skip
        """Generates blocks, float32 [n, C, t]. All rendering goes through this method."""
        check_process()
        family = require(self.family, Generative)
        check_count("n", n, 1, MOST_SOUNDS, "sounds")
        if label is not None and timbre is not None:
            raise UserError(f"label is {label!r} and a timbre is given too: give one of them")
        fill = checked_fill(fill)
        check_seed(seed)
        timbres = [timbre] * n if isinstance(timbre, Timbre) else listed(timbre)
        if timbre is not None and len(timbres) != n:
            raise UserError(f"timbre has {len(timbres)} members for n = {n} sounds: give one, or one for each")
        left = num_samples(seconds, self.sample_rate, self.longest)
        conditions = self.conditions(n, seed, label, timbres, pitch)
        request = Request(
            seed=seed, latents=self.latents(timbres, conditions, seed, seconds, fill),
            prime=None if prime is None else self.samples(prime, "prime", sample_rate),
            strategy=Strategy(temperature, top_k, top_p), truncation=truncation,
            shared_noise=timbre is not None and not isinstance(timbre, Timbre), endless=seconds == math.inf,
            implementation=implementation, dtype=dtype,
        )  # fmt: skip
        return until(finite(family.generate(self.weights, conditions, request)), left)

    def conditions(
        self, n: int, seed: int, label: str | None, timbres: Sequence[Timbre], pitch: CurveLike | None
    ) -> Conditions:
        """The conditions of n sounds. Missing labels and pitches are drawn from those of the training sounds."""
        dataset = self.family.dataset
        index, given = self.label_index(label, self.family.samples_by_label), check_pitch(pitch, dataset)
        if timbres:
            learned_without = any(pitch < 0 for _, pitch in dataset.typical)
            default = None if learned_without else dataset.median_pitch()
            drawn = [(-1, default if timbre.pitch is None else timbre.pitch) for timbre in timbres]
        else:
            drawn = [dataset.draw_typical(seed, row, index) for row in range(n)]
        labels, pitches = zip(*drawn, strict=True)
        if given is not None:
            pitches = [given] * n
        elif not dataset.pitched:
            pitches = [None] * n
        return Conditions.constant(labels, len(dataset.labels), pitches)

    def conditions_of_sound(self, label: str | None, pitch: CurveLike | None) -> Conditions:
        """The conditions of one existing sound. A missing label or pitch counts as unknown and is not drawn."""
        dataset = self.family.dataset
        index = self.label_index(label, self.family.label_conditioned)
        return Conditions.constant([index], len(dataset.labels), [check_pitch(pitch, dataset)])

    def label_index(self, label: str | None, used: bool) -> int:
        """The index of a label; -1 for None.

        Args:
            label: the label that the user gave.
            used: whether it would have an effect.

        Raises:
            UserError: the model does not know the label, or the label would be ignored.
        """
        index = self.family.dataset.label_index(label)
        if label is not None and not used:
            self.family.unsupported(
                f"use the label {label!r}",
                "it was made without label conditioning; leave label out, or train a wavenet with vector_channels above 0",
            )
        return index

    def latents(
        self, timbres: Sequence[Timbre], conditions: Conditions, seed: int, seconds: float, fill: Fill
    ) -> np.ndarray | None:
        """One latent per sound: [n, D], or [n, F, D] with F frames in `seconds`; None if the family draws its own."""
        rate = timbres[0].frame_rate if timbres else getattr(self.family, "frame_rate", None)
        if not timbres and rate is None:
            return None
        latents = [self.latent_of(timbre) for timbre in timbres]
        if not timbres:
            latents = list(require(self.family, Timbral).draw(self.weights, seed, conditions.label_indices))
        if len({(latent.ndim, latent.shape[-1]) for latent in latents}) > 1:
            raise UserError("timbre mixes points and paths: give timbres of one kind")
        if rate is None:
            return np.stack(latents)
        if seconds == math.inf:
            if fill != "hold":
                raise UserError(f"fill is {fill!r} and the sound is endless: an endless sound needs fill='hold'")
            return np.stack(same_length(*latents))
        frames = max(1, math.ceil(seconds * rate - 1e-6))
        check_memory(len(latents), frames, latents[0].shape[-1])
        return np.stack([FILLS[fill](latent, frames) for latent in latents])

    def path(self, timbre: Timbre, frames: int, fill: Fill) -> np.ndarray:
        """A timbre as a path [F, D] with F = `frames`."""
        latent = self.latent_of(timbre)
        return np.tile(latent, (frames, 1)) if latent.ndim == 1 else FILLS[fill](latent, frames)

    def between(self, a: Timbre, b: Timbre, t: float) -> Timbre:
        first, last = same_length(self.latent_of(a), self.latent_of(b))
        between = lerp(
            a, b, float(t), extrapolate=True
        )  # for pitch, length and onset; the family interpolates the latent
        if t in (0, 1):  # an end keeps its own pitch, even if that is None
            between = replace(between, pitch=(a, b)[int(t)].pitch)
        return replace(between, latent=require(self.family, Timbral).between(first, last, float(t)))

    def latent_of(self, timbre: Timbre) -> np.ndarray:
        """The latent of a timbre, after checking that it belongs to this synth and has the right form."""
        if timbre.synth != self.fingerprint:
            raise UserError(
                f"the timbre belongs to synth {timbre.synth}, but this is {self.fingerprint}: encode it with this synth"
            )
        width = require(self.family, Timbral).latent_channels
        if timbre.latent.shape[-1] != width:
            raise UserError(
                f"the timbre's latent has width {timbre.latent.shape[-1]}, but this synth's have {width}: encode it again"
            )
        rates = self.family.frame_rate, self.family.glide_rate
        if timbre.latent.ndim == 1 and self.family.frame_rate is not None:
            raise UserError("the timbre is a point, but this synth's timbres are paths: encode it again")
        if timbre.latent.ndim == 2 and rates == (None, None):
            raise UserError("the timbre is a path, but this synth's timbres are points: encode it again")
        if timbre.latent.ndim == 2 and timbre.frame_rate not in rates:
            known = next(rate for rate in rates if rate is not None)
            raise UserError(
                f"the timbre has {timbre.frame_rate or 0:g} frames per second, but this synth's have {known:g}: encode it again"
            )
        return timbre.latent

    def length(self, seconds: float | None, timbre: Timbre | Sequence[Timbre] | None) -> float:
        """`seconds` if given; else the model's own length, that of the longest timbre, or a typical clip length."""
        if seconds is not None:
            return seconds
        if require(self.family, Generative).length:
            return self.longest
        known: list[float] = []
        for each in listed(timbre):
            if each.seconds or each.frame_rate:
                known.append(each.seconds or len(each.latent) / (each.frame_rate or 1.0))
        if known:
            return max(known)
        typical = getattr(self.family, "frame_rate", None) and self.family.dataset.one_shots
        return min(self.family.dataset.clip_seconds, 2.0) if typical else 1.0


def listed(timbre: Any) -> list[Timbre]:
    """The option `timbre` as a list: empty, one timbre, or one per sound."""
    if timbre is None or isinstance(timbre, Timbre):
        return [] if timbre is None else [timbre]
    if isinstance(timbre, str | PathLike) or not isinstance(timbre, Iterable):
        raise UserError(f"timbre is {timbre!r}: give a Timbre, or one per sound; `encode` turns a sound into one")
    members = list(timbre)
    for member in members:
        if not isinstance(member, Timbre):
            kind = type(member).__name__
            raise UserError(f"timbre contains a {kind}: give a Timbre, or one per sound")
    return members


def checked_fill(fill: Any) -> Fill:
    if fill not in FILLS:
        raise UserError(f"fill is {fill!r}: choose one of {', '.join(get_args(Fill))}")
    return fill
