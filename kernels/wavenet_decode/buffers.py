"""The table of the op's buffers: names, axes, types, limits.

The API checks its arguments against this table. The native library is built from it (`python buffers.py HEADER` writes the C++
header) and reports it, so that a library of another version is recognised. This file imports only the standard library, because
the build runs it on its own.
"""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

PANEL = 32
"""Columns of one panel: see `wavesynth.kernels.wavenet_decode.weights`."""

COMPONENTS = 64
"""The largest number of logistics in a mixture: the native loop has arrays of this size on its stack."""

LIMITS = {
    "T": (0, 2**30),  # steps
    "B": (1, 2**16),  # streams
    "F": (0, 2**30),  # frames of conditioning
    "L": (1, 1_024),  # layers
    "W": (2, 16),  # taps of each dilated convolution
    "C": (1, 8_192),  # residual channels
    "G": (2, 16_384),  # 2 C: signal and gate
    "S": (1, 8_192),  # skip channels
    "H": (1, 8_192),  # head channels
    "P": (1, 8_192),  # output channels
    "K": (1, 4_096),  # newest samples that the first layer sees
    "N": (1, 8_192),  # all samples that it sees, those around one period ago included
    "A": (1, 2**20),  # samples that are remembered
    "R": (1, 2**28),  # slots of all layers' ring buffers
}
"""The least and the largest size of each axis. Whole numbers are axes of that size."""

Type = Literal["float32", "int32", "matrix"]


class Buffer(NamedTuple):
    """One buffer of the op.

    Attributes:
        name: the name, the same in Python and C++.
        axes: sizes, as keys of `LIMITS` or whole numbers, before a matrix is divided into panels.
        type: "matrix" is float32 or bfloat16.
        panels: whether the last two axes are divided into panels.
        optional: whether an empty buffer, of shape [0], may be given instead.
        alias: the input whose memory an output reuses.
    """

    name: str
    axes: tuple[str | int, ...]
    type: Type = "float32"
    panels: bool = False
    optional: bool = False
    alias: str | None = None

    def shape(self, sizes: Mapping[str, int], pairs: bool = False) -> tuple[int, ...]:
        """The shape in memory. pairs: whether panels interleave pairs of rows, as for bfloat16."""
        natural = tuple(axis if isinstance(axis, int) else sizes[axis] for axis in self.axes)
        if not self.panels:
            return natural
        *outer, rows, columns = natural
        return (*outer, -(-columns // PANEL), *((-(-rows // 2), PANEL, 2) if pairs else (rows, PANEL)))


INPUTS = (
    Buffer("front_bias", ("C",)),
    Buffer("dilated_bias", ("L", "G")),
    Buffer("residual_bias", ("L", "C")),
    Buffer("skip_bias", ("S",)),
    Buffer("head_bias", ("H",)),
    Buffer("out_bias", ("P",)),
    Buffer("linear", ("N",)),
    Buffer("log_scale", ()),
    Buffer("whitening", ("N", "N"), panels=True),
    Buffer("front", ("N", "C"), panels=True, optional=True),  # of a mixture
    Buffer("embedding", ("K", 256, "C"), optional=True),  # the front of a softmax
    Buffer("dilated", ("L", "W", "C", "G"), "matrix", panels=True),
    Buffer("residual", ("L", "C", "C"), "matrix", panels=True),
    Buffer("skip", ("L", "C", "S"), "matrix", panels=True),
    Buffer("head", ("S", "H"), "matrix", panels=True),
    Buffer("out", ("H", "P"), "matrix", panels=True),
    Buffer("grid", (256,)),  # the samples that mu-law codes stand for
    Buffer("edges", (257,)),  # of mu-law's bins
    Buffer("uniforms", ("T", 2, "B")),
    Buffer("conditioning", ("F", "L", "B", "G"), optional=True),
    Buffer("frame_index", ("T",), "int32", optional=True),
    Buffer("periods", ("B",), "int32", optional=True),
    Buffer("forced", ("T", "B"), optional=True),
    Buffer("temperature", ()),
    Buffer("recent", ("A", "B")),
    Buffer("rings", ("R", "B", "C")),
    Buffer("phase", (), "int32"),
)
OUTPUTS = (
    Buffer("samples", ("T", "B")),
    Buffer("log_probs", ("T", "B"), optional=True),
    Buffer("recent_after", ("A", "B"), alias="recent"),
    Buffer("rings_after", ("R", "B", "C"), alias="rings"),
)

WEIGHTS = tuple(
    buffer.name for buffer in INPUTS[: [b.name for b in INPUTS].index("grid")] if buffer.name != "embedding"
)
"""The inputs that are fields of `DecodeWeights`."""


def mismatch(given: Mapping[str, Any], sizes: dict[str, int]) -> str | None:
    """Describes the first buffer that does not match the table; None if all match.

    Args:
        given: arrays, or objects with a shape and a dtype, by buffer name; None for a missing buffer.
        sizes: known sizes of axes. Those found in `given` are added.
    """
    for buffer in (*INPUTS, *OUTPUTS):
        array = given.get(buffer.name)
        if array is None:
            continue
        types = ("float32", "bfloat16") if buffer.type == "matrix" else (buffer.type,)
        if str(array.dtype) not in types:
            return f"{buffer.name} is {array.dtype}: it must be {' or '.join(types)}"
        if not buffer.panels and len(array.shape) == len(buffer.axes):
            for axis, size in zip(buffer.axes, array.shape, strict=True):
                if isinstance(axis, str):
                    sizes.setdefault(axis, size)
        if "C" in sizes:
            sizes.setdefault("G", 2 * sizes["C"])
        expected = buffer.shape(sizes, pairs=str(array.dtype) == "bfloat16")
        if tuple(array.shape) != expected:
            axes = ", ".join(map(str, buffer.axes))
            return f"{buffer.name} is {list(array.shape)}: it must be {list(expected)} here, [{axes}]"
    return None


def beyond_limits(sizes: Mapping[str, int]) -> str | None:
    """Describes the first size outside `LIMITS`; None if there is none."""
    for axis, size in sizes.items():
        least, most = LIMITS[axis]
        if not least <= size <= most:
            return f"{axis} is {size}: it must lie between {least} and {most}"
    return None


def table() -> str:
    """The table as text, as reported by a library built from it."""
    limits = " ".join(f"{axis}={least}..{most}" for axis, (least, most) in LIMITS.items())
    return "\n".join([f"panel={PANEL} components={COMPONENTS} {limits}", *(str(tuple(b)) for b in (*INPUTS, *OUTPUTS))])


def header() -> str:
    """The table as a C++ header."""
    axes = list(LIMITS)

    def size(axis: str | int) -> str:
        return f"-{axis}" if isinstance(axis, int) else f"k{axis}"

    def quoted(text: str) -> str:
        return f'"{text}"'

    def row(buffer: Buffer) -> str:
        flags = ", ".join("true" if flag else "false" for flag in (buffer.panels, buffer.optional))
        sizes = ", ".join(map(size, buffer.axes))
        type_ = {"float32": "kFloat", "int32": "kInt", "matrix": "kMatrix"}[buffer.type]
        return f'    {{"{buffer.name}", {type_}, {flags}, {len(buffer.axes)}, {{{sizes}}}}},'

    def names(buffers: tuple[Buffer, ...], prefix: str, count: str) -> str:
        return f"enum {{ {', '.join(prefix + buffer.name for buffer in buffers)}, {count} }};"

    return "\n".join(
        [
            "// Made from buffers.py by the build.",
            "#pragma once",
            "#include <cstdint>",
            "namespace wavesynth {",
            f"constexpr int kPanelColumns = {PANEL}, kMostComponents = {COMPONENTS};",
            f"enum Axis {{ {', '.join(f'k{axis}' for axis in axes)}, kAxes }};",
            f"constexpr const char* kAxisNames[] = {{{', '.join(map(quoted, axes))}}};",
            f"constexpr int64_t kLeast[] = {{{', '.join(str(LIMITS[axis][0]) for axis in axes)}}};",
            f"constexpr int64_t kMost[] = {{{', '.join(str(LIMITS[axis][1]) for axis in axes)}}};",
            "enum Type { kFloat, kInt, kMatrix, kBfloat16 };  // kMatrix: kFloat or kBfloat16",
            "struct Buffer {",
            "  const char* name;",
            "  Type type;",
            "  bool panels, optional;",
            "  int rank;",
            "  int64_t axes[4];  // an Axis, or minus a fixed size",
            "};",
            names(INPUTS, "in_", "kInputs"),
            names(OUTPUTS, "out_", "kOutputs"),
            "constexpr Buffer kInputTable[] = {",
            *map(row, INPUTS),
            "};",
            "constexpr Buffer kOutputTable[] = {",
            *map(row, OUTPUTS),
            "};",
            f'constexpr const char* kTable = R"({table()})";',
            "}  // namespace wavesynth",
            "",
        ]
    )


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(header())
