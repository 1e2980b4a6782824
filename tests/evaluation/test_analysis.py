"""Each measurement is made once, and survives a change of gain where it does not depend on it."""

import numpy as np
import pytest

from tests.tolerances import assert_close, rounding
from wavesynth.audio.spectral import log_mel
from wavesynth.errors import UserError
from wavesynth.evaluation import analysis, descriptors
from wavesynth.evaluation.analysis import GAIN_FREE, Analysis

SAMPLE_RATE = 16_000
TIME = np.arange(4_000) / SAMPLE_RATE
TONES = np.stack([0.3 * np.sin(2 * np.pi * hz * TIME) * np.exp(-8 * TIME) for hz in (220, 330, 440)])


def test_measurements_are_those_of_the_descriptors() -> None:
    measured = Analysis(TONES, SAMPLE_RATE)
    assert measured.sounds.dtype == np.float32
    assert len(measured) == 3
    np.testing.assert_array_equal(measured.levels, descriptors.level(TONES))
    np.testing.assert_array_equal(measured.onsets, descriptors.onset_time(TONES, SAMPLE_RATE))
    np.testing.assert_array_equal(measured.attacks, descriptors.attack_time(TONES, SAMPLE_RATE))
    close = {"terms": 1024, "dtype": "float32"}
    assert_close(measured.centroids, np.asarray(descriptors.spectral_centroid(TONES, SAMPLE_RATE)), **close)
    assert_close(measured.flatness, np.asarray(descriptors.spectral_flatness(TONES, SAMPLE_RATE)), **close)


def test_nothing_is_measured_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    for module, name in [(analysis, "log_mel"), (analysis, "median_pitch"), (descriptors, "onset_time")]:
        original = getattr(module, name)

        def counted(*arguments, original=original, name=name):
            calls.append(name)
            return 60.0 if name == "median_pitch" else original(*arguments)

        monkeypatch.setattr(module, name, counted)
    measured = Analysis(TONES, SAMPLE_RATE)
    for _ in range(2):
        assert measured.step_sizes.shape == (2,)
        assert measured.pitches.tolist() == [60.0] * 3
        measured = measured.scaled([1.0, 0.5, 2.0])
    assert sorted(calls) == ["log_mel", *["median_pitch"] * 3, "onset_time"]


def test_a_gain_changes_the_levels_alone() -> None:
    gains = np.array([1.0, 0.25, 2.0])
    loud = Analysis(TONES, SAMPLE_RATE)
    loud.step_sizes, loud.attacks, loud.centroids  # noqa: B018 (measured, so that they are kept)
    scaled, fresh = loud.scaled(gains), Analysis(TONES * gains[:, None], SAMPLE_RATE)
    assert_close(scaled.levels, loud.levels + 20 * np.log10(gains), dtype="float32")
    assert set(GAIN_FREE) - {"pitches"} <= scaled.__dict__.keys()
    # Decibels of float32 powers: a relative error of eps is one of 4.3 eps dB, and the floor of -60 dB is large.
    assert_close(scaled.frames, fresh.frames, terms=1024, dtype="float32", scale=60)


def test_a_gain_to_silence_is_measured_again() -> None:
    loud = Analysis(TONES, SAMPLE_RATE)
    assert np.isfinite(loud.onsets).all()
    assert np.isnan(loud.scaled([1.0, 0.0, 1.0]).onsets).tolist() == [False, True, False]


def test_of_several_channels_the_mean_is_measured_and_every_level_counts() -> None:
    stereo = np.stack([TONES, np.zeros_like(TONES)], axis=1)
    measured, half = Analysis(stereo, SAMPLE_RATE), Analysis(0.5 * TONES, SAMPLE_RATE)
    np.testing.assert_array_equal(measured.mono, half.sounds)
    np.testing.assert_array_equal(measured.onsets, half.onsets)
    assert_close(measured.levels, half.levels + 10 * np.log10(2), dtype="float32", terms=4)


def test_onsets_are_aligned() -> None:
    late = Analysis([np.pad(TONES[0], (shift, 0))[:4_000] for shift in (0, 160, 800)], SAMPLE_RATE)
    assert late.frames.shape[1] == 1 + (4_000 - 800) // 256
    unaligned = np.abs(np.diff(np.asarray(log_mel(late.sounds, SAMPLE_RATE)), axis=0)).mean(axis=(1, 2))
    assert (late.step_sizes < 0.2 * unaligned).all()  # onsets are known to a fraction of a millisecond


def test_silence_and_a_short_sound() -> None:
    silent = Analysis(np.zeros((2, 9)), SAMPLE_RATE)
    assert np.isnan(silent.onsets).all()
    assert silent.step_sizes.tolist() == [0.0]
    np.testing.assert_allclose(silent.frames, -60, atol=rounding("float32", scale=60))


@pytest.mark.parametrize(
    "sounds",
    [
        np.zeros(5),
        np.zeros((0, 5)),
        np.zeros((3, 0)),
        np.zeros((1, 1, 1, 5)),
        np.full((3, 9), np.inf),
        np.full((3, 9), np.nan),
    ],
)
def test_what_cannot_be_measured_is_named(sounds: np.ndarray) -> None:
    with pytest.raises(UserError, match=r"^sounds: "):
        Analysis(sounds, SAMPLE_RATE)
