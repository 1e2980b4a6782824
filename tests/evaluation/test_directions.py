"""Directions in a latent space, of points whose answers are known."""

import numpy as np
import pytest

from wavesynth.evaluation.directions import following, principal

RANDOM = np.random.default_rng(0)
SPREAD = np.array([5.0, 2.0, 0.1])
POINTS = RANDOM.standard_normal((500, 3)) * SPREAD + 7


def test_principal_directions_are_those_of_the_spread():
    found = principal(POINTS, 2)
    assert len(found) == 2
    for axis, (step, share) in enumerate(found):
        # A variance measured on n points strays by sqrt(2 / n) of itself.
        assert step[axis] == pytest.approx(SPREAD[axis], rel=3 * np.sqrt(0.5 / len(POINTS)))
        assert np.abs(np.delete(step, axis)).max() < 0.2 * SPREAD[axis]
        assert share == pytest.approx(SPREAD[axis] ** 2 / np.square(SPREAD).sum(), abs=0.1)


def test_a_descriptor_is_followed_where_the_points_lie():
    values = 3.0 * POINTS[:, 1] + 0.01 * RANDOM.standard_normal(len(POINTS))
    step, share = following(POINTS, values)
    assert share > 0.95
    assert step[1] == pytest.approx(POINTS[:, 1].std(), rel=0.05)
    assert abs(step[2]) < 0.05


def test_what_the_points_do_not_tell_has_no_direction():
    _, share = following(POINTS, RANDOM.standard_normal(len(POINTS)))
    assert share < 0.05
    step, share = following(POINTS, np.ones(len(POINTS)))
    assert not step.any()
    assert share == 0


def test_alike_points_are_no_nan():
    for step, share in principal(np.ones((4, 3)), 3):
        assert np.isfinite(step).all()
        assert share == 0
