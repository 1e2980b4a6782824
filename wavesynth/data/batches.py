"""Batches from shards: a pure function of (seed, step, host), so that a resumed run only needs the step.

A window has `context` samples of left context, then `crop` samples that count in the loss. Clips are surrounded by digital
silence. Windows are drawn so that the beginnings and ends of clips occur as often as their middles.
"""

import math
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from wavesynth.audio.pcm import to_float
from wavesynth.conditions import Conditions
from wavesynth.data.shards import Shards
from wavesynth.errors import UserError

HELD_OUT = 2**63  # in place of the step, for the noise of held-out windows
LEVEL_BATCHES = 8
MARGIN = 256  # samples around a window, so that the resampling filter meets no edge

Batch = dict[str, Any]
"""samples: float32 [B, C, context + crop]. real: bool [B, crop], False before and after a clip, in padding rows, and for
held-out samples that another window counts. start: int32 [B], the position of the crop in its clip, after transposition;
negative if it begins before the clip. conditions: `Conditions` of B sounds. bandwidth: float32 [B], where the sounds end, Hz,
after transposition; only if sounds are transposed, or if some files have a lower sample rate than the shards."""


class Window(NamedTuple):
    """A part of a clip: the clip's index, the transposition, and where the crop begins, in samples after transposition."""

    clip: int
    start: int
    semitones: float = 0.0

    @property
    def speed(self) -> float:
        """How much faster the clip is played."""
        return 2 ** (self.semitones / 12)


@dataclass(frozen=True)
class Batches:
    """Batches of one split of some shards.

    Attributes:
        shards: the shards.
        split: "train", "valid" or "test".
        batch_size: windows per batch, over all hosts.
        crop: samples per window that count in the loss.
        context: samples of left context before the crop.
        seed: random seed.
        align: windows begin at multiples of this many samples, to match frames of local conditioning.
        limit: the largest number of held-out windows.
        noise: standard deviation of white noise added to all samples, including silence; amplitude.
        whole: draw all clips equally often, from their beginnings; samples beyond `crop` are left out.
        silence: the most samples of silence before or after a clip in a window; every other window has none. Models need such
            windows to learn to start notes on time.
        host: index of this host.
        hosts: number of hosts.
        channels: of the samples: 1 mixes the channels of stereo shards, 2 spreads mono ones, None keeps those of the shards.
        transpose: semitones; clips that have a pitch are played up to this much higher or lower, with their pitches.

    >>> from wavesynth.data.shards import Shards
    >>> batches = Batches(Shards.open("shards/"), "train", batch_size=8, crop=1024, context=64, seed=0)
    >>> batches.batch(step=17)["samples"].shape         # the same windows each time
    (8, 1, 1088)
    """

    shards: Shards
    split: str
    batch_size: int
    crop: int
    context: int
    seed: int
    align: int = 1
    limit: int = 64
    noise: float = 0.0
    whole: bool = False
    silence: int = 0
    host: int = 0
    hosts: int = 1
    channels: int | None = None
    transpose: float = 0.0

    def __post_init__(self) -> None:
        if not len(self.clips):
            raise UserError(f"split is {self.split!r}, which has no clips: add sounds and prepare them again")
        if self.crop < self.align:
            raise UserError(
                f"crop is {self.crop}: it must be at least {self.align}, the length of one frame (hop_length)"
            )
        if self.batch_size % self.hosts:
            raise UserError(f"batch_size is {self.batch_size}: it must be a multiple of the {self.hosts} hosts")

    @cached_property
    def clips(self) -> tuple[int, ...]:
        """The indices of the split's clips."""
        return self.shards.split(self.split)

    def excerpt(self, clip: int, begin: int, end: int) -> np.ndarray:
        """The samples `begin` to `end` of a clip, float32 [C, t], with `channels` channels."""
        samples = to_float(self.shards.samples(clip)[:, begin:end])
        if self.channels in (None, len(samples)):
            return samples
        return mono(samples)[None] if self.channels == 1 else np.repeat(samples, self.channels, axis=0)

    @cached_property
    def lengths(self) -> np.ndarray:
        """The number of samples of each of `clips`."""
        return np.array([self.shards.clips[clip].length for clip in self.clips])

    @cached_property
    def level(self) -> float:
        """The root mean square of the sounds, estimated from a few batches."""
        clean = replace(self, noise=0.0, transpose=0.0, host=0, hosts=1)
        total, count = 0.0, 0
        for step in range(LEVEL_BATCHES):
            batch = clean.batch(step)
            samples = np.moveaxis(batch["samples"][:, :, self.context :], 1, 2)[batch["real"]]
            total, count = total + float(np.square(samples, dtype=np.float64).sum()), count + samples.size
        return (total / count) ** 0.5 if count else 0.0

    @cached_property
    def reach(self) -> np.ndarray:
        """The cumulative number of windows that contain sound of each clip. Clips are drawn in proportion to it."""
        return np.cumsum([sum(end - begin for begin, end in self._starts(clip)) for clip in self.clips])

    def _starts(self, clip: int, speed: float = 1.0) -> list[tuple[int, int]]:
        """The ranges of starts of windows that contain sound of a clip, up to a crop before it. Long silence is left out.

        speed: how much faster the clip is played.
        """
        ranges: list[tuple[int, int]] = []
        for part in self.shards.clips[clip].sounding:
            begin, end = (round(place / speed) for place in part)
            if ranges and begin - self.crop <= ranges[-1][1]:
                ranges[-1] = ranges[-1][0], end
            else:
                ranges.append((begin - self.crop, end))
        return ranges

    def batch(self, step: int) -> Batch:
        """This host's part of the batch of `step`.

        All positions in clips that are not silent are equally likely; with `whole`, all clips are.
        """
        rows = self.batch_size // self.hosts
        random = np.random.Generator(np.random.Philox(key=[self.seed, step]))
        draws, around = random.random((self.batch_size, 2)), random.random(self.batch_size) < 0.5
        shifts = random.uniform(-self.transpose, self.transpose, self.batch_size)
        mine = slice(self.host * rows, (self.host + 1) * rows)
        windows = []
        for (which, where), silent, semitones in zip(draws[mine], around[mine], shifts[mine], strict=True):
            if self.whole:
                window = self._beginning(self.clips[int(which * len(self.clips))], float(semitones))
            else:
                clip = self.clips[int(np.searchsorted(self.reach, which * self.reach[-1], side="right"))]
                window = self._beginning(clip, float(semitones))
                window = window._replace(start=self._start(window, where, self.silence * silent))
            windows.append(window)
        return self._assemble(windows, rows, self.crop, (step, self.host * rows))

    def _beginning(self, clip: int, semitones: float) -> Window:
        """The window at the beginning of a clip.

        A clip with a pitch is transposed, by less if its pitch would leave the range 0 to 127. Other clips are not.
        """
        pitch = self.shards.clips[clip].pitch
        return Window(clip, 0, 0.0 if pitch is None else min(max(semitones, -pitch), 127 - pitch))

    def _start(self, window: Window, where: float, silence: int) -> int:
        """A random start for a window, in its clip or up to `silence` samples around it.

        `where` in [0, 1) is the random number. The window's own start is not used.
        """
        ranges = self._starts(window.clip, window.speed)
        ends = np.cumsum([end - begin for begin, end in ranges])
        place = int(where * ends[-1])
        index = int(np.searchsorted(ends, place, side="right"))
        place += ranges[index][1] - int(ends[index])
        length = -(-self._length(window) // self.align) * self.align  # round up to whole frames
        silence = min(silence, self.crop - self.align) // self.align * self.align
        last = max(length - self.crop, 0)
        last = min(last + -last % self.align + silence, length - self.align)  # so that it contains some of the clip
        start = int(np.clip(place, -silence, last))
        return start - start % self.align

    def _length(self, window: Window) -> int:
        """The number of samples of a window's clip, after transposition."""
        return round(self.shards.clips[window.clip].length / window.speed)

    def held_out(self) -> Iterator[Batch]:
        """Adjacent windows over all clips (with `whole`, the first of each), the same in every call.

        If there are more than `limit`, evenly spaced windows are chosen. No sample counts twice: if the crop is not a multiple
        of `align`, its last samples are not `real`.
        """
        counted = self.crop - self.crop % self.align
        windows = [
            Window(clip, start)
            for clip in self.clips
            for start in ([0] if self.whole else range(0, self.shards.clips[clip].length, counted))
        ]
        if len(windows) > self.limit:
            windows = [windows[index] for index in np.linspace(0, len(windows) - 1, self.limit).round().astype(int)]
        rows = self.batch_size // self.hosts
        for first in range(0, len(windows), self.batch_size):
            mine = windows[first + self.host * rows : first + (self.host + 1) * rows]
            yield self._assemble(mine, rows, counted, (HELD_OUT, first + self.host * rows))

    def _assemble(self, windows: list[Window], rows: int, counted: int, place: tuple[int, int]) -> Batch:
        records = [self.shards.clips[window.clip] for window in windows]
        filler = [None] * (rows - len(windows))
        names = self.shards.labels
        pitches = [
            record.pitch if record.pitch is None else record.pitch + window.semitones
            for record, window in zip(records, windows, strict=True)
        ]
        batch: Batch = {
            "samples": np.zeros((rows, self.channels or self.shards.channels, self.context + self.crop), np.float32),
            "real": np.zeros((rows, self.crop), bool),
            "start": np.array([window.start for window in windows] + [0] * len(filler), np.int32),
            "conditions": Conditions.constant(
                [-1 if record is None or record.label is None else names.index(record.label) for record in records + filler],
                len(names),
                pitches + filler,
            ),
        }  # fmt: skip
        if self.transpose or any(clip.bandwidth for clip in self.shards.clips):
            whole = self.shards.sample_rate / 2
            ends = [
                min((record.bandwidth or whole) * window.speed, whole)
                for record, window in zip(records, windows, strict=True)
            ]
            batch["bandwidth"] = np.array(ends + [whole] * len(filler), np.float32)
        for row, window in enumerate(windows):
            batch["samples"][row] = self._played(window)
            end = self._length(window) - window.start
            batch["real"][row, max(-window.start, 0) : max(min(end, counted), 0)] = True
        if self.noise:
            for row in range(rows):
                batch["samples"][row] += self._noise(place[0], place[1] + row)
            np.clip(batch["samples"], -1, 1, out=batch["samples"])
        return batch

    def _played(self, window: Window) -> np.ndarray:
        """The samples of a window, float32 [C, context + crop]; zeros before and after the clip."""
        size, speed = self.context + self.crop, window.speed
        margin = math.ceil(MARGIN / speed) if window.semitones else 0
        begin = round((window.start - self.context - margin) * speed)
        end = begin + math.ceil((size + 2 * margin) * speed)
        first, last = max(begin, 0), min(end, self.shards.clips[window.clip].length)
        samples = np.zeros((self.channels or self.shards.channels, end - begin), np.float32)
        if first < last:
            samples[:, first - begin : last - begin] = self.excerpt(window.clip, first, last)
        if not window.semitones:
            return samples
        import soxr

        played = soxr.resample(samples.T, speed, 1.0)[margin : margin + size]
        return np.clip(played.T, -1, 1)

    def _noise(self, step: int, row: int) -> np.ndarray:
        """The noise of one window. It depends only on the seed, the step and the row, not on the number of hosts."""
        random = np.random.Generator(np.random.Philox(key=[self.seed, step], counter=[0, 0, 0, row + 1]))
        return np.float32(self.noise) * random.standard_normal(self.context + self.crop, dtype=np.float32)


def mono(samples: Any) -> Any:
    """Samples [..., C, T] mixed to one channel, [..., T]: the mean of the channels."""
    return samples.mean(axis=-2)


def prefetch(batches: Batches, first: int, last: int, ahead: int = 2) -> Iterator[Batch]:
    """Yields the batches of steps first..last - 1, assembled in a thread up to `ahead` batches in advance."""
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="batches") as pool:
        pending = [pool.submit(batches.batch, step) for step in range(first, min(first + ahead, last))]
        for step in range(first, last):
            batch = pending.pop(0).result()
            if step + ahead < last:
                pending.append(pool.submit(batches.batch, step + ahead))
            yield batch
