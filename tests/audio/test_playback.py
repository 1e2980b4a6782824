"""Playing: on a device that stands in for one, since a machine that tests need not have any."""

import itertools
import sys
import types

import numpy as np
import pytest

from wavesynth.audio.playback import play
from wavesynth.errors import UserError


class PortAudioError(Exception):
    pass


@pytest.fixture
def device(monkeypatch):
    """A sounddevice whose streams keep what they are given, and run dry at every third block."""
    module = types.ModuleType("sounddevice")
    module.PortAudioError = PortAudioError
    module.streams = []

    class OutputStream:
        def __init__(self, samplerate, channels, dtype):
            if samplerate > 192_000:
                raise PortAudioError("Invalid sample rate")
            self.rate, self.blocks, self.state = samplerate, [], "new"
            module.streams.append(self)

        def start(self):
            self.state = "started"

        def write(self, block):
            assert self.state == "started"
            assert block.dtype == np.float32
            assert block.ndim == 2
            self.blocks.append(block.copy())
            return len(self.blocks) % 3 == 0

        def __enter__(self):
            return self

        def __exit__(self, *_):
            self.state = "closed"

    module.OutputStream = OutputStream
    monkeypatch.setitem(sys.modules, "sounddevice", module)
    return module


def test_what_is_made_is_what_is_played(device):
    blocks = [np.linspace(-1, 1, 100, dtype=np.float32) * k / 7 for k in range(7)]
    so_far = list(play(iter(blocks), 1_000))
    (stream,) = device.streams
    np.testing.assert_array_equal(np.concatenate(stream.blocks)[:, 0], np.concatenate(blocks))
    assert [each.underruns for each in so_far] == [0, 0, 1, 1, 1, 2, 2]
    assert so_far[-1].seconds == pytest.approx(0.7)
    assert so_far[-1].real_time > 1
    assert stream.state == "closed"


def test_stopping_closes_the_device(device):
    playing = play((np.zeros(64, np.float32) for _ in itertools.count()), 16_000)
    next(playing)
    playing.close()
    assert device.streams[0].state == "closed"


def test_a_device_that_cannot_is_named(device):
    with pytest.raises(UserError, match=r"no audio device supports 1,000,000 Hz.*write to files"):
        next(play(iter([np.zeros(1, np.float32)]), 1_000_000))


def test_without_the_extra_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "sounddevice", None)
    with pytest.raises(UserError, match=r"wavesynth-jax\[play\]"):
        next(play(iter([np.zeros(1, np.float32)]), 16_000))
