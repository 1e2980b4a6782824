"""Checks the headers of sound files against their contents.

libsndfile silently reads the rest of a truncated WAV, AIFF or Ogg file, reads nothing of a WAV or RF64 whose length was never
filled in, ignores data after the length of a WAV, rejects a WAV with two data chunks, and guesses the length of an MP3 that
does not give it. The functions here detect these cases. A length that is possible is believed, and the first data chunk is the
sound.
"""

import io
import os
import struct
from dataclasses import dataclass
from typing import BinaryIO

_IN_DS64 = 2**32 - 1
"""The 32-bit length of an RF64 chunk whose length is in the chunk ds64. In a WAV it means that the length is unknown."""
_MOST_BYTES = _IN_DS64 - 1
"""The largest length in a WAV header."""
_LONGEST_FILE = 2**62
"""RF64 lengths from here on are placeholders."""
_TAGS = (b"TAG", b"ID3", b"APETAGEX", b"LYRICSBEGIN")
"""Magic bytes of tags that programs append to a WAV without a chunk."""
_LONGEST_PADDING = 2**20
_LONGEST_PAGE = 65_307
"""The largest size of an Ogg page, bytes."""


@dataclass(frozen=True)
class Chunks:
    """The chunks of a RIFF/WAVE, RF64 or FORM/AIFF file.

    Attributes:
        form: "WAVE", "RF64" or "AIFF".
        channels: of the fmt chunk; None for AIFF or without such a chunk.
        sample_rate: Hz, likewise.
        begin: position of the sound data.
        promised: bytes of sound data according to the header.
        present: bytes from `begin` to the end of the file.
        behind: bytes after the promised sound data that are not chunks, tags or padding, and further chunks of sound.
        more_sound: the bytes of those further chunks.
        skipped: position after the chunk ds64, which a header with another length cannot keep; 12 if there is none.
    """

    form: str
    channels: int | None
    sample_rate: int | None
    begin: int
    promised: int
    present: int
    behind: int
    more_sound: int
    skipped: int

    @property
    def length_unknown(self) -> bool:
        """Whether the length of a WAV or RF64 was never filled in, because it was written to a pipe or the writer crashed.

        The header then has a length that does not match the file: 0 or the largest one, and in a WAV also a value near
        0x7FFFFFFF or 0xFFFFFFFF.
        """
        if self.form == "RF64":
            placeholder = self.promised in (0, _IN_DS64) or self.promised >= _LONGEST_FILE
        else:
            placeholder = self.promised == 0 or 0x7FFF0000 <= self.promised <= 0x80000000 or self.promised >= 0xFFFF0000
        fits = self.promised <= self.present and self.behind == self.more_sound
        return self.form != "AIFF" and self.present > 0 and placeholder and not fits

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
    elif start[:4] == b"RF64" and start[8:] == b"WAVE":
        form, order, sound = "RF64", "<", b"data"
    elif start[:4] == b"FORM" and start[8:] in (b"AIFF", b"AIFC"):
        form, order, sound = "AIFF", ">", b"SSND"
    else:
        return None
    channels = sample_rate = None
    long_length, skipped = _IN_DS64, 12
    while len(chunk := file.read(8)) == 8:
        kind, (length,) = chunk[:4], struct.unpack(order + "I", chunk[4:])
        begin = file.tell()
        if kind == sound:
            length = long_length if form == "RF64" and length == _IN_DS64 else length
            end = begin + length
            # Many writers omit the padding byte after an odd length.
            behind, more = min(_stray_bytes(file, at, size, order, sound) for at in {end, end + length % 2})
            return Chunks(form, channels, sample_rate, begin, length, size - begin, behind, more, skipped)
        if kind == b"ds64" and form == "RF64" and begin == 20 and len(lengths := file.read(16)) == 16:
            _, long_length = struct.unpack("<QQ", lengths)
            skipped = begin + length + length % 2
        if kind == b"fmt ":
            fmt = file.read(8)
            if len(fmt) == 8:
                _, channels, sample_rate = struct.unpack("<HHI", fmt)
        file.seek(begin + length + length % 2)
    return None


def _stray_bytes(file: BinaryIO, at: int, size: int, order: str, sound: bytes) -> tuple[int, int]:
    """The number of bytes from `at` to the end that are not chunks, tags or padding, and of those that are more sound.

    The first number includes the second.
    """
    more = 0
    while at < size - 1:
        file.seek(at)
        start = file.read(16)
        if start.startswith(_TAGS):
            return more, more
        kind, length = start[:4], struct.unpack(order + "I", start[4:8])[0] if len(start) >= 8 else 0
        named = len(kind) == 4 and all(0x20 <= byte < 0x7F for byte in kind)
        end = at + 8 + length + length % 2
        if not named or end > size + 1:
            return more if _is_padding(file, at, size) else more + size - at, more
        more += min(8 + length, size - at) if kind == sound else 0
        at = end
    return more, more


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


class WithLength(io.RawIOBase):
    """A read-only view of a WAV or RF64 file in which the sound data has another length and ends the file.

    It has a new header: RF64, if a length does not fit in the 32 bits of a WAV.

    Args:
        file: opened for reading in binary.
        chunks: its chunks, from `read_chunks`.
        length: bytes of sound data, at most `chunks.present`.
    """

    def __init__(self, file: BinaryIO, chunks: Chunks, length: int):
        self._file = file
        self._begin = chunks.begin
        self._length = length
        file.seek(chunks.skipped)
        kept = file.read(chunks.begin - chunks.skipped)[:-4]
        if length <= _MOST_BYTES - chunks.begin:
            riff = struct.pack("<4sI4s", b"RIFF", 8 + len(kept) + length, b"WAVE")
            self._head = riff + kept + struct.pack("<I", length)
        else:
            ds64 = struct.pack("<4sIQQQI", b"ds64", 28, 44 + len(kept) + length, length, 0, 0)
            self._head = struct.pack("<4sI4s", b"RF64", _IN_DS64, b"WAVE") + ds64 + kept + struct.pack("<I", _IN_DS64)
        self._position = 0

    def readable(self) -> bool:
        """True."""
        return True

    def readinto(self, buffer: memoryview) -> int:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Fills a buffer; returns how many bytes were there."""
        content = self._head[self._position : self._position + len(buffer)]
        if len(content) < len(buffer):
            at = self._position + len(content) - len(self._head)
            self._file.seek(self._begin + at)
            content += self._file.read(max(0, min(len(buffer) - len(content), self._length - at)))
        buffer[: len(content)] = content
        self._position += len(content)
        return len(content)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Moves the position."""
        size = len(self._head) + self._length
        self._position = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: size}[whence]
        return self._position

    def tell(self) -> int:
        """The position."""
        return self._position
