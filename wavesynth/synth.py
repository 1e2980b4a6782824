"""`Synth`: a trained model, ready to use."""

import math
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from itertools import chain
from os import PathLike
from pathlib import Path
from typing import Any

import jax
import numpy as np

from wavesynth.audio import files
from wavesynth.config import check_seed
from wavesynth.errors import UserError
from wavesynth.families import Dtype, Family, Request
from wavesynth.sampling.strategies import Strategy
from wavesynth.timbre.timbre import Timbre

Sound = np.ndarray | str | PathLike[str]
"""Samples at the synth's rate, float [T] in [-1, 1], or a file of any rate and channel count."""


@dataclass(frozen=True, eq=False)
class Synth:
    """A model with its weights. Arrays in, arrays out: float32 in [-1, 1] at `sample_rate`.

    >>> synth = wavesynth.load("runs/drums")
    >>> audio = synth.sample(n=8, seconds=1.0, seed=0, label="kick")        # [8, T]

    Everything that draws takes a seed: the same seed, machine and version give the same samples. What a model of this
    family cannot do is a UserError that says why.
    """

    family: Family
    params: dict[str, Any]

    @property
    def sample_rate(self) -> int:
        """Hz."""
        return self.family.material.sample_rate

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels it was trained with."""
        return self.family.material.labels

    @property
    def longest(self) -> float:
        """Seconds of the longest sound that it makes; inf where there is no end to them."""
        return (self.family.length or math.inf) / self.sample_rate

    @cached_property
    def num_parameters(self) -> int:
        return sum(leaf.size for leaf in jax.tree.leaves(self.params))

    @cached_property
    def fingerprint(self) -> str:
        """Names these weights; timbres carry it."""
        digest = sha256()
        for leaf in jax.tree.leaves(self.params):
            digest.update(np.asarray(leaf).tobytes())
        return digest.hexdigest()[:16]

    def sample(self, n: int = 1, seconds: float | None = None, **wishes: Any) -> np.ndarray:
        """`n` sounds of `seconds`, float32 [n, T]. `wishes`: see `blocks`.

        seconds: None for as long as the model's sounds are, or one second where they may have any length.
        All are in memory at once; to write long ones to disk as they are made, see `write`.
        """
        if seconds == math.inf:
            raise UserError(
                "seconds is inf: an endless sound does not fit into memory; take it from stream, or write it"
            )
        return np.concatenate(list(self.blocks(n, self._or_usual(seconds), **wishes)), axis=1)

    def blocks(
        self,
        n: int = 1,
        seconds: float = math.inf,
        *,
        seed: int = 0,
        label: str | None = None,
        timbre: Timbre | None = None,
        pitch: float | None = None,
        prime: Sound | None = None,
        temperature: float = 1.0,
        top_k: int | None = None,
        top_p: float | None = None,
        truncation: float = 1.0,
        implementation: str | None = None,
        dtype: Dtype | None = None,
    ) -> Iterator[np.ndarray]:
        """`n` sounds as they are made: blocks float32 [n, t], until `seconds` are full or the sounds are over.

        label: one of `labels`. timbre: a point of the latent space, in place of a label. pitch: MIDI number (60 is
        middle C). prime: a sound to go on from; it is not repeated. temperature, top_k, top_p: see
        `wavesynth.sampling.strategies.Strategy`. truncation: of a latent space, below 1 for less variety and fewer
        failures. implementation: of the op that decodes; None takes the fastest. dtype:
        "bfloat16" halves the weights that are read for each sample, and is faster; None is the model's own.
        """
        if n < 1:
            raise UserError(f"n is {n}: ask for at least 1 sound")
        if label is not None and timbre is not None:
            raise UserError(f"label is {label!r} and a timbre is given too: give one of them")
        check_seed(seed)
        request = Request(
            n=n, seed=seed, label=self.family.material.label_index(label), pitch=_checked_pitch(pitch),
            latent=None if timbre is None else self._own(timbre),
            prime=None if prime is None else self._samples(prime, "prime"),
            strategy=Strategy(temperature, top_k, top_p), truncation=truncation, implementation=implementation,
            dtype=dtype,
        )  # fmt: skip
        left = self._num_samples(seconds)
        return self._cut(self.family.stream(self.params, request), left)

    def stream(self, seed: int = 0, block: int = 1_024, **wishes: Any) -> Iterator[np.ndarray]:
        """One endless sound in blocks, float32 [block], at constant memory. `wishes`: see `blocks`."""
        if block < 1:
            raise UserError(f"block is {block}: it must be at least 1 sample")
        if self.family.length:
            self.family.cannot("stream", f"its sounds end after {self.longest:g} seconds")
        return _recut((made[0] for made in self.blocks(1, seed=seed, **wishes)), block)

    def write(
        self, folder: str | PathLike[str], n: int = 1, seconds: float | None = None, *, force: bool = False,
        progress: bool = False, **wishes: Any,
    ) -> list[Path]:  # fmt: skip
        """Writes `n` sounds to FOLDER/000.wav, 001.wav ... as they are made, at constant memory; returns the paths.

        An interrupt leaves what was made so far as whole wavs. Nothing is overwritten unless `force`.
        """
        from tqdm import tqdm

        seconds = self._or_usual(seconds)
        total = self._num_samples(seconds)
        blocks = self.blocks(n, seconds, **wishes)
        paths = numbered(folder, n, force)
        blocks = chain([next(blocks)], blocks)  # what cannot be sampled fails before anything is written
        Path(folder).mkdir(parents=True, exist_ok=True)
        with ExitStack() as stack:
            writers = [stack.enter_context(files.WavWriter(path, self.sample_rate, force=force)) for path in paths]
            scale = n / self.sample_rate
            bar = stack.enter_context(
                tqdm(total=round(total * scale, 1), unit="s", unit_scale=False, disable=not progress)
            )
            made = 0
            for block in blocks:
                for writer, row in zip(writers, block, strict=True):
                    writer.append(row)
                made += block.shape[1]
                bar.update(round(made * scale, 1) - bar.n)
                bar.set_postfix_str(f"{made * n / max(bar.format_dict['elapsed'], 1e-9):,.0f} samples/s")
        return paths

    def log_prob(
        self, samples: Sound, *, label: str | None = None, pitch: float | None = None, quantization: str | None = None
    ) -> np.ndarray:
        """Nats float32 [T]: the log-probability of each sample's bin, given the samples before it.

        quantization: the bins, "int16" or "mulaw"; None for the model's own. Only the bin to predict is changed by it:
        the past is always seen as the model was trained to see it.
        """
        request = Request(label=self.family.material.label_index(label), pitch=_checked_pitch(pitch))
        return self.family.log_prob(self.params, self._samples(samples, "samples"), request, quantization)

    def bits_per_sample(self, samples: Sound, **how: Any) -> float:
        """The mean of -log2 probability over all samples, `how` as in `log_prob`: lower is better."""
        return float(-np.mean(self.log_prob(samples, **how), dtype=np.float64) / math.log(2))

    def timbre(self, label: str) -> Timbre:
        """The point that a label has in the latent space."""
        return self._timbre(self.family.latent(self.params, self.family.material.label_index(label)))

    def latents(self, seed: int = 0, n: int = 1, label: str | None = None) -> list[Timbre]:
        """`n` points of the latent space drawn by chance, of one label or any: `sample` with that seed plays the same."""
        check_seed(seed)
        drawn = self.family.latents(self.params, n, seed, self.family.material.label_index(label))
        return [self._timbre(latent) for latent in drawn]

    def encode(self, sound: Sound, *, seed: int = 0, label: str | None = None, progress: bool = False) -> Timbre:
        """The point of the latent space that sounds most like `sound`; a longer one than the model makes is cut.

        label: of the timbre, where it is known; None looks for the labels too.
        """
        check_seed(seed)
        samples = self._samples(sound, "sound")
        if not samples.any():
            raise UserError("sound is silence: there is no timbre in it; give a sound that can be heard")
        request = Request(seed=seed, label=self.family.material.label_index(label))
        return self._timbre(self.family.encode(self.params, samples, request, progress))

    def decode(self, timbre: Timbre, seconds: float | None = None, **wishes: Any) -> np.ndarray:
        """The sound of a timbre, float32 [T]; the same one each time. `wishes`: see `blocks`."""
        return self.sample(1, seconds, timbre=timbre, **wishes)[0]

    def morph(
        self, a: Timbre | Sound, b: Timbre | Sound, steps: int = 9, seconds: float | None = None, **wishes: Any
    ) -> np.ndarray:
        """Sounds on the way from a to b, float32 [steps, T], all from one seed. `wishes`: see `blocks`.

        a, b: timbres, labels, or sounds, which are encoded first.
        """
        if steps < 2:
            raise UserError(f"steps is {steps}: a morph has at least its two ends")
        first, last = self._point(a), self._point(b)
        points = [self._between(first, last, t) for t in np.linspace(0, 1, steps)]
        return np.stack([self.decode(point, seconds, **wishes) for point in points])

    def grid(
        self, corners: Sequence[Timbre | Sound], size: int = 5, seconds: float | None = None, **wishes: Any
    ) -> np.ndarray:
        """Sounds between four corners, float32 [size, size, T]: the first row goes from corner 0 to 1, the last from 2 to 3.

        corners: four timbres, labels or sounds. `wishes`: see `blocks`.
        """
        if len(corners) != 4:
            raise UserError(f"corners has {len(corners)} members: a grid lies between 4")
        if size < 2:
            raise UserError(f"size is {size}: a grid has at least its corners, 2")
        a, b, c, d = (self._point(corner) for corner in corners)
        shares = np.linspace(0, 1, size)
        rows = [[self._between(self._between(a, b, x), self._between(c, d, x), y) for x in shares] for y in shares]
        return np.stack([np.stack([self.decode(point, seconds, **wishes) for point in row]) for row in rows])

    def _timbre(self, latent: np.ndarray) -> Timbre:
        return Timbre(latent, self.fingerprint)

    def _point(self, end: Timbre | Sound) -> Timbre:
        """A timbre as it is, that of a label, or that of a sound."""
        if isinstance(end, Timbre):
            return end
        if isinstance(end, str) and (end in self.labels or not Path(end).exists()):
            return self.timbre(end)  # which names the labels where it is neither
        return self.encode(end)

    def _between(self, a: Timbre, b: Timbre, t: float) -> Timbre:
        return self._timbre(self.family.between(self._own(a), self._own(b), float(t)))

    def _own(self, timbre: Timbre) -> np.ndarray:
        if timbre.synth != self.fingerprint:
            raise UserError(
                f"the timbre belongs to synth {timbre.synth}, this is {self.fingerprint}: make it with this one"
            )
        return timbre.latent

    def _samples(self, sound: Sound, argument: str) -> np.ndarray:
        if isinstance(sound, str | PathLike):
            return files.read(sound, self.sample_rate)
        samples = np.asarray(sound, np.float32)
        if samples.ndim != 1 or not samples.size:
            raise UserError(f"{argument} has the shape {samples.shape}: give one sound as samples [T]")
        if not np.isfinite(samples).all():
            raise UserError(f"{argument} holds values that are not finite numbers: mend them first")
        if np.abs(samples).max() > 1:
            raise UserError(f"{argument} reaches {np.abs(samples).max():.3g}: scale it into [-1, 1]")
        return samples

    def _or_usual(self, seconds: float | None) -> float:
        return seconds if seconds is not None else self.longest if self.family.length else 1.0

    def _num_samples(self, seconds: float) -> float:
        if not seconds > 0:
            raise UserError(f"seconds is {seconds}: it must be above 0")
        if self.longest < seconds < math.inf:
            raise UserError(f"seconds is {seconds}: this model's sounds last {self.longest:g} seconds, and no longer")
        return math.inf if math.isinf(seconds) else max(1, round(seconds * self.sample_rate))

    @staticmethod
    def _cut(blocks: Iterator[np.ndarray], left: float) -> Iterator[np.ndarray]:
        for block in blocks:
            yield block[:, : int(min(left, block.shape[1]))]
            left -= block.shape[1]
            if left <= 0:
                return


def numbered(folder: str | PathLike[str], n: int, force: bool) -> list[Path]:
    """FOLDER/000.wav, 001.wav ...; a UserError where one of them is there already, unless `force`."""
    folder = Path(folder)
    paths = [folder / f"{index:03d}.wav" for index in range(n)]
    there = next((path for path in paths if path.exists()), None)
    if there is not None and not force:
        raise UserError(f"{there} is there already: choose another folder, or overwrite it by --force (force=True)")
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder} is a file: name a folder to write")
    return paths


def _checked_pitch(pitch: float | None) -> float | None:
    if pitch is not None and not 0 <= pitch <= 127:
        raise UserError(f"pitch is {pitch}: it must be a MIDI number, 0 to 127 (60 is middle C)")
    return pitch


def _recut(blocks: Iterator[np.ndarray], size: int) -> Iterator[np.ndarray]:
    """Blocks [any length] to blocks [size]."""
    kept = np.zeros(0, np.float32)
    for block in blocks:
        kept = np.concatenate([kept, block])
        while len(kept) >= size:
            yield kept[:size]
            kept = kept[size:]
