"""`Synth` on a trained WaveNet: sampling, writing, scoring, timbres, and errors of one line."""

import copy
import dataclasses
import inspect
import itertools
import math
import pickle
import unicodedata
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar, get_type_hints

import jax
import numpy as np
import pytest
import soundfile

import wavesynth
from tests.tolerances import STEP_16, rounding
from wavesynth import Curve, Synth, Timbre, UserError
from wavesynth.audio import files
from wavesynth.audio.midi import read_song
from wavesynth.audio.sounds import samples_of
from wavesynth.conditions import Conditions
from wavesynth.families import Family, Request
from wavesynth.options import RenderOptions, SampleOptions, check_wav
from wavesynth.rendering import Renderer
from wavesynth.runs import Run
from wavesynth.writing import numbered

RATE = 16_000


@pytest.fixture(scope="module")
def tone() -> np.ndarray:
    """A quarter of a second of A4, float32 [T]."""
    return (0.5 * np.sin(2 * np.pi * 440 * np.arange(4_000) / RATE)).astype(np.float32)


# Sampling.


def test_bfloat16_weights_give_other_samples(tiny_synth: Synth):
    exact, rounded = (tiny_synth.sample(seconds=0.1, label="kick", dtype=dtype) for dtype in ("float32", "bfloat16"))
    np.testing.assert_array_equal(exact, tiny_synth.sample(seconds=0.1, label="kick"))
    assert np.isfinite(rounded).all()
    assert not np.array_equal(exact, rounded)


def test_an_unknown_dtype_is_named(tiny_synth: Synth):
    with pytest.raises(UserError, match="dtype is 'int8': choose one of float32, bfloat16"):
        tiny_synth.sample(seconds=0.1, dtype="int8")


@pytest.mark.parametrize("pitch", [12, 24.5, 127])
def test_a_pitch_outside_the_trained_range_warns(tiny_synth: Synth, pitch: float):
    with pytest.warns(UserWarning, match=f"pitch is {pitch:g}, outside the training sounds' range of 48 to 72"):
        assert np.isfinite(tiny_synth.sample(seconds=0.1, pitch=pitch)).all()


def test_shape_rate_and_range(tiny_synth: Synth):
    audio = tiny_synth.sample(n=3, seconds=0.05, label="kick")
    assert audio.shape == (3, 800)
    assert audio.dtype == np.float32
    assert np.abs(audio).max() <= 1
    assert audio.std() > 0
    assert tiny_synth.sample_rate == RATE
    assert "kick" in tiny_synth.labels


@pytest.mark.parametrize(
    ("seconds", "num_samples"), [(1e-9, 1), (1 / RATE, 1), (0.1, 1_600), (0.064, 1_024), (0.06406, 1_025)]
)
def test_any_length(tiny_synth: Synth, seconds: float, num_samples: int):
    assert tiny_synth.sample(seconds=seconds).shape == (1, num_samples)


def test_the_same_seed_gives_the_same_samples(tiny_run: Path, tiny_synth: Synth, tone: np.ndarray):
    options = dict(n=2, seconds=0.1, label="snare", pitch=60.5, prime=tone, temperature=0.9, top_p=0.9)
    once = tiny_synth.sample(seed=3, **options)
    np.testing.assert_array_equal(tiny_synth.sample(seed=3, **options), once)
    np.testing.assert_array_equal(wavesynth.load(tiny_run).sample(seed=3, **options), once)
    assert not np.array_equal(tiny_synth.sample(seed=4, **options), once)
    assert not np.array_equal(once[0], once[1])


def test_a_sound_does_not_depend_on_how_many_there_are(tiny_synth: Synth):
    # A matrix product of another size rounds otherwise, and what was drawn is fed back: the first samples are compared.
    alone, among = tiny_synth.sample(1, 0.002, seed=5), tiny_synth.sample(4, 0.002, seed=5)
    np.testing.assert_allclose(alone[0], among[0], atol=STEP_16)
    longer = tiny_synth.sample(1, 0.2, seed=5)
    np.testing.assert_array_equal(longer[:, :32], alone)


@pytest.mark.parametrize(
    "option", [dict(label="kick"), dict(pitch=50), dict(temperature=0.3), dict(top_k=1), dict(top_p=0.2)]
)
def test_every_option_has_an_effect(tiny_synth: Synth, option: dict):
    assert not np.array_equal(tiny_synth.sample(seconds=0.02, **option), tiny_synth.sample(seconds=0.02))


def test_a_prime_is_continued(tiny_synth: Synth, tone: np.ndarray):
    # The first sample depends on its past alone: after a trough of the tone it lies in the trough, else near silence.
    trough = tone[:3_991]
    assert trough[-1] < -0.4
    primed = tiny_synth.sample(seconds=0.01, prime=trough, temperature=0.01, label="flute", pitch=69)[0]
    plain = tiny_synth.sample(seconds=0.01, temperature=0.01, label="flute", pitch=69)[0]
    assert primed.shape == (160,)  # the prime is not repeated
    assert abs(primed[0] - tone[3_991]) < 0.1
    assert abs(plain[0]) < 0.1


@pytest.mark.parametrize("rate", [8_000, 16_000, 44_100])
@pytest.mark.parametrize("channels", [1, 2])
def test_a_prime_of_any_file(tiny_synth: Synth, tmp_path: Path, rate: int, channels: int, tone: np.ndarray):
    wave = 0.5 * np.sin(2 * np.pi * 440 * np.arange(rate // 4) / rate)
    soundfile.write(tmp_path / "prime.wav", np.stack([wave] * channels, axis=1), rate, subtype="FLOAT")
    taken = np.ravel(samples_of(tmp_path / "prime.wav", "prime", RATE))
    assert len(taken) == pytest.approx(4_000, abs=1)
    np.testing.assert_allclose(taken[500:3_500], tone[500:3_500], atol=1e-3)  # resampled, not replayed at another speed
    continued = tiny_synth.sample(seconds=0.005, prime=str(tmp_path / "prime.wav"))
    np.testing.assert_array_equal(continued, tiny_synth.sample(seconds=0.005, prime=taken))
    if channels == 1:
        array = tiny_synth.sample(seconds=0.005, prime=wave.astype(np.float32), sample_rate=rate)
        np.testing.assert_allclose(array, continued, atol=0.02)


@pytest.mark.parametrize("block", [1, 100, 1_024, 1_500])
def test_a_stream_is_a_sample_in_blocks(tiny_synth: Synth, block: int):
    whole = tiny_synth.sample(1, 0.2, seed=2, label="hat")[0]
    count = 3_200 // block if block > 1 else 50
    blocks = list(itertools.islice(tiny_synth.stream(seed=2, block=block, label="hat"), count))
    assert {len(part) for part in blocks} == {block}
    np.testing.assert_array_equal(np.concatenate(blocks), whole[: block * count])


# Writing.


def test_wavs_hold_what_sample_returns(tiny_synth: Synth, tmp_path: Path):
    paths = tiny_synth.write(tmp_path / "a" / "b", n=2, seconds=0.1, seed=1, label="kick")
    assert [path.name for path in paths] == ["000.wav", "001.wav"]
    for path, sound in zip(paths, tiny_synth.sample(2, 0.1, seed=1, label="kick"), strict=True):
        pcm, rate = soundfile.read(path, dtype="int16")
        assert rate == RATE
        np.testing.assert_array_equal(pcm, np.clip(np.rint(sound * 32_768), -32_768, 32_767))
    assert sorted(path.name for path in (tmp_path / "a" / "b").iterdir()) == ["000.wav", "001.wav"]


def test_nothing_is_overwritten_without_force(tiny_synth: Synth, tmp_path: Path):
    (tmp_path / "001.wav").write_bytes(b"mine")
    with pytest.raises(UserError, match=r"001.wav exists"):
        tiny_synth.write(tmp_path, n=2, seconds=0.01)
    assert [path.name for path in tmp_path.iterdir()] == ["001.wav"]
    assert (tmp_path / "001.wav").read_bytes() == b"mine"
    tiny_synth.write(tmp_path, n=2, seconds=0.01, force=True)
    assert soundfile.info(tmp_path / "001.wav").frames == 160
    with pytest.raises(UserError, match=r"001.wav is a file: give a folder"):
        tiny_synth.write(tmp_path / "001.wav", seconds=0.01)


class Endless(Family):
    """A family that generates one block at a time, and counts its blocks."""

    name = "endless"
    autoregressive: ClassVar[bool] = True

    def __init__(self, family: Family) -> None:
        super().__init__(family.model, family.dataset)

    made: int = 0
    stop_at: float = math.inf

    def generate(self, params: Any, conditions: Conditions, request: Request) -> Iterator[np.ndarray]:
        while True:
            Endless.made += 1
            if Endless.made > self.stop_at:
                raise KeyboardInterrupt
            yield np.full((conditions.batch, 1, 1_024), 0.25, np.float32)

    adapt = init = shapes = objective = baselines = None  # type: ignore[assignment]


@pytest.fixture
def endless(tiny_synth: Synth, monkeypatch: pytest.MonkeyPatch) -> Synth:
    monkeypatch.setattr(Endless, "made", 0)
    return Synth(Endless(tiny_synth.family), {})


def test_writing_takes_block_by_block(endless: Synth, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    from wavesynth.audio.files import WavWriter

    appended: list[tuple[int, int]] = []
    monkeypatch.setattr(WavWriter, "append", lambda self, block: appended.append((Endless.made, len(block))))
    endless.write(tmp_path, n=1, seconds=10.0)
    assert Endless.made == math.ceil(160_000 / 1_024)  # not one more than needed
    assert appended == [(i + 1, min(1_024, 160_000 - 1_024 * i)) for i in range(Endless.made)]  # each before the next


def test_an_interrupt_leaves_whole_wavs(endless: Synth, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(Endless, "stop_at", 3)
    with pytest.raises(KeyboardInterrupt):
        endless.write(tmp_path, n=2, seconds=math.inf)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["000.wav", "001.wav"]
    assert soundfile.info(tmp_path / "001.wav").frames == 3 * 1_024


# Scoring.


@pytest.mark.parametrize("quantization", [None, "int16", "mulaw"])
def test_bits_are_the_mean_of_log_prob(tiny_synth: Synth, tone: np.ndarray, quantization: str | None):
    nats = tiny_synth.log_prob(tone, quantization=quantization, label="flute", pitch=69)
    assert nats.shape == tone.shape
    assert nats.dtype == np.float32
    assert np.isfinite(nats).all()
    assert (nats <= 1e-6).all()
    bits = tiny_synth.bits_per_sample(tone, quantization=quantization, label="flute", pitch=69)
    assert bits == pytest.approx(-nats.astype(np.float64).mean() / math.log(2), rel=1e-9)
    if quantization == "int16":
        np.testing.assert_array_equal(nats, tiny_synth.log_prob(tone, label="flute", pitch=69))


def test_likely_sounds_take_fewer_bits(tiny_synth: Synth, tone: np.ndarray):
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, 4_000).astype(np.float32)
    silent = np.zeros(4_000, np.float32)
    scores = [tiny_synth.bits_per_sample(sound) for sound in (silent, tone, noise)]
    assert scores == sorted(scores)
    assert scores[2] > scores[1] + 1
    # No model can predict uniform noise in fewer bits than log2 of its range.
    assert scores[2] > math.log2(32_768) - 0.1
    assert all(score > 0 for score in scores)


def test_scoring_a_file_is_scoring_its_samples(tiny_synth: Synth, tone: np.ndarray, tmp_path: Path):
    soundfile.write(tmp_path / "tone.wav", tone, RATE, subtype="FLOAT")
    assert tiny_synth.bits_per_sample(tmp_path / "tone.wav") == tiny_synth.bits_per_sample(tone)


def test_scoring_takes_a_sample_rate(tiny_synth: Synth):
    slow = (0.5 * np.sin(2 * np.pi * 440 * np.arange(2_000) / 8_000)).astype(np.float32)
    nats = tiny_synth.log_prob(slow, 8_000)
    assert nats.shape == (4_000,)
    np.testing.assert_array_equal(nats, tiny_synth.log_prob(samples_of(slow, "sound", RATE, 8_000)))
    assert tiny_synth.bits_per_sample(slow, 8_000) == pytest.approx(
        -nats.astype(np.float64).mean() / math.log(2), rel=1e-9
    )


@pytest.mark.parametrize("length", [1, 2, 16_383, 16_384, 16_385])
def test_a_score_does_not_depend_on_where_it_is_cut(tiny_synth: Synth, length: int):
    sound = 0.3 * np.sin(np.arange(20_000, dtype=np.float32) / 7)
    nats = tiny_synth.log_prob(sound[:length])
    assert nats.shape == (length,)
    np.testing.assert_array_equal(nats, tiny_synth.log_prob(sound)[:length])


# Timbres.


def test_a_morph_begins_and_ends_with_the_labels(tiny_synth: Synth):
    steps = tiny_synth.morph("flute", "trumpet", steps=3, seconds=0.05, seed=4, pitch=60)
    assert steps.shape == (3, 800)
    for sound, label in ((steps[0], "flute"), (steps[-1], "trumpet")):
        np.testing.assert_array_equal(sound, tiny_synth.sample(1, 0.05, seed=4, pitch=60, label=label)[0])
    assert not np.array_equal(steps[1], steps[0])
    timbres = tiny_synth.timbre("flute"), tiny_synth.timbre("trumpet")
    np.testing.assert_array_equal(tiny_synth.morph(*timbres, steps=3, seconds=0.05, seed=4, pitch=60), steps)
    middle = tiny_synth.sample(1, 0.05, seed=4, pitch=60, timbre=0.5 * timbres[0] + 0.5 * timbres[1])[0]
    np.testing.assert_array_equal(
        tiny_synth.morph(*timbres, steps=3, seconds=0.05, seed=4, pitch=60, match_loudness=False)[1], middle
    )
    levels = [np.sqrt(np.mean(sound.astype(np.float64) ** 2)) for sound in (steps[0], middle, steps[2])]
    gain = np.sqrt(levels[0] * levels[2]) / levels[1]  # half way in dB
    np.testing.assert_allclose(steps[1], middle * gain, rtol=0, atol=rounding("float32", middle.size, scale=steps[1]))


def test_a_timbre_of_another_synth_is_refused(tiny_synth: Synth):
    changed = dict(tiny_synth.params)
    changed["out_bias"] = changed["out_bias"] + 1
    other = Synth(tiny_synth.family, changed)
    assert other.fingerprint != tiny_synth.fingerprint
    with pytest.raises(
        UserError, match=f"the timbre belongs to synth {other.fingerprint}, but this is {tiny_synth.fingerprint}"
    ):
        tiny_synth.sample(timbre=other.timbre("kick"))
    with pytest.raises(UserError, match="encode both sounds with one synth"):
        tiny_synth.timbre("kick") + other.timbre("kick")


# Errors.

COUNT = "it must be a whole number of"
WRONG: list[tuple[Callable[[Synth], Any], str]] = [
    (lambda s: s.sample(seconds=0), "seconds is 0: it must be a number above 0"),
    (lambda s: s.sample(seconds=-1.0), "seconds is -1.0: it must be a number above 0"),
    (lambda s: s.sample(seconds=math.nan), "seconds is nan: it must be a number above 0"),
    (lambda s: s.sample(seconds="1"), "seconds is '1': it must be a number above 0"),
    (lambda s: s.sample(seconds=math.inf), "seconds is inf: an endless sound does not fit in memory"),
    (lambda s: s.sample(seconds=1e12), r"each sound has 16,000,000,000,000,000 samples, .* at most 4 GiB"),
    (lambda s: s.sample(seconds=1e308), "at most 4 GiB are held in memory"),
    (lambda s: s.sample(n=100_000, seconds=1.0), "n is 100,000 and each sound has 16,000 samples, 6 GiB in all"),
    (lambda s: s.decode(s.timbre("kick"), 1e12), "at most 4 GiB"),
    (lambda s: s.morph("kick", "hat", seconds=1e12), "at most 4 GiB"),
    (lambda s: s.glide("kick", "hat", 1e12), "at most 4 GiB"),
    (lambda s: s.grid(["kick", "hat"], seconds=1e12), "at most 4 GiB"),
    (
        lambda s: s.write("nowhere", seconds=1e12),
        r"seconds is 1e\+12: a WAV file of this model holds at most 134,218 seconds",
    ),
    (lambda s: s.write("nowhere", seconds=1e308), r"a WAV file of this model holds at most 134,218 seconds"),
    (lambda s: s.sample(n=0), f"n is 0: {COUNT} sounds, 1 to 100,000"),
    (lambda s: s.sample(n=10_000_000), f"n is 10000000: {COUNT} sounds"),
    (lambda s: s.sample(n=1.5), f"n is 1.5: {COUNT} sounds"),
    (lambda s: s.sample(n=math.nan), f"n is nan: {COUNT} sounds"),
    (lambda s: s.sample(n=True), f"n is True: {COUNT} sounds"),
    (lambda s: s.blocks(n=100_001), f"n is 100001: {COUNT} sounds"),
    (lambda s: s.write("nowhere", n=-1), f"n is -1: {COUNT} sounds"),
    (lambda s: s.latents(n=10**9), f"n is 1000000000: {COUNT} timbres"),
    (lambda s: s.write("nowhere", seconds=0), "seconds is 0"),
    (
        lambda s: s.sample(label="gong"),
        r"label is 'gong', which the model does not know: choose one of its labels \(.*kick",
    ),
    (lambda s: s.write("nowhere", label="gong"), "label is 'gong'"),
    (lambda s: s.log_prob([0.1], label="gong"), "label is 'gong'"),
    (lambda s: s.timbre("gong"), "label is 'gong'"),
    (lambda s: s.stream(label="gong"), "label is 'gong'"),
    (lambda s: s.stream(block=0), f"block is 0: {COUNT} samples, 1 to"),
    (lambda s: s.stream(block=10**9), f"block is 1000000000: {COUNT} samples"),
    (lambda s: s.sample(label="kick", timbre=s.timbre("hat")), "label is 'kick' and a timbre is given too: give one"),
    (lambda s: s.sample(timbre="kick"), "timbre is 'kick': give a Timbre, or one per sound"),
    (lambda s: s.sample(2, timbre=["kick", "hat"]), "timbre contains a str: give a Timbre"),
    (lambda s: s.sample(seed=-1), "seed is -1"),
    (lambda s: s.sample(seed=2**32), "seed is 4294967296"),
    (lambda s: s.sample(pitch=128), r"pitch is 128: it must be a MIDI number, 0 to 127"),
    (lambda s: s.sample(pitch="C4"), "pitch: values is 'C4': give a number"),
    (lambda s: s.sample(pitch=math.inf), "pitch: values is inf: give finite numbers"),
    (lambda s: s.log_prob([0.1], pitch=-1), "pitch is -1"),
    (lambda s: s.sample(temperature=0), "temperature is 0"),
    (lambda s: s.sample(top_k=0), "top_k is 0"),
    (lambda s: s.sample(top_p=1.5), "top_p is 1.5"),
    (lambda s: s.sample(implementation="cuda"), "implementation is 'cuda'"),
    (lambda s: s.log_prob([0.1], quantization="int24"), "cannot score in bins of 'int24'"),
    (lambda s: s.sample(prime=np.zeros(0)), "prime"),
    (lambda s: s.sample(prime=[0.1, math.nan]), "prime"),
    (lambda s: s.log_prob([math.inf]), "sound"),
    (lambda s: s.sample(prime="nothing.wav"), "nothing.wav"),
    (lambda s: s.morph("kick", "hat", steps=1), f"steps is 1: {COUNT} sounds, both ends included, 2 to 1,000"),
    (lambda s: s.morph("kick", "hat", steps=100_000), f"steps is 100000: {COUNT} sounds"),
    (lambda s: s.morph("kick", "gong"), r"label is 'gong', which the model does not know: .*kick"),
    (lambda s: s.morph("kick", "gong.wav"), "no such file: gong.wav; give a sound, a timbre .* or a label"),
    (lambda s: s.morph("sounds/gong", "kick"), "no such file: sounds/gong"),
    (lambda s: s.morph("kick", "gong.json"), "gong.json"),
    (lambda s: s.grid(["kick"] * 4, size=1), f"size is 1: {COUNT} sounds along each side, 2 to 64"),
    (lambda s: s.grid(["kick"] * 4, size=3_000), f"size is 3000: {COUNT} sounds"),
    (lambda s: s.grid("kick"), "corners is 'kick': give a list of 2 to 4"),
    (lambda s: s.sample(seconds=0.1, truncation=0.5), "cannot draw with truncation 0.5"),
    (lambda s: s.latency, "a model of the family 'wavenet' cannot resynthesize live sound: it can sample, score"),
    (lambda s: s.resynthesize([np.zeros(9)]), "cannot resynthesize live sound: it can sample, score samples, encode"),
    (lambda s: s.latents(), "cannot draw random timbres: its latent space contains only the labels"),
]


@pytest.mark.parametrize(("ask", "message"), WRONG, ids=[message for _, message in WRONG])
def test_errors_are_one_line_and_come_at_once(
    tiny_synth: Synth, ask: Callable, message: str, tmp_path: Path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=message) as error:
        ask(tiny_synth)
    assert "\n" not in str(error.value)
    assert not list(tmp_path.iterdir())  # nothing was begun


def test_a_model_without_pitches_and_labels_takes_none(tiny_synth: Synth):
    dataset = dataclasses.replace(tiny_synth.family.dataset, pitched=False, pitches=(), labels=(), typical=())
    family = type(tiny_synth.family)
    bare = Synth(family(family.adapt(tiny_synth.family.model, dataset), dataset), tiny_synth.params)
    with pytest.raises(UserError, match="cannot play a pitch: it was trained on sounds without pitches"):
        bare.sample(pitch=60)
    with pytest.raises(UserError, match="trained without labels"):
        bare.sample(label="kick")


@pytest.mark.parametrize(
    "ask",
    [
        lambda s: s.sample(label="kick"),
        lambda s: s.stream(label="kick"),
        lambda s: s.write("nowhere", label="kick"),
        lambda s: s.latents(label="kick"),
        lambda s: s.log_prob([0.1], label="kick"),
        lambda s: s.bits_per_sample([0.1], label="kick"),
        lambda s: s.timbre("kick"),
        lambda s: s.morph("kick", "hat"),
    ],
)
def test_a_model_without_label_conditioning_takes_no_label(tiny_synth: Synth, ask: Callable[[Synth], Any]):
    family, dataset = type(tiny_synth.family), tiny_synth.family.dataset
    model = dataclasses.replace(tiny_synth.family.model, labels=0, vector_channels=0)
    synth = Synth(family(family.adapt(model, dataset), dataset), tiny_synth.params)
    assert "kick" in synth.labels
    with pytest.raises(
        UserError, match="cannot use the label 'kick': it was made without label conditioning; leave label out, or"
    ):
        ask(synth)


# The timbres of a WaveNet are its labels' embeddings, and all points between and around them.


def test_a_glide_begins_as_one_label_and_ends_as_another(tiny_synth: Synth):
    made = tiny_synth.glide("flute", "trumpet", 0.3, pitch=60, seed=4)
    assert made.shape == (4_800,)
    alone = tiny_synth.glide("flute", "flute", 0.3, pitch=60, seed=4)
    np.testing.assert_allclose(
        alone[:64], tiny_synth.sample(1, 0.3, label="flute", pitch=60, seed=4)[0, :64], atol=STEP_16
    )
    np.testing.assert_allclose(made[:64], alone[:64], atol=0.01)  # its first frame is the flute's
    assert not np.array_equal(made, alone)


def test_an_encoded_timbre_is_likelier_than_any_label(tiny_synth: Synth, sounds: Path):
    file = sorted((sounds / "flute").glob("*_060_*.flac"))[0]
    found = tiny_synth.encode(file)
    assert found.pitch == 60
    family, params = tiny_synth.family, tiny_synth.params
    assert found.latent.shape == params["label_table"][0].shape
    samples = np.ravel(samples_of(file, "sound", RATE))

    def bits(latent: np.ndarray) -> float:
        table = np.tile(latent, (len(params["label_table"]), 1))
        return Synth(family, params | {"label_table": table}).bits_per_sample(samples[:8_192], label="flute", pitch=60)

    assert bits(found.latent) < min(bits(row) for row in params["label_table"])
    np.testing.assert_array_equal(tiny_synth.encode(file).latent, found.latent)


def test_a_path_of_another_rate_or_kind_is_refused(tiny_synth: Synth):
    point = tiny_synth.timbre("kick")
    path = dataclasses.replace(point, latent=np.tile(point.latent, (5, 1)), frame_rate=tiny_synth.family.glide_rate)
    assert tiny_synth.decode(path, 0.02, pitch=60).shape == (320,)
    with pytest.raises(
        UserError, match="the timbre has 50 frames per second, but this synth's have 250: encode it again"
    ):
        tiny_synth.decode(dataclasses.replace(path, frame_rate=50.0), 0.02)
    with pytest.raises(UserError, match="timbre mixes points and paths"):
        tiny_synth.sample(2, 0.02, timbre=[point, path])


# Conditions that are not given.


def test_labels_and_pitches_are_drawn_as_the_training_sounds_have_them(tiny_synth: Synth):
    dataset = tiny_synth.family.dataset
    pairs = {(label, None if pitch < 0 else pitch) for label, pitch in dataset.typical}
    many, few = (
        tiny_synth._renderer.conditions(200, 7, None, (), None),
        tiny_synth._renderer.conditions(3, 7, None, (), None),
    )
    rows = list(zip(many.label_indices, many.constant_pitch, strict=True))
    assert {(label, None if np.isnan(pitch) else pitch) for label, pitch in rows} <= pairs
    assert len(set(many.label_indices)) == len(dataset.labels)
    # Row i depends on (seed, i) alone.
    np.testing.assert_array_equal(few.labels, many.labels[:3])
    np.testing.assert_array_equal(few.pitch, many.pitch[:3])
    assert not np.array_equal(tiny_synth._renderer.conditions(200, 8, None, (), None).labels, many.labels)
    flutes = tiny_synth._renderer.conditions(50, 7, "flute", (), None)
    flute = dataset.labels.index("flute")
    assert set(flutes.label_indices) == {flute}
    assert set(flutes.constant_pitch) == {pitch for label, pitch in dataset.typical if label == flute}
    assert set(tiny_synth._renderer.conditions(50, 7, None, (), 60).constant_pitch) == {60.0}


def test_a_drawn_row_sounds_like_its_label_and_pitch(tiny_synth: Synth):
    conditions = tiny_synth._renderer.conditions(1, 3, None, (), None)
    pitch = conditions.constant_pitch[0]
    label = tiny_synth.labels[conditions.label_indices[0]]
    given = tiny_synth.sample(1, 0.02, seed=3, label=label, pitch=None if np.isnan(pitch) else pitch)
    if not np.isnan(pitch):
        np.testing.assert_array_equal(tiny_synth.sample(1, 0.02, seed=3), given)


@pytest.mark.parametrize("pitch", [60, 60.0, [60.0], np.float32(60), np.array([60]), jax.numpy.float32(60), Curve(60)])
def test_a_pitch_may_be_a_number_an_array_or_a_curve(tiny_synth: Synth, pitch: Any):
    conditions = tiny_synth._renderer.conditions(2, 0, "flute", (), pitch)
    np.testing.assert_array_equal(conditions.pitch, [[60.0], [60.0]])
    assert tiny_synth._renderer.conditions_of_sound("flute", pitch).constant_pitch == [60]


def test_a_pitch_of_nan_is_left_out(tiny_synth: Synth):
    drawn = tiny_synth._renderer.conditions(3, 0, None, (), None)
    np.testing.assert_array_equal(tiny_synth._renderer.conditions(3, 0, None, (), math.nan).pitch, drawn.pitch)


@pytest.mark.parametrize(
    "ask",
    [
        lambda s, pitch: s.sample(pitch=pitch),
        lambda s, pitch: s.stream(pitch=pitch),
        lambda s, pitch: s.write("nowhere", pitch=pitch),
        lambda s, pitch: s.decode(s.timbre("kick"), pitch=pitch),
        lambda s, pitch: s.morph("kick", "hat", pitch=pitch),
        lambda s, pitch: s.glide("kick", "hat", pitch=pitch),
        lambda s, pitch: s.grid(["kick", "hat"], pitch=pitch),
        lambda s, pitch: s.log_prob([0.1], pitch=pitch),
        lambda s, pitch: s.bits_per_sample([0.1], pitch=pitch),
        lambda s, pitch: s.encode(np.ones(100) / 2, pitch=pitch),
        lambda s, pitch: wavesynth.directions(s, ["kick", "hat", "flute"], pitch=pitch),
    ],
)
def test_a_curve_of_several_frames_is_refused(tiny_synth: Synth, ask: Callable[[Synth, Curve], Any]):
    with pytest.raises(UserError, match=r"^pitch is Curve\(2 frames at 10 Hz, 60 to 62\): this model plays one pitch"):
        ask(tiny_synth, Curve([60, 62], rate=10.0))
    with pytest.raises(UserError, match="pitch: values has 2 frames and rate is None"):
        ask(tiny_synth, [60, 62])  # type: ignore[arg-type]


def test_a_label_in_another_unicode_form_is_found(tiny_synth: Synth):
    labels = ("caf\u00e9", *tiny_synth.labels[1:])
    family = type(tiny_synth.family)(
        tiny_synth.family.model, dataclasses.replace(tiny_synth.family.dataset, labels=labels)
    )
    synth = Synth(family, tiny_synth.params)
    decomposed = unicodedata.normalize("NFD", labels[0])
    assert decomposed != labels[0]
    np.testing.assert_array_equal(synth.timbre(decomposed).latent, synth.timbre(labels[0]).latent)
    (end,) = synth.timbres([decomposed])
    np.testing.assert_array_equal(end.latent, synth.timbre(labels[0]).latent)
    np.testing.assert_array_equal(synth.sample(1, 0.01, label=decomposed), synth.sample(1, 0.01, label=labels[0]))


# Synths as objects.


def test_a_used_synth_can_be_pickled_and_copied(tiny_synth: Synth):
    sound = tiny_synth.sample(1, 0.01, seed=1)
    for other in (pickle.loads(pickle.dumps(tiny_synth)), copy.deepcopy(tiny_synth)):
        assert other.fingerprint == tiny_synth.fingerprint
        assert all(isinstance(leaf, np.ndarray) for leaf in jax.tree.leaves(other.params))
        np.testing.assert_array_equal(other.sample(1, 0.01, seed=1), sound)
        assert np.isfinite(other.decode(tiny_synth.timbre("kick"), 0.01)).all()


def test_num_parameters_counts_the_weights(tiny_synth: Synth):
    assert tiny_synth.num_parameters == sum(leaf.size for leaf in jax.tree.leaves(tiny_synth.params))


def test_the_options_are_those_that_blocks_takes():
    hints, parameters = get_type_hints(Renderer.blocks), inspect.signature(Renderer.blocks).parameters
    keywords = {name for name, parameter in parameters.items() if parameter.kind is parameter.KEYWORD_ONLY}
    options = get_type_hints(SampleOptions)
    assert set(options) == keywords
    for name in keywords:
        assert options[name] == hints[name], name
    extra = set(options) - set(get_type_hints(RenderOptions))
    assert extra == {"label", "timbre", "prime", "sample_rate"}
    for documented, names in ((RenderOptions, set(options) - extra), (SampleOptions, extra)):
        section = inspect.cleandoc(documented.__doc__ or "").partition("Attributes:\n")[2]
        entries = [line.strip().split(": ", 1) for line in section.splitlines() if line.strip()]
        assert {name for name, _ in entries} == names
        assert all(text for _, text in entries)


def test_the_same_options_everywhere(tiny_synth: Synth):
    """Everything that renders takes `RenderOptions`."""
    for name in ("decode", "morph", "glide", "grid"):
        signature = inspect.signature(getattr(Synth, name))
        assert "RenderOptions" in str(signature.parameters["options"].annotation), name
    for name in ("sample", "blocks", "stream", "write"):
        signature = inspect.signature(getattr(Synth, name))
        assert "SampleOptions" in str(signature.parameters["options"].annotation), name


def test_the_longest_wav_is_what_a_writer_takes():
    longest = (2**32 - 1 - 44) // 2
    check_wav(longest, 1, 1)
    with pytest.raises(UserError, match="at most 2,147,483,625 seconds"):
        check_wav(longest + 1, 1, 1)


def test_a_leading_tilde_is_the_home_folder_wherever_a_path_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert Run("~/run").config == tmp_path / "run" / "config.json"
    Timbre([1.0, 2.0], "synth").save("~/made/a.json")
    assert Timbre.load("~/made/a.json").synth == "synth"
    files.write("~/made/a.wav", np.zeros(10), 8_000)
    assert (tmp_path / "made" / "a.wav").exists()
    assert numbered("~/out", 1, force=False) == [tmp_path / "out" / "000.wav"]
    with pytest.raises(UserError, match="cannot be read as MIDI"):
        read_song("~/made/a.wav")


@pytest.mark.parametrize(
    "ask",
    [
        lambda synth: synth.sample(seconds=0.01),
        lambda synth: next(synth.stream(block=16)),
        lambda synth: synth.log_prob(np.zeros(100)),
    ],
)
def test_weights_whose_sounds_are_not_finite_are_refused(tiny_synth: Synth, ask: Callable[[Synth], Any]):
    """Finite themselves, they overflow what is computed from them."""
    huge = Synth(tiny_synth.family, jax.tree.map(lambda leaf: leaf * np.float32(1e30), tiny_synth.params))
    with pytest.raises(UserError, match="numbers that are not finite"):
        ask(huge)


@pytest.mark.parametrize(
    "option",
    [
        dict(temperature=1e308), dict(temperature=1e-308), dict(temperature=True), dict(temperature="hot"),
        dict(top_k=2.5), dict(top_k=2**31), dict(top_p="most"), dict(top_p=0),
    ],
)  # fmt: skip
def test_a_strategy_that_float32_cannot_draw_by_is_refused(tiny_synth: Synth, option: dict):
    with pytest.raises(UserError, match=f"^{next(iter(option))} is "):
        tiny_synth.sample(seconds=0.01, **option)


@pytest.mark.parametrize(
    "ask",
    [
        lambda synth: synth.sample(seconds=0.01),
        lambda synth: synth.log_prob(np.zeros(100)),
        lambda synth: synth.timbre("kick"),
        lambda synth: synth.encode(np.ones(1_000, np.float32), pitch=60),
        lambda synth: wavesynth.train("shards", "run"),
        lambda synth: wavesynth.nearest(synth, np.ones(1_000, np.float32), "shards"),
    ],
)
def test_nothing_hangs_in_a_forked_process(tiny_synth: Synth, ask: Callable[[Synth], Any], monkeypatch):
    monkeypatch.setattr("wavesynth.sampling.devices._forked", True)
    with pytest.raises(UserError, match="forked from one that had used JAX"):
        ask(tiny_synth)


def test_64_bits_are_refused_with_what_to_do(tmp_path: Path):
    with jax.enable_x64(True):
        for ask in (
            lambda: wavesynth.load("checkpoints/instruments"),
            lambda: wavesynth.train("shards", tmp_path / "run"),
        ):
            with pytest.raises(UserError, match=r"JAX_ENABLE_X64.*jax\.enable_x64\(False\)"):
                ask()
        with jax.enable_x64(False):
            assert wavesynth.load("checkpoints/instruments").sample(seconds=0.01).dtype == np.float32
