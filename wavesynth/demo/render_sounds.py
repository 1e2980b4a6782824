"""Render the sounds that ship with the demo: six tonal instruments and three drums of a General MIDI sound font.

Run by hand, and only to change the shipped sounds::

    apt-get install fluidsynth fluid-soundfont-gm
    python -m wavesynth.demo.render_sounds OUT

Every instrument is one MIDI file played by FluidSynth without reverb and chorus at 48 kHz in stereo, brought to 44.1 kHz
by soxr, cut, faded and scaled by one gain per instrument, and written as 16-bit FLAC. The same versions of FluidSynth, the
sound font and soxr give the same samples.

Pitched sounds are called ``LABEL_PITCH_VELOCITY.flac`` with the MIDI note number as PITCH. A drum's key is not a pitch,
so drums are called ``LABEL-KEY_VELOCITY.flac``.
"""

from __future__ import annotations

import argparse
import shutil
import struct
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from wavesynth.errors import UserError

SOUND_FONT = Path("/usr/share/sounds/sf2/FluidR3_GM.sf2")
SAMPLE_RATE = 44_100
RENDER_RATE = 48_000

TICKS_PER_SECOND = 960  # 480 ticks a quarter note at MIDI's default of 120 quarters a minute
DRUM_CHANNEL = 9
TAIL_SECONDS = 0.75  # room after a sound for its release, before the next one starts
SILENCE_SECONDS = 0.05  # all voices are cut this long before the next sound

RMS_DB = -20.0  # mean level of an instrument, so that none dominates training by loudness alone
PEAK_DB = -1.0  # no sample of it gets louder than this


@dataclass(frozen=True)
class Instrument:
    """What to play: one MIDI program, or keys of the drum channel.

    Attributes:
        label: name of the folder and first part of the file names.
        program: General MIDI program, counted from 0; for drums the number of the kit.
        keys: MIDI note numbers.
        velocities: MIDI velocities, 1 to 127; every key is played with each.
        seconds: length of every file.
        held: seconds from the start of a note to its release.
        is_drum: played on the drum channel.
    """

    label: str
    program: int
    keys: Sequence[int] = range(48, 73, 3)
    velocities: Sequence[int] = (100,)
    seconds: float = 1.0
    held: float = 0.85
    is_drum: bool = False

    @property
    def notes(self) -> list[tuple[int, int]]:
        """Key and velocity of every file, in the order in which they are played."""
        return [(key, velocity) for key in self.keys for velocity in self.velocities]

    def file_name(self, key: int, velocity: int) -> str:
        """The file name of one note; only a pitched sound names its key as a pitch."""
        return f"{self.label}{'-' if self.is_drum else '_'}{key:03d}_{velocity:03d}.flac"


INSTRUMENTS = (
    Instrument("vibraphone", 11),
    Instrument("church-organ", 19),
    Instrument("nylon-guitar", 24),
    Instrument("cello", 42),
    Instrument("trumpet", 56),
    Instrument("flute", 73),
    Instrument("kick", 0, keys=(35, 36), velocities=(70, 95, 120), seconds=0.5, is_drum=True),
    Instrument("snare", 0, keys=(38, 40), velocities=(70, 95, 120), seconds=0.5, is_drum=True),
    Instrument("hat", 0, keys=(42, 46), velocities=(70, 95, 120), seconds=0.5, is_drum=True),
)


def variable_length(value: int) -> bytes:
    """MIDI's variable-length quantity: seven bits a byte, most significant first, the high bit on all but the last."""
    septets = [value & 0x7F]
    while value > 0x7F:
        value >>= 7
        septets.append(value & 0x7F | 0x80)
    return bytes(reversed(septets))


def midi_file(instrument: Instrument) -> bytes:
    """A format-0 MIDI file that plays every note of an instrument, each at the start of its own slot."""
    channel = DRUM_CHANNEL if instrument.is_drum else 0
    slot = instrument.seconds + TAIL_SECONDS
    all_sound_off = bytes([0xB0 | channel, 120, 0])
    events = [(0.0, bytes([0xC0 | channel, instrument.program]))]
    for index, (key, velocity) in enumerate(instrument.notes):
        start = index * slot
        events.append((start, bytes([0x90 | channel, key, velocity])))
        events.append((start + instrument.held, bytes([0x80 | channel, key, 0])))
        events.append((start + slot - SILENCE_SECONDS, all_sound_off))
    track, now = b"", 0
    for seconds, message in sorted(events, key=lambda event: event[0]):
        tick = round(seconds * TICKS_PER_SECOND)
        track += variable_length(tick - now) + message
        now = tick
    track += b"\x00\xff\x2f\x00"
    header = b"MThd" + struct.pack(">IHHH", 6, 0, 1, TICKS_PER_SECOND // 2)
    return header + b"MTrk" + struct.pack(">I", len(track)) + track


def play(midi: bytes, sound_font: Path) -> np.ndarray:
    """Play a MIDI file with FluidSynth: float64 [num_samples, 2] at RENDER_RATE."""
    import soundfile

    with tempfile.TemporaryDirectory() as folder:
        notes, rendered = Path(folder, "notes.mid"), Path(folder, "rendered.wav")
        notes.write_bytes(midi)
        command = ["fluidsynth", "-ni", "-q", "-R", "0", "-C", "0", "-g", "0.6", "-r", str(RENDER_RATE)]
        command += ["-o", "synth.cpu-cores=1", "-T", "wav", "-O", "float", "-F", str(rendered)]
        result = subprocess.run([*command, str(sound_font), str(notes)], capture_output=True, text=True, check=False)
        if result.returncode or not rendered.exists():
            raise UserError(f"fluidsynth failed with status {result.returncode}: {result.stderr.strip()}")
        samples, _ = soundfile.read(rendered, dtype="float64", always_2d=True)
    return samples


def notes_of(instrument: Instrument, sound_font: Path) -> np.ndarray:
    """All notes of an instrument: float64 [num_notes, num_samples, 2] at SAMPLE_RATE, in the order of `notes`."""
    import soxr

    played = play(midi_file(instrument), sound_font)
    slot = round((instrument.seconds + TAIL_SECONDS) * RENDER_RATE)
    num_samples = round(instrument.seconds * SAMPLE_RATE)
    notes = []
    for index in range(len(instrument.notes)):
        note = played[index * slot : (index + 1) * slot]
        note = np.pad(note, ((0, slot - len(note)), (0, 0)))
        notes.append(soxr.resample(note, RENDER_RATE, SAMPLE_RATE, quality="VHQ")[:num_samples])
    return np.stack(notes)


def render(instrument: Instrument, sound_font: Path = SOUND_FONT) -> np.ndarray:
    """The shipped notes of an instrument: int16 [num_notes, num_samples, 2]. They are faded out over their last eighth."""
    notes = notes_of(instrument, sound_font)
    fade = notes.shape[1] // 8
    notes[:, -fade:] *= 0.5 + 0.5 * np.cos(np.pi * np.arange(1, fade + 1)[:, None] / fade)
    return leveled(notes)


def leveled(sounds: np.ndarray) -> np.ndarray:
    """Sounds at RMS_DB on average, or lower where a sample would be louder than PEAK_DB, as int16."""
    rms_gain = 10 ** (RMS_DB / 20) / max(float(np.sqrt(np.mean(sounds**2))), 1e-9)
    peak_gain = 10 ** (PEAK_DB / 20) / max(float(np.max(np.abs(sounds))), 1e-9)
    return np.round(sounds * min(rms_gain, peak_gain) * 32767).astype(np.int16)


def check_fluidsynth(sound_font: Path) -> None:
    """Raises UserError unless FluidSynth and the sound font are installed."""
    remedy = "on Debian: apt-get install fluidsynth fluid-soundfont-gm musescore-general-soundfont-lossless"
    if shutil.which("fluidsynth") is None:
        raise UserError(f"the program fluidsynth is not installed; {remedy}")
    if not sound_font.is_file():
        raise UserError(f"the sound font {sound_font} does not exist; {remedy}")


def render_all(out: Path, sound_font: Path = SOUND_FONT) -> list[Path]:
    """Render every instrument of INSTRUMENTS into `out`/LABEL/ and return the files written.

    Raises:
        UserError: FluidSynth or the sound font is not installed, or FluidSynth fails.
    """
    import soundfile

    check_fluidsynth(sound_font)
    written = []
    for instrument in INSTRUMENTS:
        folder = out / instrument.label
        folder.mkdir(parents=True, exist_ok=True)
        for note, samples in zip(instrument.notes, render(instrument, sound_font)):
            path = folder / instrument.file_name(*note)
            soundfile.write(path, samples, SAMPLE_RATE, subtype="PCM_16", compression_level=1.0)
            written.append(path)
    return written


def main() -> None:
    """Render into the folder named on the command line."""
    parser = argparse.ArgumentParser(prog="python -m wavesynth.demo.render_sounds", description=main.__doc__)
    parser.add_argument("out", type=Path, help="folder to write, one sub-folder per instrument")
    parser.add_argument("--force", action="store_true", help="write into a folder that exists and is not empty")
    arguments = parser.parse_args()
    try:
        if arguments.out.exists() and any(arguments.out.iterdir()) and not arguments.force:
            raise UserError(f"out: the folder {arguments.out} is not empty; choose another, or pass --force")
        written = render_all(arguments.out)
    except UserError as error:
        sys.exit(f"error: {error}")
    size = sum(path.stat().st_size for path in written)
    print(f"{len(written)} files, {size / 1e6:.2f} MB, in {arguments.out}")


if __name__ == "__main__":
    main()
