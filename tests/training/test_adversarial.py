"""The adversarial objective, by toys whose losses and gradients are known; steps are pure, and failed ones do nothing."""

import math
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from wavesynth.conditions import Conditions
from wavesynth.errors import UserError
from wavesynth.training.adversarial import AUGMENT_EXAMPLES, MOST_AUGMENTED, Adversarial, AdversarialTraining
from wavesynth.training.state import Pace, TrainState

EPS = float(jnp.finfo(jnp.float32).eps)
ROWS, LENGTH = 6, 8
TRAINING = AdversarialTraining(
    steps=100,
    batch_size=ROWS,
    warmup=0,
    learning_rate=1e-2,
    augment=1.0,
    penalty=0.0,
    penalty_share=1.0,
    schedule="constant",
    discriminator_rate=3.0,
)
CHANGING = replace(TRAINING, augment=0.8, penalty=1.0, penalty_share=0.5, learning_rate=1e-6)
KEY = jax.random.key(7)


def generate(params: Any, key: jax.Array, batch: Any) -> jax.Array:
    """One sound for all rows: the parameters themselves."""
    return jnp.broadcast_to(params["sound"], batch["samples"].shape)


def views(sounds: jax.Array) -> list[jax.Array]:
    """The sounds, and every second sample of them: its two phases lie in the batch."""
    sounds = sounds[:, 0]
    return [sounds[..., None], sounds.reshape(len(sounds), -1, 2).transpose(0, 2, 1).reshape(2 * len(sounds), -1, 1)]


def discriminate(params: Any, views: list[jax.Array], batch: Any, key: jax.Array) -> jax.Array:
    """Weighted sums of what is seen (w), and of its squares (q): input_gradients w + 2 q x."""
    metrics = []
    for name, view in zip(("one", "two"), views, strict=True):
        own, rows = params[name], len(batch["samples"])
        x = view.reshape(rows, -1)
        metrics.append(x @ own["w"] + jnp.square(x) @ own["q"])
    return jnp.stack(metrics, axis=1)


def objective(training: AdversarialTraining = TRAINING, **parts: Callable) -> Adversarial:
    toys: dict[str, Any] = dict(generate=generate, views=views, discriminate=discriminate)
    return Adversarial(**toys | parts, distance=lambda params, batch: (jnp.zeros(()), jnp.ones(())), training=training)


@cache
def step_of(training: AdversarialTraining = TRAINING, **parts: Callable) -> Callable:
    """(state, batch) to a step's state and metrics, compiled once."""
    return jax.jit(objective(training, **parts).step)


def parameters(linear: bool = False) -> Any:
    random = np.random.default_rng(0)
    size = {"w": LENGTH, "q": LENGTH}
    discriminators = {
        name: {
            part: 0.3 * random.standard_normal(n, np.float32) * (part == "w" or not linear) for part, n in size.items()
        }
        for name in ("one", "two")
    }
    made = {"generator": {"sound": random.standard_normal(LENGTH, np.float32)}, "discriminators": discriminators}
    return jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32), made)


def batch_of(rows: int = ROWS, seed: int = 1, scale: float = 1.0) -> dict[str, Any]:
    samples = scale * np.random.default_rng(seed).standard_normal((rows, 1, LENGTH), np.float32)
    return {"samples": samples, "conditions": Conditions.constant([-1] * rows, 0, [None] * rows)}


def looked_at(x: np.ndarray) -> list[np.ndarray]:
    """What `discriminate` weighs of sounds [B, T], for each discriminator."""
    return [x, np.concatenate([x[:, 0::2], x[:, 1::2]], axis=1)]


def numpy_metrics(params: Any, x: np.ndarray) -> np.ndarray:
    each = zip(params["discriminators"].values(), looked_at(np.float64(x)), strict=True)
    return np.stack([seen @ np.float64(own["w"]) + seen**2 @ np.float64(own["q"]) for own, seen in each], axis=1)


def numpy_slopes(params: Any, x: np.ndarray) -> np.ndarray:
    """Squared norms of the input_gradients by what is seen, [B, discriminators]."""
    each = zip(params["discriminators"].values(), looked_at(np.float64(x)), strict=True)
    return np.stack(
        [np.sum((np.float64(own["w"]) + 2 * np.float64(own["q"]) * seen) ** 2, axis=1) for own, seen in each], axis=1
    )


def softplus(x: np.ndarray) -> np.ndarray:
    return np.log1p(np.exp(x))


def relu(x: np.ndarray) -> np.ndarray:
    return np.maximum(x, 0)


# (loss of the discriminators, of the generator) of the metrics of real and made sounds.
LOSSES: dict[str, tuple[Callable, Callable]] = {
    "relativistic": (lambda real, fake: softplus(fake - real), lambda real, fake: softplus(real - fake)),
    "hinge": (lambda real, fake: relu(1 - real) + relu(1 + fake), lambda real, fake: -fake),
    "wgan-gp": (lambda real, fake: fake - real, lambda real, fake: -fake),
}


def of_discriminators(training: AdversarialTraining, params: Any, batch: Any) -> dict[str, float]:
    """The metrics of a step of the discriminators."""
    toy = objective(training)
    return {
        name: float(value) for name, value in jax.jit(toy.discriminator_step)(toy.init(params), batch, KEY)[1].items()
    }


# Means of sums over LENGTH products, or of the squares of some.
CLOSE: dict[str, float] = dict(rel=64 * EPS * math.sqrt(LENGTH), abs=64 * EPS)


@pytest.mark.parametrize(
    ("loss", "weight", "share"),
    [("relativistic", 0.0, 1.0), ("relativistic", 3.0, 1.0), ("hinge", 3.0, 0.4), ("wgan-gp", 3.0, 0.4)],
)
def test_discriminators_lose_by_their_figures_and_their_slopes(loss, weight: float, share: float):
    params, batch = parameters(linear=loss == "wgan-gp"), batch_of()
    sounds = batch["samples"][:, 0], np.tile(params["generator"]["sound"], (ROWS, 1))
    real, fake = (numpy_metrics(params, sound) for sound in sounds)
    steep, made_steep = (numpy_slopes(params, sound)[: math.ceil(share * ROWS)] for sound in sounds)
    penalty = {
        "relativistic": (steep + made_steep).mean() / 2,
        "hinge": steep.mean() / 2,
        "wgan-gp": np.square(
            np.sqrt(steep) - 1
        ).mean(),  # of a linear discriminator the slope is the same wherever it is looked at
    }[loss]
    metrics = of_discriminators(replace(TRAINING, loss=loss, penalty=weight, penalty_share=share), params, batch)
    assert metrics["discriminator"] == pytest.approx(LOSSES[loss][0](real, fake).mean() + weight * penalty, **CLOSE)
    assert weight * penalty > 0.1 or not weight
    assert metrics["accuracy"] == pytest.approx((real > fake).mean())
    assert metrics["largest"] == pytest.approx(max(abs(real).max(), abs(fake).max()), **CLOSE)


@pytest.mark.parametrize("loss", LOSSES)
def test_generators_lose_by_the_metrics(loss):
    params, batch = parameters(), batch_of()
    made = np.tile(params["generator"]["sound"], (ROWS, 1))
    real, fake = (numpy_metrics(params, sounds) for sounds in (batch["samples"][:, 0], made))
    toy = objective(replace(TRAINING, loss=loss))
    _, metrics = jax.jit(toy.generator_step)(toy.init(params), batch, KEY)
    assert float(metrics["generator"]) == pytest.approx(LOSSES[loss][1](real, fake).mean(), **CLOSE)
    level = math.sqrt(np.mean(np.square(made)) / np.mean(np.square(batch["samples"])))
    assert float(metrics["level"]) == pytest.approx(level, **CLOSE)


def test_the_published_penalty_looks_between_real_and_made():
    # Of a discriminator of squares the slope is 2 q x: at the ends, 1 and -1, as steep as it gets.
    params = jax.tree.map(jnp.zeros_like, parameters())
    for own in params["discriminators"].values():
        own["q"] = jnp.ones(LENGTH)
    params["generator"]["sound"] = jnp.full(LENGTH, -1.0)
    batch = batch_of() | {"samples": np.ones((ROWS, 1, LENGTH), np.float32)}
    penalised = of_discriminators(replace(TRAINING, loss="wgan-gp", penalty=1.0), params, batch)["discriminator"]
    assert 0 < penalised < 0.9 * (2 * math.sqrt(LENGTH) - 1) ** 2


# Steps.


def noisy(params: Any, key: jax.Array, batch: Any) -> jax.Array:
    return generate(params, key, batch) + 0.1 * jax.random.normal(key, batch["samples"].shape)


def test_each_step_of_the_discriminators_has_rows_of_its_own():
    toy, batch = (
        objective(replace(TRAINING, discriminator_steps=3)),
        batch_of(3 * ROWS),
    )  # one that draws nothing by chance
    state = toy.init(parameters())
    together, metrics = jax.jit(toy.step)(state, batch)
    parts = [jax.tree.map(lambda leaf, index=index: leaf[index::3], batch) for index in range(3)]
    discriminators = jax.jit(toy.discriminator_step)
    for part in parts:
        state, alone = discriminators(state, part, KEY)
    state, _ = jax.jit(toy.generator_step)(state, parts[-1], KEY)
    assert float(metrics["discriminator"]) == pytest.approx(float(alone["discriminator"]), rel=32 * EPS)
    # Adam's first steps are gradients over their own size: it is in units of the learning rate that they differ.
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=32 * EPS, atol=1e-3 * TRAINING.learning_rate),
        together.params, state.params,
    )  # fmt: skip
    other = batch | {"samples": np.where(np.arange(3 * ROWS)[:, None, None] == 0, 1, batch["samples"])}
    changed, _ = jax.jit(toy.step)(toy.init(parameters()), other)
    assert not np.array_equal(
        changed.params["discriminators"]["one"]["w"], together.params["discriminators"]["one"]["w"]
    )


def test_a_step_is_a_function_of_state_and_batch():
    training = replace(TRAINING, penalty=1.0)
    state, batch = objective(training).init(parameters()), batch_of()
    step = step_of(training, generate=noisy)
    first, second = step(state, batch), step(state, batch)
    jax.tree.map(np.testing.assert_array_equal, first, second)
    for changed in (step(state, batch_of(seed=2)), step(replace(state, step=jnp.int32(1)), batch)):
        assert float(changed[1]["discriminator"]) != float(first[1]["discriminator"])


def test_only_the_generator_has_a_moving_average():
    toy, step, batch = objective(), step_of(), batch_of()
    state = toy.init(parameters())
    assert state.ema.keys() == {"generator"}
    for taken in range(12):
        before, (state, _) = state, step(state, batch)
        keep = (1 + taken) / (10 + taken)
        expected = jax.tree.map(
            lambda old, new, keep=keep: keep * old + (1 - keep) * new,
            before.ema["generator"],
            state.params["generator"],
        )
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=8 * EPS), state.ema, {"generator": expected})
        assert int(state.step) == taken + 1
    assert toy.evaluate(state.ema, batch)[0].keys() == {"distance"}


def test_all_steps_are_one_program():
    step, state = step_of(CHANGING), objective(CHANGING).init(parameters())
    for _ in range(3):
        state, _ = step(state, batch_of())
    assert int(state.step) == 3
    assert step._cache_size() == 1


def test_rates_of_the_two_sides():
    # Along one gradient Adam's first step is the learning rate itself.
    before = objective().init(parameters())
    after, _ = step_of()(before, batch_of())
    moved = jax.tree.map(lambda a, b: float(jnp.abs(a - b).max()), after.params, before.params)
    assert moved["generator"]["sound"] == pytest.approx(1e-2, rel=1e-3)
    assert moved["discriminators"]["one"]["w"] == pytest.approx(3e-2, rel=1e-3)


# Trouble.


def unharmed(training: AdversarialTraining, batch: Any, **how: Any) -> None:
    state = objective(training).init(parameters(**how))
    after, metrics = step_of(training)(state, batch)
    assert not bool(metrics["healthy"])
    jax.tree.map(np.testing.assert_array_equal, after, state)


@pytest.mark.parametrize("loss", LOSSES)
def test_a_batch_that_is_not_finite_changes_nothing(loss):
    training = replace(TRAINING, loss=loss, discriminator_steps=2, penalty=1.0, penalty_share=0.5)
    for bad in (math.nan, math.inf, -math.inf):
        for row in (0, 2 * ROWS - 1):  # of the first step of the discriminators, and of the last
            batch = batch_of(2 * ROWS)
            batch["samples"][row, 0, 3] = bad
            unharmed(training, batch)


def test_figures_that_have_run_away_change_nothing():
    state = objective().init(parameters(linear=True))
    after, metrics = step_of()(state, batch_of(scale=1e3))
    assert bool(metrics["healthy"])
    assert int(after.step) == 1
    unharmed(TRAINING, batch_of(scale=1e6), linear=True)


def test_figures_that_run_away_in_any_step_of_the_discriminators_change_nothing():
    batch = batch_of(2 * ROWS)
    batch["samples"][0::2] *= 1e6  # the rows of the first of two
    unharmed(replace(TRAINING, discriminator_steps=2), batch, linear=True)


# How much is changed.


def test_changes_are_more_likely_where_discriminators_rank_too_well_and_less_where_they_do_not():
    toy, step, one = objective(CHANGING), step_of(CHANGING), ROWS / AUGMENT_EXAMPLES
    flat = {name: {"w": jnp.zeros(LENGTH), "q": jnp.ones(LENGTH)} for name in ("one", "two")}
    loud, silent = batch_of(scale=10.0), batch_of(scale=0.0)
    state = toy.init(parameters() | {"discriminators": flat})  # the louder sound is ranked above
    probabilities = []
    for start, batch in ((0.0, loud), (0.5, loud), (MOST_AUGMENTED, loud), (0.0, silent), (0.5, silent)):
        begun = replace(state, optimizer=state.optimizer | {"augment": jnp.float32(start)})
        after, metrics = step(begun, batch)
        assert float(metrics["augment"]) == pytest.approx(start)
        assert float(metrics["accuracy"]) == (1 if batch is loud else 0)
        probabilities.append(float(after.optimizer["augment"]))
    assert probabilities == pytest.approx([one, 0.5 + one, MOST_AUGMENTED, 0.0, 0.5 - one], abs=4 * EPS)
    tied = replace(state, params=jax.tree.map(jnp.zeros_like, state.params))
    assert float(step(tied, loud)[1]["accuracy"]) == 0.5


def test_without_changes_the_probability_stays_at_0():
    state, _ = step_of()(objective().init(parameters()), batch_of(scale=10.0))
    assert float(state.optimizer["augment"]) == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(loss="gan"), "loss is 'gan': choose one of 'relativistic', 'hinge', 'wgan-gp'"),
        (dict(discriminator_steps=0), "discriminator_steps is 0: it must be at least 1"),
        (dict(penalty_share=0.0), "penalty_share is 0.0: it must be above 0"),
        (dict(penalty_share=1.5), "penalty_share is 1.5"),
        (dict(penalty=-1.0), "penalty is -1.0"),
        (dict(penalty=math.nan), "penalty is nan"),
        (dict(discriminator_rate=0.0), "discriminator_rate is 0.0: it must be above 0 and at most 1,000"),
        (dict(augment=0.5), "augment is 0.5: it must be above 0.5"),
        (dict(augment=1.1), "augment is 1.1"),
        (dict(crop_seconds=0.5), "crop_seconds is 0.5: it must be 0; this family trains on whole sounds"),
        (dict(beta1=1.0), "beta1 is 1.0: it must be at least 0 and below 1"),
    ],
)
def test_what_cannot_be(change: dict, message: str):
    with pytest.raises(UserError, match=message):
        replace(TRAINING, **change)


# Learning.


@pytest.mark.parametrize("loss", ["relativistic", "hinge"])  # the third circles the mean of so simple a discriminator
def test_a_generator_finds_the_mean_of_a_gaussian(loss):
    training = replace(
        TRAINING, loss=loss, steps=300, batch_size=32, learning_rate=0.05, schedule="cosine", penalty=1.0, ema=0.95,
        beta2=0.9,
    )  # fmt: skip

    def made(params: Any, key: jax.Array, batch: Any) -> jax.Array:
        return params["mean"] + jax.random.normal(key, batch["samples"].shape)

    def logits(params: Any, views: list[jax.Array], batch: Any, key: jax.Array) -> jax.Array:
        return params["slope"] * views[0][:, :, 0]

    toy = objective(training, generate=made, views=lambda sounds: [sounds.transpose(0, 2, 1)], discriminate=logits)
    samples = 2 + np.random.default_rng(0).standard_normal((300, 32, 1, 1), np.float32)
    state = toy.init({"generator": {"mean": jnp.float32(-1)}, "discriminators": {"slope": jnp.float32(0)}})

    def step(state: TrainState, samples: jax.Array) -> tuple[TrainState, jax.Array]:
        state, metrics = toy.step(state, {"samples": samples})
        return state, metrics["healthy"]

    state, healthy = jax.jit(lambda state: jax.lax.scan(step, state, samples))(state)
    assert bool(healthy.all())
    assert float(state.ema["generator"]["mean"]) == pytest.approx(2, abs=0.3)


def test_a_generator_that_begins_later_is_kept_until_then():
    training = replace(TRAINING, generator_from=0.5)
    step, state, batch = step_of(training), objective(training).init(parameters()), batch_of()
    for index, learns in ((0, False), (49, False), (50, True)):
        stepped, _ = step(replace(state, step=jnp.int32(index)), batch)
        kept = np.array_equal(stepped.params["generator"]["sound"], state.params["generator"]["sound"])
        assert kept != learns
        assert not np.array_equal(
            stepped.params["discriminators"]["one"]["w"], state.params["discriminators"]["one"]["w"]
        )
    # An extended run is past that, even if it becomes so long that its first half is not over.
    longer = replace(objective(training), pace=Pace(1_000, 0, 0.9, extended_from=100))
    stepped, _ = jax.jit(longer.step)(replace(state, step=jnp.int32(100)), batch)
    assert not np.array_equal(stepped.params["generator"]["sound"], state.params["generator"]["sound"])
