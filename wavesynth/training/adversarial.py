"""The objective of a generator and its discriminators: one learns to make sounds that the others cannot tell from real ones."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Annotated, ClassVar, Literal

import jax
import jax.numpy as jnp
import optax

from wavesynth.config import TrainingConfig, Weight
from wavesynth.fields import Real, Whole
from wavesynth.training.augment import augment
from wavesynth.training.objective import Batch, Metrics
from wavesynth.training.state import (
    Params,
    TrainState,
    create_parts,
    end_step,
    keep_healthy,
    make_optimizer,
    update_part,
)

Loss = Literal["relativistic", "hinge", "wgan-gp"]
RUN_AWAY = 1e4  # a discriminator's metric of this size means that training has diverged
AUGMENT_EXAMPLES = 20_000  # that the probability of changes takes from 0 to 1, at the fastest
MOST_AUGMENTED = 0.8  # above, changes leak into what is made


@dataclass(frozen=True)
class AdversarialTraining(TrainingConfig):
    """How a generator and its discriminators are trained.

    Attributes:
        loss: "relativistic": discriminators compare a real with a made sound (Jolicoeur-Martineau, 2018), under zero-centred
            penalties on both (Huang et al., 2024, R3GAN); "hinge": under one on real sounds (Lim and Ye, 2017);
            "wgan-gp": the published WaveGAN's (Gulrajani et al., 2017).
        discriminator_steps: steps of the discriminators for each of the generator, each on sounds of its own: a step takes
            discriminator_steps * batch_size examples.
        discriminator_rate: the discriminators' learning rate, in units of the generator's.
        penalty: weight of the gradient penalty, by what each discriminator sees.
        penalty_share: of the examples for which it is taken. (Taking it every few steps for all would cost as much, but
            a branch in the compiled step runs its convolutions ten times slower on a CPU.)
        augment: how often discriminators may accuracy a real sound above a made one before both are changed more (see
            `wavesynth.training.augment`); 1 for no changes.
    """

    crop: Annotated[int, Whole(0, 0, note="a sound is learned whole: set the model's seconds")] = 0
    validation_windows: int = 128
    loss: Loss = "relativistic"
    discriminator_steps: Annotated[int, Whole(1, 64)] = 1
    discriminator_rate: Annotated[float, Real(above=0, most=1e3)] = 1.0
    penalty: Weight = 1.0
    penalty_share: Annotated[float, Real(above=0, most=1)] = 0.25
    augment: Annotated[float, Real(above=0.5, most=1, note="0.5 is a discriminator that guesses")] = 0.8
    beta1: float = 0.0
    beta2: float = 0.99
    clip: float = 1e9
    learning_rate: float = 3e-4


@dataclass(frozen=True)
class Adversarial:
    """Alternating steps of discriminators and generator, as pure functions (see `wavesynth.training.objective.Objective`).

    generate: (generator's parameters, key, batch) to sounds [B, C, T]. views: sounds to what each discriminator sees. discriminate:
    (discriminators' parameters, views, batch, key) to a metric of each discriminator [B, discriminators]; real is more. distance: (generator's
    parameters, batch) to the metric by which validation judges, and its weight.
    """

    generate: Callable[[Params, jax.Array, Batch], jax.Array]
    views: Callable[[jax.Array], list[jax.Array]]
    discriminate: Callable[[Params, list[jax.Array], Batch, jax.Array], jax.Array]
    distance: Callable[[Params, Batch], tuple[jax.Array, jax.Array]]
    training: AdversarialTraining
    metric: ClassVar[str] = "distance"
    meaning: ClassVar[str] = "energy distance of made from held-out sounds, dB of their mel spectra"
    aim: ClassVar[str] = "a good model comes near the last"
    watched: ClassVar[str] = "accuracy"
    remedy: ClassVar[str] = "a smaller learning rate or a larger penalty"

    @cached_property
    def _optimizers(self) -> dict[str, optax.GradientTransformation]:
        generator = make_optimizer(self.training)
        return {
            "generator": generator,
            "discriminators": optax.chain(generator, optax.scale(self.training.discriminator_rate)),
        }

    def init(self, params: Params) -> TrainState:
        state = create_parts(params, self._optimizers, averaged="generator")
        return replace(state, optimizer=state.optimizer | {"augment": jnp.zeros(())})

    def step(self, state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
        """`discriminator_steps` steps of the discriminators, each on rows of its own, and one of the generator."""
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
        healthy = jnp.isfinite(sum(metrics.values())) & (largest < RUN_AWAY)
        return keep_healthy(stepped, state, healthy), metrics | {"healthy": healthy}

    def discriminator_step(self, state: TrainState, batch: Batch, key: jax.Array) -> tuple[TrainState, Metrics]:
        """One step of the discriminators, and of how much they see changed; `state.step` stays."""
        probability = state.optimizer["augment"]
        (loss, metrics), gradients = jax.value_and_grad(self._discriminator_loss, has_aux=True)(
            state.params["discriminators"], state.params["generator"], batch, key, probability
        )
        if self.training.augment < 1:
            change = jnp.sign(metrics["accuracy"] - self.training.augment) * len(batch["samples"]) / AUGMENT_EXAMPLES
            probability = jnp.clip(probability + change, 0.0, MOST_AUGMENTED)
        stepped = update_part(state, "discriminators", gradients, self._optimizers)
        stepped = replace(stepped, optimizer=stepped.optimizer | {"augment": probability})
        return stepped, metrics | {"discriminator": loss, "discriminator_norm": optax.tree.norm(gradients)}

    def generator_step(self, state: TrainState, batch: Batch, key: jax.Array) -> tuple[TrainState, Metrics]:
        """One step of the generator and its moving average, which ends a step."""
        (loss, level), gradients = jax.value_and_grad(self._generator_loss, has_aux=True)(
            state.params["generator"], state.params["discriminators"], batch, key, state.optimizer["augment"]
        )
        stepped = end_step(update_part(state, "generator", gradients, self._optimizers), self.training.ema)
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
        """On the input_gradients of the discriminators' metrics by what they see, of the first examples of real and made views."""
        rows = math.ceil(len(batch["samples"]) * self.training.penalty_share)
        some = jax.tree.map(lambda leaf: leaf[:rows], batch)
        places = [[view[: len(view) * rows // len(batch["samples"])] for view in views] for views in both]
        if self.training.loss == "wgan-gp":
            share = jax.random.uniform(jax.random.fold_in(key, 0), (rows,))
            places = [
                [_each(share, real) * real + _each(1 - share, made) * made for real, made in zip(*places, strict=True)]
            ]
        elif self.training.loss == "hinge":
            places = places[:1]
        values = []
        for views in places:
            input_gradients = jax.grad(lambda views: self.discriminate(discriminators, views, some, key).sum())(views)
            for slope in input_gradients:
                square = jnp.square(slope.astype(jnp.float32)).reshape(rows, -1).sum(axis=1)
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
