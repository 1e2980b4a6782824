"""From shards to batches: a pure function of (seed, step, host), so that the state of a resumed run is one integer.

A window is `context` samples of true left context and `crop` samples to learn. Before a clip lies digital silence, and
so does what is behind its end; windows are drawn so that beginnings and ends of clips are seen as often as their middles.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from wavesynth.audio.pcm import to_float
from wavesynth.data.shards import Shards
from wavesynth.errors import UserError

HELD_OUT = 2**63  # in the place of a step, for the noise of held-out windows
LEVEL_BATCHES = 8

Batch = dict[str, np.ndarray]
"""samples: float32 [B, context + crop]. real: bool [B, crop], False behind a clip's end, in rows that only fill up, and for
held-out samples that the next window counts.
label: int32 [B], -1 for none. pitch: float32 [B], MIDI number, NaN for none. start: int32 [B], where in its clip."""


@dataclass(frozen=True)
class Batches:
    """Batches of one split of some shards.

    align: windows begin at multiples of it (so that frames of local conditioning do). limit: of held-out windows.
    noise: standard deviation of white noise that is added to all samples, silence included; amplitude.
    whole: every clip is as likely, and its window begins where it does; what lies behind `crop` is left out.

    >>> batches = Batches(shards, "train", batch_size=8, crop=8192, context=1054, seed=0)
    >>> batch = batches.batch(step=17)          # always the same one
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
    host: int = 0
    hosts: int = 1

    def __post_init__(self) -> None:
        if not len(self.clips):
            raise UserError(f"split is {self.split!r}, which has no clips: add sounds and prepare them again")
        if self.crop < self.align:
            raise UserError(
                f"crop is {self.crop}: it must be at least {self.align}, the samples of one frame (hop_length)"
            )
        if self.batch_size % self.hosts:
            raise UserError(f"batch_size is {self.batch_size}: make it a multiple of the {self.hosts} hosts")

    @cached_property
    def clips(self) -> tuple[int, ...]:
        return self.shards.split(self.split)

    @cached_property
    def lengths(self) -> np.ndarray:
        return np.array([self.shards.clips[clip].length for clip in self.clips])

    @cached_property
    def level(self) -> float:
        """Root mean square of the sounds, of some batches of them."""
        clean = replace(self, noise=0.0, host=0, hosts=1)
        drawn = [clean.batch(step) for step in range(LEVEL_BATCHES)]
        heard = np.concatenate([batch["samples"][:, self.context :][batch["real"]] for batch in drawn])
        return float(np.sqrt(np.mean(np.square(heard)))) if heard.size else 0.0

    @cached_property
    def reach(self) -> np.ndarray:
        """Running sum of how many windows touch each clip: it is by this that clips are drawn, so short ones count."""
        return np.cumsum(self.lengths + self.crop)

    def batch(self, step: int) -> Batch:
        """This host's part of the batch of `step`: every clip as likely as it is long, every place in it alike (or `whole`)."""
        rows = self.batch_size // self.hosts
        random = np.random.Generator(np.random.Philox(key=[self.seed, step]))
        draws = random.random((self.batch_size, 2))[self.host * rows : (self.host + 1) * rows]
        windows = []
        for which, where in draws:
            if self.whole:
                windows.append((self.clips[int(which * len(self.clips))], 0))
                continue
            index = int(np.searchsorted(self.reach, which * self.reach[-1], side="right"))
            length = -(-int(self.lengths[index]) // self.align) * self.align  # the last frame counts like the others
            last = max(length - self.crop, 0)
            start = int(np.clip(int(where * (length + self.crop)) - self.crop, 0, last + -last % self.align))
            windows.append((self.clips[index], start - start % self.align))
        return self._assemble(windows, rows, self.crop, (step, self.host * rows))

    def held_out(self) -> Iterator[Batch]:
        """Windows side by side over all clips (or the first of each), or `limit` of them spread evenly: the same at every call.

        No sample is counted twice: where the crop is no multiple of `align`, its last samples are not `real`.
        """
        counted = self.crop - self.crop % self.align
        windows = [
            (clip, start)
            for clip in self.clips
            for start in ([0] if self.whole else range(0, self.shards.clips[clip].length, counted))
        ]
        if len(windows) > self.limit:
            windows = [windows[index] for index in np.linspace(0, len(windows) - 1, self.limit).round().astype(int)]
        rows = self.batch_size // self.hosts
        for first in range(0, len(windows), self.batch_size):
            mine = windows[first + self.host * rows : first + (self.host + 1) * rows]
            yield self._assemble(mine, rows, counted, (HELD_OUT, first + self.host * rows))

    def _assemble(self, windows: list[tuple[int, int]], rows: int, counted: int, place: tuple[int, int]) -> Batch:
        batch = {
            "samples": np.zeros((rows, self.context + self.crop), np.float32),
            "real": np.zeros((rows, self.crop), bool),
            "label": np.full(rows, -1, np.int32),
            "pitch": np.full(rows, np.nan, np.float32),
            "start": np.zeros(rows, np.int32),
        }
        for row, (clip, start) in enumerate(windows):
            record, pcm = self.shards.clips[clip], self.shards.samples(clip)[0]
            first, last = max(start - self.context, 0), min(start + self.crop, record.length)
            offset = first - (start - self.context)
            batch["samples"][row, offset : offset + last - first] = to_float(pcm[first:last])
            batch["real"][row, : min(last - start, counted)] = True
            batch["label"][row] = -1 if record.label is None else self.shards.labels.index(record.label)
            batch["pitch"][row] = np.nan if record.pitch is None else record.pitch
            batch["start"][row] = start
        if self.noise:
            for row in range(rows):
                batch["samples"][row] += self._noise(place[0], place[1] + row)
            np.clip(batch["samples"], -1, 1, out=batch["samples"])
        return batch

    def _noise(self, step: int, row: int) -> np.ndarray:
        """Of one window: it depends on the seed, the step and the row, and not on how rows are shared between hosts."""
        random = np.random.Generator(np.random.Philox(key=[self.seed, step], counter=[0, 0, 0, row + 1]))
        return np.float32(self.noise) * random.standard_normal(self.context + self.crop, dtype=np.float32)


def prefetch(batches: Batches, first: int, last: int, ahead: int = 2) -> Iterator[Batch]:
    """The batches of steps first..last - 1, made by a thread of their own, `ahead` of the one in use."""
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="batches") as pool:
        pending = [pool.submit(batches.batch, step) for step in range(first, min(first + ahead, last))]
        for step in range(first, last):
            batch = pending.pop(0).result()
            if step + ahead < last:
                pending.append(pool.submit(batches.batch, step + ahead))
            yield batch
