"""Middle and side: their own inverse, of the same energy; mono sounds stay as they are."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.tolerances import assert_close, rounding
from wavesynth.audio.stereo import mid_side


@pytest.mark.parametrize("array", [np.asarray, jnp.asarray], ids=["numpy", "jax"])
@pytest.mark.parametrize("shape", [(2, 500), (3, 2, 500), (4, 3, 2, 7), (2, 0)])
def test_it_is_its_own_inverse_and_keeps_energies(array, shape: tuple[int, ...]):
    sounds = array(np.random.default_rng(0).standard_normal(shape).astype(np.float32))
    both = mid_side(sounds)
    assert type(both) is type(sounds)
    assert (both.shape, both.dtype) == (shape, np.float32)
    assert_close(mid_side(both), sounds, terms=2)
    energies = [np.square(np.asarray(x, np.float64)).sum(axis=(-2, -1)) for x in (sounds, both)]
    np.testing.assert_allclose(energies[1], energies[0], rtol=rounding("float32", terms=2))


def test_the_middle_is_what_channels_share_and_the_side_what_they_do_not():
    left, right = np.random.default_rng(1).standard_normal((2, 100)).astype(np.float32)
    half = np.float32(0.5**0.5)
    np.testing.assert_array_equal(
        mid_side(np.stack([left, right])), np.stack([(left + right) * half, (left - right) * half])
    )
    middle, side = mid_side(np.stack([left, left]))
    assert_close(middle, 2**0.5 * left, terms=2)
    assert not side.any()
    middle, side = mid_side(np.stack([left, -left]))
    assert not middle.any()
    assert_close(side, 2**0.5 * left, terms=2)


@pytest.mark.parametrize("array", [np.asarray, jnp.asarray], ids=["numpy", "jax"])
def test_mono_sounds_stay_as_they_are(array):
    sounds = array(np.random.default_rng(0).standard_normal((3, 1, 50)).astype(np.float32))
    assert mid_side(sounds) is sounds


def test_it_is_linear_inside_a_program():
    sounds = np.random.default_rng(2).standard_normal((2, 2, 9)).astype(np.float32)
    np.testing.assert_array_equal(jax.jit(mid_side)(sounds), mid_side(sounds))
    gradient = jax.grad(lambda x: (mid_side(x) * sounds).sum())(jnp.zeros_like(sounds))
    assert_close(gradient, mid_side(sounds), terms=2)  # it is symmetric
