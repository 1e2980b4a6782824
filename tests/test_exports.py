"""The files of a morph and of a grid."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest
import soundfile

from wavesynth import Synth, UserError
from wavesynth.audio import pictures
from wavesynth.audio.pcm import FULL_SCALE
from wavesynth.config import DatasetInfo
from wavesynth.evaluation.analysis import Analysis
from wavesynth.exports import write_grid, write_morph

RATE = 16_000
TIME = np.arange(3_200) / RATE
TONES = np.stack([0.3 * np.sin(2 * np.pi * (300 + 100 * k) * TIME) for k in range(4)]).astype(np.float32)
MORPH = Analysis(TONES, RATE)
# What the files depend on of a synth.
SYNTH = cast(Synth, SimpleNamespace(sample_rate=RATE, family=SimpleNamespace(dataset=DatasetInfo(RATE, pitched=True))))


def test_a_morph_writes_wavs_a_picture_and_metrics(tmp_path: Path):
    metrics = write_morph(SYNTH, MORPH, tmp_path / "out")
    names = {"000.wav", "001.wav", "002.wav", "003.wav", "morph.wav", "morph.png", "metrics.json"}
    assert {path.name for path in (tmp_path / "out").iterdir()} == names
    assert soundfile.info(tmp_path / "out" / "003.wav").frames == 3_200
    assert soundfile.info(tmp_path / "out" / "morph.wav").frames == 4 * (3_200 + 1_600)
    assert set(metrics) == {"morph", "crossfade"}
    written = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert written["morph"]["evenness"] == metrics["morph"].evenness
    assert written["crossfade"]["not_a_crossfade"] < 0.01 < written["morph"]["not_a_crossfade"]


@pytest.mark.parametrize("there", ["002.wav", "morph.wav", "morph.png", "metrics.json"])
def test_nothing_is_overwritten_unasked(tmp_path: Path, there: str):
    (tmp_path / there).write_bytes(b"mine")
    with pytest.raises(UserError, match=f"{there} exists"):
        write_morph(SYNTH, MORPH, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [there]
    write_morph(SYNTH, MORPH, tmp_path, force=True)
    assert (tmp_path / there).read_bytes() != b"mine"


def test_a_morph_of_two_steps_has_no_metrics(tmp_path: Path):
    assert write_morph(SYNTH, Analysis(TONES[:2], RATE), tmp_path) == {}
    assert not (tmp_path / "metrics.json").exists()


def test_a_grid_writes_its_sounds(tmp_path: Path):
    paths = write_grid(SYNTH, TONES.reshape(2, 2, -1), tmp_path / "grid")
    assert [path.name for path in paths] == ["0-0.wav", "0-1.wav", "1-0.wav", "1-1.wav"]
    np.testing.assert_allclose(soundfile.read(paths[2])[0], TONES[2], atol=1 / FULL_SCALE)
    assert (tmp_path / "grid" / "grid.png").exists()


def test_without_matplotlib_there_is_no_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(pictures, "available", lambda: False)
    write_morph(SYNTH, MORPH, tmp_path)
    assert not (tmp_path / "morph.png").exists()
