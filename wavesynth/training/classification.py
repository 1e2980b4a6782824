"""The objective of models that tell labels apart: make the right one likely."""

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
from wavesynth.training.state import Params, TrainState, apply_gradients, create, make_optimizer


@dataclass(frozen=True)
class ClassificationTraining(TrainingConfig):
    """How a classifier is trained.

    Attributes:
        augment: with which probability each of the changes in `wavesynth.training.augment` befalls a sound to learn.
    """

    steps: int = 1_000
    batch_size: int = 32
    crop: int = 16_384
    ema: float = 0.99
    validate_every: int = 100
    validation_windows: int = 1_000
    augment: Share = 0.5


@dataclass(frozen=True)
class Classification:
    """Cross-entropy, as pure steps (see `wavesynth.training.objective.Objective`).

    logits: (params, sounds [B, T]) to [B, labels]. Sounds without a label (-1) do not count.
    """

    logits: Callable[[Params, jax.Array], jax.Array]
    training: ClassificationTraining
    metric: ClassVar[str] = "bits"
    meaning: ClassVar[str] = "bits that the label of a held-out sound costs"
    aim: ClassVar[str] = "a good model lies well below the last"
    watched: ClassVar[str] = "error"
    remedy: ClassVar[str] = "a smaller learning rate"

    @cached_property
    def _optimizer(self):
        return make_optimizer(self.training)

    def init(self, params: Params) -> TrainState:
        return create(params, self._optimizer)

    def step(self, state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
        key = jax.random.fold_in(jax.random.key(self.training.seed), state.step)
        sounds = augment(key, batch["samples"], jnp.float32(self.training.augment))

        def loss(params: Params) -> tuple[jax.Array, Metrics]:
            metrics = _metrics(self.logits(params, sounds), batch["label"])
            return metrics["bits"], metrics

        (bits, metrics), gradients = jax.value_and_grad(loss, has_aux=True)(state.params)
        norm = optax.tree.norm(gradients)
        healthy = jnp.isfinite(bits) & jnp.isfinite(norm)
        state = apply_gradients(state, gradients, self._optimizer, self.training.ema, healthy)
        return state, metrics | {"gradient_norm": norm, "healthy": healthy}

    def evaluate(self, params: Params, batch: Batch) -> tuple[Metrics, jax.Array]:
        return _metrics(self.logits(params, batch["samples"]), batch["label"]), (batch["label"] >= 0).sum()


def _metrics(logits: jax.Array, labels: jax.Array) -> Metrics:
    """Bits of the right labels and the share of wrong guesses, the means over all sounds that have a label."""
    known = labels >= 0
    chances = jax.nn.log_softmax(logits, axis=-1)
    bits = -jnp.take_along_axis(chances, jnp.maximum(labels, 0)[:, None], axis=1)[:, 0] / math.log(2)
    wrong = logits.argmax(axis=-1) != labels
    count = jnp.maximum(known.sum(), 1)
    return {"bits": jnp.where(known, bits, 0.0).sum() / count, "error": (wrong & known).sum() / count}
