"""Durations in samples: the nearest power of two, the nearest multiple, at any rate."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wavesynth.audio.rates import multiple, power_of_two

RATES = st.sampled_from([8_000, 11_025, 16_000, 22_050, 24_000, 44_100, 48_000, 96_000, 192_000]) | st.integers(
    1, 768_000
)


@given(seconds=st.floats(1e-4, 100), sample_rate=RATES, least=st.sampled_from([1, 4, 16]))
def test_a_power_of_two_is_within_half_an_octave(seconds: float, sample_rate: int, least: int):
    samples = power_of_two(seconds, sample_rate, least=least)
    assert isinstance(samples, int)
    assert samples & (samples - 1) == 0
    if seconds * sample_rate >= least:
        assert abs(math.log2(samples / (seconds * sample_rate))) <= 0.5 + 1e-9
    else:
        assert samples == least


@given(seconds=st.floats(1e-3, 1), sample_rate=RATES, octaves=st.integers(0, 6))
def test_a_longer_power_of_two_is_a_multiple_of_a_shorter_one(seconds: float, sample_rate: int, octaves: int):
    short, long = (power_of_two(each, sample_rate) for each in (seconds, seconds * 2**octaves))
    assert long % short == 0
    if seconds * sample_rate >= 1:
        assert long == short * 2**octaves  # their ratio is the same at every rate


@pytest.mark.parametrize("sample_rate", [8_000, 16_000, 44_100])
def test_twice_the_rate_is_twice_the_samples(sample_rate: int):
    for seconds in (0.0075, 0.015, 0.03, 0.06, 0.12):
        assert power_of_two(seconds, 2 * sample_rate) == 2 * power_of_two(seconds, sample_rate)


@given(seconds=st.floats(0, 100), sample_rate=RATES, of=st.integers(1, 65_536))
def test_a_multiple_is_the_nearest_and_none_is_nothing(seconds: float, sample_rate: int, of: int):
    samples = multiple(seconds, sample_rate, of)
    assert samples >= of
    assert samples % of == 0
    if seconds * sample_rate >= of:
        assert abs(samples - seconds * sample_rate) <= of / 2 + 1e-6 * samples
    else:
        assert samples == of
