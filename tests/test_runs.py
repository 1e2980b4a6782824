"""Runs that come with wavesynth are found by name, and never in place of the user's own."""

from pathlib import Path

import pytest

import wavesynth
from wavesynth import runs
from wavesynth.errors import UserError


def test_published_runs_load_from_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    assert "checkpoints/notes" in runs.published()
    synth = wavesynth.load("checkpoints/notes")
    assert synth.family.name == "autoencoder"
    assert wavesynth.load(Path("checkpoints") / "notes").fingerprint == synth.fingerprint


def test_a_folder_of_the_user_goes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_run: Path):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "notes").symlink_to(tiny_run, target_is_directory=True)
    assert wavesynth.load("checkpoints/notes").family.name == "wavenet"


def test_one_that_is_not_there_is_named_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"run is 'checkpoints/none', .* wavesynth \(checkpoints/notes\)"):
        wavesynth.load("checkpoints/none")
