"""How `Synth` handles timbres that are paths, with a family whose output is known: its codes are levels."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import soundfile

import wavesynth
from tests.tolerances import assert_close
from wavesynth import Synth, Timbre, UserError
from wavesynth.audio import pitch as pitches
from wavesynth.conditions import Conditions
from wavesynth.config import DatasetInfo
from wavesynth.families import Family, Request
from wavesynth.timbre.interpolation import straight

RATE, HOP = 16_000, 160


class Levels(Family):
    """A sound's code is its level every 10 ms, and how bright it is; it is decoded to tones of those levels.

    With two channels the second is the first upside down, at half the level.
    """

    name = "levels"
    autoregressive: ClassVar[bool] = False
    reconstructs: ClassVar[bool] = True
    requests: ClassVar[list[tuple[Conditions, Request]]] = []
    frame_rate: ClassVar[float] = RATE / HOP
    glide_rate: ClassVar[float] = RATE / HOP
    latent_channels: ClassVar[int] = 2

    def __init__(self, pitched: bool = True, channels: int = 1) -> None:
        typical = ((0.0, 55.0), (1.0, 56.0), (1.0, 56.0)) if pitched else ((0.0, -1.0), (1.0, -1.0))
        limits = (48.0, 72.0) if pitched else ()
        super().__init__(None, DatasetInfo(RATE, ("soft", "loud"), pitched, 1.0, limits, channels, typical))

    def encode(self, params: Any, samples: np.ndarray, conditions: Conditions, seed: int, progress: bool) -> np.ndarray:
        sound = samples[0]
        frames = np.pad(sound, (0, -len(sound) % HOP)).reshape(-1, HOP)
        brightness = np.abs(np.diff(sound)).mean() / np.abs(sound).mean()
        levels = np.sqrt(2 * np.mean(frames**2, axis=1))
        return np.stack([levels, np.full(len(frames), brightness)], 1).astype(np.float32)

    def latent_of(self, params: Any, label: int) -> np.ndarray:
        return np.tile(np.float32([0.1 + 0.4 * label, 0.2]), (50, 1))

    def draw(self, params: Any, seed: int, labels: np.ndarray) -> np.ndarray:
        return np.stack([self.latent_of(params, max(label, 0)) * (1 + row) / 8 for row, label in enumerate(labels)])

    def between(self, a: np.ndarray, b: np.ndarray, t: float) -> np.ndarray:
        return straight(a, b, t)

    def generate(self, params: Any, conditions: Conditions, request: Request) -> Iterator[np.ndarray]:
        Levels.requests.append((conditions, request))
        assert request.latents is not None
        assert request.latents.ndim == 3
        assert len(request.latents) == conditions.batch
        pitch = np.nan_to_num(conditions.constant_pitch, nan=60.0)[:, None]
        time = np.arange(request.latents.shape[1] * HOP) / RATE
        angle = 2 * np.pi * 440 * 2 ** ((pitch - 69) / 12) * time
        # The second number mixes in a partial two octaves up.
        share = np.repeat(np.clip(request.latents[..., 1], 0, 1), HOP, axis=1)
        level = np.repeat(request.latents[..., 0], HOP, axis=1)
        yield self.mixed(level * ((1 - share) * np.sin(angle) + share * np.sin(4 * angle)))
        while request.endless:
            yield self.mixed(np.repeat(request.latents[:, -1:, 0], HOP, axis=1))

    def mixed(self, sounds: np.ndarray) -> np.ndarray:
        channels = [sounds, -0.5 * sounds][: self.dataset.channels]
        return np.stack(channels, axis=1).astype(np.float32)

    adapt = init = shapes = objective = baselines = None  # type: ignore[assignment]


@pytest.fixture
def synth() -> Synth:
    Levels.requests.clear()
    return Synth(Levels(), {"weight": np.ones(1, np.float32)})


def played() -> list[float]:
    """The pitches of the latest request."""
    return Levels.requests[-1][0].constant_pitch.tolist()


def latents() -> np.ndarray:
    """The latents of the latest request, [n, F, D]."""
    found = Levels.requests[-1][1].latents
    assert found is not None
    return found


def tone(seconds: float, onset: float = 0.0, level: float = 0.5, pitch: float = 60) -> np.ndarray:
    angle = 2 * np.pi * 440 * 2 ** ((pitch - 69) / 12) * np.arange(round(seconds * RATE)) / RATE
    return np.concatenate([np.zeros(round(onset * RATE)), level * np.sin(angle)]).astype(np.float32)


def levels(sound: np.ndarray) -> np.ndarray:
    """Peak of each frame."""
    return np.abs(sound.reshape(-1, HOP)).max(axis=1)


def test_an_encoded_sound_is_decoded(synth: Synth):
    timbre = synth.encode(tone(0.5), pitch=60)
    assert timbre.latent.shape == (50, 2)
    assert (timbre.frame_rate, timbre.pitch, timbre.seconds) == (100.0, 60, 0.5)
    assert timbre.onset == pytest.approx(0, abs=0.005)
    made = synth.decode(timbre)
    assert made.shape == (8_000,)
    assert played() == [60]
    np.testing.assert_array_equal(made, synth.decode(timbre))


@pytest.mark.parametrize(
    ("fill", "expected"),
    [("hold", [1, 2, 3, 3, 3, 3]), ("loop", [1, 2, 3, 1, 2, 3]), ("stretch", [1, 1.4, 1.8, 2.2, 2.6, 3])],
)
def test_a_path_is_extended_to_the_length_asked_for(synth: Synth, fill: Any, expected: list[float]):
    path = np.stack([np.float32([0.1, 0.2, 0.3]), np.zeros(3, np.float32)], 1)
    timbre = Timbre(path, synth.fingerprint, 100.0)
    assert synth.decode(timbre, 0.06, fill=fill).shape == (960,)
    assert_close(latents()[0, :, 0], np.float32(np.array(expected) / 10))
    assert synth.decode(timbre).shape == (480,)
    assert synth.decode(timbre, 0.0151).shape == (242,)
    assert latents().shape == (1, 2, 2)


def test_an_endless_sound_holds_its_end(synth: Synth):
    timbre = synth.encode(tone(0.1), pitch=60)
    blocks = synth.stream(timbre=timbre, block=1_000)
    assert [len(next(blocks)) for _ in range(5)] == [1_000] * 5
    with pytest.raises(UserError, match="fill is 'loop' and the sound is endless"):
        next(synth.stream(timbre=timbre, fill="loop"))
    with pytest.raises(UserError, match="fill is 'mirror': choose one of hold, loop, stretch"):
        synth.decode(timbre, fill="mirror")


@pytest.mark.parametrize("label", ["loud", None])
def test_latents_are_the_timbres_that_sample_plays(synth: Synth, label: str | None):
    assert synth.timbre("loud").latent.shape == (50, 2)
    sounds = synth.sample(6, 0.2, label=label, seed=5)
    assert sounds.shape == (6, 3_200)
    for row, timbre in enumerate(synth.latents(5, 6, label)):
        np.testing.assert_array_equal(synth.decode(timbre, 0.2, seed=5), sounds[row])
    assert len(synth.latents(5, 2, label)) == 2
    np.testing.assert_array_equal(synth.sample(2, 0.2, label=label, seed=5), sounds[:2])


def test_a_list_of_sounds_is_encoded_to_a_list(synth: Synth, tmp_path: Path):
    soundfile.write(tmp_path / "tone_064_100.wav", tone(0.3), 44_100)
    first, second = synth.encode([tone(0.2), tmp_path / "tone_064_100.wav"], pitch=60)
    assert (first.seconds, second.seconds) == pytest.approx((0.2, 0.3 * RATE / 44_100), abs=1e-3)
    assert synth.encode(tmp_path / "tone_064_100.wav").pitch == 64  # of its name


def test_arrays_of_any_rate_and_channel_count(synth: Synth):
    stereo = np.stack([tone(0.3)] * 2, axis=1)
    np.testing.assert_array_equal(synth.encode(stereo, pitch=60).latent, synth.encode(tone(0.3), pitch=60).latent)
    slow = 0.5 * np.sin(2 * np.pi * 261.63 * np.arange(2_400) / 8_000)
    assert synth.encode(slow, 8_000, pitch=60).seconds == pytest.approx(0.3)


def test_pitches_come_from_the_training_sounds(synth: Synth):
    synth.sample(2, 0.1, label="loud")
    assert played() == [56, 56]
    synth.sample(40, 0.1)
    assert set(played()) == {55, 56}
    assert synth.timbre("soft").pitch == 55
    assert {timbre.pitch for timbre in synth.latents(0, 40)} == {55, 56}
    synth.sample(1, 0.1, label="loud", pitch=60)
    assert played() == [60]
    unpitched = Synth(Levels(pitched=False), {"weight": np.ones(1, np.float32)})
    unpitched.sample(2, 0.1, label="loud")
    assert np.isnan(played()).all()
    assert unpitched.timbre("loud").pitch is None


def test_a_timbre_without_a_pitch_is_played_at_the_median(synth: Synth):
    synth.decode(Timbre(np.zeros((3, 2), np.float32), synth.fingerprint, 100.0))
    assert played() == [56]
    synth.decode(Timbre(np.zeros((3, 2), np.float32), synth.fingerprint, 100.0, pitch=50.0))
    assert played() == [50]


def test_a_sound_whose_channels_cancel_is_encoded(synth: Synth):
    opposite = np.stack([tone(0.3), -tone(0.3)], axis=1)
    with pytest.warns(UserWarning, match="its channels cancel in the mix"):
        encoded = synth.encode(opposite, pitch=60)
    np.testing.assert_array_equal(encoded.latent, synth.encode(tone(0.3), pitch=60).latent)


def test_a_timbre_cannot_be_written_into(synth: Synth):
    timbre = synth.encode(tone(0.2), pitch=np.int64(60))
    with pytest.raises(ValueError, match="read-only"):
        timbre.latent[:] = 0
    assert type(timbre.pitch) is float


def test_silence_is_refused_and_a_short_sound_padded(synth: Synth):
    for nothing in (np.zeros(1_000), np.append(np.full(100, 1e-3), np.zeros(160_000))):
        with pytest.raises(UserError, match="sound is silent and has no timbre"):
            synth.encode(nothing)
    with pytest.raises(UserError, match=r"^sound"):
        synth.encode(np.ones(1), 48_000)
    with pytest.warns(UserWarning, match="sound has 100 samples, but one frame of a timbre takes 160: it is padded"):
        assert len(synth.encode(tone(0.1)[1:101], pitch=60).latent) == 1


@pytest.mark.skipif(not pitches.available(), reason="the extra pitch is not installed")
def test_the_pitch_of_a_sound_is_tracked(synth: Synth):
    rich = sum(tone(0.5, level=0.3 / k, pitch=57 + 12 * math.log2(k)) for k in range(1, 9))
    assert synth.encode(np.clip(rich, -1, 1)).pitch == pytest.approx(57, abs=0.2)


def test_an_unknown_pitch_is_warned_about(synth: Synth, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(pitches, "available", lambda: False)
    with pytest.warns(UserWarning, match="the pitch of the sound is unknown"):
        assert synth.encode(tone(0.2)).pitch is None
    assert Synth(Levels(pitched=False), {}).encode(tone(0.2)).pitch is None


def test_a_morph_has_one_attack(synth: Synth):
    early, late = (synth.encode(tone(0.3, onset), pitch=60) for onset in (0.05, 0.1))
    # Without the shift the middle would stand at half the level from 50 to 100 ms.
    middle = levels(synth.morph(early, late, 3, 0.3, even=False)[1])
    assert middle[4] < 0.05
    assert middle[6] > 0.4
    assert np.abs(np.diff(middle[6:25])).max() < 0.1


def test_a_morph_of_two_pitches_passes_those_between(synth: Synth):
    a, b = synth.encode(tone(0.2), pitch=60), synth.encode(tone(0.2), pitch=66)
    Levels.requests.clear()
    synth.morph(a, b, 4, even=False)
    assert len(Levels.requests) == 1
    assert played() == pytest.approx([60, 62, 64, 66])
    synth.morph(a, b, 4, even=False, pitch=50)
    assert played() == [50] * 4
    both = synth.sample(2, 0.1, timbre=[a, b])
    assert played() == [60, 66]
    np.testing.assert_array_equal(both, [synth.decode(a, 0.1), synth.decode(b, 0.1)])


def test_the_steps_of_a_morph_share_their_noise_and_are_rendered_at_once(synth: Synth):
    a, b = synth.encode(tone(0.2), pitch=60), synth.encode(tone(0.4, level=0.1), pitch=60)
    Levels.requests.clear()
    assert synth.morph(a, b, 5, even=False).shape == (5, 6_400)
    ((conditions, request),) = Levels.requests
    assert conditions.batch == 5
    assert request.shared_noise


def test_a_glide_moves_from_one_to_the_other(synth: Synth):
    made = levels(synth.glide("soft", "loud", 1.0, pitch=60))
    assert made.shape == (100,)
    assert (np.diff(made[1:-1]) > -0.02).all()
    assert played() == [60]
    synth.glide("soft", "loud", 0.1)
    assert played() == [55]
    assert made[-2] > 3 * made[1]
    with pytest.raises(UserError, match="seconds is inf: a glide has an end"):
        synth.glide("soft", "loud", math.inf)
    with pytest.raises(UserError, match="fill is 'mirror'"):
        synth.glide("soft", "loud", fill="mirror")


def test_beyond_the_ends_only_when_asked(synth: Synth):
    a, b = synth.encode(tone(0.2), pitch=60), synth.encode(tone(0.4), pitch=66)
    with pytest.raises(UserError, match=r"t is 1.5"):
        synth.between(a, b, 1.5)
    beyond = synth.between(a, b, -1.5, extrapolate=True)
    assert (beyond.pitch, beyond.seconds) == (51, None)  # no sound is shorter than nothing


def test_a_grid_lies_between_its_corners(synth: Synth):
    four = synth.grid(["soft", "loud", "loud", "soft"], 3, 0.1, pitch=60)
    assert four.shape == (3, 3, 1_600)
    assert_close(four[1, 1], (four[0, 0] + four[0, 2]) / 2, terms=4, scale=1.0)
    np.testing.assert_array_equal(four[0, 2], synth.decode(synth.timbre("loud"), 0.1, pitch=60))
    three = synth.grid(["soft", "loud", "loud"], 2, 0.1, pitch=60)
    np.testing.assert_array_equal(three[1, 0], three[1, 1])
    assert synth.grid(["soft", "loud"], 3, 0.1, pitch=60).shape == (1, 3, 1_600)
    for corners, message in ((["soft"], "corners has 1 members"), (["soft"] * 5, "corners has 5 members")):
        with pytest.raises(UserError, match=message):
            synth.grid(corners)


def test_directions_change_the_descriptor_they_are_named_after(synth: Synth):
    # Tones between which a partial two octaves up grows, and levels that go their own way.
    share, level = np.linspace(0, 0.8, 12), np.tile([0.1, 0.4, 0.2], 4)
    timbres = [
        Timbre(np.tile(np.float32([level[i], share[i]]), (30, 1)), synth.fingerprint, 100.0, 60.0, 0.3)
        for i in range(12)
    ]
    found = {direction.name: direction for direction in wavesynth.directions(synth, timbres, 2)}
    assert set(found) == {"principal 1", "principal 2", "brightness", "attack", "noisiness"}
    assert found["principal 1"].share + found["principal 2"].share == pytest.approx(1)
    brighter = found["brightness"]
    assert brighter.step.latent.shape == (1, 2)
    assert brighter.step.latent[0, 1] > 0.1
    assert brighter.share > 0.5
    assert brighter.effect["brightness"] > 0.1
    centre = timbres[0] + 2 * brighter.step
    assert centre.latent.shape == (30, 2)
    with pytest.raises(UserError, match="fewer than 3 sounds"):
        wavesynth.directions(synth, timbres[:2])


def test_the_nearest_training_sounds(tiny_shards: Path, sounds: Path, synth: Synth):
    file = sorted((sounds / "kick").glob("*.flac"))[0]
    found = wavesynth.nearest(synth, file, tiny_shards, 3)
    assert len(found) == 3
    distances = [distance for _, distance in found]
    assert distances == sorted(distances)
    assert "kick" in found[0][0]
    assert len(wavesynth.nearest(synth, "loud", tiny_shards, 1)) == 1


def test_the_file_of_a_timbre_may_be_an_end(synth: Synth, tmp_path: Path):
    timbre = synth.encode(tone(0.2), pitch=60)
    timbre.save(tmp_path / "a.json")
    ends = (tmp_path / "a.json", "loud")
    np.testing.assert_array_equal(synth.morph(*ends, 3, 0.2)[0], synth.decode(timbre, 0.2))
    with pytest.raises(UserError, match="timbre belongs to synth"):
        Synth(Levels(), {"weight": np.zeros(1, np.float32)}).decode(timbre)


def test_errors_of_timbres(synth: Synth):
    with pytest.raises(UserError, match="timbre has 2 members for n = 3 sounds"):
        synth.sample(3, 0.1, timbre=[synth.timbre("soft"), synth.timbre("loud")])
    point = Timbre(np.zeros(2, np.float32), synth.fingerprint, None, 55.0)
    with pytest.raises(UserError, match="the timbre is a point, but this synth's timbres are paths"):
        synth.sample(2, 0.1, timbre=[synth.timbre("soft"), point])
    wide = Timbre(np.zeros((3, 5), np.float32), synth.fingerprint, 100.0)
    with pytest.raises(UserError, match="the timbre's latent has width 5, but this synth's have 2"):
        synth.decode(wide)
    slow = Timbre(np.zeros((3, 2), np.float32), synth.fingerprint, 50.0)
    with pytest.raises(UserError, match="the timbre has 50 frames per second, but this synth's have 100"):
        synth.decode(slow)
    with pytest.raises(UserError, match="n is 0: it must be a whole number of timbres, 1 to 100,000"):
        synth.latents(n=0)
    with pytest.raises(UserError, match="corners is Timbre"):
        synth.grid(synth.timbre("soft"))  # type: ignore[arg-type]


# Sample rates.


def slow_tone(pitch: float, rate: int = 8_000) -> np.ndarray:
    return 0.5 * np.sin(2 * np.pi * 440 * 2 ** ((pitch - 69) / 12) * np.arange(rate // 4) / rate)


def test_every_sound_argument_takes_a_sample_rate(synth: Synth):
    a, b = slow_tone(50), 0.3 * slow_tone(62)
    first, last = synth.encode(a, 8_000), synth.encode(b, 8_000)
    assert (first.seconds, last.seconds) == (0.25, 0.25)
    for ask in (
        lambda *ends, **more: synth.morph(*ends, 3, even=False, **more),
        lambda *ends, **more: synth.glide(*ends, 0.3, **more),
        lambda *ends, **more: synth.grid(ends, 2, **more),
        lambda *ends, **more: synth.between(*ends, 0.5, **more).latent,
        lambda *ends, **more: np.stack([timbre.latent for timbre in synth.timbres(ends, **more)]),
    ):
        np.testing.assert_array_equal(ask(a, b, sample_rate=8_000), ask(first, last))
    with pytest.raises(UserError, match="sample_rate"):
        synth.morph(a, b, sample_rate=0)


def test_nearest_takes_a_sample_rate(tiny_shards: Path, synth: Synth):
    sound = slow_tone(60, 32_000)
    found = wavesynth.nearest(synth, sound, tiny_shards, 1, sample_rate=32_000)
    assert found[0][1] == pytest.approx(wavesynth.nearest(synth, slow_tone(60, RATE), tiny_shards, 1)[0][1], rel=0.1)


# Channels.


def test_two_channels_everywhere():
    stereo = Synth(Levels(channels=2), {"weight": np.ones(1, np.float32)})
    mono = Synth(Levels(), {"weight": np.ones(1, np.float32)})
    a, b = mono.timbre("soft"), mono.timbre("loud")
    assert stereo.channels == 2
    for ask, shape in (
        (lambda synth: synth.sample(3, 0.2, label="loud"), (3, 2, 3_200)),
        (lambda synth: np.concatenate(list(synth.blocks(3, 0.2, label="loud")), axis=-1), (3, 2, 3_200)),
        (lambda synth: next(synth.stream(block=500, label="loud")), (2, 500)),
        (lambda synth: synth.decode(a, 0.2), (2, 3_200)),
        (lambda synth: synth.morph(a, b, 3, 0.2, even=False, match_loudness=False), (3, 2, 3_200)),
        (lambda synth: synth.grid([a, b], 3, 0.2), (1, 3, 2, 3_200)),
        (lambda synth: synth.glide(a, b, 0.2), (2, 3_200)),
    ):
        sounds, one = ask(stereo), ask(mono)
        assert sounds.shape == shape
        np.testing.assert_array_equal(sounds[..., 0, :], one)
        np.testing.assert_array_equal(sounds[..., 1, :], -0.5 * one)
    evened = stereo.morph(a, b, 3, 0.2)
    np.testing.assert_array_equal(evened[..., 1, :], -0.5 * evened[..., 0, :])
    assert stereo.encode(tone(0.2), pitch=60).latent.shape == (20, 2)
    timbres = [mono.timbre("soft") * gain for gain in (0.5, 1.0, 2.0)]
    assert wavesynth.directions(stereo, timbres, 1)[0].name == "principal 1"


# Live.


class Inverter(Levels):
    """Resynthesizes a sound as itself upside down, 20 ms late."""

    name = "inverter"
    latency: ClassVar[float] = 0.02

    def resynthesize(
        self, params: Any, blocks: Iterator[np.ndarray], conditions: Conditions, seed: int
    ) -> Iterator[np.ndarray]:
        for block in blocks:
            assert block.ndim == 2
            assert block.dtype == np.float32
            yield -block


def test_live_sound_of_another_rate_is_resampled_as_a_stream():
    import soxr

    live = Synth(Inverter(), {})
    assert live.latency == 0.02
    sound = slow_tone(60, 44_100).astype(np.float32)
    parts = np.split(sound, [1, 100, 101, 5_000])
    whole = np.concatenate(list(live.resynthesize(iter(parts), 44_100)))
    expected = soxr.resample(sound, 44_100, RATE, quality="HQ")
    assert abs(len(whole) - len(sound) * RATE / 44_100) <= 1
    assert_close(whole, -expected[: len(whole)], terms=1_000, scale=1.0)
    np.testing.assert_array_equal(np.concatenate(list(live.resynthesize(parts))), -sound)
    with pytest.raises(UserError, match="sample_rate"):
        live.resynthesize(parts, 0)
    with pytest.raises(UserError, match=r"blocks has the shape \(\)"):
        list(live.resynthesize([0.5]))
    with pytest.raises(UserError, match=r"pitch is Curve\(2 frames at 10 Hz"):
        live.resynthesize(parts, pitch=wavesynth.Curve([60, 62], 10.0))


@pytest.mark.skipif(not pitches.available(), reason="the extra pitch is not installed")
def test_a_melody_is_encoded_with_a_warning():
    time = np.arange(RATE // 2) / RATE
    notes = [0.5 * np.sin(2 * np.pi * 440 * 2 ** ((pitch - 69) / 12) * time) for pitch in (60, 64, 67)]
    with pytest.warns(UserWarning, match="several pitches, from 60 to 67, and a timbre has one"):
        Synth(Levels(), {}).encode(np.concatenate(notes), pitch=60)
    Synth(Levels(pitched=False), {}).encode(np.concatenate(notes))  # a warning would be an error
