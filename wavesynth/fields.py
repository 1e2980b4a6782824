"""Allowed values of config fields, declared in the type of each field.

```python
@dataclass(frozen=True)
class Shape(Checked):
    channels: Annotated[int, Whole(1, 4_096)] = 64
    dtype: Literal["float32", "bfloat16"] = "float32"
    dilations: Annotated[tuple[Annotated[int, Whole(1, 1_024)], ...], Count(1, 64)] = (1, 2, 4)
```
`Checked` validates every field when a config is constructed, by code or from an untrusted config.json. A subclass that changes
only a default uses the bare type (`channels: int = 32`) and keeps its parent's declaration. `bool` and `Literal` need no
declaration. Rules about several fields belong in the config's `__post_init__`.
"""

import inspect
import math
import numbers
import reprlib
import types
import typing
from dataclasses import dataclass, is_dataclass
from dataclasses import fields as dataclass_fields
from functools import lru_cache
from typing import Any, Literal, NoReturn, Protocol

from wavesynth.errors import UserError

SHOWN = 120  # characters of a value shown in an error


class Allowed(Protocol):
    """What a field may hold."""

    def checked(self, value: Any, name: str) -> Any:
        """The value as plain Python. Raises a UserError that starts with `name` if it is not allowed."""
        ...


@dataclass(frozen=True)
class Whole:
    """Multiples of `multiple_of` from `least` to `most`, of any integer type except bool.

    note: a reason for the limits, added to errors.
    """

    least: int | None = None
    most: int | None = None
    multiple_of: int = 1
    note: str = ""

    def checked(self, value: Any, name: str) -> int:
        if isinstance(value, bool) or not isinstance(value, numbers.Integral):
            _refuse(name, value, "it must be a whole number")
        number = int(value)
        if (self.least is not None and number < self.least) or (self.most is not None and number > self.most):
            _refuse(name, value, _bounds(("at least", self.least), ("at most", self.most)), self.note)
        if number % self.multiple_of:
            _refuse(name, value, f"it must be a multiple of {self.multiple_of}", self.note)
        return number


@dataclass(frozen=True)
class Real:
    """Finite numbers within bounds, of any real type except bool.

    note: a reason for the limits, added to errors.
    """

    least: float | None = None
    most: float | None = None
    above: float | None = None
    below: float | None = None
    note: str = ""

    def checked(self, value: Any, name: str) -> float:
        if isinstance(value, bool) or not isinstance(value, numbers.Real):
            _refuse(name, value, "it must be a number")
        try:
            number = float(value)
        except OverflowError:
            number = math.inf
        if not math.isfinite(number):
            _refuse(name, value, "it must be a finite number")
        if not (
            (self.least is None or number >= self.least)
            and (self.above is None or number > self.above)
            and (self.most is None or number <= self.most)
            and (self.below is None or number < self.below)
        ):
            bounds = ("at least", self.least), ("above", self.above), ("at most", self.most), ("below", self.below)
            _refuse(name, value, _bounds(*bounds), self.note)
        return number


@dataclass(frozen=True)
class Text:
    """Strings of `least` to `most` characters."""

    least: int = 0
    most: int = 1_024

    def checked(self, value: Any, name: str) -> str:
        if not isinstance(value, str):
            _refuse(name, value, "it must be text")
        if not self.least <= len(value) <= self.most:
            _refuse(name, value, f"it must have {self.least:,} to {self.most:,} characters")
        return str(value)


@dataclass(frozen=True)
class Flag:
    """True or False."""

    def checked(self, value: Any, name: str) -> bool:
        if not isinstance(value, bool):
            _refuse(name, value, "it must be true or false")
        return value


@dataclass(frozen=True)
class Choice:
    """One of a few values."""

    values: tuple[Any, ...]

    def checked(self, value: Any, name: str) -> Any:
        for choice in self.values:
            if type(value) is type(choice) and value == choice:
                return choice
        _refuse(name, value, f"choose one of {', '.join(map(repr, self.values))}")


@dataclass(frozen=True)
class Count:
    """Tuples of `least` to `most` members. `item` describes the members; it is read from the type."""

    least: int = 0
    most: int = 1_024
    item: Allowed | None = None

    def checked(self, value: Any, name: str) -> tuple[Any, ...]:
        if not isinstance(value, list | tuple):
            _refuse(name, value, "it must be a list")
        if not self.least <= len(value) <= self.most:
            _refuse(name, value, f"it must have {self.least:,} to {self.most:,} members")
        if self.item is None:
            return tuple(value)
        return tuple(self.item.checked(member, f"{name}[{index}]") for index, member in enumerate(value))


@dataclass(frozen=True)
class Optional:
    """None, or a value that `item` allows."""

    item: Allowed

    def checked(self, value: Any, name: str) -> Any:
        return None if value is None else self.item.checked(value, name)


@dataclass(frozen=True)
class Anything:
    """Any value, for types without a declaration."""

    kind: type = object

    def checked(self, value: Any, name: str) -> Any:
        if not isinstance(value, self.kind):
            _refuse(name, value, f"it must be of type {self.kind.__name__}")
        return value


class Checked:
    """Base of dataclasses that validate their fields on construction.

    Fields become plain Python values (a NumPy integer becomes an int, a list a tuple), so that every config can be hashed,
    compared and written as JSON.

    Raises:
        UserError: a field holds a value that its type does not allow.
    """

    def __post_init__(self) -> None:
        for name, allowed in allowed_values(type(self)).items():
            object.__setattr__(self, name, allowed.checked(getattr(self, name), name))


@lru_cache(maxsize=64)
def allowed_values(kind: type) -> dict[str, Allowed]:
    """The allowed values of each field of a dataclass, as declared by the class or its nearest base.

    >>> allowed_values(Shape)["channels"]                      # doctest: +SKIP
    Whole(least=1, most=4096, multiple_of=1)
    """
    assert is_dataclass(kind)
    annotations = [inspect.get_annotations(parent, eval_str=True) for parent in kind.__mro__ if is_dataclass(parent)]
    found = {}
    for field in dataclass_fields(kind):
        hints = [own[field.name] for own in annotations if field.name in own]
        found[field.name] = _allowed(next(filter(declares, hints), hints[0]))
    return found


def declares(hint: Any) -> bool:
    """Whether a type declares allowed values. Bare numbers, text and tuples do not."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Annotated:
        return any(hasattr(extra, "checked") for extra in hint.__metadata__)
    if origin in (typing.Union, types.UnionType):
        return all(argument is type(None) or declares(argument) for argument in arguments)
    return origin is Literal or hint is bool


def _allowed(hint: Any) -> Allowed:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Annotated:
        declared = next((extra for extra in hint.__metadata__ if hasattr(extra, "checked")), None)
        if declared is None:
            return _allowed(arguments[0])
        if isinstance(declared, Count):
            return Count(declared.least, declared.most, _allowed(typing.get_args(arguments[0])[0]))
        return declared
    if origin is Literal:
        return Choice(arguments)
    if origin is tuple:
        return Count(0, 2**16, _allowed(arguments[0]))
    if origin in (typing.Union, types.UnionType):
        return Optional(_allowed(next(argument for argument in arguments if argument is not type(None))))
    plain: dict[Any, Allowed] = {bool: Flag(), int: Whole(), float: Real(), str: Text(0, 2**16), Any: Anything()}
    return plain.get(hint) or Anything(hint if isinstance(hint, type) else object)


def _bounds(*bounds: tuple[str, float | None]) -> str:
    given = [(word, bound) for word, bound in bounds if bound is not None]
    if len(given) == 2 and given[0][1] == given[1][1]:
        return f"it must be {_number(given[0][1])}"
    return "it must be " + " and ".join(f"{word} {_number(bound)}" for word, bound in given)


def _number(bound: float) -> str:
    return f"{int(bound):,}" if bound == int(bound) else f"{bound:g}"


def _refuse(name: str, value: Any, remedy: str, note: str = "") -> NoReturn:
    raise UserError(f"{name} is {shown(value)}: {remedy}" + (f"; {note}" if note else ""))


class _Short(reprlib.Repr):
    def __init__(self) -> None:
        super().__init__()
        self.maxstring = self.maxother = self.maxlong = 80
        self.maxlevel = 2

    def repr_int(self, x: int, level: int) -> str:
        return repr(int(x)) if abs(x) < 10**40 else f"a number of {x.bit_length():,} bits"


def shown(value: Any) -> str:
    """A value as shown in errors: on one line, and shortened."""
    text = " ".join(_Short().repr(value).split())
    return text if len(text) <= SHOWN else text[: SHOWN - 3] + "..."
