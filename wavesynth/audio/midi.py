"""The notes of a MIDI file (extra `midi`): when they begin and end, in seconds, by its tempo map and its sustain pedals."""

import os
from collections import defaultdict, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from operator import itemgetter
from typing import Any

from wavesynth.audio.names import display
from wavesynth.errors import UserError

DRUMS = 10  # the channel that General MIDI gives to them
FIRST_TEMPO = 500_000  # microseconds of a beat until a file says otherwise
VOLUME, EXPRESSION, PEDAL, SOUND_OFF, RESET, NOTES_OFF = 7, 11, 64, 120, 121, 123  # controllers
USUAL_VOLUME = 100  # of a channel until a file says otherwise


@dataclass(frozen=True)
class Note:
    """start, seconds: when, and for how long. pitch: MIDI number. velocity: 1 to 127. channel: 1 to 16.

    volume: the channel's volume and expression when the note begins, in units of the usual, 1.
    """

    start: float
    seconds: float
    pitch: int
    velocity: int
    channel: int
    volume: float = 1.0


@dataclass(frozen=True)
class Song:
    """notes: by their start. name: of the file, to be shown. remarks: what is not as the file has it, a line each."""

    name: str
    notes: tuple[Note, ...]
    remarks: tuple[str, ...] = ()

    @property
    def seconds(self) -> float:
        """The end of the last note."""
        return max(note.start + note.seconds for note in self.notes)


def read_song(path: str | os.PathLike[str], channels: Sequence[int] | None = None) -> Song:
    """The notes of some channels, 1 to 16, of a Standard MIDI File; None for all but 10, the drums.

    A key that is let go while its channel's pedal is down sounds until the pedal is up, or the key is struck again. Of
    notes of one pitch that overlap, the oldest is ended first. A note that is never ended lasts until the file ends.

    Raises:
        UserError: the file cannot be read, or has no such notes.

    >>> read_song("song.mid").notes[0].pitch                                # doctest: +SKIP
    60
    """
    wrong = next((channel for channel in channels or () if not 1 <= channel <= 16), None)
    if wrong is not None:
        raise UserError(f"channels has {wrong}: MIDI's channels are 1 to 16 ({DRUMS} has the drums)")
    name = display(path)
    keyboard, remarks = _Keyboard(), []
    played = set(range(1, 17)) - {DRUMS} if channels is None else set(channels)
    now, bends, unknown = 0.0, 0, 0
    for now, track, message in _events(path):
        keyboard.play(now, track, message)
        bends += message.type == "pitchwheel" and message.pitch != 0 and message.channel + 1 in played
        unknown += message.type == "unknown_meta"
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
            f"notes never ended: {len(unended)}, the first of pitch {first.pitch} at {first.start:.2f} s on channel "
            f"{first.channel}; they sound until the file ends, at {now:.2f} s"
        )
    if bends:
        remarks.append(f"pitch bends left out: {bends}; notes keep the pitch of their keys")
    if unknown:
        remarks.append(
            f"meta events that mido does not know: {unknown}; it forgets the time before them: listen whether the tracks stay "
            "together, and if not export the song without them"
        )
    return Song(name, tuple(notes), tuple(remarks))


_PLAYED_AS_PITCHES = f"channels=[{DRUMS}] (--channels {DRUMS}) plays them, each at the pitch of its key"


def _no_notes(name: str, notes: Sequence[Note], channels: Sequence[int] | None) -> str:
    there = sorted({note.channel for note in notes})
    if not there:
        return f"{name} holds no notes: name another file"
    if channels is None:
        return f"{name} holds no notes but those of channel {DRUMS}, the drums: {_PLAYED_AS_PITCHES}"
    return f"channels is {list(channels)}, and {name} has notes on {', '.join(map(str, there))}: choose among those"


def _events(path: str | os.PathLike[str]) -> Iterator[tuple[float, int, Any]]:
    """Second, track and message of all that the file holds, in the order of time."""
    try:
        import mido
    except ImportError as error:
        raise UserError(
            f"{display(path)} cannot be read: {error}; install the extra with pip install 'wavesynth-jax[midi]'"
        ) from None
    try:
        with open(path, "rb") as file:
            song = mido.MidiFile(file=file)
        if song.type == 2:
            raise ValueError("its tracks are patterns without a common time, format 2")
        ticks, fixed = _beat(song.ticks_per_beat)
    except Exception as error:  # mido has no exception of its own: a damaged file may raise any
        reason = "it ends too early" if isinstance(error, EOFError) else getattr(error, "strerror", None) or error
        raise UserError(
            f"{display(path)} cannot be read as MIDI ({reason}): export it again as a Standard MIDI File of format 0 or 1"
        ) from None
    tracks = (
        zip(accumulate(message.time for message in track), [number] * len(track), track)
        for number, track in enumerate(song.tracks)
    )
    tempo, last, microseconds = 1_000_000 if fixed else FIRST_TEMPO, 0, 0
    for tick, number, message in sorted((event for track in tracks for event in track), key=itemgetter(0)):
        microseconds += (tick - last) * tempo
        last = tick
        yield microseconds / ticks / 1e6, number, message
        if message.type == "set_tempo" and not fixed:
            tempo = message.tempo


def _beat(division: int) -> tuple[float, bool]:
    """Ticks of a beat, and whether that lasts one second whatever the tempo: then ticks are parts of a film's frames."""
    if division > 0:
        return division, False
    frames, per_frame = -(division >> 8), division & 255
    if not frames or not per_frame:
        raise ValueError(f"its ticks have no length, division {division}")
    return (30 / 1.001 if frames == 29 else frames) * per_frame, True


class _Keyboard:
    """The keys that are down and the notes that pedals hold, while a song is played; in `notes`, those that have ended."""

    def __init__(self) -> None:
        self.notes: list[Note] = []
        self._down: defaultdict[tuple[int, int, int], deque[Note]] = defaultdict(deque)  # by track, channel, pitch
        self._held: defaultdict[int, list[Note]] = defaultdict(list)  # by channel
        self._pedals: set[int] = set()
        self._volumes: defaultdict[int, int] = defaultdict(lambda: USUAL_VOLUME)
        self._expressions: defaultdict[int, int] = defaultdict(lambda: 127)

    def play(self, now: float, track: int, message: Any) -> None:
        if message.type in ("note_on", "note_off"):
            channel, pitch = message.channel + 1, message.note
            keys = self._down[track, channel, pitch]
            if message.type == "note_on" and message.velocity:
                self._let_go(now, channel, pitch)
                volume = self._volumes[channel] / USUAL_VOLUME * self._expressions[channel] / 127
                keys.append(Note(now, 0.0, pitch, message.velocity, channel, volume))
            elif keys:
                self._lift(now, keys.popleft())
        elif message.type == "control_change":
            self._control(now, message.channel + 1, message.control, message.value)

    def end(self, now: float) -> list[Note]:
        """Ends what still sounds; returns the notes whose keys are still down."""
        unended = [note for keys in self._down.values() for note in keys]
        for note in unended:
            self._end(now, note)
        for channel in list(self._held):
            self._let_go(now, channel)
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
            self._let_go(now, channel)
            if control == RESET:
                self._expressions.pop(channel, None)
        elif control in (SOUND_OFF, NOTES_OFF):
            for keys in [keys for (_, theirs, _), keys in self._down.items() if theirs == channel]:
                while keys:
                    self._lift(now, keys.popleft())
            if control == SOUND_OFF:
                self._let_go(now, channel)

    def _lift(self, now: float, note: Note) -> None:
        if note.channel in self._pedals:
            self._held[note.channel].append(note)
        else:
            self._end(now, note)

    def _let_go(self, now: float, channel: int, pitch: int | None = None) -> None:
        """Ends the notes that a pedal holds, all or those of one pitch."""
        held = self._held[channel]
        self._held[channel] = [note for note in held if pitch not in (None, note.pitch)]
        for note in held:
            if pitch in (None, note.pitch):
                self._end(now, note)

    def _end(self, now: float, note: Note) -> None:
        self.notes.append(replace(note, seconds=now - note.start))
