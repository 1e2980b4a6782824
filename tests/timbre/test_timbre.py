import numpy as np
import pytest

from wavesynth.errors import UserError
from wavesynth.timbre.timbre import Timbre, lerp

A = Timbre(np.array([1.0, 2.0], np.float32), "one")
B = Timbre(np.array([3.0, -2.0], np.float32), "one")


def test_arithmetic_is_that_of_the_latents():
    np.testing.assert_array_equal((A + 0.5 * (B - A)).latent, [2.0, 0.0])


def test_the_ends_of_a_path_are_exact():
    np.testing.assert_array_equal(lerp(A, B, 0).latent, A.latent)
    np.testing.assert_array_equal(lerp(A, B, 1).latent, B.latent)
    np.testing.assert_array_equal(lerp(A, A, 0.3).latent, A.latent)


@pytest.mark.parametrize("t", [-0.1, 1.1, float("nan")])
def test_beyond_the_ends_is_an_error(t):
    with pytest.raises(UserError, match="t is"):
        lerp(A, B, t)


def test_timbres_of_two_synths_do_not_mix():
    with pytest.raises(UserError, match=r"one.*two|two.*one"):
        A + Timbre(B.latent, "two")
