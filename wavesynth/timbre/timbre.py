"""A timbre: a point in a synth's latent space, or a path through it in time."""

import json
import math
import numbers
from collections.abc import Sequence
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path
from typing import Annotated, Any

import numpy as np

from wavesynth import strict_json, strict_tensors
from wavesynth.audio.files import check_free
from wavesynth.audio.names import display, user_path
from wavesynth.config import Pitch
from wavesynth.errors import UserError
from wavesynth.fields import Real, Text, allowed_values, shown
from wavesynth.storage import replacing, write_file
from wavesynth.timbre.interpolation import arc, check_share, same_length, shifted, straight

FORMAT = 1  # of a timbre file
MOST_JSON = 2**16  # bytes of that file
MOST_NUMBERS = 2**26  # in a latent: 256 MB
KNOWN = ("frame_rate", "pitch", "seconds", "onset")  # optional fields
FrameRate = Annotated[float, Real(above=0, most=768_000)]
Seconds = Annotated[float, Real(above=0, most=86_400)]
Onset = Annotated[float, Real(least=0, most=86_400)]
_quiet = np.errstate(over="ignore", invalid="ignore")  # values that are not finite are rejected later


@dataclass(frozen=True, eq=False)
class Timbre:
    """A point, or a path in time, in a synth's latent space. Immutable. Timbres of one synth can be added and scaled.

    In arithmetic, the last frame of the shorter path is held, so a path of one frame can be added to any path.

    Attributes:
        latent: float32, a point [D] or a path [F, D].
        synth: the fingerprint of the synth it belongs to. Timbres of different synths cannot be mixed.
        frame_rate: frames per second of a path, Hz; None for a point.
        pitch: MIDI number of the encoded sound, 0 to 127; None if unknown.
        seconds: length of the encoded sound; None if unknown.
        onset: seconds from the beginning of the encoded sound to its first audible sample; None if unknown.

    Raises:
        UserError: the latent is not a point or a path of finite numbers, or another value is out of range.

    >>> a, b = Timbre([1.0, 2.0], "synth"), Timbre([3.0, 0.0], "synth")
    >>> (a + (b - a) / 2).latent
    array([2., 1.], dtype=float32)
    """

    latent: np.ndarray
    synth: str
    frame_rate: FrameRate | None = None
    pitch: Pitch | None = None
    seconds: Seconds | None = None
    onset: Onset | None = None

    __array_ufunc__ = None  # a NumPy number times a timbre is a timbre, not an array of objects

    def __post_init__(self) -> None:
        allowed = allowed_values(Timbre)
        object.__setattr__(self, "latent", _checked_latent(self.latent))
        object.__setattr__(self, "synth", Text(1, 256).checked(self.synth, "synth"))
        for name in KNOWN:
            object.__setattr__(self, name, allowed[name].checked(getattr(self, name), name))
        if self.latent.ndim == 2 and self.frame_rate is None:
            raise UserError(
                f"frame_rate is None and latent a path of {len(self.latent)} frames: give the frames per second"
            )

    @_quiet
    def __add__(self, other: "Timbre") -> "Timbre":
        if not isinstance(other, Timbre):
            return NotImplemented
        a, b = same_length(self.latent, self._matching(other))
        return self._with(a + b)

    @_quiet
    def __sub__(self, other: "Timbre") -> "Timbre":
        if not isinstance(other, Timbre):
            return NotImplemented
        a, b = same_length(self.latent, self._matching(other))
        return self._with(a - b)

    @_quiet
    def __mul__(self, factor: float) -> "Timbre":
        if not _is_number(factor):
            return NotImplemented
        return self._with(self.latent * np.float64(factor))

    __rmul__ = __mul__

    @_quiet
    def __truediv__(self, divisor: float) -> "Timbre":
        if not _is_number(divisor):
            return NotImplemented
        if not divisor:
            raise UserError("a timbre cannot be divided by 0")
        return self._with(self.latent / np.float64(divisor))

    def __neg__(self) -> "Timbre":
        return self._with(-self.latent)

    def __pos__(self) -> "Timbre":
        return self

    def save(self, path: str | PathLike[str], *, force: bool = False) -> None:
        """Writes the timbre to a JSON file and its latent to a `.safetensors` file beside it.

        Args:
            path: a file name that ends in `.json`. Missing folders are created.
            force: overwrite existing files.

        Raises:
            UserError: the name does not end in `.json`, or a file exists.

        >>> Timbre([1.0, 2.0], "synth").save("a.json", force=True)
        """
        from safetensors.numpy import save

        path, numbers = files_of(path, force)
        known = {name: getattr(self, name) for name in ("synth", *KNOWN)}
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(
            path
        ) as unfinished:  # written before the latent takes its place, so that a full disk changes neither
            unfinished.write_text(json.dumps({"format": FORMAT, "latent": numbers.name} | known, indent=2) + "\n")
            write_file(numbers, save({"latent": np.ascontiguousarray(self.latent, np.float32)}))

    @classmethod
    def load(cls, path: str | PathLike[str]) -> "Timbre":
        """Reads a timbre written by `save`. Untrusted files are safe: they cannot run code or name other files.

        Raises:
            UserError: a file is missing, damaged, from another version, or has an invalid value.

        >>> Timbre([1.0, 2.0], "synth", pitch=60).save("b.json", force=True)
        >>> Timbre.load("b.json").pitch
        60.0
        """
        path = user_path(path)
        name = display(str(path))
        remedy = "give a file written by Timbre.save, with its .safetensors file beside it"
        values = strict_json.read(path, remedy, most_bytes=MOST_JSON)
        if values.pop("format", None) != FORMAT:
            raise UserError(f"{name} is not a timbre of format {FORMAT}: give a file written by Timbre.save")
        lacking, unknown = {"latent", "synth"} - set(values), set(values) - {"latent", "synth", *KNOWN}
        if lacking or unknown:
            reason = f"lacks {min(lacking)!r}" if lacking else f"has the unknown field {shown(min(unknown))}"
            raise UserError(f"{name} cannot be read as a timbre (it {reason}): {remedy}")
        try:
            beside = Path(Text(1, 255).checked(values.pop("latent"), "latent")).name
            with strict_tensors.opened(path.with_name(beside), remedy) as file:
                described = file.tensors.get("latent")
                if set(file.tensors) != {"latent"} or described is None or described.dtype != "float32":
                    file.fail(" does not hold one float32 array named latent")
                if math.prod(described.shape) > MOST_NUMBERS:
                    file.fail(f" holds {math.prod(described.shape):,} numbers, more than {MOST_NUMBERS:,}")
                latent = file.read("latent")
            return cls(latent, **values)
        except (ValueError, TypeError) as error:
            raise UserError(f"{name} cannot be read as a timbre ({error}): {remedy}") from None

    def _matching(self, other: "Timbre") -> np.ndarray:
        if self.synth != other.synth:
            raise UserError(
                f"cannot combine timbres of synths {self.synth} and {other.synth}: encode both sounds with one synth"
            )
        return other.latent

    def _with(self, latent: np.ndarray) -> "Timbre":
        return replace(self, latent=latent)


def _checked_latent(value: Any) -> np.ndarray:
    """A read-only float32 latent. Raises UserError unless it is a point or a path of finite numbers."""
    try:
        with np.errstate(over="ignore", invalid="ignore"):
            found = np.asarray(value)
            latent = (
                np.array(found, np.float32) if found.dtype.kind in "fiu" or found.dtype.name == "bfloat16" else None
            )
    except (ValueError, TypeError, OverflowError, RecursionError):  # rows of several lengths, objects
        latent = None
    if latent is None:
        raise UserError(f"latent is {shown(value)}: it must hold real numbers, a point [D] or a path [F, D]")
    if latent.ndim not in (1, 2) or not latent.size:
        raise UserError(f"latent has the shape {list(latent.shape)}: it must be a point [D] or a path [F, D]")
    if latent.size > MOST_NUMBERS:
        raise UserError(f"latent has the shape {list(latent.shape)}: it must hold at most {MOST_NUMBERS:,} numbers")
    if not np.isfinite(latent).all():
        raise UserError("latent holds numbers that are not finite: encode the sound again")
    latent.flags.writeable = False
    return latent


def _is_number(value: Any) -> bool:
    return isinstance(value, numbers.Real) and not isinstance(value, bool)


def files_of(path: str | PathLike[str], force: bool) -> tuple[Path, Path]:
    """The two files that a timbre is saved to; a UserError where one is there already, unless `force`."""
    path = user_path(path)
    if path.suffix != ".json":
        raise UserError(f"path is {display(str(path))!r}: give a file name that ends in .json")
    both = path, path.with_suffix(".safetensors")
    check_free(both, force)
    return both


def lerp(a: Timbre, b: Timbre, t: float, *, extrapolate: bool = False) -> Timbre:
    """Linear interpolation of timbres. The ends are exact. Pitch, length and onset are interpolated too.

    Args:
        a: the timbre at t = 0.
        b: the timbre at t = 1.
        t: position from a to b, 0 to 1.
        extrapolate: allow any finite t.

    Returns:
        The timbre at position t.

    Raises:
        UserError: t is out of range, or the timbres belong to different synths.

    >>> lerp(Timbre([0.0], "synth", pitch=60), Timbre([1.0], "synth", pitch=64), 0.5).pitch
    62.0
    """
    check_share(t, extrapolate)
    first, last = same_length(a.latent, a._matching(b))
    return _interpolated(a, b, t, straight(first, last, t))


def slerp(a: Timbre, b: Timbre, t: float, *, extrapolate: bool = False) -> Timbre:
    """Spherical interpolation of timbres (Shoemake, 1985), with linearly interpolated norms.

    It suits latents drawn from a Gaussian, which lie near a sphere. Paths are interpolated frame by frame. The ends are exact.
    Pitch, length and onset are interpolated linearly.

    Args:
        a: the timbre at t = 0.
        b: the timbre at t = 1.
        t: position from a to b, 0 to 1.
        extrapolate: allow any finite t.

    Returns:
        The timbre at position t.

    Raises:
        UserError: t is out of range, or the timbres belong to different synths.

    >>> slerp(Timbre([1.0, 0.0], "synth"), Timbre([0.0, 1.0], "synth"), 0.5).latent.round(3).tolist()
    [0.7070000171661377, 0.7070000171661377]
    """
    check_share(t, extrapolate)
    first, last = same_length(a.latent, a._matching(b))
    if first.ndim == 1:
        return _interpolated(a, b, t, arc(first, last, t))
    return _interpolated(a, b, t, np.stack([arc(begin, end, t) for begin, end in zip(first, last, strict=True)]))


def mean(timbres: Sequence[Timbre]) -> Timbre:
    """The mean of timbres. Paths are averaged frame by frame, with the last frames of shorter ones held.

    Args:
        timbres: at least one timbre, all of one synth.

    Raises:
        UserError: there are none, or they belong to different synths.

    >>> mean([Timbre([0.0], "synth"), Timbre([1.0], "synth")]).latent.tolist()
    [0.5]
    """
    if not timbres:
        raise UserError("timbres is empty: give at least one")
    total = timbres[0]
    for timbre in timbres[1:]:
        total = total + timbre
    return replace(
        total * (1 / len(timbres)),
        **{name: _mean_known([getattr(timbre, name) for timbre in timbres]) for name in ("pitch", "seconds", "onset")},
    )


def onset_at(timbre: Timbre, seconds: float) -> Timbre:
    """Shifts a path so that its onset is at `seconds`. Points, and paths with unknown onsets, are returned unchanged."""
    if timbre.onset is None or timbre.frame_rate is None:
        return timbre
    frames = (seconds - timbre.onset) * timbre.frame_rate
    return replace(timbre, latent=shifted(timbre.latent, frames), onset=seconds)


def _interpolated(a: Timbre, b: Timbre, t: float, latent: np.ndarray) -> Timbre:
    known = {}
    for name in ("pitch", "seconds", "onset"):
        first, last = getattr(a, name), getattr(b, name)
        known[name] = first if last is None else last if first is None else max(0.0, first * (1 - t) + last * t)
    if known["pitch"] is not None:
        known["pitch"] = min(known["pitch"], 127.0)
    if known["seconds"] == 0:
        known["seconds"] = None
    return replace(a, latent=latent, **known)


def _mean_known(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None
