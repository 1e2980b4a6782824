import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_numpy

from wavesynth.errors import UserError
from wavesynth.timbre.timbre import Timbre, arc, lerp, slerp

A = Timbre(np.array([1.0, 2.0], np.float32), "one")
B = Timbre(np.array([3.0, -2.0], np.float32), "one")
EPS = float(np.finfo(np.float32).eps)
latents = st_numpy.arrays(np.float32, 6, elements=st.floats(-4, 4, width=32))
paths = pytest.mark.parametrize("path", [lerp, slerp])


def test_arithmetic_is_that_of_the_latents():
    np.testing.assert_array_equal((A + 0.5 * (B - A)).latent, [2.0, 0.0])


@paths
def test_the_ends_of_a_path_are_exact(path):
    np.testing.assert_array_equal(path(A, B, 0).latent, A.latent)
    np.testing.assert_array_equal(path(A, B, 1).latent, B.latent)
    np.testing.assert_array_equal(path(A, A, 0.3).latent, A.latent)


@paths
@pytest.mark.parametrize("t", [-0.1, 1.1, float("nan")])
def test_beyond_the_ends_is_an_error(path, t):
    with pytest.raises(UserError, match="t is"):
        path(A, B, t)


def test_timbres_of_two_synths_do_not_mix():
    with pytest.raises(UserError, match=r"one.*two|two.*one"):
        A + Timbre(B.latent, "two")
    with pytest.raises(UserError, match=r"one.*two|two.*one"):
        slerp(A, Timbre(B.latent, "two"), 0.5)


# Arcs.


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.dot(np.float64(a), b) / (np.linalg.norm(np.float64(a)) * np.linalg.norm(np.float64(b))))


@given(a=latents, b=latents, t=st.floats(0, 1))
def test_an_arc_goes_from_one_length_to_the_other(a: np.ndarray, b: np.ndarray, t: float):
    point = arc(a, b, t)
    assert point.dtype == np.float32
    assert np.isfinite(point).all()
    lengths = np.linalg.norm(a), np.linalg.norm(b)
    # Ends that are alike, opposite or zero have no arc: those are joined by a line.
    if min(lengths) > 1e-3 and abs(cosine(a, b)) < 1 - 1e-4:
        expected = (1 - t) * lengths[0] + t * lengths[1]
        assert np.linalg.norm(point) == pytest.approx(expected, rel=1_000 * EPS)  # by the sine of an angle that small
    np.testing.assert_array_equal(arc(a, b, 0), a)
    np.testing.assert_array_equal(arc(a, b, 1), b)


def test_half_way_lies_amid_the_ends():
    a, b = np.random.default_rng(0).standard_normal((2, 64)).astype(np.float32)
    middle = arc(a, b, 0.5)
    assert cosine(a, middle) == pytest.approx(cosine(b, middle), abs=64 * EPS)
    assert cosine(a, middle) == pytest.approx(math.cos(math.acos(cosine(a, b)) / 2), abs=64 * EPS)
    third = arc(a, b, 1 / 3)
    assert cosine(a, third) == pytest.approx(math.cos(math.acos(cosine(a, b)) / 3), abs=64 * EPS)


def test_between_points_of_a_shell_an_arc_stays_on_it_and_a_line_does_not():
    a, b = np.random.default_rng(1).standard_normal((2, 100))
    a, b = (np.float32(10 * end / np.linalg.norm(end)) for end in (a, b))
    lengths = [np.linalg.norm(arc(a, b, t)) for t in np.linspace(0, 1, 9)]
    np.testing.assert_allclose(lengths, 10, rtol=64 * EPS)
    assert np.linalg.norm(lerp(Timbre(a, "one"), Timbre(b, "one"), 0.5).latent) < 9


@pytest.mark.parametrize(
    ("a", "b"), [([3, 4], [3, 4]), ([3, 4], [-3, -4]), ([0, 0], [3, 4]), ([3, 4], [0, 0]), ([0, 0], [0, 0])]
)
def test_ends_without_an_arc_are_joined_by_a_line(a: list, b: list):
    first, last = np.float32(a), np.float32(b)
    np.testing.assert_allclose(arc(first, last, 0.25), 0.75 * first + 0.25 * last, rtol=4 * EPS)
