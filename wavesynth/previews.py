"""What a run leaves to listen to and to look at while it is trained."""

import dataclasses
from pathlib import Path

import numpy as np

from wavesynth.audio import files, pictures
from wavesynth.audio.names import display
from wavesynth.audio.pcm import to_float
from wavesynth.config import TrainingConfig
from wavesynth.data.batches import Batches
from wavesynth.families import Request
from wavesynth.synth import Synth

STRIP_ROWS = 8  # of the picture of all previews


def write_preview(
    synth: Synth, held_out: Batches, folder: Path, training: TrainingConfig, *, pictured: bool = True
) -> None:
    """A few sounds to listen to and, where matplotlib is installed, to look at; nothing where the family makes none."""
    if not synth.family.makes_sounds:
        return
    if synth.family.reconstructs:
        titles, paths = _reconstructed(synth, held_out, folder, training)
    else:
        seconds = None if synth.family.length else training.preview_seconds
        paths = synth.write(folder, n=4, seconds=seconds, seed=training.seed, force=True)
        titles = [path.stem for path in paths]
    if pictured and pictures.available():
        sounds = {title: _written(path) for title, path in zip(titles, paths, strict=True)}
        pictures.spectrogram(folder / "spectrogram.png", sounds, synth.sample_rate)
        _strip(folder.parent, synth.sample_rate)


def _reconstructed(
    synth: Synth, held_out: Batches, folder: Path, training: TrainingConfig
) -> tuple[list[str], list[Path]]:
    """Writes two held-out sounds, each with what is made of it beside it: titles, and paths."""
    chosen = [held_out.clips[index] for index in np.linspace(0, len(held_out.clips) - 1, 4).round().astype(int)[1:3]]
    sounds: dict[str, np.ndarray] = {}
    for clip in chosen:
        record = held_out.shards.clips[clip]
        samples = to_float(loudest(held_out.shards.samples(clip), round(training.preview_seconds * synth.sample_rate)))
        request = Request(seed=training.seed, pitch=record.pitch)
        latent = synth.family.encode(synth.params, samples, request, False)
        blocks = synth.family.stream(synth.params, dataclasses.replace(request, latent=latent[None]))
        name = display(record.file)
        sounds[name], sounds[f"{name}, made"] = samples, np.concatenate(list(blocks), axis=1)[0, : len(samples)]
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{index:03d}.wav" for index in range(len(sounds))]
    for path, sound in zip(paths, sounds.values(), strict=True):
        files.write(path, sound, synth.sample_rate, force=True)
    return list(sounds), paths


def loudest(samples: np.ndarray, length: int) -> np.ndarray:
    """The part of `length` samples with the most energy, to a quarter of its length: a piece may begin with silence."""
    if len(samples) <= length:
        return samples
    step = max(length // 4, 1)
    blocks = samples[: len(samples) // step * step].reshape(-1, step)
    energy = np.array([np.square(block, dtype=np.float64).sum() for block in blocks])
    total = np.convolve(energy, np.ones(min(length // step, len(energy))), "valid")
    start = min(int(total.argmax()) * step, len(samples) - length)
    return samples[start : start + length]


def _written(path: Path) -> np.ndarray:
    """A preview as it was written: nothing is said of silence or an offset, which a young model may well make."""
    import soundfile

    return soundfile.read(path, dtype="float32")[0]


def _strip(previews: Path, sample_rate: int) -> None:
    """PREVIEWS/progress.png: the first sounds of some previews, a row for each of them; time goes down."""
    steps = sorted(folder for folder in previews.iterdir() if folder.name.isdigit() and (folder / "000.wav").exists())
    chosen = [steps[index] for index in np.linspace(0, len(steps) - 1, min(len(steps), STRIP_ROWS)).round().astype(int)]
    sounds = {
        f"step {int(folder.name):,}, {path.stem}": _written(path)
        for folder in chosen
        for path in sorted(folder.glob("*.wav"))
    }
    pictures.spectrogram(previews / "progress.png", sounds, sample_rate, columns=4)
