"""Two channels from file to clip and batch: what lies below `prepare` takes any number of channels."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import soundfile

from wavesynth.data.batches import Batches
from wavesynth.data.corpus import scan
from wavesynth.data.decoding import decode_all
from wavesynth.data.info import dataset_info
from wavesynth.data.journal import Outcome
from wavesynth.data.manifest import ClipRecord, Manifest
from wavesynth.data.partial import Partial
from wavesynth.data.prepare import prepare
from wavesynth.data.report import Report
from wavesynth.data.shards import Shards

RATE = 16_000


def test_stereo_files_become_stereo_clips(tmp_path: Path):
    pcm = np.random.default_rng(0).integers(-9_999, 9_999, (2, 4_000)).astype(np.int16)
    (tmp_path / "sounds").mkdir()
    soundfile.write(tmp_path / "sounds/a.wav", pcm.T, RATE)
    soundfile.write(tmp_path / "sounds/b.wav", pcm[0], RATE)
    soundfile.write(tmp_path / "sounds/c.wav", np.stack([pcm[0], pcm[0]], axis=1), RATE)
    corpus = scan(tmp_path / "sounds")
    with Partial(tmp_path / "shards", {}, corpus, channels=2) as partial:
        for decoded in decode_all(corpus.root, corpus.files, RATE, 2, 1, partial.folder):
            assert decoded.spool is not None
            source = decoded.source
            outcome = Outcome(source.file, source.size, source.mtime_ns, decoded.digest, sha256=decoded.spool.sha256)
            partial.record(outcome, decoded.spool.file, decoded.spool.num_samples)
        assert [outcome.duplicate_of for outcome in partial.outcomes] == [None, None, "b.wav"]
        clips = tuple(
            ClipRecord(o.file, None, None, "train", o.shard, o.offset, o.length, o.sha256)
            for o in partial.outcomes
            if o.length
        )
        assert [partial.digest(clip.shard, clip.offset, clip.length) for clip in clips] == [c.sha256 for c in clips]
        np.testing.assert_array_equal(partial.samples(0, 4_000, 100), np.stack([pcm[0], pcm[0]])[:, :100])
    with Partial(tmp_path / "shards", {}, corpus, channels=2) as partial:
        assert len(partial.outcomes) == 3  # the journal serves a next run
        report = Report.from_json((_mono_report(tmp_path)).read_text())
        partial.finish(Manifest(RATE, (), {}, "", partial.files, clips, 2), report)
    shards = Shards.open(tmp_path / "shards", verify=True)
    np.testing.assert_array_equal(shards.samples(0), pcm)
    np.testing.assert_array_equal(shards.samples(1), np.stack([pcm[0], pcm[0]]))


def test_batches_mix_stereo_shards(tmp_path: Path):
    time = np.arange(8_000) / RATE
    (tmp_path / "sounds").mkdir()
    soundfile.write(tmp_path / "sounds/a.wav", np.sin(900 * time)[:, None] * [0.5, 0.25], RATE)
    prepare(tmp_path / "sounds", tmp_path / "shards", progress=False)
    shards = Shards.open(tmp_path / "shards")
    own = Batches(shards, "train", 4, crop=512, context=64, seed=0)
    mixed = replace(own, channels=1)
    assert own.batch(3)["samples"].shape == (4, 2, 576)
    assert mixed.batch(3)["samples"].shape == (4, 1, 576)
    np.testing.assert_array_equal(mixed.batch(3)["samples"], own.batch(3)["samples"].mean(axis=1, keepdims=True))
    np.testing.assert_array_equal(mixed.excerpt(0, 10, 20)[0], own.excerpt(0, 10, 20).mean(axis=0))


def test_a_long_piece_beside_clicks_makes_no_dataset_of_one_shots(tmp_path: Path):
    (tmp_path / "sounds").mkdir()
    noise = np.random.default_rng(0).uniform(-0.1, 0.1, 30 * RATE)
    for index in range(9):
        soundfile.write(tmp_path / f"sounds/{index}.wav", noise[index * 800 :][:800], RATE)
    clicks = prepare(tmp_path / "sounds", tmp_path / "clicks", progress=False)
    soundfile.write(tmp_path / "sounds/long.wav", noise, RATE)
    prepare(tmp_path / "sounds", tmp_path / "shards", progress=False)
    assert clicks.taken == 9
    assert dataset_info(Shards.open(tmp_path / "clicks")).clip_seconds == 0.05
    assert not dataset_info(Shards.open(tmp_path / "shards")).one_shots


def _mono_report(tmp_path: Path) -> Path:
    """A report to stand beside the clips."""
    prepare(tmp_path / "sounds", tmp_path / "mono", progress=False)
    return tmp_path / "mono" / "report.json"
