"""Named shapes of the op. The tests compare every implementation on them, and the benchmarks measure `MEASURED`."""

from dataclasses import dataclass
from typing import Any

from wavesynth.models.wavenet import WaveNetConfig


@dataclass(frozen=True)
class ArgSpec:
    """A network, the number of streams, and the number of samples.

    frames: frames of local conditioning; 0 for none.
    """

    model: WaveNetConfig
    batch: int = 1
    steps: int = 64
    frames: int = 0


def _small(**overrides: Any) -> WaveNetConfig:
    shape: dict[str, Any] = dict(
        stacks=2, layers_per_stack=3, channels=16, skip_channels=24, head_channels=20, taps=8, vector_channels=0,
        hop_length=128,
    )  # fmt: skip
    return WaveNetConfig(**(shape | overrides))


_SOFTMAX: dict[str, Any] = dict(output="softmax", quantization="mulaw", taps=2)

TESTED = {
    "mixture": ArgSpec(_small()),
    "mixture-batch-5": ArgSpec(_small(), batch=5),
    "mixture-odd": ArgSpec(_small(kernel_width=3, channels=17, skip_channels=23, head_channels=33), batch=5),
    "mixture-mulaw": ArgSpec(_small(quantization="mulaw")),
    "mixture-conditioned": ArgSpec(_small(vector_channels=6, frame_channels=5, hop_length=10), batch=5, frames=7),
    "mixture-global": ArgSpec(_small(vector_channels=6), batch=5),
    "mixture-periods": ArgSpec(_small(period_taps=4, longest_period=40)),
    "mixture-periods-batch-5": ArgSpec(_small(period_taps=4, longest_period=40), batch=5),
    "softmax": ArgSpec(_small(**_SOFTMAX)),
    "softmax-width-3": ArgSpec(_small(kernel_width=3, **_SOFTMAX), batch=5),
    "softmax-conditioned": ArgSpec(
        _small(kernel_width=3, vector_channels=6, frame_channels=5, hop_length=10, **_SOFTMAX), batch=5, frames=7
    ),
}

NV = WaveNetConfig(
    stacks=2, layers_per_stack=10, channels=64, skip_channels=256, head_channels=256,
    output="softmax", quantization="mulaw", taps=1, vector_channels=0,
)  # fmt: skip
"""The size of nv-wavenet: 20 layers, 64 residual, 256 skip and 256 output channels."""

MODELS = {
    "nv": NV,
    "small": WaveNetConfig(layers_per_stack=9, vector_channels=0, hop_length=128),
    "full": WaveNetConfig(
        stacks=3, longest_dilation=0.03, layers_per_stack=10, channels=128, skip_channels=256, head_channels=256,
        vector_channels=0, hop_length=128, dtype="bfloat16",
    ),
}  # fmt: skip
"""Shapes by name. small and full are the presets wavenet-small and wavenet, for pieces without labels."""

MEASURED = {
    f"{name}-batch-{batch}": ArgSpec(model, batch, steps=(256 if batch > 8 else 2_048) // (4 if name == "full" else 1))
    for name, model in MODELS.items()
    for batch in ((1, 8) if name == "full" else (1, 8, 64))
}
