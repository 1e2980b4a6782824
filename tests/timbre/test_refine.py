"""The search: it finds what is least, of all starts and steps, and gives the same answer every time."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from wavesynth.timbre.refine import refine

EPS = float(jnp.finfo(jnp.float32).eps)
GOAL = np.array([1.0, -2.0, 0.5], np.float32)


def bowl(points: jax.Array) -> jax.Array:
    """Least at GOAL: points [S, 3] to [S]."""
    return jnp.sum(jnp.square(points - GOAL[None]), axis=-1)


def starts(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((count, 3), np.float32)


def test_it_finds_the_bottom_of_a_bowl():
    point, metric = refine(bowl, starts(4), steps=150, learning_rate=0.2)
    np.testing.assert_allclose(point, GOAL, atol=0.05)
    assert metric == pytest.approx(float(bowl(point[None])[0]), abs=16 * EPS)


def test_the_best_of_several_starts_wins():
    # Two bowls: only who starts to the right finds the deeper one.
    def metric(x: jax.Array) -> jax.Array:
        return jnp.minimum(jnp.square(x + 2) + 1, jnp.square(x - 2))

    left, right = (refine(metric, np.float32(some), steps=60)[1] for some in ([-3.0, -1.0], [-3.0, 1.5, -1.0]))
    assert left == pytest.approx(1, abs=0.05)
    assert right == pytest.approx(0, abs=0.05)


@pytest.mark.parametrize("steps", [0, 1, 7])
def test_it_is_never_worse_than_the_best_start(steps: int):
    begun = starts(5)
    best = np.asarray(bowl(begun))
    point, metric = refine(bowl, begun, steps=steps, learning_rate=100.0)  # every step leads far away
    assert metric == pytest.approx(best.min(), rel=8 * EPS)
    np.testing.assert_array_equal(point, begun[best.argmin()])


def test_it_is_deterministic():
    once, again = (refine(bowl, starts(3), steps=9) for _ in range(2))
    np.testing.assert_array_equal(once[0], again[0])
    assert once[1] == again[1]


def test_points_may_be_trees():
    begun = {"a": starts(4)[:, :2], "b": [np.ones((4, 2, 2), np.float32)]}

    def metric(points: Any) -> jax.Array:
        return jnp.sum(jnp.square(points["a"] - 1), axis=1) + jnp.sum(jnp.square(points["b"][0] + 1), axis=(1, 2))

    point, least = refine(metric, begun, steps=150, learning_rate=0.2)
    assert point["a"].shape == (2,)
    assert point["b"][0].shape == (2, 2)
    np.testing.assert_allclose(point["a"], 1, atol=0.1)
    np.testing.assert_allclose(point["b"][0], -1, atol=0.1)
    assert 0 <= least < 0.05


def test_starts_do_not_disturb_each_other():
    def all_of(count: int) -> float:
        return refine(bowl, np.repeat(starts(1), count, axis=0), steps=9)[1]

    assert all_of(1) == pytest.approx(all_of(5), rel=8 * EPS)


@pytest.mark.parametrize("begun", [[-1.0, 4.0], [4.0, -1.0], [4.0, 0.05]], ids=["at once", "the last", "on the way"])
def test_a_start_that_fails_leaves_the_others(begun: list[float]):
    # No number below 0, which the first step from 0.05 leads to.
    point, metric = refine(
        lambda x: jnp.where(x < 0, jnp.nan, 2 + jnp.sqrt(jnp.abs(x))), np.float32(begun), steps=5, learning_rate=0.1
    )
    assert np.isfinite(metric)
    assert metric == pytest.approx(2 + np.sqrt(point), rel=8 * EPS)
    assert point >= 0


def test_another_goal_compiles_nothing():
    traced = []

    def metric(points: jax.Array, goal: dict[str, np.ndarray]) -> jax.Array:
        traced.append(points.shape)
        return jnp.sum(jnp.square(points - goal["at"][None]), axis=-1)

    for goal in (GOAL, -GOAL, GOAL + 1):
        point, _ = refine(metric, starts(4), given=({"at": goal},), steps=150, learning_rate=0.2)
        np.testing.assert_allclose(point, goal, atol=0.05)
    assert len(traced) == 1


def test_where_the_last_step_leads_counts_too():
    begun = starts(3)
    assert refine(bowl, begun, steps=1, learning_rate=0.1)[1] < np.asarray(bowl(begun)).min()
