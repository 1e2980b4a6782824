"""The abilities of model families, as small protocols. A family implements only those that it supports.

A family binds a network to an objective and a sampler. The training loop and the checkpoints require `Trainable`. Each other
protocol is a separate ability, which `Synth` and the command line test for with `isinstance`.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Protocol, TypeVar, get_args, runtime_checkable

import jax
import numpy as np

from wavesynth.conditions import Conditions
from wavesynth.config import Config, DatasetInfo, TrainingConfig
from wavesynth.data.batches import Batches
from wavesynth.data.shards import Shards
from wavesynth.errors import UserError
from wavesynth.sampling.strategies import Strategy
from wavesynth.training.objective import Batch, Objective
from wavesynth.training.state import Params

Dtype = Literal["float32", "bfloat16"]


@dataclass(frozen=True)
class Request:
    """How to generate sounds, apart from their conditions.

    Attributes:
        seed: random seed; row i depends only on (seed, i).
        latents: one timbre per sound, float32 [n, D], or [n, F, D] for paths; None for random ones, or for families without
            timbres.
        prime: float32 [C, P], the sound to continue.
        strategy: sampling strategy.
        truncation: 1 keeps the full variety of the latent space, lower values draw closer to its centre, 0 is the centre.
        shared_noise: whether all rows use the randomness of row 0, so that they differ only in their timbres.
        endless: whether sounds continue after the end of their paths, with the last frame held.
        implementation: implementation of the sampling loop; None for the fastest.
        dtype: data type of the sampler's weights; None for the model's own.

    Raises:
        UserError: truncation or dtype is out of range.
    """

    seed: int = 0
    latents: np.ndarray | None = None
    prime: np.ndarray | None = None
    strategy: Strategy = Strategy()
    truncation: float = 1.0
    shared_noise: bool = False
    endless: bool = False
    implementation: str | None = None
    dtype: Dtype | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.truncation <= 1:
            raise UserError(f"truncation is {self.truncation}: it must lie between 0 and 1")
        if self.dtype not in (None, *get_args(Dtype)):
            raise UserError(f"dtype is {self.dtype!r}: choose one of {', '.join(get_args(Dtype))}")


class Trainable(Protocol):
    """The interface that the training loop and the checkpoints require. `Family` has defaults.

    Attributes:
        name: the family's name in config.json.
        model_config: the dataclass of the network's shape.
        training_config: the dataclass of the training settings.
        presets: ready-made configs, by name.
        channels: the most audio channels that it supports, 1 or 2. For a family with 1, stereo sounds are mixed.
        model: the shape of the network, adapted to the dataset.
        dataset: facts about the training sounds.
    """

    name: ClassVar[str]
    model_config: ClassVar[type]
    training_config: ClassVar[type[TrainingConfig]]
    presets: ClassVar[dict[str, Config]]
    channels: ClassVar[int]
    model: Any
    dataset: DatasetInfo

    def __init__(self, model: Any, dataset: DatasetInfo) -> None: ...

    @classmethod
    def adapt(cls, model: Any, dataset: DatasetInfo) -> Any:
        """Fills in the fields of the network's shape that depend on the dataset: labels, pitches, sample rate."""
        ...

    @property
    def context(self) -> int:
        """Samples of left context in front of a window of training data."""
        ...

    @property
    def align(self) -> int:
        """Windows of training data begin at multiples of this many samples."""
        ...

    def windows(self, shards: Shards, training: Any) -> Batches:
        """The batches of training sounds."""
        ...

    def held_out(self, learned: Batches) -> Batches:
        """The batches of validation sounds."""
        ...

    def init(self, key: jax.Array, windows: Batch) -> Params:
        """Initial values of all trained parameters. `windows` is a batch of training data, for calibration."""
        ...

    def shapes(self) -> Params:
        """The tree that `init` returns, as shapes without values."""
        ...

    def published(self, params: Params) -> Params:
        """The part of the parameters that a synth needs. The moving average covers only this part."""
        ...

    def label_parts(self) -> dict[str, tuple[int, int]]:
        """The published arrays with an entry for each label: dotted path to the axis, and the place of the first label."""
        ...

    def memory(self, params: Params, learned: Batches) -> Params:
        """Data about the training sounds to publish with the parameters, such as mean codes."""
        ...

    def memory_shapes(self) -> Params:
        """The tree that `memory` returns, as shapes without values."""
        ...

    def objective(self, training: Any) -> Objective:
        """The training objective."""
        ...

    def baselines(self, training: Batches, held_out: Batches) -> dict[str, float]:
        """The objective's metric for trivial models on the same sounds, for comparison."""
        ...


@runtime_checkable
class Generative(Protocol):
    """Families that generate sounds, for `sample`, `stream`, `write` and previews.

    Attributes:
        autoregressive: whether sounds are generated sample by sample, which is slow.
    """

    autoregressive: ClassVar[bool]

    @property
    def length(self) -> int | None:
        """The number of samples of every sound; None if sounds may have any length."""
        ...

    def generate(self, params: Params, conditions: Conditions, request: Request) -> Iterator[np.ndarray]:
        """Generates n sounds in blocks, float32 [n, C, any length], endlessly or until the sounds end."""
        ...


@runtime_checkable
class Scored(Protocol):
    """Families with a likelihood, for `log_prob`, `bits_per_sample` and `score`."""

    def log_prob(
        self, params: Params, samples: np.ndarray, conditions: Conditions, quantization: str | None
    ) -> np.ndarray:
        """The log-probability of each sample given those before it: samples [C, T] to nats [T]."""
        ...


@runtime_checkable
class Timbral(Protocol):
    """Families with a latent space of timbres, for `encode`, `decode`, `morph`, `glide` and `grid`.

    Attributes:
        reconstructs: whether decoding an encoded sound reproduces it; previews then show both.
    """

    reconstructs: ClassVar[bool]

    @property
    def frame_rate(self) -> float | None:
        """Frames per second of timbres that are paths in time; None if timbres are points."""
        ...

    @property
    def glide_rate(self) -> float | None:
        """Frames per second at which a timbre may change within one sound; None if it cannot."""
        ...

    @property
    def latent_channels(self) -> int:
        """The width of a latent, D."""
        ...

    def encode(
        self, params: Params, samples: np.ndarray, conditions: Conditions, seed: int, progress: bool
    ) -> np.ndarray:
        """Encodes samples [C, T] of one sound with these conditions to a latent, float32 [D] or [F, D]."""
        ...

    def latent_of(self, params: Params, label: int) -> np.ndarray:
        """The latent of a label, given by index: float32 [D] or [F, D]."""
        ...

    def draw(self, params: Params, seed: int, labels: np.ndarray) -> np.ndarray:
        """Random latents for label indices, int [n] (-1 for any label): float32 [n, D] or [n, F, D]."""
        ...

    def between(self, a: np.ndarray, b: np.ndarray, t: float) -> np.ndarray:
        """The latent at position t on the path from a (t = 0) to b (t = 1), all of one shape. The ends are exact."""
        ...


@runtime_checkable
class Live(Protocol):
    """Families that encode and decode a live sound, for `resynthesize`."""

    @property
    def latency(self) -> float:
        """The largest delay from an input sample to the same output sample, seconds; inf if it is unbounded."""
        ...

    def resynthesize(
        self, params: Params, blocks: Iterator[np.ndarray], conditions: Conditions, seed: int
    ) -> Iterator[np.ndarray]:
        """Reconstructs blocks, float32 [C, t] of any lengths. The output has as many samples in total."""
        ...


@runtime_checkable
class Judging(Protocol):
    """Families that classify sounds, for `evaluate`."""

    def features(self, params: Params, sounds: np.ndarray) -> np.ndarray:
        """The activations before the last layer: sounds [N, T] to float32 [N, D]."""
        ...

    def probabilities(self, params: Params, sounds: np.ndarray) -> np.ndarray:
        """The probability of each label: sounds [N, T] to float32 [N, labels]; rows sum to 1."""
        ...


ABILITIES: dict[type, str] = {
    Generative: "sample",
    Scored: "score samples",
    Timbral: "encode, decode or morph timbres",
    Live: "resynthesize live sound",
    Judging: "judge sounds",
}
"""Each protocol's ability, in words."""

P = TypeVar("P")


def require(family: Any, protocol: type[P], action: str | None = None) -> P:
    """Returns the family if it implements a protocol.

    Raises:
        UserError: it does not. The message says what the family can do instead.
    """
    if isinstance(family, protocol):
        return family
    can = ", ".join(words for other, words in ABILITIES.items() if isinstance(family, other)) or "only be trained"
    raise UserError(f"a model of the family {family.name!r} cannot {action or ABILITIES[protocol]}: it can {can}")
