"""How freely samples are drawn: `Strategy`, which lives beside the loops that draw by it."""

from wavesynth.kernels.wavenet_decode.strategy import Strategy

__all__ = ["Strategy"]
