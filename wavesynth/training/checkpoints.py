"""What a run keeps on disk: training states by Orbax, and the published weights as safetensors.

```
RUN/
  config.json         family, network, training, and what was learned of the sounds
  states/STEP/        the whole training state, the latest few; what `resume` reads
  model.safetensors   the moving average of the weights at the best validation so far; what `load` reads
```
Every file appears complete or not at all. Nothing is pickled: a checkpoint cannot run code.
"""

import errno
import gc
import json
import logging
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from wavesynth import strict_tensors
from wavesynth.errors import UserError
from wavesynth.strict_tensors import Described
from wavesynth.training.state import Params, TrainState

WEIGHTS = "model.safetensors"
DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_MAKE_ROOM = "make room or mend it, and go on by --resume"
_REMEDY = "use the pair of config.json and weights that was written together, or train again"
_MAY_BE_UNKNOWN = ("memory.pitch",)  # NaN stands for no pitch


class States:
    """The latest training states of a run, written in the background."""

    def __init__(self, run: Path, keep: int) -> None:
        import orbax.checkpoint as ocp

        logging.getLogger("absl").setLevel(logging.CRITICAL)  # what it logs as an error is raised too
        self._ocp = ocp
        self._folder = run / "states"
        self._manager = ocp.CheckpointManager(
            self._folder.absolute(),
            item_handlers={"state": ocp.StandardCheckpointHandler(), "meta": ocp.JsonCheckpointHandler()},
            options=ocp.CheckpointManagerOptions(max_to_keep=keep, create=True, cleanup_tmp_directories=True),
        )

    @property
    def latest(self) -> int | None:
        """The step of the newest complete state; None if there is none."""
        return self._manager.latest_step()

    def save(self, state: TrainState, meta: dict[str, Any], wait: bool = False) -> None:
        """Saves a state and what belongs to it. A failure of the last save that was not waited for is raised here too."""
        step = int(state.step)
        content = self._ocp.args.Composite(
            state=self._ocp.args.StandardSave(state), meta=self._ocp.args.JsonSave(meta | {"sum": int(_sum(state))})
        )

        def save() -> None:
            if step not in self._manager.all_steps():
                self._check_room(state)
                self._manager.save(step, args=content)
            if wait:
                self._manager.wait_until_finished()

        self._ask(save, "state cannot be written", _MAKE_ROOM)

    def restore(self, template: TrainState) -> tuple[TrainState, dict[str, Any]]:
        """The newest state, laid out and placed as `template` is.

        Raises:
            UserError: it is damaged, or its tree or a shape is not that of `template`.
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
            if restored["meta"].pop("sum", None) != int(_sum(restored["state"])):
                raise ValueError("its checksum differs")
            return restored

        remedy = "delete its folder to go on from the one before"
        restored = self._ask(restore, f"state {step} is damaged", remedy)
        return restored["state"], restored["meta"]

    def close(self) -> None:
        self._ask(self._manager.close, "state cannot be written", _MAKE_ROOM)

    def _check_room(self, state: TrainState) -> None:
        """Sees a full disk before Orbax runs into it: a state never takes more than its arrays and some small files."""
        need = sum(leaf.nbytes for leaf in jax.tree.leaves(state)) + 2**19
        free = shutil.disk_usage(self._folder).free
        if free < need:
            raise UserError(
                f"the disk of {self._folder} is full: a state needs {need / 1e6:,.1f} MB, {free / 1e6:,.1f} MB are free; "
                f"{self._saved()}; make room, and go on by --resume"
            )

    def _saved(self) -> str:
        return "no state is saved yet" if self.latest is None else f"the state of step {self.latest} is saved"

    def _ask(self, orbax: Callable[[], Any], problem: str, remedy: str) -> Any:
        """Makes a failure of Orbax a UserError. What it left half done complains too, by pages of tracebacks: hush."""
        usual = sys.unraisablehook
        sys.unraisablehook = lambda _: None
        try:
            try:
                return orbax()
            except UserError:
                raise
            except Exception as error:
                full = os.strerror(errno.ENOSPC) in str(error)
                reason = "the disk is full" if full else " ".join(str(error).split())[:300] or type(error).__name__
            gc.collect()  # that is when some of it complains; the rest does when it is done
            usual = _without_closed_loops(usual)
        finally:
            sys.unraisablehook = usual
        raise UserError(f"{self._folder}: {problem} ({reason}); {self._saved()}; {remedy}")


def _without_closed_loops(usual: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """A hook for ignored exceptions that drops those of reads and writes that outlived the event loop they began in."""

    def hook(ignored: Any) -> None:
        if str(ignored.exc_value) != "Event loop is closed":
            usual(ignored)

    return hook


def publish(run: Path, params: Params, meta: dict[str, Any]) -> None:
    """Writes the weights to RUN/model.safetensors."""
    from safetensors.numpy import save

    content = save(flatten(params), metadata={"wavesynth": json.dumps(meta)})
    replace(run / WEIGHTS, content)


def replace(path: Path, content: bytes) -> None:
    """Writes a file that appears complete or not at all: under another name first, which then takes the old one's place."""
    temporary = path.with_name(path.name + ".tmp")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
    os.replace(temporary, path)


def read_weights(run: Path, expected: Params) -> Params:
    """The published weights of a run.

    The file's header is compared with `expected` before anything is read, so that a file takes no more memory than a model
    of its config has.

    Args:
        run: the folder of the run.
        expected: the tree of the model's parameters, arrays or shapes.

    Raises:
        UserError: there are no weights yet, the file is damaged or belongs to another config.json, or the weights are not
            finite numbers.
    """
    path = run / WEIGHTS
    if not path.exists():
        raise UserError(f"{run} has no {WEIGHTS}: its training saved nothing yet; go on with it by --resume")
    leaves = flatten(expected, asarray=False)
    wanted = {name: Described(tuple(leaf.shape), str(leaf.dtype)) for name, leaf in leaves.items()}
    return unflatten(strict_tensors.read(path, wanted, _REMEDY, nan_allowed=_MAY_BE_UNKNOWN))


def _compare(found: dict[str, tuple[int, ...]], expected: dict[str, tuple[int, ...]], place: str) -> None:
    """Names the first array of a file that is not as the config says."""
    for name in sorted(set(expected) | set(found)):
        if name not in found:
            raise UserError(f"{place} lacks {name} {list(expected[name])}: {_REMEDY}")
        if name not in expected:
            raise UserError(f"{place} holds {name} {list(found[name])}, which the model does not have: {_REMEDY}")
        if found[name] != expected[name]:
            raise UserError(f"{place}: {name} is {list(found[name])}, the model's is {list(expected[name])}: {_REMEDY}")


@jax.jit
def _sum(state: TrainState) -> jax.Array:
    """The sum of a state's bits, taken as integers, modulo 2^32: Orbax does not notice a byte that was changed."""
    leaves = [jnp.ravel(leaf) for leaf in jax.tree.leaves(state)]
    words = [jax.lax.bitcast_convert_type(leaf, f"uint{8 * leaf.dtype.itemsize}") for leaf in leaves]
    return jnp.stack([jnp.sum(word, dtype=jnp.uint32) for word in words]).sum(dtype=jnp.uint32)


def _shapes(tree: Any) -> dict[str, tuple[int, ...]]:
    """Dotted path to shape, for trees of arrays and for what Orbax knows of one on disk."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {jax.tree_util.keystr(path, simple=True, separator="."): tuple(leaf.shape) for path, leaf in leaves}


def flatten(tree: Params, prefix: str = "", asarray: bool = True) -> dict[str, Any]:
    """Nested dictionaries to one with dotted names."""
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
