"""The energy distance: that of a plain double loop, zero on average for equal distributions, larger for different ones."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.tolerances import rounding
from wavesynth.audio.spectral import log_mel, mel_settings
from wavesynth.evaluation.energy import coarse_mel, energy_distance, spectra

EPS = float(jnp.finfo(jnp.float32).eps)
RATE = 16_000
distance = jax.jit(energy_distance)


def drawn(rows: int, columns: int = 5, mean: float = 0.0, scale: float = 1.0, seed: int = 0) -> np.ndarray:
    return mean + scale * np.random.default_rng(seed).standard_normal((rows, columns), np.float32)


def brute_force(a: np.ndarray, b: np.ndarray) -> float:
    def mean(x: np.ndarray, y: np.ndarray, apart: bool) -> float:
        pairs = [(i, j) for i in range(len(x)) for j in range(len(y)) if not (apart and i == j)]
        return np.mean([np.linalg.norm(np.float64(x[i]) - y[j]) for i, j in pairs])

    return 2 * mean(a, b, False) - mean(a, a, True) - mean(b, b, True)


@pytest.mark.parametrize("mean", [0.0, 0.5, 50.0])
def test_it_is_the_double_loop(mean: float):
    a, b = drawn(9, mean=mean), drawn(9, mean=mean, scale=2.0, seed=1)
    everything = np.ones(9, bool)
    found = float(distance(a, b, everything, everything))
    # Squares are subtracted: a distance is off by eps times the squares by twice the distance, which is about 4 here.
    assert found == pytest.approx(brute_force(a, b), abs=EPS * (5 * mean**2 + 40))


@pytest.mark.parametrize("counted", [(7, 5), (2, 9), (3, 3)])
def test_rows_that_do_not_count_are_ignored(counted: tuple[int, int]):
    sets, masks, kept = [], [], []
    for seed, count in enumerate(counted):
        points, mask = drawn(9, seed=seed), np.zeros(9, bool)
        mask[np.random.default_rng(seed).permutation(9)[:count]] = True
        sets.append(np.where(mask[:, None], points, 1e3 * (seed + 1)).astype(np.float32))
        masks.append(mask)
        kept.append(points[mask])
    assert float(distance(*sets, *masks)) == pytest.approx(brute_force(*kept), abs=64 * EPS)


def test_it_is_zero_on_average_for_equal_distributions_however_few_points():
    draws, rows = 2_000, 3
    points = jnp.asarray(drawn(2 * draws * rows).reshape(2, draws, rows, 5))
    every = jnp.ones(rows, bool)
    found = np.asarray(jax.jit(jax.vmap(lambda a, b: energy_distance(a, b, every, every)))(*points))
    assert abs(found.mean()) < 4 * found.std() / np.sqrt(draws)
    assert found.min() < 0 < found.max()
    # If pairs of a row and itself counted, it would lie above 0 by two thirds of a typical distance.
    assert found.std() / np.sqrt(draws) < 0.1


@pytest.mark.parametrize("lone", [0, 1])
def test_a_set_of_one_point_has_no_spread(lone: int):
    sets, masks = [drawn(9), drawn(9, mean=1.0, seed=1)], [np.ones(9, bool), np.ones(9, bool)]
    masks[lone] = np.arange(9) == 4
    found = float(distance(*sets, *masks))
    point, others = sets[lone][4:5], sets[1 - lone]
    # As if the set held that point many times.
    assert found == pytest.approx(brute_force(np.repeat(point, 9, axis=0), others), abs=64 * EPS)
    assert found > 0


def test_it_grows_with_the_difference_of_mean_and_spread():
    every = np.ones(200, bool)
    a = drawn(200)
    further = [float(distance(a, drawn(200, mean=mean, seed=1), every, every)) for mean in (0.5, 1.0, 2.0, 4.0)]
    wider = [float(distance(a, drawn(200, scale=scale, seed=1), every, every)) for scale in (1.5, 2.0, 4.0)]
    for values in (further, wider):
        assert values[0] > 0.1
        assert values == sorted(values)


@pytest.mark.parametrize("sample_rate", [8_000, 16_000, 44_100, 96_000])
def test_spectra_are_half_as_fine_as_others(sample_rate: int):
    fine, coarse = mel_settings(sample_rate), coarse_mel(sample_rate, -20.0)
    assert (coarse.window, coarse.num_bands) == (fine.window // 2, fine.num_bands // 2)
    assert np.isfinite(spectra(np.ones((1, 2, 3_000), np.float32), sample_rate, -20.0)).all()


def test_the_channels_of_stereo_sounds_count_alike():
    sounds = 0.1 * np.random.default_rng(0).standard_normal((2, 1, 2_000), np.float32)
    mono, stereo = (np.asarray(spectra(each, RATE, -20.0)) for each in (sounds, np.repeat(sounds, 2, axis=1)))
    apart = [np.linalg.norm(points[0] - points[1]) for points in (mono, stereo)]
    assert apart[1] == pytest.approx(apart[0], rel=rounding("float32", terms=512))


def test_points_lie_as_far_apart_as_spectra_in_decibels():
    sounds = 0.1 * np.random.default_rng(0).standard_normal((2, 2_000), np.float32)
    points = np.asarray(spectra(sounds, RATE, -20.0))
    levels = np.asarray(log_mel(sounds, RATE, coarse_mel(RATE, -20.0)))
    expected = np.sqrt(np.mean(np.square(levels[0] - levels[1])))
    assert np.linalg.norm(points[0] - points[1]) == pytest.approx(expected, rel=rounding("float32", terms=512))
    louder = np.asarray(spectra(sounds * np.float32(2), RATE, -20.0))
    np.testing.assert_allclose(
        np.linalg.norm(louder - points, axis=1), 20 * np.log10(2), atol=rounding("float32", terms=512, scale=70)
    )
