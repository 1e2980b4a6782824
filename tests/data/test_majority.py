"""Rates and channels of a folder as it is: which the shards get, what becomes of the others, and what the report says."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile

from wavesynth.data import prepare as prepare_module
from wavesynth.data.corpus import scan
from wavesynth.data.majority import choose, read_headers
from wavesynth.data.prepare import Report, prepare
from wavesynth.data.shards import Shards
from wavesynth.errors import UserError

from . import nasty


def note(rate: int, seconds: float = 0.3, frequency: float = 440.0) -> np.ndarray:
    """float64 [T], peak 0.5, faded in and out."""
    time = np.arange(int(rate * seconds)) / rate
    return 0.5 * np.sin(2 * np.pi * frequency * time) * np.sin(np.pi * time / seconds) ** 2


def write(folder: Path, name: str, rate: int, gains: tuple[float, ...] = (1.0,), **how: float) -> None:
    """A file with a note in each channel, at the channel's gain; the pitch goes by the name, so that no two are alike."""
    folder.mkdir(exist_ok=True)
    frequency = 200.0 + sum(name.encode()) % 700
    soundfile.write(folder / name, note(rate, frequency=frequency, **how)[:, None] * gains, rate, subtype="PCM_24")


def prepared(folder: Path, **how: object) -> tuple[Report, Shards]:
    """The report and the shards of `folder`, beside it."""
    report = prepare(folder, folder.parent / "shards", progress=False, **how)
    assert Report.from_json(report.to_json(), report.status) == report
    return report, Shards.open(folder.parent / "shards", verify=True)


class TestChoice:
    @pytest.mark.parametrize(
        ("rates", "chosen"),
        [
            ([16_000, 16_000, 44_100], 16_000),
            ([44_100, 16_000], 44_100),  # a tie
            ([8_000, 44_100, 22_050, 44_100, 8_000], 44_100),
            ([96_000, 96_000], 48_000),
            ([88_200], 44_100),
            ([176_400, 192_000, 48_000], 48_000),
            ([50_000], 48_000),
            ([11_025], 11_025),
        ],
    )
    def test_rates(self, rates: list[int], chosen: int):
        assert choose([(rate, 1) for rate in rates]) == (chosen, 1)
        assert choose([(rate, 1) for rate in reversed(rates)]) == (chosen, 1)

    @pytest.mark.parametrize(
        ("widths", "chosen"), [([1], 1), ([2], 2), ([1, 2], 1), ([1, 2, 2], 2), ([1, 6, 8], 2), ([1, 1, 2], 1)]
    )
    def test_channels(self, widths: list[int], chosen: int):
        assert choose([(44_100, width) for width in widths]) == (44_100, chosen)

    def test_a_file_without_a_header_does_not_vote(self, tmp_path: Path):
        nasty.build(tmp_path, tuple(c for c in nasty.CASES if c.file in ("text.wav", "rate_999.wav", "empty.wav")))
        write(tmp_path, "sound.wav", 22_050, (1, 1))
        corpus = scan(tmp_path)
        assert len(corpus.files) == 4
        assert read_headers(corpus.root, corpus.files, 2) == [(22_050, 2)]
        assert choose([]) == (44_100, 1)


class TestFolders:
    def test_mixed_rates_and_channels(self, tmp_path: Path):
        sounds = tmp_path / "sounds"
        for index in range(4):
            write(sounds, f"stereo{index}.wav", 44_100, (1, 0.5))
        write(sounds, "mono.wav", 44_100)
        write(sounds, "low.wav", 8_000, (0.5, 1))
        write(sounds, "high.wav", 96_000, (0.5, 1))
        report, shards = prepared(sounds)
        assert (shards.sample_rate, shards.channels) == (44_100, 2)
        assert (report.rates, report.widths) == ({8_000: 1, 44_100: 5, 96_000: 1}, {1: 1, 2: 6})
        assert all(clip.length == int(0.3 * 44_100) for clip in shards.clips)
        mono = shards.samples(next(i for i, clip in enumerate(shards.clips) if clip.file == "mono.wav"))
        np.testing.assert_array_equal(mono[0], mono[1])
        assert np.abs(mono).max() == pytest.approx(0.5 * 32_768, rel=1e-3)
        text = str(report)
        for line in (
            "rate        44,100 Hz, the rate of 5 of 7 files; 2 converted",
            "1 file of 96,000 Hz converted down: frequencies above 22,050 Hz are lost",
            "1 file of 8,000 Hz converted up: its sound ends at 4,000 Hz",
            "channels    stereo, as 6 of 7 files",
            "1 mono file copied to both channels, at the same level",
        ):
            assert line in text
        assert "--sample-rate" not in text  # nothing audible is lost

    def test_a_folder_of_96_khz(self, tmp_path: Path):
        for index in range(3):
            write(tmp_path / "sounds", f"{index}.wav", 96_000)
        report, shards = prepared(tmp_path / "sounds")
        assert (shards.sample_rate, shards.channels) == (48_000, 1)
        assert "rate        48,000 Hz, for 3 of 3 files at a multiple of it; 3 converted" in str(report)

    def test_a_rate_and_mono_that_were_asked_for(self, tmp_path: Path):
        for index in range(3):
            write(tmp_path / "sounds", f"{index}.wav", 44_100, (1, 0.5))
        report, shards = prepared(tmp_path / "sounds", sample_rate=16_000, mono=True)
        assert (shards.sample_rate, shards.channels) == (16_000, 1)
        assert np.abs(shards.samples(0)).max() == pytest.approx(0.75 * 0.5 * 32_768, rel=2e-3)
        text = str(report)
        assert "16,000 Hz, the rate of none of 3 files; 3 converted" in text
        assert "frequencies above 8,000 Hz are lost; a higher --sample-rate keeps more" in text
        assert "mono, as 0 of 3 files" in text
        assert "3 stereo files mixed to mono: the mean of both channels" in text

    @pytest.mark.parametrize(("mono", "shape"), [(False, "stereo"), (True, "mono")])
    def test_surround_is_folded_down(self, tmp_path: Path, mono: bool, shape: str):
        for index in range(2):
            write(tmp_path / "sounds", f"{index}.wav", 44_100, (1, 0, 0.5, 1, 0, 0.25))
        write(tmp_path / "sounds", "quad.wav", 44_100, (1, 1, 1, 0))
        report, shards = prepared(tmp_path / "sounds", mono=mono)
        left, right = (1 + 0.5 * 0.5**0.5) / (1 + 2**0.5), (0.75 * 0.5**0.5) / (1 + 2**0.5)
        gains = [(left + right) / 2] if mono else [left, right]
        peaks = np.abs(shards.samples(0).astype(int)).max(axis=1) / 32_768
        np.testing.assert_allclose(peaks, 0.5 * np.array(gains), rtol=2e-3)
        assert f"2 six-channel files folded down from 5.1 to {shape}: L + 0.707 C + 0.707 Ls" in str(report)
        assert f"1 4-channel file mixed to {shape}: the mean of all channels" in str(report)

    @pytest.mark.parametrize("channels", [3, 4, 5, 6, 7, 8, 12])
    @pytest.mark.parametrize("mono", [False, True])
    def test_any_number_of_channels_at_full_scale_is_taken_and_does_not_clip(
        self, tmp_path: Path, channels: int, mono: bool
    ):
        write(tmp_path / "sounds", "1.wav", 44_100, (1.9,) * channels)
        report, shards = prepared(tmp_path / "sounds", mono=mono)
        assert (report.taken, report.warned, shards.channels) == (1, (), 2 - mono)
        assert 0.5 < np.abs(shards.samples(0).astype(int)).max() / 32_768 < 1

    def test_surround_in_ogg_has_another_order(self, tmp_path: Path):
        (tmp_path / "sounds").mkdir()
        only = {"left": 0, "centre": 1, "lfe": 5}
        for name, channel in only.items():
            samples = np.zeros((13_230, 6))
            samples[:, channel], samples[:, 0] = note(44_100), samples[:, 0] + 0.5 * note(44_100, frequency=900)
            soundfile.write(tmp_path / "sounds" / f"{name}.ogg", samples, 44_100)
        _, shards = prepared(tmp_path / "sounds", valid=0, test=0)
        right = {clip.file: np.abs(shards.samples(i)[1].astype(int)).max() for i, clip in enumerate(shards.clips)}
        assert right["centre.ogg"] > 4_000
        assert max(right["left.ogg"], right["lfe.ogg"]) < 400

    def test_the_same_call_is_up_to_date_and_another_form_is_not(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
        sounds = tmp_path / "sounds"
        for index in range(3):
            write(sounds, f"{index}.wav", 44_100, (1, 0.5))
        _, shards = prepared(sounds)
        assert shards.manifest.settings["sample_rate"] == 44_100
        assert shards.manifest.settings["channels"] == 2
        with monkeypatch.context() as patch:
            patch.setattr(prepare_module, "decode_all", lambda *_: pytest.fail("it decodes again"))
            assert prepared(sounds)[0].status == "up to date"
            assert prepared(sounds, sample_rate=44_100)[0].status == "up to date"
            with pytest.raises(UserError, match=r"prepared with channels 2 \(now 1\)"):
                prepared(sounds, mono=True)
            with pytest.raises(UserError, match=r"prepared with sample_rate 44100 \(now 16000\)"):
                prepared(sounds, sample_rate=16_000)

    def test_an_interrupted_run_continues_at_its_rate(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
        sounds = tmp_path / "sounds"
        for index, rate in enumerate([8_000, 44_100, 44_100, 48_000]):
            write(sounds, f"{index}.wav", rate, (1, 0.5))

        def interrupted(*arguments: object) -> None:
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(prepare_module, "make_clips", interrupted)
            with pytest.raises(KeyboardInterrupt):
                prepared(sounds)
        report, shards = prepared(sounds)
        assert report.status == "continued"
        assert (shards.sample_rate, shards.channels) == (44_100, 2)

    def test_shards_from_before_channels_were_a_setting_stay_up_to_date(self, tmp_path: Path):
        write(tmp_path / "sounds", "1.wav", 16_000)
        _, shards = prepared(tmp_path / "sounds")
        settings = {name: value for name, value in shards.manifest.settings.items() if name != "channels"}
        (shards.path / "manifest.json").write_bytes(replace(shards.manifest, settings=settings).to_bytes())
        report = (shards.path / "report.json").read_text().replace('"traits": {}', '"other": {}')
        (shards.path / "report.json").write_text(report)
        assert prepared(tmp_path / "sounds")[0].status == "up to date"


class TestTraits:
    """What is odd about single files, said in the report."""

    def test_a_silent_channel(self, tmp_path: Path):
        write(tmp_path / "sounds", "a.wav", 44_100, (0, 1))
        write(tmp_path / "sounds", "b.wav", 44_100, (1, 1))
        report, shards = prepared(tmp_path / "sounds")
        assert report.traits == {"silent channel": ("a.wav",)}
        assert "1 file with a silent channel (a.wav)" in str(report)
        assert not shards.samples(0)[0].any()

    def test_inverted_channels_stay_in_stereo(self, tmp_path: Path):
        write(tmp_path / "sounds", "a.wav", 44_100, (1, -0.9))
        write(tmp_path / "sounds", "b.wav", 44_100, (1, 0.9))
        report, _ = prepared(tmp_path / "sounds")
        assert report.traits == {"inverted channels": ("a.wav",)}
        assert "1 file with inverted channels, which vanish when they are played in mono (a.wav)" in str(report)

    def test_inverted_channels_do_not_vanish_in_mono(self, tmp_path: Path):
        write(tmp_path / "sounds", "a.wav", 44_100, (0.8, -1))
        write(tmp_path / "sounds", "b.wav", 44_100, (1, 1))
        report, shards = prepared(tmp_path / "sounds", mono=True)
        assert np.abs(shards.samples(0)).max() == pytest.approx(0.5 * 32_768, rel=1e-3)
        assert (
            report.warned[0][1] == "its channels are inverted (correlation -1.00) and cancel in mono: channel 2 is used"
        )
        assert "which cancel in mono: the louder channel is used (a.wav)" in str(report)

    @pytest.mark.parametrize("rate", [16_000, 44_100])
    def test_an_offset_is_removed(self, tmp_path: Path, rate: int):
        """Exactly, also where the sound is resampled: from the first sample to the last."""
        (tmp_path / "sounds").mkdir()
        sound = np.stack([note(rate) + 0.05, note(rate) + 0.3], axis=1)
        soundfile.write(tmp_path / "sounds/a.wav", sound, rate, subtype="FLOAT")
        report, shards = prepared(tmp_path / "sounds", sample_rate=16_000, valid=0)
        assert report.traits == {"DC offset": ("a.wav",)}
        assert "1 file with a DC offset above -40 dBFS, which was removed (a.wav)" in str(report)
        assert report.warned == (("a.wav", "DC offset +0.30: removed"),)
        expected = np.stack([note(16_000)] * 2)
        np.testing.assert_allclose(shards.samples(0) / 32_768, expected, atol=0.002)

    def test_a_drum_has_none(self, tmp_path: Path):
        """Its mean is far from 0, and its end is silent."""
        time = np.arange(22_050) / 44_100
        drum = 0.5 * np.sin(2 * np.pi * 40 * time) * np.exp(-12 * time) + 0.4 * np.exp(-20 * time)
        assert abs(drum.mean()) > 0.015
        (tmp_path / "sounds").mkdir()
        soundfile.write(tmp_path / "sounds/a.wav", drum, 44_100)
        soundfile.write(tmp_path / "sounds/b.wav", drum[:2_205] + 0.1, 44_100)  # too short to tell
        report, shards = prepared(tmp_path / "sounds", valid=0)
        assert report.traits == {}
        np.testing.assert_allclose(shards.samples(0)[0] / 32_768, drum, atol=1 / 32_768)


class TestLongFiles:
    def test_a_long_file_beside_clicks_is_divided(self, tmp_path: Path):
        """Wherever its hash falls: most of it is learned, and its end is held out."""
        for index in range(12):
            write(tmp_path / "sounds", f"click{index}.wav", 8_000, seconds=0.05)
        write(tmp_path / "sounds", "long.wav", 8_000, seconds=30.0)
        report, shards = prepared(tmp_path / "sounds", valid=0.2)
        parts = [clip for clip in shards.clips if clip.file == "long.wav"]
        assert [(clip.split, clip.length) for clip in parts] == [("train", 192_000), ("valid", 48_000)]
        assert parts[0].offset + parts[0].length == parts[1].offset
        assert "long.wav is 98% of the sound: its last 20% are held out for validation" in report.remarks
        assert report.splits["train"] > 1

    def test_a_long_one_shot_is_not_divided(self, tmp_path: Path):
        write(tmp_path / "sounds", "a.wav", 8_000, seconds=3.0)
        write(tmp_path / "sounds", "b.wav", 8_000, seconds=0.5)
        assert len(prepared(tmp_path / "sounds")[1]) == 2

    def test_a_given_split_holds(self, tmp_path: Path):
        write(tmp_path / "sounds", "a.wav", 8_000, seconds=20.0)
        write(tmp_path / "sounds", "b.wav", 8_000, seconds=1.0)
        (tmp_path / "sounds/metadata.csv").write_text("file,split\na.wav,train\n")
        assert [clip.split for clip in prepared(tmp_path / "sounds")[1].clips] == ["train", "valid"]
