"""Sampling from a WaveNet, sample by sample."""

from wavesynth.kernels.wavenet_decode.api import IMPLEMENTATIONS, Conditioning, Decoded, wavenet_decode
from wavesynth.kernels.wavenet_decode.cache import DecodeCache, silent_cache
from wavesynth.kernels.wavenet_decode.strategy import Strategy
from wavesynth.kernels.wavenet_decode.weights import DecodeSpec, DecodeWeights, condition_table, pack

__all__ = [
    "IMPLEMENTATIONS",
    "Conditioning",
    "DecodeCache",
    "DecodeSpec",
    "DecodeWeights",
    "Decoded",
    "Strategy",
    "condition_table",
    "pack",
    "silent_cache",
    "wavenet_decode",
]
