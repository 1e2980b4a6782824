"""Interpolation of latents, and adjustment of the length of paths, on arrays."""

import math
from collections.abc import Callable
from typing import Literal

import numpy as np

from wavesynth.errors import UserError

SMALL_ANGLE = 1e-4  # radians; smaller arcs are straight in float32
Fill = Literal["hold", "loop", "stretch"]
"""How to extend a path: hold the last frame, loop, or stretch."""


def straight(a: np.ndarray, b: np.ndarray, t: float) -> np.ndarray:
    """Linear interpolation at position t (0 to 1) between arrays of one shape."""
    return a * np.float32(1 - t) + b * np.float32(t)


def arc(a: np.ndarray, b: np.ndarray, t: float) -> np.ndarray:
    """Spherical interpolation at position t between float32 [D]; linear if they are equal, opposite or zero."""
    lengths = np.linalg.norm(a), np.linalg.norm(b)
    cosine = float(np.dot(a, b) / max(lengths[0] * lengths[1], np.finfo(np.float32).tiny))
    angle = math.acos(min(max(cosine, -1.0), 1.0))
    if t in (0, 1) or min(lengths) == 0 or math.sin(angle) < SMALL_ANGLE:
        return straight(a, b, t)
    toward_a, toward_b = (math.sin(share * angle) / math.sin(angle) for share in (1 - t, t))
    direction = a / lengths[0] * toward_a + b / lengths[1] * toward_b
    return np.float32(lengths[0] * (1 - t) + lengths[1] * t) * direction.astype(np.float32)


def same_length(*latents: np.ndarray) -> list[np.ndarray]:
    """Extends paths to the length of the longest by holding their last frames. Points stay the same."""
    longest = max(len(latent) for latent in latents)
    return [latent if latent.ndim == 1 else held(latent, longest) for latent in latents]


def held(path: np.ndarray, frames: int) -> np.ndarray:
    """A path [F, D] cut to `frames`, or extended to it by holding the last frame."""
    return path[np.minimum(np.arange(frames), len(path) - 1)]


def looped(path: np.ndarray, frames: int) -> np.ndarray:
    """A path [F, D] cut to `frames`, or repeated up to it."""
    return path[np.arange(frames) % len(path)]


def stretched(path: np.ndarray, frames: int) -> np.ndarray:
    """A path [F, D] resampled linearly to `frames`."""
    return _at(path, np.linspace(0, len(path) - 1, frames))


FILLS: dict[Fill, Callable[[np.ndarray, int], np.ndarray]] = {"hold": held, "loop": looped, "stretch": stretched}


def shifted(path: np.ndarray, frames: float) -> np.ndarray:
    """A path [F, D] moved later by `frames` (earlier below 0), of the same length; its ends are held."""
    return _at(path, np.clip(np.arange(len(path)) - frames, 0, len(path) - 1))


def _at(path: np.ndarray, places: np.ndarray) -> np.ndarray:
    """A path at fractional frames, interpolated linearly."""
    before = np.floor(places).astype(int)
    share = (places - before).astype(np.float32)[:, None]
    return path[before] * (1 - share) + path[np.minimum(before + 1, len(path) - 1)] * share


def check_share(t: float, extrapolate: bool) -> None:
    """Raises UserError unless t is a number in [0, 1], or with `extrapolate`, any finite number."""
    if not math.isfinite(t) or not (extrapolate or 0 <= t <= 1):
        raise UserError(
            f"t is {t}: it must lie between 0 (the first timbre) and 1 (the second); set extrapolate=True to go beyond them"
        )
