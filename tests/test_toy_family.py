"""The worked example of CONTRIBUTING: a family outside the package, registered by an entry point, does all a family can."""

import importlib
import re
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import wavesynth
from tests.tolerances import assert_close, sampling
from wavesynth import families
from wavesynth.errors import UserError

SOURCE = Path(__file__).parent / "toy_family"


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The toy's distribution on the import path, with the metadata that `pip install` would write."""
    project = tomllib.loads((SOURCE / "pyproject.toml").read_text())["project"]
    metadata = tmp_path_factory.mktemp("site") / "wavesynth_colour-0.1.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: 0.1\n")
    (group, points), *_ = project["entry-points"].items()
    (metadata / "entry_points.txt").write_text(
        "\n".join([f"[{group}]", *(f"{name} = {value}" for name, value in points.items())])
    )
    added = [str(SOURCE), str(metadata.parent)]
    sys.path[:0] = added
    families._others.cache_clear()
    yield
    sys.path[:] = [entry for entry in sys.path if entry not in added]
    sys.modules.pop("wavesynth_colour", None)
    importlib.invalidate_caches()
    families._others.cache_clear()


@pytest.fixture(scope="module")
def run(installed: None, tmp_path_factory: pytest.TempPathFactory, tiny_shards: Path) -> Path:
    config = wavesynth.preset("colour")
    training = replace(
        config.training, batch_size=8, crop_seconds=0.064, ema=0.9, validation_windows=16, preview_seconds=0.1
    )
    folder = tmp_path_factory.mktemp("toy") / "run"
    wavesynth.train(tiny_shards, folder, replace(config, training=training), progress=False)
    return folder


@pytest.fixture(scope="module")
def synth(run: Path) -> wavesynth.Synth:
    return wavesynth.load(run)


def test_contributing_shows_its_code() -> None:
    shown = (SOURCE.parent.parent / "CONTRIBUTING.md").read_text(encoding="utf-8")
    own = {line.strip() for path in SOURCE.iterdir() if path.is_file() for line in path.read_text().splitlines()}
    blocks = re.findall(r"```(?:python|toml)\n(.*?)```", shown, re.DOTALL)
    assert len(blocks) == 3
    assert {line.strip() for block in blocks for line in block.splitlines()} <= own


def test_it_is_registered(installed: None) -> None:
    assert families.family_type("colour").__name__ == "ColourFamily"
    assert "colour" in families.presets()
    assert "colour" not in families.FAMILIES


def test_it_learns_colours(synth: wavesynth.Synth) -> None:
    """Hi-hats are brighter than cellos, so a sample tells less about the next one."""
    colours = {label: synth.timbre(label).latent for label in synth.labels}
    assert np.isfinite(list(colours.values())).all()
    assert colours["hat"][0] < colours["cello"][0]


def test_it_samples(synth: wavesynth.Synth) -> None:
    sounds = synth.sample(2, 0.5, seed=3, label="flute")
    assert sounds.shape == (2, 8_000)
    np.testing.assert_array_equal(sounds, synth.sample(2, 0.5, seed=3, label="flute"))
    assert not np.array_equal(sounds[0], sounds[1])
    np.testing.assert_array_equal(next(synth.stream(100, seed=3, label="flute")), sounds[0, :100])


def test_what_it_samples_is_encoded_as_it_was(synth: wavesynth.Synth) -> None:
    colour = synth.timbre("hat")
    sound = synth.decode(colour, seconds=4.0, seed=1)
    found = synth.encode(sound)
    assert np.tanh(found.latent[0]) == pytest.approx(np.tanh(colour.latent[0]), abs=sampling(1.0, len(sound)))
    assert found.latent[1] == pytest.approx(colour.latent[1], abs=sampling(1.0, len(sound)))


def test_it_interpolates(synth: wavesynth.Synth) -> None:
    a, b = synth.timbre("flute"), synth.timbre("hat")
    assert_close(synth.between("flute", "hat", 0.5).latent, (a.latent + b.latent) / 2)
    steps = synth.morph("flute", "hat", steps=3, seconds=0.25, even=False, match_loudness=False)
    assert steps.shape == (3, 4_000)
    np.testing.assert_array_equal(steps[0], synth.decode(a, seconds=0.25))
    np.testing.assert_array_equal(steps[2], synth.decode(b, seconds=0.25))


def test_what_it_cannot_do_is_said(synth: wavesynth.Synth) -> None:
    with pytest.raises(UserError, match=r"'colour' cannot .*: it can sample, encode"):
        list(synth.resynthesize([np.zeros(100)]))
    with pytest.raises(UserError, match="temperature"):
        synth.sample(1, 0.1, temperature=0.5)


def test_without_its_package_a_run_says_what_is_missing(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(families, "_others", dict)
    with pytest.raises(UserError, match=r"family is 'colour', which neither this version .* nor an installed package"):
        wavesynth.load(run)
