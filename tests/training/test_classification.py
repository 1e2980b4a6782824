"""Cross-entropy against metrics by hand; sounds without a label do not count; a step that failed leaves no trace."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from wavesynth.conditions import Conditions
from wavesynth.errors import UserError
from wavesynth.training.classification import Classification, ClassificationTraining

CHANCES = jnp.array([[0.5, 0.25, 0.25], [0.5, 0.25, 0.25], [0.25, 0.25, 0.5], [0.1, 0.8, 0.1]])
BATCH = {"samples": jnp.ones((4, 1, 8)), "conditions": Conditions.constant([0, 1, 2, -1], 3, [None] * 4)}


def objective(**training) -> Classification:
    """Of a model whose logits are its parameters, whatever it hears."""
    return Classification(lambda params, sounds: params["logits"], ClassificationTraining(steps=10, **training))


def test_bits_and_errors_of_the_sounds_that_have_a_label():
    metrics, weight = objective().evaluate({"logits": jnp.log(CHANCES)}, BATCH)
    assert float(metrics["bits"]) == pytest.approx((1 + 2 + 1) / 3)
    assert float(metrics["error"]) == pytest.approx(1 / 3)
    assert int(weight) == 3


def test_no_label_at_all():
    params = {"logits": jnp.log(CHANCES)}
    batch = BATCH | {"conditions": Conditions.constant([-1] * 4, 3, [None] * 4)}
    metrics, weight = objective().evaluate(params, batch)
    assert (float(metrics["bits"]), float(metrics["error"]), int(weight)) == (0, 0, 0)
    before = objective().init(params)
    after, metrics = jax.jit(objective().step)(before, batch)
    assert float(metrics["gradient_norm"]) == 0
    assert bool(metrics["healthy"])
    np.testing.assert_array_equal(after.params["logits"], params["logits"])


def test_the_gradient_is_that_of_the_mean():
    states = objective(augment=0.0)
    _, metrics = jax.jit(states.step)(states.init({"logits": jnp.log(CHANCES)}), BATCH)
    hits = BATCH["conditions"].labels[:3]
    expected = (CHANCES[:3] - hits) / 3 / math.log(2)
    assert float(metrics["gradient_norm"]) == pytest.approx(float(jnp.linalg.norm(expected)), rel=1e-5)
    assert float(metrics["bits"]) == pytest.approx(4 / 3)
    assert float(metrics["error"]) == pytest.approx(1 / 3)
    assert set(metrics) == {"bits", "error", "gradient_norm", "healthy"}


def test_sounds_are_changed_while_it_learns_and_alike_in_every_run():
    def bits(augment: float, step: int = 0) -> float:
        def logits(params, sounds):
            return params["scale"] * sounds[:, 0, :3]

        training = ClassificationTraining(steps=10, augment=augment)
        states = Classification(logits, training)
        state = states.init({"scale": jnp.float32(1)})
        once = jax.jit(states.step)
        for _ in range(step + 1):
            state, metrics = once(state, {"samples": sounds[:, None], "conditions": conditions})
        return float(metrics["bits"])

    sounds = jnp.asarray(np.random.default_rng(0).normal(size=(8, 64)), jnp.float32)
    conditions = Conditions.constant(np.arange(8) % 3, 3, [None] * 8)
    plain = -jax.nn.log_softmax(sounds[:, :3])[jnp.arange(8), jnp.arange(8) % 3].mean() / math.log(2)
    assert bits(0.0) == pytest.approx(float(plain), rel=1e-5)
    assert bits(1.0) != pytest.approx(float(plain), rel=1e-3)
    assert bits(1.0, step=2) == bits(1.0, step=2)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_what_is_not_finite_is_noticed(bad: float):
    before = objective().init({"logits": jnp.full((4, 3), bad)})
    after, metrics = jax.jit(objective().step)(before, BATCH)
    assert not bool(metrics["healthy"])
    jax.tree.map(np.testing.assert_array_equal, after, before)


@pytest.mark.parametrize("bad", [-0.1, 1.5])
def test_a_probability_that_is_none_is_named(bad: float):
    with pytest.raises(UserError, match=f"augment is {bad}: it must be at least 0 and at most 1"):
        ClassificationTraining(augment=bad)
