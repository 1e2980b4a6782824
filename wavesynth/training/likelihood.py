"""The objective of autoregressive models: maximum likelihood."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import jax
import jax.numpy as jnp
import optax

from wavesynth.config import TrainingConfig
from wavesynth.training.objective import Batch, Metrics
from wavesynth.training.state import Pace, Params, TrainState, apply_gradients, create, learning_rate, make_optimizer


@dataclass(frozen=True)
class Likelihood:
    """Maximum likelihood, as pure steps (see `wavesynth.training.objective.Objective`).

    The loss is the mean over the whole crop, including the silence after a short clip, so that generated sounds end like real
    ones. The metric `bits` counts real samples only.

    Attributes:
        log_prob: (params, batch) to the log probability of each sample of the crop, nats [B, crop].
        training: how to train.
        pace: see `wavesynth.training.state.Pace`; None for that of `training`.
    """

    log_prob: Callable[[Params, Batch], jax.Array]
    training: TrainingConfig
    pace: Pace | None = None
    metric: ClassVar[str] = "bits"
    meaning: ClassVar[str] = "bits per sample of {sounds}"
    aim: ClassVar[str] = "a good model lies well below the last"
    watched: ClassVar[str] = "bits"
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
        def loss(params: Params) -> tuple[jax.Array, jax.Array]:
            bits = -self.log_prob(params, batch) / math.log(2)
            return bits.mean(), _mean_over_real(bits, batch)

        (value, bits), gradients = jax.value_and_grad(loss, has_aux=True)(state.params)
        norm, rate = optax.tree.norm(gradients), learning_rate(self.training, self._pace)
        healthy = jnp.isfinite(value) & jnp.isfinite(norm)
        state = apply_gradients(state, gradients, self._optimizer, rate, self._pace.ema, healthy)
        return state, {"bits": bits, "gradient_norm": norm, "healthy": healthy}

    def evaluate(self, params: Params, batch: Batch) -> tuple[Metrics, jax.Array]:
        bits = -self.log_prob(params, batch) / math.log(2)
        return {"bits": _mean_over_real(bits, batch)}, batch["real"].sum()


def _mean_over_real(bits: jax.Array, batch: Batch) -> jax.Array:
    real = batch["real"]
    return jnp.sum(jnp.where(real, bits, 0.0)) / jnp.maximum(real.sum(), 1)
