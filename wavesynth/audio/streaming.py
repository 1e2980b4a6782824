"""Resampling a sound that arrives in blocks."""

from collections.abc import Iterator

import numpy as np


def resampled(blocks: Iterator[np.ndarray], own_rate: float, sample_rate: int) -> Iterator[np.ndarray]:
    """Blocks float32 [C, t] at `own_rate` Hz to blocks at `sample_rate` Hz, as one sound."""
    import soxr

    resampler = None
    for block in blocks:
        if resampler is None:
            resampler = soxr.ResampleStream(own_rate, sample_rate, len(block), dtype="float32", quality="HQ")
        yield np.clip(np.atleast_2d(resampler.resample_chunk(block.T)).reshape(-1, len(block)).T, -1, 1)
    if resampler is not None:
        rest = resampler.resample_chunk(np.zeros((0, len(block)), np.float32), last=True)
        yield np.clip(np.atleast_2d(rest).reshape(-1, len(block)).T, -1, 1)
