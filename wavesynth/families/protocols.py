"""What a family of models can do, as small protocols. A family implements those that it can serve, and nothing else.

A family binds a network to an objective and a sampler. `Trainable` is what the training loop and the checkpoints need; each
other protocol is an ability of its own, which `Synth` and the command line look for with `isinstance`.
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
    """How sounds are drawn, whatever their conditions are.

    Attributes:
        seed: of all randomness; row i depends on (seed, i) alone.
        latents: a timbre for each sound, float32 [n, D], or [n, F, D] for paths; None for families without timbres.
        prime: float32 [C, P], sound to continue.
        strategy: how freely samples are drawn.
        truncation: 1 keeps the full variety of a latent space, less draws closer to its middle, 0 is the middle.
        shared_noise: whether all rows use the randomness of row 0, so that they differ in their timbres alone.
        endless: whether sounds go on, their last frames held, when their paths are over.
        implementation: of the sampler's inner loop; None for the fastest.
        dtype: of the sampler's weights; None for the model's own.

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
    """A network bound to the sounds that it learns: what the loop and the checkpoints need. `Family` has defaults.

    Attributes:
        name: as in config.json.
        model_config: the dataclass of its network's shape.
        training_config: the dataclass of how it is trained.
        presets: configs that are known to work, by name.
        model: the shape of the network, adapted to the sounds.
        dataset: what it knows of the sounds.
    """

    name: ClassVar[str]
    model_config: ClassVar[type]
    training_config: ClassVar[type[TrainingConfig]]
    presets: ClassVar[dict[str, Config]]
    model: Any
    dataset: DatasetInfo

    def __init__(self, model: Any, dataset: DatasetInfo) -> None: ...

    @classmethod
    def adapt(cls, model: Any, dataset: DatasetInfo) -> Any:
        """The shape of the network, completed by what the sounds have: labels, pitches, rate."""
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
        """How the sounds to learn are drawn from shards."""
        ...

    def held_out(self, learned: Batches) -> Batches:
        """How the sounds to validate on are drawn."""
        ...

    def init(self, key: jax.Array, windows: Batch) -> Params:
        """Fresh parameters of everything that is trained. `windows` are some of the training data, for calibration."""
        ...

    def shapes(self) -> Params:
        """The tree that `init` returns, as shapes without values."""
        ...

    def published(self, params: Params) -> Params:
        """The part of that tree that a synth holds. Only of this part a moving average is kept."""
        ...

    def memory(self, params: Params, learned: Batches) -> Params:
        """What is kept of the training sounds beside the published parameters, computed when those are published."""
        ...

    def memory_shapes(self) -> Params:
        """The tree that `memory` returns, as shapes without values."""
        ...

    def objective(self, training: Any) -> Objective:
        """What the loop optimises."""
        ...

    def baselines(self, training: Batches, held_out: Batches) -> dict[str, float]:
        """The objective's metric for trivial models on the same sounds: what a good value lies below."""
        ...


@runtime_checkable
class Generative(Protocol):
    """It generates sound: `sample`, `stream`, `write`, previews.

    Attributes:
        autoregressive: whether sounds are generated sample by sample, which makes many of them expensive.
    """

    autoregressive: ClassVar[bool]

    @property
    def length(self) -> int | None:
        """Samples of every sound; None where sounds may have any length."""
        ...

    def generate(self, params: Params, conditions: Conditions, request: Request) -> Iterator[np.ndarray]:
        """Blocks of n sounds, float32 [n, C, any length], for ever or until the sounds are over."""
        ...


@runtime_checkable
class Scored(Protocol):
    """It gives samples a probability: `log_prob`, `bits_per_sample`, `score`."""

    def log_prob(
        self, params: Params, samples: np.ndarray, conditions: Conditions, quantization: str | None
    ) -> np.ndarray:
        """Log-probabilities, nats [T], of samples [C, T], each given those before it."""
        ...


@runtime_checkable
class Timbral(Protocol):
    """It has a latent space of timbres: `encode`, `decode`, `morph`, `glide`, `grid`.

    Attributes:
        reconstructs: whether decoding an encoded sound gives that sound again; previews then show both.
    """

    reconstructs: ClassVar[bool]

    @property
    def frame_rate(self) -> float | None:
        """Frames per second of its timbres, where they are paths in time; None where a timbre is a point."""
        ...

    @property
    def glide_rate(self) -> float | None:
        """Frames per second at which a timbre may move within one sound; None where it cannot."""
        ...

    @property
    def latent_channels(self) -> int:
        """D, the width of a latent."""
        ...

    def encode(
        self, params: Params, samples: np.ndarray, conditions: Conditions, seed: int, progress: bool
    ) -> np.ndarray:
        """The timbre, float32 [D] or [F, D], that sounds most like samples [C, T] under these conditions of one sound."""
        ...

    def latent_of(self, params: Params, label: int) -> np.ndarray:
        """The timbre, float32 [D] or [F, D], that stands for a label's index."""
        ...

    def draw(self, params: Params, seed: int, labels: np.ndarray) -> np.ndarray:
        """A random timbre for each label index in int [n] (-1 for any), float32 [n, D] or [n, F, D]."""
        ...

    def between(self, a: np.ndarray, b: np.ndarray, t: float) -> np.ndarray:
        """The latent at a share t of the path from a to b, all of one shape; the ends are exactly a and b."""
        ...


@runtime_checkable
class Live(Protocol):
    """It encodes and decodes a sound while that goes on: `resynthesize`."""

    @property
    def latency(self) -> float:
        """Seconds from a sample that comes in to the same sample of the output, at most; inf for a model that looks ahead
        without end."""
        ...

    def resynthesize(
        self, params: Params, blocks: Iterator[np.ndarray], conditions: Conditions, seed: int
    ) -> Iterator[np.ndarray]:
        """Blocks float32 [C, t] of any lengths to blocks of the reconstruction, as many samples in all."""
        ...


@runtime_checkable
class Judging(Protocol):
    """It classifies sounds, so that generated ones can be judged: `evaluate`."""

    def features(self, params: Params, sounds: np.ndarray) -> np.ndarray:
        """Activations before the last layer for sounds [N, T], float32 [N, D]."""
        ...

    def probabilities(self, params: Params, sounds: np.ndarray) -> np.ndarray:
        """The probability of each label for sounds [N, T], float32 [N, labels]; rows sum to 1."""
        ...


ABILITIES: dict[type, str] = {
    Generative: "sample",
    Scored: "score samples",
    Timbral: "encode, decode or morph timbres",
    Live: "resynthesize live sound",
    Judging: "judge sounds",
}
"""What each protocol lets a model do, in words."""

P = TypeVar("P")


def require(family: Any, protocol: type[P], action: str | None = None) -> P:
    """The family as one that implements a protocol.

    Raises:
        UserError: it does not. The message names the action, and what the family can do.
    """
    if isinstance(family, protocol):
        return family
    can = ", ".join(words for other, words in ABILITIES.items() if isinstance(family, other)) or "only be trained"
    raise UserError(f"a model of the family {family.name!r} cannot {action or ABILITIES[protocol]}: it can {can}")
