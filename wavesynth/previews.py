"""Previews: sounds and pictures that training writes on the way."""

from pathlib import Path

import numpy as np

from wavesynth.audio import files, pictures
from wavesynth.audio.names import display
from wavesynth.config import TrainingConfig
from wavesynth.data.batches import Batches
from wavesynth.data.shards import Shards
from wavesynth.families import Generative, Timbral
from wavesynth.synth import Synth
from wavesynth.writing import numbered

SOUNDS = 4  # generated sounds per preview
RECONSTRUCTED = 2  # held-out sounds per preview, each with its reconstruction
LEAD_SECONDS = (
    0.5  # lead-in encoded before an excerpt from the middle of a piece, so that it does not begin with a click
)
STRIP_ROWS = 8  # in the picture of all previews


def write_preview(
    synth: Synth, held_out: Batches, folder: Path, training: TrainingConfig, *, pictured: bool = True
) -> None:
    """Writes a few sounds to FOLDER and, if matplotlib is installed, their picture. Classifiers have no previews.

    For an autoencoder, the sounds are held-out sounds, each with its reconstruction. Other models generate sounds with labels
    and pitches drawn from the training sounds.
    """
    family = synth.family
    if not isinstance(family, Generative):
        return
    if isinstance(family, Timbral) and family.reconstructs:
        sounds = _reconstructed(synth, held_out, training)
        paths = numbered(folder, len(sounds), force=True)
        folder.mkdir(parents=True, exist_ok=True)
        for path, sound in zip(paths, sounds.values(), strict=True):
            files.write(path, sound, synth.sample_rate, force=True)
        titles = list(sounds)
    else:
        seconds = None if family.length else training.preview_seconds
        paths = synth.write(folder, n=SOUNDS, seconds=seconds, seed=training.seed, force=True)
        titles = [path.stem for path in paths]
    if pictured and pictures.available():
        written = {title: _written(path) for title, path in zip(titles, paths, strict=True)}
        pictures.spectrogram(folder / "spectrogram.png", written, synth.sample_rate)
        _strip(folder.parent, synth.sample_rate)


def _reconstructed(synth: Synth, held_out: Batches, training: TrainingConfig) -> dict[str, np.ndarray]:
    """The loudest excerpts of some held-out clips and their reconstructions, by title."""
    inner = np.linspace(0, len(held_out.clips) - 1, RECONSTRUCTED + 2).round().astype(int)[1:-1]
    length = round(training.preview_seconds * synth.sample_rate)
    lead = round(LEAD_SECONDS * synth.sample_rate)
    sounds: dict[str, np.ndarray] = {}
    for clip in (held_out.clips[index] for index in inner):
        record = held_out.shards.clips[clip]
        start = loudest(held_out.shards, clip, length)
        before = min(start, lead)
        samples = held_out.excerpt(clip, start - before, start + length)
        timbre = synth.timbre_of(samples, record.pitch)
        decoded = np.atleast_2d(synth.decode(timbre, seed=training.seed))[:, before : samples.shape[-1]]
        name = display(record.file)
        sounds[name], sounds[f"{name}, reconstructed"] = samples[:, before:], decoded
    return sounds


def loudest(shards: Shards, clip: int, length: int) -> int:
    """The approximate start of the loudest `length` samples of a clip; 0 if the clip is not longer."""
    pcm = shards.samples(clip)
    step = max(1, length // 4)
    count = pcm.shape[-1] // step
    if pcm.shape[-1] <= length:
        return 0
    powers = [np.square(pcm[:, i * step : (i + 1) * step], dtype=np.float64).sum() for i in range(count)]
    window = max(1, length // step)
    totals = np.convolve(powers, np.ones(window), mode="valid") if count >= window else np.zeros(1)
    return min(int(totals.argmax()) * step, pcm.shape[-1] - length)


def _written(path: Path) -> np.ndarray:
    """Reads a preview, without warnings about silence or an offset, which are normal for an untrained model."""
    import soundfile

    return soundfile.read(path, dtype="float32", always_2d=True)[0].T


def _strip(previews: Path, sample_rate: int) -> None:
    """Writes PREVIEWS/progress.png: the first sounds of several previews, one row per preview, the earliest on top."""
    steps = sorted(folder for folder in previews.iterdir() if folder.name.isdigit() and (folder / "000.wav").exists())
    chosen = [steps[index] for index in np.linspace(0, len(steps) - 1, min(len(steps), STRIP_ROWS)).round().astype(int)]
    sounds = {
        f"step {int(folder.name):,}, {path.stem}": _written(path)
        for folder in chosen
        for path in sorted(folder.glob("*.wav"))
    }
    pictures.spectrogram(previews / "progress.png", sounds, sample_rate, columns=4)
