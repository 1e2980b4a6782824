"""`Conditions`, as models see them, and `Curve`, as users write them."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from wavesynth.conditions import Conditions, Curve
from wavesynth.errors import UserError

# Conditions.

THREE = Conditions.constant([1, -1, 0], 2, [60.0, None, math.nan])


def test_constant_conditions_have_one_frame():
    np.testing.assert_array_equal(THREE.labels, [[0, 1], [0, 0], [1, 0]])
    np.testing.assert_array_equal(THREE.pitch, [[60], [np.nan], [np.nan]])
    assert (THREE.labels.dtype, THREE.pitch.dtype) == (np.float32, np.float32)
    assert (THREE.batch, THREE.frame_rate, THREE.loudness, THREE.features) == (3, 0.0, None, None)
    np.testing.assert_array_equal(THREE.constant_pitch, [60, np.nan, np.nan])


def test_there_may_be_no_labels_and_no_sounds():
    assert Conditions.constant([-1, -1], 0, [60, 61]).labels.shape == (2, 0)
    assert Conditions.constant([-1], 0, [None]).label_indices.tolist() == [-1]
    assert Conditions.constant([], 3, []).labels.shape == (0, 3)


def test_label_indices_are_those_of_the_heaviest_labels():
    assert THREE.label_indices.tolist() == [1, -1, 0]
    mixed = Conditions(np.float32([[0.2, 0.5, 0.3], [0, 0, 0.1]]), np.full((2, 1), np.nan, np.float32))
    assert mixed.label_indices.tolist() == [1, 2]


def test_rows_are_some_of_the_sounds():
    last = THREE.rows(slice(1, None))
    np.testing.assert_array_equal(last.labels, THREE.labels[1:])
    repeated = THREE.rows(np.array([0, 0, 2]))
    assert repeated.label_indices.tolist() == [1, 1, 0]
    assert repeated.loudness is None
    curves = Conditions(
        np.zeros((2, 0), np.float32), np.zeros((2, 5), np.float32), np.ones((2, 5), np.float32),
        np.ones((2, 5, 3), np.float32), frame_rate=100.0,
    ).rows(np.array([1]))  # fmt: skip
    assert [leaf.shape for leaf in jax.tree.leaves(curves)] == [(1, 0), (1, 5), (1, 5), (1, 5, 3)]
    assert curves.frame_rate == 100.0


def test_conditions_pass_through_jit_as_part_of_a_batch():
    @jax.jit
    def shifted(batch: dict[str, Any]) -> Conditions:
        conditions = batch["conditions"]
        assert conditions.batch == 3
        return jax.tree.map(lambda leaf: leaf + 1, conditions)

    found = shifted({"conditions": THREE})
    assert isinstance(found.pitch, jax.Array)
    np.testing.assert_array_equal(found.constant_pitch, [61, np.nan, np.nan])
    shapes = jax.eval_shape(lambda conditions: conditions.rows(jnp.array([0])), THREE)
    assert (shapes.labels.shape, shapes.pitch.shape) == ((1, 2), (1, 1))


def test_the_frame_rate_is_static_under_jit():
    traced = []

    @jax.jit
    def function(conditions: Conditions) -> jax.Array:
        traced.append(conditions.frame_rate)
        return conditions.pitch

    for rate in (100.0, 100.0, 50.0):
        function(Conditions(np.zeros((1, 0), np.float32), np.zeros((1, 4), np.float32), frame_rate=rate))
    assert traced == [100.0, 50.0]


# Curves.


@pytest.mark.parametrize(
    "value", [60, 60.0, [60], np.float64(60), np.array([60]), np.array(60), jnp.array([60.0]), Curve(60), (60,)]
)
def test_a_constant_is_a_curve_of_one_frame(value: Any):
    curve = Curve.of(value, "pitch")
    assert curve.is_constant
    assert curve.rate is None
    assert curve.values.dtype == np.float32
    assert curve.values.tolist() == [60]
    assert repr(curve) == "Curve(60)"


def test_a_curve_of_several_frames_has_a_rate():
    curve = Curve([60, math.nan, 64.5], rate=100)
    assert not curve.is_constant
    assert repr(curve) == "Curve(3 frames at 100 Hz, 60 to 64.5)"
    assert repr(Curve([math.nan, math.nan], 10.0)) == "Curve(2 frames at 10 Hz, no values)"
    assert Curve.of(curve, "pitch") is curve


def test_arithmetic_keeps_the_rate():
    curve = Curve([60, math.nan, 64], rate=100.0)
    for found, expected in (
        (curve + 12, [72, math.nan, 76]),
        (12 + curve, [72, math.nan, 76]),
        (curve - 0.5, [59.5, math.nan, 63.5]),
        (curve * 0.5, [30, math.nan, 32]),
        (2 * curve, [120, math.nan, 128]),
    ):
        np.testing.assert_array_equal(found.values, np.float32(expected))
        assert found.rate == 100.0
    np.testing.assert_array_equal(curve.values, np.float32([60, math.nan, 64]))
    assert (Curve(60) + 12).values.tolist() == [72]


def test_values_cannot_be_changed_in_place():
    source = np.array([60.0, 62.0])
    curve = Curve(source, 100.0)
    source[0] = 0
    assert curve.values.tolist() == [60, 62]
    with pytest.raises(ValueError, match="read-only"):
        curve.values[0] = 1


def test_nan_is_a_value_that_is_missing():
    assert np.isnan(Curve(math.nan).values).all()
    assert repr(Curve(math.nan)) == "Curve(nan)"


@pytest.mark.parametrize(
    ("values", "rate", "message"),
    [
        ("C4", None, "values is 'C4': give a number"),
        (None, None, "values is None: give a number"),
        (True, None, "values is True: give a number"),
        ([True, False], 10.0, "values is .True, False.: give a number"),
        ([], None, "values has the shape .0,.: give a number"),
        ([[60, 62]], 10.0, r"values has the shape \(1, 2\): give a number"),
        ([60, math.inf], 10.0, "give finite numbers"),
        (1e39, None, "give finite numbers"),
        ([60, [61, 62]], 10.0, "give a number"),
        ([60, 62], None, "values has 2 frames and rate is None: give the frames per second"),
        ([60, 62], 0.0, "rate is 0.0: it must be above 0"),
        ([60, 62], -5, "rate is -5"),
        ([60, 62], math.nan, "rate is nan"),
        ([60, 62], 1e12, "rate is 1000000000000.0: it must be above 0 and below 1,000,000"),
        ([60, 62], "100", "rate is '100'"),
        (np.array([60 + 1j]), None, "give a number"),
        (np.full((9, 9), "a"), None, "give a number"),
    ],
)
def test_errors_of_curves(values: Any, rate: Any, message: str):
    with pytest.raises(UserError, match=message) as error:
        Curve(values, rate)
    assert "\n" not in str(error.value)


def test_errors_name_the_argument():
    with pytest.raises(UserError, match=r"^loudness: values is 'loud'"):
        Curve.of("loud", "loudness")  # type: ignore[arg-type]
