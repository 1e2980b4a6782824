"""What sampling in chunks tells a network of its conditions."""

import jax.numpy as jnp
import numpy as np
import pytest

from wavesynth.sampling.autoregressive import ConditioningSchedule


@pytest.mark.parametrize("num_frames", [1, 2, 5, 40])
@pytest.mark.parametrize("before", [0, 3])
@pytest.mark.parametrize(
    ("start", "length"), [(-70, 64), (-3, 64), (0, 64), (64, 64), (57, 1), (128, 256), (10_000, 64)]
)
def test_a_stretch_of_conditions_is_that_of_all_of_them(num_frames: int, before: int, start: int, length: int):
    whole = jnp.asarray(np.random.default_rng(0).standard_normal((num_frames, 2, 3, 4)), jnp.float32)
    asked = []

    def table(first: int, count: int):
        asked.append(count)
        return whole[first : first + count]

    schedule = ConditioningSchedule(table, num_frames, before, hop_length=8)
    place = start + np.arange(length)
    conditioning = schedule.at(place)
    heard = np.asarray(conditioning.table)[np.asarray(conditioning.index)]
    np.testing.assert_array_equal(heard, whole[np.clip(place // 8 + before, 0, num_frames - 1)])
    assert asked[0] == min(num_frames, (length - 1) // 8 + 2)  # as many wherever it lies: one program for all chunks
