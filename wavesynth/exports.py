"""What a morph and a grid leave on disk: wavs, one wav that plays them in turn, a picture, and the metrics."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from os import PathLike
from pathlib import Path

import numpy as np

from wavesynth.audio import files, pictures
from wavesynth.audio import pitch as pitches
from wavesynth.evaluation import descriptors
from wavesynth.evaluation.morphing import MorphMetrics, crossfade, judge
from wavesynth.synth import Synth, numbered

PAUSE_SECONDS = 0.1  # between sounds that are played in turn
MOST_PANELS = 64  # side by side in a picture; none is drawn of more


def write_morph(
    synth: Synth, sounds: np.ndarray, folder: str | PathLike[str], *, force: bool = False
) -> dict[str, MorphMetrics]:
    """Writes FOLDER/000.wav ..., morph.wav, morph.png (with the extra `viz`) and metrics.json; returns the metrics.

    sounds: what `Synth.morph` made, [steps, T]. The metrics are those of the morph and, beside it, of the crossfade of the
    same two ends (see `wavesynth.evaluation.morphing`); none for a morph of two steps.
    """
    folder = Path(folder)
    *paths, whole, picture, numbers = morph_files(folder, len(sounds), force)
    folder.mkdir(parents=True, exist_ok=True)
    _write_all(paths, sounds, synth.sample_rate, whole)
    metrics: dict[str, MorphMetrics] = {}
    if len(sounds) > 2:
        faded = crossfade(sounds[0], sounds[-1], len(sounds))
        tracked = synth.family.dataset.pitched and pitches.available()
        rows = {"morph": sounds, "crossfade": faded}
        metrics = {name: judge(path, synth.sample_rate, track_pitch=tracked) for name, path in rows.items()}
        numbers.write_text(json.dumps({name: asdict(row) for name, row in metrics.items()}, indent=2) + "\n")
    if pictures.available() and len(sounds) <= MOST_PANELS:
        curves = {
            "centroid, Hz": descriptors.spectral_centroid(sounds, synth.sample_rate),
            "attack, ms": descriptors.attack_time(sounds, synth.sample_rate) * 1_000,
            "flatness, dB": descriptors.spectral_flatness(sounds),
        }
        titled = {str(index): sound for index, sound in enumerate(sounds)}
        pictures.strip(
            picture, titled, synth.sample_rate, {name: np.asarray(values) for name, values in curves.items()}
        )
    return metrics


def write_grid(synth: Synth, sounds: np.ndarray, folder: str | PathLike[str], *, force: bool = False) -> list[Path]:
    """Writes FOLDER/ROW-COLUMN.wav of a grid [rows, size, T], and grid.png (with the extra `viz`); returns the wavs' paths."""
    folder, (rows, size) = Path(folder), sounds.shape[:2]
    *paths, picture = grid_files(folder, rows, size, force)
    titles = [path.stem for path in paths]
    folder.mkdir(parents=True, exist_ok=True)
    flat = sounds.reshape(rows * size, -1)
    _write_all(paths, flat, synth.sample_rate)
    if pictures.available() and size <= MOST_PANELS:
        pictures.spectrogram(picture, dict(zip(titles, flat, strict=True)), synth.sample_rate, columns=size)
    return paths


def morph_files(folder: Path, steps: int, force: bool) -> list[Path]:
    """What `write_morph` writes: the steps' wavs, morph.wav, morph.png, metrics.json. One that is there is an error."""
    paths = numbered(folder, steps, force)
    others = [folder / name for name in ("morph.wav", "morph.png", "metrics.json")]
    files.check_free(others, force)
    return [*paths, *others]


def grid_files(folder: Path, rows: int, size: int, force: bool) -> list[Path]:
    """What `write_grid` writes: the wavs row by row, grid.png. One that is there is an error."""
    paths = [folder / f"{row}-{column}.wav" for row in range(rows) for column in range(size)]
    files.check_free([*paths, folder / "grid.png"], force)
    return [*paths, folder / "grid.png"]


def _write_all(paths: Sequence[Path], sounds: np.ndarray, sample_rate: int, in_turn: Path | None = None) -> None:
    for path, sound in zip(paths, sounds, strict=True):
        files.write(path, sound, sample_rate, force=True)
    if in_turn is not None:
        pause = np.zeros((len(sounds), round(PAUSE_SECONDS * sample_rate)), np.float32)
        files.write(in_turn, np.concatenate([sounds, pause], axis=1).ravel(), sample_rate, force=True)
