"""The demo: a morph by the published model, and from the sounds that come with wavesynth to trained instruments, a few wavs and
a page to judge them by."""

import shutil
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from wavesynth import api
from wavesynth.audio import files, pictures
from wavesynth.data.prepare import prepare
from wavesynth.demo.page import Picture, Section, Sound, write_page
from wavesynth.errors import UserError
from wavesynth.families import preset
from wavesynth.synth import Synth
from wavesynth.timbre.timbre import Timbre

SOUNDS = Path(__file__).parent / "sounds"
PUBLISHED = "checkpoints/notes"
ENDS = ("cello", "trumpet")
BETWEEN = 9
PRESET = "wavenet-tiny"
NOTES = ("flute", "cello", "trumpet", "church-organ")
DRUMS = ("kick", "snare")
MORPH = ("flute", "trumpet")
PITCH = 60
SAMPLE_RATE = 8_000  # half of what the sounds have: twice as many of them are heard in the same time
STEPS = 5
DRUM_PRESET = "wavegan-tiny"
DRUM_KIT = ("kick", "snare", "hat")
DRUM_SECONDS, DRUM_STEPS, DRUM_BATCH = 0.5, 400, 8
EACH = 2  # sounds of every drum
GRID = 4  # rows and columns


def run(out: Path, *, steps: int | None = None, force: bool = False) -> Path:
    """Morphs, trains two models, samples, and leaves OUT/index.html; returns its path.

    steps: of either training, in place of its own. force: replace an earlier demo. About four minutes on two cores.
    """
    published = api.load(PUBLISHED)  # which fails, if it does, before an earlier demo is gone
    if out.exists() and any(out.iterdir()):
        if not (force and (out / "run").exists()):
            raise UserError(
                f"out is {str(out)!r}, which is not empty: name another folder, or replace a demo by --force"
            )
        shutil.rmtree(out)
    began = time.perf_counter()
    ends = [_note(label) for label in ENDS]
    _say(f"1 of 7  morph: from {ends[0].name} to {ends[1].name}, by {PUBLISHED}")
    between = dict(zip(_steps(BETWEEN), published.morph(*ends, steps=BETWEEN), strict=True))
    _say(f"2 of 7  prepare: {SOUNDS}")
    print(prepare(SOUNDS, out / "shards", sample_rate=SAMPLE_RATE, test=0.0, progress=False))
    _say(f"3 of 7  train: the preset {PRESET}, on everything just prepared")
    synth = api.train(out / "shards", out / "run", preset(PRESET), steps=steps)
    _say(f"4 of 7  sample: {', '.join(NOTES + DRUMS)}")
    sampled = {label: synth.sample(1, 1.0, label=label, pitch=PITCH, temperature=0.8)[0] for label in NOTES}
    sampled |= {label: synth.sample(1, 0.5, label=label, temperature=0.8)[0] for label in DRUMS}
    _say(f"5 of 7  morph: from {MORPH[0]} to {MORPH[1]} in {STEPS} steps")
    morph = synth.morph(*MORPH, steps=STEPS, seconds=1.0, pitch=PITCH, temperature=0.8)
    steps_named = dict(zip(_steps(STEPS), morph, strict=True))
    drums = _train_drums(out, steps)
    _say(f"7 of 7  sample: {', '.join(DRUM_KIT)}, and a grid between them")
    made = [list(drums.sample(EACH, label=label)) for label in DRUM_KIT]
    grid = drums.grid(_corners(drums), size=GRID)
    page = write_page(
        out,
        "wavesynth: the demo",
        [
            _section(out, published, "between", f"From {ends[0].name} to {ends[1].name}, by {PUBLISHED}", between),
            _section(out, synth, "sampled", "What the model makes, given a label and a pitch", sampled),
            _section(out, synth, "real", "What it was trained on: the same labels", _real(synth)),
            _section(out, synth, "morph", f"From {MORPH[0]} to {MORPH[1]}", steps_named),
            _section(out, drums, "drums", "Drums that a WaveGAN makes whole, given a label", _numbered(made)),
            _section(out, drums, "real-drums", "What it was trained on", _numbered(_real_drums(drums))),
            _section(
                out,
                drums,
                "grid",
                "Between four drums: a kick, a snare, a hat and another snare in the corners",
                {
                    f"row {row + 1} column {column + 1}": grid[row, column]
                    for row in range(GRID)
                    for column in range(GRID)
                },
                columns=GRID,
            ),
        ],
        introduction=(
            f"The way between two sounds is by {PUBLISHED}, an autoencoder that comes with wavesynth. All else was made "
            f"now: a WaveNet of {synth.num_parameters:,} parameters, trained from nothing on "
            f"{len(list(SOUNDS.rglob('*.flac')))} sounds, and a WaveGAN of {drums.num_parameters:,} on the drums among them; "
            f"all of this took {time.perf_counter() - began:.0f} seconds. They are small and young: expect much noise. "
            "Train longer, and on your own sounds: wavesynth train FOLDER RUN."
        ),
    )
    _say(f"done in {time.perf_counter() - began:.0f} seconds: open {page}")
    return page


def _train_drums(out: Path, steps: int | None) -> Synth:
    """A WaveGAN of the drums, at the rate that they have: most of a hat lies above the 4 kHz that the WaveNet knows."""
    _say(f"6 of 7  train: the preset {DRUM_PRESET}, on {', '.join(DRUM_KIT)}")
    for label in DRUM_KIT:
        shutil.copytree(SOUNDS / label, out / "drum-sounds" / label)
    print(prepare(out / "drum-sounds", out / "drum-shards", test=0.0, progress=False))
    config = preset(DRUM_PRESET)
    config = replace(
        config,
        model=replace(config.model, seconds=DRUM_SECONDS),
        training=replace(config.training, batch_size=min(config.training.batch_size, DRUM_BATCH)),
    )
    return api.train(out / "drum-shards", out / "drum-run", config, steps=steps or DRUM_STEPS)


def _steps(count: int) -> list[str]:
    return [f"{index} of {count - 1}" for index in range(count)]


def _note(label: str) -> Path:
    """The first shipped sound of a label at the demo's pitch."""
    return next(iter(sorted((SOUNDS / label).glob(f"*_{PITCH:03d}_*.flac"))))


def _corners(drums: Synth) -> list[Timbre]:
    kick, snare, hat = (drums.timbre(label) for label in DRUM_KIT)
    return [kick, snare, hat, *drums.latents(seed=1, label="snare")]


def _numbered(sounds: Sequence[Sequence[np.ndarray]]) -> dict[str, np.ndarray]:
    """The sounds of each drum of the kit by titles."""
    return {
        f"{label} {index + 1}": sound
        for label, some in zip(DRUM_KIT, sounds, strict=True)
        for index, sound in enumerate(some)
    }


def _real_drums(drums: Synth) -> list[list[np.ndarray]]:
    """The first shipped sounds of each drum."""
    return [
        [files.read(path, drums.sample_rate)[0] for path in sorted((SOUNDS / label).glob("*.flac"))[:EACH]]
        for label in DRUM_KIT
    ]


def _section(
    out: Path, synth: Synth, name: str, heading: str, sounds: dict[str, np.ndarray], columns: int = 0
) -> Section:
    """Writes the sounds and their picture, and describes them for the page."""
    (out / name).mkdir()
    for title, sound in sounds.items():
        files.write(out / name / f"{title}.wav", sound, synth.sample_rate)
    shown = []
    if pictures.available():
        pictures.spectrogram(out / f"{name}.png", sounds, synth.sample_rate, columns=columns or len(sounds))
        shown = [Picture(f"{name}.png", heading)]
    return Section(heading, "", pictures=shown, sounds=[Sound(title, f"{name}/{title}.wav") for title in sounds])


def _real(synth: Synth) -> dict[str, np.ndarray]:
    """One shipped sound for each sampled one."""
    named = {label: _note(label) for label in NOTES}
    named |= {label: next(iter(sorted((SOUNDS / label).glob("*.flac")))) for label in DRUMS}
    return {label: files.read(path, synth.sample_rate)[0] for label, path in named.items()}


def _say(text: str) -> None:
    print(f"\n== {text}", flush=True)
