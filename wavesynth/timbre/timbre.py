"""A timbre: a point in a synth's latent space."""

from dataclasses import dataclass, replace

import numpy as np

from wavesynth.errors import UserError


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
    """The point a share `t` of the way from a to b, 0 <= t <= 1; the ends are exactly a and b.

    >>> halfway = lerp(a, b, 0.5)
    """
    if not 0 <= t <= 1:
        raise UserError(f"t is {t}: it must lie between 0 (the first timbre) and 1 (the second)")
    return a * (1 - t) + b * t
