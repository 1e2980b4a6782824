"""The objective of a generator and its critics: one learns to make sounds that the others cannot tell from real ones."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, Literal

import jax
import jax.numpy as jnp
import optax

from wavesynth.config import TrainingConfig, check_at_least_one, check_choice
from wavesynth.errors import UserError
from wavesynth.training.augment import augment
from wavesynth.training.objective import Batch, Metrics
from wavesynth.training.state import Params, TrainState, make_optimizer

Loss = Literal["relativistic", "hinge", "wgan-gp"]
RUN_AWAY = 1e4  # a critic's figure of this size means that training has diverged
AUGMENT_EXAMPLES = 20_000  # that the probability of changes takes from 0 to 1, at the fastest
MOST_AUGMENTED = 0.8  # above, changes leak into what is made


@dataclass(frozen=True)
class AdversarialTraining(TrainingConfig):
    """How a generator and its critics are trained.

    Attributes:
        loss: "relativistic": critics compare a real with a made sound (Jolicoeur-Martineau, 2018), under zero-centred
            penalties on both (Huang et al., 2024, R3GAN); "hinge": under one on real sounds (Lim and Ye, 2017);
            "wgan-gp": the published WaveGAN's (Gulrajani et al., 2017).
        critic_steps: steps of the critics for each of the generator, each on sounds of its own: a step takes
            critic_steps * batch_size examples.
        critic_rate: the critics' learning rate, in units of the generator's.
        penalty: weight of the gradient penalty, on what each critic sees.
        penalty_every: steps between penalties; their weight grows by as much.
        augment: how often critics may rank a real sound above a made one before both are changed more (see
            `wavesynth.training.augment`); 1 for no changes.
    """

    crop: int = 0
    loss: Loss = "relativistic"
    critic_steps: int = 1
    critic_rate: float = 1.0
    penalty: float = 1.0
    penalty_every: int = 1
    augment: float = 0.8
    beta1: float = 0.0
    beta2: float = 0.99
    clip: float = 1e9
    learning_rate: float = 1e-3

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice(self, "loss", Loss)
        check_at_least_one(self, "critic_steps", "penalty_every")
        if self.crop:
            raise UserError(f"crop is {self.crop}: a sound is learned whole, so leave it 0 and set the model's seconds")
        if not self.penalty >= 0 or not self.critic_rate > 0:
            raise UserError(
                f"penalty is {self.penalty} and critic_rate {self.critic_rate}: they must be at least 0, and above 0"
            )
        if not 0.5 < self.augment <= 1:
            raise UserError(f"augment is {self.augment}: it must lie above 0.5, where critics guess, and at most at 1")


@dataclass(frozen=True)
class Adversarial:
    """Alternating steps of critics and generator, as pure functions (see `wavesynth.training.objective.Objective`).

    generate: (generator's parameters, key, batch) to sounds [B, T]. views: sounds to what each critic sees. criticise:
    (critics' parameters, views, batch, key) to a figure of each critic [B, critics]; real is more. distance: (generator's
    parameters, batch) to the figure by which validation judges, and its weight.
    """

    generate: Callable[[Params, jax.Array, Batch], jax.Array]
    views: Callable[[jax.Array], list[jax.Array]]
    criticise: Callable[[Params, list[jax.Array], Batch, jax.Array], jax.Array]
    distance: Callable[[Params, Batch], tuple[jax.Array, jax.Array]]
    training: AdversarialTraining
    metric: ClassVar[str] = "distance"
    meaning: ClassVar[str] = "energy distance of made from held-out sounds, dB of their mel spectra"
    aim: ClassVar[str] = "a good model comes near the last"
    watched: ClassVar[str] = "rank"
    remedy: ClassVar[str] = "a smaller learning rate or a larger penalty"

    @cached_property
    def _optimizers(self) -> dict[str, optax.GradientTransformation]:
        generator = make_optimizer(self.training)
        return {"generator": generator, "critics": optax.chain(generator, optax.scale(self.training.critic_rate))}

    def init(self, params: Params) -> TrainState:
        optimizer: dict[str, Any] = {name: own.init(params[name]) for name, own in self._optimizers.items()}
        optimizer["augment"] = jnp.zeros(())
        ema = jax.tree.map(jnp.copy, {"generator": params["generator"]})
        return TrainState(jnp.zeros((), jnp.int32), params, ema, optimizer)

    def step(self, state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
        training = self.training
        key = jax.random.fold_in(jax.random.key(training.seed), state.step)
        parts = {name: leaf.reshape(-1, training.critic_steps, *leaf.shape[1:]) for name, leaf in batch.items()}
        probability = state.optimizer["augment"]
        generator, critics = state.params["generator"], state.params["critics"]
        optimizer = dict(state.optimizer)

        for index in range(training.critic_steps):
            part = {name: leaf[:, index] for name, leaf in parts.items()}
            own = jax.random.fold_in(key, index + 1)
            (loss, figures), gradients = jax.value_and_grad(self._critic_loss, has_aux=True)(
                critics, generator, part, own, probability, state.step
            )
            critic_norm = optax.global_norm(gradients)
            updates, optimizer["critics"] = self._optimizers["critics"].update(gradients, optimizer["critics"], critics)
            critics = optax.apply_updates(critics, updates)

        part = {name: leaf[:, -1] for name, leaf in parts.items()}
        (generator_loss, level), gradients = jax.value_and_grad(self._generator_loss, has_aux=True)(
            generator, critics, part, jax.random.fold_in(key, 0), probability
        )
        norm = optax.global_norm(gradients)
        updates, optimizer["generator"] = self._optimizers["generator"].update(
            gradients, optimizer["generator"], generator
        )
        generator = optax.apply_updates(generator, updates)

        examples = len(part["label"])
        change = jnp.sign(figures["rank"] - training.augment) * examples / AUGMENT_EXAMPLES
        optimizer["augment"] = jnp.clip(probability + change * (training.augment < 1), 0.0, MOST_AUGMENTED)
        keep = jnp.minimum(training.ema, (1 + state.step) / (10 + state.step))
        ema = optax.incremental_update({"generator": generator}, state.ema, 1 - keep)
        stepped = TrainState(state.step + 1, {"generator": generator, "critics": critics}, ema, optimizer)

        largest = figures.pop("largest")
        healthy = jnp.isfinite(loss + generator_loss + norm + critic_norm) & (largest < RUN_AWAY)
        kept = jax.tree.map(lambda new, old: jnp.where(healthy, new, old), stepped, state)
        norms = {"generator_norm": norm, "critic_norm": critic_norm}
        losses = {"critic": loss, "generator": generator_loss, "augment": probability, "level": level}
        return kept, figures | losses | norms | {"healthy": healthy}

    def evaluate(self, params: Params, batch: Batch) -> tuple[Metrics, jax.Array]:
        distance, weight = self.distance(params["generator"], batch)
        return {"distance": distance}, weight

    def _critic_loss(
        self, critics: Params, generator: Params, batch: Batch, key: jax.Array, probability: jax.Array, step: jax.Array
    ) -> tuple[jax.Array, Metrics]:
        training = self.training
        keys = jax.random.split(key, 6)
        made = jax.lax.stop_gradient(self.generate(generator, keys[0], batch))
        sounds = [batch["samples"], made]
        if training.augment < 1:
            sounds = [augment(own, sound, probability) for own, sound in zip(keys[1:3], sounds, strict=True)]
        real_views, made_views = map(self.views, sounds)

        def figures(views: list[jax.Array], key: jax.Array) -> jax.Array:
            return self.criticise(critics, views, batch, key)

        def slopes(views: list[jax.Array], key: jax.Array) -> list[jax.Array]:
            """Of each critic by what it sees, squared and summed: [B] for each."""
            gradients = jax.grad(lambda views: figures(views, key).sum())(views)
            return [jnp.square(slope.astype(jnp.float32)).reshape(len(made), -1).sum(axis=1) for slope in gradients]

        real, fake = figures(real_views, keys[3]), figures(made_views, keys[4])
        if training.loss == "relativistic":
            loss = jax.nn.softplus(fake - real).mean()
        elif training.loss == "hinge":
            loss = (jax.nn.relu(1 - real) + jax.nn.relu(1 + fake)).mean()
        else:
            loss = (fake - real).mean()

        def penalty(_: None) -> jax.Array:
            if training.loss == "wgan-gp":
                share = jax.random.uniform(keys[5], (len(made),))
                between = [
                    _per_example(share, a) * a + _per_example(1 - share, a) * b
                    for a, b in zip(real_views, made_views, strict=True)
                ]
                lengths = [jnp.sqrt(slope + 1e-12) for slope in slopes(between, keys[3])]
                return sum(jnp.square(length - 1).mean() for length in lengths) / len(lengths)  # type: ignore[return-value]
            seen = [(real_views, keys[3])] + ([(made_views, keys[4])] if training.loss == "relativistic" else [])
            squares = [slope.mean() for views, own in seen for slope in slopes(views, own)]
            return sum(squares) / (2 * len(real_views))  # type: ignore[return-value]

        weight = training.penalty * training.penalty_every
        if training.penalty_every > 1:
            due = step % training.penalty_every == 0
            loss += weight * jax.lax.cond(due, penalty, lambda _: jnp.zeros(()), None)
        elif training.penalty:
            loss += weight * penalty(None)
        rank = (real > fake).mean() + (real == fake).mean() / 2
        return loss, {"rank": rank, "largest": jnp.maximum(jnp.abs(real).max(), jnp.abs(fake).max())}

    def _generator_loss(
        self, generator: Params, critics: Params, batch: Batch, key: jax.Array, probability: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        keys = jax.random.split(key, 5)
        made, real = self.generate(generator, keys[0], batch), batch["samples"]
        level = jnp.sqrt(jnp.mean(jnp.square(made)) / (jnp.mean(jnp.square(real)) + 1e-12))
        if self.training.augment < 1:
            made, real = augment(keys[1], made, probability), augment(keys[2], real, probability)
        fake = self.criticise(critics, self.views(made), batch, keys[3])
        if self.training.loss != "relativistic":
            return -fake.mean(), level
        real = self.criticise(critics, self.views(real), batch, keys[4])
        return jax.nn.softplus(real - fake).mean(), level


def _per_example(weights: jax.Array, view: jax.Array) -> jax.Array:
    """Weights [B] as they multiply a view [B or B periods, time, channels]."""
    return jnp.repeat(weights, len(view) // len(weights))[:, None, None].astype(view.dtype)
