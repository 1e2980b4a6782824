"""Blocks of sound, cut."""

import numpy as np
import pytest

from wavesynth.errors import UserError
from wavesynth.sampling.blocks import finite, recut, until


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


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_numbers_that_are_not_finite_are_refused_when_they_come(value):
    taken = finite(iter([np.zeros((2, 3)), np.full((2, 3), value)]))
    assert next(taken).shape == (2, 3)
    with pytest.raises(UserError, match="numbers that are not finite"):
        next(taken)
