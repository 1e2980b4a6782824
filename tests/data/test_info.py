"""The facts of a dataset that a model depends on: the level of what sounds in it."""

import hashlib
import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from wavesynth.data.info import QUIETEST_DB, dataset_info
from wavesynth.data.manifest import ClipRecord, Manifest
from wavesynth.data.prepare import prepare
from wavesynth.data.shards import Shards, ShardWriter

RATE = 8_000


@pytest.fixture
def make_shards(tmp_path: Path) -> Callable[..., Shards]:
    """make_shards(sounds [T, C] of 16 bits, split, parts that sound) writes them as clips."""

    def make(sounds: list[np.ndarray], split: str = "train", parts: tuple[tuple[int, int], ...] = ()) -> Shards:
        channels = sounds[0].shape[1]
        writer, records = ShardWriter(tmp_path, channels=channels), []
        for index, sound in enumerate(sounds):
            content = sound.astype("<i2").tobytes()
            shard, offset = writer.append(io.BytesIO(content), len(sound))
            digest = hashlib.sha256(content).hexdigest()
            records.append(
                ClipRecord(
                    f"{index}.wav", None, None, split, shard, offset, len(sound), digest, parts or ((0, len(sound)),)
                )
            )
        manifest = Manifest(RATE, (), {}, "source", writer.files, tuple(records), channels)
        (tmp_path / "manifest.json").write_bytes(manifest.to_bytes())
        return Shards.open(tmp_path)

    return make


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("amplitude", [32_767, 1_000, 30])
def test_the_level_is_that_of_the_samples(make_shards: Callable[..., Shards], channels: int, amplitude: int):
    square = amplitude * np.sign(np.sin(np.arange(RATE) / 9) + 1e-9)[:, None].repeat(channels, axis=1)
    dataset = dataset_info(make_shards([square, square[: RATE // 2]]))
    assert dataset.level_db == pytest.approx(20 * np.log10(amplitude / 32_768), abs=1e-6)
    assert dataset.channels == channels


def test_silence_around_a_sound_does_not_count(make_shards: Callable[..., Shards]):
    sound = np.zeros((3 * RATE, 1))
    sound[RATE : RATE + 800] = 3_277
    assert dataset_info(make_shards([sound], parts=((RATE, RATE + 800),))).level_db == pytest.approx(-20, abs=0.01)


def test_the_full_scale_is_0_db(make_shards: Callable[..., Shards]):
    assert dataset_info(make_shards([np.full((100, 2), -32_768)])).level_db == 0


def test_partials_are_those_of_sounds_without_pitches(make_shards: Callable[..., Shards], sounds: Path, tmp_path: Path):
    tone = np.round(10_000 * np.sin(2 * np.pi * 440 * np.arange(RATE) / RATE))[:, None]
    found = dataset_info(make_shards([tone]))
    assert min(abs(hertz - 440) for hertz in found.partials) < 1
    prepare(sounds / "flute", tmp_path / "notes", progress=False)
    notes = dataset_info(Shards.open(tmp_path / "notes"))
    assert notes.pitched
    assert notes.partials == ()


@pytest.mark.parametrize("split", ["train", "valid"])
def test_silence_and_no_training_sounds_have_the_least_level(make_shards: Callable[..., Shards], split: str):
    sound = np.zeros((500, 1)) if split == "train" else np.full((500, 1), 9_999)
    assert dataset_info(make_shards([sound], split)).level_db == QUIETEST_DB
