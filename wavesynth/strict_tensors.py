"""Reads untrusted safetensors files: names, shapes and dtypes are compared before any data is read.

The format cannot run code. This module checks that a file is complete, that it holds exactly the expected tensors, and that
all numbers are finite.
"""

import os
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import numpy as np

from wavesynth.audio.names import display
from wavesynth.errors import UserError
from wavesynth.fields import shown

MOST_HEADER = 2**22  # bytes; a tensor takes about 130
DTYPES = {"F16": "float16", "F32": "float32", "F64": "float64", "BF16": "bfloat16", "I32": "int32", "I64": "int64"}


class Described(NamedTuple):
    """The header's description of a tensor."""

    shape: tuple[int, ...]
    dtype: str


class TensorFile:
    """An open safetensors file.

    Attributes:
        tensors: descriptions from the header, by name.
    """

    def __init__(self, path: Path, remedy: str, handle: Any) -> None:
        self._path, self._remedy, self._handle = path, remedy, handle
        slices = {name: handle.get_slice(name) for name in handle.keys()}  # noqa: SIM118 (it is no dictionary)
        self.tensors = {
            name: Described(tuple(each.get_shape()), str(DTYPES.get(each.get_dtype(), each.get_dtype())))
            for name, each in slices.items()
        }

    def fail(self, reason: str) -> NoReturn:
        """Raises UserError with the file, the reason and the remedy."""
        raise UserError(f"{display(self._path)}{reason}: {self._remedy}") from None

    def compare(self, expected: Mapping[str, Described]) -> None:
        """Raises UserError for the first tensor that is missing or unexpected, or has another shape or dtype."""
        for name in sorted({*expected, *self.tensors}):
            if name not in self.tensors:
                self.fail(f" lacks {name} {list(expected[name].shape)}")
            found = self.tensors[name]
            if name not in expected:
                self.fail(f" holds {_plain(name)} {shown(list(found.shape))}, which the model does not have")
            wanted = expected[name]
            if found.shape != wanted.shape:
                self.fail(f": {name} is {shown(list(found.shape))}, the model's is {list(wanted.shape)}")
            if found.dtype != wanted.dtype:
                self.fail(f": {name} is {found.dtype}, the model's is {wanted.dtype}")

    def read(self, name: str) -> np.ndarray:
        """The numbers of one tensor.

        Raises:
            UserError: one of them is not finite.
        """
        values = self._handle.get_tensor(name)
        known = np.isfinite(values)
        if not known.all():
            self.fail(
                f": the weights are not finite numbers, {name} has {values.size - int(known.sum()):,} that are not"
            )
        return values


@contextmanager
def opened(path: str | os.PathLike[str], remedy: str) -> Iterator[TensorFile]:
    """Opens a safetensors file. Tensors are read on demand.

    Args:
        path: the file.
        remedy: what the user can do if the file is unusable, for the error messages.

    Raises:
        UserError: the file cannot be opened, is not a regular file, or is damaged.
    """
    from safetensors import SafetensorError, safe_open

    path = Path(path)
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise SafetensorError("it is not a file")
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
        if status.st_size < 8 or length > status.st_size - 8:
            raise SafetensorError("it is cut short")
        if length > MOST_HEADER:
            raise SafetensorError(f"its header has {length:,} bytes, where at most {MOST_HEADER:,} are expected")
        with safe_open(path, framework="numpy") as handle:
            yield TensorFile(path, remedy, handle)
    except (SafetensorError, OSError, ValueError, TypeError, OverflowError) as error:
        if isinstance(error, UserError):
            raise
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise UserError(f"{display(path)} cannot be read ({' '.join(reason.split())[:200]}): {remedy}") from None


def read(path: str | os.PathLike[str], expected: Mapping[str, Described], remedy: str) -> dict[str, np.ndarray]:
    """Reads all tensors of a file.

    Args:
        path: the file.
        expected: the tensors that it must hold, by name.
        remedy: what the user can do if the file is unusable, for the error messages.

    Raises:
        UserError: the file is damaged, does not hold the expected tensors, or has numbers that are not finite.
    """
    with opened(path, remedy) as file:
        file.compare(expected)
        return {name: file.read(name) for name in expected}


def _plain(name: str) -> str:
    """An untrusted name as shown in errors: escaped and shortened."""
    return display(name[:80]) if name.isascii() else ascii(name[:80])
