"""The classifier: predicts the label of a sound, for the evaluation of generated sounds."""

from collections import Counter
from dataclasses import replace
from functools import cached_property
from typing import ClassVar

import jax
import numpy as np

from wavesynth.config import Config, DatasetInfo
from wavesynth.data.batches import Batches, mono
from wavesynth.data.shards import Shards
from wavesynth.errors import UserError
from wavesynth.families.base import Family
from wavesynth.models.classifier import Classifier, ClassifierConfig
from wavesynth.models.functional import initialize, pure, shapes
from wavesynth.training.classification import Classification, ClassificationTraining
from wavesynth.training.objective import Batch
from wavesynth.training.state import Params

ROWS = 64  # sounds classified at once


class ClassifierFamily(Family):
    """A convolutional classifier of labels."""

    name = "classifier"
    model_config = ClassifierConfig
    training_config = ClassificationTraining
    presets: ClassVar = {"classifier": Config("classifier", ClassifierConfig(), ClassificationTraining())}

    @classmethod
    def adapt(cls, model: ClassifierConfig, dataset: DatasetInfo) -> ClassifierConfig:
        if len(dataset.labels) < 2:
            have = f"only {dataset.labels[0]!r}" if dataset.labels else "none"
            raise UserError(
                f"a classifier needs at least 2 labels, and the sounds have {have}: put each kind into its own folder "
                "(or give labels in metadata.csv), and prepare them again"
            )
        return replace(model, labels=len(dataset.labels), sample_rate=dataset.sample_rate)

    def windows(self, shards: Shards, training: ClassificationTraining) -> Batches:
        """One-shots from their beginnings, or random parts of pieces."""
        for split in ("train", "valid"):
            clips = [shards.clips[clip] for clip in shards.split(split)]
            if clips and all(clip.label is None for clip in clips):
                raise UserError(
                    f"no clip in the split {split!r} has a label: give labels in metadata.csv, and prepare the sounds again"
                )
        return replace(super().windows(shards, training), whole=self.dataset.one_shots)

    def init(self, key: jax.Array, windows: Batch) -> Params:
        return initialize(self._make, key)

    def shapes(self) -> Params:
        return shapes(self._make)

    def label_parts(self) -> dict[str, tuple[int, int]]:
        return {"out": (1, 0), "out_bias": (0, 0)}

    def objective(self, training: ClassificationTraining) -> Classification:
        return Classification(lambda params, sounds: self._bind(params)(mono(sounds)), training)

    def baselines(self, training: Batches, held_out: Batches) -> dict[str, float]:
        """Cross-entropy in bits of a uniform guess, and of a guess by the labels' frequencies in the training clips."""
        labels = self.dataset.labels
        clips = Counter(training.shards.clips[clip].label for clip in training.clips)
        counts = np.array([clips[label] + 1.0 for label in labels])
        held = np.concatenate([batch["conditions"].labels for batch in held_out.held_out()])
        frequencies = (held @ -np.log2(counts / counts.sum())).sum() / held.sum()
        return {"uniform": float(np.log2(len(labels))), "frequencies": float(frequencies)}

    def features(self, params: Params, sounds: np.ndarray) -> np.ndarray:
        return self._in_rows(self._features, params, sounds)

    def probabilities(self, params: Params, sounds: np.ndarray) -> np.ndarray:
        return self._in_rows(self._probabilities, params, sounds)

    def _make(self, rngs) -> Classifier:
        return Classifier(self.model, rngs=rngs)

    @cached_property
    def _bind(self):
        return pure(self._make)

    @cached_property
    def _features(self):
        return jax.jit(lambda params, sounds: self._bind(params).features(sounds))

    @cached_property
    def _probabilities(self):
        return jax.jit(lambda params, sounds: jax.nn.softmax(self._bind(params)(sounds), axis=-1))

    @staticmethod
    def _in_rows(function, params: Params, sounds: np.ndarray) -> np.ndarray:
        """Applies a function of [ROWS, T] to sounds [N, T], so that it compiles once and takes bounded memory."""
        parts = []
        for first in range(0, len(sounds), ROWS):
            rows = np.asarray(sounds[first : first + ROWS], np.float32)
            padded = np.pad(rows, ((0, ROWS - len(rows)), (0, 0)))
            parts.append(np.asarray(function(params, padded))[: len(rows)])
        return np.concatenate(parts)
