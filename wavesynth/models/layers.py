"""Layers for activations [channels, time], one example at a time.

On a CPU, this layout turns convolutions into products of row-major matrices, forward and backward, and shifted copies and the
halves of a gate into whole rows. A training step with 20 layers of 64 channels takes 0.75 times as long as with
[time, channels].
"""

import math
from collections.abc import Callable, Sequence
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float

from wavesynth.errors import UserError

MOST_REMEMBERED = 2**26  # cached values of one stream: 256 MB
OCTAVE = 12.0  # semitones
DRAWN = 4**7  # random numbers drawn at least for fresh weights
PITCH_FEATURES = 12  # for MIDI pitches 0 to 127, and the octave above
UNROLLED = 4  # examples unrolled in one program on a CPU; more take long to compile


def check_remembered(name: str, channels: int, places: int) -> None:
    """Raises UserError if a stream of a causal network would cache more than `MOST_REMEMBERED` values.

    Args:
        name: the name of the field with the number of channels.
        channels: number of channels of the layers.
        places: total number of past inputs that the layers cache.
    """
    if channels * places > MOST_REMEMBERED:
        raise UserError(
            f"{name} is {channels:,}: with these dilations, a stream would cache {channels * places:,} values, more than "
            f"{MOST_REMEMBERED:,}"
        )


def gaussian(rngs: nnx.Rngs, *shape: int, scale: float = 1.0) -> nnx.Param:
    """Parameters that begin as Gaussian numbers of standard deviation `scale`.

    They are those of `jax.random.normal`, but drawn in lengths that are powers of 4, so that few programs are compiled for the
    shapes of a model. Compiling takes longer than drawing.
    """
    count = max(DRAWN, 4 ** math.ceil((math.prod(shape) - 1).bit_length() / 2))
    return nnx.Param(_scaled(jax.random.normal(rngs.params(), (count,)), scale, shape))


@partial(jax.jit, static_argnames="shape")
def _scaled(drawn: jax.Array, scale: float, shape: tuple[int, ...]) -> jax.Array:
    return scale * drawn[: math.prod(shape)].reshape(shape)


def dense(rngs: nnx.Rngs, inputs: int, outputs: int, scale: float = 1.0) -> nnx.Param:
    """A matrix [inputs, outputs] of variance scale^2 / inputs."""
    return gaussian(rngs, inputs, outputs, scale=scale / math.sqrt(inputs))


def zeros(*shape: int) -> nnx.Param:
    """A parameter that begins at zero."""
    return nnx.Param(jnp.zeros(shape))


def affine(matrix: nnx.Param, bias: nnx.Param, x: Float[Array, "inputs time"]) -> Float[Array, "outputs time"]:
    """``matrix.T @ x + bias``, in the dtype of x; matrix [inputs, outputs], bias [outputs]."""
    return product(matrix[...].astype(x.dtype), x) + bias[...].astype(x.dtype)[:, None]


@jax.custom_vjp
def product(matrix: Float[Array, "inputs outputs"], x: Float[Array, "inputs time"]) -> Float[Array, "outputs time"]:
    """``matrix.T @ x``.

    >>> product(jnp.ones((3, 2)), jnp.ones((3, 5))).shape
    (2, 5)
    """
    return matrix.T @ x


def _product_forward(matrix: Array, x: Array) -> tuple[Array, tuple[Array, Array]]:
    return product(matrix, x), (matrix, x)


def _product_backward(saved: tuple[Array, Array], gradient: Array) -> tuple[Array, Array]:
    matrix, x = saved
    # The barrier keeps XLA from folding the transposition of the small matrix into a slower product.
    return x @ gradient.T, jax.lax.optimization_barrier(matrix) @ gradient


product.defvjp(_product_forward, _product_backward)


def shifted_copies(
    x: Float[Array, "channels time"], shifts: Sequence[int], length: int
) -> Float[Array, "shifted_channels {length}"]:
    """The last `length` places of x, once for each shift, that many places earlier; the copies are stacked.

    Zeros stand for places before the first one. With the taps of a dilated causal convolution as shifts, a product with its
    kernel is that convolution.

    Args:
        x: what is copied.
        shifts: in places, 0 or more.
        length: places of each copy.

    Returns:
        [len(shifts) channels, length].

    >>> shifted_copies(jnp.array([[1.0, 2.0, 3.0]]), [1, 0], 3).tolist()
    [[0.0, 1.0, 2.0], [1.0, 2.0, 3.0]]
    """
    zero = jnp.zeros((), x.dtype)
    before = length - x.shape[1]
    copies = [jax.lax.pad(x, zero, ((0, 0, 0), (before + shift, -shift, 0))) for shift in shifts]
    return jnp.concatenate(jax.lax.optimization_barrier(copies))  # plain copies, not one scalar loop


@jax.custom_vjp
def gate(z: Float[Array, "two_channels time"]) -> Float[Array, "channels time"]:
    """The gated activation of WaveNet (van den Oord et al., 2016), ``tanh(z[:C]) sigmoid(z[C:])``: [2 C, t] to [C, t].

    Both halves are one tanh, as ``sigmoid(b) = tanh(b / 2) / 2 + 1 / 2``.
    """
    return _gate_forward(z)[0]


def _gate_forward(z: Array) -> tuple[Array, Array]:
    y = jnp.tanh(_rows(1, 0.5, z.dtype) * z.reshape(2, -1, z.shape[1]))
    return y[0] * (0.5 * y[1] + 0.5), y


def _gate_backward(y: Array, gradient: Array) -> tuple[Array]:
    # The derivative by each half, with the halves swapped by [::-1]: a concatenation here would run as scalar code.
    other = _rows(0.5, 0.25, y.dtype) * y[::-1] + _rows(0.5, 0, y.dtype)
    return ((gradient[None] * (1 - y * y) * other).reshape(-1, y.shape[2]),)


gate.defvjp(_gate_forward, _gate_backward)


def _rows(first: float, second: float, dtype: jnp.dtype) -> Array:
    return jnp.array([first, second], dtype)[:, None, None]


def one_hot(place: Float[Array, "*batch"], size: int) -> Float[Array, "*batch {size}"]:
    """One-hot vectors of real places: a place between two whole numbers is shared linearly; NaN gives zeros.

    >>> one_hot(jnp.array([1.0, 0.25]), 3).tolist()
    [[0.0, 1.0, 0.0], [0.75, 0.25, 0.0]]
    """
    places = jnp.expand_dims(jnp.arange(size), range(place.ndim))
    weights = jnp.maximum(0.0, 1.0 - jnp.abs(places - place[..., None]))
    return jnp.where(jnp.isnan(place)[..., None], 0.0, weights)


def pitch_features(pitch: Float[Array, "*batch"]) -> Float[Array, "*batch features"]:
    """Features of MIDI pitches, interpolated between octaves; NaN gives zeros.

    A network learns from them for the pitches between those of the training sounds, too. One feature for each pitch would leave
    what belongs to the others untrained.

    >>> pitch_features(jnp.array([12.0, 27.0]))[:, :4].tolist()
    [[0.0, 1.0, 0.0, 0.0], [0.0, 0.0, 0.75, 0.25]]
    """
    return one_hot(pitch / OCTAVE, PITCH_FEATURES)


def over_examples(function: Callable, *batched: Array | np.ndarray | None) -> Array:
    """Applies a function of one example to every example of a batch.

    A CPU runs a few unrolled examples faster than one batch. Other devices, and several devices, use `jax.vmap`. On a CPU, the
    program has at most `2 UNROLLED - 1` copies of the function, for any batch size.

    Args:
        function: takes one example of each argument and returns an array.
        batched: arguments [B, ...]; None is passed through.

    Returns:
        The results, stacked: [B, ...].

    >>> over_examples(lambda x: x.sum(), jnp.ones((6, 3))).tolist()
    [3.0, 3.0, 3.0, 3.0, 3.0, 3.0]
    """
    if jax.default_backend() != "cpu" or jax.device_count() > 1:
        return jax.vmap(function, in_axes=[None if leaf is None else 0 for leaf in batched])(*batched)
    size = next(leaf.shape[0] for leaf in batched if leaf is not None)
    grouped = size - size % UNROLLED if size > UNROLLED else 0  # examples that go through a loop, a group at a time
    rest = [None if leaf is None else leaf[grouped:] for leaf in batched]
    parts = [jnp.stack([function(*_example(rest, index)) for index in range(size - grouped)])] if grouped < size else []
    if grouped:
        groups = [None if leaf is None else leaf[:grouped].reshape(-1, UNROLLED, *leaf.shape[1:]) for leaf in batched]
        outputs = jax.lax.map(
            lambda group: jnp.stack([function(*_example(group, index)) for index in range(UNROLLED)]), tuple(groups)
        )
        parts.insert(0, outputs.reshape(grouped, *outputs.shape[2:]))
    return parts[0] if len(parts) == 1 else jnp.concatenate(parts)


def _example(batched: Sequence[Array | np.ndarray | None], index: int) -> list:
    return [None if leaf is None else leaf[index] for leaf in batched]
