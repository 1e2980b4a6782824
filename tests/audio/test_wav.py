"""Writing WAV files: the samples come back, a file appears whole or not at all, and what was there before is safe."""

import resource
import struct
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest
import soundfile

from wavesynth.audio import wav
from wavesynth.audio.files import read
from wavesynth.audio.pcm import to_float, to_int16
from wavesynth.audio.wav import WavWriter, write
from wavesynth.errors import UserError

RATE = 16_000


def test_int16_comes_back_and_the_header_is_plain(tmp_path: Path):
    pcm = np.random.default_rng(0).integers(-32768, 32768, 1_000).astype(np.int16)
    write(tmp_path / "x.wav", to_float(pcm), RATE)
    samples, rate = soundfile.read(tmp_path / "x.wav", dtype="int16")
    assert rate == RATE
    np.testing.assert_array_equal(samples, pcm)
    np.testing.assert_array_equal(read(tmp_path / "x.wav", RATE)[0], to_float(pcm))
    assert len((tmp_path / "x.wav").read_bytes()) == 44 + 2_000


def test_values_outside_saturate(tmp_path: Path):
    write(tmp_path / "x.wav", [-7.0, 7.0, np.inf], RATE)
    assert soundfile.read(tmp_path / "x.wav", dtype="int16")[0].tolist() == [-32768, 32767, 32767]


def test_nothing_is_overwritten_unasked(tmp_path: Path):
    write(tmp_path / "x.wav", np.zeros(9), RATE)
    before = (tmp_path / "x.wav").read_bytes()
    for attempt in (
        lambda: write(tmp_path / "x.wav", np.ones(9), RATE),
        lambda: WavWriter(tmp_path / "x.wav", RATE),
    ):
        with pytest.raises(UserError, match=r"x.wav exists: .*--force"):
            attempt()
    assert (tmp_path / "x.wav").read_bytes() == before
    write(tmp_path / "x.wav", np.ones(5), RATE, force=True)
    assert len((tmp_path / "x.wav").read_bytes()) == 44 + 10


@pytest.mark.parametrize("samples", [[np.nan], np.zeros((3, 100)), np.zeros((1, 2, 100)), 0.5])
def test_what_is_no_sound_leaves_the_old_file(tmp_path: Path, samples):
    write(tmp_path / "x.wav", np.zeros(9), RATE)
    with pytest.raises(ValueError, match=r"NaN|\[T\]"):
        write(tmp_path / "x.wav", samples, RATE, force=True)
    assert [path.name for path in tmp_path.iterdir()] == ["x.wav"]
    assert len((tmp_path / "x.wav").read_bytes()) == 44 + 18


@pytest.mark.parametrize(
    ("path", "rate", "says"),
    [("x.flac", RATE, "ends in .wav"), ("nowhere/x.wav", RATE, "No such file"), ("x.wav", 10**7, "sample_rate=")],
)
def test_mistakes(tmp_path: Path, path: str, rate: int, says: str):
    with pytest.raises(UserError, match=says):
        write(tmp_path / path, np.zeros(9), rate)
    assert not list(tmp_path.iterdir())


def test_blocks_end_to_end(tmp_path: Path):
    samples = np.random.default_rng(0).uniform(-1, 1, 5_000).astype(np.float32)
    with WavWriter(tmp_path / "x.wav", RATE) as writer:
        for begin in range(0, 5_000, 700):
            writer.append(samples[begin : begin + 700])
    write(tmp_path / "y.wav", samples, RATE)
    assert (tmp_path / "x.wav").read_bytes() == (tmp_path / "y.wav").read_bytes()
    assert len(list(tmp_path.iterdir())) == 2


def test_what_is_written_so_far_is_a_wav_at_every_moment(tmp_path: Path):
    with WavWriter(tmp_path / "x.wav", RATE) as writer:
        for count in (1, 2, 3):
            writer.append(np.full(100, 0.25))
            assert soundfile.info(tmp_path / "x.wav.partial").frames == 100 * count
        assert not (tmp_path / "x.wav").exists()


def test_stereo_is_interleaved_block_by_block(tmp_path: Path):
    sound = np.random.default_rng(0).uniform(-1, 1, (2, 1_000))
    with WavWriter(tmp_path / "x.wav", RATE) as writer:
        for begin in range(0, 1_000, 300):
            writer.append(sound[:, begin : begin + 300])
        with pytest.raises(ValueError, match="a block of 1 channels follows blocks of 2"):
            writer.append(sound[0])
    written, rate = soundfile.read(tmp_path / "x.wav", dtype="int16", always_2d=True)
    assert rate == RATE
    np.testing.assert_array_equal(written.T, to_int16(sound))


def stopped(error: type[BaseException]) -> Iterator[np.ndarray]:
    """One block, then the error."""
    yield np.full(100, 0.25)
    raise error


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_an_interrupt_keeps_what_was_written(tmp_path: Path, error: type[BaseException]):
    with pytest.raises(error), WavWriter(tmp_path / "x.wav", RATE) as writer:
        append_all(writer, stopped(error))
    assert soundfile.info(tmp_path / "x.wav").frames == 100


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_an_interrupt_never_replaces_a_whole_file_by_a_cut_one(tmp_path: Path, error: type[BaseException]):
    write(tmp_path / "x.wav", np.zeros(900), RATE)
    with pytest.raises(error), WavWriter(tmp_path / "x.wav", RATE, force=True) as writer:
        append_all(writer, stopped(error))
    assert [path.name for path in tmp_path.iterdir()] == ["x.wav"]
    assert soundfile.info(tmp_path / "x.wav").frames == 900


def test_an_interruption_before_anything_leaves_the_old_file(tmp_path: Path):
    write(tmp_path / "x.wav", np.zeros(9), RATE)
    with pytest.raises(KeyboardInterrupt), WavWriter(tmp_path / "x.wav", RATE, force=True):
        raise KeyboardInterrupt
    assert [path.name for path in tmp_path.iterdir()] == ["x.wav"]
    assert soundfile.info(tmp_path / "x.wav").frames == 9


@pytest.fixture
def limit() -> Iterator[Callable[[int, int], None]]:
    """limit(which, value) sets a limit of this process until the test ends."""
    before = {}

    def set_limit(which: int, value: int) -> None:
        before.setdefault(which, resource.getrlimit(which))
        resource.setrlimit(which, (value, before[which][1]))

    yield set_limit
    for which, limits in before.items():
        resource.setrlimit(which, limits)


def test_a_full_disk_keeps_what_fitted(tmp_path: Path, limit):
    limit(resource.RLIMIT_FSIZE, 44 + 320 + 100)
    says = r"x.wav: the disk is full after 0.01 s"
    with pytest.raises(UserError, match=says), WavWriter(tmp_path / "x.wav", RATE) as writer:
        append_all(writer, [np.full(160, 0.25)] * 2)
    content = (tmp_path / "x.wav").read_bytes()
    assert len(content) == 44 + 320
    assert struct.unpack_from("<I", content, 40) == (320,)
    limit(resource.RLIMIT_FSIZE, 20)
    with pytest.raises(UserError, match=r"y.wav: the disk is full"):
        write(tmp_path / "y.wav", np.zeros(160), RATE)
    assert [path.name for path in tmp_path.iterdir()] == ["x.wav"]


def test_more_writers_than_a_process_may_open_files(tmp_path: Path, limit):
    limit(resource.RLIMIT_NOFILE, 64)
    with ExitStack() as stack:
        writers = [stack.enter_context(WavWriter(tmp_path / f"{index}.wav", RATE)) for index in range(100)]
        for writer in writers * 2:
            writer.append(np.full(10, 0.25))
    assert {soundfile.info(path).frames for path in tmp_path.iterdir()} == {20}
    assert len(list(tmp_path.iterdir())) == 100


def test_a_wav_cannot_exceed_4_gib(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(wav, "MOST_SAMPLES", 150)
    with pytest.raises(UserError, match="4 GiB"), WavWriter(tmp_path / "x.wav", RATE) as writer:
        append_all(writer, [np.zeros(100)] * 2)
    assert soundfile.info(tmp_path / "x.wav").frames == 100


def append_all(writer: WavWriter, blocks: Iterable[np.ndarray]) -> None:
    for block in blocks:
        writer.append(block)
