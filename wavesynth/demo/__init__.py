"""The demo: a morph by the published model, two models trained on the bundled sounds, and a web page with the results."""

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
from wavesynth.bases import Base
from wavesynth.data.prepare import prepare
from wavesynth.demo.page import Picture, Section, Sound, write_page
from wavesynth.errors import UserError
from wavesynth.families import preset
from wavesynth.synth import Synth
from wavesynth.timbre.timbre import Timbre

SOUNDS = Path(__file__).parent / "sounds"
PUBLISHED = "checkpoints/instruments"
NOTES = ("cello", "church-organ", "flute", "nylon-guitar", "trumpet", "vibraphone")
MORPH = ("cello", "trumpet")
GLIDE = ("flute", "church-organ")
PITCH = 60
STEPS = 9  # of a morph
NOTE_STEPS, NOTE_EMA, VALIDATIONS = 150, 0.95, 3
DRUM_PRESET, DRUM_STEPS = "autoencoder-tiny", 500
DRUM_KIT = ("kick", "snare", "hat")
DRUM_SECONDS = 0.5
TRAINING_SECONDS = 90  # of each model on two cores
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
    ends = [_note(label) for label in MORPH]
    _say(f"1 of 5  morph: from {ends[0].name} to {ends[1].name}, with {PUBLISHED}")
    morph = dict(zip(_steps(STEPS), published.morph(*ends, steps=STEPS), strict=True))
    _say(f"2 of 5  train: from {PUBLISHED}, on notes of {len(NOTES)} instruments")
    notes = _train_notes(out, share)
    _say(f"3 of 5  sample: {', '.join(NOTES)}, and a glide")
    sampled = {label: notes.sample(1, 1.0, label=label, pitch=PITCH)[0] for label in NOTES}
    real = {label: files.read(_note(label), notes.sample_rate, notes.channels) for label in NOTES}
    glide = {" to ".join(GLIDE): notes.glide(*GLIDE, seconds=4.0, pitch=PITCH)}
    _say(f"4 of 5  train: the preset {DRUM_PRESET}, on {', '.join(DRUM_KIT)}")
    drums = _train_drums(out, share)
    _say(f"5 of 5  sample: {', '.join(DRUM_KIT)}, and a grid between them")
    generated = [list(drums.sample(EACH, DRUM_SECONDS, label=label)) for label in DRUM_KIT]
    grid = drums.grid(_corners(drums), size=GRID, seconds=DRUM_SECONDS)
    places = {f"row {y + 1} column {x + 1}": grid[y, x] for y in range(GRID) for x in range(GRID)}
    sections = [
        _section(out, published, "morph", f"From {ends[0].name} to {ends[1].name}, with {PUBLISHED}", morph),
        _section(out, notes, "sampled", "Sampled notes, given an instrument and a pitch", sampled),
        _section(out, notes, "real", "Bundled sounds of the same instruments", real),
        _section(out, notes, "glide", f"One sound that moves from the {GLIDE[0]} to the {GLIDE[1]}", glide),
        _section(out, drums, "drums", "Sampled drums", _numbered(generated)),
        _section(out, drums, "real-drums", "Bundled sounds of the same drums", _numbered(_real_drums(drums))),
        _section(out, drums, "grid", "Between a kick, a snare, a hat and another snare", places, columns=GRID),
    ]
    introduction = (
        f"All sounds are stereo, at {notes.sample_rate:,} Hz. The morph uses {PUBLISHED}, an autoencoder that comes with "
        f"wavesynth. The demo then trained two models on bundled sounds: an autoencoder, which began from {PUBLISHED}, on "
        f"{_count(NOTES)} notes, and a smaller one with {drums.num_parameters:,} parameters, from scratch, on "
        f"{_count(DRUM_KIT)} drums. Their training was short.\n\n"
        "Train longer, on your own sounds: wavesynth train FOLDER RUN."
    )
    return write_page(out, "wavesynth: the demo", sections, introduction=introduction)


def _train_notes(out: Path, share: float) -> Synth:
    """Trains an autoencoder that begins from the published one."""
    shards, config = _prepared(out, "notes", NOTES), Base(PUBLISHED).config()
    steps = max(1, round(NOTE_STEPS * share))
    config = replace(
        config, training=replace(config.training, ema=NOTE_EMA, validate_every=max(1, steps // VALIDATIONS))
    )
    return api.train(shards, out / "run", config, base=PUBLISHED, steps=steps)


def _train_drums(out: Path, share: float) -> Synth:
    shards, config = _prepared(out, "drums", DRUM_KIT), preset(DRUM_PRESET)
    config = replace(config, training=replace(config.training, crop_seconds=DRUM_SECONDS))
    return api.train(shards, out / "drum-run", config, steps=max(1, round(DRUM_STEPS * share)))


def _prepared(out: Path, name: str, labels: Sequence[str]) -> Path:
    """The shards of the bundled sounds with some labels."""
    sounds, shards = out / f"{name}-sounds", out / f"{name}-shards"
    for label in labels:
        shutil.copytree(SOUNDS / label, sounds / label)
    print(prepare(sounds, shards, test=0.0, progress=False))
    return shards


def _count(labels: Sequence[str]) -> int:
    return sum(len(list((SOUNDS / label).glob("*.flac"))) for label in labels)


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
        [files.read(path, drums.sample_rate, drums.channels) for path in sorted((SOUNDS / label).glob("*.flac"))[:EACH]]
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


def _say(text: str) -> None:
    print(f"\n== {text}", flush=True)
