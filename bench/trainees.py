"""The two that train beside each other: a family of wavesynth as the library's loop trains it, and PyTorch's WaveNet.

Both take a batch of `wavesynth.data.batches` in three moves, so that a benchmark times what it means to: `inputs` lays it
out, `step` learns from it, `bits` scores a sound in mu-law codes, each given all samples before it.
"""

import math
import statistics
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from harness import pytorch_wavenet

from wavesynth.audio import mulaw
from wavesynth.conditions import Conditions
from wavesynth.config import Config, DatasetInfo, TrainingConfig
from wavesynth.data.batches import Batch
from wavesynth.data.shards import Shards
from wavesynth.families import Family, bind, family_type
from wavesynth.models.wavenet import WaveNetConfig
from wavesynth.training.loop import placement

SCORED_AT_ONCE = 16_384  # samples
PIECES = DatasetInfo(sample_rate=16_000, clip_seconds=60.0)  # long recordings without labels and pitches


def bound(config: Config, dataset: DatasetInfo) -> Family:
    return bind(config.family, family_type(config.family).adapt(config.model, dataset), dataset)


def dataset_of(shards: Shards) -> DatasetInfo:
    lengths = [clip.length for clip in shards.clips]
    pitched = any(clip.pitch is not None for clip in shards.clips)
    return DatasetInfo(shards.sample_rate, shards.labels, pitched, statistics.median(lengths) / shards.sample_rate)


class Wavesynth:
    """A family's objective, its step jitted and its state donated; the moving average of the weights is scored."""

    def __init__(self, family: Family, training: TrainingConfig, params: Any) -> None:
        self.family, objective = family, family.objective(training)
        self._place, self._step = placement(training.batch_size), jax.jit(objective.step, donate_argnums=0)
        self.state = self._place(objective.init(jax.tree.map(jnp.copy, params)))

    def inputs(self, batch: Batch) -> Any:
        return self._place(batch, batched=True)

    def step(self, inputs: Any) -> float:
        """One step; the bits of its batch. All metrics are fetched, as the loop does."""
        self.state, metrics = self._step(self.state, inputs)
        return {name: float(value) for name, value in metrics.items()}["bits"]

    def bits(self, samples: np.ndarray) -> float:
        unknown = Conditions.constant([-1], len(self.family.dataset.labels), [None])
        nats = self.family.log_prob(self.state.ema, np.atleast_2d(samples), unknown, "mulaw")
        return float(-np.mean(nats, dtype=np.float64) / math.log(2))


class PyTorch:
    """`wavenet-vocoder` with Adam at 1e-3. Windows hold one sample before the targets; before that it pads with zeros."""

    context = 1

    def __init__(self, config: WaveNetConfig) -> None:
        import torch

        self._torch, self._field, self._model = torch, config.receptive_field, pytorch_wavenet(config)
        self._optimizer = torch.optim.Adam(self._model.parameters(), lr=1e-3)

    def inputs(self, batch: Batch) -> Any:
        codes = self._torch.from_numpy(np.array(mulaw.encode(jnp.asarray(batch["samples"][:, 0])), np.int64))
        return self._one_hot(codes[:, :-1]), codes[:, 1:].contiguous()

    def step(self, inputs: Any) -> float:
        past, targets = inputs
        loss = self._torch.nn.functional.cross_entropy(self._model(past), targets)
        self._optimizer.zero_grad()
        loss.backward()
        self._optimizer.step()
        return loss.item() / math.log(2)

    def bits(self, samples: np.ndarray) -> float:
        """Every window has one receptive field of true context; before the sound lies the code of silence."""
        silence = np.full(self._field, int(mulaw.encode(jnp.zeros(()))))
        codes = self._torch.from_numpy(np.concatenate([silence, np.asarray(mulaw.encode(jnp.asarray(samples)))]))
        nats = 0.0
        self._model.eval()
        with self._torch.no_grad():
            for start in range(0, len(samples), SCORED_AT_ONCE):
                window = codes[None, start : start + self._field + SCORED_AT_ONCE]
                logits = self._model(self._one_hot(window[:, :-1]))[:, :, self._field - 1 :]
                targets = window[:, self._field :]
                nats += self._torch.nn.functional.cross_entropy(logits, targets, reduction="sum").item()
        self._model.train()
        return nats / len(samples) / math.log(2)

    def _one_hot(self, codes: Any) -> Any:
        return self._torch.nn.functional.one_hot(codes, mulaw.CODES).float().transpose(1, 2).contiguous()
