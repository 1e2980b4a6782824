"""Options shared by the methods of `Synth`, and checks of their values."""

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
    """Options of all methods that render sounds.

    Attributes:
        seed: random seed. The same seed gives the same sounds on the same machine and version.
        pitch: MIDI number; 60 is middle C. By default, the timbre's pitch, or a pitch drawn from the training sounds.
        fill: how to extend a timbre's path to the requested length: "hold" its last frame, "loop" or "stretch" it.
        temperature: sampling temperature: below 1 is safer, above 1 wilder. For models that sample one value at a time.
        top_k: sample only from the k most likely values.
        top_p: sample only from the most likely values that together have this probability.
        truncation: below 1, latents stay closer to the centre of the latent space: less variety, fewer failures.
        implementation: implementation of the sampling loop. By default, the fastest.
        dtype: data type of the sampler's weights: "float32" or "bfloat16" (faster). By default, the model's own.
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
    """Options of `Synth.sample`, `blocks`, `stream` and `write`, in addition to `RenderOptions`.

    Attributes:
        label: one of the model's labels. By default, labels are drawn with the frequencies of the training sounds.
        timbre: a timbre, instead of a label; or one timbre per sound, all rendered with the same noise.
        prime: a sound to continue. It is not part of the result.
        sample_rate: sample rate of a prime given as an array, Hz. By default, the synth's.
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
    """Raises UserError if sounds would exceed `MOST_SAMPLES` in memory."""
    if n * num_samples * channels > MOST_SAMPLES:
        raise UserError(
            f"n is {n:,} and each sound has {num_samples:,.0f} samples, {n * num_samples * channels * 4 / 2**30:,.0f} GiB in "
            f"all: at most {MOST_SAMPLES * 4 // 2**30} GiB are held in memory; reduce them, or write the sounds to disk"
        )


def check_wav(seconds: float, sample_rate: int, channels: int) -> None:
    """Raises UserError where one sound is longer than a WAV file can be. An endless one ends with an interrupt."""
    longest = wav.MOST_SAMPLES / channels / sample_rate
    if longest < seconds < math.inf:
        raise UserError(
            f"seconds is {seconds:g}: a WAV file of this model holds at most {longest:,.0f} seconds; give less"
        )


def num_samples(seconds: float, sample_rate: int, longest: float) -> float:
    """The number of samples in `seconds`; inf for inf.

    Raises:
        UserError: seconds is not above 0, or exceeds the longest sound that the model generates.
    """
    if isinstance(seconds, bool) or not isinstance(seconds, Real) or not seconds > 0:
        raise UserError(f"seconds is {seconds!r}: it must be a number above 0")
    if longest < seconds < math.inf:
        raise UserError(f"seconds is {seconds:g}: this model's sounds last at most {longest:g} seconds")
    samples = seconds * sample_rate
    return math.inf if math.isinf(seconds) else max(1, round(samples)) if samples < math.inf else sys.float_info.max


def check_pitch(pitch: CurveLike | None, dataset: DatasetInfo) -> float | None:
    """A valid pitch as a number. Warns if it lies outside the range of the training sounds.

    Raises:
        UserError: it is not a MIDI number, or is a curve of several frames.
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
            f"pitch is {value:g}, outside the training sounds' range of {learned[0]:g} to {learned[1]:g}: quality drops there",
            stacklevel=4,
        )
    return value
