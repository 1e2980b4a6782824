"""What a run keeps on disk: training states by Orbax, and the published weights as safetensors.

```
RUN/
  config.json         family, network, training, and what was learned of the sounds
  states/STEP/        the whole training state, the latest few; what `resume` reads
  model.safetensors   the moving average of the weights at the best validation so far; what `load` reads
```
Every file appears complete or not at all. Nothing is pickled: a checkpoint cannot run code.
"""

import json
import logging
import os
from pathlib import Path
from typing import Any

import jax
import numpy as np

from wavesynth.errors import UserError
from wavesynth.training.state import Params, TrainState

WEIGHTS = "model.safetensors"


class States:
    """The latest training states of a run, written in the background."""

    def __init__(self, run: Path, keep: int) -> None:
        import orbax.checkpoint as ocp

        logging.getLogger("absl").setLevel(logging.ERROR)
        self._ocp = ocp
        self._manager = ocp.CheckpointManager(
            (run / "states").absolute(), options=ocp.CheckpointManagerOptions(max_to_keep=keep, create=True)
        )

    @property
    def latest(self) -> int | None:
        """The step of the newest complete state; None if there is none."""
        return self._manager.latest_step()

    def save(self, state: TrainState, meta: dict[str, Any], wait: bool = False) -> None:
        step = int(state.step)
        if step not in self._manager.all_steps():
            save = self._ocp.args.Composite(
                state=self._ocp.args.StandardSave(state), meta=self._ocp.args.JsonSave(meta)
            )
            self._manager.save(step, args=save)
        if wait:
            self._manager.wait_until_finished()

    def restore(self, template: TrainState) -> tuple[TrainState, dict[str, Any]]:
        """The newest state, laid out and placed as `template` is."""
        abstract = jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=leaf.sharding), template
        )
        restored = self._manager.restore(
            self.latest,
            args=self._ocp.args.Composite(
                state=self._ocp.args.StandardRestore(abstract), meta=self._ocp.args.JsonRestore()
            ),
        )
        return restored["state"], restored["meta"]

    def close(self) -> None:
        self._manager.wait_until_finished()
        self._manager.close()


def publish(run: Path, params: Params, meta: dict[str, Any]) -> None:
    """Writes the weights to RUN/model.safetensors: in a new file first, which then takes the old one's place."""
    from safetensors.numpy import save

    content = save(flatten(params), metadata={"wavesynth": json.dumps(meta)})
    temporary = run / (WEIGHTS + ".tmp")
    with temporary.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, run / WEIGHTS)


def read_weights(run: Path, expected: Params) -> Params:
    """The published weights of a run, if they fit `expected` (a tree of arrays or shapes); else a UserError says where."""
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    path = run / WEIGHTS
    if not path.exists():
        raise UserError(f"{run} has no {WEIGHTS}: its training saved nothing yet; go on with it by --resume")
    try:
        found = load_file(path)
    except SafetensorError as error:
        raise UserError(
            f"{path} cannot be read ({error}): it is damaged; restore it, or resume the training"
        ) from error
    shapes = {name: leaf.shape for name, leaf in flatten(expected, asarray=False).items()}
    remedy = "the file belongs to another config.json; use the pair that was written together"
    for name in sorted(set(shapes) | set(found)):
        if name not in found:
            raise UserError(f"{path} lacks {name} {list(shapes[name])}: {remedy}")
        if name not in shapes:
            raise UserError(f"{path} holds {name} {list(found[name].shape)}, which the model does not have: {remedy}")
        if found[name].shape != shapes[name]:
            raise UserError(
                f"{path}: {name} is {list(found[name].shape)}, the model's is {list(shapes[name])}: {remedy}"
            )
    return unflatten(found)


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
