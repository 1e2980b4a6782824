"""The documentation is true: examples run, public names say what they take, return and raise, and the README's code fits."""

import ast
import dataclasses
import doctest
import importlib
import inspect
import io
import pkgutil
import re
import shutil
import textwrap
import types
import typing
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import wavesynth

ROOT = Path(__file__).resolve().parent.parent
SHIPPED = ("flute", "trumpet")  # labels in the folder of sounds that examples read


def modules() -> Iterator[tuple[str, str]]:
    """Name and source of each module of the package under test."""
    for module in pkgutil.walk_packages(wavesynth.__path__, "wavesynth."):
        spec = module.module_finder.find_spec(module.name, None)  # type: ignore[call-arg]
        if spec is not None and spec.origin and spec.origin.endswith(".py"):
            yield module.name, Path(spec.origin).read_text(encoding="utf-8")


WITH_EXAMPLES = ["wavesynth", *(name for name, source in modules() if ">>> " in source)]


@pytest.fixture(scope="session")
def example_files(tmp_path_factory: pytest.TempPathFactory, sounds: Path, tiny_shards: Path, tiny_run: Path) -> Path:
    """What examples find in their folder: `sounds/`, `shards/`, `runs/mine`."""
    folder = tmp_path_factory.mktemp("examples")
    for label in SHIPPED:
        (folder / "sounds" / label).mkdir(parents=True)
        for path in sorted((sounds / label).glob("*.flac"))[:3]:
            shutil.copy(path, folder / "sounds" / label)
    shutil.copytree(tiny_shards, folder / "shards")
    shutil.copytree(tiny_run, folder / "runs" / "mine")
    return folder


@pytest.fixture(scope="session")
def published() -> wavesynth.Synth:
    """The model that comes with wavesynth."""
    return wavesynth.load("checkpoints/instruments")


@pytest.mark.parametrize("name", WITH_EXAMPLES)
def test_examples_run(
    name: str, example_files: Path, published: wavesynth.Synth, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a folder of their own, with the names `ws`, `np` and `synth`."""
    shutil.copytree(example_files, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    module = importlib.import_module(name)
    given = {"ws": wavesynth, "np": np, "synth": published}
    finder, printed = doctest.DocTestFinder(exclude_empty=True), io.StringIO()
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
    for test in finder.find(module, name, extraglobs=given):
        runner.run(test, out=printed.write)
    assert runner.summarize(verbose=False).failed == 0, printed.getvalue()


def public() -> Iterator[tuple[str, Any]]:
    """Functions and classes of `wavesynth.__all__`, and the public methods of those classes and of `Shards`."""
    from wavesynth.data.shards import Shards

    for name in [name for name in wavesynth.__all__ if not name.startswith("_")]:
        member = getattr(wavesynth, name)
        if inspect.isclass(member) or inspect.isfunction(member):
            yield name, member
    for owner in (wavesynth.Synth, wavesynth.Timbre, Shards):
        for name, member in vars(owner).items():
            if isinstance(member, classmethod | staticmethod):
                member = member.__func__
            if inspect.isfunction(member) and not name.startswith("_"):
                yield f"{owner.__name__}.{name}", member


def sections(docstring: str) -> dict[str, str]:
    """The text under each heading of a docstring in Google's style, by heading; the text before them under ''."""
    parts = re.split(r"^(Args|Attributes|Returns|Yields|Raises):\n", docstring, flags=re.MULTILINE)
    return {"": parts[0], **dict(zip(parts[1::2], parts[2::2], strict=True))}


def what_lacks(member: Any) -> list[str]:
    """What a public name's docstring does not say.

    A summary that begins with an article names the result, and arguments may be those of another function, if it says so.
    """
    docstring = inspect.getdoc(member)
    if not docstring:
        return ["a docstring"]
    found, lacks = sections(docstring), []
    if inspect.isclass(member):
        documents_fields = dataclasses.is_dataclass(member) and "Attributes" in found
        return [] if ">>> " in docstring or documents_fields or issubclass(member, BaseException) else ["an example"]
    body = ast.parse(textwrap.dedent(inspect.getsource(member))).body[0]
    assert isinstance(body, ast.FunctionDef)
    named = found.get("Args", "")
    parameters = [name for name in inspect.signature(member).parameters if name not in ("self", "cls", "other")]
    if (len(parameters) > 1 or named) and "rguments are those of `" not in docstring:
        lacks += [
            f"the argument {name}" for name in parameters if not re.search(rf"^\s+\**{name}:", named, re.MULTILINE)
        ]
    summary_names_result = re.match(r"(The|A|An|Random|Whether) ", docstring)
    returns = inspect.signature(member).return_annotation not in (None, "None")
    if named and returns and not summary_names_result and not {"Returns", "Yields"} & set(found):
        lacks.append("what it returns")
    if any(isinstance(node, ast.Raise) for node in ast.walk(body)) and "Raises" not in found:
        lacks.append("what it raises")
    if ">>> " not in docstring:
        lacks.append("an example")
    return lacks


@pytest.mark.parametrize(("name", "member"), [pytest.param(*each, id=each[0]) for each in public()])
def test_public_names_are_documented(name: str, member: Any) -> None:
    lacks = what_lacks(member)
    assert not lacks, f"the docstring of {name} lacks {', '.join(lacks)}"


def test_an_incomplete_docstring_is_noticed() -> None:
    def whole(first: int, second: int) -> int:
        """Adds.

        Args:
            first: a number.
            second: another.

        Returns:
            Their sum.

        Raises:
            ValueError: first is negative.

        >>> whole(1, 2)
        3
        """
        if first < 0:
            raise ValueError(first)
        return first + second

    assert what_lacks(whole) == []
    docstring = whole.__doc__ or ""
    for gone, missing in (
        ("            second: another.\n", "the argument second"), ("Returns:", "what it returns"),
        ("Raises:", "what it raises"), (">>> ", "an example"),
    ):  # fmt: skip
        whole.__doc__ = docstring.replace(gone, "")
        assert what_lacks(whole) == [missing]


def readme_blocks() -> list[str]:
    return re.findall(
        r"^```python\n(.*?)^```", (ROOT / "README.md").read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL
    )


def keywords(function: Callable) -> set[str] | None:
    """The keywords that a function takes, those of an unpacked TypedDict too; None for any."""
    function = inspect.unwrap(function)
    names: set[str] = set()
    for name, parameter in inspect.signature(function).parameters.items():
        if parameter.kind is not parameter.VAR_KEYWORD:
            names.add(name)
            continue
        hint = typing.get_type_hints(function, include_extras=True).get(name)
        if typing.get_origin(hint) is not typing.Unpack:
            return None
        names |= typing.get_type_hints(typing.get_args(hint)[0]).keys()
    return names


def test_the_readmes_python_fits_the_interface() -> None:
    """Its blocks take files that a user has, so they are not run: every name exists, and takes the keywords it is given."""
    blocks = readme_blocks()
    assert blocks
    owners: dict[str, Any] = {"ws": wavesynth, "synth": wavesynth.Synth, "report": None, "a": wavesynth.Timbre}
    for node in (node for block in blocks for node in ast.walk(ast.parse(block))):
        if not (isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and owners.get(node.value.id)):
            continue
        owner = owners[node.value.id]
        assert hasattr(owner, node.attr), f"{node.value.id}.{node.attr} in the README does not exist"
    for node in (node for block in blocks for node in ast.walk(ast.parse(block)) if isinstance(node, ast.Call)):
        if not (isinstance(node.func, ast.Attribute) and isinstance(node.func.value, ast.Name)):
            continue
        owner = owners.get(node.func.value.id)
        function = getattr(owner, node.func.attr, None)
        if isinstance(function, types.FunctionType | types.MethodType):
            taken = keywords(function)
            given = {keyword.arg for keyword in node.keywords if keyword.arg}
            assert taken is None or given <= taken, f"{node.func.attr} does not take {sorted(given - taken)}"
