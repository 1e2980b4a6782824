"""Metrics of morphs: whether they move evenly and directly, through sounds that are not just mixes of the ends.

No single metric is enough. A crossfade is even more direct than a morph, a switch keeps the loudness, and a detour
through noise can be even. Together the metrics tell these apart. `table` prints the crossfade of the same ends beside
the morph for comparison.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from wavesynth.audio.spectral import mel_settings, stft_magnitude
from wavesynth.errors import UserError
from wavesynth.evaluation.analysis import Analysis

# A descriptor must change monotonically along the path if the ends differ in it by at least this much: natural
# logarithms of Hz and of seconds, and decibels. The just noticeable differences are about 5 % for brightness (Allen and
# Oxenham, 2014) and 25 % for the attack (van Heuven and van den Broecke, 1979); the thresholds are higher because 16
# steps share the difference and each of them is measured. Flatness separates noise from tone only roughly: instruments
# that ship with wavesynth read -20 to -42 dB, one of them varies by 10 dB with pitch, snares read -10, hats -5.
AUDIBLE = {"centroid": math.log(1.1), "attack": math.log(2), "flatness": 10.0}


@dataclass(frozen=True)
class Gate:
    """The range of a metric in a good morph.

    Attributes:
        bound: the threshold.
        highest: whether it is an upper bound; a lower one otherwise.
    """

    bound: float
    highest: bool = False

    def passes(self, value: float | None) -> bool:
        """Whether a value is within the bound. A metric that does not apply (None) passes."""
        return value is None or (value <= self.bound if self.highest else value >= self.bound)

    def __str__(self) -> str:
        return f"{'<=' if self.highest else '>='} {self.bound:g}"


GATES: Mapping[str, Gate] = {
    "evenness": Gate(2, highest=True),
    "directness": Gate(0.4),
    "monotone": Gate(0.9),
    "not_a_crossfade": Gate(0.06),
    "loudness_dip": Gate(-1.5),
    "pitch_drift": Gate(30, highest=True),
}


@dataclass(frozen=True)
class MorphMetrics:
    """The metrics of one morph; `judge` gives their formulas.

    Attributes:
        evenness: the largest step over the mean step; 1 for equal steps, K (the number of steps) for a switch.
        directness: the distance of the ends over the length of the path; 1 for a straight path, 0 for a closed one.
        not_a_crossfade: the fraction of the middle sound's spectrogram that no mix of the ends explains, 0 to 1.
        loudness_dip: how far the level falls below the straight line between the ends, in decibels, 0 or less.
        centroid: Kendall's tau of the spectral centroid along the path, -1 to 1; None if the ends do not differ audibly.
        attack: the same for the attack time.
        flatness: the same for the spectral flatness.
        pitch_drift: how far the pitch strays from the straight line between the ends, in cents; None if it was not
            tracked, if an end has none, or if fewer than three sounds have one.
    """

    evenness: float
    directness: float
    not_a_crossfade: float
    loudness_dip: float
    centroid: float | None = None
    attack: float | None = None
    flatness: float | None = None
    pitch_drift: float | None = None

    @property
    def monotone(self) -> float | None:
        """Mean tau of the descriptors in which the ends differ audibly; None if they differ in none."""
        taus = [tau for tau in (self.centroid, self.attack, self.flatness) if tau is not None]
        return sum(taus) / len(taus) if taus else None

    @property
    def failed(self) -> tuple[str, ...]:
        """The names of the gates that do not pass; empty for a good morph."""
        return tuple(name for name, gate in GATES.items() if not gate.passes(getattr(self, name)))


def judge(morph: Analysis, *, track_pitch: bool = False) -> MorphMetrics:
    """The metrics of a morph x_0..x_K.

    Let d be the mean absolute difference of two sounds' log-mel frames in decibels, with equal levels and aligned
    onsets (`Analysis.frames`), and delta_k = d(x_k, x_k+1).

    - Evenness is ``max_k delta_k / mean_k delta_k``, directness ``d(x_0, x_K) / sum_k delta_k``. Both are 1 for a path
      that never moves.
    - Centroid, attack and flatness are Kendall's tau (a: ties count as neither) between k and the logarithm of
      `spectral_centroid`, the logarithm of `attack_time`, and `spectral_flatness`. Tau is positive in the direction
      from the first to the last sound. A silent sound agrees with no other. The result is None if an end is silent.
    - Not a crossfade is `beyond_mixing` of the magnitude spectrograms of the middle sound and of the ends. The onsets
      are not aligned here, or the crossfade of two notes with different onsets would look new. With two middle
      sounds the smaller value counts. Crossfades and silence have 0.
    - Loudness dip is ``min_k L_k - (L_0 + (L_K - L_0) k / K)`` with L the `level`. It is a root mean square and not a
      weighted loudness because it is to find cancellation and missing energy; frequency weighting would turn a change
      of brightness into one of loudness. Unrelated waveforms of equal level dip by 3 dB in a crossfade.
    - Pitch drift is ``max_k |p_k - (p_0 + (p_K - p_0) k / K)|`` with p the `median_pitch`.

    Args:
        morph: K + 1 >= 3 sounds at equally spaced positions. The gates are meant for K = 16.
        track_pitch: whether to measure the pitch drift, which needs the extra `pitch`.

    Returns:
        The metrics, all finite.

    Raises:
        UserError: fewer than 3 sounds, or a sample rate too low for log-mel frames.

    Reference: the gates are this project's, measured on signals of known quality (tests/evaluation).

    >>> partials = np.sin(2 * np.pi * 200 * np.outer(np.arange(1, 21), np.arange(8_000) / 16_000))
    >>> formants = np.linspace(3, 12, 17)[:, None] - np.arange(1, 21)
    >>> tones = np.exp(-0.1 * formants**2) @ partials
    >>> judge(Analysis(tones, 16_000)).failed
    ()
    >>> mixes = crossfade(tones[0], tones[-1], steps=17)
    >>> "not_a_crossfade" in judge(Analysis(mixes, 16_000)).failed
    True
    """
    if len(morph) < 3:
        raise UserError(f"morph: {len(morph)} sounds are too few; give at least 3")
    frames, steps = morph.frames, morph.step_sizes
    length = float(steps.sum())
    levels = morph.levels
    described = {"centroid": np.log(morph.centroids), "attack": np.log(morph.attacks), "flatness": morph.flatness}
    taus = {
        name: _tau(values) if abs(values[-1] - values[0]) >= AUDIBLE[name] else None
        for name, values in described.items()
    }
    return MorphMetrics(
        evenness=float(steps.max()) * len(steps) / length if length else 1.0,
        directness=float(np.abs(frames[-1] - frames[0]).mean()) / length if length else 1.0,
        not_a_crossfade=_unexplained(morph.mono, morph.sample_rate),
        loudness_dip=float(np.min(levels - np.linspace(levels[0], levels[-1], len(levels)))),
        pitch_drift=_pitch_drift(morph.pitches) if track_pitch else None,
        **taus,
    )


def crossfade(a: ArrayLike, b: ArrayLike, steps: int) -> NDArray[np.float32]:
    """The mixes ``(1 - k / K) a + (k / K) b``, the baseline of a morph.

    Args:
        a: float [..., num_samples].
        b: float, the same shape as `a`.
        steps: number of sounds K + 1, both ends included, as in `Synth.morph`.

    Returns:
        float32 [steps, ..., num_samples]; the first is a, the last b.

    Raises:
        UserError: shapes that differ, or fewer than 2 steps.

    >>> crossfade([0.0, 1.0], [1.0, 0.0], steps=3).tolist()
    [[0.0, 1.0], [0.5, 0.5], [1.0, 0.0]]
    """
    a, b = np.asarray(a, np.float32), np.asarray(b, np.float32)
    if not a.ndim or a.shape != b.shape:
        raise UserError(f"b: shape {b.shape} differs from a's {a.shape}; cut or pad the sounds to one length")
    if steps < 2:
        raise UserError(f"steps: {steps} must be at least 2, the two ends")
    share = np.linspace(0, 1, steps, dtype=np.float32).reshape(-1, *[1] * a.ndim)
    return ((1 - share) * a[None] + share * b[None]).astype(np.float32)


def table(rows: Mapping[str, MorphMetrics]) -> str:
    """A text table with one line per path and the gates last. A metric that fails its gate is marked with *.

    Args:
        rows: metrics by the name to print.

    Returns:
        Lines without a final line break. A dash is a metric that does not apply. The pitch drift is left out if it was
        tracked for no row.

    >>> print(table({"morph": MorphMetrics(1.15, 0.69, 0.4, 0.0), "crossfade": MorphMetrics(5.8, 1.0, 0.04, -3.0)}))
               evenness  directness  monotone  not a crossfade  loudness dip
    morph          1.15        0.69         –             0.40          0.00
    crossfade     5.80*        1.00         –            0.04*        -3.00*
    gate           <= 2      >= 0.4    >= 0.9          >= 0.06       >= -1.5
    """
    tracked = any(metrics.pitch_drift is not None for metrics in rows.values())
    gates = {name: gate for name, gate in GATES.items() if tracked or name != "pitch_drift"}
    titles = [name.replace("_", " ") for name in gates]
    lines = [["", *titles]]
    for name, metrics in rows.items():
        values = [getattr(metrics, metric) for metric in gates]
        marks = ["*" if metric in metrics.failed else "" for metric in gates]
        lines.append([name, *("–" if v is None else f"{v:.2f}{mark}" for v, mark in zip(values, marks))])
    lines.append(["gate", *map(str, gates.values())])
    first = max(len(line[0]) for line in lines)
    return "\n".join(
        line[0].ljust(first) + "".join(f"  {cell.rjust(len(title))}" for cell, title in zip(line[1:], titles))
        for line in lines
    )


def beyond_mixing(target: ArrayLike, a: ArrayLike, b: ArrayLike) -> float:
    """Distance of a magnitude spectrum from everything that mixing two sounds can give, whatever their phases.

    ``min over p, q >= 0 of |target - c(p, q)| / |target|`` with c(p, q) the point of the box
    ``|p a - q b| <= c <= p a + q b`` nearest to the target: two partials of one frequency can add up to anything in it.

    Args:
        target: float [n], nonnegative.
        a: float [n], nonnegative.
        b: float [n], nonnegative.

    Returns:
        0 for a mix, 1 if the target shares no bin with a and b, and 0 for a target of zeros. If a and b are similar,
        their mixes come close to everything between them.

    >>> beyond_mixing([1.0, 0.2], [0.6, 0.6], [0.4, 0.4])
    0.0
    >>> beyond_mixing([0.0, 0.0, 3.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0])
    1.0
    """
    goal, first, last = (_unit(magnitudes) for magnitudes in (target, a, b))
    if not goal.any():
        return 0.0

    def miss(gains: tuple[float, float]) -> float:
        p, q = gains[0] * first, gains[1] * last
        return float(np.linalg.norm(goal - np.clip(goal, np.abs(p - q), p + q)))

    # Not convex: a coarse search everywhere, then ever finer around the best. Mixes that cancel need gains above 1.
    step = 1 / 8
    best, least = (0.0, 0.0), 1.0
    offsets = [(p * step, q * step) for p in range(17) for q in range(17)]
    while step > 1e-4:
        around = best
        for p, q in offsets:
            gains = (max(around[0] + p, 0.0), max(around[1] + q, 0.0))
            missed = miss(gains)
            if missed < least:
                best, least = gains, missed
        step /= 2
        offsets = [(p * step, q * step) for p in (-1, 0, 1) for q in (-1, 0, 1) if p or q]
        offsets += [(2 * p, 2 * q) for p, q in offsets]
    return least


def _unexplained(sounds: NDArray[np.float32], sample_rate: int) -> float:
    """The fraction of the middle spectrogram's norm that no mix of the first and the last sound explains."""
    count = len(sounds)
    middles = sorted({(count - 1) // 2, count // 2})
    # Frames half a window apart: the search evaluates the whole spectrogram some 500 times.
    window = mel_settings(sample_rate).window
    spectra = np.asarray(stft_magnitude(sounds[[0, -1, *middles]], window, window // 2))
    a, b, *candidates = spectra.reshape(len(spectra), -1)
    return min(beyond_mixing(middle, a, b) for middle in candidates)


def _pitch_drift(pitches: NDArray[np.float64]) -> float | None:
    known = np.isfinite(pitches)
    if known.sum() < 3 or not (known[0] and known[-1]):
        return None
    line = np.linspace(pitches[0], pitches[-1], len(pitches))
    return float(np.nanmax(np.abs(pitches - line)) * 100)


def _tau(values: NDArray[np.float64]) -> float:
    """Kendall's tau (a) between values and their positions, positive if they move from the first towards the last."""
    differences = np.nan_to_num(values[None, :] - values[:, None])[np.triu_indices(len(values), 1)]
    return float(np.sign(differences).mean() * np.sign(values[-1] - values[0]))


def _unit(magnitudes: ArrayLike) -> NDArray[np.float32]:
    magnitudes = np.asarray(magnitudes, np.float32)
    return magnitudes / np.float32(np.linalg.norm(magnitudes) or 1)
