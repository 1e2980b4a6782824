"""The demo: a morph by a published model, two models trained on the bundled sounds, and a web page with the results."""

import shutil
import time
from collections.abc import Sequence
from dataclasses import replace
from os import PathLike
from pathlib import Path

import numpy as np

from wavesynth import api
from wavesynth.audio import files, pictures
from wavesynth.audio.names import display, user_path
from wavesynth.config import Config
from wavesynth.data.prepare import prepare
from wavesynth.demo.page import Picture, Section, Sound, write_page
from wavesynth.errors import UserError
from wavesynth.families import preset
from wavesynth.synth import Synth
from wavesynth.timbre.timbre import Timbre

SOUNDS = Path(__file__).parent / "sounds"
PUBLISHED = "checkpoints/notes"
ENDS = ("cello", "trumpet")
BETWEEN = 9  # sounds of the first morph
PRESET = "wavenet-tiny"
NOTES = ("flute", "cello", "trumpet", "church-organ")
DRUMS = ("kick", "snare")
MORPH = ("flute", "trumpet")
PITCH = 60
SAMPLE_RATE = 8_000  # half that of the sounds, so that the WaveNet trains on twice as many seconds in the same time
STEPS = 5  # of the WaveNet's morph
DRUM_PRESET = "wavegan-tiny"
DRUM_KIT = ("kick", "snare", "hat")
DRUM_RATE = 16_000
DRUM_SECONDS, DRUM_STEPS, DRUM_BATCH = 0.5, 400, 8
TRAINING_SECONDS = 90  # training time of each model on two cores
EACH = 2  # sounds per drum
GRID = 4  # rows and columns


def run(
    out: str | PathLike[str] = "wavesynth-demo", *, seconds_per_model: float = TRAINING_SECONDS, force: bool = False
) -> Path:
    """Morphs, trains two models, samples, and writes OUT/index.html, in about four minutes on two cores.

    Args:
        out: The folder to write to.
        seconds_per_model: Approximate training time of each model on two cores. Less is faster and sounds worse.
        force: Replace an earlier demo when the new one is complete.

    Returns:
        The path of the page.

    Raises:
        UserError: The folder holds other things, or seconds_per_model is not above 0.
    """
    if not 0 < seconds_per_model <= 86_400:
        raise UserError(f"seconds_per_model is {seconds_per_model:g}: it must be above 0 and at most a day")
    published = api.load(PUBLISHED)
    out = user_path(out)
    there = out.exists() and (not out.is_dir() or any(out.iterdir()))
    if there and not (force and (out / "run").exists()):
        raise UserError(
            f"out is {display(str(out))!r}, which is not empty: choose another folder, or replace a demo with --force"
        )
    work = out.with_name(out.name + ".new") if there else out
    if there:
        shutil.rmtree(work, ignore_errors=True)  # left by an interrupted demo
    began = time.perf_counter()
    page = _make(work, published, seconds_per_model / TRAINING_SECONDS)
    if there:
        shutil.rmtree(out)
        work.rename(out)
        page = out / page.name
    _say(f"done in {time.perf_counter() - began:.0f} seconds: open {display(str(page))}")
    return page


def _make(out: Path, published: Synth, share: float) -> Path:
    """Makes the demo, with a fraction of the default training steps."""
    ends = [_note(label) for label in ENDS]
    _say(f"1 of 7  morph: from {ends[0].name} to {ends[1].name}, with {PUBLISHED}")
    between = dict(zip(_steps(BETWEEN), published.morph(*ends, steps=BETWEEN), strict=True))
    _say(f"2 of 7  prepare: {display(str(SOUNDS))}")
    print(prepare(SOUNDS, out / "shards", sample_rate=SAMPLE_RATE, test=0.0, progress=False))
    _say(f"3 of 7  train: the preset {PRESET}, on all of these sounds")
    synth = api.train(out / "shards", out / "run", _shortened(preset(PRESET), share))
    _say(f"4 of 7  sample: {', '.join(NOTES + DRUMS)}")
    sampled = {label: synth.sample(1, 1.0, label=label, pitch=PITCH, temperature=0.8)[0] for label in NOTES}
    sampled |= {label: synth.sample(1, 0.5, label=label, temperature=0.8)[0] for label in DRUMS}
    _say(f"5 of 7  morph: from {MORPH[0]} to {MORPH[1]} in {STEPS} steps")
    morph = synth.morph(*MORPH, steps=STEPS, seconds=1.0, pitch=PITCH, temperature=0.8)
    steps_named = dict(zip(_steps(STEPS), morph, strict=True))
    drums = _train_drums(out, share)
    _say(f"7 of 7  sample: {', '.join(DRUM_KIT)}, and a grid between them")
    generated = [list(drums.sample(EACH, label=label)) for label in DRUM_KIT]
    grid = drums.grid(_corners(drums), size=GRID)
    places = {f"row {y + 1} column {x + 1}": grid[y, x] for y in range(GRID) for x in range(GRID)}
    sections = [
        _section(out, published, "between", f"From {ends[0].name} to {ends[1].name}, with {PUBLISHED}", between),
        _section(out, synth, "sampled", "The WaveNet's sounds, given a label and a pitch", sampled),
        _section(out, synth, "real", "Training sounds of the same labels", _real(synth)),
        _section(out, synth, "morph", f"The WaveNet's morph from {MORPH[0]} to {MORPH[1]}", steps_named),
        _section(out, drums, "drums", "The WaveGAN's drums, given a label", _numbered(generated)),
        _section(out, drums, "real-drums", "Its training sounds", _numbered(_real_drums(drums))),
        _section(out, drums, "grid", "Between a kick, a snare, a hat and another snare", places, columns=GRID),
    ]
    introduction = (
        f"The first morph uses {PUBLISHED}, an autoencoder that comes with wavesynth. The demo then trained two models from "
        f"scratch: a WaveNet with {synth.num_parameters:,} parameters on {len(list(SOUNDS.rglob('*.flac')))} sounds, and a "
        f"WaveGAN with {drums.num_parameters:,} on the drums among them. They are small and trained briefly, so they are "
        "noisy.\n\nTrain longer, on your own sounds: wavesynth train FOLDER RUN."
    )
    return write_page(out, "wavesynth: the demo", sections, introduction=introduction)


def _shortened(config: Config, share: float) -> Config:
    steps = max(1, round(config.training.steps * share))
    return replace(config, training=replace(config.training, steps=steps))


def _train_drums(out: Path, share: float) -> Synth:
    """Trains a WaveGAN on the drums at 16 kHz: most of a hat's sound lies above 4 kHz, the limit of the WaveNet."""
    _say(f"6 of 7  train: the preset {DRUM_PRESET}, on {', '.join(DRUM_KIT)}")
    for label in DRUM_KIT:
        shutil.copytree(SOUNDS / label, out / "drum-sounds" / label)
    print(prepare(out / "drum-sounds", out / "drum-shards", sample_rate=DRUM_RATE, test=0.0, progress=False))
    config = preset(DRUM_PRESET)
    batch_size = min(config.training.batch_size, DRUM_BATCH)
    training = replace(config.training, batch_size=batch_size, steps=DRUM_STEPS)
    config = replace(config, model=replace(config.model, seconds=DRUM_SECONDS), training=training)
    return api.train(out / "drum-shards", out / "drum-run", _shortened(config, share))


def _steps(count: int) -> list[str]:
    return [f"{index} of {count - 1}" for index in range(count)]


def _note(label: str) -> Path:
    """The first sound with a label at the demo's pitch."""
    return next(iter(sorted((SOUNDS / label).glob(f"*_{PITCH:03d}_*.flac"))))


def _corners(drums: Synth) -> list[Timbre]:
    kick, snare, hat = (drums.timbre(label) for label in DRUM_KIT)
    return [kick, snare, hat, *drums.latents(seed=1, label="snare")]


def _numbered(sounds: Sequence[Sequence[np.ndarray]]) -> dict[str, np.ndarray]:
    """The sounds of each drum, by title."""
    return {
        f"{label} {index + 1}": sound
        for label, some in zip(DRUM_KIT, sounds, strict=True)
        for index, sound in enumerate(some)
    }


def _real_drums(drums: Synth) -> list[list[np.ndarray]]:
    """The first training sounds of each drum."""
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
    """One training sound for each sampled sound."""
    named = {label: _note(label) for label in NOTES}
    named |= {label: next(iter(sorted((SOUNDS / label).glob("*.flac")))) for label in DRUMS}
    return {label: files.read(path, synth.sample_rate)[0] for label, path in named.items()}


def _say(text: str) -> None:
    print(f"\n== {text}", flush=True)
