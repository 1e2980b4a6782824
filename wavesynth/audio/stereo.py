"""The middle and the sides of stereo sounds."""

from typing import Any

import jax.numpy as jnp
import numpy as np

HALF = np.float32(0.5**0.5)


def mid_side(samples: Any, axis: int = -2) -> Any:
    """Left and right to middle and side, or back: ``(a + b, a - b) / sqrt(2)``. It keeps energies and is its own inverse.

    Args:
        samples: float [..., C, T], or complex spectra; one channel stays as it is.
        axis: that of the channels.

    >>> mid_side(np.array([[1.0, 0.0], [1.0, 0.0]])).round(3).tolist()
    [[1.414, 0.0], [0.0, 0.0]]
    """
    if samples.shape[axis] != 2:
        return samples
    arrays = np if isinstance(samples, np.ndarray) else jnp
    left, right = arrays.split(samples, 2, axis=axis)
    return arrays.concatenate([(left + right) * HALF, (left - right) * HALF], axis=axis)
