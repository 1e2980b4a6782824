"""Reads sound files of any format, sample rate and channel count, by the rules of `wavesynth.audio.conversion`."""

import os
import warnings
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wavesynth.audio.containers import Refused, check_sample_rate, open_sound
from wavesynth.audio.conversion import Collected, Origin, Sink, convert
from wavesynth.audio.names import display, user_path
from wavesynth.audio.wav import WavWriter, write
from wavesynth.errors import UserError

__all__ = ["Refused", "WavWriter", "check_free", "check_sample_rate", "decode", "read", "write"]


def read(path: str | os.PathLike[str], sample_rate: int, channels: int = 1) -> NDArray[np.float32]:
    """Reads a whole sound file. Warns about problems that could be worked around.

    Args:
        path: the file, of any format, rate and channel count.
        sample_rate: Hz, of the result.
        channels: of the result.

    Returns:
        Samples in [-1, 1], float32 [channels, T].

    Raises:
        UserError: it cannot be read, with the reason.

    >>> path = next(Path("sounds").rglob("*.flac"))
    >>> read(path, 16_000, channels=2).shape[0]
    2
    """
    check_sample_rate(sample_rate)
    path, sink = user_path(path), Collected()
    try:
        origin = decode(path, sample_rate, sink, channels)
    except Refused as reason:
        raise UserError(f"{display(path)} cannot be read: {reason}; choose another file or convert it to WAV") from None
    for warning in origin.warnings:
        warnings.warn(f"{display(path)}: {warning}", stacklevel=2)
    return sink.samples


def decode(path: str | os.PathLike[str], sample_rate: int, sink: Sink, channels: int = 1) -> Origin:
    """Decodes a sound file into `sink`, block by block.

    Args:
        path: the file.
        sample_rate: Hz, of the blocks.
        sink: takes the blocks, float32 [channels, T].
        channels: of the blocks.

    Returns:
        The file's own rate and channels, and the warnings.

    Raises:
        Refused: the file cannot be used; the message says why.
    """
    return convert(lambda: open_sound(path), sample_rate, sink, channels)


def check_free(paths: Iterable[Path], force: bool) -> None:
    """Raises UserError if one of the files exists, unless `force`.

    >>> check_free([Path("nothing-here.wav")], force=False)
    """
    there = next((path for path in paths if path.exists()), None)
    if there is not None and not force:
        raise UserError(f"{display(there)} exists: choose another name, or overwrite it with --force (force=True)")
