"""From a module to pure functions over a plain pytree: the one place where networks leave Flax."""

from collections.abc import Callable
from typing import Any, TypeVar

import jax
from flax import nnx

Params = dict[str, Any]  # nested dictionaries of arrays; members of a list are under "0", "1", ...
Module = TypeVar("Module", bound=nnx.Module)


def initialize(make: Callable[[nnx.Rngs], nnx.Module], key: jax.Array) -> Params:
    """Fresh parameters of the module that `make(rngs)` builds."""
    return _rekey(nnx.to_pure_dict(nnx.state(make(nnx.Rngs(params=key)))), str)


def pure(make: Callable[[nnx.Rngs], Module]) -> Callable[[Params], Module]:
    """A function from parameters to the module that holds them; the module's structure is found once, without computing.

    >>> bind = pure(lambda rngs: WaveNet(config, rngs=rngs))
    >>> outputs = bind(params)(samples)         # inside jit or grad
    """
    graph, _ = nnx.split(nnx.eval_shape(lambda: make(nnx.Rngs(0))))
    return lambda params: nnx.merge(graph, _rekey(params, lambda key: int(key) if key.isdigit() else key))


def _rekey(tree: Any, rename: Callable[[Any], Any]) -> Any:
    if isinstance(tree, dict):
        return {rename(key): _rekey(value, rename) for key, value in tree.items()}
    return tree
