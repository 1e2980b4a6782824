"""A run's folder: published models are found by name, one process trains a run, and an old run goes when a new one is whole."""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

import wavesynth
from wavesynth import runs, storage
from wavesynth.errors import UserError
from wavesynth.runs import NEW, Run
from wavesynth.training import lock
from wavesynth.training.lock import Holder, locked


def test_published_runs_load_from_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    assert "checkpoints/instruments" in runs.published()
    synth = wavesynth.load("checkpoints/instruments")
    assert synth.family.name == "autoencoder"
    assert wavesynth.load(Path("checkpoints") / "instruments").fingerprint == synth.fingerprint


def test_a_folder_of_the_user_goes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_run: Path):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "instruments").symlink_to(tiny_run, target_is_directory=True)
    assert wavesynth.load("checkpoints/instruments").family.name == "wavenet"


def test_one_that_is_not_there_is_named_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"run is 'checkpoints/none', .* bundled model \(checkpoints/instruments\)"):
        wavesynth.load("checkpoints/none")


def test_a_published_model_is_neither_resumed_nor_replaced(tmp_path: Path, sounds: Path, tiny_run: Path):
    published = tmp_path / "published"
    published.mkdir()
    for name in ("config.json", "model.safetensors"):
        shutil.copy(tiny_run / name, published / name)
    for options in (dict(resume=True), dict()):
        with pytest.raises(UserError, match=r"published model.*choose a new") as error:
            wavesynth.train(sounds, published, progress=False, **options)
        assert "--force" not in str(error.value)
        assert sorted(path.name for path in published.iterdir()) == ["config.json", "model.safetensors"]
    for force in (False, True):
        with pytest.raises(UserError, match="a bundled model: choose a new folder"):
            wavesynth.train(sounds, runs.PUBLISHED / "instruments", force=force, progress=False)


def test_a_folder_is_no_source_for_a_run_that_was_begun_with_shards(tmp_path: Path, sounds: Path, tiny_run: Path):
    run = tmp_path / "run"
    shutil.copytree(tiny_run, run)
    with pytest.raises(UserError, match=r"holds no shards; .* was started with the shards .*: use those"):
        wavesynth.train(sounds, run, resume=True, progress=False)
    assert not (run / "shards").exists()


# The lock.

HOLD = """
import sys, time
from pathlib import Path
from wavesynth.training.lock import locked
with locked(Path(sys.argv[1]), "training it"):
    print("held", flush=True)
    time.sleep(60)
"""


def no_flock(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file system without `flock`."""
    import fcntl

    def refuse(*_: Any) -> None:
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr(fcntl, "flock", refuse)


@pytest.mark.parametrize("flock", [True, False])
def test_a_second_process_is_told_who_holds_the_lock_until_that_is_killed(
    flock: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    path = tmp_path / ".lock"
    program = (
        HOLD if flock else "import fcntl\nfcntl.flock = lambda *_: (_ for _ in ()).throw(OSError(38, ''))\n" + HOLD
    )
    if not flock:
        no_flock(monkeypatch)
    child = subprocess.Popen([sys.executable, "-c", program, str(path)], stdout=subprocess.PIPE, text=True)
    try:
        assert child.stdout is not None
        assert child.stdout.readline() == "held\n"
        with pytest.raises(UserError, match=rf"process {child.pid} on \S+, since 2\d\d\d-.* is training it: wait"):
            locked(path, "training it").__enter__()
    finally:
        child.kill()
        child.communicate()
    assert path.exists()  # what kill -9 left
    with locked(path, "training it"):
        assert json.loads(path.read_text())["pid"] == os.getpid()
        with pytest.raises(UserError, match=f"process {os.getpid()} on "):  # this process is another one, too
            locked(path, "training it").__enter__()
    assert not path.exists()


@pytest.mark.parametrize("flock", [True, False])
def test_a_lock_of_another_machine_holds_while_it_is_renewed(
    flock: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    if not flock:
        no_flock(monkeypatch)
    path = tmp_path / ".lock"
    path.write_text(json.dumps({"pid": 1, "host": "elsewhere", "since": "2026-01-01 00:00:00", "started": "7"}))
    with pytest.raises(
        UserError, match=r"process 1 on elsewhere.*if it was killed, wait 2 minutes, or delete .*\.lock"
    ):
        locked(path, "training it").__enter__()
    past = time.time() - lock.STALE - 1
    os.utime(path, (past, past))
    with locked(path, "training it"):
        assert json.loads(path.read_text())["pid"] == os.getpid()
    assert list(tmp_path.iterdir()) == []


def test_another_process_of_the_same_id_holds_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    no_flock(monkeypatch)
    me = Holder.me()
    (tmp_path / ".lock").write_text(json.dumps({**me.__dict__, "started": "1"}))
    with locked(tmp_path / ".lock", "training it"):
        pass


def test_a_lock_is_renewed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(lock, "RENEWED", 0.01)
    with locked(tmp_path / ".lock", "training it"):
        os.utime(tmp_path / ".lock", (1, 1))
        end = time.monotonic() + 10
        while (tmp_path / ".lock").stat().st_mtime < 2:
            assert time.monotonic() < end
            time.sleep(0.01)


def test_a_run_is_trained_by_one_process(tmp_path: Path, tiny_run: Path, tiny_shards: Path):
    run = tmp_path / "run"
    shutil.copytree(tiny_run, run)
    with Run(run).locked():
        for options in (dict(resume=True), dict(force=True)):
            with pytest.raises(
                UserError, match=rf"process {os.getpid()} on .* is training .*run: wait for it, or stop it"
            ):
                wavesynth.train(tiny_shards, run, progress=False, **options)
        wavesynth.load(run)
    assert not (run / ".lock").exists()
    with Run(tmp_path / "a" / "b").locked():
        assert (tmp_path / "a" / "b" / ".lock").exists()
    assert not (tmp_path / "a").exists()  # nothing was written


# Replacing.

KINDS = ("config.json", "model.safetensors", "states/3/state", "previews/1/000.wav")


def fill(folder: Path, content: str, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content)


def contents(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}


def test_a_new_run_takes_the_place_of_the_old_one(tmp_path: Path):
    fill(tmp_path, "old", *KINDS, "journal.jsonl", "tensorboard/events", "shards/manifest.json")
    fill(tmp_path, "mine", "notes.txt")
    new = Run(tmp_path).replacement()
    assert new.replaces
    fill(new.folder, "new", *KINDS, "states/4/state")
    assert new.take_place() == tmp_path / "states"
    assert not new.replaces
    expected = dict.fromkeys((*KINDS, "states/4/state"), "new")
    assert contents(tmp_path) == expected | {"notes.txt": "mine", "shards/manifest.json": "old"}


def test_killed_at_any_moment_of_a_swap_the_new_run_is_read_and_put_in_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    class KilledError(Exception):
        pass

    replace, moves = Path.replace, 0
    for survived in range(20):
        folder = tmp_path / str(survived)
        fill(folder, "old", *KINDS, "journal.jsonl")
        new = Run(folder).replacement()
        fill(new.folder, "new", *KINDS)
        moves = 0

        def killed(self: Path, target: Path, survived: int = survived) -> Path:
            nonlocal moves
            moves += 1
            if moves > survived:
                raise KilledError
            return replace(self, target)

        with monkeypatch.context() as patch:
            patch.setattr(Path, "replace", killed)
            try:
                new.take_place()
                done = True
            except KilledError:
                done = False
        read = Run(folder)
        assert read.config.read_text() == read.weights.read_text() == "new"
        with read.locked():
            pass
        assert contents(folder) == dict.fromkeys(KINDS, "new")
        if done:
            break
    assert done
    assert survived == 9  # 4 old ones go, 4 come, 1 has no successor


def test_files_appear_whole_where_folders_cannot_be_synced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    real = os.fsync

    def fsync(descriptor: int) -> None:
        if os.path.isdir(f"/proc/self/fd/{descriptor}"):
            raise OSError(22, "Invalid argument")
        real(descriptor)

    monkeypatch.setattr(storage.os, "fsync", fsync)
    storage.write_file(tmp_path / "file", b"content")
    assert (tmp_path / "file").read_bytes() == b"content"
    assert Run(tmp_path / NEW).home == tmp_path
