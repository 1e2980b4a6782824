"""Renders notes to train on: the melodic General MIDI programs of two sound fonts, at 44.1 kHz in stereo.

    apt-get install fluidsynth fluid-soundfont-gm musescore-general-soundfont-lossless
    python bench/render_instruments.py OUT

OUT/seen gets a folder per program, with files such as flute/flute-fluid_058_110.flac; OUT/unseen gets those of the five
programs that are kept out of training, to test morphs between instruments that a model does not know. Notes are half an octave
apart; the lowest differs between programs and fonts, so that there are notes of every pitch. Both fonts are under the MIT
licence. The same versions of FluidSynth, the fonts and soxr give the same samples.
"""

import argparse
import sys
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from wavesynth.demo.render_sounds import (
    SAMPLE_RATE,
    Instrument,
    check_fluidsynth,
    leveled,
    notes_of,
)
from wavesynth.errors import UserError

FONTS = {
    "fluid": Path("/usr/share/sounds/sf2/FluidR3_GM.sf2"),
    "muse": Path("/usr/share/sounds/sf2/MuseScore_General_Full.sf2"),
}
LOWEST, HIGHEST, APART = 28, 96, 6  # MIDI pitches
VELOCITIES = (50, 110)
SECONDS, HELD = 2.0, 1.4
PROGRAMS = """
acoustic-grand bright-acoustic electric-grand honky-tonk electric-piano-1 electric-piano-2 harpsichord clavinet
celesta glockenspiel music-box vibraphone marimba xylophone tubular-bells dulcimer
drawbar-organ percussive-organ rock-organ church-organ reed-organ accordion harmonica bandoneon
nylon-guitar steel-guitar jazz-guitar clean-guitar muted-guitar overdriven-guitar distortion-guitar guitar-harmonics
acoustic-bass fingered-bass picked-bass fretless-bass slap-bass-1 slap-bass-2 synth-bass-1 synth-bass-2
violin viola cello contrabass tremolo-strings pizzicato-strings harp timpani
strings-1 strings-2 synth-strings-1 synth-strings-2 choir-aahs voice-oohs synth-voice orchestra-hit
trumpet trombone tuba muted-trumpet french-horn brass synth-brass-1 synth-brass-2
soprano-sax alto-sax tenor-sax baritone-sax oboe english-horn bassoon clarinet
piccolo flute recorder pan-flute blown-bottle shakuhachi whistle ocarina
square-lead saw-lead calliope-lead chiff-lead charang-lead voice-lead fifths-lead bass-lead
new-age-pad warm-pad polysynth-pad choir-pad bowed-pad metallic-pad halo-pad sweep-pad
rain soundtrack crystal atmosphere brightness goblins echoes sci-fi
sitar banjo shamisen koto kalimba bagpipe fiddle shanai
"""
NAMES = PROGRAMS.split()  # the melodic programs of General MIDI, in order
UNSEEN = ("banjo", "bagpipe", "cello", "clarinet", "marimba")


@dataclass(frozen=True)
class Work:
    """One program of one font, and the folder that its notes go into."""

    instrument: Instrument
    font: Path
    folder: Path


def render(work: Work) -> int:
    """Writes the notes of one program and returns their number."""
    import soundfile

    instrument = work.instrument
    work.folder.mkdir(parents=True, exist_ok=True)
    for named, samples in zip(instrument.notes, leveled(notes_of(instrument, work.font)), strict=True):
        soundfile.write(work.folder / instrument.file_name(*named), samples, SAMPLE_RATE, subtype="PCM_16")
    return len(instrument.notes)


def works(out: Path, programs: list[str]) -> list[Work]:
    """What is rendered: every program by every font."""
    found = []
    for name in programs:
        program = NAMES.index(name)
        for index, (font, path) in enumerate(FONTS.items()):
            keys = range(LOWEST + (program + index * APART // 2) % APART, HIGHEST + 1, APART)
            instrument = Instrument(f"{name}-{font}", program, keys, VELOCITIES, SECONDS, HELD)
            found.append(Work(instrument, path, out / ("unseen" if name in UNSEEN else "seen") / name))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="the folder to write, which must not exist")
    parser.add_argument(
        "--programs", nargs="+", choices=NAMES, default=NAMES, metavar="NAME", help="some, such as flute"
    )
    options = parser.parse_args()
    try:
        if options.out.exists():
            raise UserError(f"out is {options.out}, which exists: choose another folder")
        for font in FONTS.values():
            check_fluidsynth(font)
        with ProcessPoolExecutor() as pool:
            count = 0
            for work, notes in zip(jobs := works(options.out, options.programs), pool.map(render, jobs), strict=True):
                count += notes
                print(f"{work.instrument.label}: {count} notes so far", flush=True)
    except UserError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
