"""Lengths in headers: believed where they are legal, and what lies behind them is counted."""

import struct
from pathlib import Path

import numpy as np
import pytest
import soundfile

from wavesynth.audio.containers import open_sound
from wavesynth.audio.headers import Chunks, WithLength, read_chunks

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
    found = chunks(path)
    with open(path, "rb") as file, soundfile.SoundFile(WithLength(file, found, found.present)) as sound:
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


# Files that libsndfile refuses or reads as empty.

SOUND = np.arange(1, 1_001).astype("<i2").tobytes()
MORE = b"data" + struct.pack("<I", 600) + bytes(range(200)) * 3
UNKNOWN = "its header gives no length (written to a pipe?): the whole file is read"
IGNORED = "608 bytes after the end of its sound are ignored"


def body(promised: int, tail: bytes = b"") -> bytes:
    """The chunks fmt and data, of 1,000 frames, and other bytes."""
    fmt = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, 1, 16_000, 32_000, 2, 16)
    return fmt + struct.pack("<4sI", b"data", promised) + SOUND + tail


def riff(content: bytes) -> bytes:
    return struct.pack("<4sI4s", b"RIFF", 4 + len(content), b"WAVE") + content


def rf64(content: bytes, length: int, whole: int | None = None) -> bytes:
    """An RF64 file whose ds64 gives these lengths of the sound and of the file."""
    whole = 40 + len(content) if whole is None else whole
    ds64 = struct.pack("<4sIQQQI", b"ds64", 28, whole, length, length // 2, 0)
    return struct.pack("<4sI4s", b"RF64", 2**32 - 1, b"WAVE") + ds64 + content


@pytest.mark.parametrize(
    ("content", "num_frames", "warnings"),
    [
        (rf64(body(2**32 - 1), 2_000), 1_000, []),
        (rf64(body(2**32 - 1), 2_000, whole=0), 1_000, []),
        (rf64(body(2_000), 0), 1_000, []),  # ds64 counts only where the chunk refers to it
        (rf64(body(2**32 - 1, b"LIST\x04\0\0\0INFO"), 2_000), 1_000, []),
        (rf64(body(2**32 - 1), 0), 1_000, [UNKNOWN]),
        (rf64(body(2**32 - 1), 0, whole=0), 1_000, [UNKNOWN]),
        (rf64(body(2**32 - 1), 2**64 - 1, whole=2**64 - 1), 1_000, [UNKNOWN]),
        (b"RF64" + riff(body(2**32 - 1))[4:], 1_000, [UNKNOWN]),  # no ds64
        (rf64(body(2**32 - 1), 1_000), 500, ["1,000 bytes after the end of its sound are ignored"]),
        (rf64(body(2**32 - 1), 9_000), 1_000, ["cut short: it has 2,000 of 9,000 bytes of sound"]),
        (rf64(body(2**32 - 1, MORE), 2_000), 1_000, [IGNORED]),
        (riff(body(2_000, MORE)), 1_000, [IGNORED]),
        (riff(body(2_000))[:-4] + SOUND[-4:] + MORE, 1_000, [IGNORED]),  # behind the end of the RIFF
        (riff(body(0)[: -len(SOUND)] + MORE), 0, [IGNORED]),  # an empty chunk is a chunk
    ],
)
def test_the_first_data_chunk_is_the_sound(tmp_path: Path, content: bytes, num_frames: int, warnings: list[str]):
    (tmp_path / "x.wav").write_bytes(content)
    with open_sound(tmp_path / "x.wav") as sound:
        samples = np.concatenate([np.zeros((0, 1), np.float32), *sound.blocks])
    np.testing.assert_array_equal(samples[:, 0] * 2**15, np.arange(1, num_frames + 1))
    assert sound.warnings == warnings


def test_rf64_of_over_4_gib(tmp_path: Path):
    path, size = tmp_path / "x.wav", 5 * GIB
    content = rf64(body(2**32 - 1), size)
    with open(path, "wb") as file:
        file.write(content[: -len(SOUND)])
        file.truncate(len(content) - len(SOUND) + size)
    found = chunks(path)
    assert (found.promised, found.behind, found.length_unknown, found.cut_short) == (size, 0, False, False)
    assert frames(path) == size // 2
