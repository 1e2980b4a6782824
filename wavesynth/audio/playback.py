"""Playing sound while it is generated (extra `play`)."""

import time
from collections.abc import Iterator
from itertools import chain
from typing import NamedTuple

import numpy as np

from wavesynth.errors import UserError


class Played(NamedTuple):
    """The state of playback.

    Attributes:
        seconds: Length of the sound played so far.
        underruns: Number of times the device ran out of sound.
        real_time: Seconds of sound generated per second of computation.
    """

    seconds: float
    underruns: int
    real_time: float


def play(blocks: Iterator[np.ndarray], sample_rate: int) -> Iterator[Played]:
    """Plays blocks on the default device as they are generated. Closing the iterator stops the sound at once.

    Args:
        blocks: float32 [t] or [C, t] in [-1, 1], all with as many channels.
        sample_rate: Hz.

    Returns:
        The state of playback after each block. Waiting for the device does not count as computation.

    Raises:
        UserError: sounddevice or PortAudio is not installed, no device plays this rate, or the device was unplugged.

    >>> for so_far in play(synth.stream(seed=0), synth.sample_rate):        # doctest: +SKIP
    ...     print(so_far.underruns)
    """
    sounddevice = _sounddevice()
    first = np.atleast_2d(next(blocks))
    try:
        device = sounddevice.OutputStream(samplerate=sample_rate, channels=len(first), dtype="float32")
        device.start()
    except sounddevice.PortAudioError as error:
        raise UserError(
            f"nothing can be played: no audio device supports {sample_rate:,} Hz ({error}); write to files instead"
        ) from None
    samples, underruns, worked, began = 0, 0, 0.0, time.perf_counter()
    with device:
        for block in map(np.atleast_2d, chain([first], blocks)):
            worked += time.perf_counter() - began
            try:
                underruns += bool(device.write(np.ascontiguousarray(block.T, np.float32)))
            except sounddevice.PortAudioError as error:
                raise UserError(f"the audio device stopped after {samples / sample_rate:.1f} s ({error})") from None
            samples += block.shape[1]
            began = time.perf_counter()
            yield Played(samples / sample_rate, underruns, samples / sample_rate / max(worked, 1e-9))


def _sounddevice():
    try:
        import sounddevice  # pyright: ignore[reportMissingImports]
    except (ImportError, OSError) as error:  # the package, or the PortAudio library that it loads
        raise UserError(
            f"nothing can be played: {error}; install the extra with pip install 'wavesynth-jax[play]' (and, on Linux, "
            "the system's PortAudio library), or write to files instead"
        ) from None
    return sounddevice
