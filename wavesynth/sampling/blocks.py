"""Blocks of sound: limiting their total length, and changing their size."""

from collections.abc import Iterator

import numpy as np


def until(blocks: Iterator[np.ndarray], samples: float) -> Iterator[np.ndarray]:
    """The first `samples` samples of blocks [..., any length], in blocks; fewer if the blocks end earlier."""
    for block in blocks:
        yield block[..., : int(min(samples, block.shape[-1]))]
        samples -= block.shape[-1]
        if samples <= 0:
            return


def recut(blocks: Iterator[np.ndarray], size: int) -> Iterator[np.ndarray]:
    """Regroups blocks [..., any length] into blocks [..., size]; an incomplete last block is dropped."""
    kept: list[np.ndarray] = []
    length = 0
    for block in blocks:
        kept.append(block)
        length += block.shape[-1]
        if length < size:
            continue
        joined = np.concatenate(kept, axis=-1)
        whole = length // size * size
        for start in range(0, whole, size):
            yield joined[..., start : start + size]
        kept, length = [joined[..., whole:]], length - whole
