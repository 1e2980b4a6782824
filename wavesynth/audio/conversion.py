"""Converts sounds to a sample rate, a number of channels and a level within full scale.

The same rules apply to files and arrays, in training and in use:

- Channels: a sound with the requested number of channels keeps them. A mono sound is copied to all channels. Otherwise the
  channels are mixed to their mean; if it is over 40 dB below the loudest channel (right = -left), that channel is used
  instead, with a warning.
- Resampling: soxr (HQ), block by block, in constant memory. Overshoot saturates.
- Peaks over 1 (floats, lossy codecs): the whole sound is scaled to a peak of 1.0, with a warning. Peaks over 16 are integers
  written as floats: they are divided by the smallest sufficient of 2^15, 2^23 and 2^31, with a warning.
- NaN, infinities and values over 2^31 are refused.
- Silent files (nothing above half a 16-bit step) and constant files are refused. A peak below -60 dB or a DC offset over 0.1
  is kept, with a warning.
- Of a truncated or damaged file, the part before the damage is used, with a warning.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from wavesynth.audio.containers import Refused, Sound
from wavesynth.audio.pcm import FULL_SCALE

_STEP = 1 / FULL_SCALE
_MEAN = -1
"""The row of the channels' mean, after the rows 0, 1, ... of the channels."""


class Sink(Protocol):
    """The destination of decoded samples."""

    def append(self, samples: NDArray[np.float32]) -> None:
        """Takes the next block [C, T]."""
        ...

    def restart(self) -> None:
        """Discards all blocks: the sound is decoded again, at another level."""
        ...


class Collected:
    """A sink that keeps a sound in memory."""

    def __init__(self) -> None:
        self._blocks: list[NDArray[np.float32]] = []

    def append(self, samples: NDArray[np.float32]) -> None:
        """Takes the next block [C, T]."""
        self._blocks.append(samples)

    def restart(self) -> None:
        """Forgets every block."""
        self._blocks.clear()

    @property
    def samples(self) -> NDArray[np.float32]:
        """The whole sound, float32 [C, T] in [-1, 1]."""
        return np.clip(np.concatenate(self._blocks, axis=1), -1.0, 1.0)


@dataclass(frozen=True)
class Origin:
    """A sound's properties before conversion.

    Attributes:
        sample_rate: Hz.
        channels: number of channels.
        warnings: problems found.
    """

    sample_rate: int
    channels: int
    warnings: tuple[str, ...]


def convert(
    opened: Callable[[], AbstractContextManager[Sound]],
    sample_rate: int,
    sink: Sink,
    channels: int = 1,
    *,
    allow_silence: bool = False,
) -> Origin:
    """Converts a sound to a sample rate and a number of channels, by the rules above.

    Args:
        opened: opens the sound. It is called a second time if the level turns out to need scaling.
        sample_rate: the sample rate of the blocks, Hz.
        sink: takes the blocks, float32 [channels, T].
        channels: number of channels of the blocks.
        allow_silence: whether silence and constants are allowed.

    Returns:
        The sound's own sample rate and channels, and the warnings.

    Raises:
        Refused: the sound cannot be used; the message says why.
    """
    first = _pass(opened, sample_rate, sink, channels, None, 1.0, allow_silence)
    rows, gain, remarks = first.survey.judge(channels, allow_silence)
    if rows != _usual_rows(first.channels, channels) or gain != 1.0:
        sink.restart()
        _pass(opened, sample_rate, sink, channels, rows, gain, allow_silence)
    return Origin(first.sample_rate, first.channels, (*first.warnings, *remarks))


@dataclass(frozen=True)
class _Passed:
    sample_rate: int
    channels: int
    warnings: list[str]
    survey: "_Survey"


def _pass(
    opened: Callable[[], AbstractContextManager[Sound]],
    sample_rate: int,
    sink: Sink,
    channels: int,
    rows: tuple[int, ...] | None,
    gain: float,
    allow_silence: bool,
) -> _Passed:
    """Reads a sound once and writes some of its rows (channels, or their mean) to the sink."""
    with opened() as sound:
        survey = _Survey.empty(sound.channels)
        chosen = list(_usual_rows(sound.channels, channels) if rows is None else rows)

        def mixed() -> Iterator[NDArray[np.float32]]:
            for block in sound.blocks:
                parts = np.ascontiguousarray(block.T)
                if sound.channels > 1:
                    with np.errstate(over="ignore", invalid="ignore"):  # the survey refuses the results
                        parts = np.concatenate([parts, parts.mean(axis=0, keepdims=True)])
                survey.add(parts)
                yield parts[chosen] * np.float32(gain)

        num_samples, peak = 0, 0.0
        for block in _resample(mixed(), sound.sample_rate, sample_rate, channels):
            if block.shape[1]:
                num_samples += block.shape[1]
                peak = max(peak, float(block.max()), -float(block.min()))
                sink.append(block)
        if survey.frames and not num_samples:
            raise Refused(f"it is too short for one sample at {sample_rate:,} Hz ({survey.frames} frames)")
        if survey.audible(chosen) and peak < _STEP / 2 and not allow_silence:
            raise Refused(f"it is silent at {sample_rate:,} Hz: it only has frequencies above {sample_rate // 2:,} Hz")
        return _Passed(sound.sample_rate, sound.channels, sound.warnings, survey)


def _usual_rows(own: int, wanted: int) -> tuple[int, ...]:
    """The rows of a sound with `own` channels to use for `wanted` channels."""
    if own == wanted:
        return tuple(range(own))
    return (0 if own == 1 else _MEAN,) * wanted


def _resample(
    blocks: Iterator[NDArray[np.float32]], old: int, new: int, channels: int
) -> Iterator[NDArray[np.float32]]:
    """Resamples blocks [C, T] from `old` to `new` Hz. The result does not depend on the division into blocks."""
    if old == new:
        yield from blocks
        return
    import soxr

    stream = soxr.ResampleStream(old, new, channels, dtype="float32", quality="HQ")
    for block in blocks:
        yield stream.resample_chunk(np.ascontiguousarray(block.T)).T
    yield stream.resample_chunk(np.zeros((0, channels), np.float32), last=True).T


@dataclass
class _Survey:
    """Running statistics of each channel and, in the last row, of their mean."""

    frames: int
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    total: NDArray[np.float64]
    energy: NDArray[np.float64]

    @classmethod
    def empty(cls, channels: int) -> "_Survey":
        rows = channels + (channels > 1)
        return cls(0, np.full(rows, np.inf), np.full(rows, -np.inf), np.zeros(rows), np.zeros(rows))

    def add(self, rows: NDArray[np.float32]) -> None:
        """Adds a block [rows, T]."""
        low, high = rows.min(axis=1), rows.max(axis=1)
        if not (np.isfinite(low).all() and np.isfinite(high).all()):
            raise Refused("it holds NaN, infinite or overflowing values")
        if (peak := float(np.abs([low, high]).max())) > 2**31:
            raise Refused(f"its values reach {peak:.3g}, which matches no known scale")
        self.frames += rows.shape[1]
        self.low = np.minimum(self.low, low)
        self.high = np.maximum(self.high, high)
        self.total += rows.sum(axis=1)
        self.energy += np.einsum("rt,rt->r", rows, rows)

    def peak(self, rows: Iterable[int]) -> float:
        """The largest magnitude in the given rows."""
        return max(float(max(-self.low[row], self.high[row])) for row in rows)

    def audible(self, rows: Iterable[int]) -> bool:
        """Whether any of the given rows is not silent."""
        return self.frames > 0 and self.peak(rows) >= _STEP / 2

    def judge(self, channels: int, allow_silence: bool) -> tuple[tuple[int, ...], float, list[str]]:
        """The rows to use for `channels` channels, the gain, and the warnings. Raises Refused."""
        if not self.frames:
            raise Refused("it holds no samples")
        remarks = []
        rows = _usual_rows(max(1, len(self.energy) - 1), channels)
        loudest = int(np.argmax(self.energy))
        if _MEAN in rows and self.energy[_MEAN] < 1e-4 * self.energy[loudest]:
            rows = (loudest,) * channels
            remarks.append(f"its channels cancel in the mean: channel {loudest + 1} is used")
        peak = self.peak(rows)
        if not allow_silence:
            if peak < _STEP / 2:
                raise Refused("it is silent")
            if all(self.high[row] - self.low[row] < _STEP for row in rows):
                raise Refused("it is constant, without sound")
        gain = 1.0
        if peak > 16:
            bits = next(bits for bits in (15, 23, 31) if peak <= 2**bits)
            gain = 2.0**-bits
            remarks.append(f"floats with integer values (peak {peak:,.0f}): divided by 2^{bits}")
        elif peak > 1:
            gain = 1 / peak
            remarks.append(f"peak {peak:.3f}: scaled down to 1.0")
        if peak * gain < 1e-3 and not allow_silence:
            remarks.append(f"almost silent (peak {20 * np.log10(peak * gain):.0f} dB): kept unchanged")
        offset = max((self.total[row] / self.frames * gain for row in rows), key=abs)
        if abs(offset) > 0.1 and not allow_silence:
            remarks.append(f"DC offset {offset:+.2f}: kept unchanged")
        return rows, gain, remarks
