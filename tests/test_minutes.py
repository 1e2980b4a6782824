"""Training for some minutes: the plan is made once, and is then a run like any other."""

import math
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

import wavesynth
from tests.test_train_interrupts import assert_same_training, final_state, history
from wavesynth import api, rehearsal
from wavesynth.config import Config
from wavesynth.data.batches import Batches
from wavesynth.errors import UserError
from wavesynth.training import journal
from wavesynth.training.budget import Budget, Speed
from wavesynth.training.loop import Loop


@pytest.fixture
def fixed_speed(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """fixed_speed(seconds) makes a run measure one second for everything, and have so many seconds left."""

    def measured(work: Loop, state: Any, *_: Any) -> tuple[Any, Speed]:
        state, speed, _ = work.measure(state, 0.0)
        return state, Speed(dict.fromkeys(speed, 1.0), 1.0, 1.0)

    def fix(seconds: float) -> None:
        monkeypatch.setattr(rehearsal, "_measure", measured)
        monkeypatch.setattr(Budget, "left", seconds)

    return fix


def validations(run: Path) -> list[float]:
    return [line["valid_bits"] for line in journal.read(run / "journal.jsonl") if "valid_bits" in line]


def test_a_planned_run_is_an_ordinary_run_of_its_config(
    tmp_path: Path, tiny_config: Config, tiny_shards: Path, fixed_speed, capsys: pytest.CaptureFixture
):
    fixed_speed(24.0)
    planned = tmp_path / "planned"
    wavesynth.train(tiny_shards, planned, tiny_config, minutes=1)
    config = api.config_of(planned)
    assert config.training.steps == 21  # 24 seconds without 2 validations and 1 preview
    assert config.training.validate_every == 11
    assert int(final_state(planned).step) == 21
    shown = capsys.readouterr().out
    assert "1 minutes on 1 × cpu" in shown
    assert "at 1 s per step, 21 steps fit into" in shown
    wavesynth.train(tiny_shards, tmp_path / "ordinary", config, progress=False)
    assert_same_training(planned, tmp_path / "ordinary")


def test_an_unfinished_run_keeps_its_plan(
    tmp_path: Path, tiny_config: Config, tiny_shards: Path, fixed_speed, monkeypatch: pytest.MonkeyPatch
):
    fixed_speed(24.0)
    straight, run, real = tmp_path / "straight", tmp_path / "run", Batches.batch
    wavesynth.train(tiny_shards, straight, tiny_config, minutes=1, progress=False)

    def batch(self: Batches, step: int) -> Any:
        if step == 14:
            signal.raise_signal(signal.SIGINT)
        return real(self, step)

    with monkeypatch.context() as patch:
        patch.setattr(Batches, "batch", batch)
        patch.setattr(Loop, "measure", lambda work, state, _: (state, {0: 1.0}, 1.0))  # not interrupted there
        with pytest.raises(KeyboardInterrupt, match=r"stopped at step 1\d of 21"):
            wavesynth.train(tiny_shards, run, tiny_config, minutes=1, progress=False)
    fixed_speed(1_000.0)  # a new plan would be longer
    wavesynth.train(tiny_shards, run, resume=True, minutes=1, progress=False)
    assert api.config_of(run) == api.config_of(straight)
    jax.tree.map(np.testing.assert_array_equal, final_state(run), final_state(straight))


def test_stopped_before_the_plan_it_plans_again(
    tmp_path: Path, tiny_config: Config, tiny_shards: Path, fixed_speed, monkeypatch: pytest.MonkeyPatch
):
    def stop(*_: Any) -> None:
        raise KeyboardInterrupt  # as SIGINT does, unless the process began with SIGINT ignored

    fixed_speed(24.0)
    with monkeypatch.context() as patch:
        patch.setattr(Loop, "measure", stop)
        with pytest.raises(KeyboardInterrupt, match=r"before the number of steps was planned: --resume --minutes 0.5"):
            wavesynth.train(tiny_shards, tmp_path / "run", tiny_config, minutes=0.5, progress=False)
    assert not (tmp_path / "run" / "model.safetensors").exists()
    wavesynth.train(tiny_shards, tmp_path / "run", resume=True, minutes=0.5, progress=False)
    assert api.config_of(tmp_path / "run").training.steps == 21


def test_too_few_minutes_can_be_corrected(
    tmp_path: Path, tiny_config: Config, tiny_shards: Path, fixed_speed: Callable
):
    fixed_speed(5.0)
    with pytest.raises(UserError, match=r"too few for 10 steps and one validation.*--resume --minutes"):
        wavesynth.train(tiny_shards, tmp_path / "run", tiny_config, minutes=0.1, progress=False)
    fixed_speed(24.0)
    wavesynth.train(tiny_shards, tmp_path / "run", resume=True, minutes=1, progress=False)
    assert validations(tmp_path / "run")


def test_a_finished_run_is_extended_and_never_gets_worse(
    tmp_path: Path, tiny_run: Path, tiny_shards: Path, fixed_speed: Callable
):
    run = tmp_path / "run"
    shutil.copytree(tiny_run, run)
    before, weights = min(validations(run)), (run / "model.safetensors").read_bytes()
    fixed_speed(24.0)
    wavesynth.train(tiny_shards, run, resume=True, minutes=1, progress=False)
    assert api.config_of(run).training.steps == 41
    assert history(run).extended_from == 20
    assert history(run).best == min(validations(run))
    improved = min(validations(run)) < before
    assert improved == ((run / "model.safetensors").read_bytes() != weights)

    # The same as when the number of steps is asked for.
    again = tmp_path / "again"
    shutil.copytree(tiny_run, again)
    wavesynth.train(tiny_shards, again, api.config_of(run), resume=True, progress=False)
    assert_same_training(run, again)

    # And twice.
    wavesynth.train(tiny_shards, run, resume=True, minutes=1, progress=False)
    assert history(run).extended_from == 41
    assert history(run).best <= before


def test_weights_are_not_replaced_by_worse_ones(
    tmp_path: Path, tiny_run: Path, tiny_shards: Path, fixed_speed, monkeypatch: pytest.MonkeyPatch
):
    run = tmp_path / "run"
    shutil.copytree(tiny_run, run)
    weights = (run / "model.safetensors").read_bytes()
    fixed_speed(24.0)
    monkeypatch.setattr("wavesynth.training.loop.validate", lambda *_: 15.9)
    wavesynth.train(tiny_shards, run, resume=True, minutes=1, progress=False)
    assert int(final_state(run).step) == 41
    assert (run / "model.safetensors").read_bytes() == weights


def test_what_is_really_measured_leaves_no_trace(
    tmp_path: Path, tiny_config: Config, tiny_shards: Path, tiny_run: Path, fixed_speed, monkeypatch: pytest.MonkeyPatch
):
    measure, seen = rehearsal._measure, []

    def measured(*arguments: Any) -> tuple[Any, Speed]:
        state, speed = measure(*arguments)
        seen.append(speed)
        return state, Speed({0: 1.0}, 2.0, 1.0)

    fixed_speed(23.0)  # one validation, one preview, and as many steps as in the config
    monkeypatch.setattr(rehearsal, "_measure", measured)
    wavesynth.train(tiny_shards, tmp_path / "run", tiny_config, minutes=0.01, progress=False)
    assert api.config_of(tmp_path / "run").training.steps == 20
    assert list(seen[0].steps) == [0]
    assert min(*seen[0].steps.values(), seen[0].validation, seen[0].preview) > 0
    assert not (tmp_path / "run" / ".trial").exists()
    losses = [
        {line["step"]: line["bits"] for line in journal.read(run / "journal.jsonl") if "bits" in line}
        for run in (tmp_path / "run", tiny_run)
    ]
    assert losses[0].keys() == losses[1].keys()


def test_steps_and_minutes_are_one_too_many(tmp_path: Path, tiny_config: Config, tiny_shards: Path):
    with pytest.raises(UserError, match=r"steps is 5 and minutes is 3: give one of them"):
        wavesynth.train(tiny_shards, tmp_path / "run", tiny_config, steps=5, minutes=3)
    with pytest.raises(UserError, match=r"minutes is nan: it must be above 0"):
        wavesynth.train(tiny_shards, tmp_path / "run", tiny_config, minutes=math.nan)
    assert not (tmp_path / "run").exists()
