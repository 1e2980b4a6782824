"""The bootstrap against the standard error of a mean, and what holds for any samples."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.tolerances import rounding, sampling
from wavesynth.errors import UserError
from wavesynth.evaluation.bootstrap import Interval, bootstrap


def test_a_means_interval_is_two_standard_errors_wide() -> None:
    sample = np.random.default_rng(0).normal(3, 2, 400)
    interval = bootstrap(np.mean, sample, resamples=4000)
    assert interval.value == sample.mean()
    error = sample.std() / 20
    # A percentile of 4,000 values scatters by sqrt(0.025 * 0.975 / 4000) / density, and the density there is 0.058 / error.
    scatter = sampling(np.sqrt(0.025 * 0.975) / 0.058 * error, 4000)
    np.testing.assert_allclose(
        [interval.low, interval.high], interval.value + 1.96 * error * np.array([-1, 1]), atol=scatter
    )


def test_it_contains_the_truth_about_95_times_in_100() -> None:
    rng = np.random.default_rng(1)
    intervals = [bootstrap(np.mean, rng.normal(0, 1, 60), resamples=200, seed=trial) for trial in range(200)]
    held = np.mean([interval.low <= 0 <= interval.high for interval in intervals])
    assert held == pytest.approx(0.95, abs=sampling(np.sqrt(0.95 * 0.05), 200))


@settings(max_examples=30)
@given(st.lists(st.floats(-100, 100), min_size=1, max_size=20), st.integers(0, 2**32))
def test_same_seed_same_interval_within_the_samples_range(sample: list[float], seed: int) -> None:
    interval = bootstrap(np.mean, sample, resamples=20, seed=seed)
    assert interval == bootstrap(np.mean, sample, resamples=20, seed=seed)
    slack = rounding("float64", terms=20, scale=100)
    assert min(sample) - slack <= interval.low <= interval.high <= max(sample) + slack


def test_another_seed_draws_anew() -> None:
    sample = np.arange(50.0)
    assert bootstrap(np.mean, sample, seed=0) != bootstrap(np.mean, sample, seed=1)


def test_samples_are_resampled_independently_and_rows_stay_whole() -> None:
    pairs = np.stack([np.arange(40.0), np.arange(40.0) + 1], axis=1)
    assert bootstrap(lambda x: (x[:, 1] - x[:, 0]).mean(), pairs) == Interval(1.0, 1.0, 1.0)
    apart = bootstrap(lambda a, b: b.mean() - a.mean(), pairs[:, 0], pairs[:, 1])
    assert apart.low < 0 < apart.value == 1 < apart.high
    assert bootstrap(lambda a, b: len(a) - len(b), np.zeros(5), np.zeros((3, 2))) == Interval(2.0, 2.0, 2.0)


def test_a_single_row_cannot_vary() -> None:
    assert bootstrap(np.mean, [3.0]) == Interval(3.0, 3.0, 3.0)
    interval = bootstrap(lambda a, b: a.mean() - b.mean(), [3.0], [1.0, 2.0], resamples=50)
    assert interval.low < interval.value == 1.5 < interval.high


def test_it_prints_short() -> None:
    assert str(Interval(1.23456, 1, 2)) == "1.235 [1, 2]"


@pytest.mark.parametrize(
    ("make", "argument"),
    [
        (lambda: bootstrap(np.mean), "samples"),
        (lambda: bootstrap(np.mean, []), "samples"),
        (lambda: bootstrap(np.mean, 3.0), "samples"),
        (lambda: bootstrap(np.mean, [1.0], resamples=0), "resamples"),
    ],
)
def test_a_wrong_argument_is_named(make, argument: str) -> None:
    with pytest.raises(UserError, match=f"^{argument}: "):
        make()
