"""A timbre: a point in a synth's latent space."""

import math
from dataclasses import dataclass, replace

import numpy as np

from wavesynth.errors import UserError

SMALL_ANGLE = 1e-4  # radians; float32 knows no arc below


@dataclass(frozen=True, eq=False)
class Timbre:
    """An immutable point of one synth's latent space.

    latent: float32 [D]. synth: the fingerprint of the synth it belongs to; points of two synths do not mix.
    """

    latent: np.ndarray
    synth: str

    def __add__(self, other: "Timbre") -> "Timbre":
        return self._with(self.latent + self._matching(other))

    def __sub__(self, other: "Timbre") -> "Timbre":
        return self._with(self.latent - self._matching(other))

    def __mul__(self, factor: float) -> "Timbre":
        return self._with(self.latent * np.float32(factor))

    __rmul__ = __mul__

    def _matching(self, other: "Timbre") -> np.ndarray:
        if self.synth != other.synth:
            raise UserError(
                f"a timbre of synth {self.synth} meets one of synth {other.synth}: encode both with one synth"
            )
        return other.latent

    def _with(self, latent: np.ndarray) -> "Timbre":
        return replace(self, latent=latent)


def lerp(a: Timbre, b: Timbre, t: float) -> Timbre:
    """The point a share `t` of the straight way from a to b, 0 <= t <= 1; the ends are exactly a and b.

    >>> halfway = lerp(a, b, 0.5)
    """
    return a._with(straight(a.latent, a._matching(b), t))


def slerp(a: Timbre, b: Timbre, t: float) -> Timbre:
    """The point a share `t` of the way from a to b along an arc (Shoemake, 1985); lengths go from one to the other.

    It is the way for latents drawn from a Gaussian: they lie on a shell, which a straight line leaves.

    >>> halfway = slerp(a, b, 0.5)
    """
    return a._with(arc(a.latent, a._matching(b), t))


def straight(a: np.ndarray, b: np.ndarray, t: float) -> np.ndarray:
    """`lerp` of float32 [D]."""
    _check_share(t)
    return a * np.float32(1 - t) + b * np.float32(t)


def arc(a: np.ndarray, b: np.ndarray, t: float) -> np.ndarray:
    """`slerp` of float32 [D]; straight where there is no arc, or no one: the ends are alike, opposite, or zero."""
    _check_share(t)
    lengths = np.linalg.norm(a), np.linalg.norm(b)
    cosine = float(np.dot(a, b) / max(lengths[0] * lengths[1], np.finfo(np.float32).tiny))
    angle = math.acos(min(max(cosine, -1.0), 1.0))
    if t in (0, 1) or min(lengths) == 0 or math.sin(angle) < SMALL_ANGLE:
        return straight(a, b, t)
    toward_a, toward_b = (math.sin(share * angle) / math.sin(angle) for share in (1 - t, t))
    direction = a / lengths[0] * toward_a + b / lengths[1] * toward_b
    return np.float32(lengths[0] * (1 - t) + lengths[1] * t) * direction.astype(np.float32)


def _check_share(t: float) -> None:
    if not 0 <= t <= 1:
        raise UserError(f"t is {t}: it must lie between 0 (the first timbre) and 1 (the second)")
