"""The parameters of Python functions with their documentation, from which commands take their flags."""

import inspect
import re
import sys
import textwrap
import typing
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

REQUIRED = inspect.Parameter.empty
UNSET: Any = object()
"""The default of a typed option. It is not passed on, so that the function's own default applies."""


@dataclass(frozen=True)
class Parameter:
    """A parameter of a function.

    Attributes:
        annotation: Its type.
        default: Its default value, REQUIRED or UNSET.
        help: Its entry in the docstring.
    """

    annotation: Any
    default: Any
    help: str


def parameters_of(function: Callable) -> dict[str, Parameter]:
    """The parameters of a function or class by their names, without `self`.

    `**options: Unpack[Options]` stands for the fields of the TypedDict `Options`, whose docstring describes them. A
    description in the function's own docstring comes first.
    """
    target = function.__init__ if inspect.isclass(function) else function
    hints = typing.get_type_hints(
        (typing.get_overloads(target) or [target])[-1]
    )  # of overloads the last is the plainest
    documented = entries(inspect.getdoc(function) or "") | entries(inspect.getdoc(target) or "")
    found = {}
    for name, parameter in inspect.signature(target).parameters.items():
        annotation = hints.get(name, Any)
        if parameter.kind is parameter.VAR_KEYWORD:
            found |= _options(annotation, documented)
        elif name != "self" and parameter.kind is not parameter.VAR_POSITIONAL:
            found[name] = Parameter(annotation, parameter.default, documented.get(name, ""))
    return found


def _options(annotation: Any, documented: dict[str, str]) -> dict[str, Parameter]:
    """The fields of the TypedDict of `**options`; none if the options are untyped."""
    if typing.get_origin(annotation) is not typing.Unpack:
        return {}
    (options,) = typing.get_args(annotation)
    described = _described(options) | documented
    return {
        name: Parameter(hint, UNSET, described.get(name, "")) for name, hint in typing.get_type_hints(options).items()
    }


def _described(options: Any) -> dict[str, str]:
    """The descriptions of a TypedDict's fields, including those it inherits from TypedDicts in the same module.

    Before Python 3.12 a TypedDict does not record its bases. So every TypedDict whose fields it contains counts as a base.
    """
    own = vars(sys.modules[options.__module__]).values()
    extended = [
        each for each in own if typing.is_typeddict(each) and set(each.__annotations__) < set(options.__annotations__)
    ]
    return {name: text for each in (*extended, options) for name, text in entries(each.__doc__ or "").items()}


def entries(docstring: str) -> dict[str, str]:
    """The entries of the sections Args and Attributes of a Google-style docstring, on one line each.

    >>> entries('''Plays.
    ...
    ... Args:
    ...     rate: Hz, of
    ...         the sound.
    ...     force (bool): Overwrite.
    ... ''')
    {'rate': 'Hz, of the sound.', 'force': 'Overwrite.'}
    """
    found: dict[str, list[str]] = {}
    docstring = inspect.cleandoc(docstring) + "\n"
    for section in re.findall(r"^(?:Args|Attributes):\n((?: .*\n|\n)*)", docstring, re.MULTILINE):
        for line in textwrap.dedent(section).splitlines():
            entry = re.match(r"\*{0,2}(\w+)(?: \([^)]*\))?: ?(.*)", line)
            if entry:
                found[entry[1]] = [entry[2]]
            elif line.startswith(" ") and found:
                found[next(reversed(found))].append(line)
    return {name: " ".join(" ".join(lines).split()) for name, lines in found.items()}
