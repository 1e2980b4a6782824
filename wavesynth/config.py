"""What a run is made of, as frozen dataclasses that are checked when made and travel as JSON.

The shape of a network is its family's own dataclass (`WaveNetConfig` and so on): here is what all families share.
"""

import dataclasses
import json
import math
import random
import types
import typing
import unicodedata
from dataclasses import dataclass
from typing import Any, Literal

from wavesynth.errors import UserError

Optimizer = Literal["adamw", "muon"]
Schedule = Literal["cosine", "constant"]
VERSION = "0.1.0"  # of wavesynth; pyproject.toml reads it here
FORMAT = 2  # of config.json; raised when an older reader would misunderstand a newer file


@dataclass(frozen=True)
class DatasetInfo:
    """What a model must know of the sounds it is trained on.

    Attributes:
        sample_rate: Hz.
        labels: names, in the order of their indices.
        pitched: whether any clip has a pitch.
        clip_seconds: the median length of a clip; it tells a folder of notes from one of whole pieces.
        pitches: the lowest and the highest MIDI number; empty where there are none.
        channels: of every clip.
        typical: label index (-1 for none) and pitch (-1 for none) of some clips, as frequent here as in the training sounds.
    """

    sample_rate: int
    labels: tuple[str, ...] = ()
    pitched: bool = False
    clip_seconds: float = 0.0
    pitches: tuple[float, ...] = ()
    channels: int = 1
    typical: tuple[tuple[float, ...], ...] = ()

    def __post_init__(self) -> None:
        if self.sample_rate < 1:
            raise UserError(f"sample_rate is {self.sample_rate}: it must be at least 1 Hz")

    def label_index(self, label: str | None) -> int:
        """The index of a label; -1 for None. Labels are compared in Unicode's normal form C."""
        if label is None:
            return -1
        label = unicodedata.normalize("NFC", label)
        if label not in self.labels:
            printable = [known if known.isprintable() else repr(known) for known in self.labels]
            known = ", ".join(printable) or "none: the model was trained without labels"
            raise UserError(f"label is {label!r}, which the model does not know: choose one of its labels ({known})")
        return self.labels.index(label)

    def draw_typical(self, seed: int, row: int, label: int = -1) -> tuple[int, float | None]:
        """A label index and a pitch as the training sounds have them: those of one of them, chosen at random.

        It depends on (seed, row) alone. label: the index to keep to; -1 for any.
        """
        generator = random.Random(seed * 2**32 + row)
        pairs = self._typical_of(label)
        if not pairs:
            return generator.randrange(len(self.labels)) if self.labels and label < 0 else label, None
        chosen, pitch = generator.choice(pairs)
        return int(chosen), None if pitch < 0 else float(pitch)

    def median_pitch(self, label: int = -1) -> float | None:
        """The median pitch of the training sounds of a label (-1 for all); None where they have none."""
        known = sorted(pitch for _, pitch in self._typical_of(label) if pitch >= 0)
        return float(known[len(known) // 2]) if known else None

    def _typical_of(self, label: int) -> list[tuple[float, ...]]:
        return [pair for pair in self.typical if label < 0 or pair[0] == label]


@dataclass(frozen=True)
class TrainingConfig:
    """How a model is trained. A family whose objective knows more has a subclass of its own.

    Attributes:
        steps: optimiser steps in all.
        batch_size: examples a step, over all devices and hosts.
        crop: samples of each example that are learned; context comes on top. A family that learns whole sounds has 0.
        noise: standard deviation of the white noise that is added to the sounds, as a share of their root mean square. It
            keeps what is sampled in tune with itself: a model that has only ever seen a clean past goes astray in its own.
        optimizer: "adamw", or "muon": matrices by Muon, the rest by AdamW.
        beta1: decay a step of the optimiser's moving average of the gradient.
        beta2: decay a step of its moving average of the gradient's square.
        learning_rate: the highest.
        schedule: "cosine": it falls to 0 along one; "constant": it stays.
        weight_decay: of matrices, times the learning rate, a step.
        warmup: steps over which the learning rate rises from 0; a tenth of all at most.
        clip: the largest norm of a gradient.
        ema: decay a step of the moving average of the weights, which is what samples and is published.
        validate_every: steps between validations.
        validation_windows: held-out windows that one validation scores, at most.
        save_every: steps between saved states.
        keep: how many of the latest states stay on disk.
        preview_every: steps between previews.
        preview_seconds: length of each sound of a preview.
        seed: of everything random.
    """

    steps: int = 20_000
    batch_size: int = 8
    crop: int = 8_192
    noise: float = 0.0
    optimizer: Optimizer = "adamw"
    beta1: float = 0.9
    beta2: float = 0.99
    learning_rate: float = 3e-3
    schedule: Schedule = "cosine"
    weight_decay: float = 0.0
    warmup: int = 100
    clip: float = 1.0
    ema: float = 0.999
    validate_every: int = 250
    validation_windows: int = 64
    save_every: int = 250
    keep: int = 2
    preview_every: int = 1_000
    preview_seconds: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        check_at_least_one(self, "steps", "batch_size", "validate_every", "validation_windows")
        check_at_least_one(self, "save_every", "keep", "preview_every")
        for name in ("learning_rate", "clip", "preview_seconds"):
            if not 0 < getattr(self, name) < math.inf:
                raise UserError(f"{name} is {getattr(self, name)}: it must be above 0 and finite")
        for name in ("weight_decay", "warmup", "noise", "crop"):
            if not 0 <= getattr(self, name) < math.inf:
                raise UserError(f"{name} is {getattr(self, name)}: it must not be negative, and finite")
        check_seed(self.seed)
        check_choice(self, "optimizer", Optimizer)
        check_choice(self, "schedule", Schedule)
        for name in ("ema", "beta1", "beta2"):
            if not 0 <= getattr(self, name) < 1:
                raise UserError(f"{name} is {getattr(self, name)}: it must be at least 0 and below 1")


@dataclass(frozen=True)
class Config:
    """A family's name, the shape of its network (that family's own dataclass) and how it is trained."""

    family: str
    model: Any
    training: TrainingConfig


def check_at_least_one(config: Any, *names: str) -> None:
    """Raises UserError unless all these fields of a dataclass are 1 or more."""
    for name in names:
        if getattr(config, name) < 1:
            raise UserError(f"{name} is {getattr(config, name)}: it must be at least 1")


def check_choice(config: Any, name: str, choices: Any) -> None:
    """Raises UserError unless a field of a dataclass is one of the values of a Literal."""
    if getattr(config, name) not in typing.get_args(choices):
        known = ", ".join(map(repr, typing.get_args(choices)))
        raise UserError(f"{name} is {getattr(config, name)!r}: choose one of {known}")


def check_seed(seed: int) -> None:
    """Raises UserError unless a seed is one: others would be taken for their remainder, or not at all."""
    if not 0 <= seed < 2**32:
        raise UserError(f"seed is {seed}: it must lie between 0 and {2**32 - 1}")


def to_json(value: Any) -> str:
    """A dataclass as readable JSON."""
    return json.dumps(dataclasses.asdict(value), indent=2, ensure_ascii=False) + "\n"


def from_dict(kind: type, values: Any, where: str) -> Any:
    """The dataclass `kind` from its JSON form. A field that is unknown or of another type is an error naming `where`."""
    if not isinstance(values, dict):
        raise UserError(f"{where} holds {values!r}, not the fields of {kind.__name__}: it was not written by wavesynth")
    hints = typing.get_type_hints(kind)
    unknown = sorted(set(values) - set(hints))
    if unknown:
        raise UserError(
            f"{where} has the unknown field {unknown[0]!r}: it was written by another version of wavesynth; "
            "use that version, or train anew"
        )
    required = {f.name for f in dataclasses.fields(kind) if f.default is f.default_factory is dataclasses.MISSING}
    missing = sorted(required - set(values))
    if missing:
        raise UserError(f"{where} lacks the field {missing[0]!r}: it is damaged, or of another version of wavesynth")
    fields = {name: _coerce(hints[name], value, f"{where}: {name}") for name, value in values.items()}
    try:
        return kind(**fields)
    except UserError as error:
        raise UserError(f"{where}: {error}") from None


def _coerce(hint: Any, value: Any, where: str) -> Any:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is tuple:
        if not isinstance(value, list):
            raise UserError(f"{where} is {value!r}: it must be a list")
        return tuple(_coerce(arguments[0], item, where) for item in value)
    if origin is Literal:
        if value not in arguments:
            raise UserError(f"{where} is {value!r}: choose one of {', '.join(map(repr, arguments))}")
        return value
    if origin in (typing.Union, types.UnionType):
        return None if value is None else _coerce(arguments[0], value, where)
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if isinstance(hint, type) and (not isinstance(value, hint) or (isinstance(value, bool) and hint is not bool)):
        raise UserError(f"{where} is {value!r}: it must be of type {hint.__name__}")
    return value
