"""Sound files in and out: any format, rate and channel count to mono float32 at one rate, and 16-bit WAV back.

What is done to a file, and said of it, is decided here for training and for use alike:

- Channels become one by their mean. Where the mean is over 40 dB below the loudest channel (right = -left), that
  channel is taken, with a warning.
- Resampling is soxr's (HQ), in blocks: memory does not grow with the file. Its overshoot saturates in int16.
- Peaks over 1 (floats, lossy codecs): the whole file is scaled down to a peak of 1.0, with a warning. Peaks over 16 are
  taken for integers written as floats and divided by 2^15, 2^23 or 2^31, the least that suffices, with a warning.
- NaN, infinities and values over 2^31 refuse the file.
- Silence (nothing above half a 16-bit step, so denormals too) and a constant refuse the file. A peak below -60 dB and a
  DC offset over 0.1 are kept as they are, with a warning.
- Of a file that was cut short or is damaged inside, what precedes the damage is taken, with a warning.
"""

import os
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from wavesynth.audio.containers import Refused, check_sample_rate, open_sound
from wavesynth.audio.names import display
from wavesynth.audio.pcm import FULL_SCALE
from wavesynth.audio.wav import WavWriter, write
from wavesynth.errors import UserError

__all__ = ["Refused", "Sink", "WavWriter", "check_free", "check_sample_rate", "decode", "read", "write"]

_STEP = 1 / FULL_SCALE
_MEAN = -1
"""The row of the channels' mean; a file's channels are rows 0, 1, ... before it."""


class Sink(Protocol):
    """What `decode` pours samples into."""

    def append(self, samples: NDArray[np.float32]) -> None:
        """Takes the next block [T]."""
        ...

    def restart(self) -> None:
        """Forgets every block: the file is decoded again, at another level."""
        ...


def decode(path: str | os.PathLike[str], sample_rate: int, sink: Sink) -> tuple[str, ...]:
    """Pours a sound file into `sink`: mono, at `sample_rate` Hz, by the rules above. Returns the warnings.

    Raises:
        Refused: the file cannot be taken, with the reason.
    """
    survey, notes = _pass(path, sample_rate, sink)
    row, gain, remarks = survey.judge()
    if row != _MEAN or gain != 1.0:
        sink.restart()
        _pass(path, sample_rate, sink, row, gain)
    return (*notes, *remarks)


def check_free(paths: Iterable[Path], force: bool) -> None:
    """Raises UserError where one of the files is there already, unless `force`."""
    there = next((path for path in paths if path.exists()), None)
    if there is not None and not force:
        raise UserError(
            f"{display(str(there))} is there already: choose another name, or overwrite it by --force (force=True)"
        )


def _pass(
    path: str | os.PathLike[str], sample_rate: int, sink: Sink, row: int = _MEAN, gain: float = 1.0
) -> tuple["_Survey", list[str]]:
    """One reading of a file, of which one channel or the mean of all goes to the sink."""
    with open_sound(path) as sound:
        survey = _Survey.empty(sound.channels)

        def mono() -> Iterator[NDArray[np.float32]]:
            for block in sound.blocks:
                rows = np.ascontiguousarray(block.T)
                if sound.channels > 1:
                    with np.errstate(over="ignore", invalid="ignore"):  # the survey refuses what comes of these
                        rows = np.concatenate([rows, rows.mean(axis=0, keepdims=True)])
                survey.add(rows)
                yield rows[row] * np.float32(gain)

        num_samples, peak = 0, 0.0
        for block in _resample(mono(), sound.sample_rate, sample_rate):
            if len(block):
                num_samples += len(block)
                peak = max(peak, float(block.max()), -float(block.min()))
                sink.append(block)
        if survey.frames and not num_samples:
            raise Refused(f"it is too short for one sample at {sample_rate:,} Hz ({survey.frames} frames)")
        if survey.audible and peak < _STEP / 2:
            raise Refused(f"it is silent at {sample_rate:,} Hz: its sound lies above {sample_rate // 2:,} Hz")
        return survey, sound.warnings


def _resample(blocks: Iterator[NDArray[np.float32]], old: int, new: int) -> Iterator[NDArray[np.float32]]:
    """Blocks [T] at `old` Hz to blocks at `new` Hz; the same samples however they are cut."""
    if old == new:
        yield from blocks
        return
    import soxr

    stream = soxr.ResampleStream(old, new, 1, dtype="float32", quality="HQ")
    for block in blocks:
        yield stream.resample_chunk(block)
    yield stream.resample_chunk(np.zeros(0, np.float32), last=True)


@dataclass
class _Survey:
    """Running metrics of each channel and, in the last row, of their mean (of mono, the channel itself)."""

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
        """Counts a block [rows, T] in."""
        low, high = rows.min(axis=1), rows.max(axis=1)
        if not (np.isfinite(low).all() and np.isfinite(high).all()):
            raise Refused("it holds NaN, infinite or overflowing values")
        if (peak := float(np.abs([low, high]).max())) > 2**31:
            raise Refused(f"its values reach {peak:.3g}, which no scale explains")
        self.frames += rows.shape[1]
        self.low = np.minimum(self.low, low)
        self.high = np.maximum(self.high, high)
        self.total += rows.sum(axis=1)
        self.energy += np.einsum("rt,rt->r", rows, rows)

    @property
    def audible(self) -> bool:
        """Whether the mean of the channels is more than silence."""
        return max(-self.low[_MEAN], self.high[_MEAN]) >= _STEP / 2

    def judge(self) -> tuple[int, float, list[str]]:
        """Which row to take, the gain to take it with, and the warnings. Raises Refused."""
        if not self.frames:
            raise Refused("it holds no samples")
        remarks = []
        row = _MEAN
        loudest = int(np.argmax(self.energy))
        if self.energy[_MEAN] < 1e-4 * self.energy[loudest]:
            row = loudest
            remarks.append(f"its channels cancel in the mean: channel {loudest + 1} is taken")
        peak = float(max(-self.low[row], self.high[row]))
        if peak < _STEP / 2:
            raise Refused("it is silent")
        if self.high[row] - self.low[row] < _STEP:
            raise Refused("it is a constant without sound")
        gain = 1.0
        if peak > 16:
            bits = next(bits for bits in (15, 23, 31) if peak <= 2**bits)
            gain = 2.0**-bits
            remarks.append(f"floats that hold integers (peak {peak:,.0f}): divided by 2^{bits}")
        elif peak > 1:
            gain = 1 / peak
            remarks.append(f"peak {peak:.3f}: scaled down to 1.0")
        if peak * gain < 1e-3:
            remarks.append(f"almost silent (peak {20 * np.log10(peak * gain):.0f} dB): kept as it is")
        offset = self.total[row] / self.frames * gain
        if abs(offset) > 0.1:
            remarks.append(f"DC offset {offset:+.2f}: kept as it is")
        return row, gain, remarks


class _Blocks:
    """A sink in memory."""

    def __init__(self) -> None:
        self.blocks: list[NDArray[np.float32]] = []

    def append(self, samples: NDArray[np.float32]) -> None:
        self.blocks.append(samples)

    def restart(self) -> None:
        self.blocks.clear()


def read(path: str | os.PathLike[str], sample_rate: int) -> NDArray[np.float32]:
    """A whole sound file as float32 [T] in [-1, 1] at `sample_rate` Hz. What was mended in it is a UserWarning.

    Raises:
        UserError: it cannot be read, with the file, the reason and the remedy.

    >>> flute = read("flute.wav", 16_000)                                   # doctest: +SKIP
    """
    check_sample_rate(sample_rate)
    sink = _Blocks()
    try:
        notes = decode(path, sample_rate, sink)
    except Refused as reason:
        raise UserError(f"{display(path)} cannot be read: {reason}; choose another file or convert it to WAV") from None
    for note in notes:
        warnings.warn(f"{display(path)}: {note}", stacklevel=2)
    return np.clip(np.concatenate(sink.blocks), -1.0, 1.0)
