"""Blocks of sound, cut as they are wanted."""

from collections.abc import Iterator

import numpy as np


def until(blocks: Iterator[np.ndarray], samples: float) -> Iterator[np.ndarray]:
    """Blocks [..., any length] until there are so many samples of each sound, or no more blocks."""
    for block in blocks:
        yield block[..., : int(min(samples, block.shape[-1]))]
        samples -= block.shape[-1]
        if samples <= 0:
            return


def recut(blocks: Iterator[np.ndarray], size: int) -> Iterator[np.ndarray]:
    """Blocks [..., any length] to blocks [..., size]."""
    kept = None
    for block in blocks:
        kept = block if kept is None else np.concatenate([kept, block], axis=-1)
        while kept.shape[-1] >= size:
            yield kept[..., :size]
            kept = kept[..., size:]
