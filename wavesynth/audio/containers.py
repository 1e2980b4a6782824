"""Opens sound files of any format and reads them block by block.

libsndfile (through soundfile) reads wav, rf64, w64, flac, ogg, opus, mp3, aiff, au, caf and more. The audio tracks of m4a,
mp4, wma, webm and similar files need PyAV, the extra `formats`. The format is detected from the content; the file name does
not matter.
"""

import importlib
import importlib.util
import os
import stat
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from wavesynth.audio.headers import WithLength, mp3_gives_length, ogg_is_whole, read_chunks
from wavesynth.errors import UserError

MIN_SAMPLE_RATE = 1_000
MAX_SAMPLE_RATE = 768_000
_OGG_SURROUND = (0, 2, 1, 5, 3, 4)
"""Where WAV's channels L, R, C, LFE, Ls, Rs are in a 5.1 Ogg file, whose order is L, C, R, Ls, Rs, LFE."""
_BLOCK = 4_096
"""Frames read at once, about one FLAC frame. In a damaged file, a whole block is lost."""

# Magic bytes of files that PyAV reads and libsndfile does not: (position, bytes, format).
_PYAV_KINDS = (
    (4, b"ftyp", "MP4 or M4A"),
    (0, bytes.fromhex("3026b2758e66cf11"), "WMA or WMV"),
    (0, bytes.fromhex("1a45dfa3"), "WebM or Matroska"),
    (0, b"\xff\xf1", "AAC"),
    (0, b"\xff\xf9", "AAC"),
    (0, b"ADIF", "AAC"),
    (0, b"MAC ", "Monkey's Audio"),
    (0, b"wvpk", "WavPack"),
    (0, b"#!AMR", "AMR"),
)
_MP3_BEGINNINGS = (b"ID3", b"\xff\xfb", b"\xff\xfa", b"\xff\xf3", b"\xff\xf2")


class Refused(Exception):
    """A file that cannot be read as sound. The message is the reason, without the file's name."""


@dataclass
class Sound:
    """A sound that can be read once, from beginning to end.

    Attributes:
        sample_rate: Hz.
        channels: number of channels.
        blocks: float32 [frames, channels], full scale 1.0, in order. The channels are in the order of WAV.
        warnings: problems found; complete when `blocks` is exhausted.
    """

    sample_rate: int
    channels: int
    blocks: Iterator[NDArray[np.float32]]
    warnings: list[str] = field(default_factory=list)


def check_sample_rate(sample_rate: float) -> None:
    """Raises UserError unless the sample rate is a whole number from 1,000 to 768,000 Hz.

    >>> check_sample_rate(44_100)
    """
    whole = isinstance(sample_rate, int | np.integer) and not isinstance(sample_rate, bool)
    if not whole or not MIN_SAMPLE_RATE <= sample_rate <= MAX_SAMPLE_RATE:
        wanted = f"give a whole number of Hz from {MIN_SAMPLE_RATE} to {MAX_SAMPLE_RATE}, such as 16000"
        raise UserError(f"sample_rate={sample_rate!r}: {wanted}")


@contextmanager
def open_sound(path: str | os.PathLike[str]) -> Iterator[Sound]:
    """Opens a sound file and closes it at the end of the `with` block.

    Raises:
        Refused: the file is missing, unreadable, not a regular file, or holds no sound in a known format.
    """
    try:
        # Opening a FIFO would block.
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise Refused("it is not a regular file")
        file = open(path, "rb")  # noqa: SIM115, the stack below closes it
    except OSError as error:
        raise Refused(str(error.strerror).lower()) from None
    with ExitStack() as stack:
        stack.callback(file.close)
        start = file.read(64)
        if not start:
            raise Refused("it is empty (0 bytes)")
        kind = _pyav_kind(file, start)
        sound = _open_soundfile(file, stack) if kind is None else _open_pyav(kind, file, stack)
        if not MIN_SAMPLE_RATE <= sound.sample_rate <= MAX_SAMPLE_RATE:
            raise Refused(_implausible(sound.sample_rate))
        yield sound


def _pyav_kind(file: BinaryIO, start: bytes) -> str | None:
    """The format of a file that only PyAV reads; None for libsndfile."""
    for at, magic, kind in _PYAV_KINDS:
        if start[at : at + len(magic)] == magic:
            return kind
    # libsndfile guesses the length of an MP3 that does not give it, and reads no further.
    if start.startswith(_MP3_BEGINNINGS) and not mp3_gives_length(file) and importlib.util.find_spec("av"):
        return "MP3"
    return None


def _implausible(sample_rate: int) -> str:
    return f"its header says {sample_rate:,} Hz, which is outside {MIN_SAMPLE_RATE:,} to {MAX_SAMPLE_RATE:,}"


def _open_soundfile(file: BinaryIO, stack: ExitStack) -> Sound:
    import soundfile

    class Forwards(soundfile.SoundFile):
        """Never seeks. soundfile seeks after every block, inexactly in MP3s with variable bit rate."""

        def seekable(self) -> bool:
            return False

    source, warnings = _checked(file)
    try:
        # By file object, not by path: libsndfile would guess the format from the extension.
        opened = stack.enter_context(Forwards(source))
    except soundfile.LibsndfileError as error:
        raise Refused(f"it is not sound in a known format ({error.error_string.rstrip('.')})") from None

    def blocks() -> Iterator[NDArray[np.float32]]:
        frames = 0
        order = list(_OGG_SURROUND if (opened.format, opened.channels) == ("OGG", 6) else range(opened.channels))
        try:
            while len(block := opened.read(_BLOCK, dtype="float32", always_2d=True)):
                frames += len(block)
                yield np.asarray(block[:, order], np.float32)
        except soundfile.LibsndfileError as error:
            if not frames:
                raise Refused(f"it is damaged from the beginning ({error.error_string.rstrip('.')})") from None
            warnings.append(f"damaged after {frames / opened.samplerate:.2f} s: only the part before is used")
        else:
            there, promised = frames / opened.samplerate, opened.frames / opened.samplerate
            warnings.extend(_missing(file, opened.format, there, promised))

    return Sound(opened.samplerate, opened.channels, blocks(), warnings)


def _checked(file: BinaryIO) -> tuple[Any, list[str]]:
    """The file, or a view of it with a corrected header, and warnings. Raises Refused."""
    chunks = read_chunks(file)
    file.seek(0)
    if chunks is None:
        return file, []
    if chunks.channels == 0:
        raise Refused("its header says 0 channels")
    if chunks.sample_rate is not None and not MIN_SAMPLE_RATE <= chunks.sample_rate <= MAX_SAMPLE_RATE:
        raise Refused(_implausible(chunks.sample_rate))
    if chunks.length_unknown:
        whole = WithLength(file, chunks, chunks.present)
        return whole, ["its header gives no length (written to a pipe?): the whole file is read"]
    if chunks.length_wrapped:
        whole = WithLength(file, chunks, chunks.present)
        return whole, ["it is too large for the length in a WAV header (4 GiB): the whole file is read"]
    warnings = []
    if chunks.cut_short and chunks.present:
        warnings = [f"cut short: it has {chunks.present:,} of {chunks.promised:,} bytes of sound"]
    elif chunks.behind:
        warnings = [f"{chunks.behind:,} bytes after the end of its sound are ignored"]
    if chunks.form == "RF64" or (chunks.form == "WAVE" and chunks.more_sound):
        return WithLength(file, chunks, min(chunks.promised, chunks.present)), warnings
    return file, warnings


def _missing(file: BinaryIO, kind: str, there: float, promised: float) -> list[str]:
    """Warnings about a file that was read to its end: it has `there` of the `promised` seconds."""
    if kind == "MP3":
        unread = file.seek(0, os.SEEK_CUR) / file.seek(0, os.SEEK_END) < 0.9
        if not mp3_gives_length(file):
            remedy = "convert it to WAV, or `pip install 'wavesynth-jax[formats]'`"
            return [f"an MP3 without a length: only {there:.2f} s can be read; {remedy}"] if unread else []
    if there < promised:
        return [f"cut short: it has {there:.2f} of {promised:.2f} s"]
    if kind == "OGG" and not ogg_is_whole(file):
        return [f"cut short: it has {there:.2f} s"]
    return []


def _open_pyav(kind: str, file: BinaryIO, stack: ExitStack) -> Sound:
    try:
        av: Any = importlib.import_module("av")
    except ImportError:
        raise Refused(f"it is {kind}, which needs `pip install 'wavesynth-jax[formats]'`") from None
    file.seek(0)
    try:
        container = stack.enter_context(av.open(file, metadata_errors="replace"))
    except av.FFmpegError as error:
        raise Refused(f"it is not sound in a known format ({error.strerror})") from None
    if not container.streams.audio:
        raise Refused(f"it is {kind} without an audio track")
    track = container.streams.audio[0]
    warnings = []

    def blocks() -> Iterator[NDArray[np.float32]]:
        planar = av.AudioResampler(format="fltp")
        frames = 0
        try:
            for packed in container.decode(track):
                for frame in planar.resample(packed):
                    frames += frame.samples
                    yield frame.to_ndarray().T
        except av.FFmpegError as error:
            if not frames:
                raise Refused(f"it is damaged from the beginning ({error.strerror})") from None
            warnings.append(f"damaged after {frames / track.rate:.2f} s: only the part before is used")

    return Sound(track.rate, track.channels, blocks(), warnings)
