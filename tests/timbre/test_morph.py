"""Morphs: perceptually even steps, at levels that change in a straight line."""

import numpy as np
import pytest

from tests.tolerances import assert_close, rounding
from wavesynth.evaluation.analysis import Analysis
from wavesynth.timbre.morph import level_matched, morph, respaced

RATE = 16_000
TIME = np.arange(4_000) / RATE
PARTIALS = np.sin(2 * np.pi * 200 * np.outer(np.arange(1, 31), TIME))


def curved(positions: np.ndarray) -> np.ndarray:
    """Tones whose formant moves slowly at first and then fast, and that are softest half way: [n, T]."""
    places = 3 + 20 * np.asarray(positions)[:, None] ** 4
    tones = np.exp(-0.05 * (places - np.arange(1, 31)) ** 2) @ PARTIALS
    dip = 1 - 0.9 * np.sin(np.pi * np.asarray(positions))
    return (0.02 * tones * dip[:, None]).astype(np.float32)


def test_positions_of_even_steps_stay():
    positions = np.linspace(0, 1, 5)
    assert_close(respaced(positions, np.ones(4)), positions)


def test_positions_move_to_where_the_large_steps_are():
    moved = respaced(np.linspace(0, 1, 5), np.array([0.0, 0.0, 0.0, 1.0]))
    assert (moved[0], moved[-1]) == (0, 1)
    # Steps of nothing count a billionth, so that they take up no room.
    np.testing.assert_allclose(moved[1:], [0.8125, 0.875, 0.9375, 1.0], rtol=0, atol=1e-8)


def test_steps_are_perceptually_even():
    plain, spaced = (morph(curved, 9, RATE, even=even) for even in (False, True))
    sizes = [sounds.step_sizes for sounds in (plain, spaced)]
    assert sizes[0].max() / sizes[0].mean() > 2
    assert sizes[1].max() / sizes[1].mean() < 1.4
    for sounds in (plain, spaced):
        np.testing.assert_array_equal(sounds.sounds[[0, -1]], curved(np.array([0.0, 1.0])))


def test_levels_change_in_a_straight_line():
    plain, matched = (
        morph(curved, 5, RATE, even=False, match_loudness=match_loudness) for match_loudness in (False, True)
    )
    assert plain.levels[2] < plain.levels[[0, -1]].min() - 10
    expected = np.linspace(plain.levels[0], plain.levels[-1], 5)
    np.testing.assert_allclose(matched.levels, expected, rtol=0, atol=rounding("float32", len(TIME), scale=expected))


def test_silence_is_not_amplified_and_nothing_clips():
    sounds = np.stack([0.9 * np.sin(2 * np.pi * 440 * TIME), np.zeros(4_000), 0.99 * np.eye(1, 4_000)[0]])
    matched = level_matched(Analysis(sounds, RATE)).sounds
    assert not matched[1].any()
    assert np.abs(matched).max() <= 1
    assert np.isfinite(matched).all()


@pytest.mark.parametrize("even", [False, True])
def test_a_morph_between_equal_ends_stays_there(even: bool):
    same = morph(lambda positions: np.tile(curved(np.zeros(1)), (len(positions), 1)), 5, RATE, even=even)
    np.testing.assert_array_equal(same.sounds, np.tile(curved(np.zeros(1)), (5, 1)))


@pytest.mark.parametrize("even", [False, True])
def test_channels_are_kept(even: bool):
    def stereo(positions: np.ndarray) -> np.ndarray:
        return np.stack([curved(positions), 0.5 * curved(positions)], axis=1)

    sounds = morph(stereo, 5, RATE, even=even).sounds
    assert sounds.shape == (5, 2, 4_000)
    np.testing.assert_array_equal(sounds[:, 1], 0.5 * sounds[:, 0])
