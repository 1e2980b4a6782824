"""A web page with pictures and audio players: one `index.html` beside its files, which works offline."""

from __future__ import annotations

import html
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from urllib.parse import quote

from wavesynth.audio.names import display
from wavesynth.errors import UserError


@dataclass(frozen=True)
class Sound:
    """A player.

    Attributes:
        title: its caption.
        path: the audio file, relative to the page's folder, or absolute and inside it.
        note: a few words in small print.
    """

    title: str
    path: str | os.PathLike[str]
    note: str = ""


@dataclass(frozen=True)
class Picture:
    """A picture over the whole width.

    Attributes:
        path: the picture's file, relative to the page's folder, or absolute and inside it.
        description: alternative text.
        caption: a line below it.
    """

    path: str | os.PathLike[str]
    description: str
    caption: str = ""


@dataclass(frozen=True)
class Section:
    """A heading followed by paragraphs (separated by blank lines), pictures and players, in this order."""

    heading: str
    text: str = ""
    pictures: Sequence[Picture] = ()
    sounds: Sequence[Sound] = ()


def write_page(
    folder: str | os.PathLike[str], title: str, sections: Sequence[Section], *, introduction: str = ""
) -> Path:
    """Writes `folder`/index.html, which depends only on the files of its sections.

    Titles and text are escaped. Links are relative, so the folder can be moved, zipped or served. The page is written
    atomically, and replaces an earlier one.

    Args:
        folder: the folder of the page and all its files; created if it is missing.
        title: the heading of the page.
        sections: from top to bottom.
        introduction: paragraphs under the title.

    Returns:
        The path of the page.

    Raises:
        UserError: a sound or a picture is not a file inside the folder.

    Example::

        write_page("out", "Sampled", [Section("Eight samples", sounds=[Sound("kick", "kick_0.wav")])])
    """
    folder = Path(folder)
    parts = [f"<header><h1>{text_html(display(title))}</h1>{paragraphs_html(introduction)}</header>"]
    parts += [section_html(folder, section) for section in sections]
    page = PAGE.format(title=text_html(display(title)), style=STYLE, body="\n".join(parts))
    folder.mkdir(parents=True, exist_ok=True)
    path, unfinished = folder / "index.html", folder / ".index.html.partial"
    try:
        unfinished.write_text(page, encoding="utf-8", errors="backslashreplace")
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)
    return path


def section_html(folder: Path, section: Section) -> str:
    """One section as HTML."""
    parts = [f"<section><h2>{text_html(display(section.heading))}</h2>", paragraphs_html(section.text)]
    for picture in section.pictures:
        caption = f"<figcaption>{text_html(picture.caption)}</figcaption>" if picture.caption else ""
        address, description = address_of(folder, picture.path), text_html(picture.description)
        parts.append(f'<figure><a href="{address}"><img src="{address}" alt="{description}"></a>{caption}</figure>')
    if section.sounds:
        parts.append('<ul class="sounds">')
        for sound in section.sounds:
            name = text_html(display(sound.title))
            note = f"<small>{text_html(sound.note)}</small>" if sound.note else ""
            player = f'<audio controls preload="metadata" src="{address_of(folder, sound.path)}" aria-label="{name}">'
            parts.append(f"<li><span>{name}</span>{note}{player}</audio></li>")
        parts.append("</ul>")
    parts.append("</section>")
    return "\n".join(part for part in parts if part)


def text_html(text: str) -> str:
    """Text that is safe between tags and inside quoted attributes."""
    return html.escape(text, quote=True)


def paragraphs_html(text: str) -> str:
    """Text as paragraphs, divided at blank lines."""
    return "".join(f"<p>{text_html(paragraph.strip())}</p>" for paragraph in text.split("\n\n") if paragraph.strip())


def address_of(folder: Path, path: str | os.PathLike[str]) -> str:
    """The relative address of a file in the page's folder, quoted for a URL, whatever bytes are in its name.

    Raises:
        UserError: it does not exist, or lies elsewhere.
    """
    absolute = Path(os.path.abspath(folder / path))
    base = Path(os.path.abspath(folder))
    if not absolute.is_file() or not absolute.is_relative_to(base):
        raise UserError(
            f"path: {display(path)} is not a file in {display(folder)}; put it there before writing the page"
        )
    relative: PurePath = absolute.relative_to(base)
    # The leading "./" keeps a colon in a name from reading as a scheme.
    return "./" + quote(os.fsencode(relative.as_posix()))


PAGE = """\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
{style}</style>
</head>
<body>
<main>
{body}
</main>
</body>
</html>
"""

STYLE = """\
:root {
  color-scheme: light dark;
  --ground: #f6f6f8; --card: #ffffff; --ink: #1b1c22; --quiet: #62646f; --line: #e2e3e9; --accent: #b5367a;
}
@media (prefers-color-scheme: dark) {
  :root {
    --ground: #131318; --card: #1d1e25; --ink: #ececf1; --quiet: #a0a2ae; --line: #30313b; --accent: #fb8861;
  }
}
* { box-sizing: border-box; }
body {
  margin: 0; background: var(--ground); color: var(--ink);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", sans-serif;
}
main { max-width: 72rem; margin: 0 auto; padding: 3rem 1.25rem 5rem; }
h1 { margin: 0; font-size: clamp(1.9rem, 5vw, 2.8rem); line-height: 1.15; letter-spacing: -0.02em; }
h1::after {
  content: ""; display: block; width: 3.5rem; height: 4px; margin-top: 1rem; border-radius: 2px;
  background: var(--accent);
}
h2 { margin: 0; font-size: 1.3rem; letter-spacing: -0.01em; }
p { max-width: 46rem; margin: 0.6rem 0 0; color: var(--quiet); }
header p { margin-top: 1rem; font-size: 1.08rem; }
section { margin-top: 3rem; }
h1, h2, p, li, figcaption { overflow-wrap: anywhere; }
figure {
  margin: 1.25rem 0 0; padding: 0.75rem;
  background: #ffffff; border: 1px solid var(--line); border-radius: 12px;
}
img { display: block; width: 100%; height: auto; border-radius: 6px; }
figcaption { padding: 0.6rem 0.25rem 0; font-size: 0.88rem; color: #62646f; }
.sounds {
  display: grid; grid-template-columns: repeat(auto-fill, minmax(min(17rem, 100%), 1fr)); gap: 0.9rem;
  margin: 1.25rem 0 0; padding: 0; list-style: none;
}
.sounds li {
  display: flex; flex-direction: column; gap: 0.15rem; padding: 0.9rem 1rem 1rem;
  background: var(--card); border: 1px solid var(--line); border-radius: 12px;
}
.sounds span { font-weight: 600; }
.sounds small { color: var(--quiet); font-size: 0.85rem; }
audio { width: 100%; height: 2.5rem; margin-top: auto; padding-top: 0.4rem; }
"""
