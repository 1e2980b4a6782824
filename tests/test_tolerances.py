"""The tolerances that other tests rely on are wide enough for rounding and too narrow for errors."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.tolerances import assert_close, rounding, sampling


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("terms", [1, 100, 1_000])
def test_rounding_covers_sums_in_another_order(dtype: str, terms: int) -> None:
    values = jax.random.normal(jax.random.key(0), (50, terms)).astype(dtype)
    forwards, backwards = np.zeros((2, 50), dtype)
    for column in range(terms):
        forwards, backwards = forwards + values[:, column], backwards + values[:, -1 - column]
    largest = np.abs(np.cumsum(np.asarray(values, np.float64), axis=1)).max()  # of what is added to
    assert_close(forwards, backwards, terms=terms, scale=largest, dtype=dtype)


def test_an_error_is_no_rounding() -> None:
    values = jnp.linspace(0.1, 1.0, 100)
    with pytest.raises(AssertionError, match="Mismatched elements"):
        assert_close(values.sum() * (1 + 1e-4), values.sum(), terms=100)
    with pytest.raises(AssertionError, match="nan location mismatch"):
        assert_close(jnp.array([1.0, jnp.nan]), jnp.array([1.0, 1.0]))


def test_tolerances_grow_with_what_causes_them() -> None:
    one = rounding("float32")
    assert rounding("float32", 4) == 2 * one
    assert rounding("float32", scale=[-3, 2]) == 3 * one
    assert rounding("float32", condition=10) == pytest.approx(10 * one)
    assert rounding("bfloat16") == 2**16 * one
    assert rounding("float32", scale=[]) == 0
    assert sampling(2.0, 100) == 1.0
