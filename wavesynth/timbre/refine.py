"""Gradient search in a latent space.

"Creation by refinement" (Lewis, 1988) trains a critic, and changes a work by gradient descent until the critic approves of it.
Here, the critic is any differentiable objective, such as the distance from a given sound.
"""

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from wavesynth.progress import Progress

KEPT = 8  # compiled searches


def refine(
    objective: Callable[..., jax.Array], starts: Any, *, given: tuple = (), steps: int = 200, learning_rate: float = 0.05,
    progress: bool = False, description: str = "searching",
) -> tuple[Any, float]:  # fmt: skip
    """Minimises an objective with Adam from several starts in parallel, and returns the best point found.

    Args:
        objective: maps points, a tree of float arrays [S, ...], and the trees in `given` to float [S]; lower is better. It must
            be pure and differentiable, and the value of a point must not depend on the other points.
        starts: initial points, a tree of float arrays [S, ...].
        given: constant trees of arrays, such as the target sound. A later search with the same function and shapes does not
            compile again.
        steps: number of steps of Adam (Kingma and Ba, 2015).
        learning_rate: the initial learning rate; it decays to 0 along a cosine.
        progress: show a progress bar.
        description: title of the bar.

    Returns:
        The best point (the tree without S) and its value. The result is deterministic.

    >>> point, value = refine(lambda z: ((z - 3.0) ** 2).sum(axis=1), np.zeros((1, 2), np.float32), learning_rate=0.5)
    >>> bool(value < 0.01)
    True
    """
    begin, advance = _programs(objective, steps, learning_rate)
    state, given = begin(starts), jax.device_put(given)
    # A step evaluates the points that it starts from, so one more than `steps` evaluates the points after the last.
    with Progress(steps, "step", description, shown=progress) as bar:
        for step in range(steps + 1):
            state = advance(state, *given)
            bar.update(min(1, step), f"best {np.min(state[3]):.3f}" if progress else "")
    _, _, points, values = state
    best = int(np.argmin(values))
    return jax.tree.map(lambda leaf: np.asarray(leaf)[best], points), float(values[best])


@lru_cache(maxsize=KEPT)
def _programs(objective: Callable[..., jax.Array], steps: int, learning_rate: float) -> tuple[Callable, Callable]:
    """Functions for the initial state and for one step: (points, optimiser state, best points, their values)."""
    optimizer = optax.adam(optax.cosine_decay_schedule(learning_rate, max(steps, 1)))

    def begin(starts: Any) -> tuple:
        points = jax.tree.map(jnp.asarray, starts)
        return points, optimizer.init(points), points, jnp.full(len(jax.tree.leaves(points)[0]), jnp.inf, jnp.float32)

    def advance(state: tuple, *given: Any) -> tuple:
        points, moments, *best = state
        values, pullback = jax.vjp(lambda some: objective(some, *given), points)
        (gradients,) = pullback(jnp.ones_like(values))
        updates, moments = optimizer.update(gradients, moments)
        return optax.apply_updates(points, updates), moments, *_better(values, points, best)

    return jax.jit(begin), jax.jit(advance)  # a loop over all steps in one program would run slower on a CPU


def _better(values: jax.Array, points: Any, best: Any) -> tuple[Any, jax.Array]:
    """The better of the current and the best points, element by element, and their values. NaN is never better."""
    better = values < best[1]
    chosen = jax.tree.map(
        lambda new, old: jnp.where(better.reshape(-1, *[1] * (new.ndim - 1)), new, old), points, best[0]
    )
    return chosen, jnp.where(better, values, best[1])
