"""`Synth`: a trained model, ready to use."""

import math
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from hashlib import sha256
from os import PathLike
from pathlib import Path
from typing import Any, Unpack, cast, overload

import jax
import numpy as np

from wavesynth.audio import files
from wavesynth.audio.names import display
from wavesynth.audio.sounds import Sound, block_of, is_pair
from wavesynth.audio.streaming import resampled
from wavesynth.conditions import CurveLike
from wavesynth.config import check_seed
from wavesynth.data.batches import mono
from wavesynth.errors import UserError
from wavesynth.evaluation import descriptors
from wavesynth.evaluation.analysis import Analysis
from wavesynth.families import Generative, Live, Scored, Timbral, require
from wavesynth.options import (
    MOST_SIDE,
    MOST_SOUNDS,
    MOST_STEPS,
    RenderOptions,
    SampleOptions,
    check_count,
    check_memory,
    check_wav,
    num_samples,
)
from wavesynth.rendering import Renderer, checked_fill
from wavesynth.sampling.blocks import finite, recut
from wavesynth.sampling.devices import check_process
from wavesynth.timbre import morph as paths
from wavesynth.timbre.interpolation import check_share
from wavesynth.timbre.points import Point, as_point, detected_pitch, warn_of_a_melody
from wavesynth.timbre.timbre import Timbre, onset_at
from wavesynth.writing import numbered, write_blocks


@dataclass(frozen=True, eq=False)
class Synth:
    """A trained model. Methods return float32 arrays in [-1, 1] at `sample_rate`.

    Random methods take a seed: the same seed gives the same samples on the same machine and version. A method that the family
    does not support raises UserError. Input sounds may be files of any kind, or NumPy, JAX or torch arrays of shape [T],
    [C, T] or [T, C] (as from soundfile), with their `sample_rate` if it differs from the synth's. Synths can be pickled.

    Attributes:
        family: the kind of model, bound to its configuration.
        params: the weights, and data that the family keeps from training, as nested dictionaries of arrays.

    >>> synth = ws.load("checkpoints/instruments")
    >>> synth.sample(n=2, seconds=0.5, seed=0, label="flute", pitch=60).shape
    (2, 2, 22050)
    """

    family: Any
    params: dict[str, Any]

    @property
    def sample_rate(self) -> int:
        """Sample rate, Hz."""
        return self.family.dataset.sample_rate

    @property
    def channels(self) -> int:
        """Number of audio channels; 1 for mono."""
        return self.family.dataset.channels

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels of the training sounds."""
        return self.family.dataset.labels

    @property
    def longest(self) -> float:
        """Length of the longest sound that the model can generate, seconds; inf if unlimited."""
        return self._renderer.longest

    @property
    def latency(self) -> float:
        """The largest delay of `resynthesize` from input to output, seconds.

        Raises:
            UserError: the model cannot resynthesize live sound.
        """
        seconds = require(self.family, Live).latency
        if math.isinf(seconds):
            self.family.unsupported("resynthesize live sound", "it needs the whole sound at once")
        return seconds

    @cached_property
    def num_parameters(self) -> int:
        """The number of trained weights."""
        return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(self.family.published(self.family.shapes())))

    @cached_property
    def fingerprint(self) -> str:
        """A hash that identifies the weights. Timbres carry it."""
        digest = sha256()
        for leaf in jax.tree.leaves(self.params):
            digest.update(np.asarray(leaf).tobytes())
        return digest.hexdigest()[:16]

    @property
    def _weights(self) -> dict[str, Any]:
        """The parameters on JAX's default device; a UserError in a forked process, where JAX would wait for ever."""
        check_process()
        return self._on_device

    @cached_property
    def _on_device(self) -> dict[str, Any]:
        return jax.device_put(self.params)

    @property
    def _renderer(self) -> Renderer:
        return Renderer(self.family, self._weights, self.fingerprint)

    def __reduce__(self) -> tuple:
        return Synth, (self.family, jax.tree.map(np.asarray, self.params))

    # Sampling

    def sample(self, n: int = 1, seconds: float | None = None, **options: Unpack[SampleOptions]) -> np.ndarray:
        """Generates `n` sounds in memory. To write long sounds to disk while they are generated, use `write`.

        Args:
            n: number of sounds, up to 100,000.
            seconds: length of each; None for the model's own length, the timbre's, or a typical one.
            **options: see `SampleOptions`.

        Returns:
            float32 [n, T], or [n, C, T] if the model has C > 1 channels.

        Raises:
            UserError: an option is out of range or unsupported, or the sounds need too much memory.

        >>> synth.sample(n=2, seconds=0.25, seed=1).shape
        (2, 2, 11025)
        """
        if seconds == math.inf:
            raise UserError("seconds is inf: an endless sound does not fit in memory; use stream or write")
        seconds = self._renderer.length(seconds, options.get("timbre"))
        check_count("n", n, 1, MOST_SOUNDS, "sounds")
        check_memory(n, num_samples(seconds, self.sample_rate, self.longest), self.channels)
        return self._squeezed(np.concatenate(list(self._renderer.blocks(n, seconds, **options)), axis=-1))

    def blocks(self, n: int = 1, seconds: float = math.inf, **options: Unpack[SampleOptions]) -> Iterator[np.ndarray]:
        """Generates `n` sounds in parallel, block by block, in constant memory.

        Args:
            n: number of sounds, up to 100,000.
            seconds: length of each; inf for endless sounds.
            **options: see `SampleOptions`.

        Returns:
            An iterator of blocks, float32 [n, t], or [n, C, t] if the model has C > 1 channels. t varies.

        Raises:
            UserError: an option is out of range or unsupported.

        >>> sum(block.shape[-1] for block in synth.blocks(n=2, seconds=0.25))
        11025
        """
        return map(self._squeezed, self._renderer.blocks(n, seconds, **options))

    def stream(self, block: int = 1_024, **options: Unpack[SampleOptions]) -> Iterator[np.ndarray]:
        """Generates one endless sound in constant memory.

        Args:
            block: samples per block.
            **options: see `SampleOptions`.

        Returns:
            An iterator of blocks, float32 [block], or [C, block] if the model has C > 1 channels.

        Raises:
            UserError: an option is out of range or unsupported, or the model's sounds have a fixed length.

        >>> next(synth.stream(seed=0, block=512)).shape
        (2, 512)
        """
        check_count("block", block, 1, 2**24, "samples")
        if require(self.family, Generative).length:
            self.family.unsupported("stream", f"its sounds end after {self.longest:g} seconds")
        return recut((rows[0] for rows in self.blocks(1, **options)), block)

    def write(
        self, folder: str | PathLike[str], n: int = 1, seconds: float | None = None, *, force: bool = False,
        progress: bool = False, **options: Unpack[SampleOptions],
    ) -> list[Path]:  # fmt: skip
        """Writes `n` sounds to FOLDER/000.wav, 001.wav ... while they are generated, in constant memory.

        If interrupted, the files hold everything generated so far.

        Args:
            folder: the folder to write to.
            n: number of files, up to 100,000.
            seconds: length of each; inf to continue until interrupted; None for the default length, as in `sample`.
            force: overwrite existing files.
            progress: show a progress bar.
            **options: see `SampleOptions`.

        Returns:
            The paths of the files.

        Raises:
            UserError: an option is out of range or unsupported, or a file exists or cannot be written.

        >>> synth.write("out", n=2, seconds=0.25)
        [PosixPath('out/000.wav'), PosixPath('out/001.wav')]
        """
        seconds = self._renderer.length(seconds, options.get("timbre"))
        total = num_samples(seconds, self.sample_rate, self.longest)
        check_wav(seconds, self.sample_rate, self.channels)
        check_count("n", n, 1, MOST_SOUNDS, "sounds")
        numbered(folder, n, force)  # fails before anything is generated
        return write_blocks(
            self.blocks(n, seconds, **options), folder, n, total, self.sample_rate, force=force, progress=progress
        )

    # Scoring

    def log_prob(
        self, sound: Sound, sample_rate: float | None = None, *, label: str | None = None,
        pitch: CurveLike | None = None, quantization: str | None = None,
    ) -> np.ndarray:  # fmt: skip
        """The log-probability of each sample, given the samples before it.

        Args:
            sound: a file, or samples.
            sample_rate: sample rate of samples given as an array, Hz; None for the synth's.
            label: the sound's label, if known and if the model has label conditioning.
            pitch: the sound's MIDI number, if known.
            quantization: bins to predict, "int16" or "mulaw"; None for the model's own. The context is always quantized as in
                training.

        Returns:
            float32 [T], nats.

        Raises:
            UserError: the model has no likelihood, or an argument is invalid.

        >>> ws.load("runs/mine").log_prob(np.zeros(100)).shape
        (100,)
        """
        samples = self._renderer.samples(sound, "sound", sample_rate)
        family = require(self.family, Scored)
        conditions = self._renderer.conditions_of_sound(label, pitch)
        (log_probs,) = finite([family.log_prob(self._weights, samples, conditions, quantization)])
        return log_probs

    def bits_per_sample(
        self, sound: Sound, sample_rate: float | None = None, *, label: str | None = None,
        pitch: CurveLike | None = None, quantization: str | None = None,
    ) -> float:  # fmt: skip
        """The mean negative log2 probability of all samples; lower is better. The arguments are those of `log_prob`.

        Raises:
            UserError: the model has no likelihood, or an argument is invalid.

        >>> ws.load("runs/mine").bits_per_sample(np.zeros(100)) < 16
        True
        """
        log_probs = self.log_prob(sound, sample_rate, label=label, pitch=pitch, quantization=quantization)
        return float(-np.mean(log_probs, dtype=np.float64) / math.log(2))

    # Timbres

    def timbre(self, label: str) -> Timbre:
        """The timbre of a label, with the median pitch of its training sounds.

        Raises:
            UserError: the model has no such label, or no timbres.

        >>> synth.timbre("flute").latent.shape
        (86, 33)
        """
        index = self._renderer.label_index(label, self.family.samples_by_label)
        latent = require(self.family, Timbral).latent_of(self._weights, index)
        return replace(self._timbre(latent), pitch=self.family.dataset.median_pitch(index))

    def latents(self, seed: int = 0, n: int = 1, label: str | None = None) -> list[Timbre]:
        """Random timbres: the ones that `sample` uses with the same seed, `n` and label.

        Args:
            seed: the same seed gives the same timbres.
            n: number of timbres, up to 100,000.
            label: the label of all timbres; None to draw labels.

        Returns:
            A list of `n` timbres with pitches drawn from those of the training sounds.

        Raises:
            UserError: the model has no random timbres, or an argument is out of range.

        >>> len(synth.latents(seed=0, n=3, label="flute"))
        3
        """
        check_seed(seed)
        check_count("n", n, 1, MOST_SOUNDS, "timbres")
        conditions = self._renderer.conditions(n, seed, label, (), None)
        drawn = require(self.family, Timbral).draw(self._weights, seed, conditions.label_indices)
        pitches = [None if math.isnan(pitch) else float(pitch) for pitch in conditions.constant_pitch]
        return [replace(self._timbre(latent), pitch=pitch) for latent, pitch in zip(drawn, pitches, strict=True)]

    def timbres(self, points: Iterable[Point], sample_rate: float | None = None) -> list[Timbre]:
        """Converts timbres, timbre files, labels and sounds to timbres, and aligns their onsets.

        Args:
            points: timbres, timbre files (.json), labels, or sounds to encode.
            sample_rate: sample rate of sounds given as arrays, Hz; None for the synth's.

        Returns:
            One timbre for each point.

        Raises:
            UserError: a point is none of these.

        >>> [timbre.latent.shape for timbre in synth.timbres(["flute", "violin"])]
        [(86, 33), (86, 33)]
        """
        encode: Callable[[Sound], Timbre] = lambda sound: self.encode(sound, sample_rate)  # noqa: E731
        timbres = [as_point(end, self.labels, self.timbre, encode) for end in points]
        known = [timbre.onset for timbre in timbres if timbre.onset is not None]
        return [onset_at(timbre, min(known)) for timbre in timbres] if known else timbres

    @overload
    def encode(
        self, sound: list[Sound] | tuple[Sound, ...], sample_rate: float | None = None, *, pitch: CurveLike | None = None,
        label: str | None = None, seed: int = 0, progress: bool = False,
    ) -> list[Timbre]: ...  # fmt: skip
    @overload
    def encode(
        self, sound: Sound, sample_rate: float | None = None, *, pitch: CurveLike | None = None,
        label: str | None = None, seed: int = 0, progress: bool = False,
    ) -> Timbre: ...  # fmt: skip
    def encode(
        self, sound: Any, sample_rate: float | None = None, *, pitch: CurveLike | None = None, label: str | None = None,
        seed: int = 0, progress: bool = False,
    ) -> Any:  # fmt: skip
        """Encodes a sound: finds the timbre that reproduces it best.

        Args:
            sound: a file, or samples; or a list of sounds. Sounds longer than the model's are cut.
            sample_rate: sample rate of samples given as an array, Hz; None for the synth's.
            pitch: MIDI number. None reads it from the file name (`cello_060_090.wav`, `Cello_C4.wav`) or tracks it (extra
                `pitch`), if the model plays pitches.
            label: the sound's label, if known and if the model has label conditioning; None to consider all labels.
            seed: random seed of the search, for families that search.
            progress: show a progress bar.

        Returns:
            A timbre with the sound's pitch, length and onset; a list of timbres for a list of sounds.

        Raises:
            UserError: the sound cannot be read or is silent, the model has no timbres, or an argument is invalid.

        >>> t = np.arange(22050) / 44100
        >>> synth.encode(0.3 * np.sin(2 * np.pi * 261.63 * t), pitch=60).latent.shape
        (22, 33)
        """
        if isinstance(sound, list) or (isinstance(sound, tuple) and not is_pair(sound)):
            return [
                self.encode(one, sample_rate, pitch=pitch, label=label, seed=seed, progress=progress) for one in sound
            ]
        check_seed(seed)
        family, samples = require(self.family, Timbral), self._renderer.samples(sound, "sound", sample_rate)
        length = samples.shape[-1]
        onset = float(descriptors.onset_time(mono(samples), self.sample_rate))
        if not math.isfinite(onset):
            name = f" ({display(str(sound))})" if isinstance(sound, str | PathLike) else ""
            raise UserError(f"sound{name} is silent and has no timbre; give an audible sound")
        rate = family.frame_rate
        if rate is not None and length < self.sample_rate / rate:
            warnings.warn(
                f"sound has {length} samples, but one frame of a timbre takes {round(self.sample_rate / rate)}: it is "
                "padded with silence",
                stacklevel=2,
            )
        if self.family.dataset.pitched:
            warn_of_a_melody(mono(samples), self.sample_rate)
            pitch = detected_pitch(sound, mono(samples), self.sample_rate) if pitch is None else pitch
        return replace(self.timbre_of(samples, pitch, label, seed, progress), onset=onset)

    def timbre_of(
        self, samples: np.ndarray, pitch: CurveLike | None = None, label: str | None = None, seed: int = 0,
        progress: bool = False,
    ) -> Timbre:  # fmt: skip
        """Encodes samples without the checks of `encode`; silence is allowed.

        Args:
            samples: float32 [C, T], with the synth's sample rate and channels.
            pitch: MIDI number; None if unknown.
            label: the sound's label, if known and if the model has label conditioning.
            seed: random seed of the search, for families that search.
            progress: show a progress bar.

        Returns:
            A timbre with the pitch and the length, and no onset.

        >>> round(synth.timbre_of(np.zeros((2, 1024), np.float32)).seconds, 4)
        0.0232
        """
        conditions = self._renderer.conditions_of_sound(label, pitch)
        latent = require(self.family, Timbral).encode(self._weights, samples, conditions, seed, progress)
        known = float(conditions.constant_pitch[0])
        return replace(
            self._timbre(latent),
            pitch=None if math.isnan(known) else known,
            seconds=samples.shape[-1] / self.sample_rate,
        )

    def decode(self, timbre: Timbre, seconds: float | None = None, **options: Unpack[RenderOptions]) -> np.ndarray:
        """Decodes a timbre to a sound.

        Args:
            timbre: a timbre of this synth.
            seconds: length; None for the length of the encoded sound.
            **options: see `RenderOptions`.

        Returns:
            float32 [T], or [C, T] if the model has C > 1 channels.

        Raises:
            UserError: the timbre belongs to another synth, or an option is out of range.

        >>> synth.decode(synth.timbre("flute"), seconds=0.5, pitch=67).shape
        (2, 22050)
        """
        return self.sample(1, seconds, **cast(SampleOptions, {**options, "timbre": timbre}))[0]

    def resynthesize(
        self, blocks: Iterable[Any], sample_rate: float | None = None, *, pitch: CurveLike | None = None, seed: int = 0
    ) -> Iterator[np.ndarray]:
        """Encodes and decodes a live sound in constant memory, at most `latency` seconds behind the input.

        The result equals decoding the encoded sound. It is as long as the input, at the synth's sample rate.

        Args:
            blocks: consecutive parts of one sound, of any lengths, including 0.
            sample_rate: sample rate of the blocks, Hz; None for the synth's.
            pitch: MIDI number of the sound; None if it has none, or if the model does not play pitches.
            seed: random seed of the noise.

        Returns:
            An iterator of blocks, float32 [t], or [C, t] if the model has C > 1 channels.

        Raises:
            UserError: the model cannot resynthesize live sound. The iterator raises it if a block is not sound.

        >>> sum(block.shape[1] for block in synth.resynthesize([np.zeros(300), np.zeros(1000)], pitch=57))
        1300
        """
        check_seed(seed)
        if isinstance(blocks, str | PathLike) or getattr(blocks, "ndim", 2) == 1:
            raise UserError("blocks is one sound: give an iterable of its parts, or use encode and decode")
        if sample_rate is not None:
            files.check_sample_rate(sample_rate)  # type: ignore[arg-type]
        family, conditions = require(self.family, Live), self._renderer.conditions_of_sound(None, pitch)
        parts = (block_of(block, "blocks", self.channels) for block in blocks)
        if sample_rate is not None and sample_rate != self.sample_rate:
            parts = resampled(parts, sample_rate, self.sample_rate)
        sounding = (part for part in parts if part.shape[-1])
        streamed = finite(family.resynthesize(self._weights, sounding, conditions, seed))
        return (block[0] if self.channels == 1 else block for block in streamed)

    def morph(
        self, a: Point, b: Point, steps: int = 9, seconds: float | None = None, *, sample_rate: float | None = None,
        even: bool | None = None, match_loudness: bool = True, **options: Unpack[RenderOptions],
    ) -> np.ndarray:  # fmt: skip
        """Morphs from a to b: sounds along a path in latent space, all rendered with the same noise.

        Args:
            a: a timbre, a label, or a sound to encode.
            b: a timbre, a label, or a sound to encode. Its onset is aligned with a's.
            steps: number of sounds, both ends included, up to 1,000.
            seconds: length of each; None for the length of the longer end.
            sample_rate: sample rate of ends given as arrays, Hz; None for the synth's.
            even: space the steps evenly by perceived difference. This takes about four times as long, so None does it only
                for models that generate sounds whole.
            match_loudness: adjust the levels in between to the straight line from a's level to b's.
            **options: see `RenderOptions`. The pitch moves from a's to b's, unless `pitch` is given.

        Returns:
            float32 [steps, T], or [steps, C, T] if the model has C > 1 channels.

        Raises:
            UserError: an end is not a label, timbre or sound, or an option is out of range.

        >>> synth.morph("flute", "violin", steps=3, seconds=0.5, pitch=60).shape
        (3, 2, 22050)
        """
        return self.morph_analysis(
            a, b, steps, seconds, sample_rate=sample_rate, even=even, match_loudness=match_loudness, **options
        ).sounds

    def morph_analysis(
        self, a: Point, b: Point, steps: int = 9, seconds: float | None = None, *, sample_rate: float | None = None,
        even: bool | None = None, match_loudness: bool = True, **options: Unpack[RenderOptions],
    ) -> Analysis:  # fmt: skip
        """The sounds of `morph` with their measurements, for `exports.write_morph` and `evaluation.morphing.judge`.

        The arguments are those of `morph`.

        Raises:
            UserError: an end is not a label, timbre or sound, or an option is out of range.

        >>> synth.morph_analysis("flute", "violin", steps=3, seconds=0.5, pitch=60).sounds.shape
        (3, 2, 22050)
        """
        check_count("steps", steps, 2, MOST_STEPS, "sounds, both ends included")
        first, last = self.timbres((a, b), sample_rate)
        length = self._renderer.length(seconds, (first, last))
        check_memory(steps, num_samples(length, self.sample_rate, self.longest), self.channels)

        def render(shares: np.ndarray) -> np.ndarray:
            return self._render([self._renderer.between(first, last, share) for share in shares], length, **options)

        even = not require(self.family, Generative).autoregressive if even is None else even
        return paths.morph(render, steps, self.sample_rate, even=even, match_loudness=match_loudness)

    def glide(
        self, a: Point, b: Point, seconds: float = 4.0, *, sample_rate: float | None = None,
        **options: Unpack[RenderOptions],
    ) -> np.ndarray:  # fmt: skip
        """One sound that moves from a to b, at a's pitch unless `pitch` is given.

        Args:
            a: a timbre, a label, or a sound to encode.
            b: a timbre, a label, or a sound to encode.
            seconds: length of the sound.
            sample_rate: sample rate of ends given as arrays, Hz; None for the synth's.
            **options: see `RenderOptions`. With fill "stretch", a note keeps its ending.

        Returns:
            float32 [T], or [C, T] if the model has C > 1 channels.

        Raises:
            UserError: the model's timbres cannot move within a sound, or an argument is invalid.

        >>> synth.glide("flute", "violin", seconds=1.0, pitch=60).shape
        (2, 44100)
        """
        family = require(self.family, Timbral)
        rate = family.glide_rate
        if rate is None:
            raise UserError(f"a {self.family.name} cannot glide: its timbres are fixed within a sound; use morph")
        fill = checked_fill(options.get("fill", "hold"))
        if seconds == math.inf:
            raise UserError("seconds is inf: a glide has an end; give its length")
        total = num_samples(seconds, self.sample_rate, self.longest)
        check_memory(1, total, self.channels)
        frames = max(1, math.ceil(seconds * rate - 1e-6))
        first, last = self.timbres((a, b), sample_rate)
        begin, end = (self._renderer.path(timbre, frames, fill) for timbre in (first, last))
        moved = [family.between(*place) for place in zip(begin, end, np.linspace(0, 1, frames), strict=True)]
        return self.decode(
            replace(first, latent=np.stack(moved), frame_rate=rate), seconds, **options | {"fill": "hold"}
        )

    def grid(
        self, corners: Sequence[Point], size: int = 5, seconds: float | None = None, *,
        sample_rate: float | None = None, **options: Unpack[RenderOptions],
    ) -> np.ndarray:  # fmt: skip
        """Interpolates between two to four corners: a grid of sounds, all rendered with the same noise.

        The first row runs from corner 0 to corner 1, the last from corner 2 to corner 3. With three corners, the last row is
        corner 2 throughout. With two corners, there is one row.

        Args:
            corners: timbres, labels, or sounds to encode.
            size: sounds along each side, 2 to 64.
            seconds: length of each; None for the length of the longest corner.
            sample_rate: sample rate of corners given as arrays, Hz; None for the synth's.
            **options: see `RenderOptions`.

        Returns:
            float32 [rows, size, T], or [rows, size, C, T] if the model has C > 1 channels.

        Raises:
            UserError: there are fewer than two or more than four corners, or an argument is invalid.

        >>> synth.grid(["flute", "violin", "tuba"], size=2, seconds=0.25, pitch=60).shape
        (2, 2, 2, 11025)
        """
        if isinstance(corners, str | PathLike | Timbre):
            raise UserError(f"corners is {corners!r}: give a list of 2 to 4 timbres, labels or sounds")
        if not 2 <= len(corners) <= 4:
            raise UserError(f"corners has {len(corners)} members: give 2 to 4")
        check_count("size", size, 2, MOST_SIDE, "sounds along each side")
        a, b, *others = self.timbres(corners, sample_rate)
        c, d = (others * 2)[:2] if others else (a, b)
        length = self._renderer.length(seconds, (a, b, c, d))
        shares = np.linspace(0, 1, size)
        rows = shares if others else shares[:1]
        check_memory(len(rows) * size, num_samples(length, self.sample_rate, self.longest), self.channels)
        between = self._renderer.between
        points = [between(between(a, b, x), between(c, d, x), y) for y in rows for x in shares]
        sounds = self._render(points, length, **options)
        return sounds.reshape(len(rows), size, *sounds.shape[1:])

    def between(
        self, a: Point, b: Point, t: float, *, sample_rate: float | None = None, extrapolate: bool = False
    ) -> Timbre:
        """The timbre at position t on the path from a (0) to b (1), with aligned onsets.

        Args:
            a: a timbre, a label, or a sound to encode.
            b: a timbre, a label, or a sound to encode.
            t: position on the path, 0 to 1.
            sample_rate: sample rate of ends given as arrays, Hz; None for the synth's.
            extrapolate: allow any finite t.

        Raises:
            UserError: t is out of range, or an end is not a label, timbre or sound.

        >>> first, last = synth.timbre("flute"), synth.timbre("violin")
        >>> synth.between(first, last, 0.5).pitch == (first.pitch + last.pitch) / 2
        True
        """
        check_share(t, extrapolate)
        first, last = self.timbres((a, b), sample_rate)
        return self._renderer.between(first, last, t)

    def _render(self, points: Sequence[Timbre], seconds: float, **options: Any) -> np.ndarray:
        """Renders timbres with the same noise: [N, T] or [N, C, T].

        Autoregressive models render them one by one, because the size of the batch may change the last bits.
        """
        if require(self.family, Generative).autoregressive:
            return np.stack([self.decode(point, seconds, **options) for point in points])
        return self.sample(len(points), seconds, timbre=points, **options)

    def _squeezed(self, sounds: np.ndarray) -> np.ndarray:
        """Sounds [n, C, T] without the channel axis if there is one channel: [n, T]."""
        return sounds[:, 0] if self.channels == 1 else sounds

    def _timbre(self, latent: np.ndarray) -> Timbre:
        return Timbre(latent, self.fingerprint, self.family.frame_rate)
