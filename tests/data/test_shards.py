"""Shards: what is written is what is read, views cost nothing, and damage is named."""

import hashlib
import io
import json
import os
import pickle
from collections.abc import Callable
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
    """A shards folder of int16 clips [C, T], without `prepare`."""
    folder.mkdir()
    channels = len(clips[0])
    writer = ShardWriter(folder, shard_bytes=shard_bytes, channels=channels)
    records = []
    for i, clip in enumerate(clips):
        content = clip.T.astype("<i2").tobytes()
        shard, offset = writer.append(io.BytesIO(content), clip.shape[1])
        digest = hashlib.sha256(content).hexdigest()
        label, pitch = [(None, None), ("kick", 36.5)][i % 2]
        place = (shard, offset, clip.shape[1], digest, ((0, 1),) if i % 2 else ())
        records.append(ClipRecord(f"{i}\udce9.wav", label, pitch, SPLITS[i % 3], *place))
    settings = {"sample_rate": 8_000}
    manifest = Manifest(8_000, ("kick",), settings, "source", writer.files, tuple(records), channels)
    (folder / "manifest.json").write_bytes(manifest.to_bytes())
    return folder


@pytest.fixture(params=[1, 2])
def clips(request: pytest.FixtureRequest) -> list[np.ndarray]:
    """Clips of one and of two channels, int16 [C, T]."""
    rng = np.random.default_rng(0)
    sizes = (100, 1, 5_000, 700, 30, 999)
    return [rng.integers(-32768, 32768, (request.param, size)).astype(np.int16) for size in sizes]


@pytest.mark.parametrize("shard_bytes", [2**28, 3_000, 1])
def test_every_clip_comes_back_and_lies_in_one_file(tmp_path: Path, clips: list[np.ndarray], shard_bytes: int):
    shards = Shards.open(write_shards(tmp_path / "shards", clips, shard_bytes), verify=True)
    frame = 2 * len(clips[0])
    assert len(shards) == len(clips)
    assert shards.channels == len(clips[0])
    for i, clip in enumerate(clips):
        np.testing.assert_array_equal(shards.samples(i), clip)
        item = shards[i]
        assert item["samples"].dtype == np.float32
        np.testing.assert_array_equal(item["samples"], clip / 32768)
        assert (item["sample_rate"], item["label"], item["split"]) == (8_000, [None, "kick"][i % 2], SPLITS[i % 3])
        assert shards.clips[i].sounding == (((0, 1),) if i % 2 else ((0, clip.shape[1]),))
    for file in shards.manifest.shards:
        held = [clip for clip in shards.clips if shard_name(clip.shard) == file.file]
        assert file.bytes == frame * sum(clip.length for clip in held)
        assert file.bytes <= max(shard_bytes, frame * max(clip.length for clip in held))
    assert (len(shards.manifest.shards) == 1) == (shard_bytes == 2**28)
    assert (len(shards.manifest.shards) == len(clips)) == (shard_bytes == 1)
    assert shards.seconds == sum(clip.shape[1] for clip in clips) / 8_000
    assert [shards.split(name) for name in SPLITS] == [(0, 3), (1, 4), (2, 5)]


def test_samples_are_a_read_only_view(tmp_path: Path, clips: list[np.ndarray]):
    shards = Shards.open(write_shards(tmp_path / "shards", clips))
    first, second = shards.samples(2), shards.samples(2)
    assert np.shares_memory(first, second)
    assert first.dtype == np.dtype("<i2")
    with pytest.raises(ValueError, match="read-only"):
        first[0, 0] = 1


def test_channels_are_interleaved(tmp_path: Path):
    """A crop of all channels is one stretch of the file."""
    folder = write_shards(tmp_path / "shards", [np.array([[1, 2, 3], [-1, -2, -3]], np.int16)])
    assert np.fromfile(folder / shard_name(0), "<i2").tolist() == [1, -1, 2, -2, 3, -3]


def test_pickled_shards_carry_no_samples(tmp_path: Path, clips: list[np.ndarray]):
    shards = Shards.open(write_shards(tmp_path / "shards", [*clips, np.ones((len(clips[0]), 10**6), np.int16)]))
    shards.samples(6)
    content = pickle.dumps(shards)
    assert len(content) < 10_000
    np.testing.assert_array_equal(pickle.loads(content).samples(2), clips[2])


def test_the_fingerprint_follows_content_and_not_layout(tmp_path: Path, clips: list[np.ndarray]):
    def fingerprint(name: str, *how) -> str:
        return Shards.open(write_shards(tmp_path / name, *how)).fingerprint

    assert fingerprint("a", clips) == fingerprint("b", clips, 1)
    assert len({fingerprint("c", clips), fingerprint("d", clips[:-1]), fingerprint("e", clips[::-1])}) == 3
    pair = [np.ones((1, 4), np.int16)], [np.ones((2, 2), np.int16)]
    assert fingerprint("f", pair[0]) != fingerprint("g", pair[1])


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
        sound = [rng.integers(-32768, 32768, (1, size)).astype(np.int16) for size in (830, 6_000)]
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
        for at in range(0, len(content), 11):
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
            (b"\xff\xfe", "not UTF-8"),
            (b"[]", "does not hold a JSON object"),
            (b"{}", "not a manifest"),
            (b'{"format": "wavesynth-shards", "format": "wavesynth-shards"}', "names 'format' twice"),
            (b'{"format": "wavesynth-shards", "version": NaN}', "NaN is not a number"),
            (b'{"format": "wavesynth-shards", "version": 1e999}', "too large a number"),
            (b"[" * 100_000, "not JSON"),
            (b'{"a":' * 100_000, "not JSON"),
            (b'{"format": "wavesynth-shards", "version": 1}', "format version 1"),
            (b'{"format": "wavesynth-shards", "version": 3}', "format version 3"),
            (b'{"format": "wavesynth-shards", "version": [3]}', "format version unknown"),
        ],
    )
    def test_other_manifests(self, folder: Path, content: bytes, says: str):
        (folder / "manifest.json").write_bytes(content)
        assert says in self.refusal(folder)

    def test_control_characters_of_a_folder_are_escaped(self, folder: Path, tmp_path: Path):
        name = folder.rename(tmp_path / "a\x1b[31m")
        (name / shard_name(0)).unlink()
        assert r"a\x1b[31m/shard-00000.pcm is missing" in self.refusal(name)
        assert r"a\x1b[31m" in repr(Shards(name, Manifest(8_000, (), {}, "", (), ())))

    @pytest.mark.parametrize("kind", [os.mkfifo, os.mkdir])
    def test_a_data_file_that_is_no_file(self, folder: Path, kind: Callable[[Path], None]):
        (folder / shard_name(0)).unlink()
        kind(folder / shard_name(0))
        assert "shard-00000.pcm is not a file" in self.refusal(folder)

    def test_unknown_split(self, folder: Path):
        with pytest.raises(UserError, match="choose one of train, valid, test"):
            Shards.open(folder).split("validation")


HASHES = st.lists(st.binary(min_size=32, max_size=32).map(bytes.hex), min_size=1, max_size=30, unique=True)
SHARES = st.tuples(st.floats(0, 0.49), st.floats(0, 0.49))


class TestSplits:
    @given(hashes=HASHES, shares=SHARES)
    def test_train_is_never_empty_and_valid_only_where_it_must(self, hashes: list[str], shares: tuple[float, float]):
        valid, test = shares
        splits, _ = assign(hashes, [SPLITS] * len(hashes), valid, test)
        assert "train" in splits
        assert ("valid" in splits) == (valid > 0 and len(hashes) > 1)

    @given(
        hashes=HASHES, shares=SHARES, data=st.data(), choices=st.sets(st.sampled_from([SPLITS, SPLITS[:2], ("test",)]))
    )
    def test_no_clip_goes_where_it_may_not(
        self, hashes: list[str], shares: tuple[float, float], data: st.DataObject, choices: set[tuple[str, ...]]
    ):
        allowed = [data.draw(st.sampled_from(sorted(choices | {SPLITS}))) for _ in hashes]
        try:
            splits, _ = assign(hashes, allowed, *shares)
        except UserError:
            assert all("train" not in choice for choice in allowed)
        else:
            assert all(split in choice for split, choice in zip(splits, allowed, strict=True))

    def test_shares_are_kept_and_new_clips_move_no_old_ones(self):
        hashes = [hashlib.sha256(bytes([i % 256, i // 256])).hexdigest() for i in range(4_000)]
        splits, remarks = assign(hashes, [SPLITS] * 4_000, valid=0.1, test=0.2)
        assert remarks == []
        shares = [splits.count(name) / 4_000 for name in SPLITS]
        assert shares == pytest.approx([0.7, 0.1, 0.2], abs=0.02)
        assert assign(hashes[:1_000], [SPLITS] * 1_000, valid=0.1, test=0.2)[0] == splits[:1_000]

    def test_the_nearest_moves(self):
        hashes = ["f0" * 32, "80" * 32, "90" * 32]
        assert assign(hashes, [SPLITS] * 3, valid=0.1, test=0.1)[0] == ["train", "valid", "train"]
        assert assign(["00" * 32, "10" * 32], [SPLITS] * 2, valid=0.1, test=0.5)[0] == ["valid", "train"]

    def test_what_is_given_holds(self):
        hashes = ["f0" * 32, "80" * 32, "90" * 32]
        fixed = [("test",), ("test",), SPLITS]
        assert assign(hashes, fixed, valid=0.1, test=0.1)[0] == ["test", "test", "train"]
        with pytest.raises(UserError, match="no clip may go to train"):
            assign(hashes, [*fixed[:2], ("valid",)], valid=0.1, test=0.1)


def test_a_single_sound_gives_its_last_tenth_for_validation(tmp_path: Path):
    nasty.build(tmp_path / "sounds", (nasty.Case("1.wav", "taken", nasty.NAMES[0].write),))
    report = prepare(tmp_path / "sounds", tmp_path / "shards", progress=False)
    shards = Shards.open(tmp_path / "shards", verify=True)
    assert [(clip.split, clip.offset, clip.length) for clip in shards.clips] == [
        ("train", 0, 4_320),
        ("valid", 4_320, 480),
    ]
    assert [hashlib.sha256(shards.samples(i).tobytes()).hexdigest() for i in (0, 1)] == [c.sha256 for c in shards.clips]
    assert "there is only one clip: its last 10% are held out" in str(report)
    assert (report.taken, report.splits) == (1, {"train": 1, "valid": 1})
