"""The interface between the training loop and objectives."""

from typing import Any, Protocol, runtime_checkable

import jax

from wavesynth.training.state import Pace, Params, TrainState

Batch = dict[str, Any]
Metrics = dict[str, jax.Array]


class Objective(Protocol):
    """Pure steps over a `TrainState`, which the loop compiles.

    An objective is a frozen dataclass, because `dataclasses.replace` sets `pace`.

    Attributes:
        metric: the name of the validation metric; lower is better.
        meaning: the metric in words; "{sounds}" stands for the sounds that validation scores.
        aim: how a good value compares with the family's baselines.
        watched: the name of the step metric shown during training.
        remedy: what helps if training has diverged.
        pace: the part of the plan that steps take as data; None for that of the training settings.
    """

    @property
    def metric(self) -> str: ...
    @property
    def meaning(self) -> str: ...
    @property
    def aim(self) -> str: ...
    @property
    def watched(self) -> str: ...
    @property
    def remedy(self) -> str: ...
    @property
    def pace(self) -> Pace | None: ...

    def init(self, params: Params) -> TrainState:
        """The state before the first step."""
        ...

    def step(self, state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
        """One step: returns the next state and scalar metrics.

        The metric "healthy" is False if the loss is not finite or has diverged; then the state is unchanged.
        """
        ...

    def evaluate(self, params: Params, batch: Batch) -> tuple[Metrics, jax.Array]:
        """The metrics of one held-out batch, and its weight in their mean over batches."""
        ...


@runtime_checkable
class Phased(Protocol):
    """An objective whose steps differ between phases, such as with and without discriminators.

    `Objective.step` takes the phase as a third, static argument, so that each phase is compiled separately: a branch in one
    program would make convolutions ten times slower on a CPU.
    """

    def phase(self, step: int) -> int:
        """The phase of a step. Steps and phases are numbered from 0; phases never decrease."""
        ...

    def other_aim(self, phase: int) -> bool:
        """Whether a phase optimises something new, so that its weights are published even if the metric is worse."""
        ...
