"""Durations in samples, at any sample rate."""

import math


def power_of_two(seconds: float, sample_rate: float, *, least: int = 1) -> int:
    """The power of two nearest to a duration in samples, on a logarithmic scale.

    Windows and hops are powers of two for speed, and so that one is a multiple of another at every rate.

    Args:
        seconds: the duration.
        sample_rate: Hz.
        least: the smallest result, a power of two.

    >>> [power_of_two(0.06, rate) for rate in (8_000, 16_000, 44_100, 48_000, 96_000)]
    [512, 1024, 2048, 2048, 4096]
    """
    return max(least, 2 ** round(math.log2(seconds * sample_rate)))


def multiple(seconds: float, sample_rate: float, of: int) -> int:
    """The multiple of `of` samples nearest to a duration, and at least `of`.

    >>> multiple(1.0, 44_100, of=1_024)
    44032
    """
    return max(1, round(seconds * sample_rate / of)) * of
