"""A folder of sounds as users have them: odd, broken and hostile files, each with the treatment it is promised."""

import os
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from numpy.typing import NDArray

RATE = 16_000
SECONDS = 0.3


@dataclass(frozen=True)
class Case:
    """One file.

    Attributes:
        file: its path, relative.
        treatment: "taken", "warned" (taken with a warning), "refused", "duplicate" or "ignored".
        write: makes it, given its path and a sound that no other case has: float64 [T] for a rate in Hz.
        says: part of the reason or the warning.
        seconds: length of what is taken of it; None where it is not worth a metric.
    """

    file: str
    treatment: str
    write: Callable[[Path, Callable[[int], NDArray[np.float64]]], None]
    says: str = ""
    seconds: float | None = SECONDS


def sound(name: str, rate: int) -> NDArray[np.float64]:
    """A decaying note with a breath of noise [SECONDS * rate], peak about 0.5; pitch and noise go by the name."""
    seed = zlib.crc32(name.encode(errors="surrogateescape"))
    time = np.arange(int(SECONDS * rate)) / rate
    note = 0.5 * np.sin(2 * np.pi * (200 + seed % 1_000) * time) * np.exp(-6 * time)
    return note + 0.001 * np.random.default_rng(seed).standard_normal(len(time))


def pcm(samples: NDArray[np.float64]) -> bytes:
    """int16, little-endian."""
    return np.clip(np.rint(samples * 32768), -32768, 32767).astype("<i2").tobytes()


def wav(
    data: bytes,
    *,
    rate: int = RATE,
    channels: int = 1,
    promised: int | None = None,
    total: int | None = None,
    chunks: bytes = b"",
    kind: int = 1,
    bits: int = 16,
) -> bytes:
    """A WAV byte by byte; `promised` and `total` are the lengths its header tells of the data and of the whole."""
    width = channels * bits // 8
    fmt = struct.pack("<4sIHHIIHH", b"fmt ", 16, kind, channels, rate, rate * width % 2**32, width, bits)
    size = len(data) if promised is None else promised
    body = b"WAVE" + fmt + chunks + struct.pack("<4sI", b"data", size) + data
    return struct.pack("<4sI", b"RIFF", len(body) if total is None else total) + body


def _encoded(rate: int, channels: int = 1, **how: Any) -> Callable[[Path, Any], None]:
    """A file written by libsndfile."""

    def write(path: Path, make: Callable[[int], NDArray[np.float64]]) -> None:
        samples = np.repeat(make(rate)[:, None], channels, axis=1)
        soundfile.write(os.fsencode(path), samples, rate, **how)

    return write


def _bytes(content: Callable[[NDArray[np.float64]], bytes]) -> Callable[[Path, Any], None]:
    """A file of the bytes that `content` makes of a sound at 16 kHz."""
    return lambda path, make: Path(path).write_bytes(content(make(RATE)))


def _floats(change: Callable[[NDArray[np.float64]], NDArray[np.float64]]) -> Callable[[Path, Any], None]:
    """A float32 WAV."""
    return _bytes(lambda x: wav(change(x).astype("<f4").tobytes(), kind=3, bits=32))


def _shorts(change: Callable[[NDArray[np.float64]], NDArray[np.float64]]) -> Callable[[Path, Any], None]:
    """An int16 WAV."""
    return _bytes(lambda x: wav(pcm(change(x))))


def _at(index: int, value: float) -> Callable[[NDArray[np.float64]], NDArray[np.float64]]:
    def change(samples: NDArray[np.float64]) -> NDArray[np.float64]:
        samples[index] = value
        return samples

    return change


def _flac(change: Callable[[bytearray], bytes | bytearray]) -> Callable[[Path, Any], None]:
    """A FLAC of several frames, damaged."""

    def write(path: Path, make: Callable[[int], NDArray[np.float64]]) -> None:
        soundfile.write(path, np.tile(make(RATE), 4), RATE, format="FLAC")
        path.write_bytes(change(bytearray(path.read_bytes())))

    return write


def _ultrasound() -> NDArray[np.float64]:
    """Half the sample rate, faded in and out."""
    return 0.2 * np.cos(np.pi * np.arange(9_000)) * np.hanning(9_000)


def _broken_inside(content: bytearray) -> bytearray:
    middle = len(content) // 2
    content[middle : middle + 40] = b"\xff" * 40
    return content


def _link(to: str) -> Callable[[Path, Any], None]:
    return lambda path, make: path.symlink_to(to)


_note = _shorts(lambda x: x)
_text = _bytes(lambda x: b"Ceci n'est pas un son.\n" * 50)
_guid = bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c")
_no_pyav = "formats|known format"

FORMATS = (
    Case("pcm24 44100 stereo.wav", "taken", _encoded(44_100, 2, format="WAV", subtype="PCM_24")),
    Case("pcm32_48000.wav", "taken", _encoded(48_000, format="WAV", subtype="PCM_32")),
    Case("pcm_u8_11025.wav", "taken", _encoded(11_025, format="WAV", subtype="PCM_U8")),
    Case("pcm16_96000.wav", "taken", _encoded(96_000, format="WAV", subtype="PCM_16")),
    Case("pcm24_192000.wav", "taken", _encoded(192_000, format="WAV", subtype="PCM_24")),
    Case("pcm16_8000.wav", "taken", _encoded(8_000, format="WAV", subtype="PCM_16")),
    Case("8_channels.wav", "taken", _encoded(16_000, 8, format="WAV", subtype="PCM_16")),
    Case("float64.wav", "taken", _encoded(16_000, format="WAV", subtype="DOUBLE")),
    Case("alaw.wav", "taken", _encoded(8_000, format="WAV", subtype="ALAW")),
    Case("ulaw.wav", "taken", _encoded(8_000, format="WAV", subtype="ULAW")),
    Case("ima_adpcm.wav", "taken", _encoded(22_050, format="WAV", subtype="IMA_ADPCM"), seconds=None),
    Case("gsm610.wav", "taken", _encoded(8_000, format="WAV", subtype="GSM610"), seconds=None),
    Case("extensible.wav", "taken", _encoded(16_000, format="WAVEX", subtype="PCM_16")),
    Case("rf64.wav", "taken", _encoded(16_000, format="RF64", subtype="PCM_16")),
    Case("wave64.w64", "taken", _encoded(16_000, format="W64", subtype="PCM_16")),
    Case("UPPER CASE.WAV", "taken", _note),
    Case("big_endian.aiff", "taken", _encoded(44_100, format="AIFF", subtype="PCM_24")),
    Case("ulaw.aifc", "taken", _encoded(8_000, format="AIFF", subtype="ULAW")),
    Case("sun.au", "taken", _encoded(16_000, format="AU", subtype="PCM_16")),
    Case("apple.caf", "taken", _encoded(16_000, format="CAF", subtype="PCM_16")),
    Case("deep.flac", "taken", _encoded(44_100, format="FLAC", subtype="PCM_24")),
    Case("vorbis.ogg", "taken", _encoded(44_100, format="OGG", subtype="VORBIS")),
    Case("opus.opus", "taken", _encoded(48_000, format="OGG", subtype="OPUS")),
    Case("constant_rate.mp3", "taken", _encoded(44_100, format="MP3")),
    Case("variable_rate.mp3", "taken", _encoded(44_100, format="MP3", bitrate_mode="VARIABLE")),
    Case("flac_named.wav", "taken", _encoded(16_000, format="FLAC")),
    Case("wav_named.mp3", "taken", _note),
    Case("aac.m4a", "refused", _bytes(lambda x: b"\0\0\0\x20ftypM4A " + bytes(200)), _no_pyav),
    Case("video.mp4", "refused", _bytes(lambda x: b"\0\0\0\x20ftypisom" + bytes(200)), _no_pyav),
    Case("windows.wma", "refused", _bytes(lambda x: _guid + bytes(200)), _no_pyav),
)

HEADERS = (
    Case("odd_chunk.wav", "taken", _bytes(lambda x: wav(pcm(x), chunks=b"LIST\x05\0\0\0INFOx\0bext\x04\0\0\0abcd"))),
    Case("trailing_chunk.wav", "taken", _bytes(lambda x: wav(pcm(x)) + b"id3 \x05\0\0\0" + b"\xff" * 5)),
    Case("trailing_tag.wav", "taken", _bytes(lambda x: wav(pcm(x)) + b"TAG" + b"\xff" * 125)),
    Case("trailing_zeros.wav", "taken", _bytes(lambda x: wav(pcm(x)) + bytes(5_000))),
    Case("trailing_junk.wav", "warned", _bytes(lambda x: wav(pcm(x)) + b"junk" * 200), "800 bytes after"),
    Case(
        "size_wrapped.wav", "warned", _bytes(lambda x: wav(pcm(x), promised=len(x))), "4,800 bytes after", SECONDS / 2
    ),
    Case("no_size.wav", "warned", _bytes(lambda x: wav(pcm(x), promised=0)), "no length"),
    Case("odd_byte.wav", "taken", _bytes(lambda x: wav(pcm(x) + b"\x7f"))),
    Case("pipe_zero.wav", "warned", _bytes(lambda x: wav(pcm(x), promised=0, total=0)), "no length"),
    Case("crashed_recorder.wav", "warned", _bytes(lambda x: wav(pcm(x), promised=0, total=36)), "no length"),
    Case(
        "pipe_ffffffff.wav", "warned", _bytes(lambda x: wav(pcm(x), promised=2**32 - 1, total=2**32 - 1)), "no length"
    ),
    Case(
        "pipe_7fffffff.wav", "warned", _bytes(lambda x: wav(pcm(x), promised=2**31 - 1, total=2**31 + 35)), "no length"
    ),
    Case("too_long.wav", "warned", _bytes(lambda x: wav(pcm(x), promised=20 * len(x))), "cut short"),
    Case("truncated.wav", "warned", _bytes(lambda x: wav(pcm(x))[: 44 + len(x)]), "cut short", SECONDS / 2),
    Case("empty.wav", "refused", _bytes(lambda x: b""), "empty"),
    Case("header_truncated.wav", "refused", _bytes(lambda x: wav(pcm(x))[:20]), "known format"),
    Case("header_only.wav", "refused", _bytes(lambda x: wav(pcm(x))[:44]), "no samples"),
    Case("no_samples.wav", "refused", _bytes(lambda x: wav(b"")), "no samples"),
    Case("no_samples_but_chunk.wav", "refused", _bytes(lambda x: wav(b"LIST\x04\0\0\0INFO", promised=0)), "no samples"),
    Case("no_data_chunk.wav", "refused", _bytes(lambda x: wav(b"")[:36]), "known format"),
    Case("no_channels.wav", "refused", _bytes(lambda x: wav(pcm(x), channels=0)), "0 channels"),
    Case("rate_0.wav", "refused", _bytes(lambda x: wav(pcm(x), rate=0)), "0 Hz"),
    Case("rate_3_billion.wav", "refused", _bytes(lambda x: wav(pcm(x), rate=3_000_000_000)), "3,000,000,000 Hz"),
    Case("rate_999.wav", "refused", _bytes(lambda x: wav(pcm(x), rate=999)), "999 Hz"),
    Case("text.wav", "refused", _text, "known format"),
    Case("error_404.mp3", "refused", _bytes(lambda x: b"<!DOCTYPE html><title>404</title>" * 30), "known format"),
    Case("zip.wav", "refused", _bytes(lambda x: b"PK\x03\x04" + bytes(500)), "known format"),
    Case("random.flac", "refused", _bytes(lambda x: np.random.default_rng(1).bytes(4_096)), "known format"),
    Case("truncated.flac", "warned", _flac(lambda b: b[: len(b) * 2 // 3]), "damaged after", seconds=None),
    Case("corrupt.flac", "warned", _flac(_broken_inside), "damaged after", seconds=None),
)

LEVELS = (
    Case("antiphase.wav", "warned", _bytes(lambda x: wav(pcm(np.stack([x, -x], 1)), channels=2)), "cancel"),
    Case("left_only.wav", "taken", _bytes(lambda x: wav(pcm(np.stack([x, 0 * x], 1)), channels=2))),
    Case("nan.wav", "refused", _floats(_at(100, np.nan)), "NaN"),
    Case("infinite.wav", "refused", _floats(_at(-1, -np.inf)), "infinite"),
    Case("both_infinite.wav", "refused", _floats(lambda x: _at(7, np.inf)(_at(8, -np.inf)(x))), "infinite"),
    Case("peak_4.wav", "warned", _floats(lambda x: 8 * x), "scaled down to 1.0"),
    Case("floats_of_int16.wav", "warned", _floats(lambda x: 32_767 * x), r"divided by 2\^15"),
    Case("floats_of_int24.wav", "warned", _floats(lambda x: 2**23 * x), r"divided by 2\^23"),
    Case("floats_beyond.wav", "refused", _floats(lambda x: 1e30 * x), "no known scale"),
    Case("denormal.wav", "refused", _floats(lambda x: 1e-39 * x), "silent"),
    Case("silence.wav", "refused", _shorts(lambda x: 0 * x), "silent"),
    Case("one_lsb.wav", "warned", _shorts(lambda x: np.sign(np.sin(np.arange(len(x)))) / 32768), "almost silent"),
    Case("silence_first.wav", "taken", _shorts(lambda x: np.concatenate([0 * x, x])), seconds=2 * SECONDS),
    Case("dc_offset.wav", "warned", _shorts(lambda x: 0.5 * x + 0.5), r"DC offset \+0.50"),
    Case("dc_only.wav", "refused", _shorts(lambda x: 0 * x + 0.25), "constant"),
    Case("clipped.wav", "taken", _shorts(lambda x: np.clip(50 * x, -1, 1))),
    Case("full_scale.wav", "taken", _shorts(lambda x: np.sign(np.sin(np.arange(len(x)) / 9)))),
    Case("10_ms.wav", "taken", _shorts(lambda x: x[:160]), seconds=0.01),
    Case("1_sample.wav", "refused", _shorts(lambda x: x[50:51]), "constant"),
    Case("ultrasound.wav", "refused", _bytes(lambda x: wav(pcm(_ultrasound()), rate=96_000)), "silent at"),
    Case("1_at_96000.wav", "refused", _bytes(lambda x: wav(pcm(x[50:52]), rate=96_000)), "too short"),
)

NAMES = (
    *(
        Case(name, "taken", _note)
        for name in (
            " leading and trailing .wav",
            "new\nline.wav",
            "tab\there.wav",
            "emoji_🥁.wav",
            "日本語_ドラム.wav",
            "caf\u00e9_composed.wav",
            "cafe\u0301_decomposed.wav",
            os.fsdecode(b"latin1_\xe9.wav"),
            "quote'\"$(echo hi)`ls`;rm -rf.wav",
            "-dash.wav",
            "percent%20%s%n.wav",
            "[glob]*?.wav",
            "comma,semi;colon.wav",
            "dots.in.name.v2.wav",
            "x" * 210 + ".wav",
            "nested/a/b/c/d/deep.wav",
            "nested/a/same_name.wav",
            "nested/b/same_name.wav",
            "folder_named.wav/inside.wav",
        )
    ),
    Case("twins/1.wav", "taken", _bytes(lambda x: wav(pcm(sound("twin", RATE))))),
    Case("twins/2.wav", "duplicate", _bytes(lambda x: wav(pcm(sound("twin", RATE)))), "twins/1.wav"),
    Case("links/loop", "ignored", _link("..")),
    Case("links/to_file.wav", "taken", _link("../linked.bin")),
    Case("linked.bin", "ignored", _note),
    Case("links/dangling.wav", "refused", _link("nowhere.wav"), "dangling link"),
    Case("links/self.wav", "refused", _link("self.wav"), "symbolic links"),
    Case("fifo.wav", "refused", lambda path, make: os.mkfifo(path), "FIFO"),
    *(
        Case(name, "ignored", _note)
        for name in (
            "noextension",
            ".hidden.wav",
            ".hidden/inside.wav",
            "._dots.in.name.v2.wav",
            "__MACOSX/inside.wav",
            "partial.wav.crdownload",
            "kick.wav.asd",
            "Thumbs.db",
            "desktop.ini",
            ".DS_Store",
            "cover.jpg",
            "loop.mid",
        )
    ),
)

CASES = (*FORMATS, *HEADERS, *LEVELS, *NAMES)


def build(root: Path, cases: tuple[Case, ...] = CASES) -> Path:
    """Writes the cases below a folder and returns it."""
    for case in cases:
        path = root / case.file
        path.parent.mkdir(parents=True, exist_ok=True)
        case.write(path, lambda rate, name=case.file: sound(name, rate))
    return root
