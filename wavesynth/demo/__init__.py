"""The demo: from the sounds that come with wavesynth to a trained instrument, a few wavs and a page to judge them by."""

import shutil
import time
from pathlib import Path

import numpy as np

from wavesynth import api
from wavesynth.audio import files, pictures
from wavesynth.data.prepare import prepare
from wavesynth.demo.page import Picture, Section, Sound, write_page
from wavesynth.errors import UserError
from wavesynth.families import preset
from wavesynth.synth import Synth

SOUNDS = Path(__file__).parent / "sounds"
PRESET = "wavenet-tiny"
NOTES = ("flute", "cello", "trumpet", "church-organ")
DRUMS = ("kick", "snare")
MORPH = ("flute", "trumpet")
PITCH = 60
SAMPLE_RATE = 8_000  # half of what the sounds have: twice as many of them are heard in the same time
STEPS = 5


def run(out: Path, *, steps: int | None = None, force: bool = False) -> Path:
    """Trains, samples, morphs, and leaves OUT/index.html; returns its path.

    steps: of training, in place of the preset's. force: replace an earlier demo. About two minutes on two cores.
    """
    if out.exists() and any(out.iterdir()):
        if not (force and (out / "run").exists()):
            raise UserError(
                f"out is {str(out)!r}, which is not empty: name another folder, or replace a demo by --force"
            )
        shutil.rmtree(out)
    began = time.perf_counter()
    _say(f"1 of 4  prepare: {SOUNDS}")
    print(prepare(SOUNDS, out / "shards", sample_rate=SAMPLE_RATE, test=0.0, progress=False))
    _say(f"2 of 4  train: the preset {PRESET}, on everything just prepared")
    synth = api.train(out / "shards", out / "run", preset(PRESET), steps=steps)
    _say(f"3 of 4  sample: {', '.join(NOTES + DRUMS)}")
    sampled = {label: synth.sample(1, 1.0, label=label, pitch=PITCH, temperature=0.8)[0] for label in NOTES}
    sampled |= {label: synth.sample(1, 0.5, label=label, temperature=0.8)[0] for label in DRUMS}
    _say(f"4 of 4  morph: from {MORPH[0]} to {MORPH[1]} in {STEPS} steps")
    morph = synth.morph(*MORPH, steps=STEPS, seconds=1.0, pitch=PITCH, temperature=0.8)
    steps_named = {f"{index} of {STEPS - 1}": sound for index, sound in enumerate(morph)}
    page = write_page(
        out,
        "wavesynth: the demo",
        [
            _section(out, synth, "sampled", "What the model makes, given a label and a pitch", sampled),
            _section(out, synth, "real", "What it was trained on: the same labels", _real(synth)),
            _section(out, synth, "morph", f"From {MORPH[0]} to {MORPH[1]}", steps_named),
        ],
        introduction=(
            f"A WaveNet of {synth.num_parameters:,} parameters, trained from nothing on {len(list(SOUNDS.rglob('*.flac')))} "
            f"sounds; all of this took {time.perf_counter() - began:.0f} seconds. It is small and young: expect much noise. "
            "Train longer, and on your own sounds: wavesynth train FOLDER RUN."
        ),
    )
    _say(f"done in {time.perf_counter() - began:.0f} seconds: open {page}")
    return page


def _section(out: Path, synth: Synth, name: str, heading: str, sounds: dict[str, np.ndarray]) -> Section:
    """Writes the sounds and their picture, and describes them for the page."""
    (out / name).mkdir()
    for title, sound in sounds.items():
        files.write(out / name / f"{title}.wav", sound, synth.sample_rate)
    shown = []
    if pictures.available():
        pictures.spectrogram(out / f"{name}.png", sounds, synth.sample_rate, columns=len(sounds))
        shown = [Picture(f"{name}.png", heading)]
    return Section(heading, "", pictures=shown, sounds=[Sound(title, f"{name}/{title}.wav") for title in sounds])


def _real(synth: Synth) -> dict[str, np.ndarray]:
    """One shipped sound for each sampled one."""
    named = {label: next(iter(sorted((SOUNDS / label).glob(f"*_{PITCH:03d}_*.flac")))) for label in NOTES}
    named |= {label: next(iter(sorted((SOUNDS / label).glob("*.flac")))) for label in DRUMS}
    return {label: files.read(path, synth.sample_rate) for label, path in named.items()}


def _say(text: str) -> None:
    print(f"\n== {text}", flush=True)
