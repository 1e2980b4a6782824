"""The notes of a MIDI file, timed in seconds by its tempo map and sustain pedals."""

import os
from collections import defaultdict, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from wavesynth.audio.midi_file import Event, MidiFile, parse
from wavesynth.audio.names import display, user_path
from wavesynth.errors import UserError

DRUMS = 10  # the channel of General MIDI's drums
FIRST_TEMPO = 500_000  # microseconds per beat until the first tempo event
VOLUME, EXPRESSION, PEDAL, SOUND_OFF, RESET, NOTES_OFF = 7, 11, 64, 120, 121, 123  # controllers
USUAL_VOLUME = 100  # the default volume of a channel
MOST_BYTES = 16 * 2**20  # of a file; enough for a day of music


@dataclass(frozen=True)
class Note:
    """A note.

    Attributes:
        start: Start time, seconds.
        seconds: Duration.
        pitch: MIDI number.
        velocity: 1 to 127.
        channel: 1 to 16.
        volume: Volume times expression of its channel at the start, relative to the default.
    """

    start: float
    seconds: float
    pitch: int
    velocity: int
    channel: int
    volume: float = 1.0


@dataclass(frozen=True)
class Song:
    """The notes of a file.

    Attributes:
        name: The file's name, safe to print.
        notes: The notes, sorted by start.
        remarks: Deviations from the file, one line each.
    """

    name: str
    notes: tuple[Note, ...]
    remarks: tuple[str, ...] = ()

    @property
    def seconds(self) -> float:
        """The end of the last note."""
        return max(note.start + note.seconds for note in self.notes)


def read_song(path: str | os.PathLike[str], channels: Sequence[int] | None = None) -> Song:
    """Reads the notes of a Standard MIDI File or an RMID file.

    A key released while the sustain pedal is down sounds until the pedal is released or the key is struck again. If notes
    of the same pitch overlap, a note-off ends the oldest. A note without an end lasts until the end of the file. Damaged or
    invalid events are skipped and reported in `Song.remarks`.

    Args:
        path: The file.
        channels: The channels to read, 1 to 16; None for all except 10, the drums.

    Raises:
        UserError: The file cannot be read, or has no notes in these channels.

    >>> read_song("song.mid").notes[0].pitch                                # doctest: +SKIP
    60
    """
    wrong = next((channel for channel in channels or () if not 1 <= channel <= 16), None)
    if wrong is not None:
        raise UserError(f"channels has {wrong}: MIDI's channels are 1 to 16 ({DRUMS} has the drums)")
    name = display(path)
    file = _read(user_path(path))
    keyboard, remarks = _Keyboard(), list(file.remarks)
    played = set(range(1, 17)) - {DRUMS} if channels is None else set(channels)
    now, bends = 0.0, 0
    for now, track, event in _timed(file):
        keyboard.play(now, track, event)
        bends += event.kind == "bend" and event.number != 0 and event.channel in played
    unended = [note for note in keyboard.end(now) if note.channel in played]
    notes = [note for note in keyboard.notes if note.channel in played]
    notes.sort(key=lambda note: (note.start, note.channel, note.pitch))
    if not notes:
        raise UserError(_no_notes(name, keyboard.notes, channels))
    drums = sum(note.channel == DRUMS for note in keyboard.notes)
    if drums and channels is None:
        remarks.append(f"notes left out: {drums} on channel {DRUMS}, the drums; {_PLAYED_AS_PITCHES}")
    if unended:
        first = min(unended, key=lambda note: note.start)
        remarks.append(
            f"notes without an end: {len(unended)}, the first with pitch {first.pitch} at {first.start:.2f} s on channel "
            f"{first.channel}; they sound until the file ends, at {now:.2f} s"
        )
    if bends:
        remarks.append(f"pitch bends left out: {bends}; notes keep the pitch of their keys")
    return Song(name, tuple(notes), tuple(remarks))


_PLAYED_AS_PITCHES = f"channels=[{DRUMS}] (--channels {DRUMS}) plays them, each at the pitch of its key"


def _no_notes(name: str, notes: Sequence[Note], channels: Sequence[int] | None) -> str:
    there = sorted({note.channel for note in notes})
    if not there:
        return f"{name} holds no notes: choose another file"
    if channels is None:
        return f"{name} only has notes on channel {DRUMS}, the drums: {_PLAYED_AS_PITCHES}"
    return f"channels is {list(channels)}, and {name} has notes on {', '.join(map(str, there))}: choose from these"


def _read(path: str | os.PathLike[str]) -> MidiFile:
    try:
        with open(path, "rb") as opened:
            content = opened.read(MOST_BYTES + 1)
        if len(content) > MOST_BYTES:
            raise ValueError(f"it is larger than {MOST_BYTES // 2**20} MiB")
        file = parse(content)
        _beat(file.division)  # raises if a beat has no length
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(
            f"{display(path)} cannot be read as MIDI ({reason}): export it again as a Standard MIDI File of format 0 or 1"
        ) from None
    return file


def _timed(file: MidiFile) -> Iterator[tuple[float, int, Event]]:
    """Time in seconds, track and event of all events, sorted by time.

    At the same tick, volumes come before notes, because programs write them in any order, and in different tracks.
    """
    ticks, fixed = _beat(file.division)
    events, begin = [], 0
    for track, content in enumerate(file.tracks):
        if file.sequential:
            events.append((begin, 0, track, Event(0, "tempo", number=FIRST_TEMPO)))
        for event in content:
            late = not (event.kind == "control" and event.number in (VOLUME, EXPRESSION, RESET))
            events.append((begin + event.tick, late, track, event))
        if file.sequential:
            begin = events[-1][0]
    tempo, last, microseconds = 1_000_000 if fixed else FIRST_TEMPO, 0, 0
    for tick, _, track, event in sorted(events, key=lambda each: each[:2]):  # stable: otherwise in file order
        microseconds += (tick - last) * tempo
        last = tick
        if event.kind == "tempo" and not fixed:
            tempo = event.number
        yield microseconds / ticks / 1e6, track, event


def _beat(division: int) -> tuple[float, bool]:
    """Ticks per beat, and whether a beat is always one second (SMPTE time)."""
    if division > 0:
        return division, False
    frames, per_frame = -(division >> 8), division & 255
    if not frames or not per_frame:
        raise ValueError(f"its ticks have no length, division {division}")
    return (30 / 1.001 if frames == 29 else frames) * per_frame, True


class _Keyboard:
    """The state of keys and pedals during a song. `notes` has the finished notes."""

    def __init__(self) -> None:
        self.notes: list[Note] = []
        self._down: defaultdict[tuple[int, int, int], deque[Note]] = defaultdict(deque)  # by channel, pitch, track
        self._held: defaultdict[tuple[int, int], list[Note]] = defaultdict(list)  # by channel, pitch
        self._pedals: set[int] = set()
        self._volumes: defaultdict[int, int] = defaultdict(lambda: USUAL_VOLUME)
        self._expressions: defaultdict[int, int] = defaultdict(lambda: 127)

    def play(self, now: float, track: int, event: Event) -> None:
        if event.kind in ("note_on", "note_off"):
            channel, pitch = event.channel, event.number
            keys = self._down[channel, pitch, track]
            if event.kind == "note_on" and event.value:
                self._release(now, channel, pitch)
                volume = self._volumes[channel] / USUAL_VOLUME * self._expressions[channel] / 127
                keys.append(Note(now, 0.0, pitch, event.value, channel, volume))
            elif keys:
                self._lift(now, keys.popleft())
        elif event.kind == "control":
            self._control(now, event.channel, event.number, event.value)

    def end(self, now: float) -> list[Note]:
        """Ends all sounding notes; returns those whose keys are still down."""
        unended = [note for keys in self._down.values() for note in keys]
        for note in unended:
            self._end(now, note)
        for channel, pitch in list(self._held):
            self._release(now, channel, pitch)
        return unended

    def _control(self, now: float, channel: int, control: int, value: int) -> None:
        if control == VOLUME:
            self._volumes[channel] = value
        elif control == EXPRESSION:
            self._expressions[channel] = value
        elif control == PEDAL and value >= 64:
            self._pedals.add(channel)
        elif control in (PEDAL, RESET):
            self._pedals.discard(channel)
            self._release_all(now, channel)
            if control == RESET:
                self._expressions.pop(channel, None)
        elif control in (SOUND_OFF, NOTES_OFF):
            for key in [key for key in self._down if key[0] == channel]:
                for note in self._down.pop(key):
                    self._lift(now, note)
            if control == SOUND_OFF:
                self._release_all(now, channel)

    def _lift(self, now: float, note: Note) -> None:
        if note.channel in self._pedals:
            self._held[note.channel, note.pitch].append(note)
        else:
            self._end(now, note)

    def _release_all(self, now: float, channel: int) -> None:
        for pitch in [pitch for theirs, pitch in self._held if theirs == channel]:
            self._release(now, channel, pitch)

    def _release(self, now: float, channel: int, pitch: int) -> None:
        """Ends the notes of a pitch that are held by a pedal."""
        for note in self._held.pop((channel, pitch), ()):
            self._end(now, note)

    def _end(self, now: float, note: Note) -> None:
        self.notes.append(replace(note, seconds=now - note.start))
