"""`Synth`: a trained model, ready to use."""

import math
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path
from typing import Any, overload

import numpy as np

from wavesynth.audio import pitch as pitches
from wavesynth.audio.names import display
from wavesynth.audio.pcm import to_float
from wavesynth.audio.sounds import Sound, samples_of
from wavesynth.config import check_seed
from wavesynth.data.corpus import pitch_of, scan
from wavesynth.data.shards import Shards
from wavesynth.errors import UserError
from wavesynth.evaluation import descriptors
from wavesynth.evaluation.analysis import Analysis
from wavesynth.evaluation.neighbours import nearest_sounds
from wavesynth.families import Request
from wavesynth.sampler import Sampler
from wavesynth.timbre import morph as ways
from wavesynth.timbre.directions import Direction, following, principal
from wavesynth.timbre.timbre import FILLS, Fill, Timbre, check_share, lerp, mean, onset_at, same_length


@dataclass(frozen=True, eq=False)
class Synth(Sampler):
    """A model with its weights. Arrays in, arrays out: float32 in [-1, 1] at `sample_rate`.

    >>> synth = wavesynth.load("runs/drums")
    >>> audio = synth.sample(n=8, seconds=1.0, seed=0, label="kick")        # [8, T]

    Everything that draws takes a seed: the same seed, machine and version give the same samples. What a model of this
    family cannot do is a UserError that says why. Here is what it does with timbres; to sample and to score, see `Sampler`.
    """

    def timbre(self, label: str) -> Timbre:
        """The timbre that stands for a label."""
        number = self.family.dataset.label_index(label)
        timbre = self._timbre(self.family.latent(self.params, number))
        return replace(timbre, pitch=self.family.default_pitch(self.params, number))

    def latents(self, seed: int = 0, n: int = 1, label: str | None = None) -> list[Timbre]:
        """`n` timbres drawn by chance, of one label or any: those of what `sample` plays with that seed."""
        check_seed(seed)
        if n < 1:
            raise UserError(f"n is {n}: ask for at least 1 timbre")
        number = self.family.dataset.label_index(label)
        pitch = self.family.default_pitch(self.params, number)
        return [
            replace(self._timbre(latent), pitch=pitch) for latent in self.family.latents(self.params, n, seed, number)
        ]

    @overload
    def encode(
        self, sound: Sound, sample_rate: int | None = None, *, pitch: float | None = None,
        label: str | None = None, seed: int = 0, progress: bool = False,
    ) -> Timbre: ...  # fmt: skip
    @overload
    def encode(
        self, sound: list[Sound] | tuple[Sound, ...], sample_rate: int | None = None, *, pitch: float | None = None,
        label: str | None = None, seed: int = 0, progress: bool = False,
    ) -> list[Timbre]: ...  # fmt: skip
    def encode(
        self, sound: Any, sample_rate: int | None = None, *, pitch: float | None = None, label: str | None = None,
        seed: int = 0, progress: bool = False,
    ) -> Any:  # fmt: skip
        """The timbre that sounds most like `sound`; of a list of sounds, a list of theirs.

        sample_rate: of samples, Hz; None if it is the synth's. pitch: MIDI number; None looks for it where the model plays
        pitches: in the name of a file (`cello_060_090.wav`, `Cello_C4.wav`), then in the sound (extra `pitch`). label: where
        it is known; None looks for labels too. What is longer than the model's sounds is cut.
        """
        if isinstance(sound, list | tuple):
            return [
                self.encode(one, sample_rate, pitch=pitch, label=label, seed=seed, progress=progress) for one in sound
            ]
        check_seed(seed)
        samples = samples_of(sound, "sound", self.sample_rate, sample_rate)
        onset = float(descriptors.onset_time(samples, self.sample_rate))
        if not math.isfinite(onset):
            name = f" ({display(str(sound))})" if isinstance(sound, str | PathLike) else ""
            raise UserError(f"sound{name} is silence: there is no timbre in it; give a sound that can be heard")
        rate = self.family.frame_rate
        if rate is not None and len(samples) < self.sample_rate / rate:
            warnings.warn(
                f"sound has {len(samples)} samples, and one frame of a timbre takes {round(self.sample_rate / rate)}: it is "
                "padded with silence",
                stacklevel=2,
            )
        pitch = self._heard_pitch(sound, samples) if pitch is None else pitch
        request = Request(seed=seed, label=self.family.dataset.label_index(label), pitch=self._pitch(pitch))
        latent = self.family.encode(self.params, samples, request, progress)
        return replace(self._timbre(latent), pitch=pitch, seconds=len(samples) / self.sample_rate, onset=onset)

    def decode(self, timbre: Timbre, seconds: float | None = None, **options: Any) -> np.ndarray:
        """The sound of a timbre, float32 [T]; the same one each time. `options`: see `blocks`.

        seconds: None for as long as the sound that it was made of.
        """
        return self.sample(1, seconds, timbre=timbre, **options)[0]

    def resynthesize(
        self, blocks: Iterable[np.ndarray], *, pitch: float | None = None, seed: int = 0
    ) -> Iterator[np.ndarray]:
        """What `decode` makes of what `encode` hears, while the sound goes on: blocks float32 [t] of the same sound, as many
        samples as came in, and a frame of the timbre and the encoder's view ahead later. At constant memory.

        blocks: samples [t] of any lengths, at the synth's rate; what is not a sound ends it with a UserError. pitch: MIDI
        number of the sound; None where the model plays none, or the sound has none.

        >>> for block in synth.resynthesize(blocks_of_the_microphone, pitch=57): ...   # doctest: +SKIP
        """
        check_seed(seed)
        if isinstance(blocks, str | PathLike) or getattr(blocks, "ndim", 2) == 1:
            raise UserError("blocks is one sound: give its parts as they come, or encode and decode it whole")
        heard = (samples_of(block, "blocks", self.sample_rate) for block in blocks if len(block))
        return self.family.resynthesize(self.params, heard, Request(seed=seed, pitch=self._pitch(pitch)))

    def morph(
        self, a: Timbre | Sound, b: Timbre | Sound, steps: int = 9, seconds: float | None = None, *,
        even: bool | None = None, match_loudness: bool = True, **options: Any,
    ) -> np.ndarray:  # fmt: skip
        """Sounds on the way from a to b, float32 [steps, T], all of one chance. `options`: see `blocks`.

        a, b: timbres, labels, or sounds, which are encoded first, their onsets in line. even: space the steps so that
        neighbours differ by the same to the ear; None does where sounds are made whole (one that makes them sample by sample
        would take four times as long). match_loudness: bring what lies between to levels that go straight from one end's to the
        other's. Ends of two pitches pass through those between, unless `pitch` is given.
        """
        return self.morph_analysis(
            a, b, steps, seconds, even=even, match_loudness=match_loudness, **options
        ).sounds  # fmt: skip

    def morph_analysis(
        self, a: Timbre | Sound, b: Timbre | Sound, steps: int = 9, seconds: float | None = None, *,
        even: bool | None = None, match_loudness: bool = True, **options: Any,
    ) -> Analysis:  # fmt: skip
        """As `morph`, with the measurements that were made of the sounds: what `exports.write_morph` takes."""
        ways.check_steps(steps)
        first, last = self._points((a, b))
        seconds = self._or_usual(seconds, (first, last))

        def render(shares: np.ndarray) -> np.ndarray:
            return self._render([self._between(first, last, share) for share in shares], seconds, **options)

        even = not self.family.autoregressive if even is None else even
        return ways.morph(render, steps, self.sample_rate, even=even, match_loudness=match_loudness)

    def glide(self, a: Timbre | Sound, b: Timbre | Sound, seconds: float = 4.0, **options: Any) -> np.ndarray:
        """One sound that moves from a to b, float32 [T], at a's pitch unless `pitch` is given. `options`: see `blocks`.

        a, b: timbres, labels or sounds. fill: of `options`, how paths are made to last as long; "stretch" keeps a note's end.
        """
        rate = self.family.glide_rate
        if rate is None:
            self.family.unsupported("glide", "its timbres stay as they are while a sound goes on; use morph")
        fill = options.pop("fill", "hold")
        if fill not in FILLS:
            raise UserError(f"fill is {fill!r}: choose one of {', '.join(FILLS)}")
        if seconds == math.inf:
            raise UserError("seconds is inf: a glide arrives; say after how many seconds")
        frames = max(1, math.ceil(self._num_samples(seconds) / self.sample_rate * rate - 1e-6))
        first, last = self._points((a, b))
        begin, end = (self._frames(timbre, frames, fill) for timbre in (first, last))
        path = [self.family.between(*place) for place in zip(begin, end, np.linspace(0, 1, frames), strict=True)]
        return self.decode(replace(first, latent=np.stack(path), frame_rate=rate), seconds, **options)

    def grid(
        self, corners: Sequence[Timbre | Sound], size: int = 5, seconds: float | None = None, **options: Any
    ) -> np.ndarray:
        """Sounds between two to four corners, float32 [size, size, T]: the first row goes from corner 0 to 1, the last from
        2 to 3 (of three corners, it stays at 2; of two, there is one row, [1, size, T]).

        corners: timbres, labels or sounds. `options`: see `blocks`.
        """
        if not 2 <= len(corners) <= 4:
            raise UserError(f"corners has {len(corners)} members: a grid lies between 2 to 4")
        ways.check_grid_size(size)
        a, b, *others = self._points(corners)
        c, d = (others * 2)[:2] if others else (a, b)
        shares = np.linspace(0, 1, size)
        points = [
            self._between(self._between(a, b, x), self._between(c, d, x), y)
            for y in (shares if others else shares[:1])
            for x in shares
        ]
        sounds = self._render(points, self._or_usual(seconds, (a, b, c, d)), **options)
        return sounds.reshape(-1, size, sounds.shape[1])

    def directions(
        self, sounds: str | PathLike[str] | Sequence[Timbre | Sound], n: int = 4, *, pitch: float | None = None,
        progress: bool = False,
    ) -> list[Direction]:  # fmt: skip
        """Where timbres can be moved to: the `n` principal directions of some sounds, and those along which brightness,
        attack and noisiness grow; with what one step changes, measured on the sounds that are decoded.

        sounds: a folder, or timbres, labels and sounds; at least 3. pitch: to decode at; None is their mean.

        >>> brighter = next(d for d in synth.directions("notes/") if d.name == "brightness")
        >>> bright = synth.decode(timbre + 2 * brighter.step)
        """
        if isinstance(sounds, str | PathLike) and Path(sounds).is_dir():
            sounds = [Path(sounds) / source.file for source in scan(Path(sounds)).files]
        if isinstance(sounds, str | PathLike) or len(sounds) < 3:
            raise UserError("sounds holds fewer than 3 sounds: directions lie between more")
        from tqdm import tqdm

        timbres = self._points(tqdm(sounds, unit="sound", disable=not progress))
        middle = mean(timbres)
        pitch = middle.pitch if pitch is None else pitch
        seconds = self._or_usual(None, timbres)
        points = np.stack([timbre.latent.reshape(-1, timbre.latent.shape[-1]).mean(axis=0) for timbre in timbres])
        described = _described(self._render(timbres, seconds, pitch=pitch), self.sample_rate)
        found = {f"principal {index + 1}": part for index, part in enumerate(principal(points, n))}
        found |= {name: following(points, values) for name, values in described.items()}
        directions = []
        for name, (step, share) in found.items():
            latent = np.float32(step if middle.latent.ndim == 1 else step[None])
            timbre = replace(middle, latent=latent, pitch=None, seconds=None, onset=None)
            sides = self._render([middle - timbre, middle + timbre], seconds, pitch=pitch)
            effect = {what: float(np.diff(two)[0] / 2) for what, two in _described(sides, self.sample_rate).items()}
            directions.append(Direction(name, timbre, share, effect))
        return directions

    def nearest(self, sound: Timbre | Sound, shards: str | PathLike[str], k: int = 5) -> list[tuple[str, float]]:
        """The k training sounds that a sound is nearest to, or that of a timbre or label: file names and log-mel distances in
        decibels."""
        if not isinstance(sound, Timbre):
            sound = self._named(sound) or sound
        samples = self.decode(sound) if isinstance(sound, Timbre) else samples_of(sound, "sound", self.sample_rate)
        source = Shards.open(shards)
        if source.sample_rate != self.sample_rate:
            raise UserError(
                f"shards is of {source.sample_rate:,} Hz, the model of {self.sample_rate:,} Hz: name its own"
            )
        library = ((source.clips[clip].file, to_float(source.samples(clip))) for clip in source.split("train"))
        found = nearest_sounds(samples[None], library, self.sample_rate, k)
        return [(name, float(distance)) for name, distance in zip(found.names[0], found.distances[0], strict=True)]

    def between(self, a: Timbre | Sound, b: Timbre | Sound, t: float, *, extrapolate: bool = False) -> Timbre:
        """The timbre a share t of the way from a to b, as the family goes it; paths with their onsets in line.

        a, b: timbres, labels or sounds. t: 0 to 1, or with `extrapolate` any number.
        """
        check_share(t, extrapolate)
        first, last = self._points((a, b))
        return self._between(first, last, t)

    def _render(self, points: Sequence[Timbre], seconds: float, **options: Any) -> np.ndarray:
        """The sounds of some timbres, float32 [N, T], of one chance: at once where they are of one pitch and made whole."""
        alike = options.get("pitch") is not None or len({point.pitch for point in points}) == 1
        if alike and not self.family.autoregressive:
            return self.sample(len(points), seconds, timbre=points, **options)
        return np.stack([self.decode(point, seconds, **options) for point in points])

    def _timbre(self, latent: np.ndarray) -> Timbre:
        return Timbre(latent, self.fingerprint, self.family.frame_rate)

    def _points(self, ends: Iterable[Timbre | Sound]) -> list[Timbre]:
        """Timbres, also of files, labels and sounds; where they are paths, with their onsets in line."""
        points = [self._point(end) for end in ends]
        known = [point.onset for point in points if point.onset is not None]
        return [onset_at(point, min(known)) for point in points] if known else points

    def _point(self, end: Timbre | Sound) -> Timbre:
        if isinstance(end, Timbre):
            return end
        named = self._named(end)
        return self.encode(end) if named is None else named

    def _named(self, sound: Sound) -> Timbre | None:
        """The timbre of a file or a label; None for a sound."""
        if isinstance(sound, str | PathLike) and Path(sound).suffix == ".json":
            return Timbre.load(sound)
        if isinstance(sound, str) and (sound in self.labels or not Path(sound).exists()):
            return self.timbre(sound)  # which names the labels where it is neither
        return None

    def _between(self, a: Timbre, b: Timbre, t: float) -> Timbre:
        first, last = same_length(self._own(a), self._own(b))
        moved = lerp(a, b, float(t), extrapolate=True)  # what is known of them; the latent goes the family's way
        return replace(moved, latent=self.family.between(first, last, float(t)))

    def _frames(self, timbre: Timbre, frames: int, fill: Fill) -> np.ndarray:
        """A timbre as a path of so many frames, [F, D]."""
        latent = self._own(timbre)
        return np.tile(latent, (frames, 1)) if latent.ndim == 1 else FILLS[fill](latent, frames)

    def _heard_pitch(self, sound: Any, samples: np.ndarray) -> float | None:
        """The pitch that a file's name tells, else the one that is heard, where the model plays pitches."""
        if not self.family.dataset.pitched:
            return None
        named = pitch_of(Path(sound).name) if isinstance(sound, str | PathLike) else None
        if named is not None:
            return named
        if not pitches.available():
            warnings.warn(
                "the pitch of the sound is not known, and it is encoded without one: give pitch, or install the extra "
                "pitch, which tracks it: pip install 'wavesynth-jax[pitch]'",
                stacklevel=3,
            )
            return None
        return pitches.median_pitch(samples, self.sample_rate)


def _described(sounds: np.ndarray, sample_rate: int) -> dict[str, np.ndarray]:
    """Brightness, attack and noisiness of sounds [N, T], each [N], in the units of `Direction.effect`; silence has the mean of
    the others."""
    values = {
        "brightness": np.log2(descriptors.spectral_centroid(sounds, sample_rate)),
        "attack": np.log2(descriptors.attack_time(sounds, sample_rate)),
        "noisiness": np.asarray(descriptors.spectral_flatness(sounds)),
    }
    told = {}
    for name, value in values.items():
        known = np.isfinite(value)
        told[name] = np.where(known, value, np.mean(value, where=known) if known.any() else 0.0).astype(np.float64)
    return told
