"""Where there is sound: the same however a clip is cut into blocks, by level and not by offset."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wavesynth.data.activity import Activity, within

RATE = 8_000
FRAME = 400


def ranges(samples: np.ndarray, block: int = 10**9) -> tuple[tuple[int, int], ...]:
    """Of [T] or [C, T]."""
    activity, samples = Activity(RATE), np.atleast_2d(samples).astype(np.float32)
    for begin in range(0, samples.shape[1], block):
        activity.append(samples[:, begin : begin + block])
    return activity.ranges()


def noise(num_samples: int, level: float = 0.1) -> np.ndarray:
    return level * np.random.default_rng(num_samples).standard_normal(num_samples)


def test_silence_between_sounds():
    silence = np.zeros(4_000)
    clip = np.concatenate([silence, noise(2_000), silence, noise(999)])
    assert ranges(clip) == ((4_000, 6_000), (10_000, 10_999))
    assert ranges(np.stack([0 * clip, clip])) == ranges(clip)  # one channel is enough


@pytest.mark.parametrize(("level", "audible"), [(1e-2, True), (1e-3, False)])
def test_silence_lies_50_db_below_the_loudest_part(level: float, audible: bool):
    clip = np.concatenate([noise(2_000), noise(4_000, 0.1 * level)])
    assert ranges(clip) == ((0, 6_000 if audible else 2_000),)
    assert ranges(1e-3 * clip) == ranges(clip)  # in a quiet clip too


def test_an_offset_is_no_sound():
    clip = np.concatenate([noise(2_000), np.zeros(4_000)])
    assert ranges(0.5 + clip) == ranges(clip) == ((0, 2_000),)


def test_short_gaps_are_part_of_the_sound():
    clip = np.concatenate([noise(FRAME), np.zeros(4 * FRAME), noise(FRAME), np.zeros(5 * FRAME), noise(FRAME)])
    assert ranges(clip) == ((0, 6 * FRAME), (11 * FRAME, 12 * FRAME))


def test_nothing_and_silence():
    assert ranges(np.zeros(0)) == ranges(np.zeros(1_000)) == ranges(np.full(1_000, 0.3)) == ()


@given(block=st.integers(1, 3_000), length=st.integers(1, 5_000))
def test_blocks_make_no_difference(block: int, length: int):
    clip = np.concatenate([np.zeros(1_000), noise(5_000)])[:length]
    found = ranges(clip, block)
    assert found == ranges(clip)
    assert all(0 <= begin < end <= length for begin, end in found)


def test_a_part_of_a_clip():
    parts = ((0, 10), (20, 30))
    assert within(parts, 0, 30) == parts
    assert within(parts, 10, 20) == ()
    assert within(parts, 25, 40) == ((0, 5),)
