"""Pitches from names: what follows a pattern is read, and numbers of takes, tempos and tracks are not."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wavesynth.data.pitches import pitch_of, pitches_of
from wavesynth.data.prepare import prepare
from wavesynth.data.shards import Shards
from wavesynth.errors import UserError

from . import nasty


@pytest.mark.parametrize(
    ("file", "pitch"),
    [
        ("flute_060_090.wav", 60),
        ("keys/keyboard_acoustic_004-060-025.wav", 60),
        ("bass_synthetic_009-009-127.wav", 9),
        ("060_090.wav", 60),
        ("flute_060_200.wav", None),
        ("flute_60_90.wav", None),
        ("take_001_002.wav", None),
        ("take_040_050.wav", None),
        ("loop_012_100.wav", None),
        ("break_120_125.wav", None),
        ("Cello_C#4.wav", 61),
        ("Cello_C♯4.wav", 61),
        ("Cello c#4.wav", 61),
        ("cello_As3_1.wav", 58),
        ("Piano.ff.Ab3.aiff", 56),
        ("Rhodes (C3).wav", 48),
        ("A0v1.wav", 21),
        ("F#1v16.flac", 30),
        ("A3.wav", 57),
        ("horn-Bb2-long.wav", 46),
        ("bass C3 c3.wav", 48),
        ("A3_take2_A3.wav", 57),
        ("A3_to_C4.wav", None),
        ("A1 - Intro.wav", None),
        ("Take A2.wav", None),
        ("snare_a1.wav", None),
        ("Kick A.wav", None),
        ("HA3.wav", None),
        ("G9.wav", 127),
        ("A9.wav", None),
        ("C4/snare.wav", None),
        ("0_george_12.wav", None),
    ],
)
def test_one_name(file: str, pitch: float | None):
    assert pitch_of(file) == pitch


def test_the_name_of_middle_c_is_chosen():
    assert [pitch_of("cello_C4.wav", name) for name in ("C3", "C4", "C5")] == [72, 60, 48]
    assert [pitch_of("cello_060_100.wav", name) for name in ("C3", "C4", "C5")] == [60, 60, 60]
    with pytest.raises(UserError, match="middle_c='c4': choose one of C3, C4, C5"):
        pitch_of("cello_C4.wav", "c4")


NOT_PITCHES = [
    ["A1 - Intro", "A2 - Two", "loop_001_010", "plain"],
    ["A1 - Intro", "A2 - Two", "B1 - Three", "B2 - Four"],
    ["A1 - Untitled", "A2 - Untitled", "B1 - Untitled"],
    ["A1", "A2", "B1", "B2"],
    [f"take_{take:03d}_{part:03d}" for take in range(1, 40) for part in (1, 2)],
    [f"{number:03d}_100" for number in range(1, 61)],
    ["x_095_001", "x_100_002", "x_105_003"],
    ["snare_a1", "snare_a2", "snare_b1", "snare_b2"],
    ["Side A1", "Side B2", "Side C#3"],
    ["cello_C4", *(f"hit {i}" for i in range(9))],
]
PITCHES = [
    ["cello_C4", "cello_D4", "cello noise"],
    ["c3", "e3", "g3"],
    ["Cello c4", "Cello c#4", "Cello d4"],
    ["A1", "A2", "A3"],
    ["A3_loud", "A3_soft", "C4_loud", "C4_soft"],
    ["C4v1", "C4v2", "D#4v1"],
    [f"{letter}{octave}" for letter in "ABCDEFG" for octave in (1, 2, 3)],
    [f"tuba_{pitch:03d}_{velocity:03d}" for pitch in (36, 40) for velocity in (20, 80, 127)],
]


@pytest.mark.parametrize("names", NOT_PITCHES, ids=lambda names: names[0])
def test_folders_without_pitches(names: list[str]):
    found, doubtful = pitches_of([f"{name}.wav" for name in names], [None] * len(names))
    assert set(found) == {None}
    assert doubtful


@pytest.mark.parametrize("names", PITCHES, ids=lambda names: names[0])
def test_folders_with_pitches(names: list[str]):
    found, doubtful = pitches_of([f"{name}.wav" for name in names], [None] * len(names))
    assert sum(pitch is None for pitch in found) == ("cello noise" in names)
    assert doubtful == []


def test_each_label_has_its_own_pattern():
    files = [*(f"cello/cello_C{i}.wav" for i in range(4)), *(f"drums/take_001_00{i}.wav" for i in range(6))]
    found, doubtful = pitches_of(files, [file.split("/")[0] for file in files])
    assert found == [12, 24, 36, 48, *[None] * 6]
    assert [file for file, _ in doubtful] == files[4:]


def test_a_few_pitches_make_no_pitched_folder():
    files = ["fx/hit_C3.wav", *(f"drums/{i}.wav" for i in range(10))]
    assert pitches_of(files, ["fx", *["drums"] * 10]) == ([None] * 11, [("fx/hit_C3.wav", 48)])


@given(st.lists(st.text(alphabet="ABCabc#b_- .0123v", max_size=12), max_size=6))
def test_any_name_is_read(names: list[str]):
    found, _ = pitches_of([f"{name}.wav" for name in names], [None] * len(names))
    assert len(found) == len(names)
    assert all(pitch is None or 0 <= pitch <= 127 for pitch in found)


class TestReport:
    def prepared(self, tmp_path: Path, *names: str, **options: bool) -> tuple[str, list[float | None]]:
        """The report as text, and the pitches in the shards."""
        nasty.build(tmp_path / "sounds", tuple(nasty.Case(name, "taken", nasty.NAMES[0].write) for name in names))
        report = prepare(tmp_path / "sounds", tmp_path / "shards", progress=False, **options)
        return str(report), [clip.pitch for clip in Shards.open(tmp_path / "shards").clips]

    def test_it_counts_pitches_and_shows_examples(self, tmp_path: Path):
        (tmp_path / "sounds").mkdir()
        (tmp_path / "sounds/metadata.csv").write_text("file,pitch\nx.wav,30.5\n")
        text, pitches = self.prepared(tmp_path, "cello_C4.wav", "cello_D4.wav", "cello_E4.wav", "x.wav")
        assert pitches == [60, 62, 64, 30.5]
        assert "MIDI 30.5 to 64: 3 from names (cello_C4.wav: 60, cello_D4.wav: 62, cello_E4.wav: 64); " in text
        assert "1 from metadata.csv (x.wav: 30.5)" in text
        assert "--no-pitch" in text

    def test_it_names_what_looks_like_pitches(self, tmp_path: Path):
        text, pitches = self.prepared(tmp_path, "A1 - Intro.wav", "A2 - Two.wav", "plain.wav")
        assert set(pitches) == {None}
        assert "2 names look like pitches (A1 - Intro.wav 33, A2 - Two.wav 45) but are not used" in text

    def test_no_pitch(self, tmp_path: Path):
        text, pitches = self.prepared(tmp_path, "cello_C4.wav", "cello_D4.wav", pitches=False)
        assert set(pitches) == {None}
        assert "pitch" not in text
        with pytest.raises(UserError, match="track_pitch=True and pitches=False contradict"):
            prepare(tmp_path / "sounds", tmp_path / "other", pitches=False, track_pitch=True, progress=False)

    def test_middle_c(self, tmp_path: Path):
        nasty.build(tmp_path / "sounds", (nasty.Case("cello_C4.wav", "taken", nasty.NAMES[0].write),))
        prepare(tmp_path / "sounds", tmp_path / "shards", progress=False, middle_c="C3")
        assert Shards.open(tmp_path / "shards").clips[0].pitch == 72
        with pytest.raises(UserError, match="was prepared with middle_c C3"):
            prepare(tmp_path / "sounds", tmp_path / "shards", progress=False)
