"""WaveGAN (Donahue et al., 2019): a generator of whole sounds, trained against discriminators."""

import math
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cached_property, partial
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from wavesynth.audio.spectral import multi_resolution_distance
from wavesynth.conditions import Conditions
from wavesynth.config import Config, DatasetInfo
from wavesynth.data.batches import Batches
from wavesynth.data.shards import Shards
from wavesynth.errors import UserError
from wavesynth.evaluation.energy import energy_distance, spectra
from wavesynth.families.base import Family
from wavesynth.families.protocols import Request
from wavesynth.models.discriminators import Discriminators, views
from wavesynth.models.functional import initialize, pure, shapes
from wavesynth.models.layers import PITCH_FEATURES, pitch_features
from wavesynth.models.wavegan import Generator, WaveGANConfig, stage_strides
from wavesynth.timbre.interpolation import arc, straight
from wavesynth.timbre.refine import refine
from wavesynth.training.adversarial import Adversarial, AdversarialTraining
from wavesynth.training.objective import Batch
from wavesynth.training.state import Params

ROWS = 8  # sounds generated at once
SET_SIZE = 128  # sounds in each set of the validation's energy distance
ALONE = 1e-3  # weight of a validation set of one sound; other sets are weighted by their size
NOISE = 2**31  # folded into the keys of noise, so that a latent and its noise are independent
MIDDLE = 256  # latents whose mean style is the centre for truncation
CANDIDATES, STARTS = 256, 4  # of a search for a sound's latent
SEARCH_STEPS, SEARCH_RATE = 500, 0.05
OFFSET_UNIT = 1.0  # step of a style's numbers per unit of the search; their standard deviation is about 1


class WaveGANFamily(Family):
    """A WaveGAN. A timbre is a latent: Gaussian values, label weights, and offsets of the generator's styles."""

    channels: ClassVar[int] = 2
    autoregressive: ClassVar[bool] = False
    reconstructs: ClassVar[bool] = False
    frame_rate = glide_rate = None
    name = "wavegan"
    model_config = WaveGANConfig
    training_config = AdversarialTraining
    presets: ClassVar = {
        "wavegan-tiny": Config(
            "wavegan",
            WaveGANConfig(channels=8, discriminator_channels=8, spectral_channels=48),
            AdversarialTraining(steps=1_000, batch_size=16),
        ),
        "wavegan-small": Config(
            "wavegan", WaveGANConfig(), AdversarialTraining(steps=3_000, batch_size=16)
        ),
        "wavegan": Config(
            "wavegan",
            WaveGANConfig(
                channels=32, discriminator_channels=32, periods=(2, 3, 5, 7, 11), spectral_windows=(0.015, 0.03, 0.06, 0.12),
                spectral_channels=128, dtype="bfloat16",
            ),
            AdversarialTraining(steps=100_000, batch_size=64, ema=0.9995),
        ),
        "wavegan-paper": Config(
            "wavegan",
            WaveGANConfig(
                seconds=1.024, latent=100, style_channels=0, channels=64, widest=1024, smooth=False, leak=0.0, level=1.0,
                noise_channels=0, discriminator_channels=64, phase_shuffle=2, spectral_windows=(),
            ),
            AdversarialTraining(
                steps=200_000, batch_size=64, loss="wgan-gp", discriminator_steps=5, penalty=10.0, augment=1.0,
                learning_rate=1e-4, beta1=0.5, beta2=0.9, schedule="constant", warmup=0,
            ),
        ),
    }  # fmt: skip

    @classmethod
    def adapt(cls, model: WaveGANConfig, dataset: DatasetInfo) -> WaveGANConfig:
        strides = model.strides or stage_strides(model.frame_seconds, model.stages, dataset.sample_rate)
        hop, length = math.prod(strides), round(model.seconds * dataset.sample_rate)
        return replace(
            model,
            strides=strides,
            length=model.length or -(-length // hop) * hop,
            labels=len(dataset.labels),
            pitch_channels=PITCH_FEATURES * dataset.pitched,
            sample_rate=dataset.sample_rate,
            audio_channels=dataset.channels,
        )

    @property
    def length(self) -> int:
        return self.model.length

    def windows(self, shards: Shards, training: AdversarialTraining) -> Batches:
        """One-shots from their beginnings, or random parts of pieces."""
        learned = super().windows(
            shards, replace(training, batch_size=training.batch_size * training.discriminator_steps)
        )
        cut = sum(shards.clips[clip].length > self.length for clip in learned.clips)
        if cut and self.dataset.one_shots:
            warnings.warn(
                f"{cut} of {len(learned.clips)} clips are longer than the model's {self.length / shards.sample_rate:g} "
                "seconds, so only their beginnings are used: set --model.seconds for more",
                stacklevel=2,
            )
        return learned

    def held_out(self, learned: Batches) -> Batches:
        """Batches that are large enough for the energy distance, a mean over pairs in a batch."""
        return replace(super().held_out(learned), batch_size=learned.batch_size * -(-SET_SIZE // learned.batch_size))

    def init(self, key: jax.Array, windows: Batch) -> Params:
        if not np.any(windows["samples"]):
            raise UserError("the training sounds are silent: prepare a folder with audible sounds")
        return {
            name: initialize(make, own)
            for (name, make), own in zip(self._makers.items(), jax.random.split(key), strict=True)
        }

    def shapes(self) -> Params:
        return {name: shapes(make) for name, make in self._makers.items()}

    def published(self, params: Params) -> Params:
        return {"generator": params["generator"]}

    def label_parts(self) -> dict[str, tuple[int, int]]:
        first = "mapping.0" if self.model.style_channels else "front"
        return {f"generator.{first}": (0, self.model.latent)}

    def objective(self, training: AdversarialTraining) -> Adversarial:
        return Adversarial(
            generate=self._generate_for, views=self._views, discriminate=self._discriminate, distance=self._distance,
            training=training,
        )  # fmt: skip

    def baselines(self, training: Batches, held_out: Batches) -> dict[str, float]:
        """The energy distances of silence, and of training sounds, from held-out sounds."""
        learned = replace(training, batch_size=held_out.batch_size)
        values, weights = [], []
        for step, batch in enumerate(held_out.held_out()):
            real, others = jnp.asarray(batch["real"].any(axis=1)), learned.batch(step)["samples"]
            points = [
                spectra(jnp.asarray(sounds), self.dataset.sample_rate, self.dataset.level_db)
                for sounds in (batch["samples"], others * 0, others)
            ]
            values.append([float(energy_distance(points[0], other, real, jnp.ones_like(real))) for other in points[1:]])
            weights.append(ALONE if real.sum() == 1 else float(real.sum()))
        silence, sounds = np.average(values, axis=0, weights=weights)
        return {"silence": float(silence), "training sounds": float(sounds)}

    def generate(self, params: Params, conditions: Conditions, request: Request) -> Iterator[np.ndarray]:
        """All sounds at once: one block [n, C, length]."""
        self._check(conditions, request)
        latents = request.latents
        if latents is None:
            latents = self.draw(params, request.seed, conditions.label_indices)
        rows = np.arange(conditions.batch) * (not request.shared_noise)
        yield self._sounds(params, latents, rows, conditions, request)

    @property
    def latent_channels(self) -> int:
        return self.model.latent + self.model.labels + math.prod(self._offsets)

    def latent_of(self, params: Params, label: int) -> np.ndarray:
        if not self.model.labels:
            self.unsupported("turn a label into a timbre", "it was trained without labels")
        return self.draw(params, 0, np.array([label]))[0]

    def draw(self, params: Params, seed: int, labels: np.ndarray) -> np.ndarray:
        """Random latents: Gaussian values, label weights and zero offsets, float32 [n, latent + labels + offsets].

        The offsets [1 + stages, S] are added to the style at the generator's front and at each stage. Random latents have
        none. A search for a recorded sound comes much closer with a separate style for each stage (Abdal, Qin and Wonka, 2019).
        """
        key, n = jax.random.key(seed), len(labels)
        padded = np.pad(labels, (0, -n % ROWS), constant_values=-1)
        parts = [self._draw(key, first + np.arange(ROWS), padded[first : first + ROWS]) for first in range(0, n, ROWS)]
        return np.concatenate(parts)[:n]

    def between(self, a: np.ndarray, b: np.ndarray, t: float) -> np.ndarray:
        """Spherical interpolation of the Gaussian values, linear interpolation of label weights and offsets."""
        size = self.model.latent
        return np.concatenate([arc(a[:size], b[:size], t), straight(a[size:], b[size:], t)])

    def encode(
        self, params: Params, samples: np.ndarray, conditions: Conditions, seed: int, progress: bool
    ) -> np.ndarray:
        """A gradient search from the best of some random latents (see `wavesynth.timbre.refine`)."""
        self.check_pitch(conditions)
        target = np.zeros((1, self.dataset.channels, self.length), np.float32)
        sound = samples[:, : self.length]
        target[0, :, : sound.shape[1]] = sound
        label = conditions.label_indices[0]
        candidates = self.draw(params, seed, np.full(CANDIDATES, label))
        request, one = Request(seed=seed), np.zeros(CANDIDATES, int)
        sounds = self._sounds(params, candidates, one, conditions.rows(one), request)
        apart = partial(multi_resolution_distance, sample_rate=self.dataset.sample_rate)
        distances = [apart(sounds[i : i + ROWS], target).mean(axis=1) for i in range(0, CANDIDATES, ROWS)]
        best = candidates[np.argsort(np.concatenate(distances))[:STARTS]]
        values, weights, offsets = np.split(best, [self.model.latent, self.model.latent + self.model.labels], axis=1)
        starts = {"values": values, "offsets": offsets}
        if label < 0 and self.model.labels:
            starts["labels"] = np.log(0.9 * weights + 0.1 / self.model.labels)
        given = (params, target, weights, np.asarray(conditions.constant_pitch), jax.random.key(seed))
        found, _ = refine(
            self._unlikeness, starts, given=given, steps=SEARCH_STEPS, learning_rate=SEARCH_RATE, progress=progress,
            description="encoding",
        )  # fmt: skip
        return np.asarray(_latent_at(jax.tree.map(lambda leaf: leaf[None], found), weights[:1])[0])

    def _unlikeness(
        self, points: dict[str, jax.Array], params: Params, target: jax.Array, weights: jax.Array, pitch: jax.Array,
        key: jax.Array,
    ) -> jax.Array:  # fmt: skip
        """The distance in decibels [S] of the sounds at S points of the search from target [1, C, length]. pitch: [1]."""
        rows = jnp.zeros(len(weights), jnp.int32)  # all with the noise with which the timbre will be decoded
        pitches = jnp.broadcast_to(pitch, len(weights))
        sounds = self._play(params, _latent_at(points, weights), rows, pitches, key, None)
        return multi_resolution_distance(sounds, target, self.dataset.sample_rate).mean(axis=1)

    def _check(self, conditions: Conditions, request: Request) -> None:
        self.check_no_sampling(conditions, request, "it generates whole sounds", "set truncation below 1")

    @property
    def _makers(self) -> dict[str, Callable]:
        return {
            "generator": lambda rngs: Generator(self.model, rngs=rngs),
            "discriminators": lambda rngs: Discriminators(
                self.model, self.model.length, self.model.condition_channels, rngs=rngs
            ),
        }

    @cached_property
    def _bind(self):
        return {name: pure(make) for name, make in self._makers.items()}

    def _condition(self, weights: jax.Array, pitch: jax.Array) -> jax.Array:
        """The networks' conditioning vectors [B, condition_channels] for label weights [B, labels] and pitches [B]."""
        return jnp.concatenate([weights, pitch_features(pitch)], axis=1) if self.model.pitch_channels else weights

    def _condition_of(self, conditions: Conditions) -> jax.Array:
        weights = jnp.asarray(conditions.labels)
        none = 1 - weights.sum(axis=1, keepdims=True)
        return self._condition(weights + none / max(self.model.labels, 1), conditions.constant_pitch)

    def _generate_for(self, params: Params, key: jax.Array, batch: Batch) -> jax.Array:
        """Generates sounds [B, C, T] with the conditions of a batch."""
        own, noise = jax.random.split(key)
        conditions = batch["conditions"]
        values = jax.random.normal(own, (conditions.batch, self.model.latent))
        generator = self._bind["generator"](params)
        style = generator.style(values, self._condition_of(conditions))
        return generator(style, conditions.constant_pitch, jax.random.split(noise, len(values)))

    def _views(self, sounds: jax.Array) -> list[jax.Array]:
        return views(self.model, sounds)

    def _discriminate(self, params: Params, views: list[jax.Array], batch: Batch, key: jax.Array) -> jax.Array:
        return self._bind["discriminators"](params)(views, self._condition_of(batch["conditions"]), key)

    def _distance(self, params: Params, batch: Batch) -> tuple[jax.Array, jax.Array]:
        """The energy distance of generated sounds from a held-out batch, with its conditions and always the same latents.

        A batch of one sound contains no information about the spread, so its weight is negligible. If it is the only batch, all
        rows take its conditions, and the metric is their distance from that sound.
        """
        real = batch["real"].any(axis=1)
        alone = real.sum() == 1
        like = jnp.where(real, jnp.arange(len(real)), jnp.argmax(real))
        generated = self._generate_for(params, jax.random.key(0), {"conditions": batch["conditions"].rows(like)})
        rate, level_db = self.dataset.sample_rate, self.dataset.level_db
        points = [spectra(sounds, rate, level_db) for sounds in (generated, batch["samples"])]
        distance = energy_distance(points[0], points[1], real | alone, real)
        return distance, jnp.where(alone, ALONE, real.sum())

    def _sounds(
        self, params: Params, latents: np.ndarray, rows: np.ndarray, conditions: Conditions, request: Request
    ) -> np.ndarray:
        """Generates the sounds of latents [n, D], with the noise of the given rows [n]: float32 [n, C, length]."""
        key, pitches = jax.random.key(request.seed), np.asarray(conditions.constant_pitch)
        truncation = None if request.truncation == 1 else np.float32(request.truncation)
        blocks = []
        for first in range(0, len(latents), ROWS):
            chosen = np.minimum(np.arange(first, first + ROWS), len(latents) - 1)
            sounds = self._play(params, latents[chosen], rows[chosen], pitches[chosen], key, truncation)
            blocks.append(np.asarray(sounds))
        return np.concatenate(blocks)[: len(latents)]

    @property
    def _offsets(self) -> tuple[int, int]:
        """The shape of a latent's offsets: 1 + stages, and channels of a style (0 for a generator without styles)."""
        return 1 + len(self.model.strides), self.model.style_channels

    @cached_property
    def _draw(self):
        """(key, rows [B], label indices [B], below 0 for any) to latents [B, D]. B is fixed, so that it compiles once."""

        def draw(key: jax.Array, row: jax.Array, label: jax.Array) -> jax.Array:
            own = jax.random.fold_in(key, row)
            parts = [jax.random.normal(own, (self.model.latent,))]
            if self.model.labels:
                drawn = jax.random.randint(jax.random.fold_in(own, 1), (), 0, self.model.labels)
                parts.append(jax.nn.one_hot(jnp.where(label < 0, drawn, label), self.model.labels))
            return jnp.concatenate([*parts, jnp.zeros(math.prod(self._offsets))])

        return jax.jit(jax.vmap(draw, in_axes=(None, 0, 0)))

    @cached_property
    def _play(self):
        """Latents [B, D] to sounds [B, C, length]. pitches: [B], NaN for none. truncation: None for none, which costs less."""

        def play(
            params: Params, latents: jax.Array, rows: jax.Array, pitches: jax.Array, key: jax.Array,
            truncation: jax.Array | None,
        ) -> jax.Array:  # fmt: skip
            generator = self._bind["generator"](params["generator"])
            size = self.model.latent
            values, weights, offsets = jnp.split(latents, [size, size + self.model.labels], axis=1)
            condition = self._condition(weights, pitches)
            style = generator.style(values, condition)
            if truncation is not None:
                others = jax.random.normal(jax.random.key(0), (MIDDLE, size))
                middle = jax.vmap(lambda own: generator.style(others, jnp.tile(own, (MIDDLE, 1))).mean(axis=0))(
                    condition
                )
                style = middle + truncation * (style - middle)
            if self.model.style_channels:
                style = style[:, None] + offsets.reshape(-1, *self._offsets)
            noise = jax.vmap(jax.random.fold_in, in_axes=(None, 0))(jax.random.fold_in(key, NOISE), rows)
            return generator(style, pitches, noise)

        return jax.jit(play)


def _latent_at(points: dict[str, jax.Array], weights: jax.Array | np.ndarray) -> jax.Array:
    """Points of a search to latents: on the Gaussian's shell, with label weights that sum to 1, or the known ones."""
    values = points["values"]
    values *= jnp.sqrt(values.shape[1] / jnp.sum(jnp.square(values), axis=-1, keepdims=True))
    if "labels" in points:
        weights = jax.nn.softmax(points["labels"], axis=-1)
    return jnp.concatenate([values, jnp.asarray(weights), OFFSET_UNIT * points["offsets"]], axis=-1)
