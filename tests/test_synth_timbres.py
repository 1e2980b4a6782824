"""What a `Synth` does with timbres that are paths, by a family whose answers are known: its codes are levels."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import soundfile

from wavesynth import Synth, Timbre, UserError
from wavesynth.audio import pitch as pitches
from wavesynth.config import DatasetInfo
from wavesynth.families import Family, Request

RATE, HOP = 16_000, 160


class Levels(Family):
    """A sound's code is its level every 10 ms, and how bright it is; it is decoded to tones of those levels."""

    name = "levels"
    reconstructs: ClassVar[bool] = True
    requests: ClassVar[list[Request]] = []
    frame_rate = RATE / HOP  # type: ignore[assignment]

    def __init__(self, pitched: bool = True) -> None:
        dataset = DatasetInfo(RATE, ("soft", "loud"), pitched, 1.0, (48.0, 72.0) if pitched else ())
        super().__init__(None, dataset)

    def encode(self, params: Any, samples: np.ndarray, request: Request, progress: bool) -> np.ndarray:
        frames = np.pad(samples, (0, -len(samples) % HOP)).reshape(-1, HOP)
        brightness = np.abs(np.diff(samples)).mean() / np.abs(samples).mean()
        return np.stack([np.sqrt(2 * np.mean(frames**2, axis=1)), np.full(len(frames), brightness)], 1).astype(
            np.float32
        )

    def latent(self, params: Any, label: int) -> np.ndarray:
        return np.tile(np.float32([0.1 + 0.4 * label, 0.2]), (50, 1))

    def latents(self, params: Any, n: int, seed: int, label: int) -> np.ndarray:
        return np.stack([self.latent(params, max(label, 0)) * (1 + row) / 8 for row in range(n)])

    def stream(self, params: Any, request: Request) -> Iterator[np.ndarray]:
        Levels.requests.append(request)
        assert request.latent is not None
        assert request.latent.ndim == 3
        pitch = 60 if request.pitch is None else request.pitch
        angle = 2 * np.pi * 440 * 2 ** ((pitch - 69) / 12) * np.arange(request.latent.shape[1] * HOP) / RATE
        # The second number mixes in a partial two octaves up.
        share = np.repeat(np.clip(request.latent[..., 1], 0, 1), HOP, axis=1)
        made = np.repeat(request.latent[..., 0], HOP, axis=1) * (
            (1 - share) * np.sin(angle) + share * np.sin(4 * angle)
        )
        yield made.astype(np.float32)
        while request.endless:
            yield np.repeat(request.latent[:, -1:, 0], HOP, axis=1).astype(np.float32)

    def default_pitch(self, params: Any, label: int) -> float | None:
        return 55.0 + label if self.dataset.pitched else None

    adapt = init = shapes = objective = baselines = None  # type: ignore[assignment]


@pytest.fixture
def synth() -> Synth:
    Levels.requests.clear()
    return Synth(Levels(), {"weight": np.ones(1, np.float32)})


def tone(seconds: float, onset: float = 0.0, level: float = 0.5, pitch: float = 60) -> np.ndarray:
    angle = 2 * np.pi * 440 * 2 ** ((pitch - 69) / 12) * np.arange(round(seconds * RATE)) / RATE
    return np.concatenate([np.zeros(round(onset * RATE)), level * np.sin(angle)]).astype(np.float32)


def levels(sound: np.ndarray) -> np.ndarray:
    """Peak of each frame."""
    return np.abs(sound.reshape(-1, HOP)).max(axis=1)


def test_what_is_encoded_is_decoded(synth: Synth):
    timbre = synth.encode(tone(0.5), pitch=60)
    assert timbre.latent.shape == (50, 2)
    assert (timbre.frame_rate, timbre.pitch, timbre.seconds) == (100.0, 60, 0.5)
    assert timbre.onset == pytest.approx(0, abs=0.005)
    made = synth.decode(timbre)
    assert made.shape == (8_000,)
    assert Levels.requests[-1].pitch == 60
    np.testing.assert_array_equal(made, synth.decode(timbre))


@pytest.mark.parametrize(
    ("fill", "expected"),
    [("hold", [1, 2, 3, 3, 3, 3]), ("loop", [1, 2, 3, 1, 2, 3]), ("stretch", [1, 1.4, 1.8, 2.2, 2.6, 3])],
)
def test_a_path_lasts_as_long_as_is_wanted(synth: Synth, fill: Any, expected: list[float]):
    path = np.stack([np.float32([0.1, 0.2, 0.3]), np.zeros(3, np.float32)], 1)
    timbre = Timbre(path, synth.fingerprint, 100.0)
    assert synth.decode(timbre, 0.06, fill=fill).shape == (960,)
    np.testing.assert_allclose(Levels.requests[-1].latent[0, :, 0], np.array(expected) / 10, rtol=1e-6)
    assert synth.decode(timbre).shape == (480,)
    assert synth.decode(timbre, 0.0151).shape == (242,)
    assert Levels.requests[-1].latent.shape == (1, 2, 2)


def test_an_endless_sound_holds_its_end(synth: Synth):
    timbre = synth.encode(tone(0.1), pitch=60)
    blocks = synth.stream(timbre=timbre, block=1_000)
    assert [len(next(blocks)) for _ in range(5)] == [1_000] * 5
    with pytest.raises(UserError, match="fill is 'loop', and the sound endless: only hold"):
        next(synth.stream(timbre=timbre, fill="loop"))
    with pytest.raises(UserError, match="fill is 'mirror': choose one of hold, loop, stretch"):
        synth.decode(timbre, fill="mirror")


def test_labels_and_chance_have_paths_too(synth: Synth):
    assert synth.timbre("loud").latent.shape == (50, 2)
    sounds = synth.sample(3, 0.2, label="loud")
    assert sounds.shape == (3, 3_200)
    np.testing.assert_allclose(np.abs(sounds).max(axis=1), 0.5 * np.arange(1, 4) / 8 * 0.85, rtol=0.2)
    for row, timbre in enumerate(synth.latents(0, 3, "loud")):
        np.testing.assert_allclose(synth.decode(timbre, 0.2), sounds[row], rtol=1e-6)


def test_many_sounds_are_encoded_at_once(synth: Synth, tmp_path: Path):
    soundfile.write(tmp_path / "tone_064_100.wav", tone(0.3), 44_100)
    first, second = synth.encode([tone(0.2), tmp_path / "tone_064_100.wav"], pitch=60)
    assert (first.seconds, second.seconds) == pytest.approx((0.2, 0.3 * RATE / 44_100), abs=1e-3)
    assert synth.encode(tmp_path / "tone_064_100.wav").pitch == 64  # of its name


def test_arrays_of_any_rate_and_channel_count(synth: Synth):
    stereo = np.stack([tone(0.3)] * 2, axis=1)
    np.testing.assert_array_equal(synth.encode(stereo, pitch=60).latent, synth.encode(tone(0.3), pitch=60).latent)
    slow = 0.5 * np.sin(2 * np.pi * 261.63 * np.arange(2_400) / 8_000)
    assert synth.encode(slow, 8_000, pitch=60).seconds == pytest.approx(0.3)
    with pytest.raises(UserError, match=r"sound has the shape \(2, 100\)"):
        synth.encode(np.zeros((2, 100)))


def test_a_label_is_played_at_its_usual_pitch(synth: Synth):
    synth.sample(2, 0.1, label="loud")
    assert Levels.requests[-1].pitch == 56
    assert synth.timbre("soft").pitch == 55
    assert [timbre.pitch for timbre in synth.latents(0, 2)] == [54, 54]
    synth.sample(1, 0.1, label="loud", pitch=60)
    assert Levels.requests[-1].pitch == 60


def test_a_sound_that_cancels_in_the_mean_is_heard(synth: Synth):
    opposite = np.stack([tone(0.3), -tone(0.3)], axis=1)
    np.testing.assert_array_equal(synth.encode(opposite, pitch=60).latent, synth.encode(tone(0.3), pitch=60).latent)


def test_a_timbre_cannot_be_written_into(synth: Synth):
    timbre = synth.encode(tone(0.2), pitch=np.int64(60))
    with pytest.raises(ValueError, match="read-only"):
        timbre.latent[:] = 0
    assert type(timbre.pitch) is float


def test_silence_and_what_is_shorter_than_a_frame(synth: Synth):
    for nothing in (np.zeros(1_000), np.append(np.full(100, 1e-3), np.zeros(160_000))):
        with pytest.raises(UserError, match="sound is silence"):
            synth.encode(nothing)
    with pytest.raises(UserError, match="sound has 1 samples at 48,000 Hz, none at 16,000 Hz"):
        synth.encode(np.ones(1), 48_000)
    with pytest.warns(UserWarning, match="sound has 100 samples, and one frame of a timbre takes 160: it is padded"):
        assert len(synth.encode(tone(0.1)[1:101], pitch=60).latent) == 1


@pytest.mark.skipif(not pitches.available(), reason="the extra pitch is not installed")
def test_the_pitch_of_a_sound_is_heard(synth: Synth):
    rich = sum(tone(0.5, level=0.3 / k, pitch=57 + 12 * math.log2(k)) for k in range(1, 9))
    assert synth.encode(np.clip(rich, -1, 1)).pitch == pytest.approx(57, abs=0.2)


def test_a_pitch_that_cannot_be_heard_is_warned_of(synth: Synth, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(pitches, "available", lambda: False)
    with pytest.warns(UserWarning, match="the pitch of the sound is not known"):
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
    assert [request.pitch for request in Levels.requests] == pytest.approx([60, 62, 64, 66])
    Levels.requests.clear()
    synth.morph(a, b, 4, even=False, pitch=50)
    assert [(request.n, request.pitch) for request in Levels.requests] == [(4, 50)]
    with pytest.raises(UserError, match="timbre has members of several pitches: give pitch"):
        synth.sample(2, 0.1, timbre=[a, b])


def test_a_morph_of_one_pitch_is_made_at_once_of_one_chance(synth: Synth):
    a, b = synth.encode(tone(0.2), pitch=60), synth.encode(tone(0.4, level=0.1), pitch=60)
    Levels.requests.clear()
    assert synth.morph(a, b, 5, even=False).shape == (5, 6_400)
    (request,) = Levels.requests
    assert request.n == 5
    assert request.shared_noise


def test_a_glide_moves_from_one_to_the_other(synth: Synth):
    made = levels(synth.glide("soft", "loud", 1.0, pitch=60))
    assert made.shape == (100,)
    assert (np.diff(made[1:-1]) > -0.02).all()
    assert made[-2] > 3 * made[1]
    with pytest.raises(UserError, match="seconds is inf: a glide arrives"):
        synth.glide("soft", "loud", math.inf)
    with pytest.raises(UserError, match="fill is 'mirror'"):
        synth.glide("soft", "loud", fill="mirror")


def test_beyond_the_ends_only_when_asked(synth: Synth):
    a, b = synth.encode(tone(0.2), pitch=60), synth.encode(tone(0.4), pitch=66)
    with pytest.raises(UserError, match=r"t is 1.5"):
        synth.between(a, b, 1.5)
    beyond = synth.between(a, b, -1.5, extrapolate=True)
    assert (beyond.pitch, beyond.seconds) == (51, 0)


def test_a_grid_lies_between_its_corners(synth: Synth):
    four = synth.grid(["soft", "loud", "loud", "soft"], 3, 0.1, pitch=60)
    assert four.shape == (3, 3, 1_600)
    np.testing.assert_allclose(four[1, 1], (four[0, 0] + four[0, 2]) / 2, atol=1e-5)
    np.testing.assert_array_equal(four[0, 2], synth.decode(synth.timbre("loud"), 0.1, pitch=60))
    three = synth.grid(["soft", "loud", "loud"], 2, 0.1, pitch=60)
    np.testing.assert_array_equal(three[1, 0], three[1, 1])
    assert synth.grid(["soft", "loud"], 3, 0.1, pitch=60).shape == (1, 3, 1_600)
    for corners, message in ((["soft"], "corners has 1 members"), (["soft"] * 5, "corners has 5 members")):
        with pytest.raises(UserError, match=message):
            synth.grid(corners)


def test_directions_move_what_they_say(synth: Synth):
    # Tones between which a partial two octaves up grows, and levels that go their own way.
    share, level = np.linspace(0, 0.8, 12), np.tile([0.1, 0.4, 0.2], 4)
    timbres = [
        Timbre(np.tile(np.float32([level[i], share[i]]), (30, 1)), synth.fingerprint, 100.0, 60.0, 0.3)
        for i in range(12)
    ]
    found = {direction.name: direction for direction in synth.directions(timbres, 2)}
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
        synth.directions(timbres[:2])


def test_the_nearest_training_sounds(tiny_shards: Path, sounds: Path, synth: Synth):
    file = sorted((sounds / "kick").glob("*.flac"))[0]
    found = synth.nearest(file, tiny_shards, 3)
    assert len(found) == 3
    distances = [distance for _, distance in found]
    assert distances == sorted(distances)
    assert "kick" in found[0][0]
    assert len(synth.nearest("loud", tiny_shards, 1)) == 1


def test_a_timbre_of_a_file_is_an_end(synth: Synth, tmp_path: Path):
    timbre = synth.encode(tone(0.2), pitch=60)
    timbre.save(tmp_path / "a.json")
    ends = (tmp_path / "a.json", "loud")
    np.testing.assert_array_equal(synth.morph(*ends, 3, 0.2)[0], synth.decode(timbre, 0.2))
    with pytest.raises(UserError, match="timbre belongs to synth"):
        Synth(Levels(), {"weight": np.zeros(1, np.float32)}).decode(timbre)


def test_as_many_timbres_as_sounds(synth: Synth):
    with pytest.raises(UserError, match="timbre has 2 members for n = 3 sounds"):
        synth.sample(3, 0.1, timbre=[synth.timbre("soft"), synth.timbre("loud")])
    kinds = [synth.timbre("soft"), Timbre(np.zeros(2, np.float32), synth.fingerprint, None, 55.0)]
    with pytest.raises(UserError, match="timbre has members of several kinds"):
        synth.sample(2, 0.1, timbre=kinds)
    with pytest.raises(UserError, match="n is 0: ask for at least 1 timbre"):
        synth.latents(n=0)
