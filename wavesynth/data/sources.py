"""Detects whether a folder of sounds has changed since it was prepared.

The content decides. `sources.json` in a shards folder stores size, modification time and SHA-256 of each file, so that only
files with another size or time are read again.
"""

import hashlib
import json
from collections.abc import Iterable, Sequence
from pathlib import Path

from wavesynth import strict_json
from wavesynth.data.corpus import Corpus, SourceFile

SOURCES = "sources.json"

Seen = dict[str, tuple[int, int, str]]
"""Size in bytes, time of the last change in nanoseconds since 1970 and SHA-256, by file."""


def digest_of(path: Path) -> str:
    """SHA-256 of a file's content; "" if it cannot be read."""
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return ""


def digests(root: Path, files: Iterable[SourceFile], seen: Seen) -> list[str]:
    """SHA-256 of each file. Files with unchanged size and time are not read."""
    found = []
    for source in files:
        size, mtime_ns, digest = seen.get(source.file, (-1, -1, ""))
        same = digest and (size, mtime_ns) == (source.size, source.mtime_ns)
        found.append(digest if same else digest_of(root / source.file))
    return found


def fingerprint(corpus: Corpus, digests: Sequence[str]) -> str:
    """SHA-256 of everything that the shards depend on: names, content, labels, pitches and splits.

    Args:
        corpus: the folder.
        digests: SHA-256 of the content of each of its files.
    """
    content = [(s.file, digest, s.label, s.pitch, s.splits) for s, digest in zip(corpus.files, digests)]
    return hashlib.sha256(ascii([content, corpus.refused]).encode()).hexdigest()


def to_json(seen: Seen) -> str:
    """The content of sources.json, one file per line."""
    return "{\n" + ",\n".join(f"{json.dumps(file)}: {json.dumps(what)}" for file, what in seen.items()) + "\n}\n"


def read_seen(path: Path) -> Seen:
    """Reads sources.json; empty if it is missing or damaged, so that every file is read again."""
    try:
        record = strict_json.parse(path.read_bytes())
        return {file: (int(size), int(mtime_ns), str(digest)) for file, (size, mtime_ns, digest) in record.items()}
    except (OSError, ValueError, TypeError):
        return {}
