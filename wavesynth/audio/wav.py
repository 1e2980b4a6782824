"""Writing mono 16-bit WAV files: at once, or block by block as the sound is made."""

import errno
import os
import struct
from pathlib import Path
from types import TracebackType

from numpy.typing import ArrayLike

from wavesynth.audio.containers import check_sample_rate
from wavesynth.audio.names import display
from wavesynth.audio.pcm import to_int16
from wavesynth.errors import UserError

_MOST_SAMPLES = (2**32 - 1 - 44) // 2
"""A WAV gives its length in 32 bits."""


def write(path: str | os.PathLike[str], samples: ArrayLike, sample_rate: int, force: bool = False) -> None:
    """Writes samples [T] in [-1, 1] as a mono 16-bit WAV, whole or not at all; values outside saturate.

    Raises:
        UserError: the file exists and `force` is not set, or it cannot be written.
        ValueError: the samples are not [T], or hold NaN.

    >>> write("tone.wav", np.sin(np.arange(16_000) * 0.1), 16_000)          # doctest: +SKIP
    """
    with WavWriter(path, sample_rate, force) as wav:
        try:
            wav.append(samples)
        except BaseException:
            wav.discard()
            raise


class WavWriter:
    """A mono 16-bit WAV that grows block by block, at constant memory.

    What was appended is a valid WAV at every moment: as `PATH.partial` until the writer is closed, then, after an
    exception or Ctrl-C too, as `path`. A file that was there before stays until then.

    Args:
        path: the file, named `.wav`.
        sample_rate: Hz.
        force: whether to replace an existing file.

    Raises:
        UserError: the file exists and `force` is not set, or cannot be written.

    >>> with WavWriter("long.wav", 16_000) as wav:                          # doctest: +SKIP
    ...     for block in synth.stream(seed=0):
    ...         wav.append(block)
    """

    def __init__(self, path: str | os.PathLike[str], sample_rate: int, force: bool = False):
        check_sample_rate(sample_rate)
        self.path = Path(path)
        self.sample_rate = int(sample_rate)
        self.num_samples = 0
        self._partial = self.path.with_name(self.path.name + ".partial")
        if self.path.suffix.lower() != ".wav":
            raise UserError(f"{display(path)}: only WAV is written, give it a name that ends in .wav")
        if self.path.exists() and not force:
            raise UserError(f"{display(path)} exists: give another name, or --force (force=True) to replace it")
        try:
            # Unbuffered: what append has written is in the file, and a full disk shows at once. close() closes it.
            self._file = open(self._partial, "wb", buffering=0)  # noqa: SIM115
            self._write(0, self._header())
        except OSError as error:
            raise self._unwritable(error) from None

    def append(self, block: ArrayLike) -> None:
        """Appends samples [T] in [-1, 1]; values outside saturate.

        Raises:
            UserError: the disk is full, or the WAV would exceed 4 GiB. What was appended before stays.
            ValueError: the block is not [T], or holds NaN.
        """
        pcm = to_int16(block)
        if pcm.ndim != 1:
            raise ValueError(f"samples of shape {pcm.shape}: a WAV takes one sound [T], write one file per sound")
        if self.num_samples + len(pcm) > _MOST_SAMPLES:
            raise UserError(f"{display(self.path)}: a WAV holds at most 4 GiB, begin another")
        try:
            self._write(44 + 2 * self.num_samples, pcm.astype("<i2").tobytes())
            self.num_samples += len(pcm)
            self._write(0, self._header())
        except OSError as error:
            raise self._unwritable(error) from None

    def close(self) -> None:
        """Gives the file its name. Closing twice is fine."""
        if not self._file.closed:
            self._file.truncate(44 + 2 * self.num_samples)
            self._file.close()
            os.replace(self._partial, self.path)

    def discard(self) -> None:
        """Closes without leaving a file."""
        self._file.close()
        self._partial.unlink(missing_ok=True)

    def _write(self, position: int, content: bytes) -> None:
        self._file.seek(position)
        while content:
            content = content[self._file.write(content) :]

    def _header(self) -> bytes:
        size, rate = 2 * self.num_samples, self.sample_rate
        fmt = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, 1, rate, 2 * rate, 2, 16)
        return struct.pack("<4sI4s", b"RIFF", 36 + size, b"WAVE") + fmt + struct.pack("<4sI", b"data", size)

    def _unwritable(self, error: OSError) -> UserError:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            seconds = self.num_samples / self.sample_rate
            return UserError(f"{display(self.path)}: the disk is full after {seconds:.2f} s of sound; make room")
        return UserError(f"{display(self.path)} cannot be written: {error.strerror}")

    def __enter__(self) -> "WavWriter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None and not self.num_samples:
            self.discard()
        else:
            self.close()
