"""Pieces of networks. Activations are [channels, time], one example at a time.

On a CPU this layout makes products of plain row-major matrices in both directions and lets shifted copies and halves of
gates be whole rows. One training step of 20 layers of 64 channels took 0.75 times what it takes with [time, channels].
"""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

UNROLLED = 4  # examples side by side in one program on a CPU; more make it long to compile


def dense(rngs: nnx.Rngs, inputs: int, outputs: int, scale: float = 1.0) -> nnx.Param:
    """A matrix [inputs, outputs] of variance scale^2 / inputs."""
    return nnx.Param(jax.random.normal(rngs.params(), (inputs, outputs)) * (scale / np.sqrt(inputs)))


def zeros(*shape: int) -> nnx.Param:
    return nnx.Param(jnp.zeros(shape))


def affine(matrix: nnx.Param, bias: nnx.Param, x: jax.Array) -> jax.Array:
    """matrix [I, O] and bias [O] on x [I, t], in the dtype of x: [O, t]."""
    return product(matrix[...].astype(x.dtype), x) + bias[...].astype(x.dtype)[:, None]


@jax.custom_vjp
def product(matrix: jax.Array, x: jax.Array) -> jax.Array:
    """matrix.T @ x: [I, O] and [I, t] to [O, t]."""
    return matrix.T @ x


def _product_forward(matrix: jax.Array, x: jax.Array) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return product(matrix, x), (matrix, x)


def _product_backward(saved: tuple[jax.Array, jax.Array], gradient: jax.Array) -> tuple[jax.Array, jax.Array]:
    matrix, x = saved
    # The barrier keeps XLA from folding the transposition of the small matrix into a slower product.
    return x @ gradient.T, jax.lax.optimization_barrier(matrix) @ gradient


product.defvjp(_product_forward, _product_backward)


def shifted_copies(x: jax.Array, shifts: Sequence[int], length: int) -> jax.Array:
    """The last `length` places of x [C, t], as they were so many steps before: [len(shifts) C, length].

    Zeros stand in for places before the first one.
    """
    zero = jnp.zeros((), x.dtype)
    before = length - x.shape[1]
    copies = [jax.lax.pad(x, zero, ((0, 0, 0), (before + shift, -shift, 0))) for shift in shifts]
    return jnp.concatenate(jax.lax.optimization_barrier(copies))  # plain copies, not one scalar loop


@jax.custom_vjp
def gate(z: jax.Array) -> jax.Array:
    """tanh(z[:C]) sigmoid(z[C:]): [2 C, t] to [C, t]. Both are one tanh: sigmoid(b) = tanh(b / 2) / 2 + 1 / 2."""
    return _gate_forward(z)[0]


def _gate_forward(z: jax.Array) -> tuple[jax.Array, jax.Array]:
    y = jnp.tanh(_rows(1, 0.5, z.dtype) * z.reshape(2, -1, z.shape[1]))
    return y[0] * (0.5 * y[1] + 0.5), y


def _gate_backward(y: jax.Array, gradient: jax.Array) -> tuple[jax.Array]:
    # The derivative by each half, with the halves swapped by [::-1]: a concatenation here would run as scalar code.
    other = _rows(0.5, 0.25, y.dtype) * y[::-1] + _rows(0.5, 0, y.dtype)
    return ((gradient[None] * (1 - y * y) * other).reshape(-1, y.shape[2]),)


gate.defvjp(_gate_forward, _gate_backward)


def _rows(first: float, second: float, dtype: jnp.dtype) -> jax.Array:
    return jnp.array([first, second], dtype)[:, None, None]


def one_hot(place: jax.Array, size: int) -> jax.Array:
    """Real numbers [...] to [..., size]: 1 at that place, shared linearly between two neighbours; all 0 for NaN."""
    places = jnp.expand_dims(jnp.arange(size), range(place.ndim))
    weights = jnp.maximum(0.0, 1.0 - jnp.abs(places - place[..., None]))
    return jnp.where(jnp.isnan(place)[..., None], 0.0, weights)


def over_examples(function: Callable, *batched: jax.Array | None) -> jax.Array:
    """`function` of every example of the arguments [B, ...] (None is passed on), stacked.

    One CPU runs a few examples side by side, each in code of its own, faster than one batch; other devices, and many,
    take the batch. The code holds fewer than 2 * UNROLLED examples, whatever the batch: a loop over groups, and the rest.
    """
    if jax.default_backend() != "cpu" or jax.device_count() > 1:
        return jax.vmap(function, in_axes=[None if leaf is None else 0 for leaf in batched])(*batched)
    size = next(leaf.shape[0] for leaf in batched if leaf is not None)
    if size > UNROLLED:
        rest = size % UNROLLED
        groups = [
            None if leaf is None else leaf[: size - rest].reshape(-1, UNROLLED, *leaf.shape[1:]) for leaf in batched
        ]
        outputs = jax.lax.map(lambda group: over_examples(function, *group), tuple(groups))
        outputs = outputs.reshape(size - rest, *outputs.shape[2:])
        if rest:
            last = over_examples(function, *(None if leaf is None else leaf[size - rest :] for leaf in batched))
            outputs = jnp.concatenate([outputs, last])
        return outputs
    each = [[None if leaf is None else leaf[index] for leaf in batched] for index in range(size)]
    return jnp.stack([function(*example) for example in each])
