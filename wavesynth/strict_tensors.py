"""Safetensors files that a stranger may have written: names, shapes and dtypes are compared before anything is read.

The format cannot run code. What is left to check is that a file is whole, that it holds what is expected and no more, and
that its numbers are finite.
"""

import os
import stat
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import numpy as np

from wavesynth.audio.names import display
from wavesynth.errors import UserError
from wavesynth.fields import shown

MOST_HEADER = 2**22  # bytes; some 130 a tensor are used
DTYPES = {"F16": "float16", "F32": "float32", "F64": "float64", "BF16": "bfloat16", "I32": "int32", "I64": "int64"}


class Described(NamedTuple):
    """What the header says of a tensor."""

    shape: tuple[int, ...]
    dtype: str


class TensorFile:
    """An open safetensors file.

    Attributes:
        tensors: what its header says, by name.
    """

    def __init__(self, path: Path, remedy: str, handle: Any) -> None:
        self._path, self._remedy, self._handle = path, remedy, handle
        slices = {name: handle.get_slice(name) for name in handle.keys()}  # noqa: SIM118 (it is no dictionary)
        self.tensors = {
            name: Described(tuple(each.get_shape()), str(DTYPES.get(each.get_dtype(), each.get_dtype())))
            for name, each in slices.items()
        }

    def fail(self, reason: str) -> NoReturn:
        """Raises a UserError that names the file, a reason and the remedy."""
        raise UserError(f"{display(self._path)}{reason}: {self._remedy}") from None

    def compare(self, expected: Mapping[str, Described]) -> None:
        """Raises a UserError that names the first tensor that is missing, unexpected, or of another shape or dtype."""
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

    def read(self, name: str, nan_allowed: bool = False) -> np.ndarray:
        """The numbers of one tensor.

        Raises:
            UserError: one of them is infinite, or NaN where that is not allowed.
        """
        values = self._handle.get_tensor(name)
        known = ~np.isinf(values) if nan_allowed else np.isfinite(values)
        if not known.all():
            self.fail(
                f": the weights are not finite numbers, {name} has {values.size - int(known.sum()):,} that are not"
            )
        return values


@contextmanager
def opened(path: str | os.PathLike[str], remedy: str) -> Iterator[TensorFile]:
    """Opens a safetensors file; its numbers are read when they are asked for.

    Args:
        path: the file.
        remedy: what to do where it does not serve; it ends every message.

    Raises:
        UserError: it cannot be opened, is no ordinary file, or is damaged.
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


def read(
    path: str | os.PathLike[str], expected: Mapping[str, Described], remedy: str, nan_allowed: Collection[str] = ()
) -> dict[str, np.ndarray]:
    """All tensors of a file.

    Args:
        path: the file.
        expected: what its header must say, by name.
        remedy: what to do where it does not serve; it ends every message.
        nan_allowed: names of tensors in which NaN stands for what is not known.

    Raises:
        UserError: the file is damaged, it does not hold what is expected, or some numbers are not finite.
    """
    with opened(path, remedy) as file:
        file.compare(expected)
        return {name: file.read(name, name in nan_allowed) for name in expected}


def _plain(name: str) -> str:
    """A stranger's name as errors show it: nothing that a terminal would act on, and not too much of it."""
    return display(name[:80]) if name.isascii() else ascii(name[:80])
