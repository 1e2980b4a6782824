"""A manifest from anyone: it is whole and possible, or it is one clear line."""

import copy
import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wavesynth.data.manifest import ClipRecord, Manifest
from wavesynth.data.shards import Shards
from wavesynth.errors import UserError

from .test_shards import write_shards

BAD = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(),
    st.text(max_size=5),
    st.just([]),
    st.just({}),
    st.lists(st.integers(-9, 9), max_size=3),
    st.just([[0, 9], [5, 7]]),
    st.just(["../../etc/passwd"]),
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rng = np.random.default_rng(0)
    clips = [rng.integers(-999, 999, (2, size)).astype(np.int16) for size in (40, 7, 300)]
    return write_shards(tmp_path_factory.mktemp("manifest") / "shards", clips, shard_bytes=400)


def signed(record: dict[str, Any]) -> bytes:
    """A manifest with the checksum that belongs to it."""
    body = json.dumps({name: value for name, value in record.items() if name != "sha256"})[1:].encode()
    return b'{"sha256": "%s",\n' % hashlib.sha256(body).hexdigest().encode() + body


def places(record: Any) -> list[tuple[Any, Any]]:
    """Every value in nested JSON, as its container and its key."""
    pairs = list(record.items() if isinstance(record, dict) else enumerate(record))
    below = [place for _, value in pairs if isinstance(value, dict | list) for place in places(value)]
    return [(record, key) for key, _ in pairs] + below


@settings(max_examples=120)
@given(data=st.data())
def test_a_corrupted_manifest_is_one_line_or_harmless(folder: Path, data: st.DataObject):
    path = folder / "manifest.json"
    whole = path.read_bytes()
    record = copy.deepcopy(json.loads(whole))
    for _ in range(data.draw(st.integers(1, 2))):
        container, key = data.draw(st.sampled_from(places(record)))
        if data.draw(st.booleans()):
            container[key] = data.draw(BAD)
        elif isinstance(container, dict):
            del container[key]
            if not record:
                break
    path.write_bytes(signed(record))
    said = ""
    try:
        shards = Shards.open(folder)
        assert [shards[i]["samples"].shape for i in range(len(shards))] == [
            (shards.channels, clip.length) for clip in shards.clips
        ]
        assert isinstance(repr(shards) + shards.fingerprint, str)
        assert all(0 <= begin < end <= clip.length for clip in shards.clips for begin, end in clip.sounding)
    except UserError as error:
        said = str(error)
    finally:
        path.write_bytes(whole)
    assert "\n" not in said
    assert len(said) < 600


@pytest.mark.parametrize(
    ("where", "value"),
    [
        ("sample_rate", 0),
        ("sample_rate", 16_000.0),
        ("sample_rate", True),
        ("channels", 0),
        ("channels", 9),
        ("labels", ["kick", "kick"]),
        ("labels", [3]),
        ("settings", []),
        ("shards/0/file", "../manifest.json"),
        ("shards/0/bytes", -1),
        ("clips/0/file", 3),
        ("clips/1/label", "snare"),
        ("clips/1/pitch", 128),
        ("clips/0/split", "validation"),
        ("clips/0/shard", -1),
        ("clips/0/shard", 7),
        ("clips/0/offset", -1),
        ("clips/0/length", 0),
        ("clips/0/length", 10**12),
        ("clips/0/sha256", "0"),
        ("clips/0/bandwidth", 0),
        ("clips/0/bandwidth", "4000"),
        ("clips/0/sound", [[5, 3]]),
        ("clips/0/sound", [[0, 41]]),
        ("clips/0/sound", [[0, 20], [10, 40]]),
    ],
)
def test_each_impossible_value_is_named(folder: Path, where: str, value: object):
    record = json.loads((folder / "manifest.json").read_bytes())
    *parts, name = where.split("/")
    container = record
    for part in parts:
        container = container[int(part) if part.isdigit() else part]
    container[name] = value
    with pytest.raises(ValueError, match=f"has an impossible {name}"):
        Manifest.from_bytes(signed(record))


def test_records_made_in_code_are_checked_too():
    with pytest.raises(ValueError, match="has an impossible pitch: 200"):
        ClipRecord("x.wav", None, 200.0, "train", 0, 0, 1, "0" * 64)
