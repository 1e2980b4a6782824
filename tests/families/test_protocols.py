"""Which family implements which protocol, and how families of other packages register."""

import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import wavesynth
from wavesynth import UserError
from wavesynth.config import DatasetInfo
from wavesynth.families import (
    FAMILIES,
    Generative,
    Judging,
    Live,
    Request,
    Scored,
    Timbral,
    abilities,
    bind,
    family_type,
    preset,
    presets,
    require,
)
from wavesynth.families import _others as other_packages
from wavesynth.families.base import Family
from wavesynth.families.protocols import ABILITIES

IMPLEMENTED: dict[str, set[type]] = {
    "wavenet": {Generative, Scored, Timbral},
    "wavenet-autoencoder": {Generative, Scored, Timbral},
    "wavegan": {Generative, Timbral},
    "autoencoder": {Generative, Timbral, Live},
    "classifier": {Judging},
}


def small(name: str) -> Any:
    """A family with the smallest preset's network."""
    dataset = DatasetInfo(16_000, ("a", "b"), pitched=True, clip_seconds=1.0)
    kind = FAMILIES[name]
    config = kind.presets[min(kind.presets, key=lambda preset: (not preset.endswith("-tiny"), preset))]
    return bind(name, kind.adapt(config.model, dataset), dataset)


@pytest.mark.parametrize("name", FAMILIES)
def test_each_family_implements_what_it_can_serve(name: str):
    family = small(name)
    found = {protocol for protocol in ABILITIES if isinstance(family, protocol)}
    assert found == IMPLEMENTED[name]
    assert abilities(family) == [words for protocol, words in ABILITIES.items() if protocol in found]
    for protocol in ABILITIES:
        if protocol in found:
            assert require(family, protocol) is family
        else:
            with pytest.raises(UserError) as error:
                require(family, protocol)
            assert str(error.value) == (
                f"a model of the family {name!r} cannot {ABILITIES[protocol]}: it can {', '.join(abilities(family))}"
            )


def test_an_error_may_name_another_action():
    with pytest.raises(UserError, match="'classifier' cannot write previews: it can judge sounds"):
        require(small("classifier"), Generative, "write previews")


def test_a_family_that_can_only_be_trained():
    class Bare(Family):
        name = "bare"
        init = shapes = objective = baselines = adapt = None  # type: ignore[assignment]

    bare = Bare(None, DatasetInfo(16_000))
    assert abilities(bare) == []
    with pytest.raises(UserError, match="'bare' cannot sample: it can only be trained"):
        require(bare, Generative)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(truncation=1.5), "truncation is 1.5: it must lie between 0 and 1"),
        (dict(truncation=float("nan")), "truncation is nan"),
        (dict(dtype="int8"), "dtype is 'int8': choose one of float32, bfloat16"),
    ],
)
def test_a_request_is_checked_when_made(options: dict, message: str):
    with pytest.raises(UserError, match=message):
        Request(**options)


def test_names_and_presets_are_unique():
    assert list(FAMILIES) == [family.name for family in FAMILIES.values()]
    shipped = [name for family in FAMILIES.values() for name in family.presets]
    assert len(shipped) == len(set(shipped))
    assert set(presets()) == set(shipped)
    for name in shipped:
        assert preset(name) is presets()[name]
    with pytest.raises(UserError, match=r"preset is 'wavenet-smal': choose one of .*wavenet-small"):
        preset("wavenet-smal")
    with pytest.raises(UserError, match=r"family is 'wavnet', which neither this version .* choose one of wavenet, "):
        family_type("wavnet")


# Families of other packages.

TONES = """
    from dataclasses import dataclass

    import numpy as np

    from wavesynth.config import Config, TrainingConfig
    from wavesynth.families import Family

    @dataclass(frozen=True)
    class Shape:
        level: float = 0.5

    class Tones(Family):
        name = "tones"
        model_config = Shape
        presets = {"tones-small": Config("tones", Shape(), TrainingConfig(steps=1))}
        autoregressive = False
        init = shapes = objective = baselines = None

        @classmethod
        def adapt(cls, model, dataset):
            return model

        def generate(self, params, conditions, request):
            yield np.full((conditions.batch, 1, 16_000), self.model.level, np.float32)

    class Nameless(Tones):
        name = "other"

    class Half:
        name, model_config = "tones", Shape

    NUMBER = 3
"""


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """install(source, **families) puts a module `strange_tones` and its entry points on the import path."""

    def install(source: str, **families: str) -> None:
        (tmp_path / "strange_tones.py").write_text(textwrap.dedent(source))
        info = tmp_path / "strange_tones-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: strange-tones\nVersion: 1.0\n")
        points = [f"{name.replace('_', '-')} = strange_tones{value}" for name, value in families.items()]
        (info / "entry_points.txt").write_text("\n".join(["[wavesynth.families]", *points]) + "\n")
        monkeypatch.syspath_prepend(str(tmp_path))
        other_packages.cache_clear()

    yield install
    monkeypatch.undo()
    sys.modules.pop("strange_tones", None)
    other_packages.cache_clear()


def test_another_package_registers_a_family(install: Callable[..., None]):
    install(TONES, tones=":Tones")
    kind = family_type("tones")
    assert kind.name == "tones"
    config = preset("tones-small")
    assert wavesynth.preset("tones-small") is config
    assert set(presets()) > set(kind.presets)
    family = bind("tones", config.model, DatasetInfo(16_000))
    assert abilities(family) == ["sample"]
    synth = wavesynth.Synth(family, {})
    np.testing.assert_array_equal(synth.sample(2, 0.01), np.full((2, 160), 0.5, np.float32))
    with pytest.raises(UserError, match="family 'tones' cannot score samples: it can sample"):
        synth.log_prob([0.1])
    with pytest.raises(UserError, match=r"choose one of wavenet, .*tones"):
        family_type("gone")


@pytest.mark.parametrize(
    ("source", "value", "message"),
    [
        ("import no_such_module_of_mine", ":Tones", "cannot be imported .ModuleNotFoundError: No module named"),
        ("raise RuntimeError('first line\\nsecond line')", ":Tones", "RuntimeError: first line second line"),
        ("x = (", ":Tones", "cannot be imported .SyntaxError"),
        (TONES, ":Missing", "cannot be imported .AttributeError"),
        (TONES, ":NUMBER", "is not a family: it lacks name, model_config"),
        (TONES, ":Shape", "is not a family: it lacks name, model_config"),
        (TONES, ":Half", "is not a family: it lacks training_config, .*, unsupported; see"),
        (TONES, ":Nameless", "has the name 'other': both names must be the same"),
    ],
)
def test_a_broken_entry_point_is_one_clear_error(install: Callable[..., None], source: str, value: str, message: str):
    install(source, tones=value)
    with pytest.raises(UserError, match=message) as error:
        family_type("tones")
    assert str(error.value).startswith(f"family is 'tones', registered as strange_tones{value}, which ")
    assert "\n" not in str(error.value)
    # Other presets are found, and the broken package is named.
    assert preset("wavenet-small").family == "wavenet"
    with pytest.warns(UserWarning, match="presets are skipped: family is 'tones'"):
        assert "wavenet-small" in presets()


def test_another_package_replaces_nothing(install: Callable[..., None]):
    source = TONES.replace('"tones-small"', '"wavenet-small"')
    install(source, tones=":Tones", wavenet=":Tones")
    assert family_type("wavenet") is FAMILIES["wavenet"]
    assert presets()["wavenet-small"].family == preset("wavenet-small").family == "wavenet"
