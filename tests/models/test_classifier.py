"""The classifier's network: any length, silence behind a sound changes nothing, and no sound changes another's metrics."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from wavesynth.audio.spectral import log_mel
from wavesynth.errors import UserError
from wavesynth.models.classifier import Classifier, ClassifierConfig
from wavesynth.models.functional import initialize, pure

RATE = 16_000
CONFIG = ClassifierConfig(bands=24, channels=8, layers=3, features=6, labels=4, sample_rate=RATE)
TOLERANCE = 1e-4  # of features of about 1: float32 spectra in decibels


@pytest.fixture(scope="module")
def classifier() -> Classifier:
    def make(rngs) -> Classifier:
        return Classifier(CONFIG, rngs=rngs)

    return pure(make)(jax.jit(lambda: initialize(make, jax.random.key(0)))())


@pytest.fixture(scope="module")
def features(classifier: Classifier) -> Callable[[np.ndarray], np.ndarray]:
    hear = jax.jit(classifier.features)
    return lambda sounds: np.asarray(hear(sounds))


def noise(num_samples: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 0.1, num_samples).astype(np.float32)


@pytest.mark.parametrize(("num_samples", "silence"), [(1, 5_000), (255, 1), (256, 300), (4_097, 2_048)])
def test_a_sound_of_any_length_and_silence_behind_it(
    features: Callable[[np.ndarray], np.ndarray], num_samples: int, silence: int
):
    sound = noise(num_samples)[None]
    found = features(sound)
    assert found.shape == (1, 6)
    assert found.any()
    np.testing.assert_allclose(features(np.pad(sound, ((0, 0), (0, silence)))), found, atol=TOLERANCE)


def test_different_sounds_have_different_features(features: Callable[[np.ndarray], np.ndarray]):
    low, high = (0.3 * np.sin(2 * np.pi * hz * np.arange(4_000) / RATE).astype(np.float32) for hz in (200, 3_000))
    found = features(np.stack([low, high, 0.1 * low, noise(4_000)]))
    assert all(np.abs(found[i] - found[j]).max() > 10 * TOLERANCE for i in range(4) for j in range(i))


def test_silence_is_heard_without_harm(classifier: Classifier):
    sounds = np.zeros((2, 1_000), np.float32)
    logits, gradient = jax.jit(jax.value_and_grad(lambda sounds: classifier(sounds).sum()))(jnp.asarray(sounds))
    assert np.isfinite(logits)
    assert np.isfinite(gradient).all()


def test_a_sound_does_not_depend_on_the_others(classifier: Classifier):
    sounds = np.stack([noise(3_000, seed) for seed in range(3)])
    hear = jax.jit(classifier)
    together = hear(sounds)
    assert together.shape == (3, 4)
    for row in range(3):
        np.testing.assert_allclose(hear(sounds[row : row + 1])[0], together[row], atol=TOLERANCE)


@pytest.mark.parametrize("sample_rate", [4_000, 8_000, 11_025, 16_000, 22_050, 44_100, 48_000, 96_000])
def test_any_sample_rate_has_its_bands(sample_rate: int):
    mel = ClassifierConfig(labels=2, sample_rate=sample_rate).mel
    assert 0.02 < mel.window / sample_rate < 0.05
    assert log_mel(noise(1_000), sample_rate, mel).shape[-1] == 64


def test_sizes_that_are_none_are_named():
    with pytest.raises(UserError, match="layers is 0: it must be at least 1"):
        ClassifierConfig(layers=0)
