"""What the loop asks of an objective: pure functions, whatever they optimise."""

from typing import Any, Protocol, runtime_checkable

import jax

from wavesynth.training.state import Params, TrainState

Batch = dict[str, Any]
Metrics = dict[str, jax.Array]


class Objective(Protocol):
    """Pure steps over a `TrainState`. The loop compiles them, and knows nothing else of the model.

    An objective is a frozen dataclass, because the loop replaces `extended_from`.

    Attributes:
        metric: the name of the validation metric; lower is better.
        meaning: that metric in words, with "{sounds}" in place of the sounds that validation scores.
        aim: where it should lie in comparison with the family's baselines.
        watched: the name of the metric of a step that is shown during training.
        remedy: what helps when training has diverged.
        extended_from: see `wavesynth.training.state.learning_rate`.
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
    def extended_from(self) -> int: ...

    def init(self, params: Params) -> TrainState:
        """The state before the first step."""
        ...

    def step(self, state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
        """One step: the next state and metrics, scalars all.

        The metric "healthy" is False if the loss was not finite or has diverged; then the state is the one given.
        """
        ...

    def evaluate(self, params: Params, batch: Batch) -> tuple[Metrics, jax.Array]:
        """The metrics of one held-out batch, and its weight in their mean over batches."""
        ...


@runtime_checkable
class Phased(Protocol):
    """An objective whose steps differ from phase to phase, such as with and without discriminators.

    `Objective.step` takes the phase as a third argument, a constant, so that each phase is a program of its own: a branch
    within one program would run its convolutions ten times slower on a CPU.
    """

    def phase(self, step: int) -> int:
        """The phase of a step, the first step being 0. Phases are numbered from 0, and never fall."""
        ...
