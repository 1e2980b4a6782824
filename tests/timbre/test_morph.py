"""Paths between sounds: perceptually even steps, and levels on a straight line."""

import numpy as np
import pytest

from tests.tolerances import assert_close
from wavesynth.evaluation.analysis import Analysis
from wavesynth.timbre.morph import ROUNDS, level_matched, morph, respaced

RATE = 16_000
TIME = np.arange(4_000) / RATE
PARTIALS = np.sin(2 * np.pi * 200 * np.outer(np.arange(1, 31), TIME))


def bent(positions: np.ndarray) -> np.ndarray:
    """Tones whose formant moves slowly at first and then fast, and that are quietest half way: [n, T]."""
    places = 3 + 20 * np.asarray(positions)[:, None] ** 4
    tones = np.exp(-0.05 * (places - np.arange(1, 31)) ** 2) @ PARTIALS
    dip = 1 - 0.9 * np.sin(np.pi * np.asarray(positions))
    return (0.02 * tones * dip[:, None]).astype(np.float32)


def test_positions_of_even_steps_stay():
    positions = np.linspace(0, 1, 5)
    assert_close(respaced(positions, np.ones(4)), positions, terms=4)


def test_positions_move_to_where_the_sound_changes():
    moved = respaced(np.linspace(0, 1, 5), np.array([0.0, 0.0, 0.0, 1.0]))
    np.testing.assert_allclose(moved, [0, 0.8125, 0.875, 0.9375, 1.0], atol=3e-9)  # steps of size 0 count as 1e-9


def test_steps_become_even_and_the_ends_stay():
    asked = []

    def render(positions: np.ndarray) -> np.ndarray:
        asked.append(len(positions))
        return bent(positions)

    plain, spaced = (morph(render, 9, RATE, even=even) for even in (False, True))
    assert asked[:2] == [9, 9]
    assert set(asked[2:]) == {7}  # the ends are rendered once
    assert len(asked[2:]) <= ROUNDS
    assert plain.step_sizes.max() / plain.step_sizes.mean() > 2
    assert spaced.step_sizes.max() / spaced.step_sizes.mean() < 1.4
    for each in (plain, spaced):
        assert_close(each.sounds[[0, -1]], bent(np.array([0.0, 1.0])), terms=30, scale=0.1)


def test_levels_lie_on_a_straight_line():
    plain, matched = (
        morph(bent, 5, RATE, even=False, match_loudness=match_loudness) for match_loudness in (False, True)
    )
    assert plain.levels[2] < plain.levels[[0, -1]].min() - 10
    assert_close(matched.levels, np.linspace(plain.levels[0], plain.levels[-1], 5), dtype="float32", scale=60)


def test_silence_is_not_amplified_and_nothing_clips():
    loud, click = 0.9 * np.sin(2 * np.pi * 440 * TIME), 0.99 * np.eye(1, 4_000)[0]
    matched = level_matched(Analysis(np.stack([loud, np.zeros(4_000), click, loud]), RATE)).sounds
    assert not matched[1].any()
    assert 0.999 < np.abs(matched).max() <= 1
    assert np.isfinite(matched).all()


def test_stereo_keeps_its_channels():
    stereo = morph(lambda t: np.stack([bent(t), 0.5 * bent(t)], axis=1), 5, RATE)
    assert stereo.sounds.shape == (5, 2, 4_000)
    assert_close(stereo.sounds[:, 1], 0.5 * stereo.sounds[:, 0])
    assert_close(stereo.levels, np.linspace(stereo.levels[0], stereo.levels[-1], 5), dtype="float32", scale=60)


@pytest.mark.parametrize("even", [False, True])
def test_a_morph_between_equal_sounds_is_constant(even: bool):
    same = morph(lambda positions: np.tile(bent(np.zeros(1)), (len(positions), 1)), 5, RATE, even=even)
    np.testing.assert_array_equal(same.sounds, np.tile(bent(np.zeros(1)), (5, 1)))
