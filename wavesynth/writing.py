"""Writing sounds to a folder of WAV files while they are generated."""

import time
from collections.abc import Iterator
from contextlib import ExitStack
from itertools import chain
from os import PathLike
from pathlib import Path

import numpy as np

from wavesynth.audio import files
from wavesynth.audio.names import display, user_path
from wavesynth.errors import UserError
from wavesynth.progress import Progress


def numbered(folder: str | PathLike[str], n: int, force: bool) -> list[Path]:
    """FOLDER/000.wav, 001.wav ...; a UserError where one of them exists, unless `force`."""
    folder = user_path(folder)
    paths = [folder / f"{index:03d}.wav" for index in range(n)]
    files.check_free(paths, force)
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{display(folder)} is a file: give a folder")
    return paths


def write_blocks(
    blocks: Iterator[np.ndarray],
    folder: str | PathLike[str],
    n: int,
    num_samples: float,
    sample_rate: int,
    *,
    force: bool,
    progress: bool,
) -> list[Path]:
    """Writes blocks of `n` sounds to FOLDER/000.wav ..., and returns the paths.

    Args:
        blocks: float32 [n, t], or [n, C, t].
        folder: the folder to write to; created when the first block arrives.
        n: number of sounds.
        num_samples: length of each, for the progress bar; inf for endless sounds.
        sample_rate: Hz.
        force: overwrite existing files.
        progress: show a progress bar.

    Raises:
        UserError: a file exists and `force` is not set, or cannot be written.
    """
    paths = numbered(folder, n, force)
    blocks = chain([next(blocks)], blocks)  # what cannot be sampled fails before anything is written
    paths[0].parent.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        writers = [stack.enter_context(files.WavWriter(path, sample_rate, force=force)) for path in paths]
        scale = n / sample_rate
        bar = stack.enter_context(Progress(num_samples * scale, "second", "sample", shown=progress))
        written, began = 0, time.perf_counter()
        for block in blocks:
            for writer, row in zip(writers, block, strict=True):
                writer.append(row)
            written += block.shape[-1] * n
            rate = written / max(time.perf_counter() - began, 1e-9)
            bar.update(block.shape[-1] * scale, f"{rate:,.0f} samples/s")
    return paths
