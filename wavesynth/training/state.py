"""What training changes from step to step, and the optimiser that changes it."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax

from wavesynth.config import TrainingConfig

Params = Any  # nested dictionaries of arrays


@partial(jax.tree_util.register_dataclass, data_fields=("step", "params", "ema", "optimizer"), meta_fields=())
@dataclass(frozen=True)
class TrainState:
    """Everything that a checkpoint holds: with the data's seed, which is in the config, it determines all that follows.

    step: int32 [], steps taken. params, ema: the weights and their moving average. optimizer: its state.
    """

    step: jax.Array
    params: Params
    ema: Params
    optimizer: Any


def create(params: Params, optimizer: optax.GradientTransformation) -> TrainState:
    return TrainState(jnp.zeros((), jnp.int32), params, jax.tree.map(jnp.copy, params), optimizer.init(params))


def make_optimizer(training: TrainingConfig) -> optax.GradientTransformation:
    """Clipping, then AdamW or Muon (Jordan et al., 2024), under a linear warm-up and a cosine to zero, or none."""
    warmup = min(training.warmup, training.steps // 10)
    if training.schedule == "constant":
        rate = optax.linear_schedule(0.0 if warmup else training.learning_rate, training.learning_rate, warmup)
    else:
        rate = optax.warmup_cosine_decay_schedule(0.0, training.learning_rate, warmup, max(training.steps, warmup + 1))
    if training.optimizer == "muon":
        matrices = optax.contrib.muon(
            rate, beta=training.beta1, adam_b1=training.beta1, adam_b2=training.beta2,
            weight_decay=training.weight_decay, weight_decay_mask=trained, adam_weight_decay=0.0,
        )  # fmt: skip
        return optax.chain(optax.clip_by_global_norm(training.clip), matrices)
    decay = optax.adamw(rate, b1=training.beta1, b2=training.beta2, weight_decay=training.weight_decay, mask=trained)
    return optax.chain(optax.clip_by_global_norm(training.clip), decay)


def trained(params: Params) -> Any:
    """Which parameters decay: matrices, unless their name begins with `fixed_` (those are constants from the data)."""

    def decays(path: tuple, leaf: jax.Array) -> bool:
        return leaf.ndim > 1 and not str(path[-1].key).startswith("fixed_")

    return jax.tree_util.tree_map_with_path(decays, params)


def apply_gradients(
    state: TrainState, gradients: Params, optimizer: optax.GradientTransformation, decay: float, healthy: jax.Array
) -> TrainState:
    """One step, where it is `healthy`."""
    updates, optimizer_state = optimizer.update(gradients, state.optimizer, state.params)
    params = optax.apply_updates(state.params, updates)
    stepped = TrainState(state.step + 1, params, update_average(state.ema, params, state.step, decay), optimizer_state)
    return keep_healthy(stepped, state, healthy)


Optimizers = Mapping[str, optax.GradientTransformation]  # one for each part of the parameters


def create_parts(params: Params, optimizers: Optimizers, averaged: str) -> TrainState:
    """The state before the first step of parts that are optimised apart, of which one is averaged."""
    optimizer = {name: optimizers[name].init(part) for name, part in params.items()}
    return TrainState(jnp.zeros((), jnp.int32), params, jax.tree.map(jnp.copy, {averaged: params[averaged]}), optimizer)


def update_part(state: TrainState, name: str, gradients: Params, optimizers: Optimizers) -> TrainState:
    """One part a step on; the others, the average and `step` stay."""
    updates, moments = optimizers[name].update(gradients, state.optimizer[name], state.params[name])
    params = state.params | {name: optax.apply_updates(state.params[name], updates)}
    return replace(state, params=params, optimizer=state.optimizer | {name: moments})


def end_step(state: TrainState, decay: float) -> TrainState:
    """The average of parts moved on, and the step counted."""
    averaged = {name: state.params[name] for name in state.ema}
    return replace(state, step=state.step + 1, ema=update_average(state.ema, averaged, state.step, decay))


def keep_healthy(stepped: TrainState, state: TrainState, healthy: jax.Array) -> TrainState:
    """`stepped`; where `healthy` is False the state is kept as it is, so that a NaN never enters it."""
    return jax.tree.map(lambda new, old: jnp.where(healthy, new, old), stepped, state)


def update_average(ema: Params, params: Params, step: jax.Array, decay: float) -> Params:
    """The moving average one step on. Its decay grows from 0 to `decay`: early averages are not full of first weights."""
    keep = jnp.minimum(decay, (1 + step) / (10 + step))
    return optax.incremental_update(params, ema, 1 - keep)
