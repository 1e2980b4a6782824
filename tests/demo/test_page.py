"""The page, read back by a parser: every file is found by its address, and no title turns into markup."""

import os
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote_to_bytes, urlsplit

import pytest

from wavesynth.demo.page import Picture, Section, Sound, write_page
from wavesynth.errors import UserError

VOID = {"meta", "img", "br", "link"}
HOSTILE = [
    "plain.wav",
    "two words.wav",
    "quote\"and'.wav",
    "<script>alert(1)<script>.wav",
    "50% #1 ?x=&y.wav",
    "http:example.wav",
    "été 調.wav",
    "new\nline.wav",
    os.fsdecode(b"latin1_\xe9.wav"),
]


class Page(HTMLParser):
    """Collects tags, addresses and text, and checks that every tag is closed."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.open: list[str] = []
        self.feed(page)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] != "style":
            self.text.append(data)

    def addresses(self) -> list[str]:
        return [value for _, attributes in self.tags for key in ("src", "href") if (value := attributes.get(key))]


def read(path: Path) -> Page:
    return Page(path.read_text(encoding="utf-8"))


def test_hostile_names_are_found_and_shown(tmp_path: Path) -> None:
    for name in HOSTILE:
        (tmp_path / name).touch()
    path = write_page(tmp_path, "Names", [Section("All", sounds=[Sound(name, name) for name in HOSTILE])])
    page = read(path)
    assert path == tmp_path / "index.html"
    found = [unquote_to_bytes(urlsplit(address).path) for address in page.addresses()]
    assert [os.path.normpath(name) for name in found] == [os.fsencode(name) for name in HOSTILE]
    assert all(urlsplit(address).scheme == urlsplit(address).netloc == "" for address in page.addresses())
    assert not [tag for tag, _ in page.tags if tag == "script"]
    for shown in ("<script>alert(1)<script>.wav", "été 調.wav", "new\\nline.wav", "latin1_\\xe9.wav"):
        assert shown in page.text


def test_markup_in_any_text_stays_text(tmp_path: Path) -> None:
    (tmp_path / "a.wav").touch()
    (tmp_path / "a.png").touch()
    markup = "<b onclick='x'>\"&amp;{title}</b>"
    section = Section(
        markup,
        text=f"{markup}\n\nsecond",
        pictures=[Picture("a.png", description=markup, caption=markup)],
        sounds=[Sound(markup, "a.wav", note=markup)],
    )
    page = read(write_page(tmp_path, markup, [section], introduction=markup))
    assert "b" not in [tag for tag, _ in page.tags]
    assert page.text.count(markup) == 8
    assert [attributes["alt"] for tag, attributes in page.tags if tag == "img"] == [markup]
    assert "second" in page.text


def test_it_needs_no_network_and_no_script(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "a.wav").touch()
    page = read(write_page(tmp_path, "t", [Section("s", sounds=[Sound("a", tmp_path / "sub" / "a.wav")])]))
    assert page.addresses() == ["./sub/a.wav"]
    text = (tmp_path / "index.html").read_text()
    assert "http" not in text
    assert "prefers-color-scheme: dark" in text


def test_the_folder_is_made_and_an_old_page_replaced(tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "er"
    write_page(folder, "first", [])
    write_page(folder, "second", [])
    assert "second" in read(folder / "index.html").text
    assert [file.name for file in folder.iterdir()] == ["index.html"]


def test_a_relative_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("out").mkdir()
    Path("out", "a.wav").touch()
    assert read(write_page("out", "t", [Section("s", sounds=[Sound("a", "a.wav")])])).addresses() == ["./a.wav"]


@pytest.mark.parametrize("path", ["missing.wav", "../outside.wav", "."])
def test_a_file_that_a_moved_folder_would_lose_is_refused(tmp_path: Path, path: str) -> None:
    (tmp_path / "outside.wav").touch()
    folder = tmp_path / "page"
    folder.mkdir()
    with pytest.raises(UserError, match=r"^path: "):
        write_page(folder, "t", [Section("s", sounds=[Sound("a", path)])])
    assert not list(folder.iterdir())
