"""Layers over examples: every batch size gives the same outputs, from programs of bounded length."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from wavesynth.models.layers import UNROLLED, over_examples


@pytest.mark.parametrize("size", [1, 4, 5, 8, 11, 18])
def test_any_batch_is_a_program_of_few_examples(size: int):
    traced = 0

    def double(example: jax.Array, other: jax.Array | None, scale: jax.Array) -> jax.Array:
        nonlocal traced
        traced += 1
        assert other is None
        return 2 * example * scale

    batch, scales = jnp.arange(3.0 * size).reshape(size, 3), jnp.arange(float(size))
    np.testing.assert_array_equal(over_examples(double, batch, None, scales), 2 * batch * scales[:, None])
    assert traced < 2 * UNROLLED
