"""Adversarial training of a generator against discriminators."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Annotated, ClassVar, Literal, Self

import jax
import jax.numpy as jnp
import optax

from wavesynth.config import Share, TrainingConfig, Weight
from wavesynth.fields import Real, Whole
from wavesynth.training.augment import augment
from wavesynth.training.objective import Batch, Metrics
from wavesynth.training.state import (
    Pace,
    Params,
    TrainState,
    create_parts,
    end_step,
    keep_healthy,
    learning_rate,
    make_optimizer,
    update_part,
)

Loss = Literal["relativistic", "hinge", "wgan-gp"]
DIVERGED = 1e4  # a logit of this size counts as divergence
AUGMENT_EXAMPLES = 20_000  # the least number of examples in which the augmentation probability rises from 0 to 1
GENERATOR_FROM = 0.05  # if the generator begins from a base
MOST_AUGMENTED = 0.8  # with a higher probability, augmentations leak into generated sounds


@dataclass(frozen=True)
class AdversarialTraining(TrainingConfig):
    """How a generator and its discriminators are trained.

    Attributes:
        loss: "relativistic": discriminators compare a real with a generated sound (Jolicoeur-Martineau, 2018), with
            zero-centred gradient penalties on both (Huang et al., 2024, R3GAN). "hinge": the hinge loss (Lim and Ye, 2017),
            with that penalty on real sounds. "wgan-gp": the Wasserstein loss and gradient penalty (Gulrajani et al.,
            2017) of the published WaveGAN.
        discriminator_steps: discriminator steps per generator step, each on new examples. A training step takes
            discriminator_steps * batch_size examples.
        discriminator_rate: the discriminators' learning rate as a multiple of the generator's at the same step.
        penalty: weight of the gradient penalty.
        penalty_share: fraction of the examples on which the gradient penalty is computed. (Computing it on all examples every
            few steps would need a branch in the compiled step, which makes convolutions ten times slower on a CPU.)
        augment: target real-versus-fake accuracy, in (0.5, 1]. While the discriminators exceed it, real and generated sounds
            are augmented more often (see `wavesynth.training.augment`); 1 turns augmentation off.
        generator_from: fraction of the steps after which the generator begins to learn. Until then, only the discriminators do,
            so that untrained ones do not spoil a generator that begins from a base.

    >>> AdversarialTraining(steps=2_000, batch_size=16).steps
    2000
    """

    crop_seconds: Annotated[
        float, Real(least=0, most=0, note="this family trains on whole sounds: set model.seconds")
    ] = 0.0
    validation_windows: int = 128
    loss: Loss = "relativistic"
    discriminator_steps: Annotated[int, Whole(1, 64)] = 1
    discriminator_rate: Annotated[float, Real(above=0, most=1e3)] = 1.0
    penalty: Weight = 1.0
    penalty_share: Annotated[float, Real(above=0, most=1)] = 0.25
    augment: Annotated[float, Real(above=0.5, most=1, note="0.5 is the accuracy of guessing")] = 0.8
    beta1: float = 0.0
    beta2: float = 0.99
    clip: float = 1e9
    learning_rate: float = 3e-4
    generator_from: Share = 0.0

    def from_base(self) -> Self:
        """These settings for training that begins from another generator: the discriminators learn first."""
        return replace(self, generator_from=GENERATOR_FROM)


@dataclass(frozen=True)
class Adversarial:
    """Alternating steps of discriminators and generator, as pure functions (see `wavesynth.training.objective.Objective`).

    Attributes:
        generate: (generator's parameters, key, batch) to sounds [B, C, T].
        views: sounds to the inputs of each discriminator.
        discriminate: (discriminators' parameters, views, batch, key) to logits [B, discriminators]; higher means real.
        distance: (generator's parameters, batch) to the validation metric, and its weight in the mean over batches.
        training: how to train.
        pace: see `wavesynth.training.state.Pace`; None for that of `training`.
    """

    generate: Callable[[Params, jax.Array, Batch], jax.Array]
    views: Callable[[jax.Array], list[jax.Array]]
    discriminate: Callable[[Params, list[jax.Array], Batch, jax.Array], jax.Array]
    distance: Callable[[Params, Batch], tuple[jax.Array, jax.Array]]
    training: AdversarialTraining
    pace: Pace | None = None
    metric: ClassVar[str] = "distance"
    meaning: ClassVar[str] = "energy distance between mel spectra of generated sounds and of {sounds}, dB"
    aim: ClassVar[str] = "a good model comes near the last"
    watched: ClassVar[str] = "accuracy"
    remedy: ClassVar[str] = "a smaller learning rate or a larger penalty"

    @cached_property
    def _optimizers(self) -> dict[str, optax.GradientTransformation]:
        return dict.fromkeys(("generator", "discriminators"), make_optimizer(self.training))

    @cached_property
    def _pace(self) -> Pace:
        return self.pace or Pace.of(self.training)

    def _rate(self, state: TrainState) -> jax.Array:
        return learning_rate(self.training, self._pace)(state.step)

    def init(self, params: Params) -> TrainState:
        state = create_parts(params, self._optimizers, averaged="generator")
        return replace(state, optimizer=state.optimizer | {"augment": jnp.zeros(())})

    def step(self, state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
        """`discriminator_steps` steps of the discriminators, each on different rows, then one of the generator."""
        steps = self.training.discriminator_steps
        key = jax.random.fold_in(jax.random.key(self.training.seed), state.step)
        rows = jax.tree.map(lambda leaf: leaf.reshape(len(leaf) // steps, steps, *leaf.shape[1:]), batch)
        stepped, metrics, parts = state, {}, [jax.tree.map(lambda leaf, i=i: leaf[:, i], rows) for i in range(steps)]
        largest = jnp.zeros(())
        for index, part in enumerate(parts):
            stepped, metrics = self.discriminator_step(stepped, part, jax.random.fold_in(key, index + 1))
            largest = jnp.maximum(largest, metrics.pop("largest"))
        stepped, others = self.generator_step(stepped, parts[-1], jax.random.fold_in(key, 0))
        metrics |= others | {"augment": state.optimizer["augment"]}
        healthy = jnp.isfinite(sum(metrics.values())) & (largest < DIVERGED)
        return keep_healthy(stepped, state, healthy), metrics | {"healthy": healthy}

    def discriminator_step(self, state: TrainState, batch: Batch, key: jax.Array) -> tuple[TrainState, Metrics]:
        """One step of the discriminators and of the augmentation probability; `state.step` stays."""
        probability = state.optimizer["augment"]
        (loss, metrics), gradients = jax.value_and_grad(self._discriminator_loss, has_aux=True)(
            state.params["discriminators"], state.params["generator"], batch, key, probability
        )
        if self.training.augment < 1:
            change = jnp.sign(metrics["accuracy"] - self.training.augment) * len(batch["samples"]) / AUGMENT_EXAMPLES
            probability = jnp.clip(probability + change, 0.0, MOST_AUGMENTED)
        stepped = update_part(
            state, "discriminators", gradients, self._optimizers, self.training.discriminator_rate * self._rate(state)
        )
        stepped = replace(stepped, optimizer=stepped.optimizer | {"augment": probability})
        return stepped, metrics | {"discriminator": loss, "discriminator_norm": optax.tree.norm(gradients)}

    def generator_step(self, state: TrainState, batch: Batch, key: jax.Array) -> tuple[TrainState, Metrics]:
        """One step of the generator and of its moving average; `state.step` rises."""
        (loss, level), gradients = jax.value_and_grad(self._generator_loss, has_aux=True)(
            state.params["generator"], state.params["discriminators"], batch, key, state.optimizer["augment"]
        )
        learns = (state.step >= self.training.generator_from * self._pace.steps) | (self._pace.extended_from > 0)
        rate = jnp.where(learns, self._rate(state), 0.0)
        stepped = update_part(state, "generator", gradients, self._optimizers, rate)
        stepped = end_step(stepped, self._pace.ema)
        return stepped, {"generator": loss, "generator_norm": optax.tree.norm(gradients), "level": level}

    def evaluate(self, params: Params, batch: Batch) -> tuple[Metrics, jax.Array]:
        distance, weight = self.distance(params["generator"], batch)
        return {"distance": distance}, weight

    def _discriminator_loss(
        self, discriminators: Params, generator: Params, batch: Batch, key: jax.Array, probability: jax.Array
    ) -> tuple[jax.Array, Metrics]:
        training = self.training
        keys = jax.random.split(key, 6)
        made = jax.lax.stop_gradient(self.generate(generator, keys[0], batch))
        sounds = [batch["samples"], made]
        if training.augment < 1:
            sounds = [augment(own, sound, probability) for own, sound in zip(keys[1:3], sounds, strict=True)]
        both = [self.views(sound) for sound in sounds]
        real, fake = (
            self.discriminate(discriminators, views, batch, own) for views, own in zip(both, keys[3:], strict=False)
        )
        if training.loss == "relativistic":
            loss = jax.nn.softplus(fake - real).mean()
        elif training.loss == "hinge":
            loss = (jax.nn.relu(1 - real) + jax.nn.relu(1 + fake)).mean()
        else:
            loss = (fake - real).mean()
        if training.penalty:
            loss += training.penalty * self._penalty(discriminators, both, batch, keys[5])
        accuracy = (real > fake).mean() + (real == fake).mean() / 2
        return loss, {"accuracy": accuracy, "largest": jnp.maximum(jnp.abs(real).max(), jnp.abs(fake).max())}

    def _penalty(self, discriminators: Params, both: list[list[jax.Array]], batch: Batch, key: jax.Array) -> jax.Array:
        """Mean penalty on the gradients of the discriminators' logits with respect to their inputs, on the first examples."""
        rows = math.ceil(len(batch["samples"]) * self.training.penalty_share)
        some = jax.tree.map(lambda leaf: leaf[:rows], batch)
        points = [[view[: len(view) * rows // len(batch["samples"])] for view in views] for views in both]
        if self.training.loss == "wgan-gp":
            share = jax.random.uniform(jax.random.fold_in(key, 0), (rows,))
            points = [
                [_each(share, real) * real + _each(1 - share, made) * made for real, made in zip(*points, strict=True)]
            ]
        elif self.training.loss == "hinge":
            points = points[:1]
        values = []
        for views in points:
            input_gradients = jax.grad(lambda views: self.discriminate(discriminators, views, some, key).sum())(views)
            for gradient in input_gradients:
                square = jnp.square(gradient.astype(jnp.float32)).reshape(rows, -1).sum(axis=1)
                published = self.training.loss == "wgan-gp"
                values.append(jnp.square(jnp.sqrt(square + 1e-12) - 1) if published else square / 2)
        return sum(value.mean() for value in values) / len(both[0])  # type: ignore[return-value]

    def _generator_loss(
        self, generator: Params, discriminators: Params, batch: Batch, key: jax.Array, probability: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        keys = jax.random.split(key, 5)
        made, real = self.generate(generator, keys[0], batch), batch["samples"]
        level = jnp.sqrt(jnp.mean(jnp.square(made)) / (jnp.mean(jnp.square(real)) + 1e-12))
        if self.training.augment < 1:
            made, real = augment(keys[1], made, probability), augment(keys[2], real, probability)
        fake = self.discriminate(discriminators, self.views(made), batch, keys[3])
        if self.training.loss != "relativistic":
            return -fake.mean(), level
        real = self.discriminate(discriminators, self.views(real), batch, keys[4])
        return jax.nn.softplus(real - fake).mean(), level


def _each(weights: jax.Array, view: jax.Array) -> jax.Array:
    """Weights [B] as they multiply a view [B or B periods, time, channels]."""
    return jnp.repeat(weights, len(view) // len(weights))[:, None, None].astype(view.dtype)
