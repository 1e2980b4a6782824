"""Scoring: every file is scored by its own label and pitch, where the model knows them."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import soundfile

from wavesynth.data.shards import Shards
from wavesynth.errors import UserError
from wavesynth.judging import _sampled, score_files


class Recording:
    """In place of a `Synth`: notes what it is asked, and scores a sound by its length."""

    sample_rate, labels, channels = 16_000, ("cello", "flute"), 1

    def __init__(self, pitched: bool = True, labelled: bool = True) -> None:
        self.family: Any = SimpleNamespace(
            dataset=SimpleNamespace(pitched=pitched), length=None, label_conditioned=labelled, samples_by_label=labelled
        )
        self.options: list[dict[str, Any]] = []

    def sample(self, n: int, seconds: float, **options: Any) -> np.ndarray:
        self.options.append(options)
        return np.zeros((n, round(seconds * self.sample_rate)), np.float32)

    def bits_per_sample(self, samples: np.ndarray, **options: Any) -> float:
        self.options.append(options)
        return float(len(samples) / 100)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, length in (("cello/cello_C4.wav", 400), ("flute/b.wav", 100), ("drum/kick.wav", 200)):
        (tmp_path / name).parent.mkdir()
        soundfile.write(tmp_path / name, 0.1 * np.sin(np.arange(length)), 16_000)
    return tmp_path


def test_every_file_by_its_own_label_and_pitch(folder: Path):
    synth: Any = Recording()
    rows = list(score_files(synth, folder))
    assert synth.options == [{"label": "cello", "pitch": 60.0}, {}, {"label": "flute"}]
    assert [(length, bits) for _, length, bits in rows[:3]] == [(400, 4.0), (200, 2.0), (100, 1.0)]
    assert rows[3] == ("mean of 3 sounds", 700, (400 * 4 + 200 * 2 + 100) / 700)


def test_stereo_sounds_are_mixed(tiny_shards: Path):
    shards, synth = Shards.open(tiny_shards), Recording(pitched=False, labelled=False)
    stereo: Any = SimpleNamespace(
        channels=2,
        family=synth.family,
        sample=lambda n, seconds, **_: np.stack([np.ones((n, 8)), np.zeros((n, 8))], axis=1),
    )
    np.testing.assert_array_equal(_sampled(stereo, shards, [0, 1, 2], 0.1, 0, False), np.full((3, 8), 0.5))


def test_a_model_without_pitches_is_given_none(folder: Path):
    synth: Any = Recording(pitched=False)
    list(score_files(synth, folder / "cello"))
    assert synth.options == [{"label": "cello"}]  # the folder itself names it


def test_a_model_without_label_conditioning_is_given_no_labels(folder: Path, tiny_shards: Path):
    synth: Any = Recording(labelled=False)
    list(score_files(synth, folder))
    assert synth.options == [{"pitch": 60.0}, {}, {}]
    synth: Any = Recording(labelled=False)
    _sampled(synth, Shards.open(tiny_shards), [0, 1], 0.01, seed=0, progress=False)
    assert [options["label"] for options in synth.options] == [None] * len(synth.options)


def test_one_file(folder: Path):
    synth: Any = Recording()
    ((name, length, bits),) = score_files(synth, folder / "cello" / "cello_C4.wav")
    assert synth.options == [{"label": "cello", "pitch": 60.0}]
    assert (Path(name).name, length, bits) == ("cello_C4.wav", 400, 4.0)


def test_what_is_asked_for_holds_for_all(folder: Path):
    synth: Any = Recording()
    list(score_files(synth, folder, label="flute", pitch=70.0, quantization=None))
    assert synth.options == [{"label": "flute", "pitch": 70.0}] * 3


def test_nothing_to_score(tmp_path: Path):
    with pytest.raises(UserError, match="holds no sound that can be read: name another"):
        list(score_files(Recording(), tmp_path))  # type: ignore[arg-type]
