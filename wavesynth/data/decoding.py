"""Many files decoded at the same time, their results in order, at constant memory."""

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

from wavesynth.audio.files import Refused, decode
from wavesynth.audio.pcm import to_int16
from wavesynth.data.corpus import SourceFile

_SPOOL_BYTES = 4 * 2**20
"""A decoded clip waits for its turn in memory up to this size, above it on the disk."""


class _Stopped(Exception):
    """Ends the decoding of files whose result nobody waits for any more."""


class Spool:
    """A sink that keeps a clip as little-endian int16 bytes and hashes it.

    Attributes:
        file: the bytes; to be closed by whoever has used them.
        num_samples: how many there are.
    """

    def __init__(self, folder: Path, stop: threading.Event):
        self.file = tempfile.SpooledTemporaryFile(max_size=_SPOOL_BYTES, dir=str(folder))  # noqa: SIM115
        self._stop = stop
        self.restart()

    @property
    def sha256(self) -> str:
        """Of the bytes so far."""
        return self._digest.hexdigest()

    def append(self, samples: NDArray[np.float32]) -> None:
        """Takes the next block [T]."""
        if self._stop.is_set():
            raise _Stopped
        pcm = to_int16(samples).astype("<i2", copy=False).tobytes()
        self.file.write(pcm)
        self._digest.update(pcm)
        self.num_samples += len(samples)

    def restart(self) -> None:
        """Forgets every block."""
        self.file.seek(0)
        self.file.truncate()
        self._digest = sha256()
        self.num_samples = 0


@dataclass(frozen=True)
class Decoded:
    """A file's sound, or the reason why there is none.

    Attributes:
        source: the file.
        spool: its samples; None when refused.
        refused: the reason, or None.
        warnings: what is amiss with a file that was taken.
    """

    source: SourceFile
    spool: Spool | None
    refused: str | None
    warnings: tuple[str, ...]


def decode_all(
    root: Path, sources: Sequence[SourceFile], sample_rate: int, workers: int, spool_folder: Path
) -> Generator[Decoded, None, None]:
    """Decodes files to `sample_rate` Hz in `workers` threads (soundfile and soxr let others run meanwhile).

    Results come in the order of `sources`; each spool is closed when the next result is asked for. Spools too large for
    memory lie in `spool_folder`, without a name.

    Raises:
        OSError: `spool_folder` cannot be written, for example because the disk is full.
    """
    stop = threading.Event()
    waiting: deque[Future[Decoded]] = deque()
    rest = iter(sources)
    with ThreadPoolExecutor(workers, thread_name_prefix="decode") as pool:
        try:
            while True:
                # As many again as are worked at: enough to keep everybody busy, few enough to bound memory.
                while len(waiting) < 2 * workers and (source := next(rest, None)):
                    waiting.append(pool.submit(_decode, root, source, sample_rate, spool_folder, stop))
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


def _decode(root: Path, source: SourceFile, sample_rate: int, spool_folder: Path, stop: threading.Event) -> Decoded:
    spool = Spool(spool_folder, stop)
    try:
        warnings = decode(root / source.file, sample_rate, spool)
    except Refused as reason:
        spool.file.close()
        return Decoded(source, None, str(reason), ())
    except BaseException:
        spool.file.close()
        raise
    spool.file.seek(0)
    return Decoded(source, spool, None, warnings)


def _close(future: Future[Decoded]) -> None:
    if not future.cancelled() and not future.exception() and (spool := future.result().spool):
        spool.file.close()
