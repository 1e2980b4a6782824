"""The table of families, and their presets."""

from typing import Any

from wavesynth.config import Config, DatasetInfo
from wavesynth.errors import UserError
from wavesynth.families.autoencoder import AutoencoderFamily
from wavesynth.families.base import Dtype, Family, Request
from wavesynth.families.classifier import ClassifierFamily
from wavesynth.families.wavegan import WaveGANFamily
from wavesynth.families.wavenet import WaveNetFamily
from wavesynth.families.wavenet_autoencoder import WaveNetAutoencoderFamily

FAMILIES: dict[str, type[Family]] = {
    family.name: family
    for family in (WaveNetFamily, WaveNetAutoencoderFamily, WaveGANFamily, AutoencoderFamily, ClassifierFamily)
}
PRESETS: dict[str, Config] = {name: config for family in FAMILIES.values() for name, config in family.presets.items()}


def preset(name: str) -> Config:
    """A config that is known to work; change it by `dataclasses.replace`.

    >>> config = preset("wavenet-small")
    """
    if name not in PRESETS:
        raise UserError(f"preset is {name!r}: choose one of {', '.join(PRESETS)}")
    return PRESETS[name]


def family_type(name: str) -> type[Family]:
    if name not in FAMILIES:
        raise UserError(
            f"family is {name!r}, which this version of wavesynth does not have: it has {', '.join(FAMILIES)}"
        )
    return FAMILIES[name]


def bind(name: str, model: Any, dataset: DatasetInfo) -> Family:
    """The family `name` with a network of the shape `model`, for sounds like `dataset`."""
    return family_type(name)(model, dataset)


__all__ = ["FAMILIES", "PRESETS", "Dtype", "Family", "Request", "bind", "family_type", "preset"]
