"""What training tries and measures before its first step."""

import dataclasses
import shutil
import time

import jax

from wavesynth.config import TrainingConfig
from wavesynth.families import Family
from wavesynth.previews import write_preview
from wavesynth.runs import Run
from wavesynth.synth import Synth
from wavesynth.training.budget import MEASURING, Budget, Speed, phase_counts
from wavesynth.training.loop import Loop
from wavesynth.training.state import TrainState

TRIAL_SECONDS = 0.02  # length of the sounds in the trial preview


def rehearse(work: Loop, state: TrainState, run: Run, family: Family) -> TrainState:
    """Tries everything that would otherwise fail late, and returns the unchanged state."""
    phases = len(work.phases(int(state.step)))
    if work.progress and phases > 1:
        print(f"trying one step of each of the {phases} phases first, to fail early if one does not fit", flush=True)
    state = work.rehearse(state)
    brief = dataclasses.replace(work.training, preview_seconds=TRIAL_SECONDS)
    _trial_preview(work, state, run, family, brief, pictured=False)
    return state


def plan(work: Loop, state: TrainState, run: Run, family: Family, budget: Budget) -> TrainState:
    """Rehearses, measures the speed, and gives a new or a finished run as many steps as fit into the time left.

    The plan is written to config.json. The returned state equals the given one.

    Raises:
        UserError: the time left is too short; the message says how many minutes are enough.
        KeyboardInterrupt: a signal came before the plan was made; the message says how to continue.
    """
    first, training = int(state.step), work.training
    if first:  # a finished run: its plan must reach beyond its end to have a phase and a learning rate there
        beyond = dataclasses.replace(training, steps=2 * first)
        work.plan(family.objective(beyond), beyond, first)
    try:
        state = rehearse(work, state, run, family)
        state, speed = _measure(work, state, run, family, budget)
    except KeyboardInterrupt as stopped:
        stopped.args = (
            f"stopped before the number of steps was planned: --resume --minutes {budget.minutes:g} (resume=True, "
            f"minutes={budget.minutes:g}) plans it again",
        )
        raise

    def counts(steps: int) -> dict[int, int]:
        longer = dataclasses.replace(training, steps=steps)
        work.plan(family.objective(longer), longer, first)
        return phase_counts(work.phase, first, steps)

    planned = budget.plan(training, speed, counts, first)
    run.write_config(family, planned)
    work.plan(family.objective(planned), planned, first)
    if work.progress:
        each = " and ".join(f"{seconds:.2g}" for seconds in speed.steps.values())
        more = "more steps" if first else "steps"
        print(
            f"at {each} s per step, {planned.steps - first:,} {more} fit into the {budget.left / 60:.1f} minutes left",
            flush=True,
        )
    return state


def _measure(work: Loop, state: TrainState, run: Run, family: Family, budget: Budget) -> tuple[TrainState, Speed]:
    """Times the steps of each phase, a validation with publishing, and a preview."""
    state, steps, validation = work.measure(state, MEASURING * 60 * budget.minutes)
    params = jax.device_get(state.ema)
    family.memory(params, work.batches)  # compiles
    began = time.perf_counter()
    family.memory(params, work.batches)
    published = time.perf_counter()
    _trial_preview(work, state, run, family, work.training, pictured=True)
    return state, Speed(steps, validation + published - began, time.perf_counter() - published)


def _trial_preview(
    work: Loop, state: TrainState, run: Run, family: Family, training: TrainingConfig, pictured: bool
) -> None:
    synth = Synth(family, jax.device_get(state.ema))
    try:
        write_preview(synth, work.held_out, run.trial / "0", training, pictured=pictured)
    finally:
        shutil.rmtree(run.trial, ignore_errors=True)
