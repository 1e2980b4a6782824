"""What the loop asks of an objective: pure functions, whatever they optimise."""

from typing import Any, Protocol, runtime_checkable

import jax

from wavesynth.training.state import Params, TrainState

Batch = dict[str, Any]
Metrics = dict[str, jax.Array]


class Objective(Protocol):
    """Pure steps over a `TrainState`; the loop compiles them and knows nothing else of the model.

    metric: the name of the metric that validation is judged by; lower is better. meaning: that metric in words.
    aim: where it should lie beside the family's baselines. watched: the name of the metric of a step that is shown while
    it trains. remedy: what helps when training has failed.
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

    def init(self, params: Params) -> TrainState:
        """The state before the first step."""
        ...

    def step(self, state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
        """One step. The metrics hold scalars and "healthy": False if the step found no finite loss, or one that
        has run away, and changed nothing."""
        ...

    def evaluate(self, params: Params, batch: Batch) -> tuple[Metrics, jax.Array]:
        """The metrics of one held-out batch, and the weight with which they enter the mean."""
        ...


@runtime_checkable
class Phased(Protocol):
    """An objective whose steps change on the way. Each phase is a program of its own: a branch inside one would run its
    convolutions ten times slower on a CPU."""

    def phase(self, step: int) -> int:
        """The phase of a step, the first one being 0: what `Objective.step` is given as a third argument, then a constant."""
        ...
