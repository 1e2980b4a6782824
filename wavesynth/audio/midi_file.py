"""A tolerant reader of Standard MIDI Files: invalid data is skipped or clipped, and reported, as players do.

Other readers are too strict: mido (1.3) rejects a whole file with a key signature of 18 flats, a truncated last track or an
RMID header, and drops the time before an unknown meta event. Only relevant events are read: notes, controllers, pitch
bends, tempi.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

NOTE_OFF, NOTE_ON, CONTROL, BEND = 0x80, 0x90, 0xB0, 0xE0
DATA_BYTES = {NOTE_OFF: 2, NOTE_ON: 2, 0xA0: 2, CONTROL: 2, 0xC0: 1, 0xD0: 1, BEND: 2}
SYSTEM_DATA_BYTES = {0xF1: 1, 0xF2: 2, 0xF3: 1}  # data bytes of messages that do not belong in files; players skip them
META, SET_TEMPO, END_OF_TRACK = 0xFF, 0x51, 0x2F
LONGEST_DELTA = 2**28 - 1  # ticks between two events, the largest in the format

Kind = Literal["note_on", "note_off", "control", "bend", "tempo", "end"]
_KINDS: dict[int, Kind] = {NOTE_OFF: "note_off", NOTE_ON: "note_on", CONTROL: "control", BEND: "bend"}


@dataclass(frozen=True, slots=True)
class Event:
    """One event of a track.

    Attributes:
        tick: Time since the beginning of the track.
        kind: The kind of event; "end" is the end of the track.
        channel: 1 to 16; 0 for a tempo and an end.
        number: Key of a note, controller number, value of a bend (-8192 to 8191), or microseconds per beat.
        value: Velocity of a note, or value of a controller.
    """

    tick: int
    kind: Kind
    channel: int = 0
    number: int = 0
    value: int = 0


@dataclass(frozen=True)
class MidiFile:
    """The tracks of a file.

    Attributes:
        division: Ticks per beat; if negative, SMPTE frames per second and ticks per frame.
        sequential: Whether the tracks are played one after another (format 2) instead of together.
        tracks: The events of each track, in order.
        remarks: Problems, one line each.
    """

    division: int
    sequential: bool
    tracks: tuple[tuple[Event, ...], ...]
    remarks: tuple[str, ...]


def parse(content: bytes) -> MidiFile:
    """Parses a Standard MIDI File, also inside an RMID file or after another program's header.

    Raises:
        ValueError: There is no MIDI header, or no track.
    """
    header = content.find(b"MThd")
    if header < 0:
        raise ValueError("it has no MIDI header, MThd" if content else "it is empty")
    if len(content) < header + 14:
        raise ValueError("it ends within its header")
    kind, promised, division = (
        int.from_bytes(content[header + place : header + place + 2], "big") for place in (8, 10, 12)
    )
    oddities: Counter[str] = Counter()
    chunks = _chunks(content, header, oddities)
    tracks = tuple(tuple(_Track(part, is_cut, oddities).events()) for part, is_cut in chunks)
    if not tracks:
        raise ValueError("it has no tracks")
    if promised > len(tracks):
        oddities["tracks missing, according to the header"] = promised - len(tracks)
    remarks = tuple(f"{what}: {count}" for what, count in oddities.items() if count)
    signed = division - 0x10000 if division & 0x8000 else division
    return MidiFile(signed, kind == 2 and len(tracks) > 1, tracks, remarks)


def _chunks(content: bytes, header: int, oddities: Counter[str]) -> Iterator[tuple[bytes, bool]]:
    """The contents of all track chunks, and whether each is truncated.

    A chunk with a wrong length ends at the beginning of the next track.
    """
    place = header + 8 + max(6, int.from_bytes(content[header + 4 : header + 8], "big"))
    if not _is_chunk(content, place):
        place = content.find(b"MTrk", header + 14)
    while 0 <= place < len(content) - 8:
        begin = place + 8
        end = begin + int.from_bytes(content[place + 4 : begin], "big")
        is_track, is_cut = content[place : place + 4] == b"MTrk", False
        if end != len(content) and not _is_chunk(content, end):
            following = content.find(b"MTrk", begin)
            is_cut = following < 0 and end > len(content)
            if is_track and 0 <= following != end:
                oddities["tracks with a wrong length, read up to the next track"] += 1
            end = following if following >= 0 else len(content) if is_track else -1
        if is_track:
            yield content[begin:end], is_cut
        place = end


def _is_chunk(content: bytes, place: int) -> bool:
    """Whether a chunk may begin here: four printable characters and a length."""
    return len(content) >= place + 8 and all(32 <= byte < 127 for byte in content[place : place + 4])


class _Cut(Exception):
    """The track ends within an event."""


class _Track:
    """Reads the events of one track from its bytes."""

    def __init__(self, content: bytes, is_cut: bool, oddities: Counter[str]) -> None:
        self.content = content
        self.is_cut = is_cut
        self.place = 0
        self.oddities = oddities

    def events(self) -> Iterator[Event]:
        tick, status = 0, 0
        try:
            while self.place < len(self.content):
                delta = self._variable()
                if delta > LONGEST_DELTA:  # some programs write negative steps
                    self.oddities["time steps beyond MIDI's range, ignored"] += 1
                    delta = 0
                begin = self.place
                if self._peek() >= 0x80:
                    status = self._byte() if self._peek() < 0xF0 else status
                    system = 0 if self.place > begin else self._byte()
                elif status:
                    system = 0
                else:
                    self.oddities["tracks with data in place of an event, played up to there"] += 1
                    break
                event = self._system(system) if system else self._message(status)
                tick += delta
                if event is None:
                    continue
                if event.kind == "end":
                    break
                yield Event(tick, event.kind, event.channel, event.number, event.value)
        except _Cut:
            self.is_cut = True
        self.oddities["tracks cut short, played as far as they go"] += self.is_cut
        yield Event(tick, "end")

    def _message(self, status: int) -> Event | None:
        """A channel message, with data bytes clipped to 127."""
        data = [self._data() for _ in range(DATA_BYTES[status & 0xF0])]
        kind = _KINDS.get(status & 0xF0)
        if kind is None:
            return None
        channel = (status & 0x0F) + 1
        if kind == "bend":
            return Event(0, kind, channel, (data[1] << 7 | data[0]) - 8_192)
        return Event(0, kind, channel, *data)

    def _system(self, status: int) -> Event | None:
        """A tempo or the end of the track. Other meta events and system messages are skipped."""
        if status not in (META, 0xF0, 0xF7):
            self._take(SYSTEM_DATA_BYTES.get(status, 0))
            return None
        kind = self._byte() if status == META else None
        if kind == END_OF_TRACK:
            return Event(0, "end")
        data = self._take(self._variable())
        if kind == SET_TEMPO and len(data) >= 3 and any(data[:3]):
            return Event(0, "tempo", number=int.from_bytes(data[:3], "big"))
        return None

    def _peek(self) -> int:
        if self.place >= len(self.content):
            raise _Cut
        return self.content[self.place]

    def _byte(self) -> int:
        byte = self._peek()
        self.place += 1
        return byte

    def _data(self) -> int:
        byte = self._byte()
        if byte > 127:
            self.oddities["data bytes above 127, clipped to it"] += 1
        return min(byte, 127)

    def _take(self, count: int) -> bytes:
        if self.place + count > len(self.content):
            raise _Cut
        self.place += count
        return self.content[self.place - count : self.place]

    def _variable(self) -> int:
        """A variable-length number: 7 bits per byte, with the eighth bit set in all bytes but the last."""
        number = 0
        while (byte := self._byte()) & 0x80:
            number = min(number << 7 | byte & 0x7F, 2**64)  # bounded, because a damaged file may have any length here
        return number << 7 | byte
