"""Detection of silence in clips."""

from array import array

import numpy as np
from numpy.typing import NDArray

FRAME_SECONDS = 0.05
RANGE_DB = 50.0
"""A frame is silent if its level is this far below the loudest frame of the clip."""
LONGEST_GAP = 4
"""Gaps of up to this many silent frames count as sound."""
_FRAMES_AT_ONCE = 64

Ranges = tuple[tuple[int, int], ...]
"""Pairs (begin, end) in samples, ascending, without overlap."""


class Activity:
    """Finds the parts of a clip that are not silent, block by block. Memory grows by one number per 50 ms.

    The level of a frame is its standard deviation over all channels, so a DC offset counts as silence.

    Args:
        sample_rate: Hz.

    >>> activity = Activity(16_000)
    >>> activity.append(np.zeros((1, 16_000), np.float32))
    >>> activity.append(np.sin(np.arange(8_000, dtype=np.float32))[None])
    >>> activity.ranges()
    ((16000, 24000),)
    """

    def __init__(self, sample_rate: int):
        self._frame = max(1, round(FRAME_SECONDS * sample_rate))
        self._waiting: list[NDArray[np.float32]] = []
        self._num_waiting = 0
        self._energies = array("d")
        self._length = 0

    def append(self, samples: NDArray[np.float32]) -> None:
        """Takes the next block, [C, T]."""
        self._length += samples.shape[1]
        self._waiting.append(samples)
        self._num_waiting += samples.shape[1]
        if self._num_waiting < _FRAMES_AT_ONCE * self._frame:
            return
        whole = np.concatenate(self._waiting, axis=1)
        end = whole.shape[1] - whole.shape[1] % self._frame
        self._energies.extend(_energy(whole[:, :end], self._frame))
        self._waiting, self._num_waiting = [whole[:, end:].copy()], whole.shape[1] - end

    def ranges(self) -> Ranges:
        """The parts of the appended blocks that are not silent; empty for silence."""
        energies = array("d", self._energies)
        if self._num_waiting:
            whole = np.concatenate(self._waiting, axis=1)
            end = whole.shape[1] - whole.shape[1] % self._frame
            energies.extend(_energy(whole[:, :end], self._frame))
            if end < whole.shape[1]:
                energies.extend(_energy(whole[:, end:], whole.shape[1] - end))
        levels = np.array(energies)
        loudest = levels.max(initial=0.0)
        frames = np.flatnonzero(levels > loudest * 10 ** (-RANGE_DB / 10))
        if not loudest or not len(frames):
            return ()
        breaks = np.flatnonzero(np.diff(frames) > LONGEST_GAP + 1)
        firsts, lasts = frames[np.r_[0, breaks + 1]], frames[np.r_[breaks, len(frames) - 1]]
        ends = np.minimum((lasts + 1) * self._frame, self._length)
        return tuple(zip((firsts * self._frame).tolist(), ends.tolist()))


def within(ranges: Ranges, begin: int, end: int) -> Ranges:
    """The parts of `ranges` between `begin` and `end`, relative to `begin`.

    >>> within(((0, 10), (20, 30)), 5, 25)
    ((0, 5), (15, 20))
    """
    cut = ((max(first, begin) - begin, min(last, end) - begin) for first, last in ranges)
    return tuple((first, last) for first, last in cut if first < last)


def _energy(samples: NDArray[np.float32], frame: int) -> list[float]:
    """The variance of each frame of [C, T], averaged over channels."""
    frames = samples.reshape(len(samples), -1, frame)
    return frames.var(axis=2, dtype=np.float64).mean(axis=0).tolist()
