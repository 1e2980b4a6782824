"""What the headers of sound files promise, read without trusting them.

libsndfile silently takes what is there of a WAV, AIFF or Ogg file that was cut short, takes nothing of a WAV whose
length was never filled in, and guesses the length of an MP3 that does not tell it. To name these cases and to mend what
can be mended, the files are looked at here.
"""

import io
import os
import struct
from dataclasses import dataclass
from typing import BinaryIO

_UNKNOWN_LENGTH = 0x7FFF0000
"""Writers to a pipe put 0xFFFFFFFF or nearly 0x7FFFFFFF where the length of the data belongs."""
_LONGEST_PAGE = 65_307
"""Bytes of an Ogg page, at most."""


@dataclass(frozen=True)
class Chunks:
    """The chunks of a RIFF/WAVE or FORM/AIFF file.

    Attributes:
        form: "WAVE" or "AIFF".
        channels: as its fmt chunk says; None for AIFF or without such a chunk.
        sample_rate: Hz, likewise.
        length_at: position of the four bytes that give the length of the sound data.
        promised: bytes of sound data by those four bytes.
        present: bytes from the beginning of the sound data to the end of the file.
        closed: whether the length of the whole file was filled in, so that a `promised` of 0 means what it says.
    """

    form: str
    channels: int | None
    sample_rate: int | None
    length_at: int
    promised: int
    present: int
    closed: bool

    @property
    def streamed(self) -> bool:
        """Whether it is a WAV whose writer could not go back to fill in the length (a pipe, a crash), with sound."""
        unknown = self.promised >= _UNKNOWN_LENGTH or (self.promised == 0 and not self.closed)
        return self.form == "WAVE" and self.present > 0 and unknown

    @property
    def cut_short(self) -> bool:
        """Whether less sound is there than promised."""
        return self.promised > self.present and not self.streamed


def read_chunks(file: BinaryIO) -> Chunks | None:
    """Walks the chunks up to the sound data; None when the file is of another kind or has no sound data."""
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    start = file.read(12)
    if start[:4] == b"RIFF" and start[8:] == b"WAVE":
        form, order, sound = "WAVE", "<", b"data"
    elif start[:4] == b"FORM" and start[8:] in (b"AIFF", b"AIFC"):
        form, order, sound = "AIFF", ">", b"SSND"
    else:
        return None
    (total,) = struct.unpack(order + "I", start[4:8])
    channels = sample_rate = None
    while len(chunk := file.read(8)) == 8:
        kind, (length,) = chunk[:4], struct.unpack(order + "I", chunk[4:])
        begin = file.tell()
        if kind == sound:
            # Until it is filled in it is 0, the greatest number, or ends where the sound data begins.
            closed = begin < 8 + total < 0xFFFFFFFF or begin == size
            return Chunks(form, channels, sample_rate, begin - 4, length, size - begin, closed)
        if kind == b"fmt ":
            fmt = file.read(8)
            if len(fmt) == 8:
                _, channels, sample_rate = struct.unpack("<HHI", fmt)
        file.seek(begin + length + length % 2)
    return None


def ogg_is_whole(file: BinaryIO) -> bool:
    """Whether an Ogg file ends with a whole page that says that it is the last."""
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - _LONGEST_PAGE))
    end = file.read()
    page = end[end.rfind(b"OggS") :]
    if not page.startswith(b"OggS") or len(page) < 27:
        return False
    num_segments = page[26]
    return bool(page[5] & 4) and len(page) >= 27 + num_segments + sum(page[27 : 27 + num_segments])


def mp3_tells_length(file: BinaryIO) -> bool:
    """Whether the first frame of an MP3 holds a table that tells its length; without it, it can only be guessed."""
    file.seek(0)
    tag = file.read(10)
    begin = 0
    if tag[:3] == b"ID3" and len(tag) == 10:
        begin = 10 + sum(byte << shift for byte, shift in zip(tag[6:], (21, 14, 7, 0)))
    file.seek(begin)
    frame = file.read(256)
    return any(mark in frame for mark in (b"Xing", b"Info", b"VBRI"))


class WithLength(io.RawIOBase):
    """A read-only view of a WAV file in which the sound data's length is what is there.

    Args:
        file: opened for reading in binary.
        chunks: what `read_chunks` found in it.
    """

    def __init__(self, file: BinaryIO, chunks: Chunks):
        self._file = file
        self._at = chunks.length_at
        self._length = struct.pack("<I", min(chunks.present, 0xFFFFFFFE))

    def read(self, size: int = -1) -> bytes:
        """Bytes of the file, the mended length in their midst."""
        begin = self._file.tell()
        content = bytearray(self._file.read(size))
        for position, byte in enumerate(self._length, self._at - begin):
            if 0 <= position < len(content):
                content[position] = byte
        return bytes(content)

    def readinto(self, buffer: memoryview) -> int:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Fills a buffer; returns how many bytes were there."""
        content = self.read(len(buffer))
        buffer[: len(content)] = content
        return len(content)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Moves the position, as in the file."""
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        """The position in the file."""
        return self._file.tell()
