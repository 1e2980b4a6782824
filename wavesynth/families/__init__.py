"""Model families and presets.

Other packages register families by entry points in the group `wavesynth.families`. The entry point's name is the family's
name, its value the class. See CONTRIBUTING for a worked example.
"""

import warnings
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from wavesynth.config import Config, DatasetInfo
from wavesynth.errors import UserError
from wavesynth.families.autoencoder import AutoencoderFamily
from wavesynth.families.base import Family
from wavesynth.families.classifier import ClassifierFamily
from wavesynth.families.protocols import (
    ABILITIES,
    Dtype,
    Generative,
    Judging,
    Live,
    Request,
    Scored,
    Timbral,
    Trainable,
    require,
)
from wavesynth.families.wavegan import WaveGANFamily
from wavesynth.families.wavenet import WaveNetFamily
from wavesynth.families.wavenet_autoencoder import WaveNetAutoencoderFamily

GROUP = "wavesynth.families"
PARTS = (
    "name", "model_config", "training_config", "presets", "channels", "adapt", "context", "align", "windows",
    "held_out", "init", "shapes", "published", "label_parts", "memory",
    "memory_shapes", "objective", "baselines", "unsupported",
)  # fmt: skip
FAMILIES: dict[str, type[Family]] = {
    family.name: family
    for family in (WaveNetFamily, WaveNetAutoencoderFamily, WaveGANFamily, AutoencoderFamily, ClassifierFamily)
}
"""The families that come with wavesynth."""


def presets() -> dict[str, Config]:
    """All presets by name: wavesynth's own, then those of other packages.

    Packages that cannot be imported are skipped with a warning.
    """
    found = {name: config for family in FAMILIES.values() for name, config in family.presets.items()}
    for family in sorted(_others()):
        try:
            others = family_type(family).presets
        except UserError as error:
            warnings.warn(f"presets are skipped: {error}", stacklevel=2)
            continue
        found = {**others, **found}  # a package cannot replace a preset of wavesynth
    return found


def preset(name: str) -> Config:
    """A ready-made config. Use `dataclasses.replace` to change it.

    Args:
        name: the name of a preset, such as "wavenet-small"; the README lists them.

    Raises:
        UserError: there is no such preset; the message lists all presets.

    >>> preset("wavenet-small").family
    'wavenet'
    """
    for family in FAMILIES.values():  # without loading other packages
        if name in family.presets:
            return family.presets[name]
    every = presets()
    if name not in every:
        raise UserError(f"preset is {name!r}: choose one of {', '.join(sorted(every))}")
    return every[name]


def family_type(name: str) -> type[Trainable]:
    """The class of a family.

    Raises:
        UserError: no family has this name, or the package that registers it cannot be imported.
    """
    if name in FAMILIES:
        return FAMILIES[name]
    others = _others()
    if name not in others:
        raise UserError(
            f"family is {name!r}, which neither this version of wavesynth nor an installed package provides: choose one of "
            f"{', '.join([*FAMILIES, *sorted(others)])}"
        )
    source = f"family is {name!r}, registered as {others[name].value}, which"
    try:
        kind = others[name].load()
    except Exception as error:  # another package may raise anything
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise UserError(f"{source} cannot be imported ({reason}): install its package again") from error
    missing = [part for part in PARTS if not hasattr(kind, part)]
    if not isinstance(kind, type) or missing:
        raise UserError(f"{source} is not a family: it lacks {', '.join(missing) or 'a class'}; see `Trainable`")
    if kind.name != name:
        raise UserError(f"{source} has the name {kind.name!r}: both names must be the same")
    return kind


def bind(name: str, model: Any, dataset: DatasetInfo) -> Any:
    """The family `name`, bound to a network config and a dataset."""
    return family_type(name)(model, dataset)


def abilities(family: Any) -> list[str]:
    """What a model of this family can do, in words."""
    return [words for protocol, words in ABILITIES.items() if isinstance(family, protocol)]


@cache
def _others() -> dict[str, EntryPoint]:
    return {point.name: point for point in entry_points(group=GROUP) if point.name not in FAMILIES}


__all__ = [
    "FAMILIES",
    "Dtype",
    "Family",
    "Generative",
    "Judging",
    "Live",
    "Request",
    "Scored",
    "Timbral",
    "Trainable",
    "abilities",
    "bind",
    "family_type",
    "preset",
    "presets",
    "require",
]
