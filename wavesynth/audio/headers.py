"""Checks the headers of sound files against their contents.

libsndfile silently reads the rest of a truncated WAV, AIFF or Ogg file, reads nothing of a WAV whose length was never
filled in, ignores data after the length of a WAV, and guesses the length of an MP3 that does not give it. The functions
here detect these cases.
"""

import io
import os
import struct
from dataclasses import dataclass
from typing import BinaryIO

_MOST_BYTES = 2**32 - 2
"""The largest length in a WAV header; one more means that the length is unknown."""
_TAGS = (b"TAG", b"ID3", b"APETAGEX", b"LYRICSBEGIN")
"""Magic bytes of tags that programs append to a WAV without a chunk."""
_LONGEST_PADDING = 2**20
_LONGEST_PAGE = 65_307
"""The largest size of an Ogg page, bytes."""


@dataclass(frozen=True)
class Chunks:
    """The chunks of a RIFF/WAVE or FORM/AIFF file.

    Attributes:
        form: "WAVE" or "AIFF".
        channels: of the fmt chunk; None for AIFF or without such a chunk.
        sample_rate: Hz, likewise.
        begin: position of the sound data.
        promised: bytes of sound data according to the header.
        present: bytes from `begin` to the end of the file.
        behind: bytes after the promised sound data that are not chunks, tags or padding.
    """

    form: str
    channels: int | None
    sample_rate: int | None
    begin: int
    promised: int
    present: int
    behind: int

    @property
    def length_unknown(self) -> bool:
        """Whether the length of a WAV was never filled in, because it was written to a pipe or the writer crashed.

        The header then has 0, 0xFFFFFFFF, or a value near 0x7FFFFFFF, which does not match the file.
        """
        placeholder = self.promised == 0 or 0x7FFF0000 <= self.promised <= 0x80000000 or self.promised >= 0xFFFF0000
        fits = self.promised <= self.present and not self.behind
        return self.form == "WAVE" and self.present > 0 and placeholder and not fits

    @property
    def length_wrapped(self) -> bool:
        """Whether it is a WAV of over 4 GiB whose length overflowed 32 bits."""
        return self.form == "WAVE" and self.behind > 0 and self.present > _MOST_BYTES and not self.length_unknown

    @property
    def cut_short(self) -> bool:
        """Whether there is less sound than promised."""
        return self.promised > self.present and not self.length_unknown


def read_chunks(file: BinaryIO) -> Chunks | None:
    """Reads the chunks of a file; None if it is of another kind or has no sound data."""
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    start = file.read(12)
    if start[:4] == b"RIFF" and start[8:] == b"WAVE":
        form, order, sound = "WAVE", "<", b"data"
    elif start[:4] == b"FORM" and start[8:] in (b"AIFF", b"AIFC"):
        form, order, sound = "AIFF", ">", b"SSND"
    else:
        return None
    channels = sample_rate = None
    while len(chunk := file.read(8)) == 8:
        kind, (length,) = chunk[:4], struct.unpack(order + "I", chunk[4:])
        begin = file.tell()
        if kind == sound:
            end = begin + length
            # Many writers omit the padding byte after an odd length.
            behind = min(_stray_bytes(file, at, size, order, sound) for at in {end, end + length % 2})
            return Chunks(form, channels, sample_rate, begin, length, size - begin, behind)
        if kind == b"fmt ":
            fmt = file.read(8)
            if len(fmt) == 8:
                _, channels, sample_rate = struct.unpack("<HHI", fmt)
        file.seek(begin + length + length % 2)
    return None


def _stray_bytes(file: BinaryIO, at: int, size: int, order: str, sound: bytes) -> int:
    """The number of bytes from `at` to the end that are not chunks, tags or padding. More sound counts too."""
    stray = 0
    while at < size - 1:
        file.seek(at)
        start = file.read(16)
        if start.startswith(_TAGS):
            return stray
        kind, length = start[:4], struct.unpack(order + "I", start[4:8])[0] if len(start) >= 8 else 0
        named = len(kind) == 4 and all(0x20 <= byte < 0x7F for byte in kind)
        end = at + 8 + length + length % 2
        if not named or end > size + 1:
            return stray if _is_padding(file, at, size) else stray + size - at
        stray += 8 + length if kind == sound else 0
        at = end
    return stray


def _is_padding(file: BinaryIO, at: int, size: int) -> bool:
    """Whether the rest of a file is a short run of zeros."""
    file.seek(at)
    return size - at <= _LONGEST_PADDING and not any(file.read(size - at))


def ogg_is_whole(file: BinaryIO) -> bool:
    """Whether an Ogg file ends with a complete page that is marked as the last."""
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - _LONGEST_PAGE))
    end = file.read()
    page = end[end.rfind(b"OggS") :]
    if not page.startswith(b"OggS") or len(page) < 27:
        return False
    num_segments = page[26]
    return bool(page[5] & 4) and len(page) >= 27 + num_segments + sum(page[27 : 27 + num_segments])


def mp3_gives_length(file: BinaryIO) -> bool:
    """Whether the first frame of an MP3 holds a table with its length. Otherwise, the length can only be guessed."""
    file.seek(0)
    tag = file.read(10)
    begin = 0
    if tag[:3] == b"ID3" and len(tag) == 10:
        begin = 10 + sum(byte << shift for byte, shift in zip(tag[6:], (21, 14, 7, 0)))
    file.seek(begin)
    frame = file.read(256)
    return any(mark in frame for mark in (b"Xing", b"Info", b"VBRI"))


class WholeLength(io.RawIOBase):
    """A read-only view of a WAV file in which the sound data extends to the end of the file.

    It has a new header: RF64, if a length does not fit in the 32 bits of a WAV.

    Args:
        file: opened for reading in binary.
        chunks: its chunks, from `read_chunks`.
    """

    def __init__(self, file: BinaryIO, chunks: Chunks):
        self._file = file
        self._begin = chunks.begin
        self._size = chunks.begin + chunks.present
        file.seek(0)
        old = file.read(chunks.begin)
        length = chunks.present
        if length <= _MOST_BYTES - chunks.begin:
            sizes = struct.pack("<I", chunks.begin - 8 + length), struct.pack("<I", length)
            self._head = old[:4] + sizes[0] + old[8:-4] + sizes[1]
        else:
            ds64 = struct.pack("<4sIQQQI", b"ds64", 28, chunks.begin + 28 + length, length, 0, 0)
            unknown = b"\xff\xff\xff\xff"
            self._head = b"RF64" + unknown + b"WAVE" + ds64 + old[12:-4] + unknown
        self._position = 0

    def readable(self) -> bool:
        """True."""
        return True

    def readinto(self, buffer: memoryview) -> int:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Fills a buffer; returns how many bytes were there."""
        content = self._head[self._position : self._position + len(buffer)]
        if len(content) < len(buffer):
            self._file.seek(self._begin + self._position + len(content) - len(self._head))
            content += self._file.read(len(buffer) - len(content))
        buffer[: len(content)] = content
        self._position += len(content)
        return len(content)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Moves the position."""
        size = len(self._head) + self._size - self._begin
        self._position = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: size}[whence]
        return self._position

    def tell(self) -> int:
        """The position."""
        return self._position
