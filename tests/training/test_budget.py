"""The steps that fit into some minutes: the arithmetic, with measured durations given."""

import math
from dataclasses import replace

import pytest

from wavesynth.config import TrainingConfig
from wavesynth.errors import UserError
from wavesynth.training.budget import LEAST_STEPS, MOST_MINUTES, Budget, Speed, phase_counts
from wavesynth.training.reconstruction import ReconstructionTraining

SPEED = Speed({0: 0.25}, 2.0, 4.0)
TRAINING = TrainingConfig(steps=123, warmup=100, ema=0.999)


def single(steps: int) -> dict[int, int]:
    return {0: steps}


def duration(plan: TrainingConfig, speed: Speed, counts: dict[int, int], first: int = 0) -> float:
    """Seconds that a run with this plan takes: its steps, and what the loop does at the intervals and at the end."""
    steps = range(first + 1, plan.steps + 1)
    validations = sum(step % plan.validate_every == 0 or step == plan.steps for step in steps)
    previews = sum(step % plan.preview_every == 0 or step == plan.steps for step in steps)
    training = sum(speed.steps[phase] * count for phase, count in counts.items())
    return training + validations * speed.validation + previews * speed.preview


@pytest.mark.parametrize("minutes", [0.6, 3, 30, 600])
@pytest.mark.parametrize("speed", [SPEED, Speed({0: 0.01}, 0.1, 0.1), Speed({0: 1.5}, 6.0, 9.0)])
def test_a_plan_fills_the_time(minutes: float, speed: Speed):
    plan = Budget(minutes).plan(TRAINING, speed, single)
    taken = duration(plan, speed, single(plan.steps))
    assert 0.9 * 60 * minutes < taken <= 60 * minutes
    assert plan.validate_every <= plan.steps
    assert math.ceil(plan.steps / plan.save_every) >= 2
    assert plan.steps * speed.steps[0] > 0.45 * 60 * minutes  # most of the time is for training
    assert plan.warmup <= plan.steps / 10
    assert 1 / (1 - plan.ema) < plan.steps / 10


def test_long_runs_are_averaged_longer_than_short_ones_and_validate_more_often():
    short, long = (Budget(minutes).plan(TRAINING, SPEED, single) for minutes in (1, 100))
    assert short.warmup < long.warmup == 100
    assert short.ema < long.ema == 0.999
    assert short.steps / short.validate_every < long.steps / long.validate_every <= 24
    # What a preset turns off stays off.
    off = Budget(60).plan(replace(TRAINING, warmup=0, ema=0.0), SPEED, single)
    assert (off.warmup, off.ema) == (0, 0.0)


def test_each_phase_counts_at_its_own_speed():
    training, speed = ReconstructionTraining(adversarial_from=0.6), Speed({0: 0.1, 1: 0.5}, 1.0, 1.0)

    def counts(steps: int) -> dict[int, int]:
        return phase_counts(lambda step: int(step >= training.adversarial_from * steps), 0, steps)

    plan = Budget(10).plan(training, speed, counts)
    assert counts(plan.steps)[1] == pytest.approx(0.4 * plan.steps, abs=1)
    assert 0.9 * 600 < duration(plan, speed, counts(plan.steps)) <= 600


def test_phases_are_counted():
    calls = []

    def phase(step: int) -> int:
        calls.append(step)
        return 0 if step < 300_000 else 2

    assert phase_counts(phase, 1_000, 1_000_000) == {0: 299_000, 2: 700_000}
    assert len(calls) < 100
    assert phase_counts(phase, 1_000_000, 1_000_000) == {}


def test_an_extension_is_planned_from_where_the_run_ended():
    asked: list[int] = []

    def counts(steps: int) -> dict[int, int]:
        asked.append(steps)
        return {1: steps - 5_000}

    plan = Budget(5).plan(replace(TRAINING, steps=5_000), Speed({1: 0.5}, 2.0, 4.0), counts, first=5_000)
    assert min(asked) > 5_000
    assert 0.9 * 300 < duration(plan, Speed({1: 0.5}, 2.0, 4.0), {1: plan.steps - 5_000}, first=5_000) <= 300


@pytest.mark.parametrize("minutes", [0, -1, math.nan, math.inf, MOST_MINUTES + 1])
def test_minutes_out_of_range(minutes: float):
    with pytest.raises(UserError, match=r"minutes is .*: it must be above 0 and at most 525600 \(a year\)"):
        Budget(minutes)


def test_too_few_minutes_say_how_many_are_enough():
    speed = Speed({0: 2.0, 1: 4.0}, 10.0, 6.0)
    with pytest.raises(
        UserError, match=r"minutes is 0.5, too few for 10 steps and one validation: .* give at least 0.7 "
    ) as error:
        Budget(0.5).plan(TRAINING, speed, single)
    assert "4 s per step, 10 s per validation, 6 s per preview" in str(error.value)
    assert Budget(0.7).plan(TRAINING, speed, single).steps >= LEAST_STEPS
