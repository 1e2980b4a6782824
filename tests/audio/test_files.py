"""Sound files in and out: values, lengths and levels are right, writing is safe, and what is wrong is said."""

import importlib.util
import os
import re
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from wavesynth.audio.files import Refused, decode, read
from wavesynth.audio.pcm import to_float, to_int16
from wavesynth.errors import UserError

RATE = 16_000
SCALED = 1e-3  # of full scale: the peak of the sine lies between two samples
RESAMPLED = 2e-3  # of full scale: HQ resampling and 24 bits, at the faded ends


def sine(rate: int, seconds: float = 1.0, frequency: float = 440.0) -> np.ndarray:
    """float64 [T], peak 0.5, faded at both ends."""
    time = np.arange(int(rate * seconds)) / rate
    return 0.5 * np.sin(2 * np.pi * frequency * time) * np.sin(np.pi * time / seconds) ** 2


class TestPcm:
    def test_every_integer_comes_back(self):
        pcm = np.arange(-32768, 32768).astype(np.int16)
        floats = to_float(pcm)
        assert floats.dtype == np.float32
        assert (floats.min(), floats.max()) == (-1.0, 32767 / 32768)
        np.testing.assert_array_equal(to_int16(floats), pcm)

    @given(st.floats(allow_nan=False, width=32))
    def test_any_float_goes_to_the_nearest(self, value: float):
        (pcm,) = to_int16([value])
        nearest = min(max(value, -1.0), 32767 / 32768)
        assert abs(int(pcm) / 32768 - nearest) <= 0.5 / 32768

    def test_nan_is_no_sample(self):
        with pytest.raises(ValueError, match="NaN"):
            to_int16([0.0, np.nan])


class TestRead:
    @pytest.mark.parametrize("rate", [8_000, 11_025, 16_000, 22_050, 44_100, 96_000])
    @pytest.mark.parametrize("channels", [1, 2, 8])
    def test_any_rate_and_channel_count(self, tmp_path: Path, rate: int, channels: int):
        path, gains = tmp_path / "x.wav", np.linspace(0.5, 1, channels)
        soundfile.write(path, sine(rate)[:, None] * gains, rate, subtype="PCM_24")
        got = read(path, RATE)
        assert got.dtype == np.float32
        assert got.shape == (1, RATE)
        np.testing.assert_allclose(got[0], sine(RATE) * gains.mean(), atol=RESAMPLED)

    @pytest.mark.parametrize(("own", "gains"), [(1, [0.5, 0.5]), (2, [0.5, 1.0]), (4, [0.75, 0.75])])
    def test_two_channels(self, tmp_path: Path, own: int, gains: list[float]):
        """Of mono both are copies, of stereo each its own, of more both the mean."""
        soundfile.write(tmp_path / "x.wav", sine(44_100)[:, None] * np.linspace(0.5, 1, own), 44_100, subtype="PCM_24")
        got = read(tmp_path / "x.wav", RATE, channels=2)
        assert got.shape == (2, RATE)
        for channel, gain in zip(got, gains, strict=True):
            np.testing.assert_allclose(channel, sine(RATE) * gain, atol=RESAMPLED)

    def test_stereo_is_scaled_as_one(self, tmp_path: Path):
        soundfile.write(tmp_path / "x.wav", sine(RATE)[:, None] * [1, 4], RATE, subtype="FLOAT")
        with pytest.warns(UserWarning, match=r"peak 2\.0"):
            got = read(tmp_path / "x.wav", RATE, channels=2)
        np.testing.assert_allclose(got, sine(RATE) * [[0.5], [2]], atol=SCALED)

    def test_one_silent_channel_of_two_is_kept(self, tmp_path: Path):
        soundfile.write(tmp_path / "x.wav", sine(RATE)[:, None] * [0, 1], RATE)
        got = read(tmp_path / "x.wav", RATE, channels=2)
        assert not got[0].any()
        np.testing.assert_allclose(got[1], sine(RATE), atol=1 / 32_768)

    def test_long_files_are_resampled_without_seams(self, tmp_path: Path):
        soundfile.write(tmp_path / "x.wav", sine(44_100, 5.0, 997), 44_100, subtype="FLOAT")
        np.testing.assert_allclose(read(tmp_path / "x.wav", RATE)[0], sine(RATE, 5.0, 997), atol=1e-4)

    @pytest.mark.parametrize("mode", ["CONSTANT", "VARIABLE"])
    def test_mp3_is_read_straight_through(self, tmp_path: Path, mode: str):
        """Block by block, where a seek after each block would land beside its place."""
        soundfile.write(tmp_path / "x.mp3", sine(44_100, 3.0), 44_100, bitrate_mode=mode, compression_level=0.3)
        got = read(tmp_path / "x.mp3", 44_100)
        np.testing.assert_allclose(got[0, : 3 * 44_100], sine(44_100, 3.0), atol=0.02)

    def test_an_mp3_without_a_length_is_read_whole_or_warned_of(self, tmp_path: Path):
        samples = np.concatenate([np.random.default_rng(0).uniform(-0.5, 0.5, 44_100), 0.1 * sine(44_100, 9.0)])
        soundfile.write(tmp_path / "x.mp3", samples, 44_100, bitrate_mode="VARIABLE", compression_level=0.5)
        content = (tmp_path / "x.mp3").read_bytes()
        (tmp_path / "x.mp3").write_bytes(content[content.index(b"\xff\xfb", 4) :])  # without the table in frame 0
        if importlib.util.find_spec("av"):
            assert read(tmp_path / "x.mp3", RATE).size == pytest.approx(10 * RATE, rel=0.02)
        else:
            with pytest.warns(UserWarning, match="an MP3 without a length: only"):
                assert 0 < read(tmp_path / "x.mp3", RATE).size < 9 * RATE

    def test_what_was_changed_is_warned_of(self, tmp_path: Path):
        soundfile.write(tmp_path / "loud.wav", 4 * sine(RATE), RATE, subtype="FLOAT")
        with pytest.warns(UserWarning, match=r"loud.wav: peak 2\.0"):
            got = read(tmp_path / "loud.wav", RATE)
        np.testing.assert_allclose(got[0], 2 * sine(RATE), atol=SCALED)

    def test_a_louder_channel_stands_in_where_the_mean_is_silent(self, tmp_path: Path):
        soundfile.write(tmp_path / "x.wav", np.stack([-sine(RATE), sine(RATE)], axis=1), RATE, subtype="FLOAT")
        with pytest.warns(UserWarning, match="channel 1 is used"):
            got = read(tmp_path / "x.wav", RATE)
        np.testing.assert_allclose(got[0], -sine(RATE), atol=1e-6)

    @pytest.mark.parametrize("scale", [2**15, 2**23, 2**31 - 2**8])
    def test_integers_in_floats(self, tmp_path: Path, scale: int):
        soundfile.write(tmp_path / "x.wav", (2 * sine(RATE) * scale).astype(np.float32), RATE, subtype="FLOAT")
        with pytest.warns(UserWarning, match="floats with integer values"):
            got = read(tmp_path / "x.wav", RATE)
        np.testing.assert_allclose(got[0], 2 * sine(RATE), atol=1e-4)

    def test_mistakes_name_file_reason_and_remedy(self, tmp_path: Path):
        (tmp_path / "a\nb.wav").write_text("no sound")
        with pytest.raises(UserError, match=r"a\\nb.wav cannot be read: it is not sound .*convert it to WAV"):
            read(tmp_path / "a\nb.wav", RATE)
        with pytest.raises(UserError, match="no such file"):
            read(tmp_path / "nowhere.wav", RATE)
        with pytest.raises(UserError, match="not a regular file"):
            read(tmp_path, RATE)
        with pytest.raises(UserError, match="sample_rate=0"):
            read(tmp_path / "nowhere.wav", 0)

    def test_a_fifo_does_not_block(self, tmp_path: Path):
        os.mkfifo(tmp_path / "x.wav")
        with pytest.raises(UserError, match="not a regular file"):
            read(tmp_path / "x.wav", RATE)

    @pytest.mark.parametrize("kind", ["wav", "aiff", "flac", "ogg", "mp3"])
    def test_any_truncation_is_taken_with_a_word_or_refused(self, tmp_path: Path, kind: str):
        path = tmp_path / f"x.{kind}"
        soundfile.write(path, sine(RATE, 0.5) + 1e-3 * np.random.default_rng(0).standard_normal(8_000), RATE)
        content = path.read_bytes()

        class Count:
            total = 0

            def append(self, samples: np.ndarray) -> None:
                self.total += samples.shape[1]

            def restart(self) -> None:
                self.total = 0

        for size in np.linspace(0, len(content) - 60, 24).astype(int):
            path.write_bytes(content[:size])
            sink = Count()
            try:
                origin = decode(path, RATE, sink)
            except Refused:
                continue
            assert sink.total > 0
            assert re.search("cut short|damaged after", " ".join(origin.warnings)), (size, origin, sink.total)


class TestPyav:
    """The sound tracks that libsndfile cannot read, where the `formats` extra is installed."""

    def test_without_it_the_remedy_is_named(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setitem(sys.modules, "av", None)
        (tmp_path / "x.m4a").write_bytes(b"\0\0\0\x20ftypM4A " + bytes(100))
        with pytest.raises(UserError, match=r"pip install 'wavesynth-jax\[formats\]'"):
            read(tmp_path / "x.m4a", RATE)

    def test_m4a(self, tmp_path: Path):
        av = pytest.importorskip("av", reason="the formats extra is not installed")
        with av.open(str(tmp_path / "x.m4a"), "w") as container:
            track = container.add_stream("aac", rate=44_100, layout="stereo")
            samples = np.repeat(sine(44_100)[None].astype(np.float32), 2, axis=0)
            frame = av.AudioFrame.from_ndarray(samples, format="fltp", layout="stereo")
            frame.sample_rate = 44_100
            container.mux(track.encode(frame))
            container.mux(track.encode(None))
        (got,) = read(tmp_path / "x.m4a", RATE)
        # The encoder's delay is not promised to be cut off: compare where the two fit best.
        delay = int(np.argmax(np.correlate(got, sine(RATE), "full"))) - (RATE - 1)
        assert 0 <= delay <= 1_024
        length = min(len(got) - delay, RATE)
        assert length > 0.9 * RATE
        np.testing.assert_allclose(got[delay : delay + length], sine(RATE)[:length], atol=0.03)
