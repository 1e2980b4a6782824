"""The training loop: one for all families."""

import math
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from wavesynth.config import TrainingConfig
from wavesynth.data.batches import Batches, prefetch
from wavesynth.errors import UserError
from wavesynth.training.checkpoints import States
from wavesynth.training.journal import Journal
from wavesynth.training.objective import Batch, Metrics, Objective, Phased
from wavesynth.training.state import Params, TrainState


@dataclass(eq=False)
class Stopped(KeyboardInterrupt):
    """A signal asked the run to stop; the state of `step` was saved."""

    step: int
    steps: int
    signal: int

    def __str__(self) -> str:
        return f"stopped at step {self.step} of {self.steps}; the state is saved: go on by --resume (resume=True)"


def train(
    objective: Objective,
    state: TrainState,
    training: TrainingConfig,
    *,
    batches: Batches,
    held_out: Batches,
    states: States,
    journal: Journal,
    best: float,
    publish: Callable[[Params, int, float], None],
    preview: Callable[[Params, int], None],
    progress: bool = True,
) -> TrainState:
    """Runs from `state.step` to `training.steps`; validates, saves, publishes and previews on the way.

    best: the best validation so far; `publish(ema, step, metric)` is called whenever it is beaten. A new phase begins anew:
    discriminators are let in for what the metric does not hear.
    Raises Stopped after SIGINT or SIGTERM, and UserError after a step without a finite loss; both after saving.
    """
    from tqdm import tqdm

    place = placement(training.batch_size)
    state = place(state)
    step_once = compiled(objective)
    evaluate = jax.jit(objective.evaluate)
    first = step = int(state.step)
    clock = Clock(journal.seconds)
    shown = math.nan

    with (
        stop_signals() as received,
        tqdm(initial=first, total=training.steps, unit="step", disable=not progress) as bar,
    ):
        for batch in prefetch(batches, first, training.steps):
            state, metrics = step_once(step, state, place(batch, batched=True))
            step += 1
            metrics = {name: float(value) for name, value in metrics.items()}
            healthy = bool(metrics.pop("healthy"))
            rate = (step - first) * batches.batch_size * batches.crop / clock.lap(step - first)
            latest = metrics[objective.watched]
            shown = latest if math.isnan(shown) else 0.95 * shown + 0.05 * latest  # windows differ more than steps do
            bar.set_postfix_str(
                f"{objective.watched} {shown:.3f}, best {objective.metric} {best:.3f}, {rate:,.0f} samples/s"
            )
            bar.update()
            stopping = bool(received) or step == training.steps or not healthy
            if stopping or step % 10 == 0:
                journal.write(step, clock.total, **metrics)
            if isinstance(objective, Phased) and objective.phase(step - 1) != objective.phase(max(step - 2, 0)):
                best = math.inf  # metrics of another phase are those of another aim
            due = step % training.validate_every == 0 or step == training.steps
            good = step if healthy else step - 1
            if (healthy and due) or (stopping and best == math.inf and good):  # whatever was saved can be listened to
                with clock.paused():
                    value = validate(evaluate, state.ema, held_out, place, objective.metric)
                    journal.write(step, clock.total, **{f"valid_{objective.metric}": value})
                    if value < best:
                        best = value
                        publish(state.ema, good, best)
            if stopping or step % training.save_every == 0:
                with clock.paused():
                    states.save(state, {"best": best}, wait=stopping)
            if not healthy:
                raise UserError(
                    f"the loss of step {step} is not a finite number, or has run away: the run has stopped, the state of "
                    f"step {good} is saved; go on from it by --resume with {objective.remedy} (the learning rate is "
                    f"{training.learning_rate:g}), and if that does not help, delete states/{good} to go on from the one "
                    "before"
                )
            if received and step < training.steps:
                raise Stopped(step, training.steps, received[0])
            if step % training.preview_every == 0 or step == training.steps:
                with clock.paused():
                    preview(state.ema, step)
    return state


def compiled(objective: Objective) -> Callable[[int, TrainState, Batch], tuple[TrainState, Metrics]]:
    """The program of each step, given its number too: one for all, or one for each phase."""
    if isinstance(objective, Phased):
        in_phase = jax.jit(objective.step, donate_argnums=0, static_argnums=2)
        return lambda step, state, batch: in_phase(state, batch, objective.phase(step))
    always = jax.jit(objective.step, donate_argnums=0)
    return lambda step, state, batch: always(state, batch)


def validate(evaluate: Callable, params: Params, held_out: Batches, place: Callable, metric: str) -> float:
    """The mean of a metric over the held-out windows, each weighted by the samples it counts."""
    total = weight = 0.0
    for batch in held_out.held_out():
        metrics, count = evaluate(params, place(batch, batched=True))
        total += float(metrics[metric]) * float(count)
        weight += float(count)
    return total / weight if weight else math.nan


def placement(batch_size: int) -> Callable[..., Any]:
    """A function that puts trees on the devices: a state whole on each, a batch (`batched=True`) split over them.

    As many of the devices are used as divide the batch size.
    """
    devices = jax.devices()
    mesh = jax.make_mesh(
        (math.gcd(batch_size, len(devices)),), ("data",), axis_types=(AxisType.Auto,),
        devices=devices[: math.gcd(batch_size, len(devices))],
    )  # fmt: skip
    whole, split = NamedSharding(mesh, PartitionSpec()), NamedSharding(mesh, PartitionSpec("data"))

    def place(tree: Any, batched: bool = False) -> Any:
        if batched:
            return jax.tree.map(lambda leaf: jax.make_array_from_process_local_data(split, np.asarray(leaf)), tree)
        return jax.device_put(tree, whole)

    return place


class Clock:
    """Seconds of training, without what validation, saving and previews take."""

    def __init__(self, before: float) -> None:
        self._before, self._began, self._resting, self._first = before, time.perf_counter(), 0.0, 0.0
        self._paused_at: float | None = None

    @property
    def total(self) -> float:
        return self._before + self._elapsed()

    def _elapsed(self) -> float:
        now = time.perf_counter() if self._paused_at is None else self._paused_at
        return now - self._began - self._resting

    def lap(self, steps: int) -> float:
        """Seconds since training began, in proportion: the first step, which compiles, is counted like the others."""
        now = self._elapsed()
        if steps == 1:
            self._first = now
            return now
        return (now - self._first) * steps / (steps - 1)

    @contextmanager
    def paused(self) -> Iterator[None]:
        self._paused_at = time.perf_counter()
        yield
        self._resting += time.perf_counter() - self._paused_at
        self._paused_at = None


@contextmanager
def stop_signals() -> Iterator[list[int]]:
    """Collects SIGINT and SIGTERM instead of dying of them, so that a step can be finished; a second SIGINT kills."""
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
