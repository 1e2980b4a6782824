"""Search in a latent space for what is wanted, by gradients.

To hear what a model can be moved to make is an old idea: "creation by refinement" (Lewis, 1988) learns a critic and then
changes a work by gradient descent until the critic is pleased. Here the critic may be any differentiable figure: the
distance from a given sound, or minus the brightness.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

STEPS_AT_ONCE = 10  # between two movements of the bar, and two chances to interrupt


def refine(
    figure: Callable[[Any], jax.Array], starts: Any, *, steps: int = 200, learning_rate: float = 0.05,
    progress: bool = False, what: str = "searching",
) -> tuple[Any, float]:  # fmt: skip
    """The point at which `figure` is least, of all that Adam comes by from several starts at once.

    figure: points, a tree of float arrays [S, ...], to float [S]; lower is better. Pure and differentiable; a point's
    figure must not depend on the other points. starts: such points. learning_rate: falls to 0 along a cosine.

    Returns the best point (the tree without S) and its figure. Deterministic.

    >>> brightest, _ = refine(lambda z: -spectral_centroid(generate(z), rate), starts)
    """
    from tqdm import tqdm

    optimizer = optax.adam(optax.cosine_decay_schedule(learning_rate, steps))
    points = jax.tree.map(jnp.asarray, starts)
    state = (points, optimizer.init(points), points, jnp.full(len(jax.tree.leaves(points)[0]), jnp.inf))
    advance = jax.jit(partial(_advance, figure, optimizer))
    with tqdm(total=steps, desc=what, unit="step", disable=not progress) as bar:
        for first in range(0, steps, STEPS_AT_ONCE):
            count = min(STEPS_AT_ONCE, steps - first)
            state = advance(state, jnp.int32(count))
            bar.update(count)
            bar.set_postfix_str(f"best {float(state[3].min()):.3f}")
    _, _, points, figures = state
    best = int(jnp.argmin(figures))
    return jax.tree.map(lambda leaf: np.asarray(leaf[best]), points), float(figures[best])


def _advance(figure: Callable, optimizer: optax.GradientTransformation, state: tuple, count: jax.Array) -> tuple:
    """`count` steps from (points, the optimiser's state, the best points so far, their figures)."""

    def step(_: jax.Array, state: tuple) -> tuple:
        points, moments, best, least = state
        figures, pull = jax.vjp(figure, points)
        (gradients,) = pull(jnp.ones_like(figures))
        better = figures < least
        best = jax.tree.map(
            lambda new, old: jnp.where(better.reshape(-1, *[1] * (new.ndim - 1)), new, old), points, best
        )
        updates, moments = optimizer.update(gradients, moments)
        return optax.apply_updates(points, updates), moments, best, jnp.minimum(figures, least)

    return jax.lax.fori_loop(0, count, step, state)
