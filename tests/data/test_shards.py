"""Shards: what is written is what is read, views cost nothing, and damage is named."""

import hashlib
import json
import pickle
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wavesynth.data.prepare import prepare
from wavesynth.data.shards import ClipRecord, Manifest, Shards, ShardWriter, shard_name
from wavesynth.data.splits import SPLITS, assign
from wavesynth.errors import UserError

from . import nasty


def write_shards(folder: Path, clips: list[np.ndarray], shard_bytes: int = 2**28) -> Path:
    """A shards folder of int16 clips, without `prepare`."""
    folder.mkdir()
    writer = ShardWriter(folder, shard_bytes=shard_bytes)
    records = []
    for i, clip in enumerate(clips):
        content = clip.astype("<i2").tobytes()
        spool = folder / "spool"
        spool.write_bytes(content)
        with spool.open("rb") as file:
            shard, offset = writer.append(file, len(clip))
        spool.unlink()
        digest = hashlib.sha256(content).hexdigest()
        label, pitch = [(None, None), ("kick", 36.5)][i % 2]
        records.append(ClipRecord(f"{i}\udce9.wav", label, pitch, SPLITS[i % 3], shard, offset, len(clip), digest))
    manifest = Manifest(8_000, ("kick",), {"sample_rate": 8_000}, "source", writer.files, tuple(records))
    (folder / "manifest.json").write_bytes(manifest.to_bytes())
    return folder


@pytest.fixture
def clips() -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.integers(-32768, 32768, size).astype(np.int16) for size in (100, 1, 5_000, 700, 30, 999)]


@pytest.mark.parametrize("shard_bytes", [2**28, 3_000, 1])
def test_every_clip_comes_back_and_lies_in_one_file(tmp_path: Path, clips: list[np.ndarray], shard_bytes: int):
    shards = Shards.open(write_shards(tmp_path / "shards", clips, shard_bytes), verify=True)
    assert len(shards) == len(clips)
    for i, clip in enumerate(clips):
        np.testing.assert_array_equal(shards.samples(i), clip)
        item = shards[i]
        assert item["samples"].dtype == np.float32
        np.testing.assert_array_equal(item["samples"], clip / 32768)
        assert (item["sample_rate"], item["label"], item["split"]) == (8_000, [None, "kick"][i % 2], SPLITS[i % 3])
    for file in shards.manifest.shards:
        held = [clip for clip in shards.clips if shard_name(clip.shard) == file.file]
        assert file.bytes == 2 * sum(clip.length for clip in held)
        assert file.bytes <= max(shard_bytes, 2 * max(clip.length for clip in held))
    assert len(shards.manifest.shards) == {2**28: 1, 3_000: 4, 1: 6}[shard_bytes]
    assert shards.seconds == sum(map(len, clips)) / 8_000
    assert [shards.split(name) for name in SPLITS] == [(0, 3), (1, 4), (2, 5)]


def test_samples_are_a_read_only_view(tmp_path: Path, clips: list[np.ndarray]):
    shards = Shards.open(write_shards(tmp_path / "shards", clips))
    first, second = shards.samples(2), shards.samples(2)
    assert np.shares_memory(first, second)
    assert first.dtype == np.dtype("<i2")
    with pytest.raises(ValueError, match="read-only"):
        first[0] = 1


def test_pickled_shards_carry_no_samples(tmp_path: Path, clips: list[np.ndarray]):
    shards = Shards.open(write_shards(tmp_path / "shards", [*clips, np.ones(10**6, np.int16)]))
    shards.samples(6)
    content = pickle.dumps(shards)
    assert len(content) < 10_000
    np.testing.assert_array_equal(pickle.loads(content).samples(2), clips[2])


def test_the_fingerprint_follows_content_and_not_layout(tmp_path: Path, clips: list[np.ndarray]):
    def fingerprint(name: str, *how) -> str:
        return Shards.open(write_shards(tmp_path / name, *how)).fingerprint

    assert fingerprint("a", clips) == fingerprint("b", clips, 1)
    assert len({fingerprint("c", clips), fingerprint("d", clips[:-1]), fingerprint("e", clips[::-1])}) == 3


def test_the_manifest_is_json_that_can_be_read_by_anyone(tmp_path: Path, clips: list[np.ndarray]):
    path = write_shards(tmp_path / "shards", clips) / "manifest.json"
    content = path.read_bytes()
    assert content.isascii()
    record = json.loads(content)
    assert record["clips"][1]["pitch"] == 36.5
    assert Manifest.from_bytes(content).to_bytes() == content


class TestDamage:
    @pytest.fixture
    def folder(self, tmp_path: Path, clips: list[np.ndarray]) -> Path:
        return write_shards(tmp_path / "shards", clips, shard_bytes=3_000)

    def refusal(self, folder: Path, verify: bool = False) -> str:
        with pytest.raises(UserError) as caught:
            Shards.open(folder, verify=verify)
        assert "wavesynth prepare FOLDER" in str(caught.value)
        assert "\n" not in str(caught.value)
        return str(caught.value)

    @given(at=st.integers(0, 2 * 6_830 - 1), bit=st.integers(0, 7))
    def test_any_flipped_bit_of_the_sound_is_found(self, tmp_path_factory: pytest.TempPathFactory, at: int, bit: int):
        rng = np.random.default_rng(0)
        sound = [rng.integers(-32768, 32768, size).astype(np.int16) for size in (830, 6_000)]
        folder = write_shards(tmp_path_factory.mktemp("flip") / "shards", sound, shard_bytes=2_000)
        names = [(folder / shard_name(i), size) for i, size in ((0, 1_660), (1, 12_000))]
        path, at = (names[0][0], at) if at < 1_660 else (names[1][0], at - 1_660)
        content = bytearray(path.read_bytes())
        content[at] ^= 1 << bit
        path.write_bytes(content)
        assert f"{path.name} was changed" in self.refusal(folder, verify=True)
        Shards.open(folder)

    def test_any_changed_byte_of_the_manifest_is_found(self, folder: Path):
        path = folder / "manifest.json"
        content = path.read_bytes()
        for at in range(0, len(content), 7):
            path.write_bytes(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])
            assert "manifest.json" in self.refusal(folder)

    def test_missing_file(self, folder: Path):
        (folder / shard_name(1)).unlink()
        assert "shard-00001.pcm is missing" in self.refusal(folder)

    @pytest.mark.parametrize("change", [-1, 1])
    def test_other_size(self, folder: Path, change: int):
        path = folder / shard_name(0)
        path.write_bytes(path.read_bytes()[:change] if change < 0 else path.read_bytes() + b"x")
        assert "shard-00000.pcm has" in self.refusal(folder)

    def test_no_shards(self, tmp_path: Path):
        assert "no shards in" in self.refusal(tmp_path / "nowhere")
        (tmp_path / "nowhere.partial").mkdir()
        assert "did not finish" in self.refusal(tmp_path / "nowhere")

    @pytest.mark.parametrize(
        ("content", "says"),
        [
            (b"", "not JSON"),
            (b"\xff\xfe", "not JSON"),
            (b"[]", "not a manifest"),
            (b'{"format": "wavesynth-shards", "version": 2}', "version 2"),
        ],
    )
    def test_other_manifests(self, folder: Path, content: bytes, says: str):
        (folder / "manifest.json").write_bytes(content)
        assert says in self.refusal(folder)

    def test_unknown_split(self, folder: Path):
        with pytest.raises(UserError, match="choose one of train, valid, test"):
            Shards.open(folder).split("validation")


HASHES = st.lists(st.binary(min_size=32, max_size=32).map(bytes.hex), min_size=1, max_size=30, unique=True)
SHARES = st.tuples(st.floats(0, 0.49), st.floats(0, 0.49))


class TestSplits:
    @given(hashes=HASHES, shares=SHARES)
    def test_train_is_never_empty_and_valid_only_where_it_must(self, hashes: list[str], shares: tuple[float, float]):
        valid, test = shares
        splits, _ = assign(hashes, [None] * len(hashes), valid, test)
        assert "train" in splits
        assert ("valid" in splits) == (valid > 0 and len(hashes) > 1)

    def test_shares_are_kept_and_new_clips_move_no_old_ones(self):
        hashes = [hashlib.sha256(bytes([i % 256, i // 256])).hexdigest() for i in range(4_000)]
        splits, remarks = assign(hashes, [None] * 4_000, valid=0.1, test=0.2)
        assert remarks == []
        shares = [splits.count(name) / 4_000 for name in SPLITS]
        assert shares == pytest.approx([0.7, 0.1, 0.2], abs=0.02)
        assert assign(hashes[:1_000], [None] * 1_000, valid=0.1, test=0.2)[0] == splits[:1_000]

    def test_the_nearest_moves(self):
        hashes = ["f0" * 32, "80" * 32, "90" * 32]
        assert assign(hashes, [None] * 3, valid=0.1, test=0.1)[0] == ["train", "valid", "train"]
        assert assign(["00" * 32, "10" * 32], [None] * 2, valid=0.1, test=0.5)[0] == ["valid", "train"]

    def test_metadata_wins(self):
        hashes = ["f0" * 32, "80" * 32, "90" * 32]
        assert assign(hashes, ["test", "test", None], valid=0.1, test=0.1)[0] == ["test", "test", "train"]
        with pytest.raises(UserError, match="no clip to train"):
            assign(hashes, ["test", "test", "valid"], valid=0.1, test=0.1)


def test_a_single_sound_gives_its_last_tenth_for_validation(tmp_path: Path):
    nasty.build(tmp_path / "sounds", (nasty.Case("1.wav", "taken", nasty.NAMES[0].write),))
    report = prepare(tmp_path / "sounds", tmp_path / "shards", progress=False)
    shards = Shards.open(tmp_path / "shards", verify=True)
    assert [(clip.split, clip.offset, clip.length) for clip in shards.clips] == [
        ("train", 0, 4_320),
        ("valid", 4_320, 480),
    ]
    assert [hashlib.sha256(shards.samples(i).tobytes()).hexdigest() for i in (0, 1)] == [c.sha256 for c in shards.clips]
    assert "its last tenth" in str(report)
    assert (report.taken, report.splits) == (1, {"train": 1, "valid": 1})
