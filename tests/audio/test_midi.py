"""MIDI files, written byte by byte: what is played, when and for how long; what is broken or left out is said."""

from collections.abc import Callable
from pathlib import Path

import mido
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from wavesynth.audio.midi import Note, Song, read_song
from wavesynth.errors import UserError

ON, OFF, CONTROL, BEND = 0x90, 0x80, 0xB0, 0xE0
BEAT = 100  # ticks; of half a second, unless a tempo says otherwise


def variable(number: int) -> bytes:
    """A number as MIDI writes it: 7 bits a byte, all but the last with the eighth bit set."""
    groups = [number & 127]
    while number := number >> 7:
        groups.append(128 | number & 127)
    return bytes(reversed(groups))


def track(*events: tuple[int, bytes], length: int | None = None) -> bytes:
    """Events at ticks from the beginning, in order; the track ends with the last of them, or at `length`."""
    content, now = b"", 0
    for tick, event in (*events, (max([length or 0, *(tick for tick, _ in events)]), b"\xff\x2f\x00")):
        content += variable(tick - now) + event
        now = tick
    return b"MTrk" + len(content).to_bytes(4, "big") + content


def midi(*tracks: bytes, division: int = BEAT, kind: int = 1) -> bytes:
    head = (kind, len(tracks), division & 0xFFFF)
    return b"MThd\x00\x00\x00\x06" + b"".join(number.to_bytes(2, "big") for number in head) + b"".join(tracks)


def tempo(microseconds: int) -> bytes:
    return b"\xff\x51\x03" + microseconds.to_bytes(3, "big")


def note(start: int, end: int, pitch: int = 60, velocity: int = 64, channel: int = 1) -> list[tuple[int, bytes]]:
    return [
        (start, bytes([ON | channel - 1, pitch, velocity])),
        (end, bytes([OFF | channel - 1, pitch, 0])),
    ]


@pytest.fixture
def read(tmp_path: Path) -> Callable[..., Song]:
    def read(content: bytes, channels: list[int] | None = None) -> Song:
        (tmp_path / "song.mid").write_bytes(content)
        return read_song(tmp_path / "song.mid", channels)

    return read


def times(song: Song) -> list[tuple[int, float, float]]:
    """Pitch, start and end of each note, in milliseconds."""
    return [
        (each.pitch, pytest.approx(each.start * 1e3), pytest.approx((each.start + each.seconds) * 1e3))
        for each in song.notes
    ]


def test_a_note(read):
    song = read(midi(track(*note(50, 300, pitch=69, velocity=100, channel=3))))
    assert song.notes == (Note(0.25, 1.25, 69, 100, 3),)
    assert song.seconds == 1.5
    assert song.remarks == ()
    assert song.name.endswith("song.mid")


def test_running_status_and_velocity_0(read):
    # One status byte, four notes' worth of data: on 60, on 64, off 60 and off 64 by velocity 0.
    events = [(0, bytes([ON, 60, 80])), (100, bytes([64, 70])), (200, bytes([60, 0])), (300, bytes([64, 0]))]
    assert times(read(midi(track(*events), kind=0))) == [(60, 0, 1_000), (64, 500, 1_500)]


def test_the_tempo_map_holds_for_all_tracks(read):
    # Beats of 500 ms until 2, of 1,000 ms until 4, then of 250 ms; a note over each change, in another track.
    tempi = track((200, tempo(1_000_000)), (400, tempo(250_000)))
    notes = track(*note(100, 300), *note(300, 500, pitch=62), *note(500, 600, pitch=64))
    expected = [(60, 500, 2_000), (62, 2_000, 3_250), (64, 3_250, 3_500)]
    assert times(read(midi(tempi, notes))) == expected
    assert times(read(midi(notes, tempi))) == expected  # wherever the tempi are


def test_ticks_of_film_frames_know_no_tempo(read):
    # 25 frames a second of 40 ticks: a tick is a millisecond.
    song = read(midi(track((0, tempo(1_000_000)), *note(10, 250)), division=(-25 << 8) | 40))
    assert times(song) == [(60, 10, 250)]
    drop = read(midi(track(*note(0, 2_997)), division=(-29 << 8) | 100))
    assert drop.seconds == pytest.approx(1.0, rel=1e-5)


def test_notes_of_one_pitch_that_overlap(read):
    on, off = bytes([ON, 60, 64]), bytes([OFF, 60, 0])
    assert times(read(midi(track((0, on), (100, on), (200, off), (300, off))))) == [(60, 0, 1_000), (60, 500, 1_500)]
    # Two tracks have each their own keys, on one channel too.
    assert times(read(midi(track(*note(0, 400)), track(*note(100, 200))))) == [(60, 0, 2_000), (60, 500, 1_000)]
    # A note that ends where the next one begins, in either order of the two events.
    assert times(read(midi(track((0, on), (100, on), (100, off), (200, off))))) == [(60, 0, 500), (60, 500, 1_000)]


def test_an_end_without_a_note_is_nothing(read):
    assert times(read(midi(track((0, bytes([OFF, 60, 0])), *note(100, 200))))) == [(60, 500, 1_000)]


def test_the_pedal_holds(read):
    down, up = bytes([CONTROL, 64, 64]), bytes([CONTROL, 64, 63])
    # Let go under the pedal: until it is up. Held beyond it: until the key is up. After it: as ever.
    first, second, third = note(0, 100), note(50, 500, 62), note(500, 600, 64)
    events = sorted([*first, *second, *third, (50, down), (400, up)], key=lambda event: event[0])
    assert times(read(midi(track(*events)))) == [(60, 0, 2_000), (62, 250, 2_500), (64, 2_500, 3_000)]
    # Struck again under the pedal: the sound before it ends.
    again = [(0, down), *note(0, 100), *note(200, 300), (400, up)]
    assert times(read(midi(track(*again)))) == [(60, 0, 1_000), (60, 1_000, 2_000)]
    # It holds the notes of its own channel alone, and to the end of the file if it stays down.
    two = [(0, down), *note(0, 100), *note(200, 300, channel=2, pitch=72)]
    song = read(midi(track(*two, length=600)))
    assert times(song) == [(60, 0, 3_000), (72, 1_000, 1_500)]
    assert song.remarks == ()


def test_volume_and_expression_are_those_when_a_note_begins(read):
    def control(tick: int, which: int, value: int, channel: int = 1) -> tuple[int, bytes]:
        return tick, bytes([CONTROL | channel - 1, which, value])

    notes = [event for start in range(0, 500, 100) for event in note(start, start + 50)]
    controls = [
        control(90, 7, 50),
        control(110, 7, 127),
        control(190, 11, 64),
        control(290, 121, 0),
        control(390, 7, 0),
    ]
    elsewhere = control(0, 7, 1, channel=2)
    song = read(midi(track(*sorted([*notes, *controls, elsewhere], key=lambda event: event[0]))))
    expected = [1.0, 0.5, 1.27 * 64 / 127, 1.27, 0.0]  # a reset leaves the volume as it is
    assert [each.volume for each in song.notes] == pytest.approx(expected)


@pytest.mark.parametrize(
    ("control", "early", "late"), [(120, 1_000, 1_000), (121, 1_500, 3_000), (123, 2_500, 2_500), (7, 2_500, 3_000)]
)
def test_what_ends_all_notes(read, control: int, early: float, late: float):
    # The pedal is up at 500, the key at 300 or at 600. All sound off ends the note; a reset lifts the pedal, and the key
    # ends it; all notes off lifts the key, and the pedal ends it; volume ends nothing.
    for key, end in ((300, early), (600, late)):
        events = [
            (0, bytes([CONTROL, 64, 127])), (0, bytes([ON, 60, 64])), (200, bytes([CONTROL, control, 0])),
            (key, bytes([OFF, 60, 0])), (500, bytes([CONTROL, 64, 0])),
        ]  # fmt: skip
        assert times(read(midi(track(*sorted(events, key=lambda event: event[0]))))) == [(60, 0, end)]


def test_notes_without_an_end_last_until_the_files(read):
    song = read(midi(track((100, bytes([ON, 60, 64])), *note(200, 300, 64)), track(length=600)))
    assert times(song) == [(60, 500, 3_000), (64, 1_000, 1_500)]
    assert song.remarks == (
        "notes without an end: 1, the first with pitch 60 at 0.50 s on channel 1; they sound until the file ends, at 3.00 s",
    )


def test_drums_are_left_out_unless_asked_for(read):
    content = midi(track(*note(0, 100), *note(100, 200, 38, channel=10), *note(200, 300, 36, channel=10)))
    song = read(content)
    assert [each.channel for each in song.notes] == [1]
    assert song.remarks == (
        "notes left out: 2 on channel 10, the drums; channels=[10] (--channels 10) plays them, each at the pitch of its key",
    )
    assert [each.pitch for each in read(content, [10]).notes] == [38, 36]
    assert read(content, [10]).remarks == ()
    assert len(read(content, [1, 10]).notes) == 3


def test_what_is_not_followed_is_said(read):
    bend = bytes([BEND, 0, 96])
    straight = bytes([BEND, 0, 64])
    assert read(midi(track((0, straight), *note(0, 100)))).remarks == ()
    assert read(midi(track((0, bend), (0, bend), *note(0, 100)))).remarks == (
        "pitch bends left out: 2; notes keep the pitch of their keys",
    )


# What players accept is played.

NOTES = (*note(0, 100), *note(100, 200, 64))
PLAIN = track(*NOTES)
META = [
    b"\xff\x60\x01\x00", b"\xff\x59\x02\xee\x00", b"\xff\x58\x01\x04", b"\xff\x51\x01\x07", b"\xff\x51\x03\x00\x00\x00",
]  # fmt: skip
RUNNING = [
    (0, bytes([ON, 60, 64])), (100, b"\xff\x01\x00"), (100, bytes([60, 0])), (100, bytes([64, 9])), (200, bytes([64, 0])),
]  # fmt: skip
SYSTEM = [(0, b"\xf0\x02\x01\xf7"), (0, b"\xf6"), (0, b"\xf8"), (0, b"\xf1\x05")]
STEP_BACK = b"\x8f\xff\xff\xff\x00"  # 2^32 - 128, as programs write -128
ODD: dict[str, tuple[bytes, tuple[str, ...]]] = {
    "RMID": (b"RIFF\x41\0\0\0RMIDdata\x35\0\0\0" + midi(PLAIN), ()),
    "MacBinary": (bytes(128) + midi(PLAIN), ()),
    "a longer header": (midi(PLAIN).replace(b"\0\x06", b"\0\x08", 1).replace(b"MTrk", b"\0\0MTrk", 1), ()),
    "a chunk of another program": (midi(b"XFIH\0\0\0\x03abc", PLAIN).replace(b"\0\x02", b"\0\x01", 1), ()),
    "bytes behind the tracks": (midi(PLAIN) + b"\0\xff\x1a", ()),
    "a format of the future": (midi(PLAIN, kind=7), ()),
    "format 2 of one track": (midi(PLAIN, kind=2), ()),
    "meta events": (midi(track(*((0, each) for each in META), *NOTES)), ()),
    "system messages": (midi(track(*SYSTEM, *NOTES)), ()),
    "running status over a meta event": (midi(track(*RUNNING)), ()),
    "a cut track": (midi(PLAIN, PLAIN)[:-5], ("tracks cut short, played as far as they go: 1",)),
    "a cut track header": (midi(PLAIN, b"MTrk"), ("tracks missing, according to the header: 1",)),
    "a wrong length": (
        midi(PLAIN, PLAIN).replace(b"MTrk\0\0\0", b"MTrk\0\0\1", 1),
        ("tracks with a wrong length, read up to the next track: 1",),
    ),
    "data where an event should be": (
        midi(PLAIN, track((0, bytes([60, 64])))),
        ("tracks with data in place of an event, played up to there: 1",),
    ),
    "a step back in time": (
        midi(b"MTrk" + (len(PLAIN) - 4).to_bytes(4, "big") + STEP_BACK + PLAIN[9:]),
        ("time steps beyond MIDI's range, ignored: 1",),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", ODD)
def test_what_is_odd_is_played(read, name: str):
    content, remarks = ODD[name]
    song = read(content)
    assert {(each.pitch, each.start) for each in song.notes} == {(60, 0.0), (64, 0.5)}
    assert all(each.seconds == 0.5 for each in song.notes)
    assert tuple(remark for remark in song.remarks if not remark.startswith("notes without an end")) == remarks


def test_data_bytes_are_clipped(read):
    song = read(midi(track((0, bytes([CONTROL, 7, 255])), (0, bytes([ON, 60, 200])), (100, bytes([OFF, 60, 0])))))
    assert song.notes == (Note(0.0, 0.5, 60, 127, 1, 1.27),)
    assert song.remarks == ("data bytes above 127, clipped to it: 2",)


def test_a_volume_in_a_later_track_counts_at_the_same_tick(read):
    volume = track((100, bytes([CONTROL, 7, 50])))
    assert [each.volume for each in read(midi(track(*note(100, 200)), volume)).notes] == [0.5]


def test_patterns_follow_each_other(read):
    song = read(midi(track((0, tempo(1_000_000)), *note(0, 100)), track(*note(0, 100, 64)), kind=2))
    assert times(song) == [(60, 0, 1_000), (64, 1_000, 1_500)]


def test_a_number_without_an_end(read):
    with pytest.raises(UserError, match="holds no notes"):
        read(midi(b"MTrk\0\0\xff\xff" + b"\xff" * 65_535))


WRONG = [
    (b"", r"it is empty"),
    (b"RIFF" + bytes(40), r"it has no MIDI header"),
    (b"MThd\0\0\0\6\0", r"it ends within its header"),
    (midi(), r"it has no tracks"),
    (midi(track(*note(0, 100)), division=0), r"its ticks have no length, division 0"),
]


@pytest.mark.parametrize(("content", "reason"), WRONG, ids=[reason for _, reason in WRONG])
def test_a_broken_file_is_named(read, content: bytes, reason: str):
    with pytest.raises(UserError, match=rf"song\.mid cannot be read as MIDI \(.*{reason}.*\): export it again"):
        read(content)


def test_a_file_that_is_not_there(tmp_path: Path):
    with pytest.raises(UserError, match=r"none\.mid cannot be read as MIDI \(No such file or directory\)"):
        read_song(tmp_path / "none.mid")


def test_no_notes(read):
    with pytest.raises(UserError, match=r"song\.mid holds no notes: choose another file"):
        read(midi(track((100, tempo(500_000)))))
    with pytest.raises(UserError, match=r"only has notes on channel 10, the drums: channels=\[10\]"):
        read(midi(track(*note(0, 100, channel=10))))
    with pytest.raises(UserError, match=r"channels is \[2\], and .*song\.mid has notes on 1, 10: choose from these"):
        read(midi(track(*note(0, 100), *note(100, 200, channel=10))), [2])
    with pytest.raises(UserError, match=r"channels has 0: MIDI's channels are 1 to 16"):
        read(midi(track(*note(0, 100))), [0])


def test_what_mido_writes_is_read(tmp_path: Path):
    draw = np.random.default_rng(0)
    tracks, expected = [], []
    for channel in range(3):
        head = [mido.MetaMessage("track_name", name="é"), mido.Message("sysex", data=[1, 2])]
        messages, now = mido.MidiTrack(head), 0
        for step, pitch, length in draw.integers(0, 128, (50, 3)).tolist():
            now += step * 40
            velocity = 1 + pitch // 2
            messages.append(mido.Message("note_on", note=pitch, velocity=velocity, channel=channel, time=step * 40))
            messages.append(mido.Message("note_off", note=pitch, channel=channel, time=length))
            expected.append((now / 200, length / 200, pitch, velocity, channel + 1))
            now += length
        tracks.append(messages)
    mido.MidiFile(type=1, ticks_per_beat=BEAT, tracks=tracks).save(tmp_path / "song.mid")
    song = read_song(tmp_path / "song.mid")
    assert song.remarks == ()
    found = sorted((each.start, each.seconds, each.pitch, each.velocity, each.channel) for each in song.notes)
    np.testing.assert_allclose(found, sorted(expected), atol=1e-9)


WHOLE = midi(
    track((0, tempo(400_000)), *note(0, 100), (100, bytes([CONTROL, 64, 127])), *note(100, 300, 64), length=400)
)


@given(st.dictionaries(st.integers(0, len(WHOLE) - 1), st.integers(0, 255), min_size=1, max_size=4), st.data())
@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_damage_is_a_user_error_or_another_song(tmp_path: Path, damage: dict[int, int], data: st.DataObject):
    content = bytearray(WHOLE)
    for place, byte in damage.items():
        content[place] = byte
    (tmp_path / "damaged.mid").write_bytes(content[: data.draw(st.integers(0, len(WHOLE)))])
    notes, message = [], "damaged.mid"
    try:
        notes = read_song(tmp_path / "damaged.mid").notes
    except UserError as error:
        message = str(error)
    assert "damaged.mid" in message
    assert "\n" not in message
    assert all(each.start >= 0 and each.seconds >= 0 and each.velocity >= 1 for each in notes)
