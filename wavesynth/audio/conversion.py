"""Converts sounds to a sample rate, a number of channels and a level within full scale.

The same rules apply to files and arrays, in training and in use:

- Channels: a sound with the requested number of channels keeps them. A mono sound is copied to all channels at the same level.
  Six channels are 5.1 (left, right, centre, LFE, two surrounds) and are folded down by ITU-R BS.775: L + 0.707 C + 0.707 Ls and
  R + 0.707 C + 0.707 Rs without the LFE, divided by 2.414 so that nothing can clip; mono is the mean of both. Other layouts
  (stereo to mono, quad, 7.1, multitrack) are mixed to the mean of all channels, because their positions are not known.
- Cancelling: a mix over 40 dB below the loudest channel is replaced by that channel, with a warning. So is the mean of two
  inverted channels, whose correlation is below -0.95.
- DC offset: an offset above -40 dBFS is subtracted from the whole sound, which is decoded a second time for that. The offset is
  the median of the means of 50 ms frames, if three quarters of them lie beyond half of it. A drum, whose mean is not 0 either,
  ends without an offset, so it is left alone. So are sounds of under four frames.
- Resampling: soxr (HQ), block by block, in constant memory. Overshoot saturates.
- Peaks over 1 (floats, lossy codecs): the whole sound is scaled to a peak of 1.0, with a warning. Peaks over 16 are integers
  written as floats: they are divided by the smallest sufficient of 2^15, 2^23 and 2^31, with a warning.
- NaN, infinities and values over 2^31 are refused.
- Silent files (nothing above half a 16-bit step) and constant files are refused. A peak below -60 dB is kept, with a warning.
- Of a truncated or damaged file, the part before the damage is used, with a warning.
"""

from array import array
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from wavesynth.audio.containers import Refused, Sound
from wavesynth.audio.pcm import FULL_SCALE

TRAITS = SILENT, INVERTED, OFFSET = "silent channel", "inverted channels", "DC offset"
"""Traits of a sound: one of its two channels is silent; they are inverted; it had a DC offset, which was removed."""

SURROUND = 6
"""The number of channels of a 5.1 sound, in the order of WAV and FLAC: L, R, C, LFE, Ls, Rs."""
_FOLDED = np.array([[1, 0, 0.5**0.5, 0, 0.5**0.5, 0], [0, 1, 0.5**0.5, 0, 0, 0.5**0.5]]) / (1 + 2 * 0.5**0.5)
_STEP = 1 / FULL_SCALE
_INVERTED = -0.95
_CANCELLED = 1e-4
"""The energy of a mix, relative to that of the loudest channel, below which its channels cancel."""
_OFFSET = 0.01
_OFFSET_WARNED = 0.1
_FRAME_SECONDS, _FEWEST_FRAMES = 0.05, 4


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
        traits: which of `TRAITS` it had.
    """

    sample_rate: int
    channels: int
    warnings: tuple[str, ...]
    traits: tuple[str, ...] = ()


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
        opened: opens the sound. It is called a second time if the sound must be scaled, freed of an offset, or mixed
            differently.
        sample_rate: the sample rate of the blocks, Hz.
        sink: takes the blocks, float32 [channels, T].
        channels: number of channels of the blocks.
        allow_silence: whether silence and constants are allowed.

    Returns:
        The sound's own sample rate and channels, and the warnings.

    Raises:
        Refused: the sound cannot be used; the message says why.
    """
    first = _pass(opened, sample_rate, sink, channels, _Plan(), allow_silence)
    plan, remarks, traits = first.survey.judge(channels, allow_silence)
    if plan != _Plan():
        sink.restart()
        _pass(opened, sample_rate, sink, channels, plan, allow_silence)
    return Origin(first.sample_rate, first.channels, (*first.warnings, *remarks), traits)


@dataclass(frozen=True)
class _Plan:
    """How to convert a sound, once all of it is known.

    Attributes:
        channel: the channel to use in place of a mix, or None.
        offsets: the DC offset to subtract from each channel of the result; empty for none.
        gain: what to multiply by after that.
    """

    channel: int | None = None
    offsets: tuple[float, ...] = ()
    gain: float = 1.0


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
    plan: _Plan,
    allow_silence: bool,
) -> _Passed:
    """Reads a sound once and writes it to the sink by a plan."""
    with opened() as sound:
        weights = _mix(sound.channels, channels)
        survey = _Survey.empty(sound.channels, 0 if weights is None else channels, sound.sample_rate)
        chosen = survey.rows(channels) if plan.channel is None else (plan.channel,) * channels
        offsets = np.array(plan.offsets or (0.0,), np.float32)[:, None]

        def mixed() -> Iterator[NDArray[np.float32]]:
            for block in sound.blocks:
                parts = np.ascontiguousarray(block.T)
                if weights is not None:
                    with np.errstate(over="ignore", invalid="ignore"):  # the survey refuses the results
                        parts = np.concatenate([parts, np.einsum("oc,ct->ot", weights, parts)])
                survey.add(parts)
                yield (parts[list(chosen)] - offsets) * np.float32(plan.gain)

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


def _mix(own: int, wanted: int) -> NDArray[np.float32] | None:
    """The weights [wanted, own] that mix a sound with `own` channels; None if its channels are kept or copied."""
    if own in (1, wanted):
        return None
    if own != SURROUND or wanted > 2:
        return np.full((wanted, own), 1 / own, np.float32)
    return (_FOLDED if wanted == 2 else _FOLDED.mean(axis=0, keepdims=True)).astype(np.float32)


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
    """Running statistics of each channel and, in the rows after them, of their mixes.

    Attributes:
        channels: number of channels.
        frames: number of samples per channel.
        low: the lowest value of each row; likewise `high`.
        total: the sum of each row.
        energy: the sum of the squares of each row.
        product: the sum of the products of the first two channels.
        levels: the means of each row in frames of 50 ms.
    """

    channels: int
    frames: int
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    total: NDArray[np.float64]
    energy: NDArray[np.float64]
    product: float
    levels: "_Levels"

    @classmethod
    def empty(cls, channels: int, mixes: int, sample_rate: int) -> "_Survey":
        rows = channels + mixes
        infinite, zero = np.full(rows, np.inf), np.zeros(rows)
        return cls(channels, 0, infinite, -infinite, zero, zero.copy(), 0.0, _Levels(rows, sample_rate))

    def rows(self, wanted: int) -> tuple[int, ...]:
        """The rows that usually become `wanted` channels."""
        if len(self.low) > self.channels:
            return tuple(range(self.channels, self.channels + wanted))
        return (0,) * wanted if self.channels == 1 else tuple(range(wanted))

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
        if self.channels == 2:
            self.product += float(np.dot(rows[0], rows[1]))
        self.levels.add(rows)

    def peak(self, rows: Iterable[int], offsets: Iterable[float] | None = None) -> float:
        """The largest magnitude in the given rows, after their offsets are removed."""
        pairs = zip(rows, offsets, strict=True) if offsets else ((row, 0.0) for row in rows)
        return max(float(max(offset - self.low[row], self.high[row] - offset)) for row, offset in pairs)

    def audible(self, rows: Iterable[int]) -> bool:
        """Whether any of the given rows is not silent."""
        return self.frames > 0 and self.peak(rows) >= _STEP / 2

    def correlation(self) -> float:
        """The correlation of two channels; 0 if there are not two, or one is constant."""
        if self.channels != 2:
            return 0.0
        means = self.total[:2] / self.frames
        power = self.energy[:2] / self.frames - means**2
        if min(power) < _STEP**2 / 12:  # below the noise of 16 bits
            return 0.0
        return float((self.product / self.frames - means.prod()) / np.sqrt(power.prod()))

    def judge(self, wanted: int, allow_silence: bool) -> tuple[_Plan, list[str], tuple[str, ...]]:
        """How to convert to `wanted` channels, the warnings and the traits. Raises Refused."""
        if not self.frames:
            raise Refused("it holds no samples")
        rows, (channel, remarks), traits = self.rows(wanted), self._replacement(wanted), []
        rows = rows if channel is None else (channel,) * wanted
        if not allow_silence:
            if self.peak(rows) < _STEP / 2:
                raise Refused("it is silent")
            if all(self.high[row] - self.low[row] < _STEP for row in rows):
                raise Refused("it is constant, without sound")
        if self.channels == 2 and self.audible((0, 1)) and not (self.audible((0,)) and self.audible((1,))):
            traits.append(SILENT)
        if self.correlation() < _INVERTED:
            traits.append(INVERTED)
        peak = self.peak(rows)
        scale = next((2.0**-bits for bits in (15, 23, 31) if peak <= 2**bits), 1.0) if peak > 16 else 1.0
        offsets = tuple(self._offset(row) for row in rows)
        if max(map(abs, offsets)) * scale <= _OFFSET:
            offsets = ()
        else:
            traits.append(OFFSET)
            if (largest := max(offsets, key=abs) * scale) and abs(largest) > _OFFSET_WARNED:
                remarks.append(f"DC offset {largest:+.2f}: removed")
        gain, rest = scale, self.peak(rows, offsets)
        if scale < 1:
            remarks.append(f"floats with integer values (peak {peak:,.0f}): divided by 2^{-round(np.log2(scale))}")
        elif rest > 1:
            gain = 1 / rest
            remarks.append(f"peak {rest:.3f}: scaled down to 1.0")
        if rest * gain < 1e-3 and not allow_silence:
            remarks.append(f"almost silent (peak {20 * np.log10(rest * gain):.0f} dB): kept unchanged")
        return _Plan(channel, offsets, gain), remarks, tuple(traits)

    def _replacement(self, wanted: int) -> tuple[int | None, list[str]]:
        """The channel to use in place of a mix that cancels, or None; and a warning."""
        mixes = self.rows(wanted)
        if mixes[0] < self.channels:
            return None, []
        loudest = int(np.argmax(self.energy[: self.channels]))
        if max(self.energy[row] for row in mixes) < _CANCELLED * self.energy[loudest]:
            return loudest, [f"its channels cancel in the mix: channel {loudest + 1} is used"]
        if wanted == 1 and (correlation := self.correlation()) < _INVERTED:
            return loudest, [
                f"its channels are inverted (correlation {correlation:.2f}) and cancel in mono: channel {loudest + 1} is used"
            ]
        return None, []

    def _offset(self, row: int) -> float:
        """The DC offset of a row; 0 for a constant, which is left alone."""
        return self.levels.offset(row) if self.high[row] - self.low[row] >= _STEP else 0.0


class _Levels:
    """The mean of each row in frames of 50 ms; memory grows by one number per row and frame."""

    def __init__(self, rows: int, sample_rate: int):
        self._frame = max(1, round(_FRAME_SECONDS * sample_rate))
        self._means = [array("f") for _ in range(rows)]
        self._sums, self._count = np.zeros(rows), 0

    def add(self, rows: NDArray[np.float32]) -> None:
        """Adds a block [rows, T]."""
        at = 0
        while at < rows.shape[1]:
            part = rows[:, at : at + self._frame - self._count]
            self._sums += part.sum(axis=1, dtype=np.float64)
            self._count += part.shape[1]
            at += part.shape[1]
            if self._count == self._frame:
                for means, total in zip(self._means, self._sums):
                    means.append(total / self._frame)
                self._sums[:], self._count = 0.0, 0

    def offset(self, row: int) -> float:
        """The level that the whole row is shifted by: the median of its whole frames, or 0 if they do not agree."""
        if len(self._means[row]) < _FEWEST_FRAMES:
            return 0.0
        low, middle, high = np.quantile(self._means[row], [0.25, 0.5, 0.75])
        return float(middle) if 2 * low >= middle > 0 or 2 * high <= middle < 0 else 0.0
