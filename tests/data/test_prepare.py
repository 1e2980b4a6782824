"""prepare: the same shards however it is run, interrupted, killed or starved of disk; a clear word for each mistake."""

import errno
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from wavesynth.data import partial as partial_module
from wavesynth.data import prepare as prepare_module
from wavesynth.data.corpus import scan
from wavesynth.data.prepare import Report, prepare
from wavesynth.data.shards import Shards
from wavesynth.errors import UserError

from . import nasty

ROOT = Path(__file__).resolve().parents[2]
_plain = nasty.NAMES[0].write


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def swap(one: Path, other: Path) -> None:
    """Exchanges the contents of two files."""
    first, second = one.read_bytes(), other.read_bytes()
    one.write_bytes(second)
    other.write_bytes(first)


def run(program: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    """A Python program in a process of its own."""
    command = [sys.executable, "-W", "error", "-c", program, *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.fixture
def sounds(tmp_path: Path) -> Path:
    """30 sounds under 3 labels, among them some that are refused, copies, or warned of."""
    names = [f"{label}/{i}.wav" for label in ("kick", "snare", "tom") for i in range(9)]
    cases = tuple(nasty.Case(name, "taken", _plain) for name in names)
    odd = tuple(case for case in nasty.CASES if case.file in ("twins/1.wav", "twins/2.wav", "text.wav", "peak_4.wav"))
    return nasty.build(tmp_path / "sounds", cases + odd)


@pytest.fixture
def expected(sounds: Path, tmp_path: Path) -> dict[str, bytes]:
    """What an uninterrupted run writes."""
    prepare(sounds, tmp_path / "expected", progress=False)
    return content(tmp_path / "expected")


def test_the_report_tells_everything(sounds: Path, tmp_path: Path):
    report = prepare(sounds, tmp_path / "shards", progress=False)
    shards = Shards.open(tmp_path / "shards", verify=True)
    assert report.taken == len(shards) == 29
    assert report.labels == {"": 1, "kick": 9, "snare": 9, "tom": 9, "twins": 1}
    assert shards.labels == ("kick", "snare", "tom", "twins")
    assert report.seconds == shards.seconds == pytest.approx(29 * nasty.SECONDS)
    assert report.splits == {name: len(shards.split(name)) for name in report.splits}
    assert report.duplicates == (("twins/2.wav", "twins/1.wav"),)
    assert Report.from_json((tmp_path / "shards" / "report.json").read_text()) == report
    for line in ("29 files", "refused     1 file", "text.wav: it is not sound", "peak_4.wav: peak", "kick 9"):
        assert line in str(report)


def test_the_report_says_what_is_silence(tmp_path: Path):
    def with_silence(path: Path, make: Callable[[int], np.ndarray]) -> None:
        note = make(nasty.RATE)
        path.write_bytes(nasty.wav(nasty.pcm(np.concatenate([0 * note, note, 0 * note, 0 * note, note, 0 * note]))))

    nasty.build(tmp_path / "sounds", (nasty.Case("1.wav", "taken", with_silence),))
    report = prepare(tmp_path / "sounds", tmp_path / "shards", progress=False, valid=0)
    (clip,) = Shards.open(tmp_path / "shards").clips
    assert clip.sound == ((4_800, 9_600), (19_200, 24_000))
    assert report.silence == pytest.approx(4 * nasty.SECONDS)
    assert "67% of the sound" in str(report)
    assert "no clip is held out for validation, so memorisation goes unnoticed: set valid > 0" in str(report)


def test_pitches_are_tracked_where_names_give_none(tmp_path: Path, shipped: Path):
    folder = tmp_path / "sounds"
    folder.mkdir()
    named = [("cello_C2", "flute", 63), ("cello_C3", "cello", 63), ("cello_C4", "cello", 66), ("cello_C5", "cello", 69)]
    for name, label, pitch in (("one", "flute", 60), ("two", "cello", 60), *named):
        shutil.copy(next(shipped.glob(f"{label}/*_{pitch:03d}_*.flac")), folder / f"{name}.flac")
    shutil.copy(next(shipped.glob("kick/*.flac")), folder / "dull.flac")
    report = prepare(folder, tmp_path / "shards", track_pitch=True, progress=False)
    found = {clip.file: clip.pitch for clip in Shards.open(tmp_path / "shards").clips}
    assert found["one.flac"] == pytest.approx(60, abs=0.3)
    assert found["two.flac"] == pytest.approx(60, abs=0.3)
    assert found["cello_C2.flac"] == 36  # the name counts
    assert report.remarks[-1].startswith("a pitch was found in 2 of 3 clips")
    assert report.pitches.counts == {"name": 4, "tracked": 2}
    assert found["dull.flac"] is None
    with pytest.raises(UserError, match="track_pitch True"):
        prepare(folder, tmp_path / "shards", progress=False)


def test_tracking_without_its_extra_says_so(sounds: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("wavesynth.audio.pitch.available", lambda: False)
    with pytest.raises(UserError, match=r"wavesynth-jax\[pitch\]"):
        prepare(sounds, tmp_path / "shards", track_pitch=True, progress=False)
    assert not (tmp_path / "shards").exists()


@pytest.mark.parametrize("workers", [1, 4])
def test_workers_change_nothing(sounds: Path, tmp_path: Path, expected: dict[str, bytes], workers: int):
    prepare(sounds, tmp_path / "shards", workers=workers, progress=False)
    assert content(tmp_path / "shards") == expected


def test_new_files_move_no_old_clip(sounds: Path, tmp_path: Path):
    prepare(sounds, tmp_path / "before", progress=False)
    nasty.build(sounds, tuple(nasty.Case(f"new/{i}.wav", "taken", _plain) for i in range(20)))
    prepare(sounds, tmp_path / "after", progress=False)
    before, after = ({c.sha256: c.split for c in Shards.open(tmp_path / name).clips} for name in ("before", "after"))
    assert before.items() <= after.items()


def test_progress_is_shown_on_stderr(sounds: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    prepare(sounds, tmp_path / "shards")
    prepare(sounds, tmp_path / "shards")
    shown = capsys.readouterr()
    assert "prepare: 31 of 31 files" in shown.err
    assert "up to date" in shown.err
    assert shown.out == ""


class TestAgain:
    """A second call on finished shards."""

    @pytest.fixture
    def shards(self, sounds: Path, tmp_path: Path) -> Path:
        prepare(sounds, tmp_path / "shards", progress=False)
        return tmp_path / "shards"

    def test_does_nothing_when_nothing_changed(self, sounds: Path, shards: Path, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr(prepare_module, "decode_all", lambda *_: pytest.fail("it decodes again"))
        before = {path: path.stat().st_mtime_ns for path in shards.iterdir()}
        report = prepare(sounds, shards, progress=False)
        assert report.status == "up to date"
        assert report.taken == 29
        assert {path: path.stat().st_mtime_ns for path in shards.iterdir()} == before

    def test_a_run_that_was_killed_between_renaming_and_tidying_up(self, sounds: Path, shards: Path):
        before = content(shards)
        (shards / "journal.jsonl").write_text("{}\n")
        assert prepare(sounds, shards, progress=False).status == "up to date"
        assert content(shards) == before

    def test_what_a_file_manager_adds_is_no_obstacle(self, sounds: Path, shards: Path):
        (shards / ".DS_Store").write_bytes(b"x")
        assert prepare(sounds, shards, progress=False).status == "up to date"
        assert prepare(sounds, shards, progress=False, force=True).status == "made"

    def test_a_folder_that_holds_more_is_never_replaced(self, sounds: Path, shards: Path):
        (shards / "thesis.doc").write_bytes(b"x")
        with pytest.raises(UserError, match=r"holds thesis.doc"):
            prepare(sounds, shards, progress=False, force=True)
        assert (shards / "thesis.doc").exists()

    @pytest.mark.parametrize(
        ("change", "how", "says"),
        [
            (lambda sounds: (sounds / "tom/1.wav").unlink(), {}, "from other sounds"),
            (lambda sounds: swap(sounds / "tom/1.wav", sounds / "tom/2.wav"), {}, "from other sounds"),
            (lambda sounds: nasty.build(sounds, (nasty.Case("x.wav", "", _plain),)), {}, "from other sounds"),
            (lambda sounds: (sounds / "metadata.csv").write_text("file,label\ntom/1.wav,x"), {}, "from other sounds"),
            (lambda sounds: None, {"sample_rate": 8_000}, "prepared with sample_rate 16000"),
            (lambda sounds: None, {"valid": 0.2}, "prepared with valid 0.1"),
            (lambda sounds: None, {"labels": False}, "prepared with labels True"),
        ],
    )
    def test_asks_before_it_replaces(
        self, sounds: Path, shards: Path, change: Callable[[Path], object], how: dict[str, float], says: str
    ):
        change(sounds)
        before = content(shards)
        with pytest.raises(UserError, match=f"{says}.*--force"):
            prepare(sounds, shards, progress=False, **how)
        assert content(shards) == before
        prepare(sounds, shards, progress=False, force=True, **how)
        assert Shards.open(shards, verify=True).sample_rate == how.get("sample_rate", 16_000)
        assert content(shards) != before
        assert sorted(path.name for path in shards.parent.iterdir()) == ["shards", "sounds"]

    def test_a_copy_of_the_folder_is_the_same_folder(self, sounds: Path, shards: Path, tmp_path: Path):
        shutil.copytree(sounds, tmp_path / "copy", copy_function=shutil.copyfile)
        assert prepare(tmp_path / "copy", shards, progress=False).status == "up to date"
        (shards / "sources.json").write_text("[" * 100_000)  # it only saves reading the files
        assert prepare(sounds, shards, progress=False).status == "up to date"

    def test_files_of_the_same_time_and_size_are_not_read(
        self, sounds: Path, shards: Path, monkeypatch: pytest.MonkeyPatch
    ):
        read = []
        monkeypatch.setattr("wavesynth.data.sources.digest_of", lambda path: read.append(path.name) or "")
        assert prepare(sounds, shards, progress=False).status == "up to date"
        os.utime(sounds / "tom/1.wav", (1, 1))
        with pytest.raises(UserError, match="from other sounds"):
            prepare(sounds, shards, progress=False)
        assert read == ["1.wav"]

    def test_shards_of_an_earlier_format_are_to_be_made_again(self, sounds: Path, shards: Path):
        path = shards / "manifest.json"
        path.write_bytes(path.read_bytes().replace(b'"version": 2', b'"version": 1'))
        with pytest.raises(
            UserError, match=r"format version 1, .* reads version 2: prepare the shards again .*--force"
        ):
            prepare(sounds, shards, progress=False)
        assert prepare(sounds, shards, progress=False, force=True).status == "made"

    @pytest.mark.parametrize("text", ["", "[" * 100_000, "{}", '{"taken": []}', "[1]"])
    def test_a_damaged_report_is_one_line(self, sounds: Path, shards: Path, text: str):
        (shards / "report.json").write_text(text)
        with pytest.raises(UserError, match=r"has lost its report: .*--force"):
            prepare(sounds, shards, progress=False)

    def test_force_repairs_damage(self, sounds: Path, shards: Path):
        before = content(shards)
        for name in sorted(before.keys() - {"sources.json"}):
            (shards / name).unlink()
            with pytest.raises(UserError, match="--force"):
                prepare(sounds, shards, progress=False)
            prepare(sounds, shards, progress=False, force=True)
            assert content(shards) == before

    def test_old_shards_stay_until_the_new_are_complete(
        self, sounds: Path, shards: Path, monkeypatch: pytest.MonkeyPatch
    ):
        before = content(shards)

        def interrupt(*_: object) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr(prepare_module.Partial, "finish", interrupt)
        with pytest.raises(KeyboardInterrupt):
            prepare(sounds, shards, progress=False, force=True)
        assert content(shards) == before


class TestInterrupted:
    def interrupt(self, sounds: Path, shards: Path, monkeypatch: pytest.MonkeyPatch, after: int = 12) -> None:
        """Ctrl-C when `after` files are recorded."""
        record = partial_module.Partial.record

        def interrupted(self: partial_module.Partial, *arguments) -> None:
            if len(self.outcomes) == after:
                raise KeyboardInterrupt
            record(self, *arguments)

        with monkeypatch.context() as patch:
            patch.setattr(partial_module.Partial, "record", interrupted)
            with pytest.raises(KeyboardInterrupt):
                prepare(sounds, shards, progress=False)
        assert not shards.exists()
        assert shards.with_name(shards.name + ".partial").exists()

    def test_the_next_run_continues(
        self, sounds: Path, tmp_path: Path, expected: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
    ):
        self.interrupt(sounds, tmp_path / "shards", monkeypatch)
        decode_all, asked = prepare_module.decode_all, []

        def listening(root: Path, files, *rest):
            asked.extend(files)
            return decode_all(root, files, *rest)

        monkeypatch.setattr(prepare_module, "decode_all", listening)
        assert prepare(sounds, tmp_path / "shards", progress=False).status == "continued"
        assert content(tmp_path / "shards") == expected
        assert len(asked) == 31 - 12

    @pytest.mark.parametrize(
        "torn", [b"", b"{", b'{"file": "snare/1.wav", "size"', b"[" * 99_999 + b"\n", b"[1]\n", b"{}\n"]
    )
    def test_half_a_line_and_half_a_clip_are_cut_off(
        self, sounds: Path, tmp_path: Path, expected: dict[str, bytes], monkeypatch: pytest.MonkeyPatch, torn: bytes
    ):
        self.interrupt(sounds, tmp_path / "shards", monkeypatch)
        for name, more in (("journal.jsonl", torn), ("shard-00000.pcm", b"half a clip")):
            with (tmp_path / "shards.partial" / name).open("ab") as file:
                file.write(more)
        (tmp_path / "shards.partial" / "shard-00001.pcm").write_bytes(b"never recorded")
        prepare(sounds, tmp_path / "shards", progress=False)
        assert content(tmp_path / "shards") == expected

    @pytest.mark.parametrize(
        ("change", "how", "says"),
        [
            (
                lambda root: swap(root / "sounds/kick/3.wav", root / "sounds/kick/4.wav"),
                {},
                r"changed since \(kick/3.wav\)",
            ),
            (lambda root: (root / "sounds/kick/3.wav").unlink(), {}, r"changed since \(kick/4.wav\)"),
            (lambda root: (root / "shards.partial/shard-00000.pcm").write_bytes(b"x" * 400_000), {}, "data files"),
            (lambda root: (root / "shards.partial/shard-00000.pcm").unlink(), {}, "data files"),
            (lambda root: None, {"sample_rate": 8_000}, "other settings"),
        ],
    )
    def test_work_that_no_longer_fits_is_done_again_with_a_word(
        self,
        sounds: Path,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
        change: Callable[[Path], object],
        how: dict[str, int],
        says: str,
    ):
        self.interrupt(sounds, tmp_path / "shards", monkeypatch)
        change(tmp_path)
        prepare(sounds, tmp_path / "shards", **how)
        assert re.search(f"starting over after an interrupted run: .*{says}", capsys.readouterr().err)
        prepare(sounds, tmp_path / "fresh", progress=False, **how)
        assert content(tmp_path / "shards") == content(tmp_path / "fresh")

    def test_two_at_once_are_refused(self, sounds: Path, tmp_path: Path):
        held = partial_module.Partial(tmp_path / "shards", {}, scan(sounds))
        with held, pytest.raises(UserError, match="another `prepare` is using it"):
            prepare(sounds, tmp_path / "shards", progress=False)

    @pytest.mark.parametrize("way", ["renamed", "moved", "refused"])
    def test_nobody_begins_in_a_folder_that_is_being_finished(
        self, sounds: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str
    ):
        shards, says = tmp_path / "shards", []
        if way == "moved":
            shards.mkdir()
            monkeypatch.setattr(os.path, "ismount", lambda path: Path(path) == shards)
        elif way == "refused":
            sounds = nasty.build(tmp_path / "texts", tuple(case for case in nasty.CASES if case.file == "text.wav"))
        corpus = scan(sounds)
        module, name = {"renamed": (os, "rename"), "moved": (shutil, "move"), "refused": (Path, "unlink")}[way]
        step = getattr(module, name)

        def between(*arguments: Any, **options: Any) -> Any:
            if partial_module.partial_folder(shards).exists():
                with pytest.raises(UserError) as error:
                    partial_module.Partial(shards, {}, corpus)
                says.append(str(error.value))
            return step(*arguments, **options)

        with monkeypatch.context() as patch:
            patch.setattr(module, name, between)
            if way == "refused":
                with pytest.raises(UserError, match="files were refused"):
                    prepare(sounds, shards, progress=False)
            else:
                prepare(sounds, shards, progress=False)
        assert says
        assert all("another `prepare` is using it" in text for text in says)
        assert not partial_module.partial_folder(shards).exists()

    def test_a_journal_that_was_moved_away_is_not_begun_in(
        self, sounds: Path, tmp_path: Path, expected: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
    ):
        flock, waiting = partial_module.flock, [True]

        def late(descriptor: int) -> bool | None:
            if waiting:  # the other process finishes between opening and locking
                waiting.clear()
                prepare(sounds, tmp_path / "shards", progress=False)
            return flock(descriptor)

        monkeypatch.setattr(partial_module, "flock", late)
        with pytest.raises(UserError, match="another `prepare` has just finished it; run this one again"):
            partial_module.Partial(tmp_path / "shards", {}, scan(sounds))
        assert content(tmp_path / "shards") == expected
        assert not (tmp_path / "shards.partial").exists()

    def test_a_partial_folder_of_somebody_else_is_left_alone(self, sounds: Path, tmp_path: Path):
        nasty.build(tmp_path / "shards.partial", nasty.FORMATS[:1])
        with pytest.raises(UserError, match="move it"):
            prepare(sounds, tmp_path / "shards", progress=False)


def test_killed_at_random_moments_nothing_is_lost(sounds: Path, tmp_path: Path, expected: dict[str, bytes]):
    """kill -9, 12 times: what is left never looks finished unless it is, and the next run ends at the same bytes."""
    program = """if True:
        import os, random, shutil, signal, sys, time, warnings
        from pathlib import Path
        warnings.simplefilter("ignore", DeprecationWarning)  # a fork beside numpy's own threads, from Python 3.12 on
        import numpy, soundfile, soxr, tqdm
        from wavesynth.data.prepare import prepare
        from wavesynth.data.shards import Shards
        sounds, shards = Path(sys.argv[1]), Path(sys.argv[2])
        expected = {path.name: path.read_bytes() for path in Path(sys.argv[3]).iterdir()}
        unfinished = shards.with_name("shards.partial")

        def child():
            pid = os.fork()
            if pid:
                return pid
            status = 1
            try:
                prepare(sounds, shards, workers=2, progress=False)
                status = 0
            finally:
                os._exit(status)

        begin = time.perf_counter()
        assert os.waitpid(child(), 0)[1] == 0
        whole = time.perf_counter() - begin
        interrupted = 0
        for seed in range(12):
            shutil.rmtree(shards)
            pid = child()
            time.sleep(random.Random(seed).uniform(0.02, 1) * whole)
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            interrupted += unfinished.exists()
            if shards.exists():
                Shards.open(shards, verify=True)
            assert os.waitpid(child(), 0)[1] == 0, seed
            assert {path.name: path.read_bytes() for path in shards.iterdir()} == expected, seed
            assert not unfinished.exists()
        print(interrupted)"""
    done = run(program, sounds, tmp_path / "shards", tmp_path / "expected")
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) >= 3, "too few of the 12 met a run at work"


@pytest.mark.skipif(sys.platform != "linux", reason="the peak of a process is read from /proc")
def test_memory_does_not_grow_with_a_file(tmp_path: Path):
    """20 minutes at 24 kHz: 58 MB as they are, 38 MB in the shards, 77 MB as floats."""
    (tmp_path / "sounds").mkdir()
    second = (np.random.default_rng(0).standard_normal(24_000) * 3_000).astype("<i2").tobytes()
    program = """if True:
        import sys
        from wavesynth.data.prepare import prepare
        prepare(sys.argv[1], sys.argv[2], progress=False)
        # Not ru_maxrss: that begins at what the parent process held.
        with open("/proc/self/status") as status:
            print(next(line.split()[1] for line in status if line.startswith("VmHWM")))"""
    peaks = []
    for seconds in (3, 1_200):
        (tmp_path / "sounds" / "long.wav").write_bytes(nasty.wav(second * seconds, rate=24_000))
        done = run(program, tmp_path / "sounds", tmp_path / f"shards{seconds}")
        assert done.returncode == 0, done.stderr
        peaks.append(int(done.stdout) / 1024)
    assert peaks[1] - peaks[0] < 16
    assert Shards.open(tmp_path / "shards1200", verify=True).seconds == pytest.approx(1_200)


class TestFullDisk:
    def check(self, message: str) -> int:
        assert "is full: about" in message
        assert "\n" not in message
        return int(re.search(r"([\d,]+) of 31 files are kept", message).group(1))

    def test_a_file_that_may_not_grow(self, sounds: Path, tmp_path: Path, expected: dict[str, bytes]):
        """The limit of a process on the size of its files, met by whatever is written first."""
        program = """if True:
            import resource, sys
            from wavesynth.data.prepare import prepare
            from wavesynth.errors import UserError
            resource.setrlimit(resource.RLIMIT_FSIZE, (120_000, 120_000))
            try:
                prepare(sys.argv[1], sys.argv[2], progress=False)
            except UserError as error:
                print(error)"""
        done = run(program, sounds, tmp_path / "shards")
        assert done.returncode == 0, done.stderr
        assert 5 < self.check(done.stdout.strip()) < 20
        assert not (tmp_path / "shards").exists()
        assert prepare(sounds, tmp_path / "shards", progress=False).status == "continued"
        assert content(tmp_path / "shards") == expected

    def test_a_small_disk(self, sounds: Path, tmp_path: Path, expected: dict[str, bytes]):
        disk = tmp_path / "disk"
        disk.mkdir()
        mount = ["mount", "-t", "tmpfs", "-o", "size=160k", "tmpfs", str(disk)]
        if shutil.which("mount") is None or subprocess.run(mount, capture_output=True, check=False).returncode:
            pytest.skip("no right to mount a small disk here; the limit on file sizes is tested all the same")
        try:
            with pytest.raises(UserError) as caught:
                prepare(sounds, disk / "shards", progress=False)
            assert 5 < self.check(str(caught.value)) < 20
            subprocess.run(["mount", "-o", "remount,size=2m", str(disk)], check=True)
            assert prepare(sounds, disk / "shards", progress=False).status == "continued"
            assert content(disk / "shards") == expected
        finally:
            subprocess.run(["umount", str(disk)], check=True)

    @pytest.mark.parametrize("where", ["to_json", "to_bytes"])
    def test_at_the_very_end(
        self, sounds: Path, tmp_path: Path, expected: dict[str, bytes], monkeypatch: pytest.MonkeyPatch, where: str
    ):
        def full(*_: object) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        with monkeypatch.context() as patch:
            patch.setattr(Report if where == "to_json" else prepare_module.Manifest, where, full)
            with pytest.raises(UserError) as caught:
                prepare(sounds, tmp_path / "shards", progress=False)
        assert self.check(str(caught.value)) == 31
        assert not (tmp_path / "shards").exists()
        prepare(sounds, tmp_path / "shards", progress=False)
        assert content(tmp_path / "shards") == expected


class TestFilesystems:
    """Mount points, folders that cannot be renamed, and filesystems without locks or without flushing."""

    def test_a_mount_point(self, sounds: Path, tmp_path: Path, expected: dict[str, bytes]):
        disk = tmp_path / "disk"
        disk.mkdir()
        mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(disk)]
        if shutil.which("mount") is None or subprocess.run(mount, capture_output=True, check=False).returncode:
            pytest.skip("no right to mount a disk here; a folder that passes for one is tested all the same")
        try:
            (disk / "lost+found").mkdir()
            for force in (False, True):
                assert prepare(sounds, disk, progress=False, force=force).status == "made"
                assert sorted(path.name for path in disk.iterdir()) == sorted([*expected, "lost+found"])
            (disk / "lost+found").rmdir()
            assert content(disk) == expected
            assert prepare(sounds, disk, progress=False).status == "up to date"
        finally:
            subprocess.run(["umount", str(disk)], check=True)

    @pytest.mark.parametrize("obstacle", ["mount", "parent", "rename"])
    def test_shards_that_cannot_be_renamed(
        self, sounds: Path, tmp_path: Path, expected: dict[str, bytes], monkeypatch: pytest.MonkeyPatch, obstacle: str
    ):
        shards = tmp_path / "shards"
        shards.mkdir()
        if obstacle == "mount":
            monkeypatch.setattr(os.path, "ismount", lambda path: Path(path) == shards)
        elif obstacle == "parent":
            monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != tmp_path)
        rename = os.rename

        def busy(source: Path, target: Path) -> None:
            if Path(source) == shards:
                raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))
            rename(source, target)

        monkeypatch.setattr(os, "rename", busy)
        for force in (False, True):
            assert prepare(sounds, shards, progress=False, force=force).status == "made"
            assert content(shards) == expected
        assert sorted(path.name for path in tmp_path.iterdir()) == ["expected", "shards", "sounds"]

    @pytest.mark.parametrize("after", [0, 1, 2, 3, 4])
    def test_an_interrupted_move_never_looks_finished(
        self, sounds: Path, tmp_path: Path, expected: dict[str, bytes], monkeypatch: pytest.MonkeyPatch, after: int
    ):
        shards, moved = tmp_path / "shards", []
        shards.mkdir()
        monkeypatch.setattr(os.path, "ismount", lambda path: Path(path) == shards)
        prepare(sounds, shards, progress=False, sample_rate=8_000)

        def interrupted(source: Path, target: Path) -> None:
            if len(moved) == after:
                raise KeyboardInterrupt
            moved.append(os.replace(source, target))

        with monkeypatch.context() as patch:
            patch.setattr(shutil, "move", interrupted)
            try:
                prepare(sounds, shards, progress=False, force=True)
            except KeyboardInterrupt:
                assert not (shards / "manifest.json").exists()
            else:
                assert len(moved) == after == 4
        prepare(sounds, shards, progress=False)
        assert content(shards) == expected

    @pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
    def test_no_locks(
        self,
        sounds: Path,
        tmp_path: Path,
        expected: dict[str, bytes],
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
        number: int,
    ):
        def unsupported(*_: object) -> None:
            raise OSError(number, os.strerror(number))

        monkeypatch.setattr("fcntl.flock", unsupported)
        prepare(sounds, tmp_path / "shards")
        assert "this filesystem has no locks" in capsys.readouterr().err
        assert content(tmp_path / "shards") == expected

    def test_no_flushing(
        self, sounds: Path, tmp_path: Path, expected: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
    ):
        def unsupported(_: int) -> None:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))

        monkeypatch.setattr(os, "fsync", unsupported)
        prepare(sounds, tmp_path / "shards", progress=False)
        assert content(tmp_path / "shards") == expected


class TestMistakes:
    @pytest.mark.parametrize(
        ("how", "says"),
        [
            ({"sample_rate": 999}, "sample_rate=999: .*1000 to 768000"),
            ({"sample_rate": 44_100.5}, "sample_rate=44100.5"),
            ({"sample_rate": True}, "sample_rate=True"),
            ({"valid": 1.0}, "valid=1.0"),
            ({"test": -0.1}, "test=-0.1"),
            ({"valid": float("nan")}, "valid=nan"),
            ({"valid": 0.5, "test": 0.5}, "leave nothing to train on"),
            ({"workers": 0}, "workers=0"),
        ],
    )
    def test_arguments(self, sounds: Path, tmp_path: Path, how: dict[str, float], says: str):
        with pytest.raises(UserError, match=says):
            prepare(sounds, tmp_path / "shards", progress=False, **how)
        assert not (tmp_path / "shards.partial").exists()

    @pytest.mark.parametrize(
        ("folder", "shards", "says"),
        [
            ("nowhere", "shards", "no such folder"),
            ("sounds/text.wav", "shards", "is a file"),
            ("empty", "shards", "holds no sound files; give"),
            ("other", "shards", r"holds no sound files \(1 other entries\)"),
            ("sounds", "sounds", "inside the folder of sounds"),
            ("sounds", "sounds/shards", "inside the folder of sounds"),
            ("sounds", "link/shards", "inside the folder of sounds"),
            ("sounds", "empty/../sounds/kick/..", "inside the folder of sounds"),
            ("sounds", "other/cover.jpg", "is a file: choose another folder"),
            ("sounds", "other", "holds cover.jpg, so it is not a shards folder"),
            ("sounds", "other/cover.jpg/shards", "cannot be written: Not a directory"),
        ],
    )
    def test_places(self, sounds: Path, tmp_path: Path, folder: str, shards: str, says: str):
        (tmp_path / "empty").mkdir()
        (tmp_path / "link").symlink_to(sounds)
        nasty.build(tmp_path / "other", (nasty.Case("cover.jpg", "ignored", _plain),))
        before = sorted(tmp_path.rglob("*"))
        for force in (False, True):
            with pytest.raises(UserError, match=says):
                prepare(tmp_path / folder, tmp_path / shards, progress=False, force=force)
        assert sorted(tmp_path.rglob("*")) == before

    def test_an_empty_folder_may_become_the_shards(self, sounds: Path, tmp_path: Path, expected: dict[str, bytes]):
        (tmp_path / "shards").mkdir()
        prepare(sounds, tmp_path / "shards", progress=False)
        assert content(tmp_path / "shards") == expected

    def test_most_of_a_folder_refused(self, tmp_path: Path):
        bad = tuple(case for case in nasty.CASES if case.treatment == "refused")[:8]
        good = nasty.FORMATS[3:10]
        nasty.build(tmp_path / "sounds", bad + good)
        with pytest.raises(UserError, match=r"8 of 15 files were refused \(.*shards.report.json"):
            prepare(tmp_path / "sounds", tmp_path / "shards", progress=False)
        assert len(json.loads((tmp_path / "shards.report.json").read_text())["refused"]) == 8
        assert sorted(path.name for path in tmp_path.iterdir()) == ["shards.report.json", "sounds"]
        (tmp_path / "sounds" / bad[0].file).unlink()
        assert prepare(tmp_path / "sounds", tmp_path / "shards", progress=False).taken == 7
        assert sorted(path.name for path in tmp_path.iterdir()) == ["shards", "sounds"]

    def test_metadata_that_leaves_nothing_to_train_on(self, tmp_path: Path):
        nasty.build(tmp_path / "sounds", nasty.FORMATS[3:4])
        (tmp_path / "sounds/metadata.csv").write_text(f"file,split\n{nasty.FORMATS[3].file},test\n")
        with pytest.raises(UserError, match="no clip may go to train"):
            prepare(tmp_path / "sounds", tmp_path / "shards", progress=False)


def test_importing_it_is_quick():
    """Help and errors must not wait for what only decoding needs."""
    program = """if True:
        import sys
        import wavesynth.data.prepare, wavesynth.data.shards
        print(*{"jax", "soundfile", "soxr", "tqdm", "av", "flax"} & set(sys.modules))"""
    assert run(program).stdout.strip() == ""
