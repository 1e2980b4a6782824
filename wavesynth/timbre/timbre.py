"""A timbre: a point in a synth's latent space, or a path through it in time."""

import json
import math
import numbers
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np

from wavesynth import strict_json, strict_tensors
from wavesynth.audio.files import check_free
from wavesynth.audio.names import display
from wavesynth.config import Pitch
from wavesynth.errors import UserError
from wavesynth.fields import Real, Text, allowed_values, shown

SMALL_ANGLE = 1e-4  # radians; float32 knows no arc below
FORMAT = 1  # of a timbre's file
MOST_JSON = 2**16  # bytes of that file
MOST_NUMBERS = 2**26  # of a latent: 256 MB
KNOWN = ("frame_rate", "pitch", "seconds", "onset")  # what a timbre may know of its sound
FrameRate = Annotated[float, Real(above=0, most=768_000)]
Seconds = Annotated[float, Real(above=0, most=86_400)]
Onset = Annotated[float, Real(least=0, most=86_400)]
Fill = Literal["hold", "loop", "stretch"]
"""How a path is made to last as long as is wanted: its last frame is held, it begins again, or all of it goes slower."""


_quiet = np.errstate(over="ignore", invalid="ignore")  # what is not finite is refused, not warned of


@dataclass(frozen=True, eq=False)
class Timbre:
    """An immutable place in one synth's latent space. Timbres of one synth can be added, subtracted and scaled.

    Where two paths meet, the last frame of the shorter one is held, so a path of one frame can be added to any path.

    Attributes:
        latent: float32, a point [D] or a path [F, D].
        synth: the fingerprint of the synth it belongs to; timbres of two synths do not mix.
        frame_rate: frames per second of a path, Hz; None for a point.
        pitch: MIDI number of the sound it was made from, 0 to 127; None if unknown.
        seconds: length of that sound; None if unknown.
        onset: seconds from the beginning of that sound to its first audible sample; None if unknown.

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
        """Writes the timbre to PATH (JSON) and its latent beside it (`.safetensors`).

        Args:
            path: a name that ends in `.json`; missing folders are made.
            force: overwrite files that are there already.

        Raises:
            UserError: the name does not end in `.json`, or a file is there already.

        >>> Timbre([1.0, 2.0], "synth").save("a.json", force=True)
        """
        from safetensors.numpy import save_file

        path, numbers = files_of(path, force)
        known = {name: getattr(self, name) for name in ("synth", *KNOWN)}
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_name(f".{path.name}.partial"), path.with_name(f".{numbers.name}.partial")
        try:
            save_file({"latent": np.ascontiguousarray(self.latent, np.float32)}, unfinished[1])
            unfinished[0].write_text(json.dumps({"format": FORMAT, "latent": numbers.name} | known, indent=2) + "\n")
            os.replace(unfinished[1], numbers)
            os.replace(unfinished[0], path)
        finally:
            for file in unfinished:
                file.unlink(missing_ok=True)

    @classmethod
    def load(cls, path: str | PathLike[str]) -> "Timbre":
        """Reads what `save` wrote. The file may be a stranger's: nothing in it is executed, and nothing else is opened but
        the numbers beside it.

        Raises:
            UserError: a file is missing, damaged, of another version, or holds a value that is not allowed.

        >>> Timbre([1.0, 2.0], "synth", pitch=60).save("b.json", force=True)
        >>> Timbre.load("b.json").pitch
        60.0
        """
        path = Path(path)
        name = display(str(path))
        remedy = "name a file that Timbre.save wrote, with its .safetensors beside it"
        values = strict_json.read(path, remedy, most_bytes=MOST_JSON)
        if values.pop("format", None) != FORMAT:
            raise UserError(f"{name} is no timbre of format {FORMAT}: name a file that Timbre.save wrote")
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
                    file.fail(f" holds {math.prod(described.shape):,} numbers, of at most {MOST_NUMBERS:,}")
                latent = file.read("latent")
            return cls(latent, **values)
        except (ValueError, TypeError) as error:
            raise UserError(f"{name} cannot be read as a timbre ({error}): {remedy}") from None

    def _matching(self, other: "Timbre") -> np.ndarray:
        if self.synth != other.synth:
            raise UserError(
                f"a timbre of synth {self.synth} meets one of synth {other.synth}: encode both with one synth"
            )
        return other.latent

    def _with(self, latent: np.ndarray) -> "Timbre":
        return replace(self, latent=latent)


def _checked_latent(value: Any) -> np.ndarray:
    """A latent as float32 that cannot be written to; a UserError unless it is a point or a path of finite numbers."""
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
    path = Path(path)
    if path.suffix != ".json":
        raise UserError(f"path is {display(str(path))!r}: name a file that ends in .json")
    both = path, path.with_suffix(".safetensors")
    check_free(both, force)
    return both


def lerp(a: Timbre, b: Timbre, t: float, *, extrapolate: bool = False) -> Timbre:
    """The timbre a share `t` of the straight way from a to b; the ends are exactly a and b.

    t: 0 to 1, or with `extrapolate` any number. What is known of both (pitch, seconds) goes the same way.

    >>> halfway = lerp(a, b, 0.5)
    """
    check_share(t, extrapolate)
    first, last = same_length(a.latent, a._matching(b))
    return _way(a, b, t, straight(first, last, t))


def slerp(a: Timbre, b: Timbre, t: float, *, extrapolate: bool = False) -> Timbre:
    """The timbre a share `t` of the way from a to b along an arc (Shoemake, 1985); lengths go from one to the other.

    It is the way for latents drawn from a Gaussian: they lie on a shell, which a straight line leaves. Of paths, each
    frame goes along an arc of its own.

    >>> halfway = slerp(a, b, 0.5)
    """
    check_share(t, extrapolate)
    first, last = same_length(a.latent, a._matching(b))
    if first.ndim == 1:
        return _way(a, b, t, arc(first, last, t))
    return _way(a, b, t, np.stack([arc(begin, end, t) for begin, end in zip(first, last, strict=True)]))


def mean(timbres: Sequence[Timbre]) -> Timbre:
    """The mean of some timbres of one synth: of paths, frame by frame, shorter ones held."""
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
    """A path that begins to be heard at some time, earlier or later than it did; a point, or what has no known onset, stays."""
    if timbre.onset is None or timbre.frame_rate is None:
        return timbre
    frames = (seconds - timbre.onset) * timbre.frame_rate
    return replace(timbre, latent=shifted(timbre.latent, frames), onset=seconds)


def straight(a: np.ndarray, b: np.ndarray, t: float) -> np.ndarray:
    """`lerp` of arrays of one shape."""
    return a * np.float32(1 - t) + b * np.float32(t)


def arc(a: np.ndarray, b: np.ndarray, t: float) -> np.ndarray:
    """`slerp` of float32 [D]; straight where there is no arc, or no one: the ends are alike, opposite, or zero."""
    lengths = np.linalg.norm(a), np.linalg.norm(b)
    cosine = float(np.dot(a, b) / max(lengths[0] * lengths[1], np.finfo(np.float32).tiny))
    angle = math.acos(min(max(cosine, -1.0), 1.0))
    if t in (0, 1) or min(lengths) == 0 or math.sin(angle) < SMALL_ANGLE:
        return straight(a, b, t)
    toward_a, toward_b = (math.sin(share * angle) / math.sin(angle) for share in (1 - t, t))
    direction = a / lengths[0] * toward_a + b / lengths[1] * toward_b
    return np.float32(lengths[0] * (1 - t) + lengths[1] * t) * direction.astype(np.float32)


def same_length(*latents: np.ndarray) -> list[np.ndarray]:
    """Points as they are, and paths of one length: the last frames of the shorter ones are held."""
    longest = max(len(latent) for latent in latents)
    return [latent if latent.ndim == 1 else held(latent, longest) for latent in latents]


def held(path: np.ndarray, frames: int) -> np.ndarray:
    """A path [F, D] cut to some frames, or its last frame held until then."""
    return path[np.minimum(np.arange(frames), len(path) - 1)]


def looped(path: np.ndarray, frames: int) -> np.ndarray:
    """A path [F, D] cut to some frames, or begun again as often as it takes."""
    return path[np.arange(frames) % len(path)]


def stretched(path: np.ndarray, frames: int) -> np.ndarray:
    """A path [F, D] made to last some frames, between which it goes straight."""
    return _at(path, np.linspace(0, len(path) - 1, frames))


FILLS: dict[Fill, Callable[[np.ndarray, int], np.ndarray]] = {"hold": held, "loop": looped, "stretch": stretched}


def shifted(path: np.ndarray, frames: float) -> np.ndarray:
    """A path [F, D] that begins so many frames later (earlier below 0), of the same length; its ends are held."""
    return _at(path, np.clip(np.arange(len(path)) - frames, 0, len(path) - 1))


def _at(path: np.ndarray, places: np.ndarray) -> np.ndarray:
    """A path between its frames, straight from one to the next."""
    before = np.floor(places).astype(int)
    share = (places - before).astype(np.float32)[:, None]
    return path[before] * (1 - share) + path[np.minimum(before + 1, len(path) - 1)] * share


def _way(a: Timbre, b: Timbre, t: float, latent: np.ndarray) -> Timbre:
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


def check_share(t: float, extrapolate: bool) -> None:
    """Raises UserError where a share of a way does not lie on it, or with `extrapolate` is no number."""
    if not math.isfinite(t) or not (extrapolate or 0 <= t <= 1):
        raise UserError(
            f"t is {t}: it must lie between 0 (the first timbre) and 1 (the second); to go on beyond them say extrapolate=True"
        )
