"""Training states, saved by Orbax, and published weights, as safetensors.

Every file is written atomically. Nothing is pickled: a checkpoint cannot run code.
"""

import errno
import json
import logging
import os
import shutil
import sys
import traceback
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from types import CoroutineType
from typing import Any

import jax
import numpy as np

from wavesynth import strict_tensors
from wavesynth.errors import UserError
from wavesynth.storage import write_file
from wavesynth.strict_tensors import Described
from wavesynth.training.state import Params, TrainState

WEIGHTS = "model.safetensors"
_CHECKSUM = "crc32"  # its name in the metadata of a state
_SMALL_FILES = 2**19  # bytes of a state besides its arrays
_MAKE_ROOM = "free some space or repair the disk, and continue with --resume"
_REMEDY = "use the config.json and the weights that were written together, or train again"


class States:
    """The latest training states of a run, written in the background. `close` waits for the last one.

    Until it is closed, error logs of Orbax are silenced, because the errors are raised too. After an error, the coroutines that
    Orbax abandons stay silent until the process ends.

    Args:
        folder: the folder of the states, each in a folder named by its step.
        keep: number of states to keep.
    """

    def __init__(self, folder: Path, keep: int) -> None:
        import orbax.checkpoint as ocp

        self._ocp, self._keep = ocp, keep
        self._logger = logging.getLogger("absl")
        self._log_level = self._logger.level
        self._logger.setLevel(logging.CRITICAL)
        try:
            self._open(folder)
        except BaseException:
            self._restore_log_level()
            raise

    def _open(self, folder: Path) -> None:
        self._folder = folder
        self._manager = self._ocp.CheckpointManager(
            folder.absolute(),
            item_handlers={"state": self._ocp.StandardCheckpointHandler(), "meta": self._ocp.JsonCheckpointHandler()},
            options=self._ocp.CheckpointManagerOptions(
                max_to_keep=self._keep, create=True, cleanup_tmp_directories=True
            ),
        )

    @property
    def latest(self) -> int | None:
        """The step of the newest complete state; None if there is none."""
        return self._manager.latest_step()

    def save(self, state: TrainState, meta: dict[str, Any], wait: bool = False) -> None:
        """Saves a state and its metadata.

        Raises:
            UserError: this state, or the previous one that was written in the background, cannot be written.
        """
        step = int(state.step)
        content = self._ocp.args.Composite(
            state=self._ocp.args.StandardSave(state), meta=self._ocp.args.JsonSave(meta | {_CHECKSUM: _checksum(state)})
        )

        def save() -> None:
            if step not in self._manager.all_steps():
                self.check_room(state, 1)
                self._manager.save(step, args=content)
            if wait:
                self._manager.wait_until_finished()

        self._ask(save, "state cannot be written", _MAKE_ROOM)

    def restore(self, template: TrainState) -> tuple[TrainState, dict[str, Any]]:
        """Restores the newest state, with the shapes and devices of `template`, and its metadata.

        Raises:
            UserError: it is damaged, or its tree or a shape differs from `template`.
        """
        step = self.latest
        assert step is not None
        abstract = jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=leaf.sharding), template
        )
        wanted = self._ocp.args.Composite(
            state=self._ocp.args.StandardRestore(abstract), meta=self._ocp.args.JsonRestore()
        )

        def restore() -> Any:
            found = self._manager.item_metadata(step)["state"].tree
            _compare(_shapes(found), _shapes(template), str(self._folder / str(step)))
            restored = self._manager.restore(step, args=wanted)
            if restored["meta"].pop(_CHECKSUM, None) != _checksum(restored["state"]):
                raise ValueError("its checksum differs")
            return restored

        remedy = "delete its folder to continue from the previous one"
        restored = self._ask(restore, f"state {step} is damaged", remedy)
        return restored["state"], restored["meta"]

    def moved(self, move: Callable[[], Path]) -> None:
        """Waits for pending writes, calls `move`, which moves the folder and returns its new path, and continues there."""
        self._ask(self._manager.close, "state cannot be written", _MAKE_ROOM)
        self._open(move())

    def check_room(self, state: TrainState, count: int) -> None:
        """Raises UserError if the disk has no room for `count` more states."""
        need = count * (sum(leaf.nbytes for leaf in jax.tree.leaves(state)) + _SMALL_FILES)
        free = shutil.disk_usage(self._folder).free
        if free < need:
            what = "a state needs" if count == 1 else f"{count} states need"
            raise UserError(
                f"the disk of {self._folder} is full: {what} {need / 1e6:,.1f} MB, {free / 1e6:,.1f} MB are free; "
                f"{self._saved()}; free some space, and continue with --resume"
            )

    def close(self) -> None:
        """Waits for pending writes and closes Orbax. Raises UserError if a write failed."""
        try:
            self._ask(self._manager.close, "state cannot be written", _MAKE_ROOM)
        finally:
            self._restore_log_level()

    def _restore_log_level(self) -> None:
        self._logger.setLevel(self._log_level)

    def _saved(self) -> str:
        return "no state is saved yet" if self.latest is None else f"the state of step {self.latest} is saved"

    def _ask(self, orbax: Callable[[], Any], problem: str, remedy: str) -> Any:
        """Turns a failure of Orbax into a UserError, and silences the coroutines that Orbax abandons then."""
        try:
            return orbax()
        except UserError:
            raise
        except Exception as error:
            if not isinstance(sys.unraisablehook, _WithoutAbandoned):
                sys.unraisablehook = _WithoutAbandoned(sys.unraisablehook)
            full = os.strerror(errno.ENOSPC) in str(error)
            reason = "the disk is full" if full else " ".join(str(error).split())[:300] or type(error).__name__
        raise UserError(f"{self._folder}: {problem} ({reason}); {self._saved()}; {remedy}")


class _WithoutAbandoned:
    """A `sys.unraisablehook` that ignores the coroutines that Orbax abandons when one of several reads or writes fails.

    It also ignores "Event loop is closed", which TensorStore's threads raise then. Each coroutine would print a traceback
    when it is collected, and TensorStore's threads may hold it for as long as the process runs.
    """

    def __init__(self, usual: Callable[[Any], Any]) -> None:
        self._usual = usual

    def __call__(self, unraisable: Any) -> None:
        error = unraisable.exc_value
        closed = isinstance(error, RuntimeError) and str(error) == "Event loop is closed"
        if not closed and not any("orbax" in Path(file).parts for file in _files(unraisable)):
            self._usual(unraisable)


def _files(unraisable: Any) -> Iterator[str]:
    """The source files of an unraisable error: of its coroutine, if it is named (before Python 3.14), and of its traceback."""
    if isinstance(unraisable.object, CoroutineType):
        yield unraisable.object.cr_code.co_filename
    for frame, _ in traceback.walk_tb(unraisable.exc_traceback):
        yield frame.f_code.co_filename


def publish(run: Path, params: Params, meta: dict[str, Any]) -> None:
    """Writes weights and their metadata to RUN/model.safetensors, replacing the old ones."""
    from safetensors.numpy import save

    write_file(run / WEIGHTS, save(flatten(params), metadata={"wavesynth": json.dumps(meta)}))


def read_weights(run: Path, expected: Params) -> Params:
    """The published weights of a run.

    The file's header is compared with `expected` before any weights are read, so that a file cannot take more memory than the
    model in its config.

    Args:
        run: the folder of the run.
        expected: the tree of the model's parameters, arrays or shapes.

    Raises:
        UserError: there are no weights yet, the file is damaged or does not match config.json, or weights are not finite.
    """
    path = run / WEIGHTS
    if not path.exists():
        raise UserError(
            f"{run} has no {WEIGHTS}: its training has not published weights yet; continue it with --resume"
        )
    leaves = flatten(expected, asarray=False)
    wanted = {name: Described(tuple(leaf.shape), str(leaf.dtype)) for name, leaf in leaves.items()}
    return unflatten(strict_tensors.read(path, wanted, _REMEDY))


def _compare(found: dict[str, tuple[int, ...]], expected: dict[str, tuple[int, ...]], place: str) -> None:
    """Raises UserError for the first array that does not match the config."""
    for name in sorted(set(expected) | set(found)):
        if name not in found:
            raise UserError(f"{place} lacks {name} {list(expected[name])}: {_REMEDY}")
        if name not in expected:
            raise UserError(f"{place} holds {name} {list(found[name])}, which the model does not have: {_REMEDY}")
        if found[name] != expected[name]:
            raise UserError(f"{place}: {name} is {list(found[name])}, the model's is {list(expected[name])}: {_REMEDY}")


def _checksum(state: TrainState) -> int:
    """The CRC-32 of a state's bytes, because Orbax does not detect changed bytes."""
    total = 0
    for leaf in jax.tree.leaves(state):
        total = zlib.crc32(np.asarray(leaf).tobytes(), total)
    return total


def _shapes(tree: Any) -> dict[str, tuple[int, ...]]:
    """Dotted path to shape, for trees of arrays and for Orbax's metadata of a saved tree."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {jax.tree_util.keystr(path, simple=True, separator="."): tuple(leaf.shape) for path, leaf in leaves}


def flatten(tree: Params, prefix: str = "", asarray: bool = True) -> dict[str, Any]:
    """Converts nested dictionaries to one with dotted names."""
    flat = {}
    for name, value in tree.items():
        if isinstance(value, dict):
            flat |= flatten(value, f"{prefix}{name}.", asarray)
        else:
            flat[prefix + name] = np.asarray(value) if asarray else value
    return flat


def unflatten(flat: dict[str, Any]) -> Params:
    """The inverse of `flatten`."""
    tree: Params = {}
    for name, value in flat.items():
        *parents, leaf = name.split(".")
        node = tree
        for parent in parents:
            node = node.setdefault(parent, {})
        node[leaf] = value
    return tree
