"""The joint of the house: what the loop, the checkpoints, `Synth` and the command line know of a model.

A family binds a network to an objective and a sampler. Whoever adds one writes those, one such binding, and a line in
`wavesynth.families`; no caller changes.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NoReturn, get_args

import jax
import numpy as np

from wavesynth.config import Config, Material, TrainingConfig
from wavesynth.errors import UserError
from wavesynth.sampling.strategies import Strategy
from wavesynth.training.objective import Batch, Objective
from wavesynth.training.state import Params

Dtype = Literal["float32", "bfloat16"]


@dataclass(frozen=True)
class Request:
    """What is wanted of a sampler: `n` sounds, all alike but for chance.

    implementation: of the sampler's inner loop, None for the fastest. dtype: of its weights, None for the model's own.
    latent: float32 [D], or [n, D] with one for each; None leaves the timbre to the label, or to chance.
    label: a label's number, -1 for none. pitch: MIDI number, or None. prime: float32 [P], sound to go on from.
    """

    n: int = 1
    seed: int = 0
    label: int = -1
    pitch: float | None = None
    latent: np.ndarray | None = None
    prime: np.ndarray | None = None
    strategy: Strategy = Strategy()
    implementation: str | None = None
    dtype: Dtype | None = None

    def __post_init__(self) -> None:
        if self.dtype not in (None, *get_args(Dtype)):
            raise UserError(f"dtype is {self.dtype!r}: choose one of {', '.join(get_args(Dtype))}")


class Family(ABC):
    """One kind of model, bound to the shape of its network and to what it knows of the sounds.

    name: as in config.json. model_config: the dataclass of its networks' shapes. presets: by name.
    """

    name: ClassVar[str]
    model_config: ClassVar[type]
    presets: ClassVar[dict[str, Config]]

    def __init__(self, model: Any, material: Material) -> None:
        self.model, self.material = model, material

    @classmethod
    @abstractmethod
    def adapt(cls, model: Any, material: Material) -> Any:
        """The shape of the network, completed by what the sounds have: labels, pitches."""

    @property
    @abstractmethod
    def context(self) -> int:
        """How many samples of left context a window of training data needs."""

    @property
    def align(self) -> int:
        """Windows of training data begin at multiples of this many samples."""
        return 1

    @abstractmethod
    def init(self, key: jax.Array, windows: Batch) -> Params:
        """Fresh parameters; `windows` are some of the training data, to calibrate them by."""

    @abstractmethod
    def shapes(self) -> Params:
        """The tree that `init` returns, as shapes without values."""

    @abstractmethod
    def objective(self, training: TrainingConfig) -> Objective:
        """What the loop optimises."""

    @abstractmethod
    def baselines(self, training: Any, held_out: Any) -> dict[str, float]:
        """The objective's metric for models anyone can compute, on the same sounds: what a good figure lies below."""

    def stream(self, params: Params, request: Request) -> Iterator[np.ndarray]:
        """Blocks of samples, float32 [n, any length], for ever or until the sounds are over."""
        self.cannot("sample")

    def log_prob(self, params: Params, samples: np.ndarray, request: Request, quantization: str | None) -> np.ndarray:
        """Nats [T] of each of samples [T], given those before it."""
        self.cannot("score samples", "its objective is not a likelihood")

    def latent(self, params: Params, label: int) -> np.ndarray:
        """The point of the latent space, float32 [D], that stands for a label."""
        self.cannot("turn a label into a timbre")

    def cannot(self, what: str, why: str = "the family has no such ability") -> NoReturn:
        raise UserError(f"a model of the family {self.name!r} cannot {what}: {why}")
