"""Draws spectrograms in a grid, with one colour scale, as a PNG. Needs the extra `viz` (matplotlib)."""

from __future__ import annotations

import importlib.util
import math
import os
import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from wavesynth.audio.names import display, user_path
from wavesynth.audio.rates import power_of_two
from wavesynth.audio.spectral import MelSettings, band_edges, hz_to_mel, log_mel
from wavesynth.errors import UserError
from wavesynth.storage import replacing

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Sounds = Mapping[str, np.ndarray] | Sequence[np.ndarray] | np.ndarray

WINDOW_SECONDS = 0.06  # resolves semitones above about 250 Hz
FRAMES_PER_PANEL = 300  # about the width of a panel in pixels
NUM_BANDS = 128
RANGE_DB = 70.0  # from the loudest moment of all panels down to black
HIGHEST_HZ = 20_000.0
TICKS_HZ = (200, 500, 1000, 2000, 4000, 8000, 16_000)
# Inches. A panel and a curve with the room around them, the margins of the figure, and the room above for a title.
PANEL = (2.7, 1.9)
CURVE = 0.9
LEFT, RIGHT, BOTTOM, TOP = 0.65, 0.55, 0.45, 0.15
TITLE, GAP = 0.22, 0.08
DOTS_PER_INCH = 150
LONGEST_TITLE = 32


def available() -> bool:
    """Whether pictures can be drawn: the extra `viz` is installed."""
    return importlib.util.find_spec("matplotlib") is not None


def spectrogram(path: str | os.PathLike[str], sounds: Sounds, sample_rate: int, *, columns: int = 4) -> None:
    """Draws a mel spectrogram of every sound, with shared axes and one colour scale.

    Levels are in decibels below the loudest moment of the whole picture, so the panels can be compared. A sound with
    several channels gets one panel, with the mean power of its channels. The file is written atomically, and replaces an
    existing one.

    Args:
        path: the PNG to write; its folder must exist.
        sounds: title to samples, or samples alone (numbered from 1); each float [num_samples] or
            [channels, num_samples] in [-1, 1]. An array [n, num_samples] will do.
        sample_rate: samples per second of all of them.
        columns: panels side by side.

    Raises:
        UserError: matplotlib is missing, there are no sounds, or a sound has another shape or is not finite.

    >>> tone = np.sin(2 * np.pi * 440 * np.arange(8_000) / 16_000)
    >>> spectrogram("tones.png", {"loud": tone, "quiet": 0.1 * tone}, 16_000)
    """
    titled = titled_sounds(sounds)
    if columns < 1:
        raise UserError(f"columns: {columns} must be at least 1")
    save(path, draw(titled, sample_rate, min(columns, len(titled))))


def strip(
    path: str | os.PathLike[str], sounds: Sounds, sample_rate: int, curves: Mapping[str, np.ndarray] = {}
) -> None:
    """Draws spectrograms in one row, as `spectrogram` does, with curves of one value per sound below them.

    Args:
        path: the PNG to write; its folder must exist.
        sounds: as in `spectrogram`.
        sample_rate: samples per second of all of them.
        curves: title (with the unit) to float [n], one value per sound, each drawn as a line of its own. NaN is a gap.

    Raises:
        UserError: as `spectrogram`, or a curve of another length.

    >>> tones = np.sin(2 * np.pi * np.array([[220.0], [440.0]]) * np.arange(8_000) / 16_000)
    >>> strip("strip.png", tones, 16_000, {"pitch, Hz": np.array([220.0, 440.0])})
    """
    titled = titled_sounds(sounds)
    for title, values in curves.items():
        if len(values) != len(titled):
            raise UserError(f"curves: {title!r} has {len(values)} values for {len(titled)} sounds; give one per sound")
    save(path, draw(titled, sample_rate, len(titled), curves))


def save(path: str | os.PathLike[str], figure: Figure) -> None:
    """Writes a figure as a PNG, atomically."""
    with replacing(user_path(path)) as unfinished, warnings.catch_warnings():
        # Characters that the font lacks appear as boxes, which is better than no picture.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        figure.savefig(unfinished, format="png", dpi=DOTS_PER_INCH)


def titled_sounds(sounds: Sounds) -> list[tuple[str, np.ndarray]]:
    """Title and float32 [num_samples] or [channels, num_samples] of every panel."""
    pairs = sounds.items() if isinstance(sounds, Mapping) else ((str(i), s) for i, s in enumerate(sounds, 1))
    titled = [(shown_title(title), np.asarray(samples, np.float32)) for title, samples in pairs]
    if not titled:
        raise UserError("sounds: there is none to draw; pass at least one")
    for title, samples in titled:
        if samples.ndim not in (1, 2) or (samples.ndim == 2 and not 0 < samples.shape[0] <= samples.shape[1]):
            raise UserError(
                f"sounds: {title!r} has shape {samples.shape}; pass [num_samples] or [channels, num_samples]"
            )
        if not np.isfinite(samples).all():
            raise UserError(f"sounds: {title!r} has a sample that is NaN or infinite; remove it before drawing")
    return titled


def shown_title(title: str) -> str:
    """A title as one short line, with unprintable characters escaped."""
    line = display(title)
    return line if len(line) <= LONGEST_TITLE else line[: LONGEST_TITLE - 1] + "…"


def draw(
    titled: list[tuple[str, np.ndarray]], sample_rate: int, columns: int, curves: Mapping[str, np.ndarray] = {}
) -> Figure:
    """The figure: one panel per sound, row by row, then one per curve, then the colour bar.

    All places are computed here, in inches. Matplotlib's own layout would draw the picture several times.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise UserError("pictures need matplotlib: pip install 'wavesynth-jax[viz]'") from error

    longest = max(samples.shape[-1] for _, samples in titled)
    settings = picture_settings(sample_rate, longest)
    levels = [panel_levels(samples, longest, sample_rate, settings) for _, samples in titled]
    # If there is only silence, draw it black instead of relative to its own peak.
    loudest = max(settings.floor_db + RANGE_DB, *(float(level.max()) for level in levels))
    rows = math.ceil(len(titled) / columns)
    width = LEFT + PANEL[0] * columns + RIGHT
    height = BOTTOM + PANEL[1] * rows + CURVE * len(curves) + TOP
    figure = Figure(figsize=(width, height), facecolor="white")
    FigureCanvasAgg(figure)

    def place(left: float, bottom: float, across: float, up: float) -> Axes:
        return figure.add_axes((left / width, bottom / height, across / width, up / height))

    lowest = BOTTOM + CURVE * len(curves)
    for index, ((title, _), level) in enumerate(zip(titled, levels)):
        row, column = divmod(index, columns)
        bottom = lowest + PANEL[1] * (rows - 1 - row)
        panel = place(LEFT + PANEL[0] * column, bottom, PANEL[0] - GAP, PANEL[1] - TITLE - GAP)
        draw_panel(panel, title, level - loudest, seconds_per_frame=settings.hop / sample_rate)
        panel.set_xlim(0, max(longest, 1) / sample_rate)
        if column:
            panel.set_yticks([])
        else:
            label_frequencies(panel, sample_rate, settings)
        if index + columns < len(titled):
            panel.set_xticks([])
        else:
            panel.set_xlabel("seconds", fontsize=9)
        panel.tick_params(labelsize=8)
    for index, (title, values) in enumerate(curves.items()):
        bottom = CURVE * (len(curves) - 1 - index) + GAP
        draw_curve(place(LEFT, bottom, PANEL[0] * columns - GAP, CURVE - TITLE - GAP), title, values)
    bar = figure.colorbar(
        figure.axes[0].images[0], cax=place(width - RIGHT, lowest, 0.1, PANEL[1] * rows - TITLE - GAP)
    )
    bar.ax.set_title("dB", fontsize=9, loc="left")
    bar.ax.tick_params(labelsize=8)
    return figure


def panel_levels(samples: np.ndarray, longest: int, sample_rate: int, settings: MelSettings) -> np.ndarray:
    """Levels of one panel in decibels, [frames, bands]: the mean power of the channels.

    Every sound is padded to the longest, so that all of them use one XLA program.
    """
    padded = np.pad(samples, [(0, 0)] * (samples.ndim - 1) + [(0, longest - samples.shape[-1])])
    levels = np.asarray(log_mel(padded, sample_rate, settings))
    return levels if levels.ndim == 2 else 10 * np.log10(np.mean(10 ** (levels / 10), axis=0))


def draw_curve(panel: Axes, title: str, values: np.ndarray) -> None:
    """One value per sound, each below the spectrogram of its sound."""
    panel.plot(np.arange(len(values)) + 0.5, values, marker="o", markersize=4, color="black", linewidth=1)
    panel.set_xlim(0, len(values))
    panel.margins(y=0.2)
    panel.set_title(title, fontsize=8, loc="left", pad=3)
    panel.tick_params(labelsize=8)
    panel.set_xticks([])


def draw_panel(panel: Axes, title: str, level: np.ndarray, seconds_per_frame: float) -> None:
    """One spectrogram; `level` in decibels, [frames, bands]. Frame k is centred on its time, band i on height i."""
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
    """A window of about 60 ms, and a hop that gives about one frame per pixel of a panel.

    The hop is at least a 32nd of the window: more overlap shows nothing new, and takes long to compile.
    """
    window = power_of_two(WINDOW_SECONDS, sample_rate, least=256)
    hop = 2 ** math.floor(math.log2(max(longest / FRAMES_PER_PANEL, 1)))
    return MelSettings(
        window=window,
        hop=min(max(hop, window // 32), window // 2),
        num_bands=NUM_BANDS,
        highest_hz=HIGHEST_HZ,
        floor_db=-120.0,
    )


def label_frequencies(panel: Axes, sample_rate: int, settings: MelSettings) -> None:
    """Puts round frequencies at the height of their bands."""
    edges = band_edges(sample_rate, settings)
    lowest, highest = hz_to_mel(edges[0]), hz_to_mel(edges[-1])
    shown = [hz for hz in TICKS_HZ if edges[1] <= hz <= edges[-2]]
    heights = (hz_to_mel(np.array(shown)) - lowest) / (highest - lowest) * (NUM_BANDS + 1) - 1
    panel.set_ylabel("Hz", fontsize=9)
    panel.set_yticks(heights, [f"{hz // 1000}k" if hz >= 1000 else str(hz) for hz in shown])
