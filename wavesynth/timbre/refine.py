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
    judge = jax.jit(figure)
    state = (points, optimizer.init(points), *_better(judge(points), points, None))
    advance = jax.jit(partial(_advance, figure, optimizer))  # a loop inside it would run slower on a CPU
    with tqdm(total=steps, desc=what, unit="step", disable=not progress) as bar:
        for _ in range(steps):
            state = advance(state)
            bar.update()
            bar.set_postfix_str(f"best {float(state[3].min()):.3f}")
    last, _, points, figures = state
    points, figures = _better(judge(last), last, (points, figures))
    best = int(jnp.argmin(figures))
    return jax.tree.map(lambda leaf: np.asarray(leaf[best]), points), float(figures[best])


def _advance(figure: Callable, optimizer: optax.GradientTransformation, state: tuple) -> tuple:
    """One step from (points, the optimiser's state, the best points so far, their figures)."""
    points, moments, *best = state
    figures, pull = jax.vjp(figure, points)
    (gradients,) = pull(jnp.ones_like(figures))
    updates, moments = optimizer.update(gradients, moments)
    return optax.apply_updates(points, updates), moments, *_better(figures, points, best)


def _better(figures: jax.Array, points: Any, best: Any) -> tuple[Any, jax.Array]:
    """The better of points and the best so far (None at first), and their figures; what is no number is the worst."""
    figures = jnp.where(jnp.isnan(figures), jnp.inf, figures)
    if best is None:
        return points, figures
    better = figures < best[1]
    chosen = jax.tree.map(
        lambda new, old: jnp.where(better.reshape(-1, *[1] * (new.ndim - 1)), new, old), points, best[0]
    )
    return chosen, jnp.where(better, figures, best[1])
