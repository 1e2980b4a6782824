"""What can be asked of a synth: the options that its methods share, and checks of what a user gives."""

import math
import sys
import warnings
from collections.abc import Sequence
from numbers import Integral, Real
from typing import TypedDict

from wavesynth.audio import wav
from wavesynth.audio.sounds import Sound
from wavesynth.conditions import Curve, CurveLike
from wavesynth.config import DatasetInfo
from wavesynth.errors import UserError
from wavesynth.families.protocols import Dtype
from wavesynth.timbre.interpolation import Fill
from wavesynth.timbre.timbre import Timbre

MOST_SAMPLES = 2**30  # of all sounds that are in memory at once: 4 GiB
MOST_SOUNDS = 100_000  # of one call
MOST_STEPS = 1_000  # of a morph; finer steps are inaudible
MOST_SIDE = 64  # of a grid: 4,096 sounds


class RenderOptions(TypedDict, total=False):
    """Options of everything that renders sounds.

    Attributes:
        seed: The same seed gives the same sounds on the same machine and version.
        pitch: MIDI number; 60 is middle C. Left out, the timbre's own pitch, or one as the training sounds have them.
        fill: How a timbre's path is extended to the length asked for: "hold" its last frame, "loop" it, or "stretch" it.
        temperature: Below 1 is safer, above 1 wilder; for models that draw sample by sample.
        top_k: Draw from the k likeliest alone.
        top_p: Draw from the likeliest that hold this share of the probability.
        truncation: Below 1 stays closer to the middle of a latent space: less variety, fewer failures.
        implementation: Of the sampler's inner loop; left out, the fastest.
        dtype: Of the sampler's weights, "float32" or "bfloat16" (faster); left out, the model's own.
    """

    seed: int
    pitch: CurveLike | None
    fill: Fill
    temperature: float
    top_k: int | None
    top_p: float | None
    truncation: float
    implementation: str | None
    dtype: Dtype | None


class SampleOptions(RenderOptions, total=False):
    """Options of `Synth.sample`, `blocks`, `stream` and `write`: those of `RenderOptions`, and these.

    Attributes:
        label: One of the model's labels. Left out, labels are drawn as the training sounds have them.
        timbre: What to sound like, in place of a label; or one timbre per sound, all rendered with the same noise.
        prime: A sound to continue; it is not part of the result.
        sample_rate: Of a prime given as an array, Hz; left out, the synth's.
    """

    label: str | None
    timbre: Timbre | Sequence[Timbre] | None
    prime: Sound | None
    sample_rate: float | None


def check_count(name: str, value: int, least: int, most: int, unit: str) -> None:
    """Raises UserError unless `value` is a whole number in [least, most]."""
    if isinstance(value, bool) or not isinstance(value, Integral) or not least <= value <= most:
        raise UserError(f"{name} is {value}: it must be a whole number of {unit}, {least:,} to {most:,}")


def check_memory(n: int, num_samples: float, channels: int) -> None:
    """Raises UserError where sounds would take more memory than `MOST_SAMPLES`."""
    if n * num_samples * channels > MOST_SAMPLES:
        raise UserError(
            f"n is {n:,} and each sound has {num_samples:,.0f} samples, {n * num_samples * channels * 4 / 2**30:,.0f} GiB in "
            f"all: at most {MOST_SAMPLES * 4 // 2**30} GiB are held in memory; ask for less, or write it to disk"
        )


def check_wav(seconds: float, sample_rate: int, channels: int) -> None:
    """Raises UserError where one sound is longer than a WAV file can be. An endless one ends with an interrupt."""
    longest = wav.MOST_SAMPLES / channels / sample_rate
    if longest < seconds < math.inf:
        raise UserError(
            f"seconds is {seconds:g}: a wav of this model holds at most {longest:,.0f} seconds; ask for less"
        )


def num_samples(seconds: float, sample_rate: int, longest: float) -> float:
    """The samples in `seconds`; inf for inf.

    Raises:
        UserError: seconds is not above 0, or longer than the model's sounds can be.
    """
    if isinstance(seconds, bool) or not isinstance(seconds, Real) or not seconds > 0:
        raise UserError(f"seconds is {seconds!r}: it must be a number above 0")
    if longest < seconds < math.inf:
        raise UserError(f"seconds is {seconds:g}: this model's sounds last {longest:g} seconds, and no longer")
    samples = seconds * sample_rate
    return math.inf if math.isinf(seconds) else max(1, round(samples)) if samples < math.inf else sys.float_info.max


def check_pitch(pitch: CurveLike | None, dataset: DatasetInfo) -> float | None:
    """A pitch that can be played, as a number; warns where it lies outside the training sounds' range.

    Raises:
        UserError: it is no MIDI number, or a curve of several frames.
    """
    if pitch is None:
        return None
    curve = Curve.of(pitch, "pitch")
    if not curve.is_constant:
        raise UserError(f"pitch is {curve}: this model plays one pitch per sound; give a number")
    value = float(curve.values[0])
    if math.isnan(value):
        return None
    if not 0 <= value <= 127:
        raise UserError(f"pitch is {value:g}: it must be a MIDI number, 0 to 127 (60 is middle C)")
    learned = dataset.pitches
    if learned and not learned[0] - 0.5 <= value <= learned[1] + 0.5:
        warnings.warn(
            f"pitch is {value:g}, and the training sounds go from {learned[0]:g} to {learned[1]:g}: quality drops outside "
            "this range",
            stacklevel=4,
        )
    return value
