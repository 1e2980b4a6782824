"""Blocks of sound: limiting their total length, and changing their size."""

from collections.abc import Iterable, Iterator

import numpy as np

from wavesynth.errors import UserError


def until(blocks: Iterator[np.ndarray], samples: float) -> Iterator[np.ndarray]:
    """The first `samples` samples of blocks [..., any length], in blocks; fewer if the blocks end earlier."""
    for block in blocks:
        yield block[..., : int(min(samples, block.shape[-1]))]
        samples -= block.shape[-1]
        if samples <= 0:
            return


def finite(blocks: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    """Blocks as they come.

    Raises:
        UserError: a block holds NaN or infinity: finite weights can be so large that what is computed from them is not.
    """
    for block in blocks:
        if not np.isfinite(block).all():
            raise UserError(
                "the model computes numbers that are not finite: its weights are damaged or too large; train it again, or "
                "load another"
            )
        yield block


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
