"""Rules of the repository: which way imports point, what is imported where, which words are used, what gets installed."""

import ast
import importlib.util
import os
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

import wavesynth

ROOT = Path(__file__).resolve().parent.parent

# From the sounds to the user. A module imports from its own row and the rows above it, never from a row below.
LAYERS = (
    {"errors", "progress", "storage"},
    {"fields"},
    {"config"},
    {"conditions"},
    {"audio", "strict_json", "strict_tensors"},
    {"data"},
    {"models"},
    {"kernels"},
    {"training", "sampling", "timbre", "evaluation"},
    {"families"},
    {"options"},
    {"rendering", "writing"},
    {"synth"},
    {"song"},
    {"runs", "previews", "exports", "rehearsal", "bases"},
    {"api", "judging"},
    {"__init__"},
    {"demo"},
    {"commands"},
    {"__main__"},
)
# Slow to import, or not always installed: imported in the function that uses them.
IMPORTED_WHERE_USED = {
    "soundfile", "soxr", "tyro", "matplotlib", "tensorboardX", "torch", "grain", "av", "swift_f0", "mido",
}  # fmt: skip
# Words of this project's own that once stood for what the field has words for, or that read like a translation.
PRIVATE_WORDS = re.compile(
    r"\b(?:wishes|[Tt]old|crowds?|[Mm]emorising|by heart|slopes|why_not|as_loud|usual_pitch|of one chance|mend(?:s|ed|ing)?|"
    r"hears|heard)\b"
)
PRIVATE_NAMES = {"listen", "guess", "_surprise"}
MACHINE_PATH = re.compile(r"(?<![\w.:$}])/(?:work|home|root|Users|opt|tmp/w)/\w")


@cache
def modules() -> dict[str, Path]:
    """Dotted name to file of every module of the package. The kernels lie behind a link."""
    files = {}
    for folder, prefix in ((ROOT / "wavesynth", "wavesynth"), (ROOT / "kernels", "wavesynth.kernels")):
        for path in sorted(folder.rglob("*.py")):
            name = ".".join((prefix, *path.relative_to(folder).with_suffix("").parts))
            files[name.removesuffix(".__init__")] = path
    return files


def imports(tree: ast.AST, module: str, *, top_level: bool = False) -> Iterator[str]:
    """Dotted names of what a module imports outside `if TYPE_CHECKING`; with `top_level`, outside functions too."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            package = module.split(".")
            if modules()[module].name != "__init__.py":
                package = package[:-1]
            base = ".".join(package[: len(package) - node.level + 1]) if node.level else ""
            base = ".".join(part for part in (base, node.module) if part)
            yield from (f"{base}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        elif not (top_level and isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)):
            yield from imports(node, module, top_level=top_level)


def parsed(module: str) -> ast.Module:
    return ast.parse(modules()[module].read_text(encoding="utf-8"))


def layer_of(dotted: str) -> int:
    """The row of a name inside the package. Names that are no modules come from `wavesynth/__init__.py`."""
    parts = dotted.split(".")
    part = parts[1] if len(parts) > 1 else "__init__"
    rows = [row for row, layer in enumerate(LAYERS) if part in layer]
    if rows:
        return rows[0]
    assert f"wavesynth.{part}" not in modules(), f"wavesynth/{part} stands in no row of LAYERS"
    return layer_of("wavesynth.__init__")


EACH_MODULE = pytest.mark.parametrize("module", modules())


@EACH_MODULE
def test_imports_point_one_way(module: str) -> None:
    for name in imports(parsed(module), module):
        if name.split(".")[0] == "wavesynth":
            assert layer_of(name) <= layer_of(module), f"{module} imports {name}"


@EACH_MODULE
def test_kernels_are_imported_by_their_full_name(module: str) -> None:
    assert "kernels" not in {name.split(".")[0] for name in imports(parsed(module), module)}


@EACH_MODULE
def test_flax_stays_in_its_rooms(module: str) -> None:
    if not module.startswith("wavesynth.models") and module != "wavesynth.training.state":
        assert "flax" not in {name.split(".")[0] for name in imports(parsed(module), module)}


@EACH_MODULE
def test_heavy_packages_are_imported_where_they_are_used(module: str) -> None:
    at_import = {name.split(".")[0] for name in imports(parsed(module), module, top_level=True)}
    assert not at_import & IMPORTED_WHERE_USED


def test_the_import_reader_sees_what_it_should() -> None:
    module = "wavesynth.audio"
    code = """
import soxr, jax.numpy as jnp
from . import mulaw
from ..errors import UserError
from wavesynth import Synth
if TYPE_CHECKING:
    import torch
try:
    import av
except ImportError: ...
class A:
    import grain
    def f(self):
        import tyro
"""
    top = ["soxr", "jax.numpy", "wavesynth.audio.mulaw", "wavesynth.errors.UserError", "wavesynth.Synth", "av", "grain"]
    assert list(imports(ast.parse(code), module, top_level=True)) == top
    assert list(imports(ast.parse(code), module)) == [*top, "tyro"]
    assert layer_of("wavesynth.audio.mulaw") < layer_of("wavesynth.models.wavenet") < layer_of("wavesynth.Synth")


def texts() -> Iterator[Path]:
    """The files that people read, without what a build or a run leaves behind."""
    for folder in ("wavesynth", "kernels", "tests", "bench", "checkpoints", ".ci"):
        yield from (path for path in (ROOT / folder).rglob("*") if path.suffix in {".py", ".md", ".toml", ""})
    yield from (path for path in ROOT.glob("*") if path.suffix in {".py", ".md", ".toml", ".yaml"})


def test_no_file_names_a_machine() -> None:
    named = {
        str(path.relative_to(ROOT)): found.group()
        for path in texts()
        if path.is_file() and (found := MACHINE_PATH.search(path.read_text(encoding="utf-8", errors="replace")))
    }
    assert not named


def test_words_are_those_of_the_field() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{number}: {word.group()}"
        for path in texts()
        if path.is_file() and path != Path(__file__)
        for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), 1)
        for word in PRIVATE_WORDS.finditer(line)
    ]
    assert not found, "\n".join(found)


@EACH_MODULE
def test_names_are_those_of_the_field(module: str) -> None:
    names = {
        getattr(node, "name", getattr(node, "id", getattr(node, "attr", None))) for node in ast.walk(parsed(module))
    }
    assert not names & PRIVATE_NAMES


def test_no_file_is_called_utils() -> None:
    assert not [path for path in texts() if path.name in {"utils.py", "util.py", "helpers.py"}]


@pytest.mark.parametrize("name", ["kernels", "checkpoints"])
def test_links_are_relative(name: str) -> None:
    assert os.readlink(ROOT / "wavesynth" / name) == os.path.join("..", name)


def test_what_is_tested_is_whole() -> None:
    """The package that the tests import has every source file, byte for byte."""
    package = Path(wavesynth.__file__).parent
    for name, path in modules().items():
        folder = package.joinpath(*name.split(".")[1:])
        tested = folder / "__init__.py" if path.name == "__init__.py" else folder.with_suffix(".py")
        assert tested.is_file(), f"{package} lacks {name}"
        assert tested.read_bytes() == path.read_bytes(), f"{tested} is an old copy of {path}: install again"
    assert (package / "py.typed").is_file()
    if package.parent != ROOT:
        assert importlib.util.find_spec("kernels") is None


def test_the_readme_has_its_two_commands() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for command in (
        "python3 -m venv .venv && .venv/bin/pip install '.[viz]' && .venv/bin/wavesynth demo",
        "python3 -m venv .venv-test && .venv-test/bin/pip install '.[test]' && .venv-test/bin/python -m pytest",
    ):
        assert command in readme.splitlines()
