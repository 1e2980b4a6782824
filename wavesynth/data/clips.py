"""The clips of a prepared folder, with their splits and pitches."""

from dataclasses import replace
from typing import Any

from wavesynth.audio import pitch as tracking
from wavesynth.audio.pcm import to_float
from wavesynth.data.activity import within
from wavesynth.data.corpus import Corpus
from wavesynth.data.journal import Outcome
from wavesynth.data.manifest import ClipRecord
from wavesynth.data.partial import Partial
from wavesynth.data.report import PitchReport
from wavesynth.data.splits import assign, to_divide
from wavesynth.progress import Progress

TRACKED_SECONDS = 4.0
"""The length of the beginning of a clip in which its pitch is tracked."""


def make_clips(
    corpus: Corpus, partial: Partial, settings: dict[str, Any], progress: bool
) -> tuple[list[ClipRecord], PitchReport, list[str]]:
    """Creates the records of the decoded clips.

    Args:
        corpus: the folder.
        partial: the decoded sounds.
        settings: of `prepare`.
        progress: shows progress on stderr while pitches are tracked.

    Returns:
        The clips, the sources of their pitches, and remarks for the report.
    """

    def end_of(outcome: Outcome) -> float | None:
        return outcome.sample_rate / 2 if outcome.sample_rate < settings["sample_rate"] else None

    taken = [(s, o) for s, o in zip(corpus.files, partial.outcomes) if o.length]
    hashes, allowed = [outcome.sha256 for _, outcome in taken], [source.splits for source, _ in taken]
    seconds = [outcome.length / settings["sample_rate"] for _, outcome in taken]
    divided = to_divide(seconds, allowed) if settings["valid"] else None
    splits, remarks = assign(hashes, allowed, settings["valid"], settings["test"], divided) if taken else ([], [])
    clips = [
        ClipRecord(s.file, s.label, s.pitch, split, o.shard, o.offset, o.length, o.sha256, o.sound, end_of(o))
        for (s, o), split in zip(taken, splits)
    ]
    sources = [source.pitch_source for source, _ in taken]
    if settings["track_pitch"]:
        clips, sources, remark = _tracked(clips, sources, partial, settings["sample_rate"], progress)
        remarks = [*remarks, *remark]
    pitches = PitchReport.of([(c.file, c.pitch, s) for c, s in zip(clips, sources) if c.pitch is not None])
    if divided is not None:
        share = seconds[divided] / sum(seconds)
        why = (
            "there is only one clip"
            if len(clips) == 1
            else f"{clips[divided].file} is {int(100 * share)}% of the sound"
        )
        remarks = [*remarks, f"{why}: its last {settings['valid']:.0%} are held out for validation"]
        clips[divided : divided + 1] = _parted(clips[divided], settings["valid"], partial)
    if clips and all(clip.split != "valid" for clip in clips):
        remarks = [*remarks, "no clip is held out for validation, so memorisation goes unnoticed: set valid > 0"]
    return clips, pitches, remarks


def _parted(clip: ClipRecord, valid: float, partial: Partial) -> list[ClipRecord]:
    """Divides a clip in two: its end, a fraction `valid` of it, is for validation."""
    begin = clip.length - max(1, round(valid * clip.length))
    if not begin:
        return [clip]
    parts = []
    for split, first, last in (("train", 0, begin), ("valid", begin, clip.length)):
        offset, length = clip.offset + first, last - first
        digest = partial.digest(clip.shard, offset, length)
        sound = within(clip.sound, first, last)
        parts.append(replace(clip, split=split, offset=offset, length=length, sha256=digest, sound=sound))
    return parts


def _tracked(
    clips: list[ClipRecord], sources: list[str], partial: Partial, sample_rate: int, progress: bool
) -> tuple[list[ClipRecord], list[str], list[str]]:
    """Tracks the pitch of clips that have none. Returns the clips, the sources of their pitches, and a remark."""
    unknown = [index for index, clip in enumerate(clips) if clip.pitch is None]
    if not unknown:
        return clips, sources, []
    clips, sources = list(clips), list(sources)
    with Progress(len(unknown), "clip", "pitch", shown=progress) as bar:
        for index in bar.over(unknown):
            clip = clips[index]
            pcm = partial.samples(clip.shard, clip.offset, min(clip.length, round(TRACKED_SECONDS * sample_rate)))
            pitch = tracking.median_pitch(to_float(pcm).mean(axis=0), sample_rate)
            clips[index], sources[index] = replace(clip, pitch=pitch), "" if pitch is None else "tracked"
    without = sum(clips[index].pitch is None for index in unknown)
    return clips, sources, [f"a pitch was found in {len(unknown) - without} of {len(unknown)} clips that had none"]
