"""Songs: every note is where, as long, as loud and as high as the file says; nothing clips or clicks."""

import dataclasses
import math
import time
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import mido
import numpy as np
import pytest
import soundfile

import wavesynth
from wavesynth import Synth, Timbre, UserError, song
from wavesynth.audio.files import WavWriter
from wavesynth.conditions import Conditions
from wavesynth.config import DatasetInfo
from wavesynth.families import Family, Request

RATE = 8_000
STEP = 1 / 32_768
EPS = float(np.finfo(np.float32).eps)
FADE = round(song.RELEASE * RATE)


class Tones(Family):
    """A sine of the pitch; its amplitude is the timbre, or 0.5. `asked` has (conditions, request) of every sound."""

    name = "tones"
    autoregressive: ClassVar[bool] = False
    reconstructs: ClassVar[bool] = False
    frame_rate: ClassVar[None] = None
    glide_rate: ClassVar[None] = None
    latent_channels: ClassVar[int] = 1
    length: ClassVar[int | None] = None

    def __init__(self, dataset: DatasetInfo) -> None:
        super().__init__(None, dataset)
        self.asked: list[tuple[Conditions, Request]] = []

    def generate(self, params: Any, conditions: Conditions, request: Request) -> Iterator[np.ndarray]:
        self.asked.append((conditions, request))
        amplitude = 0.5 if request.latents is None else float(np.ravel(request.latents)[0])
        pitch = float(conditions.constant_pitch[0])
        for begin in range(0, 10**9, 1_024):
            yield np.tile(amplitude * self.wave(pitch, begin + np.arange(1_024)), (conditions.batch, 1, 1))

    def wave(self, pitch: float, samples: np.ndarray) -> np.ndarray:
        return np.sin(2 * np.pi * hertz(pitch) / RATE * samples).astype(np.float32)

    def between(self, a: np.ndarray, b: np.ndarray, t: float) -> np.ndarray:
        return a + np.float32(t) * (b - a)

    def unused(self, *_: Any) -> Any:
        raise AssertionError("a song encodes and draws no timbres")

    encode = latent_of = draw = unused
    adapt = init = shapes = objective = baselines = None  # type: ignore[assignment]


class Full(Tones):
    """The loudest that a sound can be, at every sample: 1."""

    def wave(self, pitch: float, samples: np.ndarray) -> np.ndarray:
        return np.full(len(samples), 2.0, np.float32)


class Short(Tones):
    """A model whose sounds last 0.2 seconds."""

    length: ClassVar[int | None] = 1_600


def hertz(pitch: float) -> float:
    return 440 * 2 ** ((pitch - 69) / 12)


def made(family: type[Tones], **dataset: Any) -> Synth:
    known = dict(sample_rate=RATE, labels=("flute", "cello"), pitched=True, pitches=(0, 127))
    return Synth(family(DatasetInfo(**known | dataset)), {"weights": np.zeros(1)})


@pytest.fixture
def tones() -> Synth:
    return made(Tones)


Line = tuple[float, float, int, int]  # start and end in seconds, pitch, velocity


def midi(path: Path, *notes: Line, channel: int = 1) -> Path:
    """A file of these notes, a tick a millisecond."""
    events = []
    for start, end, pitch, velocity in notes:
        on = mido.Message("note_on", note=pitch, velocity=velocity, channel=channel - 1)
        off = mido.Message("note_off", note=pitch, channel=channel - 1)
        events += [(start, 1, on), (end, 2 if start == end else 0, off)]  # at one time: ends, then beginnings
    track, now = mido.MidiTrack(), 0
    for second, _, message in sorted(events, key=lambda event: event[:2]):
        tick = round(second * 1_000)
        track.append(message.copy(time=tick - now))
        now = tick
    mido.MidiFile(ticks_per_beat=500, tracks=[track]).save(path)
    return path


@pytest.fixture
def play(tmp_path: Path) -> Callable[..., np.ndarray]:
    """play(synth, *notes, **options) renders notes at their own level; returns the samples that were written."""

    def play(synth: Synth, *notes: Line, **options: Any) -> np.ndarray:
        path = midi(tmp_path / "played.mid", *notes)
        options = {"normalize": False} | options
        rendering = wavesynth.render(path, tmp_path / "played.wav", synth, force=True, **options)
        samples, rate = soundfile.read(tmp_path / "played.wav", dtype="float32")
        assert rate == RATE
        assert rendering.notes == len(notes)
        assert rendering.seconds == len(samples) / RATE
        assert rendering.peak == pytest.approx(np.abs(samples).max(), abs=STEP)
        return samples

    return play


def expected(*notes: Line, amplitude: float = 0.5) -> np.ndarray:
    """The sum of sines that `Tones` makes of notes, in float64."""
    mix = np.zeros(round(max(end for _, end, _, _ in notes) * RATE) + FADE)
    for start, end, pitch, velocity in notes:
        held = round((end - start) * RATE)
        envelope = np.concatenate([np.ones(held), 0.5 + 0.5 * np.cos(np.pi * np.arange(FADE) / FADE)])
        tone = np.sin(2 * np.pi * hertz(pitch) / RATE * np.arange(held + FADE))
        begin = round(start * RATE)
        mix[begin : begin + held + FADE] += amplitude * (velocity / 127) ** 2 * envelope * tone
    return mix


# What is rendered.


def test_a_note_where_it_stands_with_its_release(tones: Synth, play):
    notes = (0.25, 0.75, 69, 127)
    samples = play(tones, notes)
    assert len(samples) == 6_000 + FADE
    assert not samples[:2_000].any()
    np.testing.assert_allclose(samples, expected(notes), atol=STEP)


def test_a_chord_and_a_run_are_the_sum_of_their_notes(tones: Synth, play):
    notes = [(0.0, 0.5, 60, 70), (0.0, 0.3, 64, 60), (0.1, 0.2, 67, 50), (0.2, 0.6, 60, 40), (0.7, 0.7, 72, 90)]
    np.testing.assert_allclose(play(tones, *notes), expected(*notes), atol=2 * STEP)


@pytest.mark.parametrize("pitch", [36, 60, 81])
def test_pitches(tones: Synth, play, pitch: int):
    samples = play(tones, (0.0, 1.0, pitch, 100))[:RATE]
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(RATE)))
    assert abs(int(spectrum.argmax()) - hertz(pitch)) <= 0.5 + 1e-6  # a bin is a hertz


def test_velocity_is_general_midis_level(tones: Synth, play):
    samples = play(
        tones, *((0.5 * index, 0.5 * index + 0.4, 69, velocity) for index, velocity in enumerate((127, 64, 20)))
    )
    peaks = [np.abs(samples[4_000 * index : 4_000 * index + 3_200]).max() for index in range(3)]
    for peak, velocity in zip(peaks[1:], (64, 20), strict=True):
        assert 20 * math.log10(peak / peaks[0]) == pytest.approx(40 * math.log10(velocity / 127), abs=0.05)


def test_volume_is_level_too(tones: Synth, tmp_path: Path):
    path, track = tmp_path / "song.mid", mido.MidiTrack()
    for volume in (100, 50):
        track.append(mido.Message("control_change", control=7, value=volume, time=0))
        track += [mido.Message("note_on", note=69, velocity=127), mido.Message("note_off", note=69, time=400)]
        track.append(mido.Message("note_off", note=69, time=100))
    mido.MidiFile(ticks_per_beat=500, tracks=[track]).save(path)
    wavesynth.render(path, tmp_path / "song.wav", tones)
    samples, _ = soundfile.read(tmp_path / "song.wav")
    first, second = (np.abs(samples[begin : begin + 3_200]).max() for begin in (0, 4_000))
    assert 20 * math.log10(second / first) == pytest.approx(40 * math.log10(0.5), abs=0.05)


def test_the_release_is_smooth(play):
    # A constant shows the envelope itself: no step in it is larger than a raised cosine's steepest.
    samples = play(made(Full), (0.0, 0.2, 60, 127), (0.5, 0.5, 60, 127))
    steepest = math.pi / (2 * FADE) + STEP
    assert -np.diff(samples[:4_000]).min() <= steepest
    assert -np.diff(samples[4_000:]).min() <= steepest  # a note of no length is its release alone
    assert samples[-1] <= steepest


# The level.


@pytest.mark.parametrize("velocity", [127, 20, 1])
def test_a_song_peaks_1_db_below_full_scale(tones: Synth, play, velocity: int):
    notes = [(0.0, 0.5, 60, velocity), (0.1, 0.5, 64, velocity), (0.2, 0.5, 67, velocity)]
    samples = play(tones, *notes, normalize=True)
    assert np.abs(samples).max() == pytest.approx(10 ** (-1 / 20), abs=STEP)
    exact = expected(*notes)
    np.testing.assert_allclose(samples, exact * song.PEAK / np.abs(exact).max(), atol=2 * STEP)


def test_without_normalization_only_a_mix_that_would_clip_is_scaled(play, tmp_path: Path):
    def gain(*notes: Line) -> float:
        samples = play(made(Full), *notes)
        path, out = tmp_path / "played.mid", tmp_path / "again.wav"
        rendering = wavesynth.render(path, out, made(Full), force=True, normalize=False)
        assert samples.max() == pytest.approx(rendering.peak, abs=STEP)
        if rendering.gain < 1:
            assert rendering.peak == pytest.approx(1.0, abs=4 * EPS)
        return rendering.gain

    assert gain((0.0, 0.5, 60, 127)) == 1
    assert gain((0.0, 0.5, 60, 127), (0.6, 1.0, 60, 127)) == 1
    assert gain((0.0, 0.5, 60, 127), (0.0, 0.5, 64, 127), (0.2, 0.3, 67, 127)) == pytest.approx(1 / 3)
    assert gain((0.0, 0.5, 60, 127), (0.525, 1.0, 64, 127)) == pytest.approx(1 / 1.5)  # in the middle of the release
    assert gain((0.0, 0.5, 60, 64), (0.0, 0.5, 64, 64)) == 1


def test_a_silent_song_is_said_to_be_silent(tones: Synth, tmp_path: Path):
    volume = mido.Message("control_change", control=7, value=0)
    notes = [mido.Message("note_on", note=69, velocity=127), mido.Message("note_off", note=69, time=400)]
    path, out = tmp_path / "song.mid", tmp_path / "song.wav"
    mido.MidiFile(ticks_per_beat=500, tracks=[mido.MidiTrack([volume, *notes])]).save(path)
    with pytest.warns(UserWarning, match="the song is silent: the volume of its channels is 0"):
        rendering = wavesynth.render(path, out, tones)
    assert (rendering.gain, rendering.peak, rendering.seconds) == (1.0, 0.0, 0.45)
    assert not tones.family.asked
    mido.MidiFile(ticks_per_beat=500, tracks=[mido.MidiTrack(notes)]).save(path)
    with pytest.warns(UserWarning, match="the song is silent, because the synth renders its notes as silence"):
        wavesynth.render(path, out, tones, timbre=timbre(tones, 0.0), force=True)


# Songs that are too much.


def test_a_late_song_begins_at_its_first_note(tones: Synth, tmp_path: Path):
    path = midi(tmp_path / "song.mid", (100_000.0, 100_000.5, 60, 127), (100_001.0, 100_001.5, 62, 127))
    with pytest.warns(UserWarning, match="the first note comes after 100,000 s of silence, which is left out"):
        rendering = wavesynth.render(path, tmp_path / "song.wav", tones, normalize=False)
    assert rendering.seconds == 1.5 + song.RELEASE
    samples, _ = soundfile.read(tmp_path / "song.wav")
    np.testing.assert_allclose(samples, expected((0.0, 0.5, 60, 127), (1.0, 1.5, 62, 127)), atol=STEP)


def test_a_song_that_does_not_fit_a_wav_is_refused_at_once(tones: Synth, tmp_path: Path):
    path = midi(tmp_path / "song.mid", *((start, start + 0.5, 60, 127) for start in (0.0, 140e3, 280e3)))
    with pytest.raises(UserError, match=r"song.wav: a WAV holds at most 4 GiB, 74.6 hours at 8,000 Hz, and 77.8"):
        wavesynth.render(path, tmp_path / "song.wav", tones)
    assert not tones.family.asked
    assert [file.name for file in tmp_path.iterdir()] == ["song.mid"]


def test_more_notes_than_voices(tones: Synth, play, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(song, "VOICES", 2)
    notes = [(0.1 * index, 1.0, 60 + index, 60) for index in range(4)]
    with pytest.warns(UserWarning, match="notes ended early because more than 2 would sound at once: 2"):
        samples = play(tones, *notes)
    ended = [(0.0, 0.2, 60, 60), (0.1, 0.3, 61, 60), *notes[2:]]
    np.testing.assert_allclose(samples, expected(*ended), atol=2 * STEP)


def test_ten_thousand_notes_under_one_pedal(tones: Synth, tmp_path: Path):
    count, track = 10_752, mido.MidiTrack([mido.Message("control_change", control=64, value=127)])
    for index in range(count):
        track += [mido.Message("note_on", note=20 + index % 96, velocity=60)]
        track += [mido.Message("note_off", note=20 + index % 96, time=50)]
    mido.MidiFile(ticks_per_beat=500, tracks=[track]).save(tmp_path / "song.mid")
    began = time.process_time()
    rendering = wavesynth.render(tmp_path / "song.mid", tmp_path / "song.wav", tones)
    assert time.process_time() - began < 30  # linear in the notes: a few seconds
    assert rendering.notes == count
    assert rendering.peak == pytest.approx(song.PEAK)
    assert len(tones.family.asked) == 96  # one sound for each pitch


# The timbre.


def timbre(synth: Synth, amplitude: float) -> Timbre:
    return Timbre(np.array([amplitude], np.float32), synth.fingerprint)


def test_a_timbre(tones: Synth, play):
    note = (0.0, 0.3, 69, 127)
    np.testing.assert_allclose(play(tones, note, timbre=timbre(tones, 0.9)), expected(note, amplitude=0.9), atol=STEP)


def test_a_glide_moves_from_note_to_note(tones: Synth, play):
    # Four notes of a second: they begin at 0, 1/4, 1/2 and 3/4 of the song.
    notes = [(float(index), float(index + 1), 60 + 3 * index, 80) for index in range(4)]
    samples = play(tones, *notes, timbre=timbre(tones, 0.2), glide=timbre(tones, 0.6))
    parts = [expected(note, amplitude=0.2 + 0.1 * index) for index, note in enumerate(notes)]
    mix = sum(np.pad(part, (0, len(samples) - len(part))) for part in parts)
    np.testing.assert_allclose(samples, mix, atol=2 * STEP)


def test_label_and_seed_reach_the_synth(tones: Synth, play):
    play(tones, (0.0, 0.1, 60, 127), (0.2, 0.3, 62, 127), label="cello", seed=7)
    found = [(*asked.label_indices, request.seed, *asked.constant_pitch) for asked, request in tones.family.asked]
    assert found == [(1, 7, 60), (1, 7, 62)]


def test_sounds_are_made_once(tones: Synth, play):
    notes = [(0.1 * index, 0.1 * index + 0.08 + 0.001 * (index % 3), 60 + index % 2, 80) for index in range(40)]
    np.testing.assert_allclose(play(tones, *notes), expected(*notes), atol=2 * STEP)
    assert len(tones.family.asked) == 2  # one for each pitch


def test_channels_are_chosen(tones: Synth, tmp_path: Path):
    path = midi(tmp_path / "song.mid", (0.0, 0.1, 40, 100), channel=10)
    with pytest.raises(UserError, match="only has notes on channel 10, the drums"):
        wavesynth.render(path, tmp_path / "song.wav", tones)
    assert wavesynth.render(path, tmp_path / "song.wav", tones, channels=[10]).notes == 1


def test_notes_longer_than_the_sounds_end_with_them(play):
    short = made(Short)
    with pytest.warns(UserWarning, match=r"played.mid: notes cut to 0.2 s, the longest possible: 1"):
        samples = play(short, (0.0, 0.5, 69, 127), (0.6, 0.7, 69, 127))
    whole = expected((0.0, 0.15, 69, 127), (0.6, 0.7, 69, 127))  # with its release the first one lasts 0.2 s
    np.testing.assert_allclose(samples, whole, atol=STEP)


def test_notes_outside_the_training_sounds_are_warned_of_once(tmp_path: Path):
    path = midi(tmp_path / "song.mid", *((0.1 * index, 0.1 * index + 0.1, 55 + 2 * index, 80) for index in range(5)))
    says = "notes outside the pitches of the training sounds, 57 to 60: 3; quality drops there"
    with pytest.warns(UserWarning, match=says) as caught:
        wavesynth.render(path, tmp_path / "song.wav", made(Tones, pitches=(57, 60)))
    assert len(caught) == 1


# The file.


def test_memory_does_not_grow_with_the_song(tones: Synth, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(song, "KEPT_BYTES", 20 * RATE * 4)
    ends = dict(timbre=timbre(tones, 0.1), glide=timbre(tones, 0.2))  # every note is a sound of its own

    def peak(count: int) -> int:
        path = midi(
            tmp_path / "song.mid", *((4.0 * index, 4.0 * index + 5, 60 + index % 3, 90) for index in range(count))
        )
        tracemalloc.start()
        try:
            wavesynth.render(path, tmp_path / "song.wav", tones, force=True, **ends)
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    peak(2)  # what is imported and cached at first
    few, many = peak(10), peak(60)
    assert many - few < 0.05 * 50 * 4 * RATE * 4  # of what the samples between take as float32


def test_silence_is_written_in_blocks(tones: Synth, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    blocks: list[int] = []
    append = WavWriter.append
    monkeypatch.setattr(WavWriter, "append", lambda wav, block: (blocks.append(block.shape[-1]), append(wav, block)))
    path = midi(tmp_path / "song.mid", (0.0, 0.1, 60, 90), (60.0, 60.1, 60, 90))
    wavesynth.render(path, tmp_path / "song.wav", tones)
    assert sum(blocks) == round(60.1 * RATE) + FADE
    assert max(blocks) == song.BLOCK


def test_an_interrupt_leaves_what_was_made(tones: Synth, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    generate = Tones.generate

    def stopped(family: Tones, params: Any, conditions: Conditions, request: Request) -> Iterator[np.ndarray]:
        if conditions.constant_pitch[0] == 62:
            raise KeyboardInterrupt
        return generate(family, params, conditions, request)

    monkeypatch.setattr(Tones, "generate", stopped)
    notes = [(0.0, 0.4, 60, 127), (0.5, 0.9, 61, 127), (1.0, 1.4, 62, 127)]
    path = midi(tmp_path / "song.mid", *notes)
    with pytest.raises(KeyboardInterrupt):
        wavesynth.render(path, tmp_path / "song.wav", tones, normalize=False)
    samples, _ = soundfile.read(tmp_path / "song.wav")
    np.testing.assert_allclose(samples, expected(*notes)[:8_000], atol=STEP)  # up to the note that was interrupted
    assert sorted(file.name for file in tmp_path.iterdir()) == ["song.mid", "song.wav"]


def test_nothing_is_overwritten_unasked(tones: Synth, tmp_path: Path):
    path = midi(tmp_path / "song.mid", (0.0, 0.1, 60, 90))
    (tmp_path / "song.wav").write_bytes(b"mine")
    with pytest.raises(UserError, match=r"song\.wav exists"):
        wavesynth.render(path, tmp_path / "song.wav", tones)
    assert (tmp_path / "song.wav").read_bytes() == b"mine"
    assert not tones.family.asked
    wavesynth.render(path, tmp_path / "song.wav", tones, force=True)
    assert soundfile.info(tmp_path / "song.wav").frames == 800 + FADE


def test_the_report_reads_well(tones: Synth, tmp_path: Path):
    path = midi(tmp_path / "song.mid", (0.0, 0.95, 69, 127), (0.0, 0.95, 69, 127))
    rendering = wavesynth.render(path, tmp_path / "song.wav", tones)
    assert str(rendering) == f"wrote {tmp_path / 'song.wav'}: 2 notes, 1.0 s, gain -1.0 dB, peak -1.0 dBFS"


WRONG: list[tuple[Callable[[Synth], dict], str]] = [
    (lambda s: dict(label="gong"), r"label is 'gong', which the model does not know"),
    (lambda s: dict(glide=timbre(s, 0.1)), "glide is given without timbre"),
    (lambda s: dict(label="flute", timbre=timbre(s, 0.1)), "label is 'flute' and a timbre is given too"),
    (lambda s: dict(timbre=Timbre(np.ones(1, np.float32), "another")), "the timbre belongs to synth another"),
    (
        lambda s: dict(timbre=timbre(s, 0.1), glide=Timbre(np.ones(1, np.float32), "another")),
        "the timbre belongs to synth another",
    ),
    (lambda s: dict(seed=-1), "seed is -1"),
    (lambda s: dict(channels=[17]), "channels has 17"),
]


@pytest.mark.parametrize(("options", "message"), WRONG, ids=[message for _, message in WRONG])
def test_what_cannot_be_is_said_before_anything_is_written(tones: Synth, tmp_path: Path, options, message: str):
    path = midi(tmp_path / "song.mid", (3.0, 3.1, 60, 90))
    with pytest.raises(UserError, match=message):
        wavesynth.render(path, tmp_path / "song.wav", tones, **options(tones))
    assert [file.name for file in tmp_path.iterdir()] == ["song.mid"]


def test_a_synth_without_pitches_is_named(tmp_path: Path):
    path = midi(tmp_path / "song.mid", (0.0, 0.1, 60, 90))
    with pytest.raises(
        UserError, match="family 'tones' cannot render a song: it was trained on sounds without pitches"
    ):
        wavesynth.render(path, tmp_path / "song.wav", made(Tones, pitched=False))


# With a model, and from the command line.


def test_the_command_does_what_the_function_does(tiny_run: Path, tiny_synth: Synth, tmp_path: Path, start):
    path = midi(tmp_path / "song.mid", (0.0, 0.03, 60, 127), (0.02, 0.06, 67, 90))
    child = start("render", path, tmp_path / "a.wav", "--synth", tiny_run, "--label", "flute", "--seed", 3)
    assert child.status == 0, child.stderr
    rendering = wavesynth.render(path, tmp_path / "b.wav", tiny_synth, label="flute", seed=3)
    assert child.stdout.strip() == str(dataclasses.replace(rendering, path=tmp_path / "a.wav"))
    samples = [soundfile.read(tmp_path / name, dtype="int16")[0] for name in ("a.wav", "b.wav")]
    assert len(samples[0]) == round((0.06 + song.RELEASE) * tiny_synth.sample_rate)
    np.testing.assert_array_equal(*samples)
    assert samples[0].any()
    child = start("render", path, tmp_path / "a.wav", "--synth", tiny_run)
    assert child.status == 2
    assert child.stderr.startswith("wavesynth render: ")
    assert "a.wav exists: give another name, or --force" in child.stderr


def test_the_command_takes_timbres(tiny_run: Path, tiny_synth: Synth, tmp_path: Path, start):
    path = midi(tmp_path / "song.mid", (0.0, 0.02, 60, 127), (0.02, 0.04, 60, 127))
    ends = {name: tiny_synth.timbre(label) for name, label in (("timbre", "flute"), ("glide", "trumpet"))}
    for name, end in ends.items():
        end.save(tmp_path / f"{name}.json")
    child = start(
        "render", path, tmp_path / "a.wav", "--synth", tiny_run, "--channels", 1, 2,
        *(word for name in ends for word in (f"--{name}", tmp_path / f"{name}.json")),
    )  # fmt: skip
    assert child.status == 0, child.stderr
    wavesynth.render(path, tmp_path / "b.wav", tiny_synth, **ends)
    samples = [soundfile.read(tmp_path / name, dtype="int16")[0] for name in ("a.wav", "b.wav")]
    np.testing.assert_array_equal(*samples)
