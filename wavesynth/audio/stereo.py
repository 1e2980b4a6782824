"""The middle and the sides of stereo sounds."""

from typing import Any

import jax.numpy as jnp
import numpy as np

HALF = np.float32(0.5**0.5)


def mid_side(samples: Any) -> Any:
    """Left and right to middle and side, or back: ``(a + b, a - b) / sqrt(2)``. It keeps energies and is its own inverse.

    Args:
        samples: float [..., C, T]; one channel stays as it is.

    >>> mid_side(np.array([[1.0, 0.0], [1.0, 0.0]])).round(3).tolist()
    [[1.414, 0.0], [0.0, 0.0]]
    """
    if samples.shape[-2] != 2:
        return samples
    left, right = samples[..., 0:1, :], samples[..., 1:2, :]
    both = [(left + right) * HALF, (left - right) * HALF]
    return np.concatenate(both, axis=-2) if isinstance(samples, np.ndarray) else jnp.concatenate(both, axis=-2)
