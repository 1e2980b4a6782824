"""Conversion between floats in [-1, 1] and 16-bit PCM.

`float = int16 / 32768` and `int16 = clip(round(float * 32768), -32768, 32767)`. A round trip preserves integers. It changes
floats by at most half a step, except those above 32767 / 32768.
"""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

FULL_SCALE = 32768
"""The integer for 1.0. The largest int16 is one less."""


def to_int16(samples: ArrayLike) -> NDArray[np.int16]:
    """Converts floats of any shape to int16: rounds to the nearest (ties to even) and saturates at full scale.

    Raises:
        ValueError: a sample is NaN.

    >>> to_int16([-2.0, -1.0, 0.0, 0.5, 1.0]).tolist()
    [-32768, -32768, 0, 16384, 32767]
    """
    samples = np.asarray(samples, dtype=np.float32)
    if np.isnan(samples).any():
        raise ValueError("samples hold NaN: they cannot be written as 16-bit PCM")
    scaled = np.clip(samples, -1, 1) * np.float32(FULL_SCALE)  # clipped first, so that nothing overflows
    return np.minimum(np.rint(scaled), FULL_SCALE - 1).astype(np.int16)


def to_float(pcm: NDArray[Any]) -> NDArray[np.float32]:
    """Converts int16 of any shape to float32 in [-1, 1), exactly.

    >>> to_float(np.array([-32768, 0, 16384], np.int16)).tolist()
    [-1.0, 0.0, 0.5]
    """
    return np.asarray(pcm).astype(np.float32) / np.float32(FULL_SCALE)
