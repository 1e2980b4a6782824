"""Training on thirty notes of an instrument: from a published model, and from nothing.

    taskset -c 0 python bench/fine_tuning.py [--base checkpoints/instruments] [--programs cello banjo]
        [--minutes 3] [--minutes-from-nothing 30] [--work FOLDER] [--json PATH]

The instruments are programs of General MIDI that `checkpoints/instruments` was not trained on (`bench/render_instruments.py`
names them), rendered in the same way from FluidR3 GM: 45 notes of two seconds, one for each MIDI pitch from 36 to 80. Of every
three notes, the one in the middle is held out: 30 are trained on, 4 choose the weights that are published, 11 are measured.

- from base: `wavesynth.train(..., base=BASE, minutes=3)`.
- from nothing: the preset autoencoder-small, for 30 minutes.
- base: BASE as it is.
- silence.

Each row has the median distance of the notes measured, as `bench/timbre.py` defines it, with floors of -60, -80 and -100 dB.
--work keeps the sounds and the models, and does not train again those that it has.

--quick trains for 2 minutes each, on one program.
"""

import statistics
import tempfile
from pathlib import Path

import jax
import numpy as np
import soundfile
from harness import Row, arguments, machine, print_table, shards_for, sound_of, write_json
from render_instruments import FONTS, NAMES, UNSEEN
from timbre import FLOORS, apart, spectrogram

import wavesynth
from wavesynth import Synth
from wavesynth.api import config_of
from wavesynth.audio.spectral import mel_settings, num_frames
from wavesynth.data.shards import Shards
from wavesynth.demo.render_sounds import SAMPLE_RATE, Instrument, check_fluidsynth, leveled, notes_of
from wavesynth.training.memory import keep_freed_memory

PRESET = "autoencoder-small"
KEYS, VELOCITY, SECONDS, HELD = range(36, 81), 90, 2.0, 1.4
VALID_EVERY = 12  # keys
QUICK_MINUTES = 2.0
COLUMNS = ("what", "of", "begun_from", "minutes", "steps", *(f"distance_{-floor:.0f}" for floor in FLOORS))


def split_of(index: int) -> str:
    if index % 3 != 1:
        return "train"
    return "valid" if index % VALID_EVERY == 1 else "test"


def shards_of(program: str, work: Path) -> Path:
    """The prepared notes of a program."""
    shards = work / "shards"
    if not shards.exists():
        instrument = Instrument(program, NAMES.index(program), KEYS, (VELOCITY,), SECONDS, HELD)
        sounds = work / "sounds"
        sounds.mkdir(parents=True, exist_ok=True)
        lines = ["file,split"]
        for index, samples in enumerate(leveled(notes_of(instrument, FONTS["fluid"]))):
            name = instrument.file_name(*instrument.notes[index])
            soundfile.write(sounds / name, samples, SAMPLE_RATE, subtype="PCM_16")
            lines.append(f"{name},{split_of(index)}")
        (sounds / "metadata.csv").write_text("\n".join(lines) + "\n")
        wavesynth.prepare(sounds, shards, progress=False)
    return shards


def trained(shards: Path, run: Path, minutes: float, base: Path | None) -> Synth:
    if not run.exists():
        unfinished, config = run.with_name("unfinished"), None if base else wavesynth.preset(PRESET)
        wavesynth.train(shards, unfinished, config, minutes=minutes, base=base, progress=False, force=True)
        unfinished.rename(run)
    return wavesynth.load(run)


def distances(synth: Synth | None, shards: Shards) -> Row:
    """Medians over the test notes; of silence without a model."""
    length, rate = round(SECONDS * SAMPLE_RATE), SAMPLE_RATE
    found: dict[float, list[float]] = {floor: [] for floor in FLOORS}
    for clip in shards.split("test"):
        sound = sound_of(shards, clip, shards.channels, length)
        frames = num_frames(sound.shape[1], mel_settings(rate).hop)
        made = np.zeros_like(sound)
        if synth is not None:
            made = np.atleast_2d(synth.decode(synth.encode(sound, rate, pitch=shards.clips[clip].pitch)))
        wanted, got = (spectrogram(one, length, rate)[:, :frames] for one in (sound, made))
        for floor, values in found.items():
            values.append(apart(got, wanted, floor))
    return {f"distance_{-floor:.0f}": statistics.median(values) for floor, values in found.items()}


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--base", type=Path, default=Path("checkpoints/instruments"), help="the model to begin from")
    parser.add_argument(
        "--programs", nargs="+", choices=NAMES, default=UNSEEN, metavar="NAME", help="default: all unseen"
    )
    parser.add_argument("--minutes", type=float, default=3.0, help="of training from the base")
    parser.add_argument("--minutes-from-nothing", type=float, default=30.0)
    parser.add_argument("--work", type=Path, help="the folder that keeps the sounds and the models")
    options = parser.parse_args()
    check_fluidsynth(FONTS["fluid"])
    keep_freed_memory()  # as the command line does
    programs = options.programs[:1] if options.quick else options.programs
    short, long = [QUICK_MINUTES] * 2 if options.quick else (options.minutes, options.minutes_from_nothing)
    base = wavesynth.load(options.base)
    rows: list[Row] = [machine()]
    with tempfile.TemporaryDirectory() as folder:
        for program in programs:
            work = (options.work or Path(folder)) / program
            place = shards_of(program, work)
            shards = shards_for(base, place)
            untrained = {"silence": None, "base": base}
            for name, synth in untrained.items():
                row = {"what": "reconstruction", "of": program, "begun_from": name, "minutes": 0}
                rows.append(row | distances(synth, shards))
            for name, minutes, begun in (("base", short, options.base), ("nothing", long, None)):
                run = work / f"from-{name}"
                synth = trained(place, run, minutes, begun)
                row = {"what": "reconstruction", "of": program, "begun_from": name, "minutes": minutes}
                rows.append(row | {"steps": config_of(run).training.steps} | distances(synth, shards))
                jax.clear_caches()
            print_table(rows[-4:], COLUMNS)
    write_json(options.json, rows)


if __name__ == "__main__":
    main()
