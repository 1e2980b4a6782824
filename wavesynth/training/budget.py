"""The number of steps that fit into a number of minutes."""

import math
import time
from bisect import bisect_left
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from wavesynth.config import TrainingConfig
from wavesynth.errors import UserError

MOST_MINUTES = 525_600  # a year
LEAST_STEPS = 10
MEASURING = 0.04  # share of the time for measuring the speed
VALIDATING, MOST_VALIDATIONS = 0.1, 24  # share of the time for validations, and their number
PREVIEWING, MOST_PREVIEWS = 0.05, 6
WRITING = 0.2  # the least seconds that a validation or a preview takes, with the files that it writes
MARGIN = 0.02  # share of the time left for the start of the process, its end, and saved states
SAVE_SECONDS, LEAST_SAVES = 60, 2  # time between saved states, and their least number
WARMUP, USUAL_WARMUP = 0.05, 100  # the longest warm-up as a share of the steps, and a length that suits every long run
AVERAGED, USUAL_AVERAGE = 1 / 15, 500  # the same for the moving average of the weights, whose length is 1 / (1 - decay)


@dataclass(frozen=True)
class Speed:
    """Measured durations, seconds.

    Attributes:
        steps: of a step of each phase.
        validation: of a validation that publishes the weights.
        preview: of a preview.
    """

    steps: Mapping[int, float]
    validation: float
    preview: float


class Budget:
    """The minutes that a call may take, counted from the creation of this object.

    Raises:
        UserError: the minutes are not above 0, or exceed a year.
    """

    def __init__(self, minutes: float) -> None:
        if not 0 < minutes <= MOST_MINUTES:
            raise UserError(
                f"minutes is {minutes:g}: it must be above 0 and at most {MOST_MINUTES} (a year); or give steps instead"
            )
        self.minutes, self._began = minutes, time.perf_counter()

    @property
    def elapsed(self) -> float:
        """Seconds since the beginning."""
        return time.perf_counter() - self._began

    @property
    def left(self) -> float:
        """Seconds until the end, without a margin; below 0 after it."""
        return 60 * self.minutes * (1 - MARGIN) - self.elapsed

    def plan(
        self, training: TrainingConfig, speed: Speed, counts: Callable[[int], Mapping[int, int]], first: int = 0
    ) -> TrainingConfig:
        """Training settings with as many steps as fit into the time left.

        Warm-up and moving average are as long as suits the number of steps. The intervals of validations, previews and saved
        states follow from the measured durations.

        Args:
            training: the settings to start from.
            speed: measured durations.
            counts: the number of steps in each phase, given the number of steps of the whole run.
            first: the steps taken before.

        Raises:
            UserError: too little time is left; the message says how many minutes are enough.

        >>> plan = Budget(10).plan(TrainingConfig(), Speed({0: 0.5}, 2.0, 4.0), lambda steps: {0: steps})
        >>> 1000 < plan.steps < 1100, plan.validate_every
        (True, 43)
        """
        left = self.left
        validations = _number(VALIDATING * left / max(speed.validation, WRITING), MOST_VALIDATIONS)
        previews = _number(PREVIEWING * left / max(speed.preview, WRITING), MOST_PREVIEWS)

        def duration(steps: int) -> float:
            return sum(speed.steps[phase] * count for phase, count in counts(first + steps).items())

        least = duration(LEAST_STEPS) + speed.validation + speed.preview
        if left < least:
            enough = math.ceil(10 * (self.elapsed + least) / (1 - MARGIN) / 60) / 10
            raise UserError(
                f"minutes is {self.minutes:g}, too few for {LEAST_STEPS} steps and one validation: at the measured speed "
                f"({_durations(speed)}) give at least {enough:g} (--resume --minutes {enough:g}; resume=True, "
                f"minutes={enough:g})"
            )
        training_seconds = left - validations * speed.validation - previews * speed.preview
        steps = max(LEAST_STEPS, _largest(lambda steps: duration(steps) <= training_seconds))
        saves = max(LEAST_SAVES, int(left / SAVE_SECONDS))
        return replace(
            training,
            steps=first + steps,
            warmup=min(max(training.warmup, USUAL_WARMUP), math.ceil(WARMUP * steps)) if training.warmup else 0,
            ema=_decay(min(max(1 / (1 - training.ema), USUAL_AVERAGE), AVERAGED * steps)) if training.ema else 0.0,
            validate_every=math.ceil(steps / validations),
            save_every=math.ceil(steps / saves),
            preview_every=math.ceil(steps / previews),
        )


def phase_counts(phase: Callable[[int], int], first: int, steps: int) -> dict[int, int]:
    """The number of steps in each phase, of the steps from `first` to `steps` - 1. Phases never decrease.

    >>> phase_counts(lambda step: int(step >= 60), 10, 100)
    {0: 50, 1: 40}
    """
    counts, begin = {}, first
    while begin < steps:
        current = phase(begin)
        end = bisect_left(range(begin, steps), current + 1, key=phase) + begin
        counts[current], begin = end - begin, end
    return counts


def _decay(length: float) -> float:
    """The decay per step of a moving average over so many steps."""
    return round(1 - 1 / max(length, 1.0), 6)


def _number(fitting: float, most: int) -> int:
    return int(min(max(fitting, 1), most))


def _largest(fits: Callable[[int], bool]) -> int:
    """The largest number of steps that fits; at least 0."""
    high = 1
    while high < 10**9 and fits(high):
        high *= 2
    return bisect_left(range(high), True, key=lambda steps: not fits(steps + 1))


def _durations(speed: Speed) -> str:
    slowest = max(speed.steps.values())
    return f"{slowest:.2g} s per step, {speed.validation:.2g} s per validation, {speed.preview:.2g} s per preview"
