"""Fields of configs: what a type declares is what a config takes, and nothing else."""

import dataclasses
import math
from typing import Annotated, Any, Literal

import numpy as np
import pytest

from wavesynth.config import DatasetInfo, TrainingConfig
from wavesynth.errors import UserError
from wavesynth.families import FAMILIES
from wavesynth.fields import (
    Allowed,
    Checked,
    Choice,
    Count,
    Flag,
    Optional,
    Real,
    Text,
    Whole,
    allowed_values,
    declares,
    shown,
)

CONFIGS = {
    kind.__name__: kind
    for family in FAMILIES.values()
    for kind in (DatasetInfo, TrainingConfig, family.model_config, family.training_config)
}


@dataclasses.dataclass(frozen=True)
class Shape(Checked):
    channels: Annotated[int, Whole(1, 64)] = 8
    windows: Annotated[tuple[Annotated[int, Whole(16, 64, multiple_of=4)], ...], Count(0, 2)] = (16,)
    rate: Annotated[float, Real(above=0, most=1, note="a share")] = 0.5
    dtype: Literal["float32", "bfloat16"] = "float32"
    causal: bool = True
    name: Annotated[str, Text(1, 4)] = "a"
    maybe: Annotated[int, Whole(1)] | None = None


@dataclasses.dataclass(frozen=True)
class Narrow(Shape):
    channels: int = 4
    rate: Annotated[float, Real(above=0, most=0.5)] = 0.25


def refused(allowed: Allowed) -> list[Any]:
    """Values just outside of what is allowed, and values of other types."""
    wrong: list[Any] = [None, {}, object(), b"x", float("nan")]
    if isinstance(allowed, Whole):
        assert allowed.least is not None
        assert allowed.most is not None
        ends = [allowed.least - allowed.multiple_of, allowed.most + allowed.multiple_of, 10**400]
        between = [allowed.least + 1] if allowed.multiple_of > 1 else []
        return [*wrong, *ends, *between, True, str(allowed.least), float(allowed.least), np.float32(1), [1]]
    if isinstance(allowed, Real):
        low = allowed.above if allowed.least is None else math.nextafter(allowed.least, -math.inf)
        high = allowed.below if allowed.most is None else math.nextafter(allowed.most, math.inf)
        assert low is not None
        assert high is not None
        return [*wrong, low, high, math.inf, -math.inf, 10**400, True, "1", 1j, [1.0]]
    if isinstance(allowed, Choice):
        return [*wrong, "", "no such choice", 0, True, [*allowed.values], np.zeros(2)]
    if isinstance(allowed, Flag):
        return [*wrong, 0, 1, "true"]
    if isinstance(allowed, Text):
        return [*wrong, "x" * (allowed.most + 1), 3, ["a"]]
    if isinstance(allowed, Optional):
        return [value for value in refused(allowed.item) if value is not None]
    assert isinstance(allowed, Count)
    assert allowed.item is not None
    member = taken(allowed.item)[0]
    return [*wrong, "abc", 3, [member] * (allowed.most + 1), *([value] for value in refused(allowed.item)[:3])]


def taken(allowed: Allowed) -> list[Any]:
    """Values at the ends of what is allowed."""
    if isinstance(allowed, Whole):
        return [allowed.least, allowed.most, np.int64(allowed.least or 0)]
    if isinstance(allowed, Real):
        low = math.nextafter(allowed.above, math.inf) if allowed.least is None else allowed.least  # type: ignore[arg-type]
        high = math.nextafter(allowed.below, -math.inf) if allowed.most is None else allowed.most  # type: ignore[arg-type]
        return [low, high, np.float64(low)]
    if isinstance(allowed, Choice):
        return [*allowed.values]
    if isinstance(allowed, Flag):
        return [True, False]
    if isinstance(allowed, Text):
        return ["x" * allowed.most]
    if isinstance(allowed, Optional):
        return [None, *taken(allowed.item)]
    assert isinstance(allowed, Count)
    assert allowed.item is not None
    return [[taken(allowed.item)[0]] * allowed.least, (taken(allowed.item)[0],) * min(allowed.most, 3)]


@pytest.mark.parametrize("kind", CONFIGS.values(), ids=CONFIGS)
def test_every_field_takes_what_its_type_says_and_nothing_else(kind: type):
    for name, allowed in allowed_values(kind).items():
        for value in taken(allowed):
            made = allowed.checked(value, name)
            hash(made)
            assert allowed.checked(made, name) == made
        for value in refused(allowed):
            with pytest.raises(UserError, match=rf"^{name}(\[0\])? is ") as error:
                dataclasses.replace(kind(**({"sample_rate": 8_000} if kind is DatasetInfo else {})), **{name: value})
            assert "\n" not in str(error.value)
            assert len(str(error.value)) < 400


@pytest.mark.parametrize("kind", CONFIGS.values(), ids=CONFIGS)
def test_every_field_declares_its_values(kind: type):
    assert issubclass(kind, Checked)
    for field in dataclasses.fields(kind):
        hints = [parent.__annotations__.get(field.name) for parent in kind.__mro__ if dataclasses.is_dataclass(parent)]
        assert any(hint is not None and declares(hint) for hint in hints), f"{kind.__name__}.{field.name}"


def test_values_become_plain_python():
    made = Shape(np.int32(3), [16, 20], np.float32(0.5), name="ab", maybe=np.uint8(2))  # type: ignore[arg-type]
    assert made == Shape(3, (16, 20), 0.5, name="ab", maybe=2)
    assert [type(value) for value in (made.channels, made.windows, made.rate, made.maybe)] == [int, tuple, float, int]
    assert Shape(rate=1).rate == 1.0  # type: ignore[arg-type]


def test_a_subclass_keeps_what_it_does_not_declare_anew():
    assert Narrow().channels == 4
    with pytest.raises(UserError, match="channels is 65: it must be at least 1 and at most 64"):
        Narrow(65)
    with pytest.raises(UserError, match=r"rate is 0.75: it must be above 0 and at most 0.5$"):
        Narrow(rate=0.75)
    assert allowed_values(Narrow)["windows"] == allowed_values(Shape)["windows"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(channels=0), "channels is 0: it must be at least 1 and at most 64"),
        (dict(channels=2.0), "channels is 2.0: it must be a whole number"),
        (dict(windows=(16, 18)), r"windows\[1\] is 18: it must be a multiple of 4"),
        (dict(windows=(16,) * 3), r"windows is .*: it must have 0 to 2 members"),
        (dict(windows=16), "windows is 16: it must be a list"),
        (dict(rate=1.5), "rate is 1.5: it must be above 0 and at most 1; a share"),
        (dict(rate=math.nan), "rate is nan: it must be a finite number"),
        (dict(rate=10**400), "rate is a number of 1,329 bits: it must be a finite number"),
        (dict(dtype="int8"), "dtype is 'int8': choose one of 'float32', 'bfloat16'"),
        (dict(causal=1), "causal is 1: it must be true or false"),
        (dict(name="long name"), "name is 'long name': it must have 1 to 4 characters"),
        (dict(maybe="a"), "maybe is 'a': it must be a whole number"),
    ],
)
def test_what_is_refused_says_what_is_allowed(change: dict, message: str):
    with pytest.raises(UserError, match=f"^{message}"):
        Shape(**change)


def test_values_are_shown_in_one_short_line():
    nested: list = []
    for _ in range(10_000):
        nested = [nested]
    for value in (nested, "x\n\x1b[2J" * 1_000, 10**5_000, list(range(10**5)), np.zeros(10**6), {"a": {"b": nested}}):
        text = shown(value)
        assert len(text) < 300
        assert text.isprintable()
    assert shown("kick") == "'kick'"
