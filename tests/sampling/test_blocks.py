"""Blocks of sound, cut."""

import numpy as np
import pytest

from wavesynth.sampling.blocks import recut, until


def blocks(*lengths):
    whole = np.arange(2 * sum(lengths)).reshape(2, -1)
    return iter(np.split(whole, np.cumsum(lengths)[:-1], axis=-1)), whole


@pytest.mark.parametrize("samples", [1, 3, 4, 7, 9])
def test_until_ends_at_a_sample(samples):
    parts, whole = blocks(3, 4, 2)
    np.testing.assert_array_equal(np.concatenate(list(until(parts, samples)), axis=-1), whole[:, :samples])


def test_until_takes_no_block_that_it_does_not_need():
    parts, _ = blocks(3, 4, 2)
    list(until(parts, 3))
    assert next(parts).shape == (2, 4)


@pytest.mark.parametrize("size", [1, 2, 3, 5, 9, 10])
def test_recut_gives_blocks_of_one_size(size):
    parts, whole = blocks(3, 4, 2)
    made = list(recut(parts, size))
    assert {block.shape for block in made} <= {(2, size)}
    assert len(made) == 9 // size
    if made:
        np.testing.assert_array_equal(np.concatenate(made, axis=-1), whole[:, : len(made) * size])
