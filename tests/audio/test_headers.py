"""Lengths in headers: believed where they are legal, and what lies behind them is counted."""

import struct
from pathlib import Path

import pytest
import soundfile

from wavesynth.audio.headers import Chunks, WholeLength, read_chunks

GIB = 2**30


def sparse(path: Path, promised: int, present: int, tail: bytes = b"", frame: int = 6) -> Path:
    """A WAV whose sound is a hole of `present` bytes, and with these bytes behind it."""
    fmt = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, 2, 44_100, 44_100 * frame, frame, 4 * frame)
    with open(path, "wb") as file:
        file.write(struct.pack("<4sI4s", b"RIFF", (36 + promised) % 2**32, b"WAVE") + fmt)
        file.write(struct.pack("<4sI", b"data", promised))
        file.seek(44 + present)
        file.write(tail)
        file.truncate(44 + present + len(tail))
    return path


def chunks(path: Path) -> Chunks:
    with open(path, "rb") as file:
        found = read_chunks(file)
    assert found is not None
    return found


def frames(path: Path) -> int:
    """How many frames libsndfile sees in a file whose length is not to be trusted."""
    with open(path, "rb") as file, soundfile.SoundFile(WholeLength(file, chunks(path))) as sound:
        return sound.frames


ID3 = b"id3 " + struct.pack("<I", 4_000) + bytes(range(256)) * 16


@pytest.mark.parametrize("tail", [b"", ID3[:4_008], b"TAG" + b"x" * 125, b"ID3\x04" + b"x" * 99, bytes(999)])
@pytest.mark.parametrize("size", [2_300_000_004, 2**31 - 2, 6_000, 0xFFFF0000 - 6])
def test_a_legal_size_is_believed(tmp_path: Path, size: int, tail: bytes):
    found = chunks(sparse(tmp_path / "x.wav", size - size % 6, size - size % 6, tail))
    assert not found.length_unknown
    assert not found.length_wrapped
    assert not found.cut_short
    assert found.behind == 0


def test_a_forgotten_padding_byte_is_no_loss(tmp_path: Path):
    for padding in (b"", b"\0"):
        found = chunks(sparse(tmp_path / "x.wav", 6_001, 6_001, padding + b"LIST\x04\0\0\0INFO"))
        assert found.behind == 0


@pytest.mark.parametrize("tail", [b"junk" * 200, b"\xff" * 33, b"LIST\xff\0\0\0", b"data\x20\0\0\0" + b"x" * 32])
def test_other_bytes_behind_are_counted(tmp_path: Path, tail: bytes):
    found = chunks(sparse(tmp_path / "x.wav", 6_000, 6_000, tail))
    assert found.behind == len(tail)
    assert not found.length_unknown


@pytest.mark.parametrize("promised", [0, 2**32 - 1, 2**31 - 1, 0x7FFFF000, 0x80000000])
def test_a_length_that_was_never_filled_in(tmp_path: Path, promised: int):
    path = sparse(tmp_path / "x.wav", promised, 6_000, b"\xff" * 6)
    assert chunks(path).length_unknown
    assert frames(path) == 1_001


def test_a_length_that_has_lost_its_upper_part(tmp_path: Path):
    size = 5 * GIB + 1
    size -= size % 6
    path = sparse(tmp_path / "x.wav", size % 2**32, size, b"\xff" * 6)
    assert chunks(path).length_wrapped
    assert frames(path) == size // 6 + 1


def test_a_pipe_of_over_4_gib(tmp_path: Path):
    path = sparse(tmp_path / "x.wav", 2**32 - 1, 6 * GIB)
    assert chunks(path).length_unknown
    assert frames(path) == GIB


def test_what_is_cut_short(tmp_path: Path):
    assert chunks(sparse(tmp_path / "x.wav", 6_000, 3_000)).cut_short
    assert chunks(sparse(tmp_path / "x.wav", 3 * GIB, 6_000)).cut_short
