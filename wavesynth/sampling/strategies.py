"""The sampling strategy, defined in `wavesynth.kernels.wavenet_decode` beside the loops that use it."""

from wavesynth.kernels.wavenet_decode.strategy import Strategy

__all__ = ["Strategy"]
