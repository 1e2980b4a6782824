"""What makes and scores sounds: a trained model, given what is wanted."""

import math
import warnings
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from itertools import chain
from os import PathLike
from pathlib import Path
from typing import Any, get_args

import jax
import numpy as np

from wavesynth.audio import files
from wavesynth.audio.sounds import Sound, samples_of
from wavesynth.config import check_seed
from wavesynth.errors import UserError
from wavesynth.families import Dtype, Family, Request
from wavesynth.sampling.blocks import recut, until
from wavesynth.sampling.devices import check_process
from wavesynth.sampling.strategies import Strategy
from wavesynth.timbre.timbre import FILLS, Fill, Timbre, same_length


@dataclass(frozen=True, eq=False)
class Sampler:
    """The half of a `Synth` that makes sounds and scores them.

    family: what kind of model it is. params: its weights, and what it remembers of the sounds.
    """

    family: Family
    params: dict[str, Any]

    @property
    def sample_rate(self) -> int:
        """Hz."""
        return self.family.dataset.sample_rate

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels it was trained with."""
        return self.family.dataset.labels

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

    def sample(self, n: int = 1, seconds: float | None = None, **options: Any) -> np.ndarray:
        """`n` sounds of `seconds`, float32 [n, T]. `options`: see `blocks`.

        seconds: None for as long as the model's sounds are, or what the timbre was made of, or a usual clip, or one second.
        All are in memory at once; to write long ones to disk as they are made, see `write`.
        """
        if seconds == math.inf:
            raise UserError(
                "seconds is inf: an endless sound does not fit into memory; take it from stream, or write it"
            )
        seconds = self._or_usual(seconds, options.get("timbre"))
        return np.concatenate(list(self.blocks(n, seconds, **options)), axis=1)

    def blocks(
        self,
        n: int = 1,
        seconds: float = math.inf,
        *,
        seed: int = 0,
        label: str | None = None,
        timbre: Timbre | Sequence[Timbre] | None = None,
        fill: Fill = "hold",
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

        label: one of `labels`. timbre: what to sound like, in place of a label; or one for each of the n, which then are
        told apart by nothing else. fill: how the path of a timbre is made to last `seconds`: "hold" its last frame, "loop"
        it or "stretch" it. pitch: MIDI number (60 is middle C); None is the timbre's, if it knows one. prime: a sound to go
        on from; it is not repeated. temperature, top_k, top_p: see `wavesynth.sampling.strategies.Strategy`. truncation: of
        a latent space, below 1 for less variety and fewer failures. implementation: of the op that decodes; None takes the
        fastest. dtype: "bfloat16" halves the weights that are read for each sample, and is faster (what multiplies bfloat16
        rounds the activations to it too); None is the model's own.
        """
        check_process()
        if n < 1:
            raise UserError(f"n is {n}: ask for at least 1 sound")
        if label is not None and timbre is not None:
            raise UserError(f"label is {label!r} and a timbre is given too: give one of them")
        if fill not in FILLS:
            raise UserError(f"fill is {fill!r}: choose one of {', '.join(get_args(Fill))}")
        check_seed(seed)
        each = [timbre] * n if isinstance(timbre, Timbre) else list(timbre or ())
        if timbre is not None and len(each) != n:
            raise UserError(f"timbre has {len(each)} members for n = {n} sounds: give one, or one for each")
        number, left = self.family.dataset.label_index(label), self._num_samples(seconds)
        pitch = self._own_pitch(each, number) if pitch is None else pitch
        request = Request(
            n=n, seed=seed, label=number, pitch=self._pitch(pitch),
            latent=self._latents(each, number, n, seed, seconds, fill),
            shared_noise=timbre is not None and not isinstance(timbre, Timbre), endless=seconds == math.inf,
            prime=None if prime is None else samples_of(prime, "prime", self.sample_rate),
            strategy=Strategy(temperature, top_k, top_p), truncation=truncation, implementation=implementation,
            dtype=dtype,
        )  # fmt: skip
        return until(self.family.stream(self.params, request), left)

    def _own_pitch(self, timbres: Sequence[Timbre], label: int) -> float | None:
        """The pitch to play where none is requested: that of the timbres, or what the model knows to be usual for a label."""
        if not self.family.dataset.pitched:
            return None
        known = {timbre.pitch for timbre in timbres}
        if len(known) > 1:
            raise UserError("timbre has members of several pitches: give pitch, at which to play all of them")
        return known.pop() if known else self.family.default_pitch(self.params, label)

    def _latents(
        self, timbres: Sequence[Timbre], label: int, n: int, seed: int, seconds: float, fill: Fill
    ) -> np.ndarray | None:
        """What sounds are to be like, [n, D], or [n, F, D] with as many frames as `seconds` take; None for chance."""
        rate = timbres[0].frame_rate if timbres else self.family.frame_rate
        if not timbres and rate is None:
            return None
        latents = [self._own(timbre) for timbre in timbres] or list(self.family.latents(self.params, n, seed, label))
        if len({(latent.ndim, latent.shape[-1]) for latent in latents}) > 1:
            raise UserError("timbre has members of several kinds, points and paths: give all of one kind")
        if rate is None:
            return np.stack(latents)
        if seconds == math.inf:
            if fill != "hold":
                raise UserError(f"fill is {fill!r}, and the sound endless: only hold goes on for ever")
            return np.stack(same_length(*latents))
        return np.stack([FILLS[fill](latent, max(1, math.ceil(seconds * rate - 1e-6))) for latent in latents])

    def stream(self, seed: int = 0, block: int = 1_024, **options: Any) -> Iterator[np.ndarray]:
        """One endless sound in blocks, float32 [block], at constant memory. `options`: see `blocks`."""
        if block < 1:
            raise UserError(f"block is {block}: it must be at least 1 sample")
        if self.family.length:
            self.family.unsupported("stream", f"its sounds end after {self.longest:g} seconds")
        return recut((made[0] for made in self.blocks(1, seed=seed, **options)), block)

    def write(
        self, folder: str | PathLike[str], n: int = 1, seconds: float | None = None, *, force: bool = False,
        progress: bool = False, **options: Any,
    ) -> list[Path]:  # fmt: skip
        """Writes `n` sounds to FOLDER/000.wav, 001.wav ... as they are made, at constant memory; returns the paths.

        An interrupt leaves what was made so far as whole wavs. Nothing is overwritten unless `force`.
        """
        from tqdm import tqdm

        seconds = self._or_usual(seconds, options.get("timbre"))
        total = self._num_samples(seconds)
        blocks = self.blocks(n, seconds, **options)
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
        request = Request(label=self.family.dataset.label_index(label), pitch=self._pitch(pitch))
        heard = samples_of(samples, "samples", self.sample_rate)
        return self.family.log_prob(self.params, heard, request, quantization)

    def bits_per_sample(self, samples: Sound, **how: Any) -> float:
        """The mean of -log2 probability over all samples, `how` as in `log_prob`: lower is better."""
        return float(-np.mean(self.log_prob(samples, **how), dtype=np.float64) / math.log(2))

    def _own(self, timbre: Timbre) -> np.ndarray:
        if timbre.synth != self.fingerprint:
            raise UserError(
                f"the timbre belongs to synth {timbre.synth}, this is {self.fingerprint}: make it with this one"
            )
        return timbre.latent

    def _pitch(self, pitch: float | None) -> float | None:
        """A pitch that can be played; one that lies beyond those of the training sounds is warned of."""
        if pitch is None:
            return None
        if not 0 <= pitch <= 127:
            raise UserError(f"pitch is {pitch}: it must be a MIDI number, 0 to 127 (60 is middle C)")
        learned = self.family.dataset.pitches
        if learned and not learned[0] - 0.5 <= pitch <= learned[1] + 0.5:
            warnings.warn(
                f"pitch is {pitch:g}, and the sounds that were learned go from {learned[0]:g} to {learned[1]:g}: expect less",
                stacklevel=3,
            )
        return pitch

    def _or_usual(self, seconds: float | None, timbre: Timbre | Sequence[Timbre] | None) -> float:
        """Seconds as requested; or the model's own, the longest of what timbres were made of, or those of a usual clip."""
        if seconds is not None:
            return seconds
        if self.family.length:
            return self.longest
        timbres = [timbre] if isinstance(timbre, Timbre) else timbre or ()
        known = [timbre.seconds for timbre in timbres if timbre.seconds]
        known += [len(t.latent) / t.frame_rate for t in timbres if t.frame_rate and not t.seconds]
        if known:
            return max(known)
        return min(self.family.dataset.clip_seconds, 2.0) if self.family.frame_rate and self.family.one_shots else 1.0

    def _num_samples(self, seconds: float) -> float:
        if not seconds > 0:
            raise UserError(f"seconds is {seconds}: it must be above 0")
        if self.longest < seconds < math.inf:
            raise UserError(f"seconds is {seconds}: this model's sounds last {self.longest:g} seconds, and no longer")
        return math.inf if math.isinf(seconds) else max(1, round(seconds * self.sample_rate))


def numbered(folder: str | PathLike[str], n: int, force: bool) -> list[Path]:
    """FOLDER/000.wav, 001.wav ...; a UserError where one of them is there already, unless `force`."""
    folder = Path(folder)
    paths = [folder / f"{index:03d}.wav" for index in range(n)]
    files.check_free(paths, force)
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder} is a file: name a folder to write")
    return paths
