"""Training that is interrupted, killed, or runs out of disk; run folders that are not what they should be."""

import dataclasses
import errno
import json
import logging
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
import soundfile

import wavesynth
from wavesynth import api
from wavesynth.data.batches import Batches
from wavesynth.data.prepare import prepare
from wavesynth.data.shards import Shards
from wavesynth.errors import UserError
from wavesynth.runs import Run
from wavesynth.training import checkpoints, loop
from wavesynth.training import journal as journals

KILLS = 8


def losses(run: Path) -> list[dict[str, Any]]:
    """What a run's journal says, without the time it took."""
    return [{k: v for k, v in line.items() if k != "seconds"} for line in journals.read(run / "journal.jsonl")]


@cache
def template(config: bytes) -> Any:
    """The state that runs of one config.json have, as shapes."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "config.json").write_bytes(config)
        family, training = Run(folder).read()
    shapes = jax.eval_shape(family.objective(training).init, family.shapes())
    return jax.tree.map(api._on_first_device, shapes)


def final_state(run: Path) -> Any:
    """The newest state of a run, as numpy arrays."""
    states = checkpoints.States(run / "states", keep=2)
    try:
        return jax.tree.map(np.asarray, states.restore(template((run / "config.json").read_bytes()))[0])
    finally:
        states.close()


def history(run: Path) -> loop.History:
    """What a run's newest state has behind it."""
    states = checkpoints.States(run / "states", keep=2)
    try:
        return loop.History(**states.restore(template((run / "config.json").read_bytes()))[1])
    finally:
        states.close()


def assert_same_training(run: Path, expected: Path) -> None:
    """Both runs learned the same to the last bit: losses, weights, moving average, optimizer, and what was published."""
    assert losses(run) == losses(expected)
    jax.tree.map(np.testing.assert_array_equal, final_state(run), final_state(expected))
    assert (run / "model.safetensors").read_bytes() == (expected / "model.safetensors").read_bytes()


def wait_until(condition: Callable[[], Any], child: Any = None, seconds: float = 120) -> None:
    """Waits, and fails loudly when nothing comes of it."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, child and child.stderr
        time.sleep(0.005)


def state_steps(run: Path) -> set[str]:
    """Names of the complete states."""
    return {path.name for path in (run / "states").glob("*") if path.name.isdigit()}


def one_line(child: Any) -> str:
    """The error that a command ended with: it exited with 2, and beside its progress it printed this line alone."""
    assert child.status == 2, child.stderr
    return only_line(child.stderr)


def only_line(stderr: str) -> str:
    assert "Traceback" not in stderr, stderr
    lines = [line for line in stderr.splitlines() if not line.startswith("train: ")]
    assert len(lines) == 1, stderr
    return lines[0]


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_the_step_saves_and_says_how_to_go_on(
    number: int, status: int, tiny_flags, tiny_shards: Path, tmp_path: Path, start
):
    run = tmp_path / "run"
    child = start("train", tiny_shards, run, *tiny_flags, "--steps", "100000")
    wait_until(lambda: losses(run), child)
    os.kill(child.pid, number)
    assert child.status == status, child.stderr
    message = only_line(child.stderr)
    (step,) = {int(path) for path in state_steps(run)} & {line["step"] for line in losses(run)[-1:]}
    assert f"stopped at step {step} of 100000; the state is saved: continue with --resume" in message
    assert int(final_state(run).step) == step
    assert wavesynth.load(run).labels


def test_killed_again_and_again_it_learns_the_same(tiny_flags, start, tiny_shards: Path, tmp_path: Path):
    arguments = [*tiny_flags, "--steps", "30", "--training.save-every", "1"]
    straight = start("train", tiny_shards, tmp_path / "straight", *arguments)
    assert straight.status == 0, straight.stderr

    run, chance = tmp_path / "run", random.Random(0)
    kills, loadable, resumed_from = 0, 0, set()
    while kills < KILLS:
        begun = (run / "config.json").exists()
        child = start("train", tiny_shards, run, *(["--resume"] if begun else arguments))
        before = state_steps(run)
        if kills % 4 == 0:  # while it starts; else while it trains and saves
            time.sleep(chance.uniform(0, 0.5))
        else:
            wait_until(lambda: state_steps(run) - before or (run / "previews").exists(), child)  # noqa: B023
            time.sleep(chance.uniform(0, 0.03))
        os.kill(child.pid, signal.SIGKILL)
        assert child.status == -signal.SIGKILL, child.stderr
        kills += 1
        if (run / "model.safetensors").exists():
            wavesynth.load(run)
            state = final_state(run)
            assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(state))
            loadable += 1
            resumed_from.add(int(state.step))
    assert loadable >= 2
    assert len(resumed_from) >= KILLS // 3
    assert max(resumed_from) < 30

    end = start("train", tiny_shards, run, "--resume")
    assert end.status == 0, end.stderr
    assert_same_training(run, tmp_path / "straight")
    assert not list((run / "states").glob("*tmp*"))


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 6 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=6m", "tmpfs", folder], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("mounting a small file system needs root")
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


def fill(folder: Path, leave: int) -> Path:
    """A file that leaves so many bytes free."""
    size = shutil.disk_usage(folder).free - leave
    (folder / "filling").write_bytes(bytes(max(size, 0)))
    return folder / "filling"


def test_a_full_disk_says_so_and_it_goes_on_when_there_is_room(
    start, tiny_shards: Path, small_disk: Path, tiny_run: Path
):
    run = small_disk / "run"
    shutil.copytree(tiny_run, run)
    filling = fill(small_disk, leave=20_000)
    full = start("train", tiny_shards, run, "--resume", "--steps", "25")
    message = one_line(full)
    assert "full" in message
    assert "free some space" in message
    assert "--resume" in message
    assert int(final_state(run).step) == 20
    wavesynth.load(run)
    filling.unlink()
    again = start("train", tiny_shards, run, "--resume", "--steps", "25")
    assert again.status == 0, again.stderr
    assert int(final_state(run).step) == 25
    assert not list(run.rglob("*tmp*"))


def test_orbax_meets_a_full_disk(
    small_disk: Path, tiny_run: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture
):
    state = jax.tree.map(jax.numpy.asarray, final_state(tiny_run))
    states = checkpoints.States(small_disk / "states", keep=2)
    states.save(state, {"best": 1.0}, wait=True)
    fill(small_disk, leave=20_000)
    plenty = shutil.disk_usage("/")._replace(free=2**40)
    monkeypatch.setattr(checkpoints.shutil, "disk_usage", lambda _: plenty)
    after = dataclasses.replace(state, step=state.step + 1)
    with pytest.raises(
        UserError, match=r"state cannot be written .*full.*the state of step 20 is saved; free some space"
    ):
        states.save(after, {"best": 1.0}, wait=True)
    states.close()
    assert capfd.readouterr().err == ""
    assert checkpoints.States(small_disk / "states", keep=2).latest == 20


@pytest.mark.parametrize("written", ["the state", "journal.jsonl", "model.safetensors"])
def test_a_disk_that_fills_up_while_a_file_is_written(
    written: str, tiny_config, tiny_run: Path, tiny_shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def fail(*_args: Any, **_metrics: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), written)

    run = tmp_path / "run"
    with monkeypatch.context() as patch:
        if written == "the state":
            nothing = shutil.disk_usage("/")._replace(free=1_000)
            patch.setattr(checkpoints.shutil, "disk_usage", lambda _: nothing)
        elif written == "journal.jsonl":
            patch.setattr(journals.Journal, "write", fail)
        else:
            patch.setattr(checkpoints, "write_file", fail)
        with pytest.raises(
            UserError, match=r"the disk of .* is full.*free some space,? (and|then) continue with --resume"
        ):
            wavesynth.train(tiny_shards, run, tiny_config, progress=False)
    wavesynth.train(tiny_shards, run, resume=True, progress=False)
    assert_same_training(run, tiny_run)


# What is in the way.


def test_a_run_that_exists_is_kept_unless_forced(tiny_config, tiny_run: Path, tiny_shards: Path, tmp_path: Path, start):
    run = tmp_path / "run"
    shutil.copytree(tiny_run, run)
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}

    def untouched() -> bool:
        return before == {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}

    with pytest.raises(UserError, match="holds a run: --resume continues it, --force replaces it"):
        wavesynth.train(tiny_shards, run, tiny_config, progress=False)
    assert untouched()
    with pytest.raises(UserError, match="resume and force are both given"):
        wavesynth.train(tiny_shards, run, resume=True, force=True, progress=False)
    assert untouched()

    # Force deletes nothing before all that takes its place is known to be good.
    with pytest.raises(UserError, match="no such folder"):
        wavesynth.train(tmp_path / "nothing", run, tiny_config, force=True, progress=False)
    narrow = dataclasses.replace(tiny_config, training=dataclasses.replace(tiny_config.training, crop_seconds=0.002))
    with pytest.raises(UserError, match=r"crop_seconds is 0.002: it must be at least 0.004, the length of a frame"):
        wavesynth.train(tiny_shards, run, narrow, force=True, progress=False)
    assert untouched()

    (run / "notes.txt").write_text("mine")
    (run / "states" / "7").mkdir()
    wavesynth.train(tiny_shards, run, tiny_config, force=True, progress=False)
    assert_same_training(run, tiny_run)
    assert (run / "notes.txt").read_text() == "mine"
    assert "7" not in state_steps(run)


def test_an_old_run_is_untouched_until_the_new_one_has_published(
    tiny_config, tiny_flags, tiny_run: Path, tiny_shards: Path, tmp_path: Path, start, monkeypatch: pytest.MonkeyPatch
):
    run = tmp_path / "run"
    slow = dataclasses.replace(tiny_config, training=dataclasses.replace(tiny_config.training, steps=2))
    wavesynth.train(tiny_shards, run, slow, progress=False)
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}

    def untouched() -> bool:
        return all(path.read_bytes() == content for path, content in before.items())

    child = start("train", tiny_shards, run, *tiny_flags, "--training.validate-every", "100000", "--force")
    wait_until(lambda: (run / ".new" / "journal.jsonl").exists(), child)
    os.kill(child.pid, signal.SIGKILL)
    assert child.status == -signal.SIGKILL, child.stderr
    assert untouched()

    real = Batches.batch

    def batch(self: Batches, step: int) -> Any:
        if step == 1:
            signal.raise_signal(signal.SIGINT)
        return real(self, step)

    with monkeypatch.context() as patch:
        patch.setattr(Batches, "batch", batch)
        with pytest.raises(
            KeyboardInterrupt, match=r"saved: the model in .*run is untouched; continue .* run .*\.new, or "
        ):
            wavesynth.train(tiny_shards, run, tiny_config, force=True, progress=False)
    assert untouched()
    wavesynth.train(tiny_shards, run / ".new", resume=True, progress=False)
    jax.tree.map(np.testing.assert_array_equal, final_state(run), final_state(tiny_run))
    assert (run / "model.safetensors").read_bytes() == (tiny_run / "model.safetensors").read_bytes()
    assert losses(run)[-1] == losses(tiny_run)[-1]
    assert sorted(path.name for path in run.iterdir()) == sorted(path.name for path in tiny_run.iterdir())


def test_a_folder_with_other_things_is_left_alone(tiny_config, tiny_shards: Path, tmp_path: Path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "song.wav").write_bytes(b"mine")
    for force in (False, True):
        with pytest.raises(UserError, match="other files in it: choose a new folder"):
            wavesynth.train(tiny_shards, tmp_path / "run", tiny_config, force=force, progress=False)
    with pytest.raises(UserError, match="which is a file: give a folder"):
        wavesynth.train(tiny_shards, tmp_path / "run" / "song.wav", tiny_config, progress=False)
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["song.wav"]


def test_resuming_nothing(tiny_shards: Path, tmp_path: Path):
    for run in (tmp_path / "none", tmp_path):
        with pytest.raises(UserError, match="holds no run to resume: leave --resume out"):
            wavesynth.train(tiny_shards, run, resume=True, progress=False)
    assert not (tmp_path / "none").exists()


def test_resuming_a_finished_run_elsewhere_changes_nothing(tiny_run: Path, tiny_shards: Path, tmp_path: Path):
    shutil.copytree(tiny_run, tmp_path / "run")
    shutil.copytree(tiny_shards, tmp_path / "shards")
    wavesynth.train(tmp_path / "shards", tmp_path / "run", resume=True, progress=False)
    assert_same_training(tmp_path / "run", tiny_run)


def test_resuming_with_another_config(tiny_config, tiny_run: Path, tiny_shards: Path, tmp_path: Path):
    run = tmp_path / "run"
    shutil.copytree(tiny_run, run)
    wider = dataclasses.replace(tiny_config, model=dataclasses.replace(tiny_config.model, channels=16))
    with pytest.raises(UserError, match=r"config does not match the one that .* was started with"):
        wavesynth.train(tiny_shards, run, wider, resume=True, progress=False)
    muon = dataclasses.replace(tiny_config, training=dataclasses.replace(tiny_config.training, optimizer="muon"))
    with pytest.raises(UserError, match=r"optimizer is 'muon', .* was started with 'adamw'"):
        wavesynth.train(tiny_shards, run, muon, resume=True, progress=False)

    slower = dataclasses.replace(tiny_config.training, learning_rate=1e-4, steps=22)
    wavesynth.train(tiny_shards, run, dataclasses.replace(tiny_config, training=slower), resume=True, progress=False)
    assert api.config_of(run).training == slower  # so the next resume goes on in the same way
    assert int(final_state(run).step) == 22
    assert history(run).extended_from == 20


def test_the_command_line_resumes_by_the_runs_own_config(
    tiny_run: Path, tiny_shards: Path, tmp_path: Path, start, tiny_flags
):
    run = tmp_path / "run"
    shutil.copytree(tiny_run, run)
    own = api.config_of(run)
    child = start("train", tiny_shards, run, "--resume", "--training.learning-rate=0.0001", "--training.steps", "21")
    assert child.status == 0, child.stderr
    assert api.config_of(run).model == own.model
    assert api.config_of(run).training == dataclasses.replace(own.training, learning_rate=1e-4, steps=21)
    child = start("train", tiny_shards, run, *tiny_flags, "--resume", "--steps", "21")
    assert child.status == 0, child.stderr
    assert "does not match the one" in one_line(
        start("train", tiny_shards, run, "--preset", "wavenet-tiny", "--resume")
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": 99}, "reads format 2: use the version that wrote it, or train again"),
        (
            {"family": "transformer"},
            "config.json: family is 'transformer', which neither this version of wavesynth nor an installed package provides",
        ),
        ({"family": ["wavenet"]}, "config.json: family is "),
        ({"model": {"depth": 3}}, "config.json: model has the unknown field 'depth'"),
        ({"dataset": {"sample_rate": 16_000, "labels": ["one"]}}, "model does not match dataset"),
        (None, "is not JSON"),
    ],
)
def test_a_run_of_another_version_or_family(change, message: str, tiny_run: Path, tiny_shards: Path, tmp_path: Path):
    run = tmp_path / "run"
    shutil.copytree(tiny_run, run)
    config = json.loads((run / "config.json").read_text())
    (run / "config.json").write_text("{" if change is None else json.dumps(config | change))
    for use in (lambda: wavesynth.load(run), lambda: wavesynth.train(tiny_shards, run, resume=True, progress=False)):
        with pytest.raises(UserError) as error:
            use()
        assert message in str(error.value)
        assert "config.json" in str(error.value)


# What is amiss with the sounds.


@pytest.fixture
def folder(tmp_path: Path, sounds: Path) -> Path:
    shutil.copytree(sounds / "kick", tmp_path / "sounds" / "kick")
    shutil.copytree(sounds / "hat", tmp_path / "sounds" / "hat")
    return tmp_path / "sounds"


def test_a_folder_of_sounds_that_changed_since(folder: Path, tiny_config, tmp_path: Path, compile_cache: None):
    run = tmp_path / "run"
    config = dataclasses.replace(tiny_config, training=dataclasses.replace(tiny_config.training, steps=2))
    wavesynth.train(folder, run, config, progress=False)
    wavesynth.train(folder, run, resume=True, progress=False)
    soundfile.write(folder / "kick" / "new.wav", np.sin(np.arange(8_000) / 10), 16_000)
    with pytest.raises(UserError, match=r"or they changed since.*to continue with the original sounds, use .*shards"):
        wavesynth.train(folder, run, resume=True, progress=False)
    wavesynth.train(run / "shards", run, resume=True, progress=False)
    prepare(folder, tmp_path / "other", workers=1, progress=False)
    with pytest.raises(UserError, match=r"source differs from the sounds that .*run was started with"):
        wavesynth.train(tmp_path / "other", run, resume=True, progress=False)
    wavesynth.train(folder, run, config, force=True, progress=False)
    assert "kick/new.wav" in {clip.file for clip in Shards.open(run / "shards").clips}


@pytest.mark.parametrize("where", ["source", "run"])
@pytest.mark.parametrize("damage", ["flipped", "missing"])
def test_shards_that_were_damaged(
    damage: str, where: str, folder: Path, tiny_config, tmp_path: Path, compile_cache: None
):
    run = tmp_path / "run"
    config = dataclasses.replace(tiny_config, training=dataclasses.replace(tiny_config.training, steps=2))
    source = folder
    if where == "source":
        source = tmp_path / "shards"
        prepare(folder, source, workers=1, progress=False)
    wavesynth.train(source, run, config, progress=False)
    shard = (source if where == "source" else run / "shards") / "shard-00000.pcm"
    if damage == "missing":
        shard.unlink()
    else:
        content = bytearray(shard.read_bytes())
        content[1_000] ^= 1
        shard.write_bytes(content)
    reason = "is missing" if damage == "missing" else "was changed after it was written"
    with pytest.raises(UserError, match=f"shard-00000.pcm {reason}.*prepare the shards again"):
        wavesynth.train(source, run, resume=True, progress=False)
    wavesynth.load(run)


def test_a_beginning_that_came_to_nothing_is_not_in_the_way(
    tiny_config, tmp_path: Path, folder: Path, compile_cache: None
):
    run = tmp_path / "run"
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "x.wav").write_bytes(b"not a sound")
    with pytest.raises(UserError, match="1 of 1 files were refused"):
        wavesynth.train(broken, run, tiny_config, progress=False)
    (run / "source.json").write_text("{}")
    (run / "config.json.tmp").write_text("{")
    config = dataclasses.replace(tiny_config, training=dataclasses.replace(tiny_config.training, steps=2))
    wavesynth.train(folder, run, config, progress=False)
    assert wavesynth.load(run).labels == ("hat", "kick")


def test_without_held_out_sounds_nothing_is_called_so(
    tiny_config, sounds: Path, tmp_path: Path, compile_cache: None, capsys: pytest.CaptureFixture
):
    prepare(sounds, tmp_path / "shards", valid=0.0, workers=1, progress=False)
    training = dataclasses.replace(tiny_config.training, steps=2, validate_every=2)
    config = dataclasses.replace(tiny_config, training=training)
    before = dict(jax.config.values), logging.getLogger("absl").level, sys.unraisablehook
    wavesynth.train(tmp_path / "shards", tmp_path / "run", config)
    assert (dict(jax.config.values), logging.getLogger("absl").level, sys.unraisablehook) == before
    (validation,) = [line for line in losses(tmp_path / "run") if "train_bits" in line]
    assert validation.keys() == {"step", "train_bits"}
    assert not [line for line in losses(tmp_path / "run") if "valid_bits" in line]
    shown = capsys.readouterr().out
    assert "none held out, so validation scores training sounds, 2 steps on 1 × cpu" in shown
    assert "bits per sample of training sounds: " in shown


def test_a_source_record_that_is_lost(tiny_run: Path, tiny_shards: Path, tmp_path: Path):
    shutil.copytree(tiny_run, tmp_path / "run")
    for content in ("", "[]", "{}", "[" * 100_000, '{"shards": 1, "fingerprint": ""}'):
        (tmp_path / "run" / "source.json").write_text(content)
        with pytest.raises(UserError, match=r"source.json cannot be read .*: restore it"):
            wavesynth.train(tiny_shards, tmp_path / "run", resume=True, progress=False)
