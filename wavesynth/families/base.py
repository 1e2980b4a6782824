"""The joint of the house: what the loop, the checkpoints, `Synth` and the command line know of a model.

A family binds a network to an objective and a sampler. Whoever adds one writes those, one such binding, and a line in
`wavesynth.families`; no caller changes.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal, NoReturn, get_args

import jax
import numpy as np

from wavesynth.config import Config, DatasetInfo, TrainingConfig
from wavesynth.data.batches import Batches
from wavesynth.data.shards import Shards
from wavesynth.errors import UserError
from wavesynth.sampling.strategies import Strategy
from wavesynth.timbre.timbre import straight
from wavesynth.training.objective import Batch, Objective
from wavesynth.training.state import Params

Dtype = Literal["float32", "bfloat16"]
PITCHES = 128  # MIDI numbers; a pitch between two of them is a mixture of both
ONE_SHOT_SECONDS = 10.0  # longer clips are taken for pieces, in which the time since their beginning means nothing


@dataclass(frozen=True)
class Request:
    """What is wanted of a sampler: `n` sounds, all alike but for chance.

    implementation: of the sampler's inner loop, None for the fastest. dtype: of its weights, None for the model's own.
    latent: a timbre for each, float32 [n, D], or [n, F, D] for paths; None leaves them to the label, or to chance.
    alike: whether all draw the same chance, so that timbres alone tell them apart. endless: whether sounds go on, the last
    frames held, when their paths are over.
    label: a label's number, -1 for none. pitch: MIDI number, or None. prime: float32 [P], sound to go on from.
    truncation: 1 keeps all the variety of a latent space, less draws what is made towards its middle, 0 is the middle.
    """

    n: int = 1
    seed: int = 0
    label: int = -1
    pitch: float | None = None
    latent: np.ndarray | None = None
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


class Family(ABC):
    """One kind of model, bound to the shape of its network and to what it knows of the sounds.

    name: as in config.json. model_config, training_config: the dataclasses of its networks' shapes and of how they are
    trained. presets: by name. makes_sounds: whether it can sample; previews are made of what does. reconstructs: whether
    decoding what a sound is encoded to gives that sound again; previews then show sounds beside what is made of them.
    autoregressive: whether sounds are made sample by sample, and not whole, for which it takes many at once gladly.
    """

    name: ClassVar[str]
    model_config: ClassVar[type]
    training_config: ClassVar[type[TrainingConfig]] = TrainingConfig
    presets: ClassVar[dict[str, Config]]
    makes_sounds: ClassVar[bool] = True
    reconstructs: ClassVar[bool] = False
    autoregressive: ClassVar[bool] = False

    def __init__(self, model: Any, dataset: DatasetInfo) -> None:
        self.model, self.dataset = model, dataset

    @classmethod
    @abstractmethod
    def adapt(cls, model: Any, dataset: DatasetInfo) -> Any:
        """The shape of the network, completed by what the sounds have: labels, pitches."""

    @property
    def context(self) -> int:
        """How many samples of left context a window of training data needs."""
        return 0

    @property
    def align(self) -> int:
        """Windows of training data begin at multiples of this many samples."""
        return 1

    @property
    def length(self) -> int | None:
        """Samples of every sound that it makes; None where they may have any length."""
        return None

    @property
    def frame_rate(self) -> float | None:
        """Frames a second of its timbres, where they are paths in time; None where a timbre is a point."""
        return None

    @property
    def glide_rate(self) -> float | None:
        """Frames a second at which a timbre may move within one sound; None where it cannot."""
        return self.frame_rate

    @property
    def one_shots(self) -> bool:
        """Whether its sounds are short ones with a beginning and an end, and not pieces."""
        return self.dataset.clip_seconds <= ONE_SHOT_SECONDS

    def windows(self, shards: Shards, training: TrainingConfig) -> Batches:
        """How the sounds to learn are drawn from shards."""
        learned = Batches(
            shards, "train", training.batch_size, training.crop or self.length or 0, self.context, training.seed,
            limit=training.validation_windows, align=self.align, whole=bool(self.length) and self.one_shots,
            host=jax.process_index(), hosts=jax.process_count(),
        )  # fmt: skip
        return replace(learned, noise=training.noise * learned.level) if training.noise else learned

    def held_out(self, learned: Batches) -> Batches:
        """How the sounds held out are drawn: the training sounds themselves where there are no others."""
        return replace(learned, split="valid" if learned.shards.split("valid") else "train")

    @abstractmethod
    def init(self, key: jax.Array, windows: Batch) -> Params:
        """Fresh parameters of all that is trained; `windows` are some of the training data, to calibrate them by."""

    @abstractmethod
    def shapes(self) -> Params:
        """The tree that `init` returns, as shapes without values."""

    def published(self, params: Params) -> Params:
        """The part of that tree which makes sounds: what a synth holds. The moving average is taken of it alone."""
        return params

    def memory(self, params: Params, learned: Batches) -> Params:
        """What is kept of the training sounds beside the published parameters; made whenever those are published."""
        return {}

    def memory_shapes(self) -> Params:
        """The tree that `memory` returns, as shapes without values."""
        return {}

    @abstractmethod
    def objective(self, training: TrainingConfig) -> Objective:
        """What the loop optimises."""

    @abstractmethod
    def baselines(self, training: Any, held_out: Any) -> dict[str, float]:
        """The objective's metric for models anyone can compute, on the same sounds: what a good metric lies below."""

    def stream(self, params: Params, request: Request) -> Iterator[np.ndarray]:
        """Blocks of samples, float32 [n, any length], for ever or until the sounds are over."""
        self.unsupported("sample")

    def log_prob(self, params: Params, samples: np.ndarray, request: Request, quantization: str | None) -> np.ndarray:
        """Nats [T] of each of samples [T], given those before it."""
        self.unsupported("score samples", "its objective is not a likelihood")

    def latent(self, params: Params, label: int) -> np.ndarray:
        """The timbre, float32 [D] or [F, D], that stands for a label."""
        self.unsupported("turn a label into a timbre")

    def default_pitch(self, params: Params, label: int) -> float | None:
        """The pitch to play where none is requested for a label (-1 for any); None where the model can do without."""
        return None

    def latents(self, params: Params, n: int, seed: int, label: int) -> np.ndarray:
        """Timbres drawn by chance, float32 [n, D] or [n, F, D]."""
        self.unsupported("draw timbres by chance", "its latent space holds the labels alone")

    def encode(self, params: Params, samples: np.ndarray, request: Request, progress: bool) -> np.ndarray:
        """The timbre, float32 [D] or [F, D], that sounds most like samples [T]; `request` knows label, pitch and seed."""
        self.unsupported("turn a sound into a timbre")

    def resynthesize(self, params: Params, blocks: Iterator[np.ndarray], request: Request) -> Iterator[np.ndarray]:
        """What decoding its code makes of a sound while that goes on: blocks [t] to blocks, as many samples in all;
        `request` knows pitch and seed."""
        self.unsupported("follow a sound", "it does not encode sounds as they come")

    def between(self, a: np.ndarray, b: np.ndarray, t: float) -> np.ndarray:
        """The timbre a share t of the way from a to b, all of one shape; the ends are exactly a and b."""
        return straight(a, b, t)

    def features(self, params: Params, sounds: np.ndarray) -> np.ndarray:
        """What the model sums sounds [N, T] up in before it decides on their labels, float32 [N, D]."""
        self.unsupported("judge sounds", "it is no classifier")

    def probabilities(self, params: Params, sounds: np.ndarray) -> np.ndarray:
        """How likely each label is for sounds [N, T], float32 [N, labels]; rows sum to 1."""
        self.unsupported("judge sounds", "it is no classifier")

    def check_whole(self, request: Request, prime: str, less: str) -> None:
        """Raises UserError where something is wanted that means nothing to a model which makes sounds without drawing samples.

        prime: why it cannot go on from one. less: what makes its sounds less various.
        """
        if request.prime is not None:
            self.unsupported("go on from a prime", prime)
        self.check_pitch(request)
        for name in ("temperature", "top_k", "top_p"):
            requested = getattr(request.strategy, name)
            if requested != getattr(Strategy(), name):
                self.unsupported(
                    f"sample with {name} {requested}",
                    f"it draws no samples; leave {name} out, and for less variety {less}",
                )
        if request.implementation is not None:
            self.unsupported(
                f"sample by the implementation {request.implementation!r}",
                "it has one alone, no loop over samples; leave implementation out",
            )
        if request.dtype not in (None, self.model.dtype):
            self.unsupported(
                f"sample in {request.dtype}", f"it was trained to compute in {self.model.dtype}; leave dtype out"
            )

    def check_pitch(self, request: Request) -> None:
        """Raises UserError where a pitch is wanted of a model that has learned none."""
        if request.pitch is not None and not self.dataset.pitched:
            self.unsupported("play a pitch", "it was trained on sounds without pitches; leave pitch out")

    def check_truncation(self, request: Request, less: str) -> None:
        """Raises UserError where a truncation is wanted of a model that knows no middle of its timbres."""
        if request.truncation != 1:
            self.unsupported(
                f"draw with truncation {request.truncation:g}", f"its timbres have no middle; for less variety {less}"
            )

    def unsupported(self, what: str, why: str = "the family has no such ability") -> NoReturn:
        raise UserError(f"a model of the family {self.name!r} cannot {what}: {why}")
