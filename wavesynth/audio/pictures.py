"""Pictures of sounds: a grid of spectrograms with one colour scale, as a PNG. Needs the extra `viz` (matplotlib)."""

from __future__ import annotations

import importlib.util
import math
import os
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from wavesynth.audio.names import display
from wavesynth.audio.spectral import MelSettings, band_edges, hz_to_mel, log_mel
from wavesynth.errors import UserError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure

Sounds = Mapping[str, np.ndarray] | Sequence[np.ndarray] | np.ndarray

WINDOW_SECONDS = 0.064  # tells semitones apart from about 250 Hz up
FRAMES_PER_PANEL = 300  # about as many as a panel has pixels
NUM_BANDS = 128
RANGE_DB = 70.0  # from the loudest moment of all panels down to black
HIGHEST_HZ = 16_000.0
TICKS_HZ = (200, 500, 1000, 2000, 4000, 8000, 16_000)
PANEL_INCHES = (2.7, 1.9)
CURVE_INCHES = 0.9
DOTS_PER_INCH = 150
LONGEST_TITLE = 32


def available() -> bool:
    """Whether pictures can be drawn: the extra `viz` is installed."""
    return importlib.util.find_spec("matplotlib") is not None


def spectrogram(path: str | os.PathLike[str], sounds: Sounds, sample_rate: int, *, columns: int = 4) -> None:
    """Draw a spectrogram of every sound, on a mel scale, with shared axes and one colour scale.

    Levels are in decibels below the loudest moment of the whole picture, so the panels can be compared. The file
    appears whole or not at all; one that was there is replaced.

    Args:
        path: the PNG to write; its folder must exist.
        sounds: title to samples, or samples alone (numbered from 1); each float [num_samples] in [-1, 1]. An array
            [n, num_samples] will do.
        sample_rate: samples per second of all of them.
        columns: panels side by side.

    Raises:
        UserError: matplotlib is missing, there is no sound, or a sound is not one-dimensional.

    Example::

        spectrogram("samples.png", {"real": clip, "sampled": synth.sample(seconds=1.0)[0]}, synth.sample_rate)
    """
    titled = titled_sounds(sounds)
    if columns < 1:
        raise UserError(f"columns: {columns} must be at least 1")
    save(path, draw(titled, sample_rate, min(columns, len(titled))))


def strip(
    path: str | os.PathLike[str], sounds: Sounds, sample_rate: int, curves: Mapping[str, np.ndarray] = {}
) -> None:
    """Draw spectrograms side by side, as those of `spectrogram`, and under each what curves say of it.

    Args:
        path: the PNG to write, whole or not at all.
        sounds: as in `spectrogram`.
        sample_rate: samples per second of all of them.
        curves: title (with the unit) to one number for each sound, drawn as a line of its own.

    Raises:
        UserError: as `spectrogram`, or a curve of another length.
    """
    titled = titled_sounds(sounds)
    for title, values in curves.items():
        if len(values) != len(titled):
            raise UserError(f"curves: {title!r} has {len(values)} values for {len(titled)} sounds; give one for each")
    figure = draw(titled, sample_rate, len(titled), curves)
    save(path, figure)


def save(path: str | os.PathLike[str], figure: Figure) -> None:
    """Writes a figure as a PNG that appears whole or not at all."""
    path = Path(path)
    unfinished = path.with_name(f".{path.name}.partial")
    try:
        with warnings.catch_warnings():
            # A title in a script that the font lacks shows boxes; that is no reason to lose the picture.
            warnings.filterwarnings("ignore", message="Glyph .* missing from font")
            figure.savefig(unfinished, format="png", dpi=DOTS_PER_INCH)
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)


def titled_sounds(sounds: Sounds) -> list[tuple[str, np.ndarray]]:
    """Title and float32 [num_samples] of every panel."""
    pairs = sounds.items() if isinstance(sounds, Mapping) else ((str(i), s) for i, s in enumerate(sounds, 1))
    titled = [(shown_title(title), np.asarray(samples, np.float32)) for title, samples in pairs]
    if not titled:
        raise UserError("sounds: there is none to draw; pass at least one")
    for title, samples in titled:
        if samples.ndim != 1:
            raise UserError(f"sounds: {title!r} has shape {samples.shape}; pass mono samples, [num_samples]")
    return titled


def shown_title(title: str) -> str:
    """One short line that can be printed, whatever file name it came from."""
    line = display(title)
    return line if len(line) <= LONGEST_TITLE else line[: LONGEST_TITLE - 1] + "…"


def draw(
    titled: list[tuple[str, np.ndarray]], sample_rate: int, columns: int, curves: Mapping[str, np.ndarray] = {}
) -> Figure:
    """The figure with one panel for each sound, and under them one for each curve."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise UserError("pictures need matplotlib: pip install 'wavesynth-jax[viz]'") from error

    longest = max(len(samples) for _, samples in titled)
    settings = picture_settings(sample_rate, longest)
    levels = [np.asarray(log_mel(samples, sample_rate, settings)) for _, samples in titled]
    # Silence alone is drawn black, not as its own loudest moment.
    loudest = max(settings.floor_db + RANGE_DB, *(float(level.max()) for level in levels))
    rows = math.ceil(len(titled) / columns)
    size = (PANEL_INCHES[0] * columns + 1.2, PANEL_INCHES[1] * rows + CURVE_INCHES * len(curves) + 0.6)
    whole = Figure(figsize=size, layout="constrained", facecolor="white")
    FigureCanvasAgg(whole)
    figure = whole
    if curves:
        heights = [PANEL_INCHES[1] * rows + 0.6, CURVE_INCHES * len(curves)]
        halves = whole.subfigures(2, 1, squeeze=False, height_ratios=heights)[:, 0]
        figure = halves[0]
        draw_curves(halves[1], curves)
    panels = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    for index, (panel, (title, _), level) in enumerate(zip(panels.flat, titled, levels)):
        draw_panel(panel, title, level - loudest, seconds_per_frame=settings.hop / sample_rate)
        panel.tick_params(labelsize=8, labelbottom=index + columns >= len(titled))
    for panel in panels.flat[len(titled) :]:
        panel.set_visible(False)
    panels[0, 0].set_xlim(0, max(longest, 1) / sample_rate)
    label_frequencies(panels[0, 0], sample_rate, settings)
    figure.supxlabel("seconds", fontsize=9)
    figure.supylabel("Hz", fontsize=9)
    bar = figure.colorbar(panels[0, 0].images[0], ax=panels, fraction=0.03, pad=0.01)
    bar.set_label("dB", fontsize=9)
    bar.ax.tick_params(labelsize=8)
    return whole


def draw_curves(figure: SubFigure, curves: Mapping[str, np.ndarray]) -> None:
    """One line a curve, one above the other."""
    panels = figure.subplots(len(curves), 1, sharex=True, squeeze=False)[:, 0]
    for panel, (title, values) in zip(panels, curves.items(), strict=True):
        panel.plot(np.arange(1, len(values) + 1), values, marker="o", markersize=4, color="black", linewidth=1)
        panel.set_ylabel(title, fontsize=8, rotation=0, ha="right", va="center")
        panel.tick_params(labelsize=8)
        panel.margins(x=0.5 / max(len(values), 1))
        panel.set_xticks([])


def draw_panel(panel: Axes, title: str, level: np.ndarray, seconds_per_frame: float) -> None:
    """One spectrogram, `level` in decibels [frames, bands]: frame k is centred on its time, band i on height i."""
    panel.imshow(
        level.T,
        origin="lower",
        aspect="auto",
        interpolation="nearest",
        cmap="magma",
        vmin=-RANGE_DB,
        vmax=0,
        extent=(-0.5 * seconds_per_frame, (len(level) - 0.5) * seconds_per_frame, -0.5, NUM_BANDS - 0.5),
    )
    panel.set_facecolor("black")
    panel.set_title(title, fontsize=9, parse_math=False)


def picture_settings(sample_rate: int, longest: int) -> MelSettings:
    """A window of about 64 ms, and a hop that gives a panel about as many frames as it has pixels."""
    window = 2 ** round(math.log2(max(WINDOW_SECONDS * sample_rate, 256)))
    hop = 2 ** math.floor(math.log2(max(longest / FRAMES_PER_PANEL, 1)))
    return MelSettings(
        window=window,
        hop=min(hop, window // 2),
        num_bands=NUM_BANDS,
        highest_hz=HIGHEST_HZ,
        floor_db=-120.0,
    )


def label_frequencies(panel: Axes, sample_rate: int, settings: MelSettings) -> None:
    """Put round frequencies at the height of their bands."""
    edges = band_edges(sample_rate, settings)
    lowest, highest = hz_to_mel(edges[0]), hz_to_mel(edges[-1])
    shown = [hz for hz in TICKS_HZ if edges[1] <= hz <= edges[-2]]
    heights = (hz_to_mel(np.array(shown)) - lowest) / (highest - lowest) * (NUM_BANDS + 1) - 1
    panel.set_yticks(heights, [f"{hz // 1000}k" if hz >= 1000 else str(hz) for hz in shown])
