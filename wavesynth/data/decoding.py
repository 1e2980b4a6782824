"""Decodes many files in parallel and yields the results in order, in constant memory."""

import tempfile
import threading
from collections import deque
from collections.abc import Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wavesynth.audio.conversion import Origin
from wavesynth.audio.files import Refused, decode
from wavesynth.audio.pcm import to_int16
from wavesynth.data.activity import Activity
from wavesynth.data.corpus import SourceFile
from wavesynth.data.sources import digest_of

_SPOOL_BYTES = 4 * 2**20
"""Larger clips wait on disk, not in memory, until it is their turn."""


class _Stopped(Exception):
    """Stops the decoding of a file whose result is no longer needed."""


class Spool:
    """A sink that keeps a clip as little-endian int16 bytes, channels interleaved, and hashes it.

    Attributes:
        file: the bytes; the caller closes it.
        num_samples: number of samples per channel.
        activity: finds the parts that are not silent.
    """

    def __init__(self, folder: Path, sample_rate: int, stop: threading.Event):
        self.file = tempfile.SpooledTemporaryFile(max_size=_SPOOL_BYTES, dir=str(folder))  # noqa: SIM115
        self._sample_rate = sample_rate
        self._stop = stop
        self.restart()

    @property
    def sha256(self) -> str:
        """SHA-256 of the bytes so far."""
        return self._digest.hexdigest()

    def append(self, samples: NDArray[np.float32]) -> None:
        """Takes the next block [C, T]."""
        if self._stop.is_set():
            raise _Stopped
        pcm = np.ascontiguousarray(to_int16(samples).astype("<i2", copy=False).T).tobytes()
        self.file.write(pcm)
        self._digest.update(pcm)
        self.num_samples += samples.shape[1]
        self.activity.append(samples)

    def restart(self) -> None:
        """Forgets every block."""
        self.file.seek(0)
        self.file.truncate()
        self._digest = sha256()
        self.num_samples = 0
        self.activity = Activity(self._sample_rate)


@dataclass(frozen=True)
class Decoded:
    """A decoded file, or the reason why it was refused.

    Attributes:
        source: the file.
        digest: SHA-256 of its content.
        spool: its samples; None when refused.
        refused: the reason, or None.
        origin: the sound before conversion; None when refused.
    """

    source: SourceFile
    digest: str
    spool: Spool | None
    refused: str | None
    origin: Origin | None


def decode_all(
    root: Path, sources: Sequence[SourceFile], sample_rate: int, channels: int, workers: int, spool_folder: Path
) -> Generator[Decoded, None, None]:
    """Decodes files in `workers` threads (soundfile and soxr release the interpreter's lock).

    Args:
        root: the folder of the files.
        sources: the files.
        sample_rate: Hz, of the results.
        channels: of the results.
        workers: files decoded at the same time.
        spool_folder: the folder for unnamed temporary files of large clips.

    Yields:
        The results in the order of `sources`. Each spool is closed when the next result is requested.

    Raises:
        OSError: `spool_folder` cannot be written, for example because the disk is full.
    """
    stop = threading.Event()
    waiting: deque[Future[Decoded]] = deque()
    rest = iter(sources)
    with ThreadPoolExecutor(workers, thread_name_prefix="decode") as pool:
        try:
            while True:
                # Twice the workers: enough to keep all of them busy, few enough to bound memory.
                while len(waiting) < 2 * workers and (source := next(rest, None)):
                    waiting.append(pool.submit(_decode, root, source, sample_rate, channels, spool_folder, stop))
                if not waiting:
                    return
                decoded = waiting[0].result()
                yield decoded
                _close(waiting.popleft())
        finally:
            stop.set()
            pool.shutdown(wait=True, cancel_futures=True)
            for future in waiting:
                _close(future)


def _decode(
    root: Path, source: SourceFile, sample_rate: int, channels: int, spool_folder: Path, stop: threading.Event
) -> Decoded:
    spool = Spool(spool_folder, sample_rate, stop)
    digest = digest_of(root / source.file)
    try:
        origin = decode(root / source.file, sample_rate, spool, channels)
    except Refused as reason:
        spool.file.close()
        return Decoded(source, digest, None, str(reason), None)
    except BaseException:
        spool.file.close()
        raise
    spool.file.seek(0)
    return Decoded(source, digest, spool, None, origin)


def _close(future: Future[Decoded]) -> None:
    if not future.cancelled() and not future.exception() and (spool := future.result().spool):
        spool.file.close()
