"""Base class of families: defaults for most of `Trainable`, and shared checks."""

from abc import abstractmethod
from dataclasses import replace
from typing import Any, ClassVar, NoReturn

import jax
import numpy as np

from wavesynth.audio.rates import multiple
from wavesynth.conditions import Conditions
from wavesynth.config import Config, DatasetInfo, TrainingConfig
from wavesynth.data.batches import Batches
from wavesynth.data.shards import Shards
from wavesynth.errors import UserError
from wavesynth.families.protocols import Request, Trainable
from wavesynth.sampling.strategies import Strategy
from wavesynth.training.state import Params


class Family(Trainable):
    """A kind of model, bound to a network config and a dataset.

    A subclass sets `name`, `model_config` and `presets`, and implements the abstract methods and those protocols of
    `wavesynth.families.protocols` that it supports.
    """

    training_config: ClassVar[type[TrainingConfig]] = TrainingConfig
    presets: ClassVar[dict[str, Config]] = {}
    channels: ClassVar[int] = 1

    def __init__(self, model: Any, dataset: DatasetInfo) -> None:
        self.model, self.dataset = model, dataset

    def __reduce__(self) -> tuple:
        return type(self), (self.model, self.dataset)  # compiled programs are not pickled

    @property
    def context(self) -> int:
        return 0

    @property
    def align(self) -> int:
        return 1

    @property
    def length(self) -> int | None:
        return None

    def crop(self, training: TrainingConfig) -> int:
        """Samples of a training example that count in the loss, in whole frames.

        Raises:
            UserError: `crop_seconds` is shorter than a frame.
        """
        if self.length:
            return self.length
        shortest = self.align / self.dataset.sample_rate
        if training.crop_seconds < shortest:
            raise UserError(
                f"crop_seconds is {training.crop_seconds:g}: it must be at least {shortest:g}, the length of a frame"
            )
        return multiple(training.crop_seconds, self.dataset.sample_rate, of=self.align)

    @property
    def label_conditioned(self) -> bool:
        """Whether the network takes a label together with a sound, for scoring and encoding."""
        return bool(self.dataset.labels)

    @property
    def samples_by_label(self) -> bool:
        """Whether a label has an effect on the sounds that the model generates."""
        return self.label_conditioned

    def windows(self, shards: Shards, training: Any) -> Batches:
        learned = Batches(
            shards, "train", training.batch_size, self.crop(training), self.context, training.seed,
            limit=training.validation_windows, align=self.align, whole=bool(self.length) and self.dataset.one_shots,
            host=jax.process_index(), hosts=jax.process_count(), channels=self.dataset.channels,
            transpose=training.transpose if self.dataset.pitched else 0.0,
        )  # fmt: skip
        return replace(learned, noise=training.noise * learned.level) if training.noise else learned

    def held_out(self, learned: Batches) -> Batches:
        """The split "valid", or the training sounds if it is empty, without added silence or transposition."""
        split = "valid" if learned.shards.split("valid") else "train"
        return replace(learned, split=split, silence=0, transpose=0.0)

    @abstractmethod
    def init(self, key: jax.Array, windows: dict[str, Any]) -> Params: ...

    @abstractmethod
    def shapes(self) -> Params: ...

    def published(self, params: Params) -> Params:
        return params

    def label_parts(self) -> dict[str, tuple[int, int]]:
        return {}

    def memory(self, params: Params, learned: Batches) -> Params:
        return {}

    def memory_shapes(self) -> Params:
        return {}

    @abstractmethod
    def objective(self, training: Any) -> Any: ...

    @abstractmethod
    def baselines(self, training: Batches, held_out: Batches) -> dict[str, float]: ...

    def check_pitch(self, conditions: Conditions) -> None:
        """Raises UserError if a pitch is given and the model was trained without pitches."""
        if not self.dataset.pitched and not np.isnan(np.asarray(conditions.pitch)).all():
            self.unsupported("play a pitch", "it was trained on sounds without pitches; leave pitch out")

    def check_truncation(self, request: Request, alternative: str) -> None:
        """Raises UserError if truncation is given: for models whose latent space has no centre."""
        if request.truncation != 1:
            self.unsupported(
                f"draw with truncation {request.truncation:g}",
                f"its latent space has no centre; for less variety {alternative}",
            )

    def check_no_sampling(self, conditions: Conditions, request: Request, prime: str, alternative: str) -> None:
        """Raises UserError if sampling options are given: for models that do not generate sample by sample.

        prime: why the model cannot continue a prime. alternative: how to reduce variety.
        """
        if request.prime is not None:
            self.unsupported("continue a prime", prime)
        self.check_pitch(conditions)
        for name in ("temperature", "top_k", "top_p"):
            requested = getattr(request.strategy, name)
            if requested != getattr(Strategy(), name):
                self.unsupported(
                    f"sample with {name} {requested}",
                    f"it draws no samples; leave {name} out, and for less variety {alternative}",
                )
        if request.implementation is not None:
            self.unsupported(
                f"sample with implementation {request.implementation!r}",
                "it has no loop over samples; leave implementation out",
            )
        if request.dtype not in (None, self.model.dtype):
            self.unsupported(
                f"sample in {request.dtype}", f"it was trained to compute in {self.model.dtype}; leave dtype out"
            )

    def unsupported(self, action: str, reason: str) -> NoReturn:
        """Raises UserError: the model cannot do `action`, for `reason`."""
        raise UserError(f"a model of the family {self.name!r} cannot {action}: {reason}")
