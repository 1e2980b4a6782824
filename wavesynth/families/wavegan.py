"""WaveGAN: a generator that makes a whole sound at once, trained against critics."""

import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cached_property, partial
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from wavesynth.audio.spectral import multi_resolution_distance
from wavesynth.config import Config, Material
from wavesynth.data.batches import Batches
from wavesynth.data.shards import Shards
from wavesynth.errors import UserError
from wavesynth.evaluation.energy import energy_distance, spectra
from wavesynth.families.base import PITCHES, Family, Request
from wavesynth.models.functional import initialize, pure
from wavesynth.models.layers import one_hot
from wavesynth.models.wavegan import Critics, Generator, WaveGANConfig, views
from wavesynth.timbre.refine import refine
from wavesynth.timbre.timbre import arc, straight
from wavesynth.training.adversarial import Adversarial, AdversarialTraining
from wavesynth.training.objective import Batch
from wavesynth.training.state import Params

ROWS = 8  # sounds made at once
CROWD = 128  # sounds whose distance from as many others is measured
MIDDLE = 256  # latents whose mean style is the middle that truncation draws to
CANDIDATES, STARTS = 256, 8  # of a search for a sound's latent
SEARCH_STEPS, SEARCH_RATE = 300, 0.1


class WaveGANFamily(Family):
    name = "wavegan"
    model_config = WaveGANConfig
    training_config = AdversarialTraining
    presets: ClassVar = {
        "wavegan-tiny": Config(
            "wavegan",
            WaveGANConfig(channels=8, critic_channels=8, spectral_channels=48),
            AdversarialTraining(steps=1_000, batch_size=16),
        ),
        "wavegan-small": Config(
            "wavegan", WaveGANConfig(), AdversarialTraining(steps=3_000, batch_size=16)
        ),
        "wavegan": Config(
            "wavegan",
            WaveGANConfig(
                channels=32, critic_channels=32, periods=(2, 3, 5, 7, 11), spectral_windows=(256, 512, 1024, 2048),
                spectral_channels=128, dtype="bfloat16",
            ),
            AdversarialTraining(steps=100_000, batch_size=64, ema=0.9995),
        ),
        "wavegan-paper": Config(
            "wavegan",
            WaveGANConfig(
                seconds=1.024, latent=100, style_channels=0, channels=64, widest=1024, smooth=False, leak=0.0, level=1.0,
                noise_channels=0, critic_channels=64, phase_shuffle=2, spectral_windows=(),
            ),
            AdversarialTraining(
                steps=200_000, batch_size=64, loss="wgan-gp", critic_steps=5, penalty=10.0, augment=1.0, learning_rate=1e-4,
                beta1=0.5, beta2=0.9, schedule="constant", warmup=0,
            ),
        ),
    }  # fmt: skip

    @classmethod
    def adapt(cls, model: WaveGANConfig, material: Material) -> WaveGANConfig:
        wanted = round(model.seconds * material.sample_rate)
        return replace(
            model,
            length=model.length or -(-wanted // model.hop) * model.hop,
            labels=len(material.labels),
            pitches=PITCHES * material.pitched,
            sample_rate=material.sample_rate,
        )

    @property
    def length(self) -> int:
        return self.model.length

    def windows(self, shards: Shards, training: AdversarialTraining) -> Batches:
        """Whole clips from their beginnings where they are one-shots, any part of them where they are pieces."""
        learned = super().windows(shards, replace(training, batch_size=training.batch_size * training.critic_steps))
        cut = sum(shards.clips[clip].length > self.length for clip in learned.clips)
        if cut and self.one_shots:
            warnings.warn(
                f"{cut} of {len(learned.clips)} clips last longer than the model's {self.length / shards.sample_rate:g} "
                "seconds, and only their beginnings are learned: set --model.seconds for more",
                stacklevel=2,
            )
        return learned

    def held_out(self, learned: Batches) -> Batches:
        """As many at once as make a crowd: the distance between crowds is the mean over pairs in a batch."""
        return replace(super().held_out(learned), batch_size=learned.batch_size * -(-CROWD // learned.batch_size))

    def init(self, key: jax.Array, windows: Batch) -> Params:
        if not np.any(windows["samples"]):
            raise UserError("the sounds to learn are silence: prepare a folder with sounds that can be heard")
        return {
            name: initialize(make, own)
            for (name, make), own in zip(self._makers.items(), jax.random.split(key), strict=True)
        }

    def shapes(self) -> Params:
        key = jax.random.key(0)
        return {name: jax.eval_shape(partial(initialize, make, key)) for name, make in self._makers.items()}

    def published(self, params: Params) -> Params:
        return {"generator": params["generator"]}

    def objective(self, training: AdversarialTraining) -> Adversarial:
        return Adversarial(
            generate=self._generate_for, views=self._views, criticise=self._criticise, distance=self._distance,
            training=training,
        )  # fmt: skip

    def baselines(self, training: Batches, held_out: Batches) -> dict[str, float]:
        """The energy distance of silence, and of training sounds, from held-out sounds."""
        learned = replace(training, batch_size=held_out.batch_size)
        figures, weights = [], []
        for step, batch in enumerate(held_out.held_out()):
            real, others = jnp.asarray(batch["real"].any(axis=1)), learned.batch(step)["samples"]
            crowds = [
                spectra(jnp.asarray(s), self.material.sample_rate) for s in (batch["samples"], others * 0, others)
            ]
            figures.append(
                [float(energy_distance(crowds[0], crowd, real, jnp.ones_like(real))) for crowd in crowds[1:]]
            )
            weights.append(float(real.sum()))
        silence, sounds = np.average(figures, axis=0, weights=weights)
        return {"silence": float(silence), "training sounds": float(sounds)}

    def stream(self, params: Params, request: Request) -> Iterator[np.ndarray]:
        """All sounds at once: one block [n, length]."""
        if request.prime is not None:
            self.cannot("go on from a prime", "it makes whole sounds")
        if request.pitch is not None and not self.material.pitched:
            self.cannot("follow a pitch", "no clip that it was trained on had one")
        latents = request.latent
        if latents is None:
            latents = self.latents(params, request.n, request.seed, request.label)
        latents = np.broadcast_to(latents, (request.n, latents.shape[-1]))
        pitch = np.nan if request.pitch is None else request.pitch
        blocks = []
        for first in range(0, request.n, ROWS):
            rows = np.resize(latents[first : first + ROWS], (ROWS, latents.shape[1]))
            keys = jax.vmap(partial(jax.random.fold_in, jax.random.key(request.seed)))(first + jnp.arange(ROWS))
            blocks.append(np.asarray(self._play(params, rows, jnp.full(ROWS, pitch), keys, request.truncation)))
        yield np.concatenate(blocks)[: request.n]

    def latent(self, params: Params, label: int) -> np.ndarray:
        if not self.model.labels:
            self.cannot("turn a label into a timbre", "it was trained without labels")
        return self.latents(params, 1, 0, label)[0]

    def latents(self, params: Params, n: int, seed: int, label: int) -> np.ndarray:
        """The Gaussian's values and a weight for each label: float32 [n, latent + labels]."""
        keys = jax.vmap(partial(jax.random.fold_in, jax.random.key(seed)))(jnp.arange(n))
        values = jax.vmap(lambda key: jax.random.normal(key, (self.model.latent,)))(keys)
        if not self.model.labels:
            return np.asarray(values)
        drawn = jax.vmap(lambda key: jax.random.randint(jax.random.fold_in(key, 1), (), 0, self.model.labels))(keys)
        chosen = jnp.full(n, label) if label >= 0 else drawn
        return np.concatenate([values, jax.nn.one_hot(chosen, self.model.labels)], axis=1)

    def between(self, a: np.ndarray, b: np.ndarray, t: float) -> np.ndarray:
        """An arc between the Gaussian's values, a straight line between the labels' weights."""
        size = self.model.latent
        return np.concatenate([arc(a[:size], b[:size], t), straight(a[size:], b[size:], t)])

    def encode(self, params: Params, samples: np.ndarray, request: Request, progress: bool) -> np.ndarray:
        """Searches by gradients from the best of some random points (see `wavesynth.timbre.refine`)."""
        target = np.zeros(self.length, np.float32)
        target[: min(len(samples), self.length)] = samples[: self.length]
        candidates = self.latents(params, CANDIDATES, request.seed, request.label)
        made = next(self.stream(params, replace(request, n=CANDIDATES, latent=candidates)))
        distances = np.concatenate(
            [multi_resolution_distance(made[i : i + ROWS], target[None]) for i in range(0, CANDIDATES, ROWS)]
        )
        best = candidates[np.argsort(distances)[:STARTS]]
        size = self.model.latent
        starts = {"values": best[:, :size]}
        if request.label < 0 and self.model.labels:
            starts["labels"] = np.log(0.9 * best[:, size:] + 0.1 / self.model.labels)
        pitch = jnp.full(STARTS, np.nan if request.pitch is None else request.pitch)
        keys = jnp.broadcast_to(jax.random.fold_in(jax.random.key(request.seed), 0), STARTS)

        def latents(points: dict[str, jax.Array]) -> jax.Array:
            """Points of the search to latents: on the Gaussian's shell, weights that sum to 1."""
            values = points["values"]
            values *= jnp.sqrt(size / jnp.sum(jnp.square(values), axis=-1, keepdims=True))
            weights = jax.nn.softmax(points["labels"], axis=-1) if "labels" in points else best[: len(values), size:]
            return jnp.concatenate([values, weights], axis=-1)

        def figure(points: dict[str, jax.Array]) -> jax.Array:
            sounds = self._play(params, latents(points), pitch, keys, 1.0)
            return multi_resolution_distance(sounds, target[None])

        found, _ = refine(
            figure, starts, steps=SEARCH_STEPS, learning_rate=SEARCH_RATE, progress=progress, what="encoding"
        )
        return np.asarray(latents(jax.tree.map(lambda leaf: leaf[None], found))[0])

    @property
    def _makers(self) -> dict[str, Callable]:
        return {
            "generator": lambda rngs: Generator(self.model, rngs=rngs),
            "critics": lambda rngs: Critics(self.model, rngs=rngs),
        }

    @cached_property
    def _bind(self):
        return {name: pure(make) for name, make in self._makers.items()}

    def _condition(self, weights: jax.Array, pitch: jax.Array) -> jax.Array:
        """Weights of the labels [B, labels] and pitches [B] to what the networks are told, [B, condition_channels]."""
        return jnp.concatenate([weights, one_hot(pitch, PITCHES)], axis=1) if self.model.pitches else weights

    def _condition_of(self, batch: Batch) -> jax.Array:
        labels, known = self.model.labels, batch["label"][:, None] >= 0
        weights = jnp.where(known, jax.nn.one_hot(batch["label"], labels), 1 / max(labels, 1))
        return self._condition(weights, batch["pitch"])

    def _generate_for(self, params: Params, key: jax.Array, batch: Batch) -> jax.Array:
        """Sounds of the labels and pitches of a batch."""
        own, noise = jax.random.split(key)
        values = jax.random.normal(own, (len(batch["label"]), self.model.latent))
        generator = self._bind["generator"](params)
        style = generator.style(values, self._condition_of(batch))
        return generator(style, batch["pitch"], jax.random.split(noise, len(values)))

    def _views(self, sounds: jax.Array) -> list[jax.Array]:
        return views(self.model, sounds)

    def _criticise(self, params: Params, views: list[jax.Array], batch: Batch, key: jax.Array) -> jax.Array:
        return self._bind["critics"](params)(views, self._condition_of(batch), key)

    def _distance(self, params: Params, batch: Batch) -> tuple[jax.Array, jax.Array]:
        """Of sounds made of the same latents every time, for the labels and pitches of a batch that is held out."""
        real = batch["real"].any(axis=1)
        made = self._generate_for(params, jax.random.key(0), batch)
        crowds = [spectra(sounds, self.material.sample_rate) for sounds in (made, batch["samples"])]
        return energy_distance(crowds[0], crowds[1], real, real), real.sum()

    @cached_property
    def _play(self):
        def play(params: Params, latents: jax.Array, pitch: jax.Array, keys: jax.Array, truncation: float) -> jax.Array:
            generator = self._bind["generator"](params["generator"])
            size = self.model.latent
            condition = self._condition(latents[:, size:], pitch)
            style = generator.style(latents[:, :size], condition)
            if truncation < 1:
                others = jax.random.normal(jax.random.key(0), (MIDDLE, size))
                middle = jax.vmap(lambda own: generator.style(others, jnp.tile(own, (MIDDLE, 1))).mean(axis=0))(
                    condition
                )
                style = middle + truncation * (style - middle)
            return generator(style, pitch, keys)

        return jax.jit(play, static_argnums=4)
