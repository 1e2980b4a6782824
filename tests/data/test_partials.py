"""The frequencies that steady tones take from the sounds."""

import numpy as np
import pytest

from wavesynth.data.partials import APART_HZ, HIGHEST, LOWEST, NARROWEST, WIDEST, partials


def nearest_cents(found: tuple[float, ...], hertz: float) -> float:
    return float(np.abs(1_200 * np.log2(np.array(found) / hertz)).min())


def steps_in_cents(found: tuple[float, ...]) -> np.ndarray:
    return 1_200 * np.log2(np.array(found[1:]) / np.array(found[:-1]))


@pytest.mark.parametrize("sample_rate", [8_000, 16_000, 44_100, 96_000])
@pytest.mark.parametrize("tuning", [430.0, 440.0, 446.0])
def test_a_scale_of_any_tuning_is_met(sample_rate: int, tuning: float):
    time = np.arange(sample_rate) / sample_rate
    notes = [tuning * 2 ** (semitones / 12) for semitones in (-12, -9, -5, 0, 4, 7)]
    sounds = [sum(np.sin(2 * np.pi * k * note * time) / k for k in (1, 2, 3)) for note in notes]
    found = partials(sounds, sample_rate)
    for note in notes:
        for k in (1, 2, 3):
            assert nearest_cents(found, k * note) < 8.0


@pytest.mark.parametrize("sample_rate", [8_000, 48_000])
def test_the_rest_is_filled_evenly(sample_rate: int):
    sine = np.sin(2 * np.pi * 300.0 * np.arange(sample_rate) / sample_rate)
    found = partials([sine, np.zeros(sample_rate)], sample_rate)
    assert list(found) == sorted(found)
    assert LOWEST <= found[0] < 1.06 * LOWEST
    assert 0.97 * min(HIGHEST, 0.45 * sample_rate) < found[-1] < 0.45 * sample_rate
    steps = steps_in_cents(found)
    least = np.clip(1_200 * np.log2(1 + APART_HZ / np.array(found[1:])), NARROWEST, WIDEST)
    assert (steps > least - 8).all()
    assert (steps < 2 * WIDEST + 8).all()


@pytest.mark.parametrize("sounds", [[], [np.zeros(100)], [np.zeros(0)], [np.ones(3)]])
def test_no_sound_gives_an_even_spread(sounds: list[np.ndarray]):
    found = partials(sounds, 44_100)
    assert len(found) > 100
    assert steps_in_cents(found).max() < 2 * WIDEST


def test_a_quiet_sound_counts_as_much_as_a_loud_one():
    time = np.arange(32_000) / 16_000
    sounds = [np.sin(2 * np.pi * 333.0 * time), 1e-3 * np.sin(2 * np.pi * 777.0 * time)]
    found = partials(sounds, 16_000)
    assert max(nearest_cents(found, 333.0), nearest_cents(found, 777.0)) < 5.0
