"""A WaveNet's parameters, packed for decoding: a few stacked arrays that every implementation reads in the same order."""

import math
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp

from wavesynth.kernels.wavenet_decode.buffers import PANEL
from wavesynth.models.wavenet import WaveNetConfig


@dataclass(frozen=True)
class DecodeSpec:
    """The static part of a decoder: the shape of its stack and its output distribution.

    taps, taps_ago: numbers of samples that the first layer sees: the newest ones, and those around one period ago.
    history: number of past samples required for them. The other fields are as in `wavesynth.models.wavenet.WaveNetConfig`.
    """

    dilations: tuple[int, ...]
    kernel_width: int
    taps: int
    taps_ago: int
    history: int
    output: Literal["mixture", "softmax"]
    quantization: Literal["int16", "mulaw"]

    @classmethod
    def of(cls, model: WaveNetConfig) -> "DecodeSpec":
        return cls(
            model.dilations, model.kernel_width, model.taps, model.taps_ago, model.history, model.output,
            model.likelihood.quantization,
        )  # fmt: skip

    @property
    def inputs(self) -> int:
        return self.taps + self.taps_ago

    @property
    def ring_lengths(self) -> tuple[int, ...]:
        """The number of past inputs that each layer caches."""
        return tuple((self.kernel_width - 1) * dilation for dilation in self.dilations)

    @property
    def period(self) -> int:
        """The number of steps after which every ring buffer is back at its start."""
        return math.lcm(*self.ring_lengths)


MATRICES = ("whitening", "front", "dilated", "residual", "skip", "head", "out")
BIASES = ("front_bias", "dilated_bias", "residual_bias", "skip_bias", "head_bias", "out_bias")


@partial(
    jax.tree_util.register_dataclass,
    meta_fields=("spec",),
    data_fields=["linear", "log_scale", *MATRICES, *BIASES],
)
@dataclass(frozen=True)
class DecodeWeights:
    """C: residual channels, L: layers, W: kernel width, S, H, P: skip, head and output channels, N: `spec.inputs`.

    Matrices are divided into panels of 32 columns, [columns / 32, rows, 32], so that products read memory sequentially. The
    last panel is padded with zeros. The shapes below are those without panels, which `unpack` restores; `buffers.py` has
    the shapes in memory. Stacked taps begin with the oldest. All arrays are float32, except that the last five matrices may
    be bfloat16. These interleave pairs of rows, [columns / 32, rows / 2, 32, 2], for processors that multiply pairs; an odd
    last row is paired with zeros. Each tap of `dilated` is a separate matrix.
    """

    spec: DecodeSpec
    linear: jax.Array  # [N]: the linear prediction from the whitened past; zeros for a softmax
    log_scale: jax.Array  # []: of the linear prediction's typical error
    whitening: jax.Array  # [N, N]: past @ whitening is the whitened past; the identity for a softmax
    front: jax.Array  # mixture: [N, C], of the whitened past; softmax: [K, 256, C], not in panels, rows picked by codes
    dilated: jax.Array  # [L, W C, 2 C]
    residual: jax.Array  # [L, C, C]
    skip: jax.Array  # [L, C, S]
    head: jax.Array  # [S, H]
    out: jax.Array  # [H, P]
    front_bias: jax.Array  # [C]
    dilated_bias: jax.Array  # [L, 2 C]
    residual_bias: jax.Array  # [L, C]
    skip_bias: jax.Array  # [S]
    head_bias: jax.Array  # [H]
    out_bias: jax.Array  # [P]

    @property
    def size(self) -> int:
        """The number of weights read for every sample, without the few of the first layer."""
        return sum(matrix.size for matrix in (self.dilated, self.residual, self.skip, self.head, self.out))


class Matrices(NamedTuple):
    """The matrices of `DecodeWeights`, float32, without panels."""

    whitening: jax.Array
    front: jax.Array
    dilated: jax.Array
    residual: jax.Array
    skip: jax.Array
    head: jax.Array
    out: jax.Array


@partial(jax.jit, static_argnames=("spec", "dtype"))
def pack(params: dict[str, Any], spec: DecodeSpec, dtype: Literal["float32", "bfloat16"] = "float32") -> DecodeWeights:
    """Packs the parameters of `wavesynth.models.wavenet.WaveNet`.

    dtype: data type of the five large matrices; sums are always float32.
    """
    layers = [params["layers"][str(index)] for index in range(len(spec.dilations))]
    arrays = params | {name: jnp.stack([layer[name] for layer in layers]) for name in layers[0]}
    arrays["dilated"] = arrays["dilated"].reshape(len(layers), spec.kernel_width, -1, arrays["dilated"].shape[-1])
    arrays["skip"] = params["skip"].reshape(len(layers), -1, params["skip"].shape[-1])
    softmax = spec.output == "softmax"
    return DecodeWeights(
        spec=spec,
        linear=jnp.zeros(spec.inputs) if softmax else params["fixed_linear"],
        log_scale=jnp.zeros(()) if softmax else params["fixed_log_scale"],
        whitening=_panels(jnp.eye(spec.inputs) if softmax else params["fixed_whitening"]),
        front=params["front"] if softmax else _panels(params["front"]),
        **{name: _panels(arrays[name].astype(dtype)) for name in MATRICES[2:]},
        **{name: arrays[name] for name in BIASES},
    )


def unpack(weights: DecodeWeights) -> Matrices:
    """The matrices without panels, in float32."""
    channels, inputs = weights.front_bias.size, weights.spec.inputs
    skip, head, outputs = weights.skip_bias.size, weights.head_bias.size, weights.out_bias.size
    dilated = _natural(weights.dilated, channels, 2 * channels)
    softmax = weights.spec.output == "softmax"
    return Matrices(
        whitening=_natural(weights.whitening, inputs, inputs),
        front=weights.front if softmax else _natural(weights.front, inputs, channels),
        dilated=dilated.reshape(len(dilated), -1, 2 * channels),
        residual=_natural(weights.residual, channels, channels),
        skip=_natural(weights.skip, channels, skip),
        head=_natural(weights.head, skip, head),
        out=_natural(weights.out, head, outputs),
    )


def _panels(matrix: jax.Array) -> jax.Array:
    """[..., rows, columns] to [..., panels, rows, PANEL], or for bfloat16 to [..., panels, rows / 2, PANEL, 2]."""
    abreast = 2 if matrix.dtype == jnp.bfloat16 else 1
    *outer, rows, columns = matrix.shape
    padded = jnp.pad(matrix, [(0, 0)] * len(outer) + [(0, -rows % abreast), (0, -columns % PANEL)])
    cut = padded.reshape(*outer, -1, abreast, padded.shape[-1] // PANEL, PANEL)
    panels = jnp.moveaxis(cut, (-4, -3, -2, -1), (-3, -1, -4, -2))
    return panels if abreast > 1 else panels[..., 0]


def _natural(panels: jax.Array, rows: int, columns: int) -> jax.Array:
    """The inverse of `_panels`, float32."""
    abreast = panels if panels.dtype == jnp.bfloat16 else panels[..., None]
    cut = jnp.moveaxis(abreast, (-3, -1, -4, -2), (-4, -3, -2, -1))
    natural = cut.reshape(*cut.shape[:-4], cut.shape[-4] * cut.shape[-3], -1)
    return natural[..., :rows, :columns].astype(jnp.float32)


@partial(jax.jit, static_argnames="spec")
def condition_table(
    params: dict[str, Any], spec: DecodeSpec, vector: jax.Array | None, frames: jax.Array | None
) -> jax.Array | None:
    """Projects the conditioning to all layers, float32 [F, L, B, 2 C]; None without conditioning.

    vector: global conditioning [B, vector_channels], or moving [B, F, vector_channels]. frames: local conditioning
    [B, F, frame_channels].
    """
    total = None
    if vector is not None:
        moving = vector if vector.ndim == 3 else vector[:, None]
        total = moving @ params["vector_projection"]
    if frames is not None:
        projected = frames @ params["frame_projection"]
        total = projected if total is None else total + projected
    if total is None:
        return None
    batch, num_frames, _ = total.shape
    return total.reshape(batch, num_frames, len(spec.dilations), -1).transpose(1, 2, 0, 3)


def sizes_of(weights: DecodeWeights) -> dict[str, int]:
    """The sizes of the axes that the weights determine, by their names in `buffers.py`."""
    spec, channels = weights.spec, weights.front_bias.size
    return {
        "L": len(spec.dilations), "W": spec.kernel_width, "C": channels, "G": 2 * channels, "S": weights.skip_bias.size,
        "H": weights.head_bias.size, "P": weights.out_bias.size, "K": spec.taps, "N": spec.inputs, "A": spec.history,
        "R": sum(spec.ring_lengths),
    }  # fmt: skip
