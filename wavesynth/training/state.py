"""The training state, the optimizer that changes it, and the schedule of its learning rate."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax

from wavesynth.config import TrainingConfig

Params = Any  # nested dictionaries of arrays
Schedule = Callable[[Any], jax.Array]  # from a step, an integer or int32 [], to a learning rate, float32 []
MUON_RMS = 0.2  # root mean square of Muon's updates at a learning rate of 1, about that of AdamW's (Liu et al., 2025)
MUON_STEPS = 3  # of the iteration that makes updates orthogonal; five without the scaling of Boissin et al. (2025)
MUON_EPSILON = 1e-16  # in denominators; far below a product of gradients
BLOCK = 64  # rows or columns of a block of a matrix
REWARMED = 0.25  # of the peak: the highest learning rate of a run that was finished and then extended


@partial(jax.tree_util.register_dataclass, data_fields=("step", "params", "ema", "optimizer"), meta_fields=())
@dataclass(frozen=True)
class TrainState:
    """The state of training. Together with the config, which holds the seed, it determines all later steps.

    Attributes:
        step: int32 [], the number of steps taken.
        params: the weights.
        ema: the exponential moving average of the published part of the weights.
        optimizer: the optimizer's state.
    """

    step: jax.Array
    params: Params
    ema: Params
    optimizer: Any


def create(params: Params, optimizer: optax.GradientTransformation) -> TrainState:
    """The initial state of a model whose parameters share one optimizer."""
    return TrainState(jnp.zeros((), jnp.int32), params, jax.tree.map(jnp.copy, params), optimizer.init(params))


@partial(jax.tree_util.register_dataclass, data_fields=("steps", "warmup", "ema", "extended_from"), meta_fields=())
@dataclass(frozen=True)
class Pace:
    """The part of a training plan that depends on its length.

    Compiled steps take it as data, so that a plan can change without compiling them again.

    Attributes:
        steps: number of steps of the whole run.
        warmup: steps over which the learning rate rises.
        ema: decay per step of the moving average of the weights.
        extended_from: the number of steps after which a finished run was extended; 0 if it never was.
    """

    steps: Any
    warmup: Any
    ema: Any
    extended_from: Any = 0

    @classmethod
    def of(cls, training: TrainingConfig, extended_from: int = 0) -> "Pace":
        """The pace of a run, whose warm-up takes at most a tenth of all steps."""
        return cls(training.steps, min(training.warmup, training.steps // 10), training.ema, extended_from)


def learning_rate(training: TrainingConfig, pace: Pace | None = None) -> Schedule:
    """The learning rate at each step of a run: a linear warm-up, then a cosine to zero or a constant.

    If a finished run is extended (see `Pace.extended_from`), its rate has decayed to zero and warms up again, to at most
    `REWARMED` of its peak: a higher rate would first undo what was learned.

    Args:
        training: gives the peak and the schedule.
        pace: gives the warm-up and the number of steps; None for those of `training`.

    Returns:
        A function from the step, counted from 0, to the learning rate.

    >>> rate = learning_rate(TrainingConfig(steps=1_000, learning_rate=1e-3, warmup=100))
    >>> round(float(rate(50)), 6), float(rate(1_000))
    (0.0005, 0.0)
    """
    plan = pace or Pace.of(training)
    peak = training.learning_rate

    def risen(step: Any) -> jax.Array:
        """How much of the warm-up is over after `step` steps of it, from 0 to 1."""
        return jnp.where(jnp.asarray(plan.warmup) > 0, jnp.clip(step / jnp.maximum(plan.warmup, 1), 0.0, 1.0), 1.0)

    def rate(step: Any) -> jax.Array:
        if training.schedule == "constant":
            return jnp.float32(peak) * risen(step)
        progress = jnp.clip((step - plan.warmup) / jnp.maximum(plan.steps - plan.warmup, 1), 0.0, 1.0)
        value = jnp.float32(peak) * risen(step) * (0.5 * (1 + jnp.cos(jnp.pi * progress)))
        again = jnp.minimum(value, jnp.float32(REWARMED * peak) * risen(step - plan.extended_from))
        extended = (jnp.asarray(plan.extended_from) > 0) & (step >= plan.extended_from)
        return jnp.where(extended, again, value)

    return rate


def make_optimizer(training: TrainingConfig) -> optax.GradientTransformation:
    """Clips gradients, then AdamW (Loshchilov and Hutter, 2019), or Muon (Jordan et al., 2024) with updates of the same size.

    Muon updates matrices in blocks (see `in_blocks`).

    Its learning rate is 1; the caller multiplies its updates by `learning_rate` at the run's step. So all parts of a model
    follow one schedule, even if they start to train at different steps.
    """
    if training.optimizer == "muon":
        optimizer = in_blocks(
            optax.contrib.muon(
                1.0, consistent_rms=MUON_RMS, ns_steps=MUON_STEPS, preconditioning="aol", eps=MUON_EPSILON,
                beta=training.beta1, adam_b1=training.beta1, adam_b2=training.beta2, weight_decay=training.weight_decay,
                weight_decay_mask=trained, muon_weight_dimension_numbers=_matrices,
            )
        )  # fmt: skip
    else:
        optimizer = optax.adamw(
            1.0, b1=training.beta1, b2=training.beta2, weight_decay=training.weight_decay, mask=trained
        )
    return optax.chain(optax.clip_by_global_norm(training.clip), optimizer)


def in_blocks(optimizer: optax.GradientTransformation) -> optax.GradientTransformation:
    """An optimizer that sees a matrix as blocks [row blocks, rows, column blocks, columns], cut along its shorter side.

    The orthogonal updates of blocks cost less than those of whole matrices, whose time grows with the square of that side, and
    a model learns no less from each (Khaled et al., 2025).

    >>> in_blocks(optax.trace(0.9)).init(jnp.ones((192, 128))).trace.shape
    (1, 192, 2, 64)
    """

    def cut(tree: Params) -> Params:
        return jax.tree.map(lambda leaf: leaf.reshape(block_shape(leaf.shape)), tree)

    def init(params: Params) -> Any:
        return optimizer.init(cut(params))

    def update(updates: Params, state: Any, params: Params | None = None) -> tuple[Params, Any]:
        moved, state = optimizer.update(cut(updates), state, None if params is None else cut(params))
        return jax.tree.map(lambda new, old: new.reshape(old.shape), moved, updates), state

    return optax.GradientTransformation(init, update)


def block_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape of a matrix in blocks (see `in_blocks`); of other arrays, their own.

    >>> block_shape((576, 192)), block_shape((50, 513)), block_shape((192,))
    ((1, 576, 3, 64), (1, 50, 1, 513), (192,))
    """
    if len(shape) != 2:
        return shape
    rows, columns = shape
    shorter = min(shape)
    count = next((n for n in range(1, shorter + 1) if shorter % n == 0 and shorter // n <= BLOCK), 1)
    if shorter // count < BLOCK // 2:
        count = 1
    return (count, rows // count, 1, columns) if rows < columns else (1, rows, count, columns // count)


def _matrices(params: Params) -> Any:
    """Which axes of the blocks are the rows and columns of matrices; None for other parameters."""
    numbers = optax.contrib.MuonDimensionNumbers(reduction_axis=1, output_axis=3)
    return jax.tree.map(lambda leaf: numbers if leaf.ndim == 4 else None, params)


def trained(params: Params) -> Any:
    """Which parameters decay: matrices, except constants measured on the data, whose names begin with `fixed_`."""

    def decays(path: tuple, leaf: jax.Array) -> bool:
        return leaf.ndim > 1 and not str(path[-1].key).startswith("fixed_")

    return jax.tree_util.tree_map_with_path(decays, params)


def apply_gradients(
    state: TrainState, gradients: Params, optimizer: optax.GradientTransformation, rate: Schedule,
    decay: float | jax.Array, healthy: jax.Array,
) -> TrainState:  # fmt: skip
    """One step of all parameters, at the learning rate `rate(state.step)`; no change unless `healthy` (bool [])."""
    updates, optimizer_state = optimizer.update(gradients, state.optimizer, state.params)
    params = optax.apply_updates(state.params, _scaled(updates, rate(state.step)))
    stepped = TrainState(state.step + 1, params, update_average(state.ema, params, state.step, decay), optimizer_state)
    return keep_healthy(stepped, state, healthy)


Optimizers = Mapping[str, optax.GradientTransformation]  # one for each part of the parameters


def create_parts(params: Params, optimizers: Optimizers, averaged: str) -> TrainState:
    """The initial state of a model with several parts, each with its own optimizer. One part is averaged."""
    optimizer = {name: optimizers[name].init(part) for name, part in params.items()}
    return TrainState(jnp.zeros((), jnp.int32), params, jax.tree.map(jnp.copy, {averaged: params[averaged]}), optimizer)


def update_part(state: TrainState, name: str, gradients: Params, optimizers: Optimizers, rate: jax.Array) -> TrainState:
    """One step of one part, at the learning rate `rate`; the other parts, the average and `step` stay."""
    updates, moments = optimizers[name].update(gradients, state.optimizer[name], state.params[name])
    params = state.params | {name: optax.apply_updates(state.params[name], _scaled(updates, rate))}
    return replace(state, params=params, optimizer=state.optimizer | {name: moments})


def end_step(state: TrainState, decay: float | jax.Array) -> TrainState:
    """Counts the step and updates the moving average, once all parts are updated."""
    averaged = {name: state.params[name] for name in state.ema}
    return replace(state, step=state.step + 1, ema=update_average(state.ema, averaged, state.step, decay))


def keep_healthy(stepped: TrainState, state: TrainState, healthy: jax.Array) -> TrainState:
    """`stepped` if `healthy` (bool []), otherwise `state`: a NaN never enters the state."""
    return jax.tree.map(lambda new, old: jnp.where(healthy, new, old), stepped, state)


def update_average(ema: Params, params: Params, step: jax.Array, decay: float | jax.Array) -> Params:
    """The exponential moving average after one more step. Its decay rises to `decay`, so that early weights fade quickly."""
    keep = jnp.minimum(decay, (1 + step) / (10 + step))
    return optax.incremental_update(params, ema, 1 - keep)


def _scaled(updates: Params, rate: jax.Array) -> Params:
    return jax.tree.map(lambda update: rate.astype(update.dtype) * update, updates)
