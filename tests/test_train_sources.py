"""Training on folders and shards of any rate and number of channels: what the model gets, and what is said."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import soundfile

import wavesynth
from wavesynth import api
from wavesynth.config import Config
from wavesynth.data.shards import Shards
from wavesynth.errors import UserError
from wavesynth.families import FAMILIES, WaveNetFamily


@pytest.fixture
def config(tiny_config: Config) -> Config:
    return dataclasses.replace(tiny_config, training=dataclasses.replace(tiny_config.training, steps=2))


@pytest.fixture
def stereo(tmp_path: Path) -> Path:
    """A folder of stereo sounds at 32 kHz."""
    (tmp_path / "sounds").mkdir()
    time = np.arange(8_000) / 32_000
    for index in range(3):
        sound = 0.5 * np.sin(2 * np.pi * (300 + 100 * index) * time)[:, None] * [1, 0.5]
        soundfile.write(tmp_path / "sounds" / f"{index}.wav", sound, 32_000)
    return tmp_path / "sounds"


def test_a_folder_keeps_its_rate_and_a_mono_family_mixes_it(
    stereo: Path, config: Config, tmp_path: Path, capsys: pytest.CaptureFixture[str], compile_cache: None
):
    synth = wavesynth.train(stereo, tmp_path / "run", config)
    shards = Shards.open(tmp_path / "run" / "shards")
    assert (synth.sample_rate, synth.channels, shards.sample_rate, shards.channels) == (32_000, 1, 32_000, 1)
    said = capsys.readouterr().out
    assert said.count("wavenet is mono: stereo files were mixed.") == 1
    assert "from 32,000 samples, one by one: training and sampling are 2.0 times slower than at 16,000 Hz" in said
    assert "--sample-rate 16000" in said
    assert "--preset autoencoder-small" in said


def test_a_rate_may_be_chosen_and_holds_when_the_run_is_resumed(
    stereo: Path, config: Config, tmp_path: Path, capsys: pytest.CaptureFixture[str], compile_cache: None
):
    run = tmp_path / "run"
    assert wavesynth.train(stereo, run, config, sample_rate=8_000, mono=True).sample_rate == 8_000
    said = capsys.readouterr().out
    assert "one by one" not in said
    assert "wavenet is mono" not in said  # it was asked for
    assert wavesynth.train(stereo, run, resume=True, steps=3, progress=False).sample_rate == 8_000
    with pytest.raises(UserError, match=r"prepared with sample_rate 8000 \(now 16000\)"):
        wavesynth.train(stereo, run, resume=True, sample_rate=16_000, progress=False)


@pytest.mark.parametrize(
    ("given", "says"), [({"sample_rate": 16_000}, "sample_rate is 16000"), ({"mono": True}, "mono is set")]
)
def test_shards_have_a_rate_of_their_own(
    given: dict, says: str, tiny_shards: Path, config: Config, tmp_path: Path, compile_cache: None
):
    with pytest.raises(
        UserError, match=rf"{says}, but .*tiny.*holds shards, which have 16,000 Hz and 1 channels: leave"
    ):
        wavesynth.train(tiny_shards, tmp_path / "run", config, progress=False, **given)


def test_stereo_shards_are_mixed_for_a_mono_family(
    stereo: Path, config: Config, tmp_path: Path, capsys: pytest.CaptureFixture[str], compile_cache: None
):
    wavesynth.prepare(stereo, tmp_path / "shards", sample_rate=16_000, progress=False)
    assert Shards.open(tmp_path / "shards").channels == 2
    synth = wavesynth.train(tmp_path / "shards", tmp_path / "run", config)
    assert synth.channels == 1
    assert synth.sample(1, 0.01).shape == (1, 160)
    assert capsys.readouterr().out.count("wavenet is mono: the stereo shards are mixed.") == 1


@pytest.mark.parametrize("channels", [1, 2])
def test_a_family_says_whether_it_supports_stereo(
    channels: int, stereo: Path, config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def stop(shards: Shards) -> None:
        raise UserError(f"{shards.channels} channels")

    monkeypatch.setattr(WaveNetFamily, "channels", channels)
    monkeypatch.setattr(api, "dataset_info", stop)
    with pytest.raises(UserError, match=f"{channels} channels"):
        wavesynth.train(stereo, tmp_path / "run", config, progress=False)


def test_every_family_has_one_or_two_channels():
    assert {family.channels for family in FAMILIES.values()} <= {1, 2}
