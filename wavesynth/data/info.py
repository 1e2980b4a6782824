"""Facts about a dataset that a model depends on, read from shards."""

import math

import numpy as np

from wavesynth.audio.pcm import to_float
from wavesynth.config import DatasetInfo
from wavesynth.data.partials import partials
from wavesynth.data.shards import ClipRecord, Shards

TYPICAL = 256  # clips that represent the labels and pitches of the dataset
EXCERPTS, EXCERPT_SECONDS = 256, 2.0  # parts of the sounds that are analysed, and their length
QUIETEST_DB = -100.0  # the level of sounds that are silent throughout


def dataset_info(shards: Shards) -> DatasetInfo:
    """Facts about the clips in some shards, and about their sounds."""
    excerpts = _excerpts(shards)
    pitches = [clip.pitch for clip in shards.clips if clip.pitch is not None]
    return DatasetInfo(
        shards.sample_rate,
        shards.labels,
        pitched=bool(pitches),
        pitches=(min(pitches), max(pitches)) if pitches else (),
        clip_seconds=_middle([clip.length for clip in shards.clips]) / shards.sample_rate,
        channels=shards.channels,
        level_db=_level_db(excerpts),
        typical=_typical(shards),
        partials=()
        if pitches
        else partials((channel for part in excerpts for channel in to_float(part)), shards.sample_rate),
    )


def _level_db(excerpts: list[np.ndarray]) -> float:
    """The root mean square of some sounds, decibels."""
    count = sum(part.size for part in excerpts)
    total = sum(float(np.square(to_float(part), dtype=np.float64).sum()) for part in excerpts)
    return max(QUIETEST_DB, 10 * math.log10(total / count)) if total else QUIETEST_DB


def _excerpts(shards: Shards) -> list[np.ndarray]:
    """Up to `EXCERPTS` parts of the training clips where they sound, evenly spread, int16 [C, t]. They are not read yet."""
    ranges = [(clip, *sound) for clip in shards.split("train") for sound in shards.clips[clip].sounding]
    if not ranges:
        return []
    most = round(EXCERPT_SECONDS * shards.sample_rate)
    ends = np.cumsum([end - begin for _, begin, end in ranges])
    count = min(EXCERPTS, max(len(ranges), -(-int(ends[-1]) // most)))
    found = []
    for place in ((np.arange(count) + 0.5) / count * ends[-1]).astype(int):
        index = int(np.searchsorted(ends, place, side="right"))
        clip, begin, end = ranges[index]
        middle = end - int(ends[index] - place)
        found.append(shards.samples(clip)[:, max(begin, middle - most // 2) : min(end, middle + most // 2)])
    return found


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
