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

    optimizer = optax.adam(optax.cosine_decay_schedule(learning_rate, max(steps, 1)))
    points = jax.tree.map(jnp.asarray, starts)
    figures = figure(points)
    state = (points, optimizer.init(points), points, figures)
    advance = jax.jit(partial(_advance, figure, optimizer))  # a loop inside it would run slower on a CPU
    with tqdm(total=steps, desc=what, unit="step", disable=not progress) as bar:
        for _ in range(steps):
            state = advance(state)
            bar.update()
            bar.set_postfix_str(f"best {float(state[3].min()):.3f}")
    _, _, points, figures = state
    best = int(jnp.argmin(figures))
    return jax.tree.map(lambda leaf: np.asarray(leaf[best]), points), float(figures[best])


def _advance(figure: Callable, optimizer: optax.GradientTransformation, state: tuple) -> tuple:
    """One step from (points, the optimiser's state, the best points so far, their figures)."""
    points, moments, best, least = state
    figures, pull = jax.vjp(figure, points)
    (gradients,) = pull(jnp.ones_like(figures))
    better = figures < least
    best = jax.tree.map(lambda new, old: jnp.where(better.reshape(-1, *[1] * (new.ndim - 1)), new, old), points, best)
    updates, moments = optimizer.update(gradients, moments)
    return optax.apply_updates(points, updates), moments, best, jnp.minimum(figures, least)
