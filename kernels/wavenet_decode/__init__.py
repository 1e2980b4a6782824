"""Sampling from a WaveNet, one sample after the other."""

from wavesynth.kernels.wavenet_decode.api import IMPLEMENTATIONS, Conditioning, Decoded, wavenet_decode
from wavesynth.kernels.wavenet_decode.cache import DecodeCache, silent_cache
from wavesynth.kernels.wavenet_decode.weights import DecodeSpec, DecodeWeights, condition_table, pack

__all__ = [
    "IMPLEMENTATIONS",
    "Conditioning",
    "DecodeCache",
    "DecodeSpec",
    "DecodeWeights",
    "Decoded",
    "condition_table",
    "pack",
    "silent_cache",
    "wavenet_decode",
]
