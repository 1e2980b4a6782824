"""What autoencoders share: a timbre is a path of codes in time, and a model remembers how those of each label usually go."""

from abc import abstractmethod
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from wavesynth.audio.pcm import to_float
from wavesynth.data.batches import Batches
from wavesynth.families.base import Family, Request
from wavesynth.training.state import Params

MEMORY_SECONDS = 2.0  # of the paths that are remembered
MEMORY_CLIPS, LEAST_CLIPS = 128, 4  # that they are made of, spread over the labels; and of each label, if it has them


class CodingFamily(Family):
    """A family with an encoder, whose timbres are paths of codes, float32 [F, D]; its decoder may be anything.

    The memory that is published with the weights holds the mean path of each label's sounds, how far single sounds lie from
    it, and their usual pitch. It is what `sample` plays where no timbre is given. Of a label with a single sound, the mean is
    that sound's path.
    """

    reconstructs: ClassVar[bool] = True

    @property
    def code_hop(self) -> int:
        """Samples that one frame of a path lasts."""
        return self.model.code_hop

    @property
    def code_channels(self) -> int:
        """D."""
        return self.model.code_channels

    @property
    def align(self) -> int:
        return self.code_hop

    @abstractmethod
    def codes(self, params: Params, sounds: np.ndarray) -> np.ndarray:
        """Codes of sounds [N, T], T a multiple of `code_hop`: float32 [N, T / code_hop, D]."""

    @property
    def frame_rate(self) -> float:
        return self.dataset.sample_rate / self.code_hop

    @property
    def glide_rate(self) -> float:
        return self.frame_rate

    def encode(self, params: Params, samples: np.ndarray, request: Request, progress: bool) -> np.ndarray:
        return self.codes(params, np.pad(samples, (0, -len(samples) % self.code_hop))[None])[0]

    def latent(self, params: Params, label: int) -> np.ndarray:
        return np.asarray(params["memory"]["mean"][label])

    def default_pitch(self, params: Params, label: int) -> float | None:
        if not self.dataset.pitched or "memory" not in params:
            return None
        pitch = float(params["memory"]["pitch"][label])  # of the label -1, that of all sounds
        return None if np.isnan(pitch) else pitch

    def latents(self, params: Params, n: int, seed: int, label: int) -> np.ndarray:
        """Paths as those of a label, each shifted as a whole as far as sounds of it usually are."""
        mean, spread = (params["memory"][name] for name in ("mean", "spread"))
        keys = jax.vmap(lambda row: jax.random.fold_in(jax.random.key(seed), row))(jnp.arange(n))
        drawn = jax.vmap(lambda key: jax.random.randint(jax.random.fold_in(key, 1), (), 0, len(mean)))(keys)
        labels = jnp.full(n, label) if label >= 0 else drawn
        shifts = jax.vmap(lambda key: jax.random.normal(key, (self.code_channels,)))(keys) * spread[labels]
        return np.asarray(mean[labels] + shifts[:, None])

    def memory(self, params: Params, learned: Batches) -> Params:
        groups: dict[str | None, list[int]] = {label: [] for label in self.dataset.labels}
        for clip in learned.clips:
            groups.setdefault(learned.shards.clips[clip].label, []).append(clip)
        known = [groups[label] for label in self.dataset.labels] or [list(learned.clips)]
        each = max(LEAST_CLIPS, MEMORY_CLIPS // len(known))
        mean, spread = self._usual_of(params, learned, list(learned.clips), MEMORY_CLIPS)
        usual = [self._usual_of(params, learned, group, each) if group else (mean, spread) for group in known]
        pitches = [[learned.shards.clips[clip].pitch for clip in group] for group in [*known, learned.clips]]
        return {
            "memory": {
                "mean": np.stack([path for path, _ in usual]),
                "spread": np.stack(
                    [own if len(group) > 1 else spread for (_, own), group in zip(usual, known, strict=True)]
                ),
                "pitch": np.array([_middle(group) for group in pitches], np.float32),
            }
        }

    def memory_shapes(self) -> Params:
        groups = max(1, len(self.dataset.labels))
        return {
            "memory": {
                "mean": jax.ShapeDtypeStruct((groups, self._memory_frames, self.code_channels), jnp.float32),
                "spread": jax.ShapeDtypeStruct((groups, self.code_channels), jnp.float32),
                "pitch": jax.ShapeDtypeStruct((groups + 1,), jnp.float32),
            }
        }

    def _usual_of(self, params: Params, learned: Batches, clips: list[int], most: int) -> tuple[np.ndarray, np.ndarray]:
        """The usual path of some of these clips: from their beginnings where they are one-shots, else from their middles."""
        length = self._memory_frames * self.code_hop
        chosen = np.linspace(0, len(clips) - 1, min(most, len(clips))).round().astype(int)
        sounds = np.zeros((len(chosen), length), np.float32)
        real = np.zeros((len(chosen), self._memory_frames), bool)
        for row, index in enumerate(chosen):
            pcm = learned.shards.samples(clips[index])[0]
            start = 0 if self.one_shots else max(0, (len(pcm) - length) // 2)
            heard = to_float(pcm[start : start + length])
            sounds[row, : len(heard)] = heard
            real[row, : -(-len(heard) // self.code_hop)] = True
        return _usual(self.codes(params, sounds), real)

    @property
    def _memory_frames(self) -> int:
        return max(1, round(MEMORY_SECONDS * self.frame_rate))


def _middle(pitches: list[float | None]) -> float:
    """The one in the middle of those that are known, NaN for none: a pitch that was learned."""
    known = sorted(pitch for pitch in pitches if pitch is not None)
    return known[len(known) // 2] if known else np.nan


def _usual(codes: np.ndarray, real: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The mean path [F, D] of codes [N, F, D] where they are real [N, F], its last mean held; and how far the paths lie
    from it as wholes, a standard deviation [D]."""
    weights = real[..., None].astype(np.float32)
    counts = weights.sum(axis=0)
    mean = (codes * weights).sum(axis=0) / np.maximum(counts, 1)
    known = max(1, int(real.any(axis=0).sum()))
    mean[known:] = mean[known - 1]
    shifts = ((codes - mean) * weights).sum(axis=1) / np.maximum(weights.sum(axis=1), 1)
    return mean.astype(np.float32), np.sqrt(np.square(shifts).mean(axis=0)).astype(np.float32)
