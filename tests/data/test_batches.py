"""Batches: a pure function of (seed, step, host), with true context, silence around clips, and every sample learned."""

import dataclasses
import hashlib
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import jax
import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.tolerances import assert_close, sampling
from wavesynth.data.batches import Batch, Batches, Window, mono, prefetch
from wavesynth.data.prepare import prepare
from wavesynth.data.shards import ClipRecord, Manifest, Shards, ShardWriter
from wavesynth.errors import UserError

CROP, CONTEXT = 100, 37
LENGTHS = (1, 40, 100, 101, 333, 1_000)
RATE = 8_000
NONE: Mapping[str, int] = MappingProxyType({})


@pytest.fixture(scope="session")
def make_shards(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Shards]:
    """make_shards(lengths) writes clips in which every sample identifies its clip and place, and none is silent."""

    def make(lengths: tuple[int, ...], split: str = "train") -> Shards:
        folder = tmp_path_factory.mktemp("shards")
        writer, records = ShardWriter(folder), []
        for i, length in enumerate(lengths):
            content = (1 + (1_100 * i + np.arange(length)) % 32_000).astype("<i2").tobytes()
            (folder / "spool").write_bytes(content)
            with (folder / "spool").open("rb") as file:
                shard, offset = writer.append(file, length)
            label, pitch = [(None, None), ("kick", 36.5), ("snare", None)][i % 3]
            digest = hashlib.sha256(content).hexdigest()
            records.append(ClipRecord(f"{i}.wav", label, pitch, split, shard, offset, length, digest))
        manifest = Manifest(RATE, ("kick", "snare"), {}, "source", writer.files, tuple(records))
        (folder / "manifest.json").write_bytes(manifest.to_bytes())
        (folder / "spool").unlink()
        return Shards.open(folder)

    return make


@pytest.fixture(scope="session")
def shards(make_shards: Callable[..., Shards]) -> Shards:
    return make_shards(LENGTHS)


def of(shards: Shards, batch_size: int = 8, crop: int = CROP, context: int = CONTEXT, seed: int = 0, **more) -> Batches:
    return Batches(shards, "train", batch_size, crop, context, seed, **more)


def clip_of(shards: Shards, samples: np.ndarray, start: int) -> int:
    """Which clip a window is from, by its first sample to learn."""
    (clip,) = [
        i
        for i in range(len(shards))
        if start < shards.clips[i].length and shards.samples(i)[0, start] == samples * 32_768
    ]
    return clip


def assert_same(actual: Any, expected: Any) -> None:
    """Two batches are equal in every number."""
    assert jax.tree.structure(actual) == jax.tree.structure(expected)
    jax.tree.map(np.testing.assert_array_equal, actual, expected)


def joined(parts: list[Batch]) -> Batch:
    """The batches of several hosts as one."""
    return jax.tree.map(lambda *leaves: np.concatenate(leaves), *parts)


def check_rows(shards: Shards, batch: Batch, crop: int = CROP, context: int = CONTEXT) -> None:
    """Every row of a batch is what the clip says it is: its context, its crop, silence around it, label and pitch."""
    for row in range(len(batch["start"])):
        start = int(batch["start"][row])
        inside = max(start, 0)
        clip = clip_of(shards, batch["samples"][row, 0, context + inside - start], inside)
        record = shards.clips[clip]
        silence = np.zeros(context + crop, np.float32)
        whole = np.concatenate([silence, np.ravel(shards[clip]["samples"]), silence])
        first = len(silence) + start - context
        np.testing.assert_array_equal(batch["samples"][row, 0], whole[first : first + context + crop])
        place = start + np.arange(crop)
        np.testing.assert_array_equal(batch["real"][row], (place >= 0) & (place < record.length))
        assert batch["real"][row].any()
        conditions = batch["conditions"]
        assert conditions.label_indices[row] == {None: -1, "kick": 0, "snare": 1}[record.label]
        np.testing.assert_array_equal(
            conditions.pitch[row], [np.float32(np.nan if record.pitch is None else record.pitch)]
        )


@pytest.mark.parametrize("align", [1, 16, 100])
def test_rows_are_windows_of_clips(shards: Shards, align: int):
    batches = of(shards, batch_size=64, align=align)
    starts = []
    for step in range(20):
        batch = batches.batch(step)
        conditions = batch["conditions"]
        arrays = {name: batch[name] for name in ("samples", "real", "start")}
        arrays |= {"labels": conditions.labels, "pitch": conditions.pitch}
        assert {name: (array.dtype, array.shape) for name, array in arrays.items()} == {
            "samples": (np.float32, (64, 1, CONTEXT + CROP)), "real": (bool, (64, CROP)), "start": (np.int32, (64,)),
            "labels": (np.float32, (64, 2)), "pitch": (np.float32, (64, 1)),
        }  # fmt: skip
        assert batch.keys() == {"samples", "real", "start", "conditions"}
        check_rows(shards, batch)
        starts += batch["start"].tolist()
    assert all(start % align == 0 for start in starts)
    assert len(set(starts)) > 5


@given(seed=st.integers(0, 2**32 - 1), step=st.integers(0, 10**6))
def test_a_batch_depends_on_seed_and_step_alone(shards: Shards, seed: int, step: int):
    batches = of(shards, seed=seed)
    once = batches.batch(step)
    batches.batch(step + 1)
    for again in (batches.batch(step), of(Shards.open(shards.path), seed=seed).batch(step)):
        assert_same(again, once)
    for other in (of(shards, seed=(seed + 1) % 2**32).batch(step), batches.batch(step + 1)):
        assert not np.array_equal(other["samples"], once["samples"])


@given(hosts=st.sampled_from([1, 2, 3, 4, 6, 12]), step=st.integers(0, 1_000), align=st.sampled_from([1, 16]))
def test_hosts_share_the_rows_of_one_batch(shards: Shards, hosts: int, step: int, align: int):
    whole = of(shards, batch_size=12, align=align)
    parts = [of(shards, batch_size=12, align=align, host=host, hosts=hosts) for host in range(hosts)]
    assert_same(joined([part.batch(step) for part in parts]), whole.batch(step))
    for batch, *held in zip(whole.held_out(), *(part.held_out() for part in parts), strict=True):
        assert_same(joined(held), batch)


@given(
    lengths=st.lists(st.integers(1, 400), min_size=1, max_size=5),
    crop=st.integers(1, 150),
    align=st.integers(1, 40),
    batch_size=st.integers(1, 5),
)
def test_held_out_covers_every_sample_once(
    make_shards: Callable[..., Shards], lengths: list[int], crop: int, align: int, batch_size: int
):
    shards = make_shards(tuple(lengths))
    if crop < align:
        with pytest.raises(UserError, match=f"crop is {crop}: it must be at least {align}"):
            of(shards, crop=crop, align=align)
        return
    batches = of(shards, batch_size, crop=crop, align=align, limit=10**6)
    seen: Counter = Counter()
    for batch in batches.held_out():
        assert batch["samples"].shape == (batch_size, 1, CONTEXT + crop)
        for row in range(batch_size):
            assert batch["start"][row] % align == 0
            if batch["real"][row].any():
                targets = batch["samples"][row, 0, CONTEXT:]
                seen.update((targets[batch["real"][row]] * 32_768).astype(int).tolist())
    expected: Counter = Counter()
    for i in range(len(lengths)):
        expected.update(shards.samples(i)[0].tolist())
    assert seen == expected


def test_held_out_is_the_same_at_each_call_and_spread_over_all(shards: Shards):
    batches = of(shards, batch_size=2, limit=6)
    first, second = list(batches.held_out()), list(batches.held_out())
    assert len(first) == 3
    for a, b in zip(first, second, strict=True):
        assert_same(a, b)
        check_rows(shards, a)
    clips = {clip_of(shards, b["samples"][row, 0, CONTEXT], int(b["start"][row])) for b in first for row in range(2)}
    assert min(clips) == 0
    assert max(clips) == len(LENGTHS) - 1


@settings(max_examples=40)
@given(lengths=st.lists(st.integers(1, 300), min_size=1, max_size=4), align=st.sampled_from([1, 7, 16, 64]))
def test_every_sample_is_learned(make_shards: Callable[..., Shards], lengths: list[int], align: int):
    shards = make_shards(tuple(lengths))
    batch = of(shards, batch_size=1_000, crop=64, align=align).batch(0)
    seen = set((batch["samples"][:, 0, CONTEXT:][batch["real"]] * 32_768).astype(int).tolist())
    assert seen == {value for i in range(len(lengths)) for value in shards.samples(i)[0].tolist()}


def test_ends_and_short_clips_are_seen_as_often_as_middles(make_shards: Callable[..., Shards]):
    shards = make_shards((50, 950))
    batches = of(shards, batch_size=20_000)
    batch = batches.batch(0)
    clips = batch["conditions"].label_indices == -1  # the first clip has no label
    # A clip is drawn by how many windows touch it: 50 + 100 to 950 + 100.
    share = 150 / 1_200
    assert abs(clips.mean() - share) < sampling(np.sqrt(share * (1 - share)), 20_000)
    starts = batch["start"][~clips]
    for place in (0, 850):  # windows that would begin before the clip, or end behind it, are moved to its ends
        assert abs((starts == place).mean() - 100 / 1_050) < sampling(0.3, len(starts))
    assert abs(((starts > 0) & (starts <= 425)).mean() - 425 / 1_050) < sampling(0.5, len(starts))


# Whole clips.


def test_whole_clips_begin_at_their_beginning_and_are_equally_likely(shards: Shards):
    batch = of(shards, batch_size=6_000, context=0, whole=True).batch(0)
    assert not batch["start"].any()
    check_rows(shards, batch, context=0)
    clips = Counter(clip_of(shards, row[0, 0], 0) for row in batch["samples"])
    assert sorted(clips) == list(range(len(LENGTHS)))
    for count in clips.values():  # however long
        assert abs(count / 6_000 - 1 / 6) < sampling(np.sqrt(5 / 36), 6_000)
    lengths = np.minimum([LENGTHS[clip_of(shards, row[0, 0], 0)] for row in batch["samples"][:100]], CROP)
    np.testing.assert_array_equal(batch["real"][:100].sum(axis=1), lengths)


@pytest.mark.parametrize("hosts", [2, 3])
def test_hosts_share_whole_clips(shards: Shards, hosts: int):
    whole = of(shards, batch_size=12, whole=True)
    parts = [of(shards, batch_size=12, whole=True, host=host, hosts=hosts).batch(5) for host in range(hosts)]
    assert_same(joined(parts), whole.batch(5))


@pytest.mark.parametrize(("limit", "expected"), [(64, range(6)), (3, [0, 2, 5])])
def test_whole_clips_that_are_held_out_are_counted_once(shards: Shards, limit: int, expected: list[int]):
    batches = list(of(shards, batch_size=4, context=0, whole=True, limit=limit).held_out())
    rows = [
        (clip_of(shards, batch["samples"][row, 0, 0], 0), int(batch["real"][row].sum()))
        for batch in batches for row in range(4) if batch["real"][row].any()
    ]  # fmt: skip
    assert rows == [(clip, min(LENGTHS[clip], CROP)) for clip in expected]
    for batch in batches:
        filler = ~batch["real"].any(axis=1)
        assert not batch["samples"][filler].any()
        assert (batch["conditions"].label_indices[filler] == -1).all()
        assert np.isnan(batch["conditions"].pitch[filler]).all()


@pytest.mark.parametrize("ahead", [1, 2, 5])
def test_prefetched_batches_are_the_batches(shards: Shards, ahead: int):
    batches = of(shards)
    fetched = list(prefetch(batches, 3, 10, ahead))
    assert len(fetched) == 7
    for step, batch in zip(range(3, 10), fetched, strict=True):
        assert_same(batch, batches.batch(step))
    assert list(prefetch(batches, 10, 10, ahead)) == list(prefetch(batches, 12, 10, ahead)) == []


def test_a_failure_of_the_thread_is_raised(shards: Shards, monkeypatch: pytest.MonkeyPatch):
    def fail(self: Batches, step: int) -> Batch:
        if step == 2:
            raise OSError("the disk went away")
        return {}

    monkeypatch.setattr(Batches, "batch", fail)
    fetched = prefetch(of(shards), 0, 9)
    assert [next(fetched), next(fetched)] == [{}, {}]
    with pytest.raises(OSError, match="went away"):
        next(fetched)


def test_errors(make_shards: Callable[..., Shards], shards: Shards):
    with pytest.raises(UserError, match="split is 'train', which has no clips: add sounds"):
        of(make_shards(LENGTHS, split="valid"))
    with pytest.raises(UserError, match="batch_size is 8: it must be a multiple of the 3 hosts"):
        of(shards, batch_size=8, hosts=3)
    with pytest.raises(UserError, match="crop is 100: it must be at least 128"):
        of(shards, align=128)


# Noise.


def test_noise_has_the_level_asked_for_and_differs_at_every_step(shards: Shards):
    clean, noisy = of(shards), of(shards, noise=0.01)
    added = [noisy.batch(step)["samples"] - clean.batch(step)["samples"] for step in (0, 1)]
    assert added[0].std() == pytest.approx(0.01, rel=0.1)
    assert abs(np.corrcoef(added[0].ravel(), added[1].ravel())[0, 1]) < 0.1
    assert abs(np.corrcoef(added[0][0], added[0][1])[0, 1]) < 0.3
    for name in ("real", "start", "conditions"):
        assert_same(noisy.batch(0)[name], clean.batch(0)[name])


def test_noise_does_not_depend_on_the_hosts(shards: Shards):
    whole = of(shards, noise=0.01).batch(3)["samples"]
    parts = [of(shards, noise=0.01, host=host, hosts=2).batch(3)["samples"] for host in range(2)]
    np.testing.assert_array_equal(np.concatenate(parts), whole)


def test_held_out_noise_is_the_same_at_every_call(shards: Shards):
    noisy = of(shards, noise=0.01)
    for first, second, clean in zip(noisy.held_out(), noisy.held_out(), of(shards).held_out(), strict=True):
        np.testing.assert_array_equal(first["samples"], second["samples"])
        assert (first["samples"] - clean["samples"]).std() == pytest.approx(0.01, rel=0.2)


def test_the_level_is_that_of_the_sounds(make_shards: Callable[..., Shards]):
    shards = make_shards((5_000,))
    samples = shards.samples(0)[0] / 32_768
    assert of(shards, crop=1_000).level == pytest.approx(np.sqrt(np.mean(samples**2)), rel=0.25)


# Silence around clips.

SILENCE = 60


@pytest.mark.parametrize("align", [1, 16, 50])
def test_windows_may_begin_before_a_clip_and_end_after_it(shards: Shards, align: int):
    batches, starts = of(shards, batch_size=64, align=align, silence=SILENCE), []
    for step in range(30):
        batch = batches.batch(step)
        check_rows(shards, batch)  # every window shows some of its clip
        starts += batch["start"].tolist()
    margin = min(SILENCE, CROP - align) // align * align
    assert all(start % align == 0 for start in starts)
    assert min(starts) == -margin
    assert any(-margin < start < 0 for start in starts) or align == 50
    assert max(starts) > max(LENGTHS) - CROP  # where a window would end with the longest clip


def test_silence_shows_up_to_as_many_samples_on_both_sides(make_shards: Callable[..., Shards]):
    shards = make_shards((300,))
    batch = of(shards, batch_size=4_000, silence=SILENCE).batch(0)
    starts, shown = batch["start"], batch["real"].sum(axis=1)
    assert (starts.min(), starts.max()) == (-SILENCE, 300 - CROP + SILENCE)
    assert shown.min() == CROP - SILENCE
    assert not batch["samples"][starts == -SILENCE][:, :, : CONTEXT + SILENCE].any()
    # Places inside the clip are as likely as without silence.
    inside = ((starts > 0) & (starts < 200)).mean()
    assert abs(inside - 199 / 400) < sampling(0.5, len(starts))
    # Every other window is drawn as without silence, so that the ends of clips are still seen.
    for place in (0, 200):
        expected = (100 / 400 + 1 / 400) / 2
        assert abs((starts == place).mean() - expected) < sampling(0.5, len(starts))


@given(
    lengths=st.lists(st.integers(1, 300), min_size=1, max_size=3),
    crop=st.integers(1, 90),
    align=st.sampled_from([1, 7, 16]),
    silence=st.integers(0, 500),
)
def test_any_silence_leaves_some_of_the_clip(
    make_shards: Callable[..., Shards], lengths: list[int], crop: int, align: int, silence: int
):
    if crop < align:
        return
    shards = make_shards(tuple(lengths))
    batch = of(shards, batch_size=50, crop=crop, align=align, silence=silence).batch(0)
    check_rows(shards, batch, crop=crop)
    assert not (batch["start"] % align).any()
    assert batch["start"].min() >= -silence


@pytest.mark.parametrize("align", [1, 16])
def test_no_silence_is_what_batches_were_without_it(shards: Shards, align: int):
    batches = of(shards, batch_size=64, align=align, silence=0)
    assert_same(batches.batch(3), of(shards, batch_size=64, align=align).batch(3))
    assert (batches.batch(3)["start"] >= 0).all()


@pytest.mark.parametrize("semitones", [-12.0, -5.0, 0.0, 5.0, 11.0])
def test_windows_of_sounding_clips_begin_anywhere(shards: Shards, semitones: float):
    """Where nothing is silent, windows begin as likely at every place, and beginnings and ends are seen as often as middles."""
    batches = of(shards, align=16)
    for clip, length in enumerate(LENGTHS):
        length = round(length / 2 ** (semitones / 12))
        rounded = -(-length // 16) * 16
        last = max(rounded - CROP, 0)
        last += -last % 16
        for where in np.linspace(0, 1, 37, endpoint=False):
            start = int(np.clip(int(where * (length + CROP)) - CROP, 0, min(last, rounded - 16)))
            assert batches._start(Window(clip, 0, semitones), where, 0) == start - start % 16


@pytest.mark.parametrize("speed", [0.5, 1, 2])
def test_long_silence_is_left_out(shards: Shards, speed: float):
    """Of a clip that sounds in two places, every window shows one of them; both attacks are seen at any place in a window."""
    clip = LENGTHS.index(1_000)
    clips = list(shards.clips)
    clips[clip] = dataclasses.replace(clips[clip], sound=((200, 250), (600, 650)))
    quiet = Shards(shards.path, dataclasses.replace(shards.manifest, clips=tuple(clips)))
    batches = of(quiet)
    window = Window(clip, 0, 12 * np.log2(speed))
    starts = {batches._start(window, where, 0) for where in np.linspace(0, 1, 4_000, endpoint=False)}
    parts = [(round(begin / speed), round(end / speed)) for begin, end in ((200, 250), (600, 650))]
    assert starts == {start for begin, end in parts for start in range(max(begin - CROP, 0), end)}
    if speed == 1:
        assert batches.reach[-1] - batches.reach[-2] == len(starts)


def tones(folder: Path, pitches: dict[str, str], seconds: float = 1.0, rates: Mapping[str, int] = NONE) -> Shards:
    """440 Hz in stereo, once for each name, with the pitches that metadata.csv tells. rates: of files, if not RATE."""
    (folder / "in").mkdir()
    for index, name in enumerate(pitches):  # lengths differ, because equal files count once
        rate = rates.get(name, RATE)
        tone = 0.5 * np.sin(2 * np.pi * 440 / rate * np.arange(round(seconds * rate) - index))
        soundfile.write(folder / "in" / name, np.stack([tone, -tone / 2], axis=1), rate)
    lines = ["file,pitch", *(f"{name},{pitch}" for name, pitch in pitches.items())]
    (folder / "in" / "metadata.csv").write_text("\n".join(lines) + "\n")
    prepare(folder / "in", folder / "shards", valid=0.0, test=0.0, workers=1, progress=False)
    return Shards.open(folder / "shards")


@pytest.fixture(scope="module")
def sines(tmp_path_factory: pytest.TempPathFactory) -> Shards:
    """A note, and a sound without pitch."""
    return tones(tmp_path_factory.mktemp("sines"), {"note.wav": "69", "hum.wav": ""})


def test_transposed_sounds_have_their_pitches(sines: Shards):
    batches = of(sines, 32, crop=4_096, context=512, transpose=2.0, silence=1_024, align=32)
    batch = batches.batch(0)
    assert not np.any(batch["start"] % 32)
    assert batch["start"].min() < 0
    pitches = np.asarray(batch["conditions"].constant_pitch)
    notes = ~np.isnan(pitches)
    assert 8 <= notes.sum() <= 24
    assert np.all(np.abs(pitches[notes] - 69) <= 2)
    assert np.ptp(pitches[notes]) > 2
    for samples, real, start, pitch in zip(batch["samples"], batch["real"], batch["start"], pitches, strict=True):
        speed = 1.0 if np.isnan(pitch) else 2 ** ((pitch - 69) / 12)
        place = (start + np.arange(-512, 4_096)) * speed  # in the file
        inside = (place >= 0) & (place < RATE)
        assert (real != inside[512:]).sum() <= 2  # places are rounded
        away = (place > -40) & (place < 40) | (np.abs(place - RATE) < 40)  # of a filter that begins or ends there
        expected = np.where(inside, 0.5 * np.sin(2 * np.pi * 440 * place / RATE), 0.0)
        apart = np.abs(samples[0] - expected)[~away].max()
        assert apart < 0.5 * 2 * np.pi * 440 / RATE * 0.6  # of the steepest slope; places are rounded
        np.testing.assert_allclose(samples[1], -samples[0] / 2, atol=2 * 2**-15)


def test_sounds_without_pitch_are_never_transposed(sines: Shards):
    plain, moved = (of(sines, 32, crop=4_096, transpose=semitones).batch(3) for semitones in (0.0, 1.0))
    unpitched = np.isnan(plain["conditions"].constant_pitch)
    assert unpitched.any()
    assert not unpitched.all()
    for name in ("samples", "real", "start"):
        np.testing.assert_array_equal(plain[name][unpitched], moved[name][unpitched])
    assert not np.array_equal(plain["samples"][~unpitched], moved["samples"][~unpitched])


@pytest.mark.parametrize("hosts", [2, 4])
def test_hosts_transpose_alike(sines: Shards, hosts: int):
    shared = [of(sines, transpose=1.0, host=host, hosts=hosts).batch(5) for host in range(hosts)]
    assert_same(joined(shared), of(sines, transpose=1.0).batch(5))


def test_held_out_sounds_are_not_transposed(sines: Shards):
    for plain, moved in zip(of(sines).held_out(), of(sines, transpose=1.0).held_out(), strict=True):
        assert (moved.pop("bandwidth") == RATE / 2).all()
        assert_same(moved, plain)


@pytest.mark.parametrize("align", [1, 32])
def test_transposed_windows_lie_in_the_transposed_sound(sines: Shards, align: int):
    batch = of(sines, 512, crop=2_048, transpose=12.0, silence=0, align=align).batch(0)
    pitches = np.asarray(batch["conditions"].constant_pitch)
    notes = ~np.isnan(pitches)
    lengths = RATE / 2 ** ((pitches[notes] - 69) / 12)
    ends = batch["start"][notes] + 2_048 - lengths  # of the windows, after those of the sounds
    assert batch["start"].min() == 0
    assert ends.max() < align + 1


def test_short_transposed_sounds_are_in_every_window(tmp_path: Path):
    shards = tones(tmp_path, {"short.wav": "69"}, seconds=0.02)
    batch = of(shards, 256, crop=128, transpose=12.0, silence=128, align=32).batch(0)
    assert batch["real"].any(axis=1).all()
    assert np.abs(batch["samples"][..., -128:]).max(axis=(1, 2)).min() > 0


@pytest.mark.parametrize("rate", [RATE, RATE // 2])
def test_the_band_of_a_transposed_sound_is_transposed(tmp_path: Path, rate: int):
    shards = tones(tmp_path, {"note.wav": "69", "hum.wav": "", "thrum.wav": ""}, rates={"note.wav": rate})
    batch = of(shards, 96, transpose=12.0).batch(0)
    pitches = np.asarray(batch["conditions"].constant_pitch)
    ends = np.where(np.isnan(pitches), RATE, rate * 2 ** ((pitches - 69) / 12)) / 2
    assert_close(batch["bandwidth"], np.minimum(ends, RATE / 2).astype(np.float32), condition=128)  # of the pitch
    assert batch["bandwidth"].min() < rate / 3


def test_transposed_pitches_stay_midi_numbers(tmp_path: Path):
    shards = tones(tmp_path, {"low.wav": "0", "high.wav": "127"})
    pitches = of(shards, 64, transpose=12.0).batch(0)["conditions"].constant_pitch
    assert pitches.min() == 0
    assert pitches.max() == 127


def test_mono_is_the_mean_of_the_channels():
    stereo = np.arange(12, dtype=np.float32).reshape(2, 2, 3)
    np.testing.assert_array_equal(mono(stereo), stereo.mean(axis=1))


def test_batches_tell_where_sounds_of_a_lower_rate_end(tmp_path: Path):
    random = np.random.default_rng(0)
    for name, rate in (("a", 16_000), ("b", 16_000), ("c", 8_000)):
        (tmp_path / "sounds").mkdir(exist_ok=True)
        soundfile.write(tmp_path / f"sounds/{name}.wav", random.uniform(-0.5, 0.5, rate), rate)
    prepare(tmp_path / "sounds", tmp_path / "shards", valid=0.0, test=0.0, progress=False)
    shards = Shards.open(tmp_path / "shards")
    assert [clip.bandwidth for clip in shards.clips] == [None, None, 4_000.0]
    batches = of(shards, batch_size=2, crop=16_000)
    ends = np.concatenate([batch["bandwidth"] for batch in batches.held_out()])
    assert ends.tolist() == [8_000.0, 8_000.0, 4_000.0, 8_000.0]  # of the three clips, and of a row without one
    assert set(batches.batch(0)["bandwidth"]) <= {8_000.0, 4_000.0}
    prepare(tmp_path / "sounds", tmp_path / "low", sample_rate=8_000, progress=False)
    assert "bandwidth" not in of(Shards.open(tmp_path / "low")).batch(0)
