"""A toy family: noise of one colour and level per label. Each sample is Gaussian around a multiple of the one before it."""

from dataclasses import dataclass, replace
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from scipy.signal import lfilter

from wavesynth.config import Config, TrainingConfig
from wavesynth.data.batches import mono
from wavesynth.families import Family
from wavesynth.training.likelihood import Likelihood

BIN = 1 / 32_768  # of 16-bit audio: turns a density into a probability


@dataclass(frozen=True)
class ColourConfig:
    labels: int = 0  # filled in from the data
    dtype: str = "float32"


def log_probs(colour, samples):
    """Nats [B, T - 1] of samples [B, T] after the first. colour: [B, 2], the arctanh of the multiple and a log scale."""
    multiple, log_scale = jnp.tanh(colour[:, :1]), colour[:, 1:]
    return jax.scipy.stats.norm.logpdf(samples[:, 1:], multiple * samples[:, :-1], jnp.exp(log_scale)) + np.log(BIN)


class ColourFamily(Family):
    name = "colour"
    model_config = ColourConfig
    presets: ClassVar = {"colour": Config("colour", ColourConfig(), TrainingConfig(steps=300, learning_rate=0.05))}
    context = 1  # sample before a window

    @classmethod
    def adapt(cls, model, dataset):
        return replace(model, labels=len(dataset.labels))

    def init(self, key, windows):
        return {"colours": jnp.zeros((self.model.labels, 2))}

    def shapes(self):
        return {"colours": jax.ShapeDtypeStruct((self.model.labels, 2), jnp.float32)}

    def objective(self, training):
        def log_prob(params, batch):
            return log_probs(batch["conditions"].labels @ params["colours"], mono(batch["samples"]))

        return Likelihood(log_prob, training)

    def baselines(self, training, held_out):
        return {"uniform": 16.0}

    # Generative
    autoregressive = False

    def generate(self, params, conditions, request):
        self.check_no_sampling(conditions, request, "it has no memory", "choose another label")
        n, latents = conditions.batch, request.latents
        if latents is None:
            latents = self.draw(params, request.seed, conditions.label_indices)
        rngs = [np.random.default_rng((request.seed, 0 if request.shared_noise else row)) for row in range(n)]
        multiple, scale = np.tanh(latents[:, 0]), np.exp(latents[:, 1])
        state = np.zeros((n, 1))
        while True:
            block = np.empty((n, 1, 1_024), np.float32)
            for row, rng in enumerate(rngs):
                noise = scale[row] * rng.standard_normal(1_024)
                block[row, 0], state[row] = lfilter([1], [1, -multiple[row]], noise, zi=state[row])
            yield np.clip(block, -1, 1)

    # Timbral
    reconstructs, frame_rate, glide_rate, latent_channels = False, None, None, 2

    def encode(self, params, samples, conditions, seed, progress):
        now, before = mono(samples)[1:], mono(samples)[:-1]
        multiple = np.clip(now @ before / (before @ before), -0.999, 0.999)
        return np.array([np.arctanh(multiple), np.log(np.std(now - multiple * before))], np.float32)

    def latent_of(self, params, label):
        return np.asarray(params["colours"])[label]

    def draw(self, params, seed, labels):
        drawn = np.random.default_rng(seed).integers(0, self.model.labels, len(labels))
        return np.asarray(params["colours"])[np.where(labels < 0, drawn, labels)]

    def between(self, a, b, t):
        return ((1 - t) * a + t * b).astype(np.float32)
