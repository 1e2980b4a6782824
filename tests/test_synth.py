"""`Synth`: what a user asks for is what they get, the same each time; what cannot be is one clear line."""

import dataclasses
import itertools
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

import wavesynth
from wavesynth import Synth, UserError
from wavesynth.audio.sounds import samples_of
from wavesynth.families import Family

RATE = 16_000
STEP = 1 / 32_768
EPS = float(np.finfo(np.float32).eps)


@pytest.fixture(scope="module")
def tone() -> np.ndarray:
    """A quarter of a second of A4, float32 [T]."""
    return (0.5 * np.sin(2 * np.pi * 440 * np.arange(4_000) / RATE)).astype(np.float32)


# Sampling.


def test_bfloat16_weights_make_other_samples(tiny_synth: Synth):
    exact, rounded = (tiny_synth.sample(seconds=0.1, label="kick", dtype=dtype) for dtype in ("float32", "bfloat16"))
    np.testing.assert_array_equal(exact, tiny_synth.sample(seconds=0.1, label="kick"))
    assert np.isfinite(rounded).all()
    assert not np.array_equal(exact, rounded)


def test_a_dtype_that_is_not_one_is_named(tiny_synth: Synth):
    with pytest.raises(UserError, match="dtype is 'int8': choose one of float32, bfloat16"):
        tiny_synth.sample(seconds=0.1, dtype="int8")


@pytest.mark.parametrize("pitch", [12, 24.5, 127])
def test_pitches_beyond_those_that_were_learned(tiny_synth: Synth, pitch: float):
    with pytest.warns(UserWarning, match=f"pitch is {pitch:g}, and the sounds that were learned go from 48 to 72"):
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
    np.testing.assert_allclose(alone[0], among[0], atol=STEP)
    longer = tiny_synth.sample(1, 0.2, seed=5)
    np.testing.assert_array_equal(longer[:, :32], alone)


@pytest.mark.parametrize(
    "wish", [dict(label="kick"), dict(pitch=50), dict(temperature=0.3), dict(top_k=1), dict(top_p=0.2)]
)
def test_every_wish_is_heard(tiny_synth: Synth, wish: dict):
    assert not np.array_equal(tiny_synth.sample(seconds=0.02, **wish), tiny_synth.sample(seconds=0.02))


def test_a_prime_is_gone_on_from(tiny_synth: Synth, tone: np.ndarray):
    # Its past is all that a first sample goes by: after a trough of the tone it lies in the trough, else near silence.
    trough = tone[:3_991]
    assert trough[-1] < -0.4
    primed = tiny_synth.sample(seconds=0.01, prime=trough, temperature=0.01)[0]
    plain = tiny_synth.sample(seconds=0.01, temperature=0.01)[0]
    assert primed.shape == (160,)  # the prime is not repeated
    assert abs(primed[0] - tone[3_991]) < 0.1
    assert abs(plain[0]) < 0.1


@pytest.mark.parametrize("rate", [8_000, 16_000, 44_100])
@pytest.mark.parametrize("channels", [1, 2])
def test_a_prime_of_any_file(tiny_synth: Synth, tmp_path: Path, rate: int, channels: int, tone: np.ndarray):
    wave = 0.5 * np.sin(2 * np.pi * 440 * np.arange(rate // 4) / rate)
    soundfile.write(tmp_path / "prime.wav", np.stack([wave] * channels, axis=1), rate, subtype="FLOAT")
    taken = samples_of(tmp_path / "prime.wav", "prime", RATE)[0]
    assert len(taken) == pytest.approx(4_000, abs=1)
    np.testing.assert_allclose(taken[500:3_500], tone[500:3_500], atol=1e-3)  # resampled, not replayed at another speed
    requested = tiny_synth.sample(seconds=0.005, prime=str(tmp_path / "prime.wav"))
    np.testing.assert_array_equal(requested, tiny_synth.sample(seconds=0.005, prime=taken))


@pytest.mark.parametrize("block", [1, 100, 1_024, 1_500])
def test_a_stream_is_a_sample_in_blocks(tiny_synth: Synth, block: int):
    whole = tiny_synth.sample(1, 0.2, seed=2, label="hat")[0]
    count = 3_200 // block if block > 1 else 50
    blocks = list(itertools.islice(tiny_synth.stream(seed=2, block=block, label="hat"), count))
    assert {len(part) for part in blocks} == {block}
    np.testing.assert_array_equal(np.concatenate(blocks), whole[: block * count])


# Writing.


def test_what_is_written_is_what_is_sampled(tiny_synth: Synth, tmp_path: Path):
    paths = tiny_synth.write(tmp_path / "a" / "b", n=2, seconds=0.1, seed=1, label="kick")
    assert [path.name for path in paths] == ["000.wav", "001.wav"]
    for path, sound in zip(paths, tiny_synth.sample(2, 0.1, seed=1, label="kick"), strict=True):
        pcm, rate = soundfile.read(path, dtype="int16")
        assert rate == RATE
        np.testing.assert_array_equal(pcm, np.clip(np.rint(sound * 32_768), -32_768, 32_767))
    assert sorted(path.name for path in (tmp_path / "a" / "b").iterdir()) == ["000.wav", "001.wav"]


def test_nothing_is_overwritten_unasked(tiny_synth: Synth, tmp_path: Path):
    (tmp_path / "001.wav").write_bytes(b"mine")
    with pytest.raises(UserError, match=r"001.wav is there already: choose another name, or overwrite it by --force"):
        tiny_synth.write(tmp_path, n=2, seconds=0.01)
    assert [path.name for path in tmp_path.iterdir()] == ["001.wav"]
    assert (tmp_path / "001.wav").read_bytes() == b"mine"
    tiny_synth.write(tmp_path, n=2, seconds=0.01, force=True)
    assert soundfile.info(tmp_path / "001.wav").frames == 160
    with pytest.raises(UserError, match=r"001.wav is a file: name a folder"):
        tiny_synth.write(tmp_path / "001.wav", seconds=0.01)


class Endless(Family):
    """A family whose sampler counts what is asked of it, and holds one block at a time."""

    name = "endless"

    def __init__(self, family: Family) -> None:
        super().__init__(family.model, family.dataset)

    made: int = 0
    stop_at: float = math.inf

    def stream(self, params: Any, request: Any) -> Iterator[np.ndarray]:
        while True:
            Endless.made += 1
            if Endless.made > self.stop_at:
                raise KeyboardInterrupt
            yield np.full((request.n, 1_024), 0.25, np.float32)

    adapt = context = init = shapes = objective = baselines = None  # type: ignore[assignment]


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


def test_what_is_likely_scores_lower(tiny_synth: Synth, tone: np.ndarray):
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, 4_000).astype(np.float32)
    silent = np.zeros(4_000, np.float32)
    scores = [tiny_synth.bits_per_sample(sound) for sound in (silent, tone, noise)]
    assert scores == sorted(scores)
    assert scores[2] > scores[1] + 1
    # No model knows uniform noise better than log2 of its range; this one, hardly trained, is no better than it should be.
    assert scores[2] > math.log2(32_768) - 0.1
    assert all(score > 0 for score in scores)


def test_scoring_a_file_is_scoring_its_samples(tiny_synth: Synth, tone: np.ndarray, tmp_path: Path):
    soundfile.write(tmp_path / "tone.wav", tone, RATE, subtype="FLOAT")
    assert tiny_synth.bits_per_sample(tmp_path / "tone.wav") == tiny_synth.bits_per_sample(tone)


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
    gain = np.sqrt(np.mean(steps[0] ** 2) * np.mean(steps[2] ** 2)) ** 0.5 / np.sqrt(
        np.mean(middle**2)
    )  # half way in dB
    np.testing.assert_allclose(steps[1], middle * gain, atol=1e-5)


def test_a_timbre_of_another_synth_is_refused(tiny_synth: Synth):
    changed = dict(tiny_synth.params)
    changed["out_bias"] = changed["out_bias"] + 1
    other = Synth(tiny_synth.family, changed)
    assert other.fingerprint != tiny_synth.fingerprint
    with pytest.raises(
        UserError, match=f"the timbre belongs to synth {other.fingerprint}, this is {tiny_synth.fingerprint}"
    ):
        tiny_synth.sample(timbre=other.timbre("kick"))
    with pytest.raises(UserError, match="encode both with one synth"):
        tiny_synth.timbre("kick") + other.timbre("kick")


# What cannot be.

WRONG: list[tuple[Callable[[Synth], Any], str]] = [
    (lambda s: s.sample(seconds=0), "seconds is 0: it must be above 0"),
    (lambda s: s.sample(seconds=-1.0), "seconds is -1.0: it must be above 0"),
    (lambda s: s.sample(seconds=math.nan), "seconds is nan: it must be above 0"),
    (lambda s: s.sample(seconds=math.inf), "seconds is inf: an endless sound does not fit into memory"),
    (lambda s: s.sample(n=0), "n is 0: ask for at least 1 sound"),
    (lambda s: s.write("nowhere", n=-1), "n is -1: ask for at least 1 sound"),
    (lambda s: s.write("nowhere", seconds=0), "seconds is 0"),
    (
        lambda s: s.sample(label="gong"),
        r"label is 'gong', which the model does not know: choose one of its labels \(.*kick",
    ),
    (lambda s: s.write("nowhere", label="gong"), "label is 'gong'"),
    (lambda s: s.log_prob([0.1], label="gong"), "label is 'gong'"),
    (lambda s: s.timbre("gong"), "label is 'gong'"),
    (lambda s: s.stream(label="gong"), "label is 'gong'"),
    (lambda s: s.stream(block=0), "block is 0: it must be at least 1 sample"),
    (lambda s: s.sample(label="kick", timbre=s.timbre("hat")), "label is 'kick' and a timbre is given too: give one"),
    (lambda s: s.sample(seed=-1), "seed is -1: it must lie between 0 and 4294967295"),
    (lambda s: s.sample(seed=2**32), "seed is 4294967296"),
    (lambda s: s.sample(pitch=128), r"pitch is 128: it must be a MIDI number, 0 to 127"),
    (lambda s: s.sample(pitch=math.nan), "pitch is nan"),
    (lambda s: s.log_prob([0.1], pitch=-1), "pitch is -1"),
    (lambda s: s.sample(temperature=0), "temperature is 0"),
    (lambda s: s.sample(top_k=0), "top_k is 0"),
    (lambda s: s.sample(top_p=1.5), "top_p is 1.5"),
    (lambda s: s.sample(implementation="cuda"), "implementation is 'cuda'"),
    (lambda s: s.log_prob([0.1], quantization="int24"), "cannot score in bins of 'int24'"),
    (lambda s: s.sample(prime=np.zeros((2, 100))), r"prime has the shape \(2, 100\): give one sound as samples \[T\]"),
    (lambda s: s.sample(prime=np.zeros(0)), r"prime has the shape \(0,\)"),
    (lambda s: s.sample(prime=[0.1, math.nan]), "prime holds values that are not finite"),
    (lambda s: s.sample(prime=[0.1, -2.0]), r"prime reaches 2: scale it into \[-1, 1\]"),
    (lambda s: s.log_prob([math.inf]), "samples holds values that are not finite"),
    (lambda s: s.log_prob(np.int16([3_000])), "samples reaches 3e\\+03: scale it"),
    (lambda s: s.sample(prime="nothing.wav"), "nothing.wav cannot be read"),
    (lambda s: s.morph("kick", "hat", steps=1), "steps is 1: a morph has at least its two ends"),
    (lambda s: s.morph("kick", "gong"), "label is 'gong'"),
]


@pytest.mark.parametrize(("ask", "message"), WRONG, ids=[message for _, message in WRONG])
def test_what_cannot_be_is_said_at_once(tiny_synth: Synth, ask: Callable, message: str, tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=message) as error:
        ask(tiny_synth)
    assert "\n" not in str(error.value)
    assert not list(tmp_path.iterdir())  # nothing is begun


def test_what_the_family_cannot_do(tiny_synth: Synth):
    dataset = dataclasses.replace(tiny_synth.family.dataset, pitched=False, labels=())
    family = type(tiny_synth.family)
    bare = Synth(family(family.adapt(tiny_synth.family.model, dataset), dataset), tiny_synth.params)
    with pytest.raises(UserError, match="cannot play a pitch: it was trained on sounds without pitches"):
        bare.sample(pitch=60)
    with pytest.raises(UserError, match="trained without labels"):
        bare.sample(label="kick")


# A WaveNet's timbres are its labels' embeddings, and what lies between and around them.


def test_a_glide_begins_as_one_label_and_ends_as_another(tiny_synth: Synth):
    made = tiny_synth.glide("flute", "trumpet", 0.3, pitch=60, seed=4)
    assert made.shape == (4_800,)
    alone = tiny_synth.glide("flute", "flute", 0.3, pitch=60, seed=4)
    np.testing.assert_allclose(
        alone[:64], tiny_synth.sample(1, 0.3, label="flute", pitch=60, seed=4)[0, :64], atol=STEP
    )
    np.testing.assert_allclose(made[:64], alone[:64], atol=0.01)  # its first frame is the flute's
    assert not np.array_equal(made, alone)


def test_what_is_encoded_is_likelier_than_any_label(tiny_synth: Synth, sounds: Path):
    file = sorted((sounds / "flute").glob("*_060_*.flac"))[0]
    found = tiny_synth.encode(file)
    assert found.pitch == 60
    family, params = tiny_synth.family, tiny_synth.params
    assert found.latent.shape == params["label_table"][0].shape
    samples = samples_of(file, "sound", RATE)[0]

    def bits(latent: np.ndarray) -> float:
        table = np.tile(latent, (len(params["label_table"]), 1))
        return Synth(family, params | {"label_table": table}).bits_per_sample(samples[:8_192], label="flute", pitch=60)

    assert bits(found.latent) < min(bits(row) for row in params["label_table"])
    np.testing.assert_array_equal(tiny_synth.encode(file).latent, found.latent)
