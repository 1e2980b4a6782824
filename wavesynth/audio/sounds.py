"""Sounds given by users: files, or samples in the forms that audio libraries return."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from os import PathLike
from typing import Any, Protocol, TypeGuard

import numpy as np
from numpy.typing import NDArray

from wavesynth.audio.containers import Refused, check_sample_rate
from wavesynth.audio.containers import Sound as Opened
from wavesynth.audio.conversion import Collected, convert
from wavesynth.audio.files import read
from wavesynth.audio.names import display, has_sound_extension, user_path
from wavesynth.errors import UserError


class SupportsArray(Protocol):
    """A NumPy, JAX or PyTorch array, or anything else that NumPy can convert."""

    def __array__(self, *args: Any, **kwargs: Any) -> Any:
        """Converts to a NumPy array."""
        ...


Sound = SupportsArray | str | PathLike[str] | tuple[SupportsArray, float]
"""A file of any format, rate and channel count; or samples: a NumPy, JAX or PyTorch array of floats in [-1, 1] or of integers
at full scale, [T], [channels, T] or [T, channels]; or a pair of samples and their rate, as `soundfile.read` and
`librosa.load` return it."""

MOST_CHANNELS = 8
"""The largest number of channels of an array. A longer axis is time."""
_BLOCK = 2**16


def is_pair(sound: Any) -> TypeGuard[tuple[SupportsArray, float]]:
    """Whether a sound is a pair of samples and their rate, rather than several sounds."""
    if not isinstance(sound, tuple) or len(sound) != 2 or isinstance(sound[0], str | PathLike):
        return False
    return np.ndim(sound[1]) == 0 and not isinstance(sound[1], str | PathLike) and np.ndim(sound[0]) > 0


def samples_of(
    sound: Sound, argument: str, sample_rate: int, own_rate: float | None = None, channels: int = 1
) -> NDArray[np.float32]:
    """Converts a sound to float32 samples at a given sample rate, with a given number of channels.

    Arrays are treated like files with the same samples (`wavesynth.audio.conversion`): a peak above 1 is scaled down with a
    warning, channels are mixed or copied. Unlike files, arrays may be silent.

    Args:
        sound: see `Sound`.
        argument: the name of the argument, for errors.
        sample_rate: sample rate of the result, Hz.
        own_rate: sample rate of an array, Hz; None if it is `sample_rate`. Files and pairs have their own.
        channels: number of channels of the result.

    Returns:
        Samples in [-1, 1], float32 [channels, T].

    Raises:
        UserError: it is not a sound, or its time axis is ambiguous.

    >>> samples_of(np.zeros((2, 22_050), np.int16), "sound", 16_000, own_rate=22_050).shape
    (1, 16000)
    """
    if isinstance(sound, str | PathLike):
        return read(sound, sample_rate, channels)
    if is_pair(sound):
        sound, own_rate = sound
    samples = _channels_first(_floats(sound, argument), argument)
    own_rate = sample_rate if own_rate is None else own_rate
    own_rate = int(own_rate) if isinstance(own_rate, float) and own_rate.is_integer() else own_rate
    check_sample_rate(own_rate)

    @contextmanager
    def opened() -> Iterator[Opened]:
        parts = (samples[:, at : at + _BLOCK].T for at in range(0, samples.shape[1], _BLOCK))
        yield Opened(int(own_rate), len(samples), parts)

    sink = Collected()
    try:
        origin = convert(opened, sample_rate, sink, channels, allow_silence=True)
    except Refused as reason:
        raise UserError(f"{argument} cannot be used: {reason}") from None
    for warning in origin.warnings:
        warnings.warn(f"{argument}: {warning}", stacklevel=2)
    return sink.samples


def block_of(block: Sound, argument: str, channels: int = 1) -> NDArray[np.float32]:
    """Converts one block of a sound that arrives in parts. Values beyond full scale saturate, because the peak is unknown.

    Args:
        block: samples as in `samples_of`, at the rate in which they are used; there may be none.
        argument: the name of the argument, for errors.
        channels: number of channels of the result.

    Returns:
        Samples in [-1, 1], float32 [channels, t].

    Raises:
        UserError: it is not a block of samples, or holds values that are not finite.

    >>> block_of([0.5, 1.5], "blocks")
    array([[0.5, 1. ]], dtype=float32)
    """
    samples = _floats(block, argument)
    if samples.ndim in (1, 2) and not samples.size:
        return np.zeros((channels, 0), np.float32)
    samples = _channels_first(samples, argument)
    if not np.isfinite(samples).all():
        raise UserError(f"{argument} holds values that are not finite numbers: replace them first")
    if len(samples) != channels:
        samples = np.repeat(samples.mean(axis=0, keepdims=True), channels, axis=0)
    return np.clip(samples, -1.0, 1.0)


def looks_like_file(text: str) -> bool:
    """Whether text means a file and not a label: it exists, contains a folder, or has a sound file's extension.

    >>> looks_like_file("flut.wav"), looks_like_file("./flute"), looks_like_file("flute")
    (True, True, False)
    """
    if "/" in text or "\\" in text or text.startswith("~") or has_sound_extension(text):
        return True
    try:
        return user_path(text).is_file()
    except (UserError, OSError):
        return False


def _floats(sound: Any, argument: str) -> NDArray[np.float32]:
    """Converts any array to float32 with full scale 1.0, of the same shape."""
    if hasattr(sound, "detach") and hasattr(sound, "cpu"):  # a PyTorch tensor
        sound = sound.detach().cpu()
        if str(sound.dtype).endswith("bfloat16"):  # which NumPy does not have
            sound = sound.float()
    try:
        samples = np.asarray(sound)
    except (TypeError, ValueError, RuntimeError) as error:
        raise UserError(f"{argument} cannot be used as samples: {display(str(error).partition(chr(10))[0])}") from None
    kind, bits = samples.dtype.kind, 8 * samples.dtype.itemsize
    if kind == "u" and bits <= 32:
        return ((samples.astype(np.float64) - 2.0 ** (bits - 1)) / 2.0 ** (bits - 1)).astype(np.float32)
    if kind == "i" and bits <= 32:
        return (samples.astype(np.float64) / 2.0 ** (bits - 1)).astype(np.float32)
    # NumPy converts Python integers to 64 bits. Their scale is found from their size, as in a file of floats.
    # The dtypes of ml_dtypes, such as bfloat16, have kind V.
    if kind in "fiu" or (kind == "V" and "float" in samples.dtype.name):
        with np.errstate(over="ignore"):  # infinities are rejected later
            return samples.astype(np.float32)
    shown = "None" if sound is None else f"of type {samples.dtype.name if kind != 'O' else type(sound).__name__}"
    raise UserError(f"{argument} is {shown}: give a sound file, or samples as an array of floats or integers")


def _channels_first(samples: NDArray[np.float32], argument: str) -> NDArray[np.float32]:
    """Samples as [C, T], from [T], [C, T], [T, C] or a batch of one."""
    shape = samples.shape
    if samples.ndim == 3 and shape[0] == 1:
        samples = samples[0]
    if samples.ndim == 1 and samples.size:
        return samples[None]
    if samples.ndim == 2 and samples.size:
        first, second = samples.shape
        if first == 1 or (first <= MOST_CHANNELS < second):
            return samples
        if second == 1 or (second <= MOST_CHANNELS < first):
            return samples.T
        if max(first, second) <= MOST_CHANNELS:
            raise UserError(
                f"{argument} has the shape {shape}, and either axis could be its channels: give one channel [T], or more "
                f"than {MOST_CHANNELS} samples"
            )
    raise UserError(
        f"{argument} has the shape {shape}: give one sound, [T], [channels, T] or [T, channels], of at most "
        f"{MOST_CHANNELS} channels"
    )
