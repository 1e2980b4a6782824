"""Converts Flax modules to pure functions of plain pytrees."""

import math
import os
from collections.abc import Callable
from typing import Any, TypeVar

import jax
from flax import nnx

from wavesynth.errors import UserError

Params = dict[str, Any]  # nested dictionaries of arrays; members of a list are under "0", "1", ...
Module = TypeVar("Module", bound=nnx.Module)
MOST_PARAMETERS = 2**32  # 16 GB in float32


def initialize(make: Callable[[nnx.Rngs], nnx.Module], key: jax.Array) -> Params:
    """Fresh parameters of the module that `make(rngs)` builds.

    Args:
        make: builds the module from its random streams.
        key: random key for the parameters.

    Raises:
        UserError: the parameters would not fit in this machine's memory. Raised before anything is allocated.

    >>> initialize(lambda rngs: nnx.Linear(2, 3, rngs=rngs), jax.random.key(0))["kernel"].shape
    (2, 3)
    """
    shapes(make)
    return _fresh(make, key)


def shapes(make: Callable[[nnx.Rngs], nnx.Module]) -> Params:
    """The tree that `initialize` returns, as shapes and dtypes without values.

    Raises:
        UserError: the parameters would not fit into this machine's memory.

    >>> shapes(lambda rngs: nnx.Linear(2, 3, rngs=rngs))["kernel"].shape
    (2, 3)
    """
    tree = jax.eval_shape(lambda: _fresh(make, jax.random.key(0)))
    count = sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(tree))
    if count > most_parameters():
        raise UserError(
            f"the model would have {count:,} parameters, but at most {most_parameters():,} fit in memory here: choose fewer "
            "layers or channels"
        )
    return tree


def most_parameters() -> int:
    """The number of float32 values that fit in this machine's memory, at most `MOST_PARAMETERS`."""
    try:
        memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):  # not on Windows
        return MOST_PARAMETERS
    return min(MOST_PARAMETERS, memory // 4) if memory > 0 else MOST_PARAMETERS


def pure(make: Callable[[nnx.Rngs], Module]) -> Callable[[Params], Module]:
    """A function from parameters to a module with these parameters. The structure is determined once, without computing.

    >>> make = lambda rngs: nnx.Linear(2, 3, rngs=rngs)
    >>> bind, params = pure(make), initialize(make, jax.random.key(0))
    >>> bind(params)(jax.numpy.ones((1, 2))).shape                          # also inside jit and grad
    (1, 3)
    """
    graph, _ = nnx.split(nnx.eval_shape(lambda: make(nnx.Rngs(0))))
    return lambda params: nnx.merge(graph, _rekey(params, lambda key: int(key) if key.isdigit() else key))


def _fresh(make: Callable[[nnx.Rngs], nnx.Module], key: jax.Array) -> Params:
    return _rekey(nnx.to_pure_dict(nnx.state(make(nnx.Rngs(params=key)))), str)


def _rekey(tree: Any, rename: Callable[[Any], Any]) -> Any:
    if isinstance(tree, dict):
        return {rename(key): _rekey(value, rename) for key, value in tree.items()}
    return tree
