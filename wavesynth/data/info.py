"""Facts about a dataset that a model depends on, read from shards."""

import numpy as np

from wavesynth.config import DatasetInfo
from wavesynth.data.shards import ClipRecord, Shards

TYPICAL = 256  # clips that represent the labels and pitches of the dataset


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
        typical=_typical(shards),
    )


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
