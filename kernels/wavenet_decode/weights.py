"""A WaveNet's parameters, packed for decoding: a few stacked arrays that every implementation reads in the same order."""

from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import jax
import jax.numpy as jnp


@dataclass(frozen=True)
class DecodeSpec:
    """What is static about a decoder: the shape of its stack and its output distribution."""

    dilations: tuple[int, ...]
    kernel_width: int
    taps: int
    output: Literal["mixture", "softmax"]
    quantization: Literal["int16", "mulaw"]

    @property
    def ring_lengths(self) -> tuple[int, ...]:
        """How many past inputs each layer keeps."""
        return tuple((self.kernel_width - 1) * dilation for dilation in self.dilations)

    @property
    def period(self) -> int:
        """After how many steps every ring is back where it began (dilations are powers of two)."""
        return max(self.ring_lengths)


@partial(
    jax.tree_util.register_dataclass,
    meta_fields=("spec",),
    data_fields=[
        "whitening",
        "front",
        "front_bias",
        "linear",
        "log_scale",
        "dilated",
        "dilated_bias",
        "residual",
        "residual_bias",
        "skip",
        "skip_bias",
        "head",
        "head_bias",
        "out",
        "out_bias",
    ],
)
@dataclass(frozen=True)
class DecodeWeights:
    """All float32. C: residual channels, L: layers, W: kernel width, S, H, P: skip, head and output channels.

    Time runs oldest first wherever taps are stacked.
    """

    spec: DecodeSpec
    whitening: jax.Array  # [taps, taps]: samples @ whitening is the white past; the identity for a softmax
    front: jax.Array  # mixture: [taps, C], applied to the white past; softmax: [taps, 256, C], rows picked by codes
    front_bias: jax.Array  # [C]
    linear: jax.Array  # [taps]: the linear prediction from the white past; zeros for a softmax
    log_scale: jax.Array  # []: of the linear prediction's typical error
    dilated: jax.Array  # [L, W, C, 2 C]
    dilated_bias: jax.Array  # [L, 2 C]
    residual: jax.Array  # [L, C, C]
    residual_bias: jax.Array  # [L, C]
    skip: jax.Array  # [L, C, S]
    skip_bias: jax.Array  # [S]
    head: jax.Array  # [S, H]
    head_bias: jax.Array  # [H]
    out: jax.Array  # [H, P]
    out_bias: jax.Array  # [P]


def pack(params: dict[str, Any], spec: DecodeSpec) -> DecodeWeights:
    """The parameters of `wavesynth.models.wavenet.WaveNet`, packed. Done once for a model, not once a sample."""
    layers = [params["layers"][str(index)] for index in range(len(spec.dilations))]
    stacked = {name: jnp.stack([layer[name] for layer in layers]) for name in layers[0]}
    channels = params["front_bias"].shape[0]
    softmax = spec.output == "softmax"
    return DecodeWeights(
        spec=spec,
        whitening=jnp.eye(spec.taps) if softmax else params["fixed_whitening"],
        front=params["front"],
        front_bias=params["front_bias"],
        linear=jnp.zeros(spec.taps) if softmax else params["fixed_linear"],
        log_scale=jnp.zeros(()) if softmax else params["fixed_log_scale"],
        dilated=stacked["dilated"].reshape(len(layers), spec.kernel_width, channels, 2 * channels),
        dilated_bias=stacked["dilated_bias"],
        residual=stacked["residual"],
        residual_bias=stacked["residual_bias"],
        skip=params["skip"].reshape(len(layers), channels, -1),
        **{name: params[name] for name in ("skip_bias", "head", "head_bias", "out", "out_bias")},
    )


def condition_table(
    params: dict[str, Any], spec: DecodeSpec, vector: jax.Array | None, frames: jax.Array | None
) -> jax.Array | None:
    """Conditions projected to all layers at once, float32 [F, L, B, 2 C]; None where there is no condition.

    vector: [B, vector_channels], a global condition. frames: [B, F, frame_channels], a local one.
    """
    total = None
    if vector is not None:
        total = (vector @ params["vector_projection"])[:, None]
    if frames is not None:
        projected = frames @ params["frame_projection"]
        total = projected if total is None else total + projected
    if total is None:
        return None
    batch, num_frames, _ = total.shape
    return total.reshape(batch, num_frames, len(spec.dilations), -1).transpose(1, 2, 0, 3)
