"""Derives a command's flags from the functions that it calls: their parameters, types, defaults and docstrings.

A new parameter of a function becomes a flag of every command that calls it. Values that cannot be typed on a command line are
given as files: a `Synth` as its run folder, a `Timbre` as a file written by `Timbre.save`, a sound as a sound file.
"""

import dataclasses
import inspect
import types
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Annotated, Any, Literal

from wavesynth.audio.names import user_path
from wavesynth.commands.parameters import REQUIRED, UNSET, Parameter, parameters_of
from wavesynth.errors import UserError

PROGRESS, QUIET = "progress", "quiet"
QUIET_HELP = "Do not show progress."
SYNTH, TIMBRE = "wavesynth.synth.Synth", "wavesynth.timbre.timbre.Timbre"


class Flags:
    """The values of a command's flags."""

    def __init__(self, values: dict[str, Any], parameters: dict[str, Parameter], renamed: Mapping[str, str]) -> None:
        self._values = values
        self._parameters = parameters
        self._renamed = renamed

    def __getitem__(self, name: str) -> Any:
        return self._values[name]

    def call(self, function: Callable, **others: Any) -> Any:
        """Calls a function with those flags that are its parameters, and with other arguments."""
        return function(**self.arguments(function, **others))

    def arguments(self, function: Callable, **others: Any) -> dict[str, Any]:
        """The arguments that `call` passes. Synths and timbres are loaded from their files."""
        arguments = {}
        for name in parameters_of(function):
            flag = self._renamed.get(name, name)
            if name in others:
                continue
            if name == PROGRESS and QUIET in self._values:
                arguments[name] = not self._values[QUIET]
            elif self._values.get(flag, UNSET) is not UNSET:
                arguments[name] = _loaded(self._values[flag], self._parameters[flag].annotation)
        return arguments | others


def parse(
    command: Callable, arguments: list[str], *functions: Callable, positional: Mapping[str, str],
    without: Sequence[str] = (), renamed: Mapping[str, str] | None = None, defaults: Mapping[str, Any] | None = None,
) -> Flags:  # fmt: skip
    """Reads the flags of a command, or prints its help.

    Args:
        command: The command. Its name and docstring begin the help.
        arguments: The arguments after the command's name.
        functions: The functions that the command calls. Parameters with the same name share one flag, described by the first
            function's docstring.
        positional: The positional parameters, and their names in the help.
        without: Parameters without a flag, because the command computes them.
        renamed: Flag names that differ from the parameter names.
        defaults: Defaults that depend on the command.

    Raises:
        SystemExit: The help was printed (0), or a flag is unknown, missing or of the wrong type (2).
        UserError: A field of a config has a value that is not allowed.
    """
    import tyro

    renamed, defaults = renamed or {}, defaults or {}
    parameters: dict[str, Parameter] = {}
    for function in functions:
        for name, parameter in parameters_of(function).items():
            if name not in without:
                parameters.setdefault(renamed.get(name, name), parameter)
    fields, quiet = [], parameters.pop(PROGRESS, None)
    for name in sorted(parameters, key=lambda name: name not in positional):  # positional first, otherwise in order
        parameter = parameters[name]
        fields.append(_field(name, parameter, positional.get(name), defaults.get(name, parameter.default)))
    if quiet is not None:
        fields.append(_field(QUIET, Parameter(bool, False, QUIET_HELP), None, False))
    name = command.__name__
    values = tyro.cli(
        dataclasses.make_dataclass(name, fields, kw_only=True), args=arguments, prog=f"wavesynth {name}",
        description=_description(command),
    )  # fmt: skip
    given = {field.name: getattr(values, field.name) for field in dataclasses.fields(values)}
    for name, parameter in parameters.items():
        left_out = given[name] is None and parameter.default is UNSET
        given[name] = UNSET if left_out else _expanded(given[name])
        if dataclasses.is_dataclass(default := defaults.get(name)):
            given[name] = _checked(given[name], type(default), name)
    return Flags(given, parameters, renamed)


def _field(name: str, parameter: Parameter, metavar: str | None, default: Any) -> tuple[str, Any, Any]:
    """A field of the dataclass that tyro parses."""
    from tyro.conf import FlagCreatePairsOff, Positional, arg

    nested = dataclasses.is_dataclass(default)
    default = _unchecked(default) if nested else default
    kind = type(default) if nested else flag_type(parameter.annotation)
    if kind is None:
        raise TypeError(f"{name} has the type {parameter.annotation}, which no flag supports")
    default = None if default is UNSET else Path(default) if kind is Path and isinstance(default, str) else default
    if nested or default is False:
        kind = FlagCreatePairsOff[kind]
    else:
        metavar_shown = metavar or (_metavar(kind) if default is None else None)
        kind = kind | None if default is None else kind
        hint = "(required)" if default is REQUIRED else "" if default is None else f"(default: {default})"
        kind = Annotated[kind, arg(metavar=metavar_shown, help_behavior_hint=hint)]
    kind = Annotated[kind, arg(help=parameter.help or None)]
    kind = Positional[kind] if metavar else kind
    return name, kind, dataclasses.field() if default is REQUIRED else dataclasses.field(default=default)


def _unchecked(config: Any) -> Any:
    """A copy of a config whose class allows any values. tyro would report a UserError of the config's own class in a box."""
    kind = type(config)
    lenient = type(kind.__name__, (kind,), {"__doc__": kind.__doc__, "__post_init__": lambda self: None})
    return lenient(**vars(config))


def _checked(config: Any, kind: type, flag: str) -> Any:
    """The inverse of `_unchecked`, given the config's own class. A UserError begins with the flag and the field."""
    try:
        return kind(**vars(config))
    except UserError as error:
        raise UserError(f"{flag}.{error}") from None


def _metavar(kind: Any) -> str | None:
    """The metavar of an optional value, without the None of its type."""
    names = {bool: "{True,False}", int: "INT", float: "FLOAT", str: "STR", Path: "PATH"}
    members = [member for member in _members(kind) if member is not types.NoneType]
    if len(members) == 1 and typing.get_origin(members[0]) is Literal:
        return "{" + ",".join(map(str, typing.get_args(members[0]))) + "}"
    if len(members) == 1 and typing.get_origin(members[0]) is tuple:
        inner = _metavar(typing.get_args(members[0])[0])
        return f"{inner} [{inner} ...]"
    return "|".join(names[member] for member in members) if all(member in names for member in members) else None


def _description(command: Callable) -> str:
    """The docstring of a command, without the arguments at its beginning."""
    head, _, rest = (inspect.getdoc(command) or "").partition("\n")
    sentence = head.partition(": ")[2] or head
    return sentence[:1].upper() + sentence[1:] + "\n" + rest


def flag_type(annotation: Any) -> Any:
    """The type of the flag for a parameter of some type; None if no flag supports it.

    >>> flag_type(int | None), flag_type(Sequence[int])
    (int | None, tuple[int, ...])
    """
    members = list(_members(annotation))
    kinds = [member for member in members if member in (bool, int, float) or typing.get_origin(member) is Literal]
    files = [member for member in members if _is_path(member) or _is_loaded(member)]
    if _labels_or_files(members):
        kinds.append(str)
    elif files:
        kinds.append(Path)
    elif str in members:
        kinds.append(str)
    if not kinds:
        for member in members:
            inner = [flag_type(part) for part in typing.get_args(member) if part is not Ellipsis]
            if typing.get_origin(member) in (tuple, list, Sequence) or _is_sequence(member):
                kinds += [tuple[part, ...] for part in inner[:1] if part is not None]
    if not kinds:
        return None
    if types.NoneType in members:
        kinds.append(types.NoneType)
    kind = kinds[0]
    for other in kinds[1:]:
        kind = kind | other
    return kind


def _members(annotation: Any) -> Iterator[Any]:
    """The members of a union, nested ones included; the type itself if it is not a union."""
    origin = typing.get_origin(annotation)
    if origin is Annotated or origin in (typing.Required, typing.NotRequired):
        yield from _members(typing.get_args(annotation)[0])
    elif origin in (typing.Union, types.UnionType):
        for member in typing.get_args(annotation):
            yield from _members(member)
    else:
        yield annotation


def _is_path(member: Any) -> bool:
    return member is Path or (typing.get_origin(member) or member) is PathLike


def _is_sequence(member: Any) -> bool:
    origin = typing.get_origin(member)
    return isinstance(origin, type) and issubclass(origin, Sequence)


def _name(member: Any) -> str:
    return f"{getattr(member, '__module__', '')}.{getattr(member, '__qualname__', '')}"


def _is_loaded(member: Any) -> bool:
    """Whether a class is loaded from a file."""
    return _name(member) in (SYNTH, TIMBRE)


def _labels_or_files(members: Sequence[Any]) -> bool:
    """Whether a value may be a label or a file."""
    return str in members and TIMBRE in map(_name, members)


def _expanded(value: Any) -> Any:
    """A path, or text that begins with `~/`, with `~` expanded. Shells do not expand it in `--flag=~/x`."""
    if isinstance(value, tuple):
        return tuple(_expanded(part) for part in value)
    text = str(value) if isinstance(value, Path | str) else ""
    if text.startswith("~/") or (isinstance(value, Path) and text.startswith("~")):
        return type(value)(user_path(value))
    return value


def _loaded(value: Any, annotation: Any) -> Any:
    """Loads a file if the function takes a Synth or a Timbre."""
    members = list(_members(annotation))
    if not isinstance(value, Path) or any(_is_path(member) for member in members):
        return value
    import wavesynth

    loaders = {SYNTH: wavesynth.load, TIMBRE: wavesynth.Timbre.load}
    return next((loaders[_name(member)](value) for member in members if _is_loaded(member)), value)


def peek(flag: str, arguments: list[str]) -> str | None:
    """The value of one flag, before the others can be parsed; None if it is not given."""
    for index, argument in enumerate(arguments):
        if argument.startswith(flag + "="):
            return argument[len(flag) + 1 :]
        if argument == flag and index + 1 < len(arguments):
            return arguments[index + 1]
    return None
