"""The objective of classifiers: the cross-entropy of labels."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import jax
import jax.numpy as jnp
import optax

from wavesynth.config import Share, TrainingConfig
from wavesynth.training.augment import augment
from wavesynth.training.objective import Batch, Metrics
from wavesynth.training.state import Pace, Params, TrainState, apply_gradients, create, learning_rate, make_optimizer


@dataclass(frozen=True)
class ClassificationTraining(TrainingConfig):
    """How a classifier is trained.

    Attributes:
        augment: probability with which each augmentation of `wavesynth.training.augment` is applied to a training sound.

    >>> ClassificationTraining(steps=2_000, batch_size=16).steps
    2000
    """

    steps: int = 1_000
    batch_size: int = 32
    crop_seconds: float = 1.0
    ema: float = 0.99
    validate_every: int = 100
    validation_windows: int = 1_000
    augment: Share = 0.5


@dataclass(frozen=True)
class Classification:
    """Cross-entropy, as pure steps (see `wavesynth.training.objective.Objective`).

    logits: (params, sounds [B, C, T]) to [B, labels]. Sounds without a label are ignored.
    """

    logits: Callable[[Params, jax.Array], jax.Array]
    training: ClassificationTraining
    pace: Pace | None = None  # see `wavesynth.training.state.Pace`; None for that of `training`
    metric: ClassVar[str] = "bits"
    meaning: ClassVar[str] = "cross-entropy of the labels of {sounds}, bits"
    aim: ClassVar[str] = "a good model lies well below the last"
    watched: ClassVar[str] = "error"
    remedy: ClassVar[str] = "a smaller learning rate"

    @cached_property
    def _optimizer(self):
        return make_optimizer(self.training)

    @cached_property
    def _pace(self) -> Pace:
        return self.pace or Pace.of(self.training)

    def init(self, params: Params) -> TrainState:
        return create(params, self._optimizer)

    def step(self, state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
        key = jax.random.fold_in(jax.random.key(self.training.seed), state.step)
        sounds = augment(key, batch["samples"], jnp.float32(self.training.augment))

        def loss(params: Params) -> tuple[jax.Array, Metrics]:
            metrics = _metrics(self.logits(params, sounds), batch["conditions"].labels)
            return metrics["bits"], metrics

        (bits, metrics), gradients = jax.value_and_grad(loss, has_aux=True)(state.params)
        norm, rate = optax.tree.norm(gradients), learning_rate(self.training, self._pace)
        healthy = jnp.isfinite(bits) & jnp.isfinite(norm)
        state = apply_gradients(state, gradients, self._optimizer, rate, self._pace.ema, healthy)
        return state, metrics | {"gradient_norm": norm, "healthy": healthy}

    def evaluate(self, params: Params, batch: Batch) -> tuple[Metrics, jax.Array]:
        labels = batch["conditions"].labels
        return _metrics(self.logits(params, batch["samples"]), labels), labels.sum()


def _metrics(logits: jax.Array, labels: jax.Array) -> Metrics:
    """Cross-entropy in bits and error rate of logits [B, labels], averaged over the sounds that have a label.

    labels: [B, labels], one-hot; zeros for no label.
    """
    known = labels.any(axis=-1)
    bits = -jnp.sum(labels * jax.nn.log_softmax(logits, axis=-1), axis=-1) / math.log(2)
    wrong = logits.argmax(axis=-1) != labels.argmax(axis=-1)
    count = jnp.maximum(known.sum(), 1)
    return {"bits": bits.sum() / count, "error": (wrong & known).sum() / count}
