"""Writing a morph or a grid to disk: WAV files, a picture and metrics."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from os import PathLike
from pathlib import Path

import numpy as np

from wavesynth.audio import files, pictures
from wavesynth.audio import pitch as pitches
from wavesynth.audio.names import user_path
from wavesynth.evaluation.analysis import Analysis
from wavesynth.evaluation.morphing import MorphMetrics, crossfade, judge
from wavesynth.storage import write_file
from wavesynth.synth import Synth
from wavesynth.writing import numbered

PAUSE_SECONDS = 0.1  # between the sounds of morph.wav
MAX_PANELS = 64  # side by side in a picture; a longer morph or larger grid gets no picture


def write_morph(
    synth: Synth, morph: Analysis, folder: str | PathLike[str], *, force: bool = False
) -> dict[str, MorphMetrics]:
    """Writes a morph and its metrics to a folder.

    The files are 000.wav, 001.wav ..., morph.wav (all of them in sequence), morph.png (with the extra `viz`, for up to
    `MAX_PANELS` steps) and metrics.json.

    Args:
        synth: the model that generated the sounds.
        morph: what `Synth.morph_analysis` returned, or the `Analysis` of any sounds of one length.
        folder: the folder to write; created if it is missing.
        force: whether to overwrite files.

    Returns:
        The metrics of the morph and, as "crossfade", those of the crossfade of its ends; empty for two steps, which
        have no metrics.

    Raises:
        UserError: a file exists and `force` is not set, or cannot be written.
    """
    folder = user_path(folder)
    *paths, whole, picture, numbers = morph_files(folder, len(morph), force)
    folder.mkdir(parents=True, exist_ok=True)
    _write_all(paths, morph.sounds, morph.sample_rate)
    _write_in_turn(whole, morph.sounds, morph.sample_rate)
    metrics: dict[str, MorphMetrics] = {}
    if len(morph) > 2:
        faded = Analysis(crossfade(morph.sounds[0], morph.sounds[-1], len(morph)), morph.sample_rate)
        track_pitch = synth.family.dataset.pitched and pitches.available()
        rows = {"morph": morph, "crossfade": faded}
        metrics = {name: judge(row, track_pitch=track_pitch) for name, row in rows.items()}
        text = json.dumps({name: asdict(row) for name, row in metrics.items()}, indent=2) + "\n"
        write_file(numbers, text.encode())
    if pictures.available() and len(morph) <= MAX_PANELS:
        titled = {str(index): sound for index, sound in enumerate(morph.sounds)}
        curves = {
            "centroid, Hz": morph.centroids,
            "attack, ms": morph.attacks * 1_000,
            "flatness, dB": morph.flatness,
        }
        pictures.strip(picture, titled, morph.sample_rate, curves)
    return metrics


def write_grid(synth: Synth, sounds: np.ndarray, folder: str | PathLike[str], *, force: bool = False) -> list[Path]:
    """Writes a grid of sounds to a folder: ROW-COLUMN.wav, and grid.png (with the extra `viz`).

    Args:
        synth: the model that generated the sounds.
        sounds: what `Synth.grid` returned, float [rows, size, ..., num_samples].
        folder: the folder to write; created if it is missing.
        force: whether to overwrite files.

    Returns:
        The paths of the wavs, row by row.

    Raises:
        UserError: a file exists and `force` is not set, or cannot be written.
    """
    folder, (rows, size) = user_path(folder), sounds.shape[:2]
    *paths, picture = grid_files(folder, rows, size, force)
    folder.mkdir(parents=True, exist_ok=True)
    flat = sounds.reshape(rows * size, *sounds.shape[2:])
    _write_all(paths, flat, synth.sample_rate)
    if pictures.available() and size <= MAX_PANELS:
        titled = {path.stem: sound for path, sound in zip(paths, flat, strict=True)}
        pictures.spectrogram(picture, titled, synth.sample_rate, columns=size)
    return paths


def morph_files(folder: Path, steps: int, force: bool) -> list[Path]:
    """The files of `write_morph`: the steps' wavs, morph.wav, morph.png, metrics.json.

    Raises:
        UserError: one of them exists and `force` is not set.
    """
    paths = numbered(folder, steps, force)
    others = [folder / name for name in ("morph.wav", "morph.png", "metrics.json")]
    files.check_free(others, force)
    return [*paths, *others]


def grid_files(folder: Path, rows: int, size: int, force: bool) -> list[Path]:
    """The files of `write_grid`: the wavs row by row, grid.png.

    Raises:
        UserError: one of them exists and `force` is not set.
    """
    paths = [folder / f"{row}-{column}.wav" for row in range(rows) for column in range(size)]
    files.check_free([*paths, folder / "grid.png"], force)
    return [*paths, folder / "grid.png"]


def _write_all(paths: Sequence[Path], sounds: np.ndarray, sample_rate: int) -> None:
    for path, sound in zip(paths, sounds, strict=True):
        files.write(path, sound, sample_rate, force=True)


def _write_in_turn(path: Path, sounds: np.ndarray, sample_rate: int) -> None:
    pause = np.zeros((*sounds.shape[1:-1], round(PAUSE_SECONDS * sample_rate)), np.float32)
    with files.WavWriter(path, sample_rate, force=True) as wav:
        for sound in sounds:
            wav.append(sound)
            wav.append(pause)
