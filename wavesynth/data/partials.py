"""Frequencies where sounds most often have partials."""

from collections.abc import Iterable

import numpy as np

from wavesynth.audio.rates import power_of_two

WINDOW_SECONDS = 0.37  # long enough to tell neighbouring notes of a bass apart
LOWEST, HIGHEST = 27.5, 7_000.0  # Hz
CENT_STEP = 4  # width of a histogram's places, cents
SMOOTHED = 8.0  # standard deviation of its smoothing, cents
APART_HZ = 35.0  # Hz, from one frequency to the next
NARROWEST, WIDEST = 30.0, 90.0  # cents, limits of that distance
RANGE_DB = 60.0  # below the strongest partial of a window; weaker ones do not count
EVERYWHERE = 0.02  # added to the histogram, times its mean, so that frequencies without partials are filled in evenly


def partials(excerpts: Iterable[np.ndarray], sample_rate: int) -> tuple[float, ...]:
    """Frequencies of steady tones for some sounds: those of the sounds' partials, and others evenly between them.

    Notes of a scale share few partial frequencies. A tone must lie on each: two tones on either side of it would beat.

    Args:
        excerpts: sounds, float [num_samples] of any length.
        sample_rate: Hz.

    Returns:
        Ascending frequencies below 0.45 of the sample rate, Hz.

    >>> sine = np.sin(2 * np.pi * 445.0 * np.arange(48_000) / 48_000)
    >>> bool(min(abs(hertz - 445.0) for hertz in partials([sine], 48_000)) < 1.0)
    True
    """
    window = power_of_two(WINDOW_SECONDS, sample_rate)
    cents = np.arange(0, 1_200 * np.log2(HIGHEST / LOWEST), CENT_STEP)
    histogram = np.zeros(len(cents))
    for excerpt in excerpts:
        for begin in range(0, max(1, len(excerpt) - window + 1), window // 2):
            frequency, weight = _peaks(excerpt[begin : begin + window], window, sample_rate)
            place = np.floor(1_200 * np.log2(frequency / LOWEST) / CENT_STEP).astype(int)
            inside = (place >= 0) & (place < len(histogram))
            np.add.at(histogram, place[inside], weight[inside])
    bell = np.exp(-0.5 * np.square(np.arange(-3 * SMOOTHED, 3 * SMOOTHED + 1, CENT_STEP) / SMOOTHED))
    histogram = np.convolve(histogram, bell / bell.sum(), mode="same")
    hertz = LOWEST * 2 ** ((cents + CENT_STEP / 2) / 1_200)
    apart = np.clip(1_200 * np.log2(1 + APART_HZ / hertz), NARROWEST, WIDEST) / CENT_STEP
    left = np.where(hertz < 0.45 * sample_rate, histogram + EVERYWHERE * histogram.mean() + 1e-9, 0.0)
    chosen = []
    while left.any():
        place = int(left.argmax())
        chosen.append(place)
        left[max(0, place - int(apart[place])) : place + int(apart[place]) + 1] = 0.0
    return tuple(round(float(hertz[place]), 2) for place in sorted(chosen))


def _peaks(samples: np.ndarray, window: int, sample_rate: int) -> tuple[np.ndarray, np.ndarray]:
    """The frequencies of the peaks of a spectrum, Hz, and how far they rise above the weakest that counts, decibels."""
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples)), window))
    if not spectrum.any():
        return np.zeros(0), np.zeros(0)
    level = 20 * np.log10(spectrum / spectrum.max() + 1e-9)
    before, own, after = level[:-2], level[1:-1], level[2:]
    peak = (own > before) & (own >= after) & (own > -RANGE_DB)
    before, own, after = before[peak], own[peak], after[peak]
    bins = np.flatnonzero(peak) + 1 + 0.5 * (before - after) / (before - 2 * own + after)  # a parabola's top
    return bins * (sample_rate / window), own + RANGE_DB
