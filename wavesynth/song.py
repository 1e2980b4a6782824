"""Songs: the notes of a MIDI file (extra `midi`), played by a synth of pitched sounds into one wav.

- Each note is a sound of its own, made for its pitch and cut where the note ends, with a release of 50 ms (a raised cosine).
- Velocity is level as in General MIDI, 40 log10(velocity / 127) dB, and so are a channel's volume, of which the usual 100
  changes nothing, and its expression, as they are when a note begins. Programs and pitch bends are ignored.
- The mix is scaled by one gain, chosen beforehand: were every note at full scale all the time, their sum would just not
  clip. A song that needs no such headroom is not scaled.
- All notes are of one seed: notes of one pitch sound alike, and a synth that draws its timbres by chance keeps to one.
"""

import math
import os
import warnings
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from wavesynth.audio import files
from wavesynth.audio.midi import Note, read_song
from wavesynth.errors import UserError
from wavesynth.synth import Synth
from wavesynth.timbre.timbre import Timbre, onset_at

RELEASE = 0.05  # seconds
LONGEST = 600.0  # seconds of a note: a key that hangs must not fill the memory
KEPT_SECONDS = 120.0  # of sounds that are kept for notes to come
RUNGS = 4  # lengths in an octave that notes are rounded up to, so that those of about one length share a sound
SILENCE = 65_536  # samples of silence written at once


@dataclass(frozen=True)
class Rendering:
    """path: the wav. notes: how many were played. seconds: of sound. gain: of the mix. peak: the largest sample."""

    path: Path
    notes: int
    seconds: float
    gain: float
    peak: float

    def __str__(self) -> str:
        gain, peak = (20 * math.log10(max(level, 1e-5)) for level in (self.gain, self.peak))
        return (
            f"wrote {self.path}: {self.notes} notes, {self.seconds:.1f} s, headroom {-gain:.1f} dB, peak {peak:.1f} dB"
        )


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
    force: bool = False,
    progress: bool = False,
) -> Rendering:
    """Plays a MIDI file into a wav, written as the notes are made: memory grows with the longest note, not the song.

    timbre: what the notes sound like, in place of a `label`. glide: a timbre to move to; a note that begins at a share t of
    the song is that far on the way. channels: those to play, 1 to 16; None for all but 10, the drums. What of the file is
    not played is warned of. An interrupt leaves what was made so far as a whole wav. Nothing is overwritten unless `force`.

    Raises:
        UserError: the file holds no notes, or is broken; the synth plays no pitches, or cannot do what is asked of it.

    >>> render("song.mid", "song.wav", synth, label="flute")                # doctest: +SKIP
    """
    if not synth.family.dataset.pitched:
        synth.family.unsupported("render a song", "it was trained on sounds without pitches")
    if glide is not None and timbre is None:
        raise UserError("glide is given without timbre: it is where to go to, say by timbre where to come from")
    if label is not None and timbre is not None:
        raise UserError(f"label is {label!r} and a timbre is given too: give one of them")
    taken = read_song(song, channels)
    longest = min(synth.longest, LONGEST)
    parts = _parts(taken.notes, taken.seconds, synth.sample_rate, longest)
    for remark in (*taken.remarks, *_cut_short(taken.notes, longest)):
        warnings.warn(f"{taken.name}: {remark}", stacklevel=2)
    gain = headroom(parts)
    timbre, glide = (end and onset_at(end, 0.0) for end in (timbre, glide))  # notes begin on time
    player = _Player(synth, timbre, glide, label, seed)
    with files.WavWriter(out, synth.sample_rate, force) as wav:
        peak = _mix(parts, player, gain, wav, progress)
    return Rendering(wav.path, len(parts), wav.num_samples / synth.sample_rate, gain, peak)


@dataclass(frozen=True)
class Part:
    """A note in samples. length: with its release, of `fade` samples. share: of the song that has gone by at its start."""

    pitch: int
    start: int
    length: int
    fade: int
    level: float
    share: float

    @property
    def end(self) -> int:
        return self.start + self.length

    def envelope(self, sample: int) -> float:
        """The level at a sample of the song that lies between start and end."""
        gone = sample - (self.end - self.fade)
        return self.level * (1.0 if gone < 0 else 0.5 + 0.5 * math.cos(math.pi * gone / self.fade))


def _parts(notes: Sequence[Note], seconds: float, sample_rate: int, longest: float) -> list[Part]:
    parts = []
    for note in notes:
        length = max(1, round(min(note.seconds + RELEASE, longest) * sample_rate))
        parts.append(
            Part(
                note.pitch, round(note.start * sample_rate), length, min(length, round(RELEASE * sample_rate)),
                (note.velocity / 127 * note.volume) ** 2, note.start / seconds if seconds else 0.0,
            )
        )  # fmt: skip
    return parts


def _cut_short(notes: Sequence[Note], longest: float) -> list[str]:
    count = sum(note.seconds > longest for note in notes)
    return [f"notes longer than the {longest:g} s that one can last: {count}; they end there"] if count else []


def headroom(parts: Sequence[Part]) -> float:
    """The gain, 1 at most, under which no sum of these parts reaches beyond 1, whatever sounds in [-1, 1] they have.

    Parts come in the order of their starts. Envelopes only fall, so their sum is greatest where one of them begins.
    """
    greatest, sounding = 1.0, []
    for part in parts:
        sounding = [*(other for other in sounding if other.end > part.start), part]
        greatest = max(greatest, sum(other.envelope(part.start) for other in sounding))
    return 1 / greatest


def _mix(parts: Sequence[Part], player: "_Player", gain: float, wav: files.WavWriter, progress: bool) -> float:
    """Writes the sum of all parts; returns its greatest magnitude."""
    from tqdm import tqdm

    tape, peak = _Tape(), 0.0
    end = max(part.end for part in parts)
    with ExitStack() as stack:
        bar = stack.enter_context(tqdm(total=round(end / wav.sample_rate, 1), unit="s", disable=not progress))
        for number, part in enumerate([*parts, None], 1):
            # The sound comes first: what cannot be made fails before silence is written.
            sound = None if part is None else player.play(part) * np.float32(gain)
            for block in tape.take(end if part is None else part.start):
                wav.append(block)
                peak = max(peak, float(np.abs(block).max()))
            bar.update(round(wav.num_samples / wav.sample_rate, 1) - bar.n)
            if part is not None and sound is not None:
                tape.add(part.start, sound)
                bar.set_postfix_str(f"note {number} of {len(parts)}")
    return peak


class _Tape:
    """The sum of what sounds from `begin` on, as far as notes reach: it grows at its end and is taken from its front."""

    def __init__(self) -> None:
        self.begin = 0
        self.samples = np.zeros(0, np.float32)

    def add(self, start: int, sound: np.ndarray) -> None:
        place = slice(start - self.begin, start - self.begin + len(sound))
        self.samples = np.pad(self.samples, (0, max(0, place.stop - len(self.samples))))
        self.samples[place] += sound

    def take(self, until: int) -> Iterator[np.ndarray]:
        """Blocks of what lies before the sample `until`, which nothing can be added to any more."""
        ready, self.samples = np.split(self.samples, [until - self.begin])
        silence = until - self.begin - len(ready)
        self.begin = until
        if len(ready):
            yield ready
        for gone in range(0, silence, SILENCE):
            yield np.zeros(min(SILENCE, silence - gone), np.float32)


@dataclass
class _Player:
    """Makes the sounds of notes, and keeps some for the notes that want the same."""

    synth: Synth
    timbre: Timbre | None
    glide: Timbre | None
    label: str | None
    seed: int
    kept: OrderedDict[tuple[int, float, float], np.ndarray] = field(default_factory=OrderedDict)

    def play(self, part: Part) -> np.ndarray:
        """The sound of a note at its level, float32 [T], T at most its length; it ends in the release."""
        rate = self.synth.sample_rate
        sound = self._made(part.pitch, part.length / rate, part.share if self.glide else 0.0)[: part.length].copy()
        fade = min(part.fade, len(sound))
        sound[len(sound) - fade :] *= (0.5 + 0.5 * np.cos(np.pi * np.arange(fade) / fade)).astype(np.float32)
        return sound * np.float32(part.level)

    def _made(self, pitch: int, seconds: float, share: float) -> np.ndarray:
        """A sound of at least so many seconds, the latest used kept last."""
        seconds = min(2 ** (math.ceil(RUNGS * math.log2(seconds)) / RUNGS), self.synth.longest)
        wanted = (pitch, seconds, share)
        if wanted not in self.kept:
            self.kept[wanted] = self._make(pitch, seconds, share)
        self.kept.move_to_end(wanted)
        while len(self.kept) > 1 and sum(map(len, self.kept.values())) > KEPT_SECONDS * self.synth.sample_rate:
            self.kept.popitem(last=False)
        return self.kept[wanted]

    def _make(self, pitch: int, seconds: float, share: float) -> np.ndarray:
        if self.timbre is None:
            return self.synth.sample(1, seconds, label=self.label, pitch=pitch, seed=self.seed)[0]
        timbre = self.timbre
        if self.glide is not None:
            timbre = self.synth.between(timbre, self.glide, share)
        return self.synth.decode(timbre, seconds, pitch=pitch, seed=self.seed)
