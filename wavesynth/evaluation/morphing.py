"""How good a morph is: whether it moves evenly, straight, and through sounds that are more than a mix of its ends.

No one metric is enough: a crossfade is even more direct than a morph, a switch keeps the loudness, a way round through
noise is even. Together they tell these apart, so always print the crossfade of the same ends beside the morph, as
`table` does.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike, NDArray

from wavesynth.audio.pitch import median_pitch
from wavesynth.audio.spectral import DEFAULT_MEL, log_mel, num_frames, stft_magnitude
from wavesynth.errors import UserError
from wavesynth.evaluation import descriptors

COMMON_LEVEL = 1.0  # root mean square that sounds are compared at: 60 dB above the floor of the log-mel frames
LONGEST_SHIFT = 0.1  # seconds: what begins later than that is no longer the same sound out of line

# Differences of the ends from which on a descriptor must move along the path. Twice what is just heard for brightness
# (about 5 %, Allen and Oxenham 2014) and more for the attack (about 25 %, van Heuven and van den Broecke 1979), since
# 16 steps share it and each of them is measured. Flatness tells noise from tone only in the large: the instruments
# that ship with wavesynth read -20 to -42 dB, one of them by pitch 10 apart, snares -10 and hats -5.
AUDIBLE = {"centroid": math.log(1.1), "attack": math.log(2), "flatness": 10.0}


@dataclass(frozen=True)
class Gate:
    """What a metric of a good morph keeps to. bound: the threshold; highest: whether it is the highest or the lowest."""

    bound: float
    highest: bool = False

    def passes(self, value: float | None) -> bool:
        """A metric that does not apply (None) passes."""
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
    """What `judge` measures.

    Attributes:
        evenness: the largest step over the mean step; 1 is perfectly even, K (the number of steps) a switch.
        directness: the distance of the ends over the way along the path; 1 is straight, 0 comes back to where it began.
        not_a_crossfade: what of the middle sound's spectrogram no mix of those of the ends explains, 0 to 1.
        loudness_dip: how far the level falls below the straight line between the ends', in decibels, 0 or less.
        centroid, attack, flatness: Kendall's tau of a descriptor along the path, -1 to 1; None where the ends do not
            differ audibly in it.
        pitch_drift: how far the pitch strays from the straight line between the ends', in cents; None where it was not
            tracked, or fewer than three of the sounds have one.
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


def judge(path: ArrayLike, sample_rate: int, *, track_pitch: bool = False) -> MorphMetrics:
    """The metrics of merit of a morph x_0..x_K.

    With d the mean absolute difference of two sounds' log-mel frames, in decibels, after both are brought to one level
    and their onsets into line, and delta_k = d(x_k, x_k+1):

    - evenness ``max_k delta_k / mean_k delta_k``; directness ``d(x_0, x_K) / sum_k delta_k``. A path that never moves
      has 1 and 1.
    - centroid, attack, flatness: Kendall's tau (a: ties count as neither) between k and the logarithm of
      `spectral_centroid` and of `attack_time`, and `spectral_flatness` (which is one), with the sign that the ends
      have. A silent sound agrees with none; None if an end is silent.
    - not a crossfade: `beyond_mixing` of the middle sound's magnitude spectrogram and those of the ends, the sounds as
      they are: brought into line, the crossfade of two notes out of line would look like something new. Of two middle
      sounds the one nearer to a crossfade counts. A crossfade and silence have 0.
    - loudness dip ``min_k L_k - (L_0 + (L_K - L_0) k / K)``, L the `level`: the root mean square and no weighted
      loudness, because cancelling and missing energy are sought, and a filter that weighs frequencies would read a
      change of brightness as one of loudness. Equal levels of unrelated waveforms dip by 3 dB when crossfaded.

    Args:
        path: float [K + 1, num_samples], K >= 2, equally spaced steps. The gates are meant for K = 16.
        sample_rate: samples per second.
        track_pitch: whether to measure the pitch drift too, ``max_k |p_k - (p_0 + (p_K - p_0) k / K)|`` with p the
            `wavesynth.audio.pitch.median_pitch` of each sound; needs the extra `pitch`.

    Returns:
        The metrics, all finite.

    Raises:
        UserError: fewer than 3 sounds, samples that are not finite, or a sample rate that the log-mel frames refuse.

    Reference: the gates of this project, measured on signals whose quality is known (tests/evaluation).

    >>> partials = np.sin(2 * np.pi * 200 * np.outer(np.arange(1, 21), np.arange(8_000) / 16_000))
    >>> formants = np.linspace(3, 12, 17)[:, None] - np.arange(1, 21)
    >>> tones = np.exp(-0.1 * formants**2) @ partials
    >>> judge(tones, 16_000).failed
    ()
    >>> "not_a_crossfade" in judge(crossfade(tones[0], tones[-1], steps=17), 16_000).failed
    True
    """
    sounds = np.asarray(path, np.float32)
    if sounds.ndim != 2 or len(sounds) < 3 or not sounds.shape[1]:
        raise UserError(f"path: shape {sounds.shape} is no morph; give [K + 1, num_samples] with at least 3 sounds")
    if not np.isfinite(sounds).all():
        raise UserError("path: holds samples that are not finite; mend the sounds before judging them")
    frames = _frames(sounds, sample_rate)
    steps = _differences(frames)
    way = float(steps.sum())
    levels = np.asarray(descriptors.level(sounds), np.float64)
    taus = {
        name: _tau(values) if abs(values[-1] - values[0]) >= AUDIBLE[name] else None
        for name, values in _described(sounds, sample_rate).items()
    }
    return MorphMetrics(
        evenness=float(steps.max()) * len(steps) / way if way else 1.0,
        directness=float(np.abs(frames[-1] - frames[0]).mean()) / way if way else 1.0,
        not_a_crossfade=_unexplained(sounds),
        loudness_dip=float(np.min(levels - np.linspace(levels[0], levels[-1], len(levels)))),
        pitch_drift=_drift(sounds, sample_rate) if track_pitch else None,
        **taus,
    )


def step_sizes(path: ArrayLike, sample_rate: int) -> NDArray[np.float64]:
    """How far it is to the ear from each sound of a path to the next: the delta_k of `judge`, decibels [K].

    Args:
        path: float [K + 1, num_samples].
        sample_rate: samples per second.
    """
    return _differences(_frames(np.asarray(path, np.float32), sample_rate))


def crossfade(a: ArrayLike, b: ArrayLike, steps: int) -> NDArray[np.float32]:
    """The mixes ``(1 - k / K) a + (k / K) b``: what a morph must be better than.

    Args:
        a: float [num_samples].
        b: float [num_samples].
        steps: sounds to make, K + 1, both ends included, as in `Synth.morph`.

    Returns:
        float32 [steps, num_samples]; the first is a, the last b.

    Raises:
        UserError: lengths that differ, or fewer than 2 steps.

    >>> crossfade([0.0, 1.0], [1.0, 0.0], steps=3).tolist()
    [[0.0, 1.0], [0.5, 0.5], [1.0, 0.0]]
    """
    a, b = np.asarray(a, np.float32), np.asarray(b, np.float32)
    if a.ndim != 1 or a.shape != b.shape:
        raise UserError(f"b: shape {b.shape} and a's {a.shape} make no crossfade; cut or pad the sounds to one length")
    if steps < 2:
        raise UserError(f"steps: {steps} must be at least 2, the two ends")
    share = np.linspace(0, 1, steps, dtype=np.float32)[:, None]
    return ((1 - share) * a[None] + share * b[None]).astype(np.float32)


def table(rows: Mapping[str, MorphMetrics]) -> str:
    """A text table of metrics, one path a line and the gates last; a metric that fails its gate is marked with *.

    Args:
        rows: metrics by the name to print.

    Returns:
        Lines without a last line break. A dash is a metric that does not apply; the pitch drift is left out where none was
        tracked.

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


def _frames(sounds: NDArray[np.float32], sample_rate: int) -> NDArray[np.float64]:
    """Log-mel frames of sounds in line and at one level, [K + 1, frames, bands]."""
    lined = _same_level(_in_line(sounds, sample_rate))
    # Silence behind the end changes no frame; one length, whatever the shifts, is one program to compile.
    padded = np.pad(lined, ((0, 0), (0, sounds.shape[1] - lined.shape[1])))
    return np.asarray(log_mel(padded, sample_rate), np.float64)[:, : num_frames(lined.shape[1], DEFAULT_MEL.hop)]


def _differences(frames: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.abs(np.diff(frames, axis=0)).mean(axis=(1, 2))


def _in_line(sounds: NDArray[np.float32], sample_rate: int) -> NDArray[np.float32]:
    """All sounds from the onset of the earliest on, each shifted to it, and cut to what all of them have.

    Cut and not padded: a tail of zeros would count as a difference to the sounds that were shifted less.
    """
    onsets = np.asarray(descriptors.onset_time(sounds, sample_rate), np.float64)
    if np.isnan(onsets).all():
        return sounds
    shifts = np.nan_to_num(onsets - np.nanmin(onsets))  # a silent sound stays where it is
    # A quarter of a short sound at most, so that there is something left to compare.
    shifts = np.minimum(np.round(np.minimum(shifts, LONGEST_SHIFT) * sample_rate), sounds.shape[1] // 4).astype(int)
    length = sounds.shape[1] - shifts.max()
    return np.stack([sound[shift : shift + length] for sound, shift in zip(sounds, shifts)])


def _same_level(sounds: NDArray[np.float32]) -> NDArray[np.float32]:
    """Each sound at `COMMON_LEVEL`. What is silent stays so: it is not turned up into noise."""
    rms = np.sqrt(np.mean(np.square(sounds, dtype=np.float64), axis=-1, keepdims=True))
    gain = np.where(rms < descriptors.SILENCE, 1, COMMON_LEVEL / np.maximum(rms, descriptors.SILENCE))
    return (sounds * gain).astype(np.float32)


def _drift(sounds: NDArray[np.float32], sample_rate: int) -> float | None:
    pitches = np.array([median_pitch(sound, sample_rate) or np.nan for sound in sounds])
    known = np.isfinite(pitches)
    if known.sum() < 3 or not (known[0] and known[-1]):
        return None
    line = np.linspace(pitches[0], pitches[-1], len(pitches))
    return float(np.nanmax(np.abs(pitches - line)) * 100)


def _described(sounds: NDArray[np.float32], sample_rate: int) -> dict[str, NDArray[np.float64]]:
    values = {
        "centroid": jnp.log(descriptors.spectral_centroid(sounds, sample_rate)),
        "attack": jnp.log(descriptors.attack_time(sounds, sample_rate)),
        "flatness": descriptors.spectral_flatness(sounds),
    }
    return {name: np.asarray(value, np.float64) for name, value in values.items()}


def _tau(values: NDArray[np.float64]) -> float:
    """Kendall's tau (a) of values with their positions, positive if they go the way from the first to the last."""
    differences = np.nan_to_num(values[None, :] - values[:, None])[np.triu_indices(len(values), 1)]
    return float(np.sign(differences).mean() * np.sign(values[-1] - values[0]))


def _unexplained(sounds: NDArray[np.float32]) -> float:
    """The share of the middle spectrogram's norm that no mix of the first and the last sound holds."""
    count = len(sounds)
    middles = sorted({(count - 1) // 2, count // 2})
    # Half a window from frame to frame: the search goes over the whole spectrogram some 500 times.
    spectra = np.asarray(stft_magnitude(sounds[[0, -1, *middles]], hop=DEFAULT_MEL.window // 2))
    a, b, *candidates = spectra.reshape(len(spectra), -1)
    return min(beyond_mixing(middle, a, b) for middle in candidates)


def beyond_mixing(target: ArrayLike, a: ArrayLike, b: ArrayLike) -> float:
    """How far magnitudes lie from all that mixing two sounds can give, whatever their phases.

    ``min over p, q >= 0 of |target - c(p, q)| / |target|``, c(p, q) the point of the box
    ``|p a - q b| <= c <= p a + q b`` next to the target: two partials of one frequency add up to anything in it.

    Args:
        target: float [n], nonnegative.
        a: float [n], nonnegative.
        b: float [n], nonnegative.

    Returns:
        0 for a mix, 1 for what shares no bin with a and b; 0 for a target of zeros. Ends that resemble each other have
        mixes that come near to all that lies between them.

    >>> beyond_mixing([1.0, 0.2], [0.6, 0.6], [0.4, 0.4])
    0.0
    >>> beyond_mixing([0.0, 0.0, 3.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0])
    1.0
    """
    goal, first, last = (_unit(magnitudes) for magnitudes in (target, a, b))
    if not goal.any():
        return 0.0

    def miss(shares: tuple[float, float]) -> float:
        p, q = shares[0] * first, shares[1] * last
        return float(np.linalg.norm(goal - np.clip(goal, np.abs(p - q), p + q)))

    # Not convex: a coarse look all over, then ever closer around the best. Mixes that cancel need shares above 1.
    step = 1 / 8
    best, least = (0.0, 0.0), 1.0
    offsets = [(p * step, q * step) for p in range(17) for q in range(17)]
    while step > 1e-4:
        around = best
        for p, q in offsets:
            shares = (max(around[0] + p, 0.0), max(around[1] + q, 0.0))
            missed = miss(shares)
            if missed < least:
                best, least = shares, missed
        step /= 2
        offsets = [(p * step, q * step) for p in (-1, 0, 1) for q in (-1, 0, 1) if p or q]
        offsets += [(2 * p, 2 * q) for p, q in offsets]
    return least


def _unit(magnitudes: ArrayLike) -> NDArray[np.float32]:
    magnitudes = np.asarray(magnitudes, np.float32)
    return magnitudes / np.float32(np.linalg.norm(magnitudes) or 1)
