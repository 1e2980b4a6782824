"""Search in a latent space for what is wanted, by gradients.

To hear what a model can be moved to make is an old idea: "creation by refinement" (Lewis, 1988) learns a discriminator and then
changes a work by gradient descent until the discriminator is pleased. Here the discriminator may be any differentiable metric: the
distance from a given sound, or minus the brightness.
"""

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

KEPT = 8  # compiled searches


def refine(
    metric: Callable[..., jax.Array], starts: Any, *, given: tuple = (), steps: int = 200, learning_rate: float = 0.05,
    progress: bool = False, what: str = "searching",
) -> tuple[Any, float]:  # fmt: skip
    """The point at which `metric` is least, of all that Adam comes by from several starts at once.

    metric: points, a tree of float arrays [S, ...], and all that is `given`, to float [S]; lower is better. Pure and
    differentiable; a point's metric must not depend on the other points. starts: such points. given: trees of arrays that
    stay as they are, such as the sound to come near: a later search by the same function, with others of their shapes,
    compiles nothing. learning_rate: falls to 0 along a cosine.

    Returns the best point (the tree without S) and its metric. Deterministic.

    >>> brightest, _ = refine(lambda z: -spectral_centroid(generate(z), rate), starts)
    """
    from tqdm import tqdm

    begin, advance = _programs(metric, steps, learning_rate)
    state, given = begin(starts), jax.device_put(given)
    # A step judges the points that it starts from, so one more than `steps` judges where the last of them has led.
    with tqdm(total=steps, desc=what, unit="step", disable=not progress) as bar:
        for step in range(steps + 1):
            state = advance(state, *given)
            bar.update(min(1, step))
            bar.set_postfix_str(f"best {np.min(state[3]):.3f}")
    _, _, points, metrics = state
    best = int(np.argmin(metrics))
    return jax.tree.map(lambda leaf: np.asarray(leaf)[best], points), float(metrics[best])


@lru_cache(maxsize=KEPT)
def _programs(metric: Callable[..., jax.Array], steps: int, learning_rate: float) -> tuple[Callable, Callable]:
    """The state before the first step, and one step: (points, the optimiser's state, the best points, their metrics)."""
    optimizer = optax.adam(optax.cosine_decay_schedule(learning_rate, max(steps, 1)))

    def begin(starts: Any) -> tuple:
        points = jax.tree.map(jnp.asarray, starts)
        return points, optimizer.init(points), points, jnp.full(len(jax.tree.leaves(points)[0]), jnp.inf, jnp.float32)

    def advance(state: tuple, *given: Any) -> tuple:
        points, moments, *best = state
        metrics, pull = jax.vjp(lambda some: metric(some, *given), points)
        (gradients,) = pull(jnp.ones_like(metrics))
        updates, moments = optimizer.update(gradients, moments)
        return optax.apply_updates(points, updates), moments, *_better(metrics, points, best)

    return jax.jit(begin), jax.jit(advance)  # a loop over all steps in one program would run slower on a CPU


def _better(metrics: jax.Array, points: Any, best: Any) -> tuple[Any, jax.Array]:
    """The better of points and the best so far, and their metrics; what is no number is the worst."""
    better = metrics < best[1]  # of no number, never
    chosen = jax.tree.map(
        lambda new, old: jnp.where(better.reshape(-1, *[1] * (new.ndim - 1)), new, old), points, best[0]
    )
    return chosen, jnp.where(better, metrics, best[1])
