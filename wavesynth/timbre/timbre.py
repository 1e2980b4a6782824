"""A timbre: a point in a synth's latent space, or a path through it in time."""

import json
import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path
from typing import Literal

import numpy as np

from wavesynth.audio.files import check_free
from wavesynth.audio.names import display
from wavesynth.errors import UserError

SMALL_ANGLE = 1e-4  # radians; float32 knows no arc below
FORMAT = 1  # of a timbre's file
KNOWN = ("frame_rate", "pitch", "seconds", "onset")  # what a timbre may know of its sound
Fill = Literal["hold", "loop", "stretch"]
"""How a path is made to last as long as is wanted: its last frame is held, it begins again, or all of it goes slower."""


@dataclass(frozen=True, eq=False)
class Timbre:
    """An immutable place in one synth's latent space: add, subtract and scale it, or go from one to another.

    latent: float32, a point [D] or a path [F, D]. Where two paths meet, the shorter one's last frame is held; so a path of
    one frame can be added to any. synth: the fingerprint of the synth it belongs to; timbres of two synths do not mix.
    frame_rate: frames a second of a path. pitch: MIDI number of the sound it was made of. seconds, onset: of that sound, how
    long it is and where it begins to be heard. None where they are not known.

    >>> half_way_and_on = a + 1.5 * (b - a)
    """

    latent: np.ndarray
    synth: str
    frame_rate: float | None = None
    pitch: float | None = None
    seconds: float | None = None
    onset: float | None = None

    def __post_init__(self) -> None:
        latent = np.array(self.latent, np.float32)
        latent.flags.writeable = False
        object.__setattr__(self, "latent", latent)
        for name in KNOWN:
            value = getattr(self, name)
            if value is not None and not math.isfinite(value):
                raise ValueError(f"{name} is {value}")
            object.__setattr__(self, name, None if value is None else float(value))

    def __add__(self, other: "Timbre") -> "Timbre":
        a, b = same_length(self.latent, self._matching(other))
        return self._with(a + b)

    def __sub__(self, other: "Timbre") -> "Timbre":
        a, b = same_length(self.latent, self._matching(other))
        return self._with(a - b)

    def __mul__(self, factor: float) -> "Timbre":
        return self._with(self.latent * np.float32(factor))

    __rmul__ = __mul__

    def save(self, path: str | PathLike[str], *, force: bool = False) -> None:
        """Writes PATH (JSON, `.json`) and beside it the numbers (`.safetensors`). Nothing is overwritten unless `force`."""
        from safetensors.numpy import save_file

        path, numbers = files_of(path, force)
        told = {name: getattr(self, name) for name in ("synth", *KNOWN)}
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_name(f".{path.name}.partial"), path.with_name(f".{numbers.name}.partial")
        try:
            save_file({"latent": np.ascontiguousarray(self.latent, np.float32)}, unfinished[1])
            unfinished[0].write_text(json.dumps({"format": FORMAT, "latent": numbers.name} | told, indent=2) + "\n")
            os.replace(unfinished[1], numbers)
            os.replace(unfinished[0], path)
        finally:
            for file in unfinished:
                file.unlink(missing_ok=True)

    @classmethod
    def load(cls, path: str | PathLike[str]) -> "Timbre":
        """What `save` wrote; a UserError says what is wrong with a file."""
        from safetensors import SafetensorError
        from safetensors.numpy import load_file

        path = Path(path)
        try:
            told = json.loads(path.read_text())
            if not isinstance(told, dict) or told.pop("format", None) != FORMAT:
                raise UserError(
                    f"{display(str(path))} is no timbre of format {FORMAT}: name a file that Timbre.save wrote"
                )
            latent = load_file(path.with_name(Path(str(told.pop("latent"))).name))["latent"]
            timbre = cls(latent, **told)
        except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
            raise UserError(
                f"{display(str(path))} cannot be read as a timbre ({error}): name a file that Timbre.save wrote, with its "
                ".safetensors beside it"
            ) from None
        if timbre.latent.ndim not in (1, 2) or not timbre.latent.size or not np.isfinite(timbre.latent).all():
            raise UserError(f"{display(str(path))} holds no timbre: its numbers are damaged; encode the sound again")
        return timbre

    def _matching(self, other: "Timbre") -> np.ndarray:
        if self.synth != other.synth:
            raise UserError(
                f"a timbre of synth {self.synth} meets one of synth {other.synth}: encode both with one synth"
            )
        return other.latent

    def _with(self, latent: np.ndarray) -> "Timbre":
        return replace(self, latent=latent)


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
