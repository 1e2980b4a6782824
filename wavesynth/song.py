"""Rendering songs: a synth of pitched sounds plays the notes of a MIDI file into one WAV file.

- Each note is decoded at its pitch and cut at its end, with a release of 50 ms (a raised cosine).
- Velocity sets the level as in General MIDI, 40 log10(velocity / 127) dB, and so do the channel's volume and expression at the
  note's start. The default volume of 100 is neutral. Program changes and pitch bends are ignored.
- Notes of the same pitch share one sound, generated from one seed: a shorter note is the beginning of a longer one.
- The mix stays in float32 until its peak is known; then it is normalized to -1 dBFS.
"""

import heapq
import math
import os
import tempfile
import warnings
from collections import OrderedDict, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import BinaryIO

import numpy as np

from wavesynth.audio.midi import Note, read_song
from wavesynth.audio.names import display
from wavesynth.audio.wav import WavWriter, check_length
from wavesynth.errors import UserError
from wavesynth.progress import Progress
from wavesynth.storage import DISK_FULL
from wavesynth.synth import Synth
from wavesynth.timbre.timbre import Timbre, onset_at

RELEASE = 0.05  # seconds
LONGEST = 600.0  # seconds of a note, so that a hanging note cannot fill the memory
LATE = 60.0  # seconds; a longer silence at the beginning of a song is skipped
VOICES = 128  # simultaneous notes; a further note ends the oldest
PEAK = 10 ** (-1 / 20)  # of a normalized song, -1 dBFS
SILENT = 1e-6  # -120 dBFS; a mix with a lower peak is not scaled
KEPT_BYTES = 256 * 2**20  # of cached sounds
RUNGS = 4  # lengths per octave to which sounds are rounded up, so that few lengths are compiled
BLOCK = 65_536  # samples mixed and written at once


@dataclass(frozen=True)
class Rendering:
    """A summary of a rendered song.

    Attributes:
        path: The WAV file.
        notes: Number of notes played.
        seconds: Length of the file.
        gain: Factor by which the mix was scaled.
        peak: Largest magnitude in the file.
    """

    path: Path
    notes: int
    seconds: float
    gain: float
    peak: float

    def __str__(self) -> str:
        gain, peak = (20 * math.log10(max(level, 1e-5)) for level in (self.gain, self.peak))
        notes = "1 note" if self.notes == 1 else f"{self.notes} notes"
        return f"wrote {display(self.path)}: {notes}, {self.seconds:.1f} s, gain {gain:+.1f} dB, peak {peak:.1f} dBFS"


def render(
    song: str | os.PathLike[str],
    out: str | os.PathLike[str],
    synth: Synth,
    *,
    timbre: Timbre | None = None,
    glide: Timbre | None = None,
    label: str | None = None,
    channels: Sequence[int] | None = None,
    seed: int = 0,
    normalize: bool = True,
    force: bool = False,
    progress: bool = False,
) -> Rendering:
    """Renders a MIDI file to a WAV file. Memory use does not grow with the length of the song.

    Events that cannot be played cause a warning. If interrupted, the file holds the song so far, unless it would
    replace an existing file. If a song begins with more than a minute of silence, the file begins at the first note.

    Args:
        song: The MIDI file.
        out: The WAV file to write.
        synth: A model that plays pitches.
        timbre: The timbre of all notes, instead of a label.
        glide: A timbre to move to during the song: each note's timbre is interpolated by the position of its start.
        label: One of the synth's labels, instead of a timbre.
        channels: MIDI channels to play, 1 to 16. None plays all but channel 10, the drums.
        seed: Random seed. The same seed gives the same sounds.
        normalize: Scale the song to a peak of -1 dBFS. Otherwise, a mix is scaled down only if it would clip.
        force: Replace the file if it exists.
        progress: Show a progress bar.

    Returns:
        The number of notes, and the length, gain and peak of the file.

    Raises:
        UserError: The file is not MIDI or holds no notes, the song does not fit in a WAV file, or the synth does not play
            pitches.

    >>> render("song.mid", "song.wav", synth, label="flute")                # doctest: +SKIP
    """
    if not synth.family.dataset.pitched:
        synth.family.unsupported("render a song", "it was trained on sounds without pitches")
    if glide is not None and timbre is None:
        raise UserError("glide is given without timbre: also give timbre, the timbre at the start of the song")
    if label is not None and timbre is not None:
        raise UserError(f"label is {label!r} and a timbre is given too: give one of them")
    taken = read_song(song, channels)
    begin = taken.notes[0].start if taken.notes[0].start > LATE else 0.0
    longest = min(synth.longest, LONGEST)
    parts, ended = _bounded(_parts(taken.notes, begin, taken.seconds, synth.sample_rate, longest))
    check_length(out, max(part.end for part in parts), synth.sample_rate, synth.channels)
    learned = synth.family.dataset.pitches
    for remark in (*taken.remarks, *_remarks(taken.notes, begin, longest, ended, learned)):
        warnings.warn(f"{taken.name}: {remark}", stacklevel=2)
    timbre, glide = (end and onset_at(end, 0.0) for end in (timbre, glide))  # notes begin on time
    player = _Player(synth, timbre, glide, label, seed, _lengths(parts, glide is not None))
    with WavWriter(out, synth.sample_rate, force) as wav, _Mix(wav, synth.channels) as mix:
        try:
            mix.play(parts, player, progress)
        finally:
            gain = mix.write(normalize)
    if mix.peak <= SILENT and any(part.level for part in parts):
        warnings.warn(f"{taken.name}: the song is silent, because the synth renders its notes as silence", stacklevel=2)
    return Rendering(wav.path, len(parts), wav.num_samples / synth.sample_rate, gain, min(1.0, mix.peak * gain))


@dataclass(frozen=True)
class Part:
    """A note, timed in samples.

    Attributes:
        pitch: MIDI number.
        start: The first sample.
        length: Number of samples, including the release.
        fade: Number of samples in the release.
        level: Gain from velocity and volume.
        share: Fraction of the song before its start.
    """

    pitch: int
    start: int
    length: int
    fade: int
    level: float
    share: float

    @property
    def end(self) -> int:
        return self.start + self.length


def _parts(notes: Sequence[Note], begin: float, end: float, sample_rate: int, longest: float) -> list[Part]:
    """Converts notes to samples; the song begins and ends at these seconds."""
    parts = []
    for note in notes:
        length = max(1, round(min(note.seconds + RELEASE, longest) * sample_rate))
        start, fade = note.start - begin, min(length, round(RELEASE * sample_rate))
        level = (note.velocity / 127 * note.volume) ** 2
        share = start / (end - begin) if end > begin else 0.0
        parts.append(Part(note.pitch, round(start * sample_rate), length, fade, level, share))
    return parts


def _bounded(parts: Sequence[Part]) -> tuple[list[Part], int]:
    """Ends the oldest note, with its release, whenever more than VOICES would sound at once.

    Takes parts sorted by start. Returns the parts, and how many were ended early.
    """
    parts, ended = list(parts), 0
    sounding: OrderedDict[int, None] = OrderedDict()  # indices, the oldest first
    ends: list[tuple[int, int]] = []  # a heap of ends and indices; may contain notes that were ended early
    for index, part in enumerate(parts):
        while ends and ends[0][0] <= part.start:
            sounding.pop(heapq.heappop(ends)[1], None)
        if len(sounding) == VOICES:
            oldest, _ = sounding.popitem(last=False)
            first = parts[oldest]
            length = min(first.length, part.start - first.start + first.fade)
            parts[oldest] = replace(first, length=length, fade=min(first.fade, length))
            ended += 1
        sounding[index] = None
        heapq.heappush(ends, (part.end, index))
    return parts, ended


def _remarks(notes: Sequence[Note], begin: float, longest: float, ended: int, learned: Sequence[float]) -> list[str]:
    remarks = []
    if begin:
        remarks.append(f"the first note comes after {begin:,.0f} s of silence, which is left out")
    if cut := sum(note.seconds > longest for note in notes):
        remarks.append(f"notes cut to {longest:g} s, the longest possible: {cut}")
    if ended:
        remarks.append(f"notes ended early because more than {VOICES} would sound at once: {ended}")
    if learned and (outside := sum(not learned[0] <= note.pitch <= learned[-1] for note in notes)):
        remarks.append(
            f"notes outside the pitches of the training sounds, {learned[0]:g} to {learned[-1]:g}: {outside}; quality "
            "drops there"
        )
    if not any(note.volume for note in notes):
        remarks.append("the song is silent: the volume of its channels is 0 (controller 7 or 11)")
    return remarks


def _lengths(parts: Sequence[Part], gliding: bool) -> dict[tuple[int, float], int]:
    """The length in samples of the longest note for each pitch and, if timbres glide, position in the song."""
    lengths: defaultdict[tuple[int, float], int] = defaultdict(int)
    for part in parts:
        key = part.pitch, part.share if gliding else 0.0
        lengths[key] = max(lengths[key], part.length)
    return lengths


class _Mix:
    """The sum of all notes. Finished samples are in a temporary float32 file beside the WAV file, the others in memory."""

    def __init__(self, wav: WavWriter, channels: int) -> None:
        self.wav, self.channels = wav, channels
        self.peak = 0.0
        self.begin = 0  # position of `sounding` in the song; earlier samples are in the file
        self.sounding = np.zeros((channels, BLOCK), np.float32)
        self.length = 0  # number of samples of `sounding` in use
        self.file: BinaryIO

    def __enter__(self) -> "_Mix":
        try:
            self.file = tempfile.TemporaryFile(dir=self.wav.path.absolute().parent, buffering=0)
        except OSError as error:
            raise self._unwritable(error) from None
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()

    def play(self, parts: Sequence[Part], player: "_Player", progress: bool) -> None:
        """Adds all parts, sorted by start."""
        rate, reached = self.wav.sample_rate, 0
        end = max(part.end for part in parts)
        with Progress(end / rate, "second", "render", shown=progress) as bar:
            try:
                for number, part in enumerate(parts, 1):
                    bar.update((part.start - reached) / rate, f"note {number} of {len(parts)}")
                    reached = part.start if number > 1 else 0
                    if part.level:
                        self._add(part.start, player.play(part))
                    if part.start - self.begin >= BLOCK:
                        self._keep(part.start)
                bar.update((end - reached) / rate)
                reached = end
            finally:
                self._keep(reached)  # later notes cannot change earlier samples

    def write(self, normalize: bool) -> float:
        """Writes the scaled WAV file; returns the gain."""
        gain = 1.0
        if self.peak > SILENT:
            gain = PEAK / self.peak if normalize else min(1.0, 1 / self.peak)
        self.file.seek(0)
        left = self.begin
        while left:
            count = min(BLOCK, left)
            block = np.frombuffer(self.file.read(4 * self.channels * count), np.float32).reshape(-1, self.channels)
            self.wav.append(np.pad(block, ((0, count - len(block)), (0, 0))).T * np.float32(gain))
            left -= count
        return gain

    def _add(self, start: int, sound: np.ndarray) -> None:
        place = slice(start - self.begin, start - self.begin + sound.shape[1])
        room = self.sounding.shape[1]
        if place.stop > room:
            self.sounding = np.pad(self.sounding, ((0, 0), (0, max(place.stop, 2 * room) - room)))
        self.sounding[:, place] += sound
        self.length = max(self.length, place.stop)

    def _keep(self, until: int) -> None:
        """Moves the samples before `until` to the file. Silence becomes a hole in the file."""
        count = min(until - self.begin, self.length)
        ready = np.ascontiguousarray(self.sounding[:, :count].T)  # channels interleaved
        if count and (peak := float(np.abs(ready).max())):
            self.peak = max(self.peak, peak)
            try:
                self.file.seek(4 * self.channels * self.begin)
                content = ready.data.cast("B")
                while content:
                    content = content[self.file.write(content) :]
            except OSError as error:
                raise self._unwritable(error) from None
        left = self.length - count
        self.sounding[:, :left] = self.sounding[:, count : self.length]
        self.sounding[:, left : self.length] = 0
        self.begin, self.length = until, left

    def _unwritable(self, error: OSError) -> UserError:
        place = display(self.wav.path)
        if error.errno in DISK_FULL:
            return UserError(
                f"{place}: the disk is full; the temporary mix takes {4 * self.channels} bytes per sample: free some space"
            )
        return UserError(f"{place} cannot be written: {error.strerror or error}")


@dataclass
class _Player:
    """Renders the sounds of notes, and caches them.

    Attributes:
        lengths: Length in samples of the longest note for each pitch and share: the length of the cached sound.
    """

    synth: Synth
    timbre: Timbre | None
    glide: Timbre | None
    label: str | None
    seed: int
    lengths: dict[tuple[int, float], int]
    kept: OrderedDict[tuple[int, float], np.ndarray] = field(default_factory=OrderedDict)

    def play(self, part: Part) -> np.ndarray:
        """The sound of a note at its level, with its release: float32 [C, T], at most as long as the note."""
        whole = self._sound(part.pitch, part.share if self.glide else 0.0)
        sound = whole[:, : part.length] * np.float32(part.level)
        fade = min(part.fade, sound.shape[1])
        sound[:, sound.shape[1] - fade :] *= _release(fade)[None]
        return sound

    def _sound(self, pitch: int, share: float) -> np.ndarray:
        """The sound shared by all notes of a pitch."""
        key = pitch, share
        if key not in self.kept:
            seconds = self.lengths[key] / self.synth.sample_rate
            seconds = 2 ** (math.ceil(RUNGS * math.log2(seconds)) / RUNGS)
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", "pitch is .* training sounds")  # `render` warns once for all notes
                self.kept[key] = self._make(pitch, min(seconds, self.synth.longest), share)[:, : self.lengths[key]]
        self.kept.move_to_end(key)
        while len(self.kept) > 1 and sum(sound.nbytes for sound in self.kept.values()) > KEPT_BYTES:
            self.kept.popitem(last=False)
        return self.kept[key]

    def _make(self, pitch: int, seconds: float, share: float) -> np.ndarray:
        if self.timbre is None:
            return np.atleast_2d(self.synth.sample(1, seconds, label=self.label, pitch=pitch, seed=self.seed)[0])
        timbre = self.timbre
        if self.glide is not None:
            timbre = self.synth.between(timbre, self.glide, share)
        return np.atleast_2d(self.synth.decode(timbre, seconds, pitch=pitch, seed=self.seed))


def _release(samples: int) -> np.ndarray:
    """The falling half of a raised cosine, float32 [samples]."""
    return (0.5 + 0.5 * np.cos(np.pi * np.arange(samples) / samples)).astype(np.float32)
