"""Whatever a folder holds: each file is taken, warned of, refused or ignored as promised, and nothing crashes."""

import contextlib
import csv
import io
import json
import os
import re
import subprocess
import sys
import tarfile
import tempfile
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wavesynth.audio.names import display
from wavesynth.data.corpus import label_of, scan
from wavesynth.data.metadata import read_metadata
from wavesynth.data.prepare import Report, prepare
from wavesynth.data.shards import Shards
from wavesynth.data.sources import fingerprint
from wavesynth.data.splits import NAMES, SPLITS
from wavesynth.errors import UserError

from . import nasty

ROOT = Path(__file__).resolve().parents[2]
RECORDED = ROOT.parent / "shared" / "data" / "nasty"


def treatment(report: Report, shards: Shards, file: str) -> tuple[str, str]:
    """What the report and the shards say of a file: the treatment and the words."""
    words = {"refused": dict(report.refused), "duplicate": dict(report.duplicates), "warned": dict(report.warned)}
    said = {name: by_file[file] for name, by_file in words.items() if file in by_file}
    held = file in {clip.file for clip in shards.clips}
    assert len(said) <= 1, f"one treatment only: {said}"
    if not said:
        return ("taken", "") if held else ("ignored", "")
    ((name, text),) = said.items()
    assert held == (name == "warned")
    return name, text


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return nasty.build(tmp_path_factory.mktemp("nasty") / "sounds")


@pytest.fixture(scope="module")
def outcome(folder: Path) -> tuple[Report, Shards]:
    report = prepare(folder, folder.parent / "shards", progress=False)
    return report, Shards.open(folder.parent / "shards", verify=True)


@pytest.mark.parametrize("case", nasty.CASES, ids=lambda case: display(case.file))
def test_each_nasty_file_is_treated_as_promised(case: nasty.Case, outcome: tuple[Report, Shards]):
    report, shards = outcome
    name, text = treatment(report, shards, case.file)
    assert name == case.treatment, text
    assert re.search(case.says, text)
    if name in ("taken", "warned") and case.seconds is not None:
        clip = next(i for i, clip in enumerate(shards.clips) if clip.file == case.file)
        assert shards.clips[clip].length / 16_000 == pytest.approx(case.seconds, rel=0.05)
        assert shards.samples(clip).max() > shards.samples(clip).min()


def test_the_report_can_be_shown_and_kept_whatever_the_names(outcome: tuple[Report, Shards]):
    report, _ = outcome
    text = str(report)
    assert text.isprintable() or all(line.isprintable() for line in text.splitlines())
    text.encode("utf-8")
    assert Report.from_json(report.to_json()) == report
    assert report.taken + len(report.refused) + len(report.duplicates) == sum(
        case.treatment != "ignored" for case in nasty.CASES
    )
    # Each ignored entry counts, a hidden or __MACOSX folder once and the metadata not at all.
    assert sum(report.ignored.values()) == sum(case.treatment == "ignored" for case in nasty.CASES)


def test_names_come_back_from_the_manifest_byte_for_byte(folder: Path, outcome: tuple[Report, Shards]):
    _, shards = outcome
    assert all(os.path.exists(os.path.join(os.fsencode(folder), os.fsencode(clip.file))) for clip in shards.clips)
    assert os.fsencode(next(clip.file for clip in shards.clips if clip.file.startswith("latin1"))) == b"latin1_\xe9.wav"


def test_what_may_not_be_read_is_refused_by_name():
    """As an ordinary user: root may read everything."""
    with tempfile.TemporaryDirectory() as temporary:
        os.chmod(temporary, 0o777)
        root = nasty.build(Path(temporary) / "sounds", nasty.FORMATS[15:20])
        nasty.build(root / "folder", nasty.FORMATS[5:6])
        (root / "UPPER CASE.WAV").chmod(0)
        locked = root / "locked"
        locked.mkdir(0)
        # A first run imports everything while it may: Python itself may lie where only root can read.
        program = """if True:
            import os, sys
            from wavesynth.data.prepare import prepare
            root, shards = sys.argv[1:]
            prepare(f"{root}/folder", f"{shards}-first", sample_rate=16_000, progress=False)
            if os.getuid() == 0:
                os.setgid(65534), os.setuid(65534)
            print(prepare(root, shards, progress=False).to_json())"""
        command = [sys.executable, "-W", "error", "-c", program, str(root), f"{temporary}/shards"]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        locked.chmod(0o700)
        assert done.returncode == 0, done.stderr
        refused = dict(json.loads(done.stdout)["refused"])
        assert refused == {
            "UPPER CASE.WAV": "permission denied",
            "locked/": "the folder cannot be read: permission denied",
        }


def test_label_from_the_first_folder():
    assert label_of("kick/deep/1.wav") == "kick"
    assert label_of("1.wav") is None
    assert label_of("cafe\u0301/1.wav") == "café"
    assert label_of(os.fsdecode(b"\xe9t\xe9/1.wav")) == r"\xe9t\xe9"


def test_a_folder_reached_by_a_link_too_is_taken_once_by_its_own_name(tmp_path: Path):
    nasty.build(tmp_path, (nasty.Case("z_real/1.wav", "taken", nasty.NAMES[0].write),))
    (tmp_path / "a_link").symlink_to("z_real")
    outside = tmp_path.parent / "outside"
    nasty.build(outside, (nasty.Case("2.wav", "taken", nasty.NAMES[0].write),))
    (tmp_path / "b_link").symlink_to(outside)
    corpus = scan(tmp_path)
    assert [(source.file, source.label) for source in corpus.files] == [
        ("b_link/2.wav", "b_link"),
        ("z_real/1.wav", "z_real"),
    ]
    assert corpus.ignored == {"links to folders already seen": 1}


class TestSplitFolders:
    """Folders named train, valid, test are splits: their clips stay apart, and labels are the folders below or above."""

    def scanned(self, root: Path, *names: str, **options: bool) -> dict[str, tuple[str | None, tuple[str, ...]]]:
        nasty.build(root, tuple(nasty.Case(name, "taken", nasty.NAMES[0].write) for name in names))
        return {source.file: (source.label, source.splits) for source in scan(root, **options).files}

    def test_labels_lie_below(self, tmp_path: Path):
        files = self.scanned(tmp_path, "train/zero/1.wav", "Validation/zero/2.wav", "TESTING/one/3.wav", "4.wav")
        assert files == {
            "train/zero/1.wav": ("zero", ("train",)),
            "Validation/zero/2.wav": ("zero", ("valid",)),
            "TESTING/one/3.wav": ("one", ("test",)),
            "4.wav": (None, SPLITS),
        }
        remark = "the folders TESTING, Validation, train are the splits, not labels"
        assert scan(tmp_path).remarks == (remark,)

    @pytest.mark.parametrize("name", ["eval", "Evaluation", "holdout"])
    def test_names_of_test_folders(self, tmp_path: Path, name: str):
        files = self.scanned(tmp_path, "train/1.wav", "dev/2.wav", f"{name}/3.wav")
        assert files[f"{name}/3.wav"] == (None, ("test",))

    def test_labels_lie_above(self, tmp_path: Path):
        files = self.scanned(tmp_path, "kick/train/1.wav", "kick/dev/2.wav", "snare/train/3.wav")
        assert files["kick/dev/2.wav"] == ("kick", ("valid",))
        assert files["snare/train/3.wav"] == ("snare", ("train",))

    def test_without_a_folder_for_validation_a_share_of_training_is(self, tmp_path: Path):
        names = [f"{split}/{i}.wav" for split in ("train", "test") for i in range(4)]
        files = self.scanned(tmp_path / "sounds", *names)
        assert set(files.values()) == {(None, ("train", "valid")), (None, ("test",))}
        report = prepare(tmp_path / "sounds", tmp_path / "shards", progress=False)
        assert report.splits == {"test": 4, "train": 3, "valid": 1}
        assert "no folder is for validation" in str(report)

    @pytest.mark.parametrize("others", [["dog/1.wav", "car/2.wav"], ["valued/1.wav"]])
    def test_a_folder_of_trains_is_a_label(self, tmp_path: Path, others: list[str]):
        assert self.scanned(tmp_path, "train/whistle.wav", *others)["train/whistle.wav"] == ("train", SPLITS)

    def test_no_labels(self, tmp_path: Path):
        files = self.scanned(tmp_path, "kick/train/1.wav", "kick/test/2.wav", labels=False)
        assert [label for label, _ in files.values()] == [None, None]
        assert files["kick/test/2.wav"][1] == ("test",)


class TestMetadata:
    @pytest.fixture
    def root(self, tmp_path: Path) -> Path:
        names = ("kick/1.wav", "flute_060_090.wav", "new\nline.wav")
        return nasty.build(tmp_path, tuple(nasty.Case(name, "taken", nasty.NAMES[0].write) for name in names))

    @pytest.mark.parametrize("separator", [",", ";", "\t"])
    def test_wins_over_names(self, root: Path, separator: str):
        lines = [
            "\ufefffile,label,pitch,split",
            "kick/1.wav,snare,36.5,test",
            "flute_060_090.wav,,60,valid",
            "new\\nline.wav,x,,",
        ]
        (root / "metadata.csv").write_text("\n".join(lines).replace(",", separator), encoding="utf-8")
        corpus = scan(root)
        assert {s.file: (s.label, s.pitch, s.pitch_source, s.splits) for s in corpus.files} == {
            "kick/1.wav": ("snare", 36.5, "metadata", ("test",)),
            "flute_060_090.wav": (None, 60, "metadata", ("valid",)),
            "new\nline.wav": ("x", None, "", SPLITS),
        }
        assert corpus.warned == ()
        assert not corpus.ignored
        assert {source.pitch for source in scan(root, pitches=False).files} == {None}

    @pytest.mark.parametrize("name", [*NAMES, "TRAIN", "Training", "Val", "Dev", "EVAL"])
    def test_splits_have_the_names_of_split_folders(self, root: Path, name: str):
        (root / "metadata.csv").write_text(f"file,split\nkick/1.wav,{name}\n")
        assert {source.file: source.splits for source in scan(root).files}["kick/1.wav"] == (NAMES[name.lower()],)

    @pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "cp1252", "mac_roman", "cp932"])
    @pytest.mark.parametrize("form", ["NFC", "NFD"])
    def test_any_encoding_and_either_form_of_names(self, tmp_path: Path, encoding: str, form: str):
        name, label = ("ドラム", "太鼓") if encoding == "cp932" else ("fl\u00fbte", "h\u00e9")
        file = unicodedata.normalize(form, f"{name}.wav")
        nasty.build(tmp_path, (nasty.Case(file, "taken", nasty.NAMES[0].write),))
        (tmp_path / "metadata.csv").write_text(f"file,label\n{name}.wav,{label}\n", encoding=encoding)
        (source,) = scan(tmp_path).files
        assert (source.file, source.label) == (file, label)

    def test_names_that_are_not_unicode(self, tmp_path: Path):
        nasty.build(tmp_path, (nasty.Case(os.fsdecode(b"\xe9t\xe9.wav"), "taken", nasty.NAMES[0].write),))
        (tmp_path / "metadata.csv").write_bytes(b"file,label\n\xe9t\xe9.wav,x\n")
        assert scan(tmp_path).files[0].label == "x"

    def test_folders_as_on_windows_and_labels_in_one_form(self, root: Path):
        (root / "metadata.csv").write_text("file,label\n.\\kick\\1.wav,fl\u0075\u0302te\n", encoding="utf-8")
        assert scan(root).files[1].label == "fl\u00fbte"

    def test_a_column_without_meaning_is_warned_of(self, root: Path):
        (root / "metadata.csv").write_text("file,velocity\nkick/1.wav,4\n")
        assert scan(root).warned == (("metadata.csv", "the column velocity is not used"),)

    def test_a_line_for_a_refused_file_is_passed_over(self, root: Path):
        (root / "gone.wav").symlink_to("nowhere")
        (root / "metadata.csv").write_text("file,label\ngone.wav,x\nkick/1.wav,y\n")
        assert [source.label for source in scan(root).files] == [None, "y", None]

    @pytest.mark.parametrize(
        ("text", "says"),
        [
            ("name,label\nkick/1.wav,x\n", "line 1: no column `file`"),
            ("", "line 1: no column `file`"),
            ("file,pitch\nkick/1.wav,C4\n", "line 2: pitch C4"),
            ("file,pitch\n\nkick/1.wav,nan\n", "line 3: pitch nan"),
            ("file,pitch\nkick/1.wav,128\n", "line 2: pitch 128"),
            (
                "file,split\nkick/1.wav,train\nflute_060_090.wav,trian\n",
                "line 3: split trian; give one of train, training, valid, validation, val, dev, test, .* or nothing",
            ),
            ("file,split\nkick/1.wav,train\nkick/1.wav,test\n", "line 3: .* already"),
            ("file,label\nkick/1.wav,x,y\n", "line 2: more fields"),
            ("file,label\nnowhere.wav,x\na.wav,\nb.wav,\nc.wav,", r"line 2: nowhere.wav; .* and 1 more\): correct"),
        ],
    )
    def test_mistakes_name_the_line(self, root: Path, text: str, says: str):
        (root / "metadata.csv").write_text(text)
        with pytest.raises(UserError, match=says):
            scan(root)

    @given(content=st.binary(max_size=200))
    def test_no_content_is_a_traceback(self, tmp_path_factory: pytest.TempPathFactory, content: bytes):
        path = tmp_path_factory.getbasetemp() / "metadata.csv"
        path.write_bytes(content)
        with contextlib.suppress(UserError):
            read_metadata(path, ["a.wav"])

    def test_other_metadata_makes_other_shards(self, root: Path):
        before = fingerprint(scan(root), ["", "", ""])
        (root / "metadata.csv").write_text("file,label\nkick/1.wav,x\n")
        assert fingerprint(scan(root), ["", "", ""]) != before


# What this project has settled for the recorded folder; every other file in it is taken, once if it is there twice.
SETTLED = {
    "refused": """
        aac.m4a wma.wma video_with_sound.mp4 zero_bytes.wav header_truncated.wav header_only.wav no_samples.wav
        riff_no_data_chunk.wav fmt_zero_channels.wav fmt_rate_zero.wav fmt_rate_huge.wav text_renamed.wav html_404.mp3
        zip_renamed.wav random_bytes.flac float32_nan_inf.wav float32_denormal.wav silence_2s.wav dc_only.wav
        short_1_sample.wav links/dangling.wav links/self.wav""",
    "warned": """
        stereo_antiphase.wav wav_data_len_zero_streamed.wav wav_data_len_ffffffff.wav wav_data_len_too_long.wav
        wav_truncated_middle.wav flac_truncated.flac flac_corrupt_frame.flac float32_peak_4.wav float32_int_scaled.wav
        almost_silence_1lsb.wav dc_offset_0.5.wav""",
    "ignored": """
        noextension .hidden.wav .DS_Store ._dots.in.name.v2.wav Thumbs.db desktop.ini cover.jpg kick.wav.asd loop.mid
        partial.wav.crdownload __MACOSX/inside.wav links/loop""",
}

if RECORDED.exists():
    EXPECTED = list(csv.DictReader(io.StringIO((RECORDED / "expect.csv").read_text(encoding="utf-8"))))

    @pytest.fixture(scope="module")
    def recorded(tmp_path_factory: pytest.TempPathFactory) -> tuple[Report, Shards]:
        root = tmp_path_factory.mktemp("recorded")
        with tarfile.open(RECORDED / "nasty-files.tar.gz") as archive:
            archive.extractall(root, filter="tar")
        report = prepare(root / "files", root / "shards", progress=False)
        return report, Shards.open(root / "shards", verify=True)

    @pytest.mark.parametrize("row", EXPECTED, ids=lambda row: row["file"])
    def test_each_recorded_file_is_treated_as_settled(row: dict[str, str], recorded: tuple[Report, Shards]):
        report, shards = recorded
        known = [*(file for file, _ in report.refused), *(file for file, _ in report.duplicates)]
        names = {display(file): file for file in [*known, *(clip.file for clip in shards.clips)]}
        name, text = treatment(report, shards, names.get(row["file"], row["file"]))
        settled = next((settled for settled, files in SETTLED.items() if row["file"] in files.split()), "taken")
        formats = {"refused", "taken"} if "formats" in text or row["file"].endswith(("m4a", "wma", "mp4")) else set()
        # Many of them hold the very same sound: of those the first is taken and the others named as its copies.
        assert name in {settled, *formats} | ({"duplicate"} if settled in ("taken", "warned") else set()), text
        # And the opinion that came with the files, where it leaves no choice.
        if row["expect"].startswith("skip with"):
            assert name == "refused"
        elif row["expect"].startswith("ignored") and "or" not in row["expect"]:
            assert name == "ignored"
        elif row["expect"] == "ok":
            assert name in ("taken", "duplicate", "warned")
