"""Configs: frozen dataclasses that are validated on construction and stored as JSON.

This module defines the configs that all families share. The shape of a network is its family's own dataclass, such as
`WaveNetConfig`. The type of a field declares its allowed values: see `wavesynth.fields`.
"""

import dataclasses
import json
import numbers
import random
import re
import unicodedata
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Self

from wavesynth.errors import UserError
from wavesynth.fields import Checked, Count, Real, Text, Whole, allowed_values, shown

Optimizer = Literal["adamw", "muon"]
Schedule = Literal["cosine", "constant"]
VERSION = "0.1.0"  # of wavesynth; pyproject.toml reads it here
FORMAT = 2  # of config.json; increased when older versions would misread newer files
ONE_SHOT_SECONDS = 10.0  # longer clips count as pieces, in which the time since the beginning is irrelevant

# Types shared by several configs.
SampleRate = Annotated[int, Whole(1_000, 768_000)]
Pitch = Annotated[float, Real(least=0, most=127)]
LabelAndPitch = Annotated[tuple[Annotated[float, Real(least=-1, most=65_535)], ...], Count(2, 2)]
Frequencies = Annotated[tuple[Annotated[float, Real(above=0, most=400_000)], ...], Count(0, 1_024)]
Width = Annotated[int, Whole(1, 8_192)]
Steps = Annotated[int, Whole(1, 10**9)]
Weight = Annotated[float, Real(least=0, most=1e6)]
Share = Annotated[float, Real(least=0, most=1)]
Decay = Annotated[float, Real(least=0, below=1)]


def check_frequencies(name: str, hertz: tuple[float, ...], sample_rate: int) -> None:
    """Raises UserError unless frequencies ascend and lie below half the sample rate."""
    if list(hertz) != sorted(set(hertz)) or any(each >= sample_rate / 2 for each in hertz):
        raise UserError(f"{name} is {shown(hertz)}: frequencies must ascend and lie below half of {sample_rate} Hz")


@dataclass(frozen=True)
class DatasetInfo(Checked):
    """Facts about the training sounds that a model depends on.

    Attributes:
        sample_rate: Hz.
        labels: names, in the order of their indices.
        pitched: whether any clip has a pitch.
        clip_seconds: half of the sound is in clips of at most this length. It distinguishes single notes from whole pieces.
        pitches: the lowest and the highest MIDI number; empty if there are no pitches.
        channels: number of channels of the sounds that the model makes.
        typical: label index (-1 for none) and pitch (-1 for none) of a representative sample of the training clips.
        level_db: root mean square of the sounds where they are not silent, decibels relative to full scale.
        partials: frequencies of the steady tones that replace pitches, ascending, Hz; empty if any clip has a pitch.
    """

    sample_rate: SampleRate
    labels: Annotated[tuple[Annotated[str, Text(1)], ...], Count(0, 65_536)] = ()
    pitched: bool = False
    clip_seconds: Annotated[float, Real(least=0, most=1e9)] = 0.0
    pitches: Annotated[tuple[Pitch, ...], Count(0, 2)] = ()
    channels: Annotated[int, Whole(1, 2)] = 1
    typical: Annotated[tuple[LabelAndPitch, ...], Count(0, 4_096)] = ()
    level_db: Annotated[float, Real(least=-120, most=0)] = -20.0
    partials: Frequencies = dataclasses.field(default=(), repr=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(set(self.labels)) < len(self.labels):
            raise UserError(f"labels is {shown(self.labels)}: the labels must differ")
        if len(self.pitches) == 1 or list(self.pitches) != sorted(self.pitches):
            raise UserError(f"pitches is {self.pitches}: give the lowest and the highest, or none")
        check_frequencies("partials", self.partials, self.sample_rate)
        for pair in self.typical:
            if pair[0] not in range(-1, len(self.labels)) or pair[1] > 127:
                raise UserError(
                    f"typical is {shown(self.typical)}: {pair} is not a label index and pitch of these sounds"
                )

    @property
    def one_shots(self) -> bool:
        """Whether the sounds are short ones with a beginning and an end, rather than pieces."""
        return self.clip_seconds <= ONE_SHOT_SECONDS

    def label_index(self, label: str | None) -> int:
        """The index of a label; -1 for None. Labels are compared in Unicode's normal form C.

        Raises:
            UserError: the model was not trained with that label.

        >>> DatasetInfo(16_000, ("kick", "snare")).label_index("snare")
        1
        """
        if label is None:
            return -1
        label = unicodedata.normalize("NFC", label)
        if label not in self.labels:
            printable = [known if known.isprintable() else repr(known) for known in self.labels]
            known = ", ".join(printable) or "none: the model was trained without labels"
            raise UserError(f"label is {label!r}, which the model does not know: choose one of its labels ({known})")
        return self.labels.index(label)

    def draw_typical(self, seed: int, row: int, label: int = -1) -> tuple[int, float | None]:
        """The label index and pitch of a random training sound. Depends only on (seed, row).

        label: the index to draw from; -1 for any.
        """
        generator = random.Random(seed * 2**32 + row)
        pairs = self._typical_of(label)
        if not pairs:
            drawn = generator.randrange(len(self.labels)) if self.labels and label < 0 else label
            return drawn, self.median_pitch()
        chosen, pitch = generator.choice(pairs)
        return int(chosen), None if pitch < 0 else float(pitch)

    def median_pitch(self, label: int = -1) -> float | None:
        """The median pitch of the training sounds of a label (-1 for all); None where they have none."""
        known = sorted(pitch for _, pitch in self._typical_of(label) if pitch >= 0)
        return float(known[len(known) // 2]) if known else None

    def _typical_of(self, label: int) -> list[tuple[float, ...]]:
        return [pair for pair in self.typical if label < 0 or pair[0] == label]


@dataclass(frozen=True)
class TrainingConfig(Checked):
    """Training settings. Families whose objective has more settings use a subclass.

    Attributes:
        steps: number of optimiser steps.
        batch_size: examples per step, over all devices and hosts.
        crop_seconds: length of an example, in addition to the left context; 0 for families that train on whole sounds.
        noise: standard deviation of white noise added to the sounds, as a fraction of their root mean square. It keeps
            generated sounds in tune: a model trained only on clean context drifts when it continues its own samples.
        transpose: semitones; sounds that have a pitch are played up to this much higher or lower, drawn anew for each example.
            So a model learns the pitches between those of the sounds.
        optimizer: "adamw", or "muon": Muon for matrices, AdamW for the rest.
        beta1: decay per step of the optimiser's moving average of the gradient.
        beta2: decay per step of the optimiser's moving average of the squared gradient.
        learning_rate: the peak learning rate.
        schedule: "cosine" decays the learning rate to 0; "constant" keeps it.
        weight_decay: weight decay of matrices, per step, multiplied by the learning rate.
        warmup: steps over which the learning rate rises from 0; at most a tenth of all steps.
        clip: the largest gradient norm.
        ema: decay per step of the moving average of the weights, which is published and used for sampling.
        validate_every: steps between validations.
        validation_windows: the largest number of held-out windows to score in a validation.
        save_every: steps between saved states.
        keep: number of saved states to keep on disk.
        preview_every: steps between previews.
        preview_seconds: length of each sound in a preview.
        seed: random seed.
    """

    steps: Steps = 20_000
    batch_size: Annotated[int, Whole(1, 65_536)] = 8
    crop_seconds: Annotated[float, Real(least=0, most=600)] = 0.5
    noise: Annotated[float, Real(least=0, most=100)] = 0.0
    transpose: Annotated[float, Real(least=0, most=12)] = 0.0
    optimizer: Optimizer = "adamw"
    beta1: Decay = 0.9
    beta2: Decay = 0.99
    learning_rate: Annotated[float, Real(above=0, most=100)] = 3e-3
    schedule: Schedule = "cosine"
    weight_decay: Annotated[float, Real(least=0, most=100)] = 0.0
    warmup: Annotated[int, Whole(0, 10**9)] = 100
    clip: Annotated[float, Real(above=0, most=1e12)] = 1.0
    ema: Decay = 0.999
    validate_every: Steps = 250
    validation_windows: Annotated[int, Whole(1, 10**6)] = 64
    save_every: Steps = 250
    keep: Annotated[int, Whole(1, 10_000)] = 2
    preview_every: Steps = 1_000
    preview_seconds: Annotated[float, Real(above=0, most=600)] = 1.0
    seed: Annotated[int, Whole(0, 2**32 - 1)] = 0

    def from_base(self) -> Self:
        """These settings for training that begins from another model. Subclasses change what then differs."""
        return self


@dataclass(frozen=True)
class Config:
    """The name of a family, the shape of its network (the family's own dataclass) and its training settings.

    >>> Config("wavenet", WaveNetConfig(channels=32), TrainingConfig(steps=500))      # doctest: +SKIP
    """

    family: str
    model: Any
    training: TrainingConfig

    def __post_init__(self) -> None:
        if not isinstance(self.training, TrainingConfig):
            raise UserError(
                f"training is {shown(self.training)}: give a TrainingConfig, or the family's subclass of it"
            )


def check_seed(seed: int) -> None:
    """Raises UserError unless a seed is a whole number from 0 to 2^32 - 1. JAX does not distinguish larger ones."""
    if isinstance(seed, bool) or not isinstance(seed, numbers.Integral) or not 0 <= seed < 2**32:
        raise UserError(f"seed is {shown(seed)}: it must be a whole number from 0 to {2**32 - 1}")


def to_json(value: Any) -> str:
    """A dataclass, or a dictionary of dataclasses, as readable JSON, with lists of numbers or words on one line.

    >>> print(to_json({"format": 2, "shape": [1, 2, 3]}), end="")
    {
      "format": 2,
      "shape": [1, 2, 3]
    }
    """
    text = json.dumps(value, indent=2, ensure_ascii=False, default=dataclasses.asdict)

    def on_one_line(found: re.Match) -> str:
        return "[" + re.sub(r",\n *", ", ", found[1]) + "]"

    # Line breaks occur only between values: in strings they are escaped.
    return re.sub(r"\[\n\s+([^\[\]{}]*?)\n\s+\]", on_one_line, text) + "\n"


def from_dict(kind: type, values: Any, where: str) -> Any:
    """A dataclass from its JSON form.

    Args:
        kind: the dataclass.
        values: its fields by name, as `json` reads them.
        where: the file and the position in it, with which every error begins.

    Raises:
        UserError: a field is missing or unknown, or its value is not allowed.

    >>> from_dict(TrainingConfig, {"steps": 500}, "config.json").steps
    500
    """
    if not isinstance(values, dict):
        raise UserError(
            f"{where} holds {shown(values)}, not the fields of {kind.__name__}: it was not written by wavesynth"
        )
    allowed = allowed_values(kind)
    unknown = sorted(set(values) - set(allowed))
    if unknown:
        raise UserError(
            f"{where} has the unknown field {shown(unknown[0])}: it was written by another version of wavesynth; "
            "use that version, or train again"
        )
    required = {f.name for f in dataclasses.fields(kind) if f.default is f.default_factory is dataclasses.MISSING}
    missing = sorted(required - set(values))
    if missing:
        raise UserError(f"{where} lacks the field {missing[0]!r}: it is damaged, or from another version of wavesynth")
    fields = {name: allowed[name].checked(value, f"{where}: {name}") for name, value in values.items()}
    try:
        return kind(**fields)
    except UserError as error:
        raise UserError(f"{where}: {error}") from None
