"""Paths as users give them, and names that any terminal can show."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wavesynth.audio.files import read
from wavesynth.audio.names import display, user_path
from wavesynth.data.corpus import scan
from wavesynth.data.prepare import prepare
from wavesynth.data.shards import Shards
from wavesynth.errors import UserError


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty home folder and, beside it, the current one."""
    home, here = tmp_path / "home", tmp_path / "here"
    home.mkdir()
    here.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.chdir(here)
    return home


def test_home_folders_are_expanded(home: Path):
    assert user_path("~") == home
    assert user_path("~/x") == user_path(Path("~/x")) == home / "x"
    assert user_path("x/~/y") == Path("x/~/y")
    assert user_path(user_path("./~x")) == Path.cwd() / "~x"
    with pytest.raises(UserError, match=r"~nobody-here/x: this home folder is not known; give .* \./~nobody-here/x"):
        user_path("~nobody-here/x")


@pytest.mark.parametrize("path", ["", "a\0b", 3, None])
def test_what_is_no_path(path: object):
    with pytest.raises(UserError, match="path is"):
        user_path(path)  # pyright: ignore[reportArgumentType]


def test_every_path_that_a_user_gives_is_expanded(home: Path, sounds: Path):
    (home / "sounds").symlink_to(sounds / "kick")
    prepare("~/sounds", "~/shards", progress=False)
    assert len(Shards.open("~/shards")) == len(scan("~/sounds").files)
    assert read(f"~/sounds/{scan('~/sounds').files[0].file}", 16_000).size
    assert list(Path.cwd().iterdir()) == []
    with pytest.raises(UserError, match="no such folder"):
        prepare("~/nowhere", "~/shards", progress=False)


@given(st.text())
def test_anything_can_be_shown(text: str):
    assert display(text).isprintable()
    display(text).encode()


def test_what_reverses_or_controls_is_escaped():
    assert display("a\x1b[31m\u202egnp.wav\x9b") == r"a\x1b[31m\u202egnp.wav\x9b"
