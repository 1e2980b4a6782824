"""Fréchet distance and inception score against closed forms, and what holds for any features."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_numpy

from tests.tolerances import rounding
from wavesynth.errors import UserError
from wavesynth.evaluation.frechet import frechet_distance, inception_score

EPS = np.finfo(np.float64).eps


def features(columns: int | st.SearchStrategy[int] = 3) -> st.SearchStrategy[np.ndarray]:
    columns = st.just(columns) if isinstance(columns, int) else columns
    return st_numpy.arrays(np.float64, st.tuples(st.integers(2, 7), columns), elements=st.floats(-100, 100))


def tolerance(*sets: np.ndarray) -> float:
    """Of a difference of sums of squares, each with a rounding error of its size."""
    return rounding("float64", terms=100, scale=sum(float(np.sum(x**2)) for x in sets)) + EPS


def gaussian(mean: np.ndarray, deviations: np.ndarray, n: int = 64) -> np.ndarray:
    """Features [n, d] whose mean and diagonal covariance are exactly these."""
    raw = np.random.default_rng(0).normal(size=(n, len(mean)))
    white = np.linalg.qr(raw - raw.mean(axis=0))[0] * np.sqrt(n - 1)
    return mean + white * deviations


def by_eigenvalues(a: np.ndarray, b: np.ndarray) -> float:
    """The textbook formula, with the root of sqrt(A) B sqrt(A)."""
    cov_a, cov_b = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    values, vectors = np.linalg.eigh(cov_a)
    root = vectors * np.sqrt(np.maximum(values, 0)) @ vectors.T
    overlap = np.sqrt(np.maximum(np.linalg.eigvalsh(root @ cov_b @ root), 0)).sum()
    return np.sum((a.mean(axis=0) - b.mean(axis=0)) ** 2) + np.trace(cov_a) + np.trace(cov_b) - 2 * overlap


def test_diagonal_gaussians() -> None:
    a = gaussian(np.array([0.0, 1.0, 2.0]), np.array([1.0, 2.0, 3.0]))
    b = gaussian(np.array([1.0, 1.0, 0.0]), np.array([2.0, 2.0, 0.5]), n=100)
    np.testing.assert_allclose(frechet_distance(a, b), (1 + 4) + (1 + 0 + 6.25), rtol=rounding("float64", terms=100))


def test_one_variance_of_zero() -> None:
    a = gaussian(np.zeros(3), np.array([1.0, 0.0, 2.0]))
    b = gaussian(np.zeros(3), np.array([1.0, 3.0, 0.0]))
    np.testing.assert_allclose(frechet_distance(a, b), 9 + 4, rtol=rounding("float64", terms=64))


@pytest.mark.parametrize(("n", "m", "d"), [(200, 300, 8), (10, 12, 40), (10, 200, 40)])
def test_full_covariances_as_by_eigenvalues(n: int, m: int, d: int) -> None:
    rng = np.random.default_rng(2)
    a, b = rng.normal(size=(n, d)) @ rng.normal(size=(d, d)), rng.normal(1, 2, size=(m, d)) @ rng.normal(size=(d, d))
    np.testing.assert_allclose(
        frechet_distance(a, b), by_eigenvalues(a, b), rtol=1e-6
    )  # roots of eigenvalues of 0 + eps: sqrt(eps)


@pytest.mark.parametrize("n", [5, 500])
def test_the_same_sets_are_at_zero_however_few(n: int) -> None:
    a = np.random.default_rng(3).normal(5, 1, (n, 64))
    assert frechet_distance(a, a[::-1]) <= tolerance(a)


def test_bias_falls_with_the_number_of_samples() -> None:
    rng = np.random.default_rng(4)
    distances = [frechet_distance(*rng.normal(size=(2, n, 16))) for n in (20, 100, 1000)]
    assert distances[0] > 2 * distances[1] > 10 * distances[2]


@settings(max_examples=40)
@given(st.integers(1, 9).flatmap(lambda d: st.tuples(features(d), features(d))))
def test_symmetric_and_never_negative(pair: tuple[np.ndarray, np.ndarray]) -> None:
    a, b = pair
    distance = frechet_distance(a, b)
    assert distance >= 0
    np.testing.assert_allclose(distance, frechet_distance(b, a), atol=tolerance(a, b))


@settings(max_examples=40)
@given(features(), features(), st.floats(-10, 10))
def test_moves_and_scales_as_a_squared_distance(a: np.ndarray, b: np.ndarray, factor: float) -> None:
    distance = frechet_distance(a, b)
    moved = frechet_distance(a + 50, b + 50)
    np.testing.assert_allclose(moved, distance, atol=tolerance(a + 50, b + 50) * 10)
    scaled = frechet_distance(factor * a, factor * b)
    np.testing.assert_allclose(scaled, factor**2 * distance, atol=tolerance(factor * a, factor * b) + EPS)


@settings(max_examples=40)
@given(features(), st.floats(0, 10))
def test_a_shift_costs_its_square(a: np.ndarray, shift: float) -> None:
    np.testing.assert_allclose(frechet_distance(a, a + shift), 3 * shift**2, atol=tolerance(a, a + 10) * 10)


@pytest.mark.parametrize("classes", [1, 2, 10])
def test_inception_score_of_the_extremes(classes: int) -> None:
    np.testing.assert_allclose(inception_score(np.tile(np.eye(classes), (3, 1))), classes)
    np.testing.assert_allclose(inception_score(np.full((7, classes), 1 / classes)), 1)
    np.testing.assert_allclose(inception_score(np.tile(np.eye(classes)[0], (5, 1))), 1)


def test_inception_score_written_out() -> None:
    p = np.array([[0.9, 0.1], [0.3, 0.7]])
    divergences = [row @ np.log(row / np.array([0.6, 0.4])) for row in p]
    np.testing.assert_allclose(inception_score(p), np.exp(np.mean(divergences)))


@settings(max_examples=40)
@given(st_numpy.arrays(np.float64, st.tuples(st.integers(1, 8), st.integers(1, 6)), elements=st.floats(-20, 20)))
def test_inception_score_lies_between_one_and_the_classes(logits: np.ndarray) -> None:
    p = np.exp(logits - logits.max(axis=1, keepdims=True))
    score = inception_score(p / p.sum(axis=1, keepdims=True))
    slack = rounding("float64", terms=8, scale=8)
    assert 1 - slack <= score <= min(logits.shape) + slack


@pytest.mark.parametrize(
    ("make", "argument"),
    [
        (lambda: frechet_distance(np.zeros((1, 3)), np.zeros((4, 3))), "a"),
        (lambda: frechet_distance(np.zeros((4, 3)), np.zeros(3)), "b"),
        (lambda: frechet_distance(np.zeros((4, 3)), np.zeros((4, 2))), "b"),
        (lambda: frechet_distance(np.full((4, 3), np.nan), np.zeros((4, 3))), "a"),
        (lambda: inception_score(np.zeros(3)), "probabilities"),
        (lambda: inception_score([[0.7, 0.7]]), "probabilities"),
        (lambda: inception_score([[1.5, -0.5]]), "probabilities"),
        (lambda: inception_score([[np.nan, 1.0]]), "probabilities"),
    ],
)
def test_a_wrong_argument_is_named(make, argument: str) -> None:
    with pytest.raises(UserError, match=f"^{argument}: "):
        make()
