"""Fresh weights, layers over examples, whose programs have a bounded length, and features of pitches."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from wavesynth.models.layers import DRAWN, UNROLLED, gaussian, over_examples, pitch_features


@pytest.mark.parametrize("shape", [(3,), (5, 7), (2, 3, 4), (128, 128), (DRAWN + 1,), (50, 513)])
def test_fresh_weights_are_gaussian_numbers_of_their_key(shape: tuple[int, ...]):
    drawn = gaussian(nnx.Rngs(4), *shape, scale=0.5)[...]
    np.testing.assert_array_equal(drawn, 0.5 * jax.random.normal(nnx.Rngs(4).params(), shape))


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


def test_pitches_less_than_an_octave_apart_share_a_feature():
    """So that what is learned of one pitch says something about those around it."""
    pitches = np.linspace(0, 127, 509)
    features = np.asarray(pitch_features(jnp.asarray(pitches)))
    np.testing.assert_allclose(features.sum(axis=1), 1, rtol=1e-6)
    apart = np.abs(pitches[:, None] - pitches)
    shared = features @ features.T
    assert shared[apart < 12].min() > 0
    assert not shared[apart >= 24].any()
    assert len(np.unique(features.round(6), axis=0)) == len(pitches)
    assert not np.any(pitch_features(jnp.array([jnp.nan])))
