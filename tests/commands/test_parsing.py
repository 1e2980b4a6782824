"""Flags are what functions say: their parameters, types, defaults and docstrings, with nothing written twice."""

import re
from collections.abc import Callable, Sequence
from os import PathLike
from pathlib import Path
from typing import Any, Literal, TypedDict, Unpack, overload

import numpy as np
import pytest

from wavesynth import Synth, Timbre, UserError
from wavesynth.commands import parsing
from wavesynth.commands.parameters import REQUIRED, UNSET, parameters_of
from wavesynth.commands.parsing import Flags, flag_type, parse, peek


class Basic(TypedDict, total=False):
    """Options.

    Attributes:
        seed: The same seed gives
            the same sounds.
    """

    seed: int


class Options(Basic, total=False):
    """More options.

    Attributes:
        prime: A sound to continue.
        timbre: What to sound like.
    """

    prime: np.ndarray | str | PathLike[str] | None
    timbre: Timbre | Sequence[Timbre] | None


def generate(
    source: str | PathLike[str], n: int = 3, seconds: float | None = None, *, fill: Literal["hold", "loop"] = "hold",
    normalize: bool = True, force: bool = False, progress: bool = False, **options: Unpack[Options],
) -> dict[str, Any]:  # fmt: skip
    """Generates.

    Args:
        source: Where from.
        n: How many.
        seconds: The length of each; None for the model's own.
        fill: How to fill.
        normalize: Whether to normalize.
        force: Overwrite.
        progress: Show a bar.
        **options: see `Options`.

    Returns:
        args: not an argument.
    """
    return locals()


def save(out: Path, *, force: bool = False, samples: np.ndarray | None = None) -> dict[str, Any]:
    """Saves.

    Args:
        out: Where to.
        force: Not shown, since `generate` comes first.
    """
    return locals()


def command() -> None:
    """FROM OUT: do it all; --n 3.

    A second paragraph.
    """


def read(*arguments: object, functions: Sequence[Callable] = (generate, save), **how: Any) -> Flags:
    how = {"positional": {"source": "FROM", "out": "OUT"}, "without": ("samples",)} | how
    return parse(command, list(map(str, arguments)), *functions, **how)


def test_parameters_and_their_documentation():
    found = parameters_of(generate)
    assert list(found) == [
        "source",
        "n",
        "seconds",
        "fill",
        "normalize",
        "force",
        "progress",
        "seed",
        "prime",
        "timbre",
    ]
    assert found["source"].default is REQUIRED
    assert found["n"].default == 3
    assert found["seconds"].help == "The length of each; None for the model's own."
    assert found["seed"].default is UNSET
    assert found["seed"].help == "The same seed gives the same sounds."  # of the TypedDict that Options extends
    assert found["prime"].help == "A sound to continue."


def test_the_plainest_overload_counts():
    class Some:
        """Some."""

        @overload
        def encode(self, sound: list[str]) -> list[str]: ...
        @overload
        def encode(self, sound: str | PathLike[str]) -> str: ...
        def encode(self, sound: Any) -> Any:
            """Encodes.

            Args:
                sound: The sound.
            """

    assert flag_type(parameters_of(Some.encode)["sound"].annotation) is Path


@pytest.mark.parametrize(
    ("annotation", "kind"),
    [
        (int | None, int | None),
        (str | PathLike[str], Path),
        (np.ndarray | str | PathLike[str], Path),
        (Timbre | np.ndarray | str | PathLike[str], str),  # a label or a file
        (Sequence[Timbre | np.ndarray | str | PathLike[str]], tuple[str, ...]),
        (Timbre | Sequence[Timbre] | None, Path | None),
        (Synth, Path),
        (float | Sequence[float] | np.ndarray | None, float | None),
        (Sequence[int] | None, tuple[int, ...] | None),
        (np.ndarray, None),
        (Any, None),
    ],
    ids=str,
)
def test_the_type_of_a_flag(annotation: Any, kind: Any):
    assert flag_type(annotation) == kind


def test_what_is_not_given_is_left_to_the_functions():
    flags = read("a", "b")
    assert flags.call(generate) == dict(
        source=Path("a"), n=3, seconds=None, fill="hold", normalize=True, force=False, progress=True, options={}
    )
    assert flags.call(save, samples=None) == dict(out=Path("b"), force=False, samples=None)


def test_what_is_given_is_passed_on():
    given = ["--n=2", "--seconds", 0.5, "--fill", "loop", "--no-normalize", "--force", "--quiet", "--seed", 7]
    flags = read("a", "b", *given, "--prime", "x.wav")
    assert flags.call(generate, n=9) == dict(
        source=Path("a"), n=9, seconds=0.5, fill="loop", normalize=False, force=True, progress=False,
        options={"seed": 7, "prime": Path("x.wav")},
    )  # fmt: skip
    assert flags.call(save)["force"] is True
    assert flags["n"] == 2


def test_a_leading_tilde_is_the_home_folder(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HOME", "/users/me")
    flags = read("~/a", "~/b", "--prime=~/x.wav")
    assert flags["source"] == Path("/users/me/a")
    assert flags["prime"] == Path("/users/me/x.wav")
    with pytest.raises(UserError, match=r"^~nobody-here/a: this home folder is not known; give the whole path"):
        read("~nobody-here/a", "b")

    assert parsing._expanded("~name") == "~name"  # a label
    assert parsing._expanded("~/name") == "/users/me/name"


def test_a_timbre_is_given_as_a_file(tmp_path: Path):
    Timbre(np.ones(2, np.float32), "mine").save(tmp_path / "a.json")
    flags = read("a", "b", "--timbre", tmp_path / "a.json")
    assert flags["timbre"] == tmp_path / "a.json"
    assert flags.call(generate)["options"]["timbre"].synth == "mine"


def test_flags_can_have_other_names_and_defaults():
    flags = read("a", "b", renamed={"n": "count"}, defaults={"count": 5})
    assert flags["count"] == 5
    assert flags.call(generate)["n"] == 5


def test_help(capsys: pytest.CaptureFixture):
    with pytest.raises(SystemExit) as stop:
        read("--help")
    assert stop.value.code == 0
    text = re.sub(r"[│╭╮╰╯─\s]+", " ", capsys.readouterr().out)
    for line in (
        "usage: wavesynth command [-h] [OPTIONS] FROM OUT Do it all; --n 3. A second paragraph.",
        "FROM Where from. (required)",
        "--n INT How many. (default: 3)",
        "--seconds FLOAT The length of each; None for the model's own. --fill",
        "--fill {hold,loop} How to fill. (default: hold)",
        "--normalize, --no-normalize Whether to normalize. (default: True)",
        "--force Overwrite. (default: False)",
        "--seed INT The same seed gives the same sounds. --prime PATH A sound to continue.",
        "--timbre PATH What to sound like. --quiet Do not show progress.",
    ):
        assert line in text
    assert "progress " not in text.replace("show progress", "")


def test_a_parameter_that_no_flag_can_give_is_our_mistake():
    with pytest.raises(TypeError, match="samples has the type"):
        read("a", "b", without=())


@pytest.mark.parametrize("arguments", [["--preset", "x"], ["a", "--preset=x", "b"]])
def test_peek(arguments: list[str]):
    assert peek("--preset", arguments) == "x"
    assert peek("--other", arguments) is None
