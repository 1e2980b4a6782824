"""What a run leaves to listen to and to look at while it is trained."""

from pathlib import Path

import numpy as np

from wavesynth.audio import files, pictures
from wavesynth.audio.names import display
from wavesynth.audio.pcm import to_float
from wavesynth.config import TrainingConfig
from wavesynth.data.batches import Batches, mono
from wavesynth.families import Generative
from wavesynth.synth import Synth

STRIP_ROWS = 8  # of the picture of all previews


def write_preview(synth: Synth, held_out: Batches, folder: Path, training: TrainingConfig) -> None:
    """A few sounds to listen to and, where matplotlib is installed, to look at; nothing where the family makes none."""
    if not isinstance(synth.family, Generative):
        return
    if getattr(synth.family, "reconstructs", False):
        titles, paths = _reconstructed(synth, held_out, folder, training)
    else:
        seconds = None if synth.family.length else training.preview_seconds
        paths = synth.write(folder, n=4, seconds=seconds, seed=training.seed, force=True)
        titles = [path.stem for path in paths]
    if pictures.available():
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
        length = round(training.preview_seconds * synth.sample_rate)
        samples = to_float(np.atleast_2d(held_out.shards.samples(clip))[:, :length])
        timbre = synth.timbre_of(samples, record.pitch)
        name = display(record.file)
        sounds[name] = mono(samples)
        sounds[f"{name}, reconstructed"] = synth.decode(timbre, seed=training.seed)[..., : samples.shape[-1]]
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{index:03d}.wav" for index in range(len(sounds))]
    for path, sound in zip(paths, sounds.values(), strict=True):
        files.write(path, sound, synth.sample_rate, force=True)
    return list(sounds), paths


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
