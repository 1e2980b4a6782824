"""Augmentations: none at probability 0, linear in the sounds, each row by itself and all its channels together."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from wavesynth.training.augment import CUT, GAIN_DB, SHIFT, SPEED, TILT, augment

EPS = float(jnp.finfo(jnp.float32).eps)
LENGTH = 1_024
changed = jax.jit(lambda key, sounds, probability: augment(key, sounds[:, None], probability)[:, 0])


@pytest.fixture(scope="module")
def sounds() -> np.ndarray:
    return 0.2 * np.random.default_rng(0).standard_normal((64, LENGTH), np.float32)


def test_at_probability_0_sounds_stay_as_they_are(sounds: np.ndarray):
    np.testing.assert_array_equal(changed(jax.random.key(0), sounds, 0.0), sounds)


@pytest.mark.parametrize(("probability", "share"), [(0.1, 1 - 0.9**6), (0.8, 1 - 0.2**6)])
def test_most_rows_change_at_a_high_probability_and_some_at_a_low_one(
    sounds: np.ndarray, probability: float, share: float
):
    # One of six kinds is to turn a sound upside down, which half of those that it befalls are.
    moved = np.asarray(changed(jax.random.key(1), sounds, probability)) != sounds
    share -= (1 - probability) ** 5 * probability / 2
    assert moved.any(axis=1).mean() == pytest.approx(share, abs=4 * np.sqrt(share * (1 - share) / 64))


@pytest.mark.parametrize("seed", range(4))
def test_changed_sounds_are_finite_and_not_much_louder(sounds: np.ndarray, seed: int):
    made = np.asarray(changed(jax.random.key(seed), sounds, 0.8))
    assert np.isfinite(made).all()
    most = 10 ** (GAIN_DB / 20) * (1 + TILT) * np.abs(sounds).max(axis=1)
    assert (np.abs(made).max(axis=1) <= most * (1 + 8 * EPS)).all()


def test_a_sum_of_sounds_is_changed_to_the_sum_of_the_changed(sounds: np.ndarray):
    key, others = jax.random.key(2), np.roll(sounds, 1, axis=0)
    both = changed(key, 3 * sounds - others, 0.8)
    apart = 3 * changed(key, sounds, 0.8) - changed(key, others, 0.8)
    np.testing.assert_allclose(both, apart, atol=32 * EPS * float(jnp.abs(apart).max()))


def test_each_row_is_changed_by_itself(sounds: np.ndarray):
    key = jax.random.key(3)
    alike = np.asarray(changed(key, np.tile(sounds[:1], (64, 1)), 0.8))
    assert len(np.unique(alike, axis=0)) > 60  # two are alike where nothing befalls both
    other = sounds.copy()
    other[5] = sounds[6]
    before, after = (np.asarray(changed(key, each, 0.8)) for each in (sounds, other))
    assert np.flatnonzero((before != after).any(axis=1)).tolist() == [5]
    np.testing.assert_allclose(changed(key, sounds[:10], 0.8), before[:10], atol=8 * EPS)
    assert not np.array_equal(changed(jax.random.key(4), sounds, 0.8), before)


def test_channels_change_together(sounds: np.ndarray):
    stereo = np.stack([sounds, 0.5 * sounds], axis=1)
    left, right = np.moveaxis(np.asarray(augment(jax.random.key(6), stereo, jnp.float32(0.8))), 1, 0)
    np.testing.assert_allclose(right, 0.5 * left, atol=8 * EPS)


def test_what_befalls_a_click_is_what_the_constants_say():
    # Of a click amid silence is left: a shifted and stretched click, its echo one sample later by the tilt, or nothing.
    clicks = np.zeros((256, LENGTH), np.float32)
    clicks[:, LENGTH // 2] = 1
    made = np.asarray(changed(jax.random.key(5), clicks, 1.0))
    audible = made[made.any(axis=1)]
    assert len(audible) / 256 == pytest.approx(1 - CUT, abs=0.15)
    place = np.abs(audible).argmax(axis=1)
    furthest = (LENGTH / 2) * (2**SPEED - 1) + 2 ** (SPEED) * SHIFT * LENGTH + 2
    assert (np.abs(place - LENGTH / 2) <= furthest).all()
    assert place.std() > SHIFT * LENGTH / 2
    upside_down = audible[np.arange(len(audible)), place] < 0
    assert upside_down.mean() == pytest.approx(0.5, abs=4 * 0.5 / np.sqrt(len(audible)))
