"""The optimiser and the moving average: what they do at each step, and that a step that failed leaves no trace."""

import math
from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from wavesynth.config import TrainingConfig
from wavesynth.training.likelihood import Likelihood
from wavesynth.training.state import (
    REWARMED,
    Pace,
    TrainState,
    apply_gradients,
    block_shape,
    create,
    learning_rate,
    make_optimizer,
    trained,
)

PARAMS = {
    "w": jnp.ones((4, 4)) * 2,
    "bias": jnp.ones((4,)),
    "fixed_whitening": jnp.eye(4) * 3,
    "layers": {"0": {"w": jnp.ones((4, 2))}},
}
EPS = float(jnp.finfo(jnp.float32).eps)


def gradients(scale: float = 1.0):
    """As they come from a model: none for what is fixed."""
    made = jax.tree.map(lambda leaf: scale * jnp.ones_like(leaf), PARAMS)
    return made | {"fixed_whitening": jnp.zeros((4, 4))}


def take(training: TrainingConfig, steps: int, scale: float = 1.0, healthy: bool = True) -> list[TrainState]:
    """The states after 0, 1 ... `steps` steps along one gradient."""
    optimizer, rate = make_optimizer(training), learning_rate(training)
    states = [create(PARAMS, optimizer)]
    healthy = jnp.array(healthy)
    step = jax.jit(lambda state: apply_gradients(state, gradients(scale), optimizer, rate, training.ema, healthy))
    for _ in range(steps):
        states.append(step(states[-1]))
    return states


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
@pytest.mark.parametrize("weight_decay", [0.0, 0.5])
def test_what_is_fixed_is_never_changed(optimizer, weight_decay: float):
    last = take(TrainingConfig(steps=20, optimizer=optimizer, weight_decay=weight_decay), 5)[-1]
    for params in (last.params, last.ema):
        np.testing.assert_array_equal(params["fixed_whitening"], PARAMS["fixed_whitening"])
    for moved in (last.params["w"], last.params["bias"], last.params["layers"]["0"]["w"]):
        assert float(jnp.abs(moved - 1).max()) > 0
        assert bool(jnp.isfinite(moved).all())


def test_matrices_decay_and_nothing_else():
    assert trained(PARAMS) == {"w": True, "bias": False, "fixed_whitening": False, "layers": {"0": {"w": True}}}


def test_adam_takes_steps_of_the_scheduled_size():
    # Along one gradient Adam's step is the learning rate itself: a warm-up over a tenth of all steps, then a cosine to 0.
    training = TrainingConfig(steps=100, learning_rate=1e-2, warmup=1_000, clip=1e9)
    states = take(training, 100)
    rates = [float((a.params["bias"] - b.params["bias"])[0]) for a, b in pairwise(states)]
    expected = [
        1e-2 * step / 10 if step < 10 else 1e-2 * 0.5 * (1 + math.cos(math.pi * (step - 10) / 90))
        for step in range(100)
    ]
    np.testing.assert_allclose(rates, expected, rtol=1e-3, atol=4 * EPS)  # Adam's epsilon; the subtraction of ones


@pytest.mark.parametrize("warmup", [0, 4])
def test_a_constant_rate_stays_after_its_warm_up(warmup: int):
    training = TrainingConfig(steps=60, learning_rate=1e-2, warmup=warmup, schedule="constant", clip=1e9)
    states = take(training, 12)
    rates = [float((a.params["bias"] - b.params["bias"])[0]) for a, b in pairwise(states)]
    expected = [1e-2 * min(1, step / warmup if warmup else 1) for step in range(12)]
    np.testing.assert_allclose(rates, expected, rtol=1e-3, atol=4 * EPS)


def test_a_finished_run_that_is_extended_warms_up_again_to_a_quarter():
    training = TrainingConfig(steps=1_000, learning_rate=1e-2, warmup=10)
    first, extended = (learning_rate(training, Pace.of(training, start)) for start in (0, 400))
    assert float(extended(400)) == 0.0
    assert float(extended(405)) == pytest.approx(REWARMED * 1e-2 / 2)
    rates = [float(extended(step)) for step in range(400, 1_001)]
    assert max(rates) == pytest.approx(REWARMED * 1e-2)
    assert float(first(500)) > max(rates)  # what the schedule of the longer run would have asked for
    assert rates[-1] == 0.0
    for step in (399, 900, 999):
        assert float(extended(step)) == float(first(step))
    constant = TrainingConfig(steps=1_000, learning_rate=1e-2, schedule="constant")
    assert float(learning_rate(constant, Pace.of(constant, 400))(400)) == pytest.approx(1e-2)


@pytest.mark.parametrize(("beta1", "beta2"), [(0.0, 0.9), (0.5, 0.99), (0.9, 0.0)])
def test_betas_are_those_of_the_moving_averages(beta1: float, beta2: float):
    # Along a gradient of 1 and then of -3: by hand, averages corrected for their beginning.
    training = TrainingConfig(
        steps=100, learning_rate=1e-3, warmup=0, schedule="constant", clip=1e9, beta1=beta1, beta2=beta2
    )
    optimizer = make_optimizer(training)
    state, mean, square = create(PARAMS, optimizer), 0.0, 0.0
    for taken, size in enumerate((1.0, -3.0), start=1):
        before, state = (
            state,
            apply_gradients(state, gradients(size), optimizer, learning_rate(training), 0.0, jnp.array(True)),
        )
        mean, square = beta1 * mean + (1 - beta1) * size, beta2 * square + (1 - beta2) * size**2
        step = mean / (1 - beta1**taken) / math.sqrt(square / (1 - beta2**taken))
        moved = float((before.params["bias"] - state.params["bias"])[0])
        assert moved == pytest.approx(1e-3 * step, rel=1e-3)


@pytest.mark.parametrize(
    ("beta1", "beta2", "remembers"), [(0.0, 0.0, set()), (0.0, 0.9, {"bias"}), (0.9, 0.0, {"bias", "w"})]
)
def test_muons_betas_are_those_of_the_training(beta1: float, beta2: float, remembers: set[str]):
    # One of 0 forgets the first of two gradients. Matrices have no average of squares.
    training = TrainingConfig(steps=9, warmup=0, clip=1e9, optimizer="muon", beta1=beta1, beta2=beta2)
    optimizer, random = make_optimizer(training), np.random.default_rng(0)
    past, other, last = (
        jax.tree.map(lambda leaf: jnp.asarray(random.standard_normal(leaf.shape, np.float32)), PARAMS) for _ in range(3)
    )
    moves = []
    for first in (past, other):
        _, state = optimizer.update(first, optimizer.init(PARAMS), PARAMS)
        moves.append(optimizer.update(last, state, PARAMS)[0])
    for name in ("bias", "w"):
        apart = float(jnp.abs(moves[0][name] - moves[1][name]).max()) / float(jnp.abs(moves[0][name]).max())
        assert (apart > 1e-2) if name in remembers else (apart <= 4 * EPS), name


@pytest.mark.parametrize("scale", [1.0, 1e-6])
@pytest.mark.parametrize("shape", [(576, 192), (192, 655), (50, 513), (32, 192), (1, 48)])
def test_muon_moves_the_blocks_of_a_matrix_orthogonally(shape: tuple[int, int], scale: float):
    training = TrainingConfig(steps=9, warmup=0, clip=1e9, optimizer="muon")
    gradient = {"w": jnp.asarray(scale * np.random.default_rng(0).standard_normal(shape, np.float32))}
    optimizer = make_optimizer(training)
    update = -np.asarray(optimizer.update(gradient, optimizer.init(gradient), gradient)[0]["w"])
    row_blocks, rows, column_blocks, columns = block_shape(shape)
    blocks = update.reshape(row_blocks, rows, column_blocks, columns).transpose(0, 2, 1, 3).reshape(-1, rows, columns)
    assert min(rows, columns) <= 64
    stretches = np.linalg.svd(blocks, compute_uv=False) / (0.2 * math.sqrt(max(rows, columns)))
    assert 0.5 < stretches.min() <= stretches.max() < 1.3  # 1 if the iteration had converged
    assert float((update * np.asarray(gradient["w"])).sum()) > 0


def test_gradients_are_clipped_together():
    optimizer = make_optimizer(TrainingConfig(steps=100, clip=0.5))
    first = optimizer.init(PARAMS)
    _, one = optimizer.update(gradients(100.0), first, PARAMS)
    norm = math.sqrt(sum(float(jnp.sum(jnp.square(leaf))) for leaf in jax.tree.leaves(one[1][0].mu)))
    assert norm == pytest.approx(0.5 * (1 - 0.9), rel=1e-5)  # the first moment takes in a tenth of it


def test_the_moving_average_starts_fast_and_ends_at_its_decay():
    training = TrainingConfig(steps=100, ema=0.5)
    states = take(training, 30)
    for step, (before, after) in enumerate(pairwise(states)):
        decay = min(0.5, (1 + step) / (10 + step))
        expected = decay * before.ema["bias"] + (1 - decay) * after.params["bias"]
        np.testing.assert_allclose(after.ema["bias"], expected, rtol=4 * EPS)


@pytest.mark.parametrize("scale", [math.nan, math.inf, 1.0])
def test_a_step_that_failed_leaves_the_state_as_it_was(scale: float):
    before, after = take(TrainingConfig(steps=100), 1, scale, healthy=False)
    assert int(after.step) == 0
    jax.tree.map(np.testing.assert_array_equal, after, before)


def test_the_moving_average_is_no_alias_of_the_weights():
    state = create(jax.tree.map(jnp.copy, PARAMS), make_optimizer(TrainingConfig()))
    donated = jax.jit(lambda state: jax.tree.map(lambda leaf: leaf + 1, state), donate_argnums=0)(state)
    assert bool(jnp.isfinite(donated.ema["w"]).all())


def test_likelihood_counts_real_samples_and_learns_all():
    def log_prob(params, batch):
        return params["level"] * jnp.ones_like(batch["samples"]) * jnp.where(batch["real"], 1.0, 5.0)

    objective = Likelihood(log_prob, TrainingConfig(steps=10, clip=1e9))
    params = {"level": jnp.float32(-math.log(2))}
    batch = {"samples": jnp.zeros((2, 4)), "real": jnp.array([[True, True, False, False], [True, True, True, True]])}
    state, metrics = jax.jit(objective.step)(objective.init(params), batch)
    assert float(metrics["bits"]) == pytest.approx(1.0)  # 6 real samples of 1 bit each
    assert float(metrics["gradient_norm"]) == pytest.approx(
        (6 + 2 * 5) / 8 / math.log(2)
    )  # the silence behind is learned
    assert bool(metrics["healthy"])
    assert int(state.step) == 1
    metrics, weight = objective.evaluate(params, batch)
    assert float(metrics["bits"]) == pytest.approx(1.0)
    assert int(weight) == 6
    nothing = batch | {"real": jnp.zeros((2, 4), bool)}
    assert float(objective.evaluate(params, nothing)[0]["bits"]) == 0.0


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_likelihood_notices_what_is_not_finite(bad: float):
    objective = Likelihood(lambda params, batch: params["level"] + batch["samples"], TrainingConfig(steps=10))
    batch = {"samples": jnp.full((1, 4), bad), "real": jnp.ones((1, 4), bool)}
    before = objective.init({"level": jnp.float32(1)})
    after, metrics = jax.jit(objective.step)(before, batch)
    assert not bool(metrics["healthy"])
    jax.tree.map(np.testing.assert_array_equal, after, before)
