"""Baselines on signals whose bits per sample are known."""

import numpy as np
import pytest

from wavesynth.audio import files
from wavesynth.data.batches import Batches
from wavesynth.data.prepare import prepare
from wavesynth.data.shards import Shards
from wavesynth.evaluation.baselines import baselines

SAMPLE_RATE = 8_000


def scored(tmp_path, make, *quantizations):
    """The baselines of six sounds, for each quantization."""
    folder = tmp_path / "sounds"
    folder.mkdir()
    for index in range(6):
        files.write(folder / f"{index}.wav", make(np.random.default_rng(index)), SAMPLE_RATE)
    prepare(folder, tmp_path / "shards", sample_rate=SAMPLE_RATE, valid=0.3, test=0, workers=1, progress=False)
    shards = Shards.open(tmp_path / "shards")
    learned, held_out = (Batches(shards, split, 4, 2_048, 512, seed=0) for split in ("train", "valid"))
    return [baselines(learned, held_out, quantization) for quantization in quantizations]


def test_white_noise_cannot_be_predicted(tmp_path):
    found, codes = scored(
        tmp_path, lambda random: random.uniform(-0.5, 0.5, 16_000).astype(np.float32), "int16", "mulaw"
    )
    assert found["uniform"] == 16
    assert 15 <= found["unigram"] < 16  # half of all values occur, which few samples do not quite show
    assert found["linear prediction"] == pytest.approx(15.3, abs=0.5)  # a logistic is a poor fit to a uniform
    assert codes["uniform"] == 8
    assert 0 < codes["unigram"] < 8


def test_a_sine_can_be_predicted(tmp_path):
    def make(random):
        return (0.5 * np.sin(2 * np.pi * 440 / SAMPLE_RATE * np.arange(16_000) + random.uniform(0, 6))).astype(
            np.float32
        )

    (found,) = scored(tmp_path, make, "int16")
    assert found["linear prediction"] < 3  # only rounding to 16 bits is left
    assert found["unigram"] > 10
