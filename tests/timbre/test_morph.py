"""Ways between sounds: evenly spaced to the ear, at levels that go straight."""

import numpy as np
import pytest

from wavesynth.evaluation.descriptors import level
from wavesynth.evaluation.morphing import step_sizes
from wavesynth.timbre.morph import evenly_heard, leveled, morph

RATE = 16_000
TIME = np.arange(4_000) / RATE
PARTIALS = np.sin(2 * np.pi * 200 * np.outer(np.arange(1, 31), TIME))


def bent(shares: np.ndarray) -> np.ndarray:
    """Tones whose formant moves slowly at first and then fast, and that are softest half way: [n, T]."""
    places = 3 + 20 * np.asarray(shares)[:, None] ** 4
    tones = np.exp(-0.05 * (places - np.arange(1, 31)) ** 2) @ PARTIALS
    dip = 1 - 0.9 * np.sin(np.pi * np.asarray(shares))
    return (0.02 * tones * dip[:, None]).astype(np.float32)


def test_shares_of_even_steps_stay():
    shares = np.linspace(0, 1, 5)
    np.testing.assert_allclose(evenly_heard(shares, np.ones(4)), shares)


def test_shares_move_to_where_much_is_heard():
    moved = evenly_heard(np.linspace(0, 1, 5), np.array([0.0, 0.0, 0.0, 1.0]))
    assert (moved[0], moved[-1]) == (0, 1)
    np.testing.assert_allclose(moved[1:], [0.8125, 0.875, 0.9375, 1.0], atol=1e-6)


def test_a_morph_is_spaced_evenly_to_the_ear():
    plain, spaced = (morph(bent, 9, RATE, even=even) for even in (False, True))
    sizes = [step_sizes(sounds, RATE) for sounds in (plain, spaced)]
    assert sizes[0].max() / sizes[0].mean() > 2
    assert sizes[1].max() / sizes[1].mean() < 1.4
    for sounds in (plain, spaced):
        np.testing.assert_array_equal(sounds[[0, -1]], bent(np.array([0.0, 1.0])))


def test_levels_go_straight_from_end_to_end():
    plain, evened = (
        morph(bent, 5, RATE, even=False, match_loudness=match_loudness) for match_loudness in (False, True)
    )
    have, wanted = np.asarray(level(plain)), np.asarray(level(evened))
    assert have[2] < have[[0, -1]].min() - 10
    np.testing.assert_allclose(wanted, np.linspace(have[0], have[-1], 5), atol=1e-3)


def test_silence_is_not_turned_up_and_nothing_clips():
    sounds = np.stack([0.9 * np.sin(2 * np.pi * 440 * TIME), np.zeros(4_000), 0.99 * np.eye(1, 4_000)[0]]).astype(
        np.float32
    )
    made = leveled(sounds)
    assert not made[1].any()
    assert np.abs(made).max() <= 1
    assert np.isfinite(made).all()


@pytest.mark.parametrize("even", [False, True])
def test_a_morph_of_alike_ends_is_no_nan(even: bool):
    same = morph(lambda shares: np.tile(bent(np.zeros(1)), (len(shares), 1)), 5, RATE, even=even)
    np.testing.assert_array_equal(same, np.tile(bent(np.zeros(1)), (5, 1)))
