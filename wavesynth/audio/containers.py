"""Opening a sound file of any kind: by its content, block by block, forwards only.

libsndfile (through soundfile) reads wav, rf64, w64, flac, ogg, opus, mp3, aiff, au, caf and more. The sound tracks of
m4a, mp4, wma, webm and the like need PyAV, the `formats` extra. What a file is called decides nothing here.
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

from wavesynth.audio.headers import WithLength, mp3_tells_length, ogg_is_whole, read_chunks
from wavesynth.errors import UserError

MIN_SAMPLE_RATE = 1_000
MAX_SAMPLE_RATE = 768_000
_BLOCK = 4_096
"""Frames read at once. Of a damaged file the block that holds the damage is lost, so it is about one FLAC frame."""

# The beginnings of what libsndfile cannot read and PyAV can: (position, bytes, what it is).
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
    """A file that cannot be taken. Its text is the reason, without the file's name."""


@dataclass
class Sound:
    """An opened sound file, to be read once.

    Attributes:
        sample_rate: Hz.
        channels: number of channels.
        blocks: float32 [frames, channels], full scale 1.0, in order.
        warnings: what is amiss with the file; complete when `blocks` is exhausted.
    """

    sample_rate: int
    channels: int
    blocks: Iterator[NDArray[np.float32]]
    warnings: list[str] = field(default_factory=list)


def check_sample_rate(sample_rate: float) -> None:
    """Raises UserError unless the rate is a whole number of Hz that sound can have."""
    whole = isinstance(sample_rate, int | np.integer) and not isinstance(sample_rate, bool)
    if not whole or not MIN_SAMPLE_RATE <= sample_rate <= MAX_SAMPLE_RATE:
        wanted = f"give a whole number of Hz from {MIN_SAMPLE_RATE} to {MAX_SAMPLE_RATE}, such as 16000"
        raise UserError(f"sample_rate={sample_rate!r}: {wanted}")


@contextmanager
def open_sound(path: str | os.PathLike[str]) -> Iterator[Sound]:
    """Opens a sound file; closes it at the end of the `with` block.

    Raises:
        Refused: it is missing, unreadable, not a plain file, or holds no sound in a form that can be read.
    """
    try:
        # A FIFO would block at the very opening.
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise Refused("it is not a plain file")
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
    """What a file is, if PyAV is to read it; None leaves it to libsndfile."""
    for at, magic, kind in _PYAV_KINDS:
        if start[at : at + len(magic)] == magic:
            return kind
    # Of such an MP3 libsndfile reads as much as it guesses that there is.
    if start.startswith(_MP3_BEGINNINGS) and not mp3_tells_length(file) and importlib.util.find_spec("av"):
        return "MP3"
    return None


def _implausible(sample_rate: int) -> str:
    return f"its header says {sample_rate:,} Hz, which is outside {MIN_SAMPLE_RATE:,} to {MAX_SAMPLE_RATE:,}"


def _open_soundfile(file: BinaryIO, stack: ExitStack) -> Sound:
    import soundfile

    class Forwards(soundfile.SoundFile):
        """soundfile seeks after every block it has read, which lands in the wrong place in an MP3 of variable rate."""

        def seekable(self) -> bool:
            return False

    source, warnings = _checked(file)
    try:
        # From the opened file, not the path: by the path libsndfile would guess a kind from the name's ending.
        opened = stack.enter_context(Forwards(source))
    except soundfile.LibsndfileError as error:
        raise Refused(f"it is not sound in a known format ({error.error_string.rstrip('.')})") from None

    def blocks() -> Iterator[NDArray[np.float32]]:
        frames = 0
        try:
            while len(block := opened.read(_BLOCK, dtype="float32", always_2d=True)):
                frames += len(block)
                yield np.asarray(block, np.float32)
        except soundfile.LibsndfileError as error:
            if not frames:
                raise Refused(f"it is damaged from its beginning on ({error.error_string.rstrip('.')})") from None
            warnings.append(f"damaged after {frames / opened.samplerate:.2f} s: what precedes that is taken")
        else:
            there, promised = frames / opened.samplerate, opened.frames / opened.samplerate
            warnings.extend(_missing(file, opened.format, there, promised))

    return Sound(opened.samplerate, opened.channels, blocks(), warnings)


def _checked(file: BinaryIO) -> tuple[Any, list[str]]:
    """A file whose header can be trusted as to its length, and what is amiss with it. Raises Refused."""
    chunks = read_chunks(file)
    file.seek(0)
    if chunks is None:
        return file, []
    if chunks.channels == 0:
        raise Refused("its header says 0 channels")
    if chunks.sample_rate is not None and not MIN_SAMPLE_RATE <= chunks.sample_rate <= MAX_SAMPLE_RATE:
        raise Refused(_implausible(chunks.sample_rate))
    if chunks.streamed:
        warning = "its header gives no length (written to a pipe?): everything to its end is taken"
        return WithLength(file, chunks), [warning]
    if chunks.cut_short and chunks.present:
        return file, [f"cut short: {chunks.present:,} of {chunks.promised:,} bytes of sound are there"]
    return file, []


def _missing(file: BinaryIO, kind: str, there: float, promised: float) -> list[str]:
    """What to say of a file that was read to its end, of which `there` seconds came where it promised others."""
    if kind == "MP3":
        unread = file.seek(0, os.SEEK_CUR) / file.seek(0, os.SEEK_END) < 0.9
        if not mp3_tells_length(file):
            remedy = "convert it to WAV, or `pip install 'wavesynth-jax[formats]'`"
            return [f"an MP3 that tells no length: only {there:.2f} s can be read; {remedy}"] if unread else []
    if there < promised:
        return [f"cut short: {there:.2f} of {promised:.2f} s are there"]
    if kind == "OGG" and not ogg_is_whole(file):
        return [f"cut short: {there:.2f} s are there"]
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
        raise Refused(f"it is {kind} without a sound track")
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
                raise Refused(f"it is damaged from its beginning on ({error.strerror})") from None
            warnings.append(f"damaged after {frames / track.rate:.2f} s: what precedes that is taken")

    return Sound(track.rate, track.channels, blocks(), warnings)
