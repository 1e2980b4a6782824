"""Facts about a dataset that a model depends on, read from shards."""

import math

import numpy as np

from wavesynth.audio.pcm import to_float
from wavesynth.config import DatasetInfo
from wavesynth.data.shards import ClipRecord, Shards

TYPICAL = 256  # clips that represent the labels, pitches and level of the dataset
LEVEL_SECONDS = 2.0  # of each of them, for the level
QUIETEST_DB = -100.0  # the level of sounds that are silent throughout


def dataset_info(shards: Shards) -> DatasetInfo:
    """The sample rate, channels, labels, pitches and lengths of the clips in some shards."""
    pitches = [clip.pitch for clip in shards.clips if clip.pitch is not None]
    return DatasetInfo(
        shards.sample_rate,
        shards.labels,
        pitched=bool(pitches),
        pitches=(min(pitches), max(pitches)) if pitches else (),
        clip_seconds=_middle([clip.length for clip in shards.clips]) / shards.sample_rate,
        channels=shards.channels,
        level_db=_level_db(shards),
        typical=_typical(shards),
    )


def _level_db(shards: Shards) -> float:
    """The root mean square of the middles of what sounds in up to `TYPICAL` training clips, decibels."""
    clips = shards.split("train")
    total, count, most = 0.0, 0, round(LEVEL_SECONDS * shards.sample_rate)
    for clip in np.unique(np.linspace(0, len(clips) - 1, TYPICAL).astype(int)) if len(clips) else ():
        for begin, end in shards.clips[clips[clip]].sounding:
            middle = (begin + end) // 2
            part = to_float(
                shards.samples(clips[clip])[:, max(begin, middle - most // 2) : min(end, middle + most // 2)]
            )
            total, count = total + float(np.square(part, dtype=np.float64).sum()), count + part.size
    return max(QUIETEST_DB, 10 * math.log10(total / count)) if total else QUIETEST_DB


def _middle(lengths: list[int]) -> int:
    """The length that divides the sound in halves: one is in clips of at most this length, the other in longer clips."""
    ordered = np.sort(lengths)
    return int(ordered[np.searchsorted(np.cumsum(ordered), sum(lengths) / 2)])


def _typical(shards: Shards) -> tuple[tuple[float, float], ...]:
    """The label index and pitch of up to `TYPICAL` training clips, evenly spaced in the order of labels and pitches."""

    def pair(clip: ClipRecord) -> tuple[float, float]:
        label = -1 if clip.label is None else shards.labels.index(clip.label)
        return float(label), -1.0 if clip.pitch is None else clip.pitch

    pairs = sorted(pair(shards.clips[clip]) for clip in shards.split("train"))
    if all(found == (-1.0, -1.0) for found in pairs):
        return ()
    count = min(TYPICAL, len(pairs))
    return tuple(pairs[(2 * index + 1) * len(pairs) // (2 * count)] for index in range(count))
