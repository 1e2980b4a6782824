"""Writing 16-bit WAV files, at once or block by block."""

import os
import struct
from contextlib import suppress
from types import TracebackType

import numpy as np
from numpy.typing import ArrayLike

from wavesynth.audio.containers import check_sample_rate
from wavesynth.audio.names import display, user_path
from wavesynth.audio.pcm import to_int16
from wavesynth.errors import UserError
from wavesynth.storage import DISK_FULL

MOST_SAMPLES = (2**32 - 1 - 44) // 2
"""The number of samples in a WAV file is limited by its 32-bit size in bytes."""

MOST_CHANNELS = 2
_HEADER = 44  # bytes


def write(path: str | os.PathLike[str], samples: ArrayLike, sample_rate: int, force: bool = False) -> None:
    """Writes a sound to a 16-bit WAV file, atomically.

    Args:
        path: The file to write; its name ends in `.wav`.
        samples: The sound, float [T] or [C, T] in [-1, 1]; values outside are clipped.
        sample_rate: Hz.
        force: Replace the file if it exists.

    Raises:
        UserError: The file exists and `force` is not set, or it cannot be written.
        ValueError: The samples are not [T], [1, T] or [2, T], or hold NaN.

    >>> write("tone.wav", np.sin(np.arange(16_000) * 0.1), 16_000)          # doctest: +SKIP
    """
    with WavWriter(path, sample_rate, force) as wav:
        try:
            wav.append(samples)
        except BaseException:
            wav.discard()
            raise


class WavWriter:
    """Writes a 16-bit WAV file block by block, in constant memory. The first block decides the number of channels.

    The sound is written to `PATH.partial`, a valid WAV file after every `append`, which is renamed when the writer is
    closed. If an exception or Ctrl-C ends the `with` block early, the sound so far becomes `path`; but if `path` already
    exists, it stays unchanged and the new sound is discarded.

    The file is open only during `append`, so any number of writers can be used at once.

    Args:
        path: The file to write; its name ends in `.wav`.
        sample_rate: Hz.
        force: Replace the file if it exists.

    Raises:
        UserError: The file exists and `force` is not set, or it cannot be written.

    >>> with WavWriter("long.wav", 16_000) as wav:                          # doctest: +SKIP
    ...     for block in synth.stream(seed=0):
    ...         wav.append(block)
    """

    def __init__(self, path: str | os.PathLike[str], sample_rate: int, force: bool = False):
        check_sample_rate(sample_rate)
        self.path = user_path(path)
        self.sample_rate = int(sample_rate)
        self.channels = 1
        self.num_samples = 0
        self._partial = self.path.with_name(self.path.name + ".partial")
        self._open = True
        if self.path.suffix.lower() != ".wav":
            raise UserError(f"{display(path)}: only WAV is supported; give a name that ends in .wav")
        if self.path.is_dir():
            raise UserError(f"{display(path)} is a folder: give another name")
        self._replaces = self.path.exists()
        if self._replaces and not force:
            raise UserError(f"{display(path)} exists: give another name, or --force (force=True) to replace it")
        try:
            self._write((0, self._header()), mode="wb")
        except OSError as error:
            with suppress(OSError):
                self._partial.unlink()
            raise self._unwritable(error) from None

    def append(self, block: ArrayLike) -> None:
        """Appends samples to the file.

        Args:
            block: float [T] or [C, T] in [-1, 1]; values outside are clipped.

        Raises:
            UserError: The disk is full, or the WAV would exceed 4 GiB. What was appended before stays.
            ValueError: The block is not [T], [1, T] or [2, T], has other channels than those before, or holds NaN.
        """
        pcm = to_int16(block)
        pcm = pcm[None] if pcm.ndim == 1 else pcm
        if pcm.ndim != 2 or not 1 <= len(pcm) <= MOST_CHANNELS:
            raise ValueError(
                f"samples of shape {np.shape(block)}: a WAV takes one sound, [T], [1, T] or [2, T]; write one file per sound"
            )
        if not self._open:
            raise ValueError(f"{display(self.path)} is closed")
        if not self.num_samples:
            self.channels = len(pcm)
        if len(pcm) != self.channels:
            raise ValueError(f"a block of {len(pcm)} channels follows blocks of {self.channels}")
        check_length(self.path, self.num_samples + pcm.shape[1], self.sample_rate, self.channels)
        written = self.num_samples
        try:
            self.num_samples += pcm.shape[1]
            self._write((_HEADER + self._bytes(written), pcm.T.astype("<i2").tobytes()), (0, self._header()))
        except BaseException as error:
            self.num_samples = written
            if isinstance(error, OSError):
                raise self._unwritable(error) from None
            raise

    def close(self) -> None:
        """Renames the file to its final name. Closing twice is allowed.

        Raises:
            UserError: The file cannot be renamed; it stays as `PATH.partial`.
        """
        if self._open:
            self._open = False
            try:
                # An append that failed may have left part of a block and a header that counts it.
                os.truncate(self._partial, _HEADER + self._bytes(self.num_samples))
                self._write((0, self._header()))
                os.replace(self._partial, self.path)
            except OSError as error:
                raise self._unwritable(error) from None

    def discard(self) -> None:
        """Discards the sound, and keeps an existing file."""
        self._open = False
        self._partial.unlink(missing_ok=True)

    def _write(self, *parts: tuple[int, bytes], mode: str = "r+b") -> None:
        """Writes bytes at positions of the partial file, unbuffered, so that a full disk is detected at once."""
        with open(self._partial, mode, buffering=0) as file:
            for position, content in parts:
                file.seek(position)
                while content:
                    content = content[file.write(content) :]

    def _bytes(self, num_samples: int) -> int:
        return 2 * self.channels * num_samples

    def _header(self) -> bytes:
        size, rate, channels = self._bytes(self.num_samples), self.sample_rate, self.channels
        fmt = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, channels, rate, self._bytes(rate), self._bytes(1), 16)
        return struct.pack("<4sI4s", b"RIFF", 36 + size, b"WAVE") + fmt + struct.pack("<4sI", b"data", size)

    def _unwritable(self, error: OSError) -> UserError:
        if error.errno in DISK_FULL:
            seconds = self.num_samples / self.sample_rate
            return UserError(f"{display(self.path)}: the disk is full after {seconds:.2f} s of sound; free some space")
        return UserError(f"{display(self.path)} cannot be written: {error.strerror or error}")

    def __enter__(self) -> "WavWriter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None or (self.num_samples and not self._replaces):
            self.close()
        else:
            self.discard()


def check_length(path: str | os.PathLike[str], num_samples: float, sample_rate: int, channels: int) -> None:
    """Raises UserError if a WAV file cannot hold this many samples of each channel."""
    if num_samples * channels > MOST_SAMPLES:
        raise UserError(
            f"{display(path)}: a WAV holds at most 4 GiB, {MOST_SAMPLES / channels / sample_rate / 3600:.1f} hours at "
            f"{sample_rate:,} Hz, and {num_samples / sample_rate / 3600:.3g} hours are requested: make it shorter"
        )
