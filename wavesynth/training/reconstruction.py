"""The objective of autoencoders: average band powers, then spectra of sounds, then adversarial losses."""

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Any, ClassVar, Literal, Self

import jax
import jax.numpy as jnp
import numpy as np
import optax

from wavesynth.audio.spectral import (
    PASSED,
    MelSettings,
    band_limited,
    log_mel,
    num_frames,
    relative_mel,
)
from wavesynth.audio.stereo import mid_side
from wavesynth.conditions import Conditions
from wavesynth.config import Share, TrainingConfig, Weight
from wavesynth.fields import Real
from wavesynth.models.expected import Bands, Frames, bands
from wavesynth.models.layers import one_hot
from wavesynth.training.objective import Batch, Metrics
from wavesynth.training.spectral_loss import FAINT_DB, FINE_DB, IMAGE_DB, SpectralLoss
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

Loss = Literal["hinge", "relativistic"]
CONVERGED = 1e-9  # added under a square root, whose gradient is infinite at 0
EXPECTED, SPECTRAL, ADVERSARIAL = range(3)  # phases
DIVERGED = 1e6  # a loss of this size counts as divergence


@dataclass(frozen=True)
class ReconstructionTraining(TrainingConfig):
    """How an autoencoder is trained.

    Attributes:
        convergence_weight: weight of the spectral convergence, decibels: it counts the loudest parts of the spectrum.
        kl_target: KL divergence of a code from the standard Gaussian that is not penalised, nats; the mean over codes that are
            not silent.
        kl_weight: weight of the divergence above `kl_target`, decibels of spectral loss per nat.
        pitch_adversary: weight of the loss that hides the pitch from a probe that predicts it from the code; 0 turns the probe
            off. The decoder is conditioned on the pitch, so if the code does not contain it, the player controls it.
        expected_until: fraction of the steps that compare the decoder's average band powers; later steps compare its sounds.
            Models of pitched sounds compare sounds from the first step on.
        adversarial_from: fraction of the steps after which the adversarial phase begins, but not before `expected_until`; 1 for
            never. An extended run stays in its last phase.
        loss: of the discriminators, "hinge" (Lim and Ye, 2017) or "relativistic" (Jolicoeur-Martineau, 2018).
        adversarial_weight: weight of the adversarial loss of the decoder.
        feature_weight: weight of the decoder's feature matching loss: the distance between the discriminators' activations
            for the real and the reconstructed sound (Larsen et al., 2016).
        discriminator_rate: the discriminators' learning rate as a multiple of the autoencoder's at the same step.

    >>> ReconstructionTraining(steps=2_000, batch_size=16).steps
    2000
    """

    steps: int = 20_000
    batch_size: int = 16
    crop_seconds: float = 1.0
    transpose: float = 1.0
    learning_rate: float = 2e-3
    convergence_weight: Weight = 10.0
    kl_target: Weight = 50.0
    kl_weight: Weight = 0.05
    pitch_adversary: Weight = 0.3
    expected_until: Share = 0.7
    adversarial_from: Share = 1.0
    loss: Loss = "hinge"
    adversarial_weight: Weight = 1.0
    feature_weight: Weight = 4.0
    discriminator_rate: Annotated[float, Real(above=0, most=1e3)] = 0.2

    def from_base(self) -> Self:
        """These settings for training that begins from another model, which has learned average powers already."""
        return dataclasses.replace(self, expected_until=0.0)


@dataclass(frozen=True)
class Average:
    """What a decoder makes on average over its noise.

    Attributes:
        frames: of the decoder.
        powers: (autoencoder's parameters, codes) to the power of the noise [B, C, F, bins] and the amplitudes of the tones
            [B, C, F, G] in each frame; in stereo, of left, right, middle and side.
    """

    frames: Frames
    powers: Callable[[Params, jax.Array], tuple[jax.Array, jax.Array]]


@dataclass(frozen=True)
class Reconstruction:
    """Three phases as pure steps (see `wavesynth.training.objective.Phased`): average powers, spectra, discriminators.

    The loss counts all frames, including the silence after a short clip. The metric `distance` counts real sound only. Sounds
    whose recordings have a lower sample rate are compared up to the end of their band. So a model does not learn from them that
    there is nothing above.

    Attributes:
        encode: (autoencoder's parameters, sounds [B, C, T]) to the mean of codes [B, F, W] and the log variance of their
            first D numbers, the features, [B, F, D]. The others, the level, have none.
        decode: (autoencoder's parameters, codes, `Conditions`, keys [B]) to sounds [B, C, T].
        views: sounds to the inputs of each discriminator.
        discriminate: (discriminators' parameters, views, key) to logits [B, discriminators], where higher means real, and
            the activations of each discriminator's layers.
        probe_logits: (probe's parameters, codes) to logits of pitches [B, F, P]; None for sounds without pitches.
        sample_rate: Hz.
        level_db: the root mean square of the training sounds, decibels, from which the floors of spectra are counted.
        training: how to train.
        average: the decoder's average powers; None if they are not known.
        pace: see `wavesynth.training.state.Pace`; None for that of `training`.
    """

    encode: Callable[[Params, jax.Array], tuple[jax.Array, jax.Array]]
    decode: Callable[[Params, jax.Array, Conditions, jax.Array], jax.Array]
    views: Callable[[jax.Array], list[jax.Array]]
    discriminate: Callable[[Params, list[jax.Array], jax.Array], tuple[jax.Array, list[list[jax.Array]]]]
    probe_logits: Callable[[Params, jax.Array], jax.Array] | None
    sample_rate: int
    level_db: float
    training: ReconstructionTraining
    average: Average | None = None
    pace: Pace | None = None
    metric: ClassVar[str] = "distance"
    meaning: ClassVar[str] = "log-mel distance between {sounds} and their reconstructions, dB"
    aim: ClassVar[str] = "a good model lies below the last"
    watched: ClassVar[str] = "loss"
    remedy: ClassVar[str] = "a smaller learning rate"

    @cached_property
    def _optimizers(self) -> dict[str, optax.GradientTransformation]:
        return dict.fromkeys(("coder", "discriminators", "probe"), make_optimizer(self.training))

    @cached_property
    def _pace(self) -> Pace:
        return self.pace or Pace.of(self.training)

    def init(self, params: Params) -> TrainState:
        return create_parts(params, self._optimizers, averaged="coder")

    @property
    def mel(self) -> MelSettings:
        """Of the spectra that are compared."""
        return relative_mel(self.sample_rate, self.level_db)

    @property
    def spectral(self) -> SpectralLoss:
        """The loss of reconstructions."""
        return SpectralLoss(self.sample_rate, self.level_db, self.training.convergence_weight)

    @property
    def probing(self) -> bool:
        """Whether a probe predicts pitches from codes."""
        return self.probe_logits is not None and self.training.pitch_adversary > 0

    def phase(self, step: int) -> int:
        """0: expected band powers; 1: spectra of sounds; 2: adversarial losses too."""
        done = step / self.training.steps
        begun = self.average is None or done >= self.training.expected_until
        return EXPECTED if not begun else ADVERSARIAL if done >= self.training.adversarial_from else SPECTRAL

    def other_aim(self, phase: int) -> bool:
        return phase == ADVERSARIAL

    def step(self, state: TrainState, batch: Batch, phase: int = SPECTRAL) -> tuple[TrainState, Metrics]:
        key = jax.random.fold_in(jax.random.key(self.training.seed), state.step)
        gradients: dict[str, Params] = {}
        (_, (metrics, made, mean)), gradients["coder"] = jax.value_and_grad(self._coder_loss, has_aux=True)(
            state.params["coder"], state.params, batch, key, phase
        )
        if self.probing:
            metrics["pitch"], gradients["probe"] = jax.value_and_grad(self._probe_loss)(
                state.params["probe"], mean, batch
            )
        if phase == ADVERSARIAL:
            (metrics["discriminator"], metrics["accuracy"]), gradients["discriminators"] = jax.value_and_grad(
                self._discriminator_loss, has_aux=True
            )(state.params["discriminators"], self._known(batch["samples"], batch), made, key)
        metrics["gradient_norm"] = optax.tree.norm(gradients)
        healthy = jnp.isfinite(sum(metrics.values())) & (metrics["loss"] < DIVERGED)
        stepped, rate = state, learning_rate(self.training, self._pace)(state.step)
        for name, own in gradients.items():
            times = self.training.discriminator_rate if name == "discriminators" else 1.0
            stepped = update_part(stepped, name, own, self._optimizers, times * rate)
        kept = keep_healthy(end_step(stepped, self._pace.ema), state, healthy)
        return kept, metrics | {"healthy": healthy}

    def evaluate(self, params: Params, batch: Batch) -> tuple[Metrics, jax.Array]:
        """The distance of sounds from the decoded means of their codes, with the same noise every time."""
        codes, _ = self.encode(params["coder"], batch["samples"])
        made = self.decode(params["coder"], codes, batch["conditions"], self._keys(jax.random.key(0), len(codes)))
        made, sounds = (self._known(each, batch) for each in (made, batch["samples"]))
        metric, weight = distance(made, sounds, batch["real"], self.sample_rate, self.mel)
        return {"distance": metric}, weight

    def _coder_loss(
        self, coder: Params, others: Params, batch: Batch, key: jax.Array, phase: int
    ) -> tuple[jax.Array, tuple[Metrics, jax.Array, jax.Array]]:
        training, sounds = self.training, self._known(batch["samples"], batch)
        own, noise, chance = jax.random.split(key, 3)
        mean, log_variance = self.encode(coder, batch["samples"])
        features, level = jnp.split(mean, [log_variance.shape[-1]], axis=-1)
        sounding = jnp.all(level > 0, axis=-1, keepdims=True)
        spread = jnp.where(sounding, jnp.exp(log_variance / 2), 0.0)  # the codes of silence are always the same
        drawn = features + spread * jax.random.normal(own, features.shape)
        codes = jnp.concatenate([drawn, level], axis=-1)
        if phase == EXPECTED:
            made, metrics = sounds, {"average": self._expected(coder, codes, batch)}
        else:
            made = self._known(self.decode(coder, codes, batch["conditions"], self._keys(noise, len(sounds))), batch)
            metrics = {
                "distance": distance(made, sounds, batch["real"], self.sample_rate, self.mel)[0],
                "spectral": self.spectral(made, sounds),
            }
        divergence = jnp.where(sounding[..., 0], kl_divergence(features, log_variance), 0.0)
        metrics["kl"] = divergence.sum() / jnp.maximum(sounding.sum(), 1)
        loss = metrics["average" if phase == EXPECTED else "spectral"] + training.kl_weight * jax.nn.relu(
            metrics["kl"] - training.kl_target
        )
        if self.probing:
            loss -= training.pitch_adversary * self._cross_entropy(others["probe"], mean, batch, hiding=True)
        if phase == ADVERSARIAL:
            real, real_features = self.discriminate(others["discriminators"], self.views(sounds), chance)
            fake, fake_features = self.discriminate(others["discriminators"], self.views(made), chance)
            metrics["adversary"] = (
                jax.nn.softplus(real - fake).mean() if training.loss == "relativistic" else -fake.mean()
            )
            metrics["features"] = _feature_distance(real_features, fake_features)
            loss += training.adversarial_weight * metrics["adversary"] + training.feature_weight * metrics["features"]
        return loss, (metrics | {"loss": loss}, made, mean)

    def _probe_loss(self, probe: Params, mean: jax.Array, batch: Batch) -> jax.Array:
        return self._cross_entropy(probe, mean, batch)

    def _discriminator_loss(
        self, discriminators: Params, sounds: jax.Array, made: jax.Array, key: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        chance = jax.random.split(key, 3)[2]
        real, fake = (self.discriminate(discriminators, self.views(both), chance)[0] for both in (sounds, made))
        accuracy = (real > fake).mean() + (real == fake).mean() / 2
        if self.training.loss == "relativistic":
            return jax.nn.softplus(fake - real).mean(), accuracy
        return (jax.nn.relu(1 - real) + jax.nn.relu(1 + fake)).mean(), accuracy

    def _cross_entropy(self, probe: Params, mean: jax.Array, batch: Batch, hiding: bool = False) -> jax.Array:
        """Cross-entropy of the pitch under the probe, nats, averaged over frames of real sound that have a pitch.

        hiding: limit it to that of a uniform guess, the encoder's goal.
        """
        assert self.probe_logits is not None
        chances = jax.nn.log_softmax(self.probe_logits(probe, mean), axis=-1)
        pitch = batch["conditions"].constant_pitch
        cost = -jnp.sum(one_hot(pitch, chances.shape[-1])[:, None] * chances, axis=-1)
        if hiding:
            cost = jnp.minimum(cost, math.log(chances.shape[-1]))
        counted = batch["real"][:, :: batch["real"].shape[1] // mean.shape[1]] & ~jnp.isnan(pitch)[:, None]
        return jnp.sum(jnp.where(counted, cost, 0.0)) / jnp.maximum(counted.sum(), 1)

    def _known(self, sounds: jax.Array, batch: Batch) -> jax.Array:
        """Sounds as far as the recordings' sample rates go."""
        return band_limited(sounds, self.sample_rate, batch["bandwidth"][:, None]) if "bandwidth" in batch else sounds

    def _expected(self, coder: Params, codes: jax.Array, batch: Batch) -> jax.Array:
        """The distance of the decoder's average band powers from those of sounds, plus their spectral convergence; dB."""
        assert self.average is not None
        sounds = self._known(batch["samples"], batch)
        if sounds.shape[1] == 2:
            sounds = jnp.concatenate([sounds, mid_side(sounds)], axis=1)
        noise, tones = self.average.powers(coder, codes)
        if "bandwidth" in batch:
            whole, ends = self.sample_rate / 2, batch["bandwidth"][:, None, None, None]
            ends = jnp.where(ends < whole, PASSED * ends, whole)
            bins = np.linspace(0, whole, noise.shape[-1], dtype=np.float32)
            own = np.array(self.average.frames.tones, np.float32)
            noise, tones = (
                jnp.where(hz[None, None, None] <= ends, part, 0.0) for hz, part in ((bins, noise), (own, tones))
            )
        below = np.array([FINE_DB] + ([FINE_DB, IMAGE_DB, IMAGE_DB] if sounds.shape[1] == 4 else []))
        floor = (10 ** ((self.level_db - below) / 10)).astype(np.float32)[None, :, None, None]
        faint = 10 ** ((self.level_db - FAINT_DB) / 10)

        def distance(each: Bands) -> jax.Array:
            powers = each.measured(sounds), each.expected(noise, tones, sounds.shape[2])
            levels = [10 * jnp.log10(power + floor) for power in powers]
            real, made = (jnp.sqrt(power + floor) for power in powers)
            apart, whole = (jnp.square(x).sum(axis=(-2, -1)) for x in (real - made, real))
            loudest = jnp.sqrt(apart / (whole + faint * real.shape[-2]) + CONVERGED).mean()
            return jnp.abs(levels[0] - levels[1]).mean() + self.training.convergence_weight * loudest

        resolutions = bands(self.average.frames)
        return sum(map(distance, resolutions)) / len(resolutions)  # type: ignore[return-value]

    @staticmethod
    def _keys(key: jax.Array, rows: int) -> jax.Array:
        return jax.vmap(lambda row: jax.random.fold_in(key, row))(jnp.arange(rows))


def kl_divergence(mean: jax.Array, log_variance: jax.Array) -> jax.Array:
    """KL divergence of diagonal Gaussians [..., D] from the standard Gaussian, nats [...]."""
    return 0.5 * jnp.sum(jnp.square(mean) + jnp.exp(log_variance) - 1 - log_variance, axis=-1)


def distance(
    made: jax.Array, sounds: jax.Array, real: jax.Array, sample_rate: int, mel: MelSettings
) -> tuple[jax.Array, jax.Array]:
    """Mean absolute difference of log-mel spectra over the frames of real sound, dB, and the number of those frames."""
    apart = jnp.abs(log_mel(made, sample_rate, mel) - log_mel(sounds, sample_rate, mel)).mean(axis=(1, -1))
    counted = real_frames(real, mel)
    return jnp.sum(jnp.where(counted, apart, 0.0)) / jnp.maximum(counted.sum(), 1), counted.sum()


def real_frames(real: jax.Array | np.ndarray, mel: MelSettings) -> Any:
    """Which log-mel frames are real, bool [B, frames]: those whose centre sample is real, given bool [B, T]."""
    centres = np.arange(num_frames(real.shape[1], mel.hop)) * mel.hop
    return real[:, np.minimum(centres, real.shape[1] - 1)]


def _feature_distance(real: list[list[jax.Array]], made: list[list[jax.Array]]) -> jax.Array:
    """Mean absolute difference of activations relative to their mean magnitude, over all layers of all discriminators."""
    parts = []
    for layers, others in zip(real, made, strict=True):
        for layer, other in zip(layers, others, strict=True):
            layer, other = layer.astype(jnp.float32), other.astype(jnp.float32)
            parts.append(jnp.abs(layer - other).mean() / (jnp.abs(layer).mean() + 1e-6))
    return sum(parts) / len(parts)  # type: ignore[return-value]
