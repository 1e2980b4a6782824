"""The training loop: one for all families."""

import math
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from wavesynth.config import TrainingConfig
from wavesynth.data.batches import Batches, prefetch
from wavesynth.errors import UserError
from wavesynth.progress import Progress
from wavesynth.training.checkpoints import States
from wavesynth.training.journal import Journal
from wavesynth.training.objective import Batch, Metrics, Objective, Phased
from wavesynth.training.state import Pace, Params, TrainState, keep_healthy

IN_FLIGHT = 2  # steps computed asynchronously, whose metrics are read later
JOURNAL_EVERY = 10  # steps
LEAST_MEASURED, MOST_MEASURED = 3, 50  # steps whose time is measured in each phase
HELD_OUT, TRAINING = "valid", "train"  # names of the sounds that validation scores


@dataclass(eq=False)
class Stopped(KeyboardInterrupt):
    """A signal stopped the run after saving the state of `step`. remedy: how to continue."""

    step: int
    steps: int
    signal: int
    remedy: str = "continue with --resume (resume=True)"

    def __str__(self) -> str:
        return f"stopped at step {self.step} of {self.steps}; the state is saved: {self.remedy}"


@dataclass(frozen=True)
class History:
    """Facts about a run's past that are not in its weights and config; saved with every state.

    Attributes:
        best: the best validation metric since the aim last changed (`Phased.other_aim`).
        phase: the latest phase. A run never returns to an earlier one.
        steps: the planned number of steps.
        extended_from: the number of steps after which a finished run was extended; 0 if it never was.
    """

    best: float = math.inf
    phase: int = 0
    steps: int = 0
    extended_from: int = 0


@dataclass
class Loop:
    """A run in progress: steps, validations, saved states, published weights and previews.

    Attributes:
        objective: the objective to optimise.
        training: training settings.
        batches: batches of training sounds.
        held_out: batches of the sounds that validation scores.
        states: saves training states.
        journal: records metrics.
        publish: called with the averaged weights, the step and the metric whenever validation improves.
        preview: called with the averaged weights and the step.
        history: the run's past.
        publish_when_stopped: whether a run that is stopped before its first validation publishes its weights.
        from_base: whether the initial weights are those of a trained model. They are published first, so that training can
            only replace them by better ones.
        progress: whether to show progress.
    """

    objective: Objective
    training: TrainingConfig
    batches: Batches
    held_out: Batches
    states: States
    journal: Journal
    publish: Callable[[Params, int, float], None]
    preview: Callable[[Params, int], None]
    history: History = History()
    publish_when_stopped: bool = True
    from_base: bool = False
    progress: bool = True

    def __post_init__(self) -> None:
        self._place = placement(self.training.batch_size)
        self._step, self._evaluate = compiled(self.objective), jax.jit(self.objective.evaluate)
        self._pending: deque[tuple[int, Metrics]] = deque()
        self._clock, self._first, self._shown = Clock(self.journal.seconds), 0, math.nan
        self._unpublished = self.publish_when_stopped
        self.plan(self.objective, self.training, self.history.extended_from)

    def plan(self, objective: Objective, training: TrainingConfig, extended_from: int) -> None:
        """Sets the number of steps, and the settings that follow from it. Nothing is compiled again.

        Args:
            objective: the family's objective for `training`.
            training: the settings. Only the steps, the warm-up, the EMA decay and the intervals may differ from before.
            extended_from: see `History`.
        """
        self.objective, self.training = objective, training
        self.history = replace(self.history, steps=training.steps, extended_from=extended_from)
        self._pace = self._place(jax.tree.map(np.asarray, Pace.of(training, extended_from)))

    def rehearse(self, state: TrainState) -> TrainState:
        """Tries everything that would otherwise fail late: a step of each remaining phase, a validation, disk space.

        The results are discarded. The returned state equals the given one, whose memory is donated.

        Raises:
            UserError: there is not enough disk space for the states.
            Exception: a step does not compile or does not fit in memory.
        """
        first, last = int(state.step), self.training.steps - 1
        if first > last:
            return state
        self.states.check_room(state, self.training.keep + 1)
        phases = self.phases(first)
        if len(phases) > 1:
            kept = jax.tree.map(lambda leaf: np.array(leaf), state)
            state, batch = self._place(state), self._place(self.batches.batch(first), batched=True)
            for phase in phases:
                state, _, _ = self._step(state, batch, self._place(np.asarray(True)), phase, self._pace)
            jax.block_until_ready(state)
            state = kept
        state = self._place(state)
        for batch in self.held_out.held_out():
            jax.block_until_ready(self._evaluate(state.ema, self._place(batch, batched=True)))
            break
        return state

    def measure(self, state: TrainState, seconds: float) -> tuple[TrainState, dict[int, float], float]:
        """Times steps of each remaining phase, for about `seconds` in total, and a validation.

        The results are discarded. The returned state equals the given one, whose memory is donated.

        Returns:
            The state, the seconds per step of each phase, and the seconds of a validation.
        """
        first, speed = int(state.step), {}
        phases = self.phases(first)
        kept = jax.tree.map(lambda leaf: np.array(leaf), state)
        state, healthy = self._place(state), self._place(np.asarray(True))
        for phase in phases:
            began = math.nan
            for count, batch in enumerate(prefetch(self.batches, first, first + 1 + MOST_MEASURED)):
                placed = self._place(batch, batched=True)
                state, metrics, healthy = self._step(state, placed, healthy, phase, self._pace)
                jax.block_until_ready(metrics)
                if not count:  # the first step may compile
                    began = time.perf_counter()
                    continue
                speed[phase] = (time.perf_counter() - began) / count
                if count >= LEAST_MEASURED and count * speed[phase] > seconds / len(phases):
                    break
        state, began = self._place(kept), time.perf_counter()
        validate(self._evaluate, state.ema, self.held_out, self._place, self.objective.metric)
        return state, speed, time.perf_counter() - began

    def phases(self, first: int) -> range:
        """The phases of the steps from `first` to the last."""
        ends = [self.phase(step) for step in (first, max(first, self.training.steps - 1))]
        return range(ends[0], ends[1] + 1)

    def run(self, state: TrainState) -> TrainState:
        """Trains from `state.step` to `training.steps`. `wavesynth.api.train` describes the files it writes.

        The loop starts a step before the previous one has finished; metrics are read `IN_FLIGHT` steps later. A failed step
        and those after it leave the state unchanged, so the last good state is available when the failure is detected.

        Raises:
            Stopped: after SIGINT or SIGTERM, once the state is saved.
            UserError: the loss is not finite, or a state cannot be written. The last good state is saved.
        """
        training, state, healthy = self.training, self._place(state), self._place(np.asarray(True))
        self._clock, self._first = Clock(self.journal.seconds), int(state.step)
        bar = Progress(training.steps, "step", "train", initial=self._first, shown=self.progress)
        with stop_signals() as received, bar:
            if self.from_base and not self._first:
                self._validate(state, 0)
            for step, batch in enumerate(prefetch(self.batches, self._first, training.steps), start=self._first + 1):
                self._begin_phase(step)
                placed = self._place(batch, batched=True)
                state, metrics, healthy = self._step(state, placed, healthy, self.history.phase, self._pace)
                self._pending.append((step, metrics))
                stopping = bool(received) or step == training.steps
                waiting = stopping or self.phase(step) != self.history.phase
                intervals = training.validate_every, training.save_every, training.preview_every
                waiting = waiting or any(step % every == 0 for every in intervals)
                failed = self._read(bar, 0 if waiting else IN_FLIGHT, stopping)
                if failed:
                    self._keep(state, failed - 1, due=False, stopping=True)
                    raise UserError(self._failure(failed))
                if waiting:
                    due = step % training.validate_every == 0 or step == training.steps
                    self._keep(state, step, due, stopping)
                if stopping and step < training.steps:
                    raise Stopped(step, training.steps, received[0])
                if step % training.preview_every == 0 or step == training.steps:
                    with self._clock.paused():
                        self.preview(state.ema, step)
        return state

    def phase(self, step: int) -> int:
        """The phase of a step, counted from 0, but at least the latest phase so far."""
        return max(self.history.phase, self.objective.phase(step)) if isinstance(self.objective, Phased) else 0

    def _begin_phase(self, step: int) -> None:
        """Records the phase of a step, counted from 1. A phase with another aim resets the best metric."""
        phase = self.phase(step - 1)
        if isinstance(self.objective, Phased) and phase != self.history.phase:
            other = any(self.objective.other_aim(begun) for begun in range(self.history.phase + 1, phase + 1))
            self.history = replace(self.history, phase=phase, best=math.inf if other else self.history.best)

    def _read(self, bar: Progress, left: int, stopping: bool) -> int | None:
        """Reads the metrics of all steps but the last `left`. Returns the number of the first failed step, if any."""
        while len(self._pending) > left:
            step, metrics = self._pending.popleft()
            values = {name: float(value) for name, value in metrics.items()}
            healthy = bool(values.pop("healthy"))
            latest, done = values[self.objective.watched], step - self._first
            rate = done * self.batches.batch_size * self.batches.crop / self._clock.lap(done)
            self._shown = latest if math.isnan(self._shown) else 0.95 * self._shown + 0.05 * latest
            last = stopping and not self._pending
            if last or not healthy or step % JOURNAL_EVERY == 0:
                self.journal.write(step, self._clock.total, **values)
            bar.update(
                note=f"{self.objective.watched} {self._shown:.3f}, best {self.objective.metric} {self.history.best:.3f}, "
                f"{rate:,.0f} samples/s"
            )
            if not healthy:
                self._pending.clear()
                return step
        return None

    def _keep(self, state: TrainState, step: int, due: bool, stopping: bool) -> None:
        """Saves the state of a step. Validates and publishes first, if that is due or nothing was published yet."""
        if step and (due or (stopping and self._unpublished)):
            self._validate(state, step)
        if stopping or step % self.training.save_every == 0:
            with self._clock.paused():
                self.states.save(state, asdict(self.history), wait=stopping)

    def _validate(self, state: TrainState, step: int) -> None:
        """Validates the weights of a step, and publishes them if they are the best so far."""
        with self._clock.paused():
            value = validate(self._evaluate, state.ema, self.held_out, self._place, self.objective.metric)
            self.journal.write(step, self._clock.total, **{f"{scored(self.held_out)}_{self.objective.metric}": value})
            if value < self.history.best:
                self.history = replace(self.history, best=value)
                self.publish(state.ema, step, value)
                self._unpublished = False

    def _failure(self, step: int) -> str:
        return (
            f"the loss of step {step} is not finite, or has diverged: the run has stopped, the state of step "
            f"{step - 1} is saved; continue with --resume and {self.objective.remedy} (the learning rate is "
            f"{self.training.learning_rate:g}); if that does not help, delete states/{step - 1} to continue from the one "
            "before"
        )


def scored(held_out: Batches) -> str:
    """The split that validation scores: "valid", or "train" if no sounds are held out."""
    return HELD_OUT if held_out.split != "train" else TRAINING


Step = Callable[[TrainState, Batch, jax.Array, int, Pace], tuple[TrainState, Metrics, jax.Array]]


def compiled(objective: Objective) -> Step:
    """A compiled step: (state, batch, healthy, phase, pace) to the next state, metrics, and whether all steps so far succeeded.

    Each phase is compiled separately. The given state is donated. Once `healthy` (bool []) is False, the state stays the same.
    """

    def guarded(state: TrainState, batch: Batch, healthy: jax.Array, phase: int, pace: Pace):
        paced: Any = replace(objective, pace=pace)  # type: ignore[type-var]
        stepped, metrics = paced.step(state, batch, *([phase] if isinstance(objective, Phased) else []))
        healthy = healthy & metrics["healthy"]
        return keep_healthy(stepped, state, healthy), metrics, healthy

    return jax.jit(guarded, donate_argnums=0, static_argnums=3)


def validate(evaluate: Callable, params: Params, held_out: Batches, place: Callable, metric: str) -> float:
    """The mean of a metric over the held-out windows, weighted as the objective says."""
    total = weights = 0.0
    for batch in held_out.held_out():
        metrics, weight = evaluate(params, place(batch, batched=True))
        total += float(metrics[metric]) * float(weight)
        weights += float(weight)
    return total / weights if weights else math.nan


def check_devices(batch_size: int) -> None:
    """Raises UserError unless a batch divides evenly among the devices."""
    count = len(jax.devices())
    if batch_size % count:
        below = batch_size - batch_size % count
        sizes = " or ".join(str(size) for size in (below, below + count) if size)
        raise UserError(
            f"batch_size is {batch_size}, which does not divide evenly among {count} devices: choose {sizes}"
        )


def devices() -> str:
    """The devices that training uses, in words."""
    kinds = [device.device_kind for device in jax.devices()]
    return ", ".join(f"{kinds.count(kind)} × {kind}" for kind in sorted(set(kinds)))


def placement(batch_size: int) -> Callable[..., Any]:
    """A function that puts trees on the devices: it replicates states, and splits batches (`batched=True`).

    Raises:
        UserError: a batch of this size does not divide evenly among the devices.
    """
    check_devices(batch_size)
    mesh = jax.make_mesh((len(jax.devices()),), ("data",), axis_types=(AxisType.Auto,), devices=jax.devices())
    whole, split = NamedSharding(mesh, PartitionSpec()), NamedSharding(mesh, PartitionSpec("data"))

    def place(tree: Any, batched: bool = False) -> Any:
        if batched:
            return jax.tree.map(lambda leaf: jax.make_array_from_process_local_data(split, np.asarray(leaf)), tree)
        return jax.device_put(tree, whole)

    return place


class Clock:
    """Measures the time spent on training steps, excluding validation, saving and previews."""

    def __init__(self, before: float) -> None:
        self._before, self._began, self._resting, self._first = before, time.perf_counter(), 0.0, 0.0
        self._paused_at: float | None = None

    @property
    def total(self) -> float:
        """Seconds of training so far, including earlier processes."""
        return self._before + self._elapsed()

    def _elapsed(self) -> float:
        now = time.perf_counter() if self._paused_at is None else self._paused_at
        return now - self._began - self._resting

    def lap(self, steps: int) -> float:
        """Seconds of this process's first `steps` steps. The first, which compiles, is replaced by the mean of the others."""
        now = self._elapsed()
        if steps == 1:
            self._first = now
            return now
        return (now - self._first) * steps / (steps - 1)

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Stops the clock."""
        self._paused_at = time.perf_counter()
        yield
        self._resting += time.perf_counter() - self._paused_at
        self._paused_at = None


@contextmanager
def stop_signals() -> Iterator[list[int]]:
    """Collects SIGINT and SIGTERM, so that the current step can finish; a second signal raises KeyboardInterrupt."""
    received: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield received
        return

    def note(number: int, _frame: Any) -> None:
        if received:
            raise KeyboardInterrupt
        received.append(number)

    previous = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield received
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
