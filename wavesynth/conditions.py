"""Conditioning of sounds: labels, pitch, loudness and local features.

Models take `Conditions`, from batches or from `Synth`. Users write a `Curve`. A constant is a curve of one frame.
"""

import math
import reprlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from numbers import Real
from typing import Any

import jax
import numpy as np

from wavesynth.errors import UserError

Array = Any  # a NumPy array on the host, a JAX array on a device


@partial(
    jax.tree_util.register_dataclass,
    data_fields=("labels", "pitch", "loudness", "features"),
    meta_fields=("frame_rate",),
)
@dataclass(frozen=True)
class Conditions:
    """The conditions of B sounds, in F frames at `frame_rate`. Constant conditions have one frame.

    Attributes:
        labels: float32 [B, L], a weight for each label; zeros for no label.
        pitch: float32 [B, F], MIDI numbers; NaN for no pitch.
        loudness: float32 [B, F], dB; None if not given.
        features: float32 [B, F, C], other local conditioning; None if there is none.
        frame_rate: frames per second, Hz; 0 if everything is constant.
    """

    labels: Array
    pitch: Array
    loudness: Array | None = None
    features: Array | None = None
    frame_rate: float = 0.0

    @classmethod
    def constant(cls, labels: Sequence[int], num_labels: int, pitches: Sequence[float | None]) -> "Conditions":
        """Conditions that hold for whole sounds.

        Args:
            labels: the label's index of each sound; -1 for none.
            num_labels: L.
            pitches: the MIDI number of each sound; None or NaN for none.

        >>> Conditions.constant([1, -1], 2, [60.0, None]).labels.tolist()
        [[0.0, 1.0], [0.0, 0.0]]
        """
        indices = np.asarray(labels, np.int64).reshape(-1, 1)
        weights = (indices == np.arange(num_labels)).astype(np.float32)
        pitch = np.array([math.nan if pitch is None else pitch for pitch in pitches], np.float32)
        return cls(weights, pitch[:, None])

    @property
    def batch(self) -> int:
        """The number of sounds, B."""
        return self.labels.shape[0]

    @property
    def constant_pitch(self) -> Array:
        """The pitch of each sound, [B], if it is constant; otherwise that of the first frame."""
        return self.pitch[:, 0]

    @property
    def label_indices(self) -> np.ndarray:
        """The index of each sound's largest label weight, int [B]; -1 for no label. Computed on the host."""
        labels = np.asarray(self.labels)
        if not labels.shape[1]:
            return np.full(len(labels), -1)
        return np.where(labels.any(axis=1), labels.argmax(axis=1), -1)

    def rows(self, index: Any) -> "Conditions":
        """Selects sounds; `index` is a slice or an array of row numbers."""
        return jax.tree.map(lambda leaf: leaf[index], self)


@dataclass(frozen=True, eq=False)
class Curve:
    """One value per frame of a sound: pitch in MIDI numbers (NaN for no pitch), or loudness in dB.

    Attributes:
        values: float32 [F]. One value is a constant.
        rate: frames per second, Hz; None for a constant.

    Raises:
        UserError: the values are empty, not numbers or not one-dimensional, or there are several and no rate.

    >>> (Curve(60) + 12).values.tolist()
    [72.0]
    >>> Curve([60, 62, 64], rate=100.0) - 0.5
    Curve(3 frames at 100 Hz, 59.5 to 63.5)
    """

    values: np.ndarray
    rate: float | None = None

    def __post_init__(self) -> None:
        shown = reprlib.repr(self.values).replace("\n", " ")
        try:
            given = np.asarray(self.values)
        except (TypeError, ValueError):
            given = np.array(None)
        if given.dtype.kind not in "fiu" and given.dtype.name != "bfloat16":
            raise UserError(f"values is {shown}: give a number, or one number per frame")
        with np.errstate(over="ignore"):  # infinity is rejected below
            values = np.array(given, np.float32)
        values = values.reshape(1) if values.ndim == 0 else values
        if values.ndim != 1 or not values.size:
            raise UserError(f"values has the shape {values.shape}: give a number, or one number per frame")
        if np.isinf(values).any():
            raise UserError(f"values is {shown}: give finite numbers, or NaN for none")
        if self.rate is None and len(values) > 1:
            raise UserError(f"values has {len(values)} frames and rate is None: give the frames per second")
        if self.rate is not None and not (isinstance(self.rate, Real) and 0 < self.rate < 1e6):
            raise UserError(f"rate is {self.rate!r}: it must be above 0 and below 1,000,000 frames per second")
        values.flags.writeable = False
        object.__setattr__(self, "values", values)

    @classmethod
    def of(cls, value: "CurveLike", argument: str) -> "Curve":
        """Converts a number, an array or a `Curve` to a `Curve`; `argument` is its name in errors."""
        if isinstance(value, Curve):
            return value
        try:
            return cls(value)  # type: ignore[arg-type]
        except UserError as error:
            raise UserError(f"{argument}: {error}") from None

    @property
    def is_constant(self) -> bool:
        """Whether there is only one frame."""
        return len(self.values) == 1

    def __add__(self, other: float) -> "Curve":
        return replace(self, values=self.values + np.float32(other))

    def __sub__(self, other: float) -> "Curve":
        return replace(self, values=self.values - np.float32(other))

    def __mul__(self, other: float) -> "Curve":
        return replace(self, values=self.values * np.float32(other))

    __radd__, __rmul__ = __add__, __mul__

    def __repr__(self) -> str:
        if self.is_constant:
            return f"Curve({self.values[0]:g})"
        known = self.values[np.isfinite(self.values)]
        extent = f"{known.min():g} to {known.max():g}" if known.size else "no values"
        return f"Curve({len(self.values)} frames at {self.rate:g} Hz, {extent})"


CurveLike = float | Sequence[float] | np.ndarray | Curve
"""A pitch or a loudness: a number, an array with one value per frame, or a `Curve`."""
