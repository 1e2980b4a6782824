"""Base class of autoencoder families: timbres are paths of codes in time, and a model stores the mean path of each label."""

from abc import abstractmethod
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from wavesynth.conditions import Conditions
from wavesynth.data.batches import Batches
from wavesynth.families.base import Family
from wavesynth.families.protocols import Request
from wavesynth.timbre.interpolation import straight
from wavesynth.training.state import Params

MEMORY_SECONDS = 2.0  # length of the mean paths
MEMORY_CLIPS, LEAST_CLIPS = 128, 4  # clips averaged: in total, and at least per label


class CodingFamily(Family):
    """A family with an encoder, whose timbres are paths of codes, float32 [F, D]. It does not depend on the decoder.

    The memory published with the weights holds, for each label, the mean path of its sounds and the spread around it. `sample`
    uses it if no timbre is given.
    """

    reconstructs: ClassVar[bool] = True

    @property
    def code_hop(self) -> int:
        """Samples per frame of a path."""
        return self.model.code_hop

    @property
    def code_width(self) -> int:
        """The width of a code, D."""
        return self.model.code_channels

    @property
    def latent_channels(self) -> int:
        return self.code_width

    @property
    def label_conditioned(self) -> bool:
        return False  # the codes contain what a label would say

    @property
    def samples_by_label(self) -> bool:
        return bool(self.dataset.labels)  # the memory has a path for each

    @property
    def align(self) -> int:
        return self.code_hop

    @abstractmethod
    def codes(self, params: Params, sounds: np.ndarray) -> np.ndarray:
        """Encodes sounds [N, C, T], with T a multiple of `code_hop`: float32 [N, T / code_hop, D]."""

    @property
    def frame_rate(self) -> float:
        return self.dataset.sample_rate / self.code_hop

    @property
    def glide_rate(self) -> float:
        return self.frame_rate

    def encode(
        self, params: Params, samples: np.ndarray, conditions: Conditions, seed: int, progress: bool
    ) -> np.ndarray:
        self.check_pitch(conditions)
        return self.codes(params, np.pad(samples, ((0, 0), (0, -samples.shape[-1] % self.code_hop)))[None])[0]

    def latent_of(self, params: Params, label: int) -> np.ndarray:
        return np.asarray(params["memory"]["mean"][label])

    def between(self, a: np.ndarray, b: np.ndarray, t: float) -> np.ndarray:
        return straight(a, b, t)

    def paths(self, params: Params, conditions: Conditions, request: Request) -> np.ndarray:
        """The paths to decode, [n, F, D]: those of the request, or random ones for the labels."""
        if request.latents is not None:
            return request.latents
        return self.draw(params, request.seed, conditions.label_indices)

    def draw(self, params: Params, seed: int, labels: np.ndarray) -> np.ndarray:
        """The labels' mean paths, each shifted by a random offset with the spread of the label's sounds."""
        mean, spread = (np.asarray(params["memory"][name]) for name in ("mean", "spread"))
        rows = jnp.arange(len(labels))
        keys = jax.vmap(lambda row: jax.random.fold_in(jax.random.key(seed), row))(rows)
        random = jax.vmap(lambda key: jax.random.randint(jax.random.fold_in(key, 1), (), 0, len(mean)))(keys)
        chosen = np.where(labels >= 0, labels, np.asarray(random)) if len(mean) > 1 else np.zeros(len(labels), int)
        shifts = np.asarray(jax.vmap(lambda key: jax.random.normal(key, (self.code_width,)))(keys)) * spread[chosen]
        return mean[chosen] + shifts[:, None]

    def memory(self, params: Params, learned: Batches) -> Params:
        groups: dict[str | None, list[int]] = {label: [] for label in self.dataset.labels}
        for clip in learned.clips:
            groups.setdefault(learned.shards.clips[clip].label, []).append(clip)
        known = [groups[label] for label in self.dataset.labels] or [list(learned.clips)]
        each = max(LEAST_CLIPS, MEMORY_CLIPS // len(known))
        mean, spread = self._mean_path(params, learned, list(learned.clips), MEMORY_CLIPS)
        means = [self._mean_path(params, learned, group, each) if group else (mean, spread) for group in known]
        return {
            "memory": {
                "mean": np.stack([path for path, _ in means]),
                "spread": np.stack(
                    [own if len(group) > 1 else spread for (_, own), group in zip(means, known, strict=True)]
                ),
            }
        }

    def memory_shapes(self) -> Params:
        groups = max(1, len(self.dataset.labels))
        return {
            "memory": {
                "mean": jax.ShapeDtypeStruct((groups, self._memory_frames, self.code_width), jnp.float32),
                "spread": jax.ShapeDtypeStruct((groups, self.code_width), jnp.float32),
            }
        }

    def _mean_path(
        self, params: Params, learned: Batches, clips: list[int], most: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """The mean path of up to `most` clips, and its spread: of one-shots from the beginning, of pieces from the middle."""
        length = self._memory_frames * self.code_hop
        chosen = np.linspace(0, len(clips) - 1, min(most, len(clips))).round().astype(int)
        sounds = np.zeros((len(chosen), self.dataset.channels, length), np.float32)
        real = np.zeros((len(chosen), self._memory_frames), bool)
        for row, index in enumerate(chosen):
            clip = clips[index]
            spare = learned.shards.clips[clip].length - length
            start = 0 if self.dataset.one_shots else max(0, spare // 2)
            excerpt = learned.excerpt(clip, start, start + length)
            sounds[row, :, : excerpt.shape[-1]] = excerpt
            real[row, : -(-excerpt.shape[-1] // self.code_hop)] = True
        return _mean_and_spread(self.codes(params, sounds), real)

    @property
    def _memory_frames(self) -> int:
        return max(1, round(MEMORY_SECONDS * self.frame_rate))


def _mean_and_spread(codes: np.ndarray, real: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The mean path [F, D] of codes [N, F, D] over real frames [N, F], and the standard deviation [D] of the paths' offsets.

    Frames that are real in no clip repeat the last mean.
    """
    weights = real[..., None].astype(np.float32)
    counts = weights.sum(axis=0)
    mean = (codes * weights).sum(axis=0) / np.maximum(counts, 1)
    known = max(1, int(real.any(axis=0).sum()))
    mean[known:] = mean[known - 1]
    shifts = ((codes - mean) * weights).sum(axis=1) / np.maximum(weights.sum(axis=1), 1)
    return mean.astype(np.float32), np.sqrt(np.square(shifts).mean(axis=0)).astype(np.float32)
