"""Pitch tracking: tones of known pitch, and sounds without one."""

import math

import numpy as np
import pytest

from wavesynth.audio import pitch
from wavesynth.errors import UserError

needed = pytest.mark.skipif(not pitch.available(), reason="the extra pitch is not installed")


def tone(midi: float, rate: int = 16_000) -> np.ndarray:
    time = np.arange(rate // 2) / rate
    return sum(0.3 / k * np.sin(2 * math.pi * k * 440 * 2 ** ((midi - 69) / 12) * time) for k in range(1, 8))


@needed
@pytest.mark.parametrize("midi", [36, 48.3, 60, 69, 84.5])
@pytest.mark.parametrize("rate", [16_000, 44_100])
def test_a_tone_has_its_pitch(midi: float, rate: int):
    assert pitch.median_pitch(tone(midi, rate), rate) == pytest.approx(midi, abs=0.15)


@needed
def test_silence_and_noise_have_no_pitch():
    assert pitch.median_pitch(np.zeros(8_000), 16_000) is None
    assert pitch.median_pitch(np.random.default_rng(0).normal(0, 0.1, 8_000), 16_000) is None


@needed
def test_stereo_is_tracked_in_its_mix_and_nan_is_named():
    stereo = np.stack([tone(60), 0.5 * tone(60)])
    assert pitch.median_pitch(stereo, 16_000) == pytest.approx(60, abs=0.15)
    with pytest.raises(UserError, match=r"^samples: a value is NaN"):
        pitch.median_pitch(np.full(8_000, np.nan), 16_000)
    assert pitch.median_pitch(np.zeros(0), 16_000) is None


@needed
def test_a_melody_has_a_range_of_pitches_and_one_note_has_not():
    melody = np.concatenate([tone(60), tone(64), tone(67)])
    assert pitch.pitch_range(melody, 16_000) == pytest.approx((60, 67), abs=0.15)
    partial = np.concatenate([tone(48), tone(48), tone(48 + 12), tone(48 + 40)])
    assert pitch.pitch_range(partial, 16_000) == pytest.approx((48, 48), abs=0.15)
    assert pitch.pitch_range(np.zeros(8_000), 16_000) is None


def test_half_of_the_frames_may_be_two_octaves_above_the_others(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(pitch, "_voiced", lambda *_: np.repeat([40.0, 64.0], 10))
    assert pitch.pitch_range(np.zeros(8_000), 16_000) == (40.0, 40.0)


def test_without_the_extra_the_remedy_is_named(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(pitch, "available", lambda: False)
    with pytest.raises(UserError, match=r"pip install 'wavesynth-jax\[pitch\]'"):
        pitch.median_pitch(tone(60), 16_000)
