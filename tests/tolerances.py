"""How far two computations of the same thing may lie apart: from the dtype, the length of the sums, and the sample size.

>>> float(rounding("float32", terms=100)) < 1e-5
True
>>> assert_close(np.float32(0.1) * 3, np.float32(0.3))
"""

import math
from typing import Any

import jax.numpy as jnp
import numpy as np

DEVIATIONS = 8  # of rounding: a random walk leaves this many standard deviations once in 10^15 times
SPREADS = 5  # of a statistic: once in two million times
STEP_16 = 1 / 32_768  # one step of 16-bit audio


def rounding(dtype: Any, terms: int = 1, *, scale: Any = 1.0, condition: float = 1.0) -> float:
    """The largest difference that rounding alone explains between two ways to compute one sum.

    Rounding errors of a sum of `terms` products add up like a random walk (Higham and Mary, 2019), so they grow with the
    square root of its length: ``8 eps sqrt(terms) condition max|scale|``.

    Args:
        dtype: what is computed in; of several, the coarsest.
        terms: length of the longest chain of additions. For layers in sequence, the sum of their lengths.
        scale: size of what is summed, as a number or as an array whose largest magnitude is taken (often the
            expected result).
        condition: how much the function magnifies a relative error of its input, for example the number of turns of a
            phase, or 1 / distance for a distance of nearly equal vectors.

    Returns:
        An absolute tolerance.
    """
    largest = float(np.max(np.abs(np.asarray(scale, np.float64)), initial=0.0))
    return DEVIATIONS * float(jnp.finfo(dtype).eps) * math.sqrt(terms) * condition * largest


def sampling(deviation: float, count: int) -> float:
    """How far the mean of `count` independent draws of this standard deviation may lie from the true mean."""
    return SPREADS * deviation / math.sqrt(count)


def assert_close(
    actual: Any, expected: Any, *, terms: int = 1, scale: Any = None, condition: float = 1.0, dtype: Any = None
) -> None:
    """Fails where two arrays differ by more than `rounding` allows.

    Args:
        actual: array of any shape.
        expected: array of the same shape, or one that broadcasts to it.
        terms: see `rounding`.
        scale: see `rounding`; `expected` if None.
        condition: see `rounding`.
        dtype: what is computed in. None takes the coarser of both arrays' dtypes, which is wrong where a sum is computed
            in less precision than it is returned in.

    Raises:
        AssertionError: with the places where they differ.
    """
    actual, expected = np.asarray(actual), np.asarray(expected)
    if dtype is None:
        dtype = max((a.dtype for a in (actual, expected) if jnp.issubdtype(a.dtype, jnp.floating)), key=_eps)
    allowed = rounding(dtype, terms, scale=expected if scale is None else scale, condition=condition)
    np.testing.assert_allclose(actual, expected, rtol=0, atol=allowed)


def _eps(dtype: Any) -> float:
    return float(jnp.finfo(dtype).eps)
