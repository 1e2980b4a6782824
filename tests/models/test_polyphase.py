"""The polyphase convolutions are JAX's own, in values, gradients and gradients' gradients; the smoothing takes off images."""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from wavesynth.models.polyphase import same, smoothed, strided, transposed

EPS = float(jnp.finfo(jnp.float32).eps)
NAMES = ("NWC", "WIO", "NWC")
# (width, stride): narrower than the stride, as wide, one more and less, and wider by far; even and odd.
SHAPES = [(5, 1), (1, 2), (2, 2), (7, 3), (3, 4), (24, 4), (25, 4), (9, 5), (30, 7)]


def strided_reference(x: jax.Array, kernel: jax.Array, stride: int) -> jax.Array:
    return jax.lax.conv_general_dilated(x, kernel, (stride,), "SAME", dimension_numbers=NAMES)


def transposed_reference(x: jax.Array, kernel: jax.Array, stride: int) -> jax.Array:
    return jax.lax.conv_transpose(x, kernel, (stride,), "SAME", dimension_numbers=NAMES)


both = pytest.mark.parametrize(
    ("ours", "reference"),
    [(strided, strided_reference), (transposed, transposed_reference)],
    ids=["strided", "transposed"],
)


def drawn(width: int, inputs: int, outputs: int, length: int, batch: int = 2) -> tuple[np.ndarray, np.ndarray]:
    """x [B, T, C] and a kernel [width, C, O]."""
    random = np.random.default_rng(width)
    shapes = (batch, length, inputs), (width, inputs, outputs)
    x, kernel = (random.standard_normal(shape, np.float32) for shape in shapes)
    return x, kernel


def check(ours: jax.Array, reference: jax.Array, terms: int) -> None:
    """Equal but for the order in which so many products are added."""
    assert ours.shape == reference.shape
    assert ours.dtype == reference.dtype == jnp.float32
    np.testing.assert_allclose(ours, reference, rtol=0, atol=8 * EPS * math.sqrt(terms) * np.std(reference))


@both
@pytest.mark.parametrize(("width", "stride"), SHAPES)
def test_any_width_and_stride(ours: Callable, reference: Callable, width: int, stride: int):
    cases = [drawn(width, inputs, outputs, stride * places) for inputs, outputs, places in ((3, 2, 2), (1, 5, 12))]
    each = jax.jit(lambda cases: [[way(*case, stride) for way in (ours, reference)] for case in cases])(cases)
    for mine, theirs in each:
        check(mine, theirs, width * 3)


@both
def test_the_published_shape(ours: Callable, reference: Callable):
    inputs, outputs, before, after = (1, 64, 16_384, 4_096) if ours is strided else (64, 1, 4_096, 16_384)
    x, kernel = drawn(25, inputs, outputs, before, batch=1)
    mine = ours(x, kernel, 4)
    assert mine.shape == (1, after, outputs)
    check(mine, reference(x, kernel, 4), 25 * inputs)


@both
@pytest.mark.parametrize(("width", "stride"), [(25, 4), (2, 3)])
def test_gradients_and_their_gradients(ours: Callable, reference: Callable, width: int, stride: int):
    x, kernel = drawn(width, 2, 3, 4 * stride)

    def derivatives(convolution: Callable) -> tuple:
        def metric(x: jax.Array, kernel: jax.Array) -> jax.Array:
            return jnp.sum(jnp.tanh(convolution(x, kernel, stride)))

        def penalty(x: jax.Array, kernel: jax.Array) -> jax.Array:
            return jnp.sum(jnp.square(jax.grad(metric)(x, kernel)))

        return jax.jit(lambda *at: (jax.grad(metric, (0, 1))(*at), jax.grad(penalty, (0, 1))(*at)))(x, kernel)

    for mine, theirs in zip(*map(jax.tree.leaves, map(derivatives, (ours, reference))), strict=True):
        assert float(jnp.abs(mine).max()) > 0
        check(mine, theirs, width**2 * 6)  # sums of sums


@pytest.mark.parametrize(("width", "dilation"), [(4, 1), (3, 4)])
def test_same_keeps_the_length(width: int, dilation: int):
    x, kernel = drawn(width, 2, 3, 17)
    reference = jax.lax.conv_general_dilated(x, kernel, (1,), "SAME", rhs_dilation=(dilation,), dimension_numbers=NAMES)
    check(same(x, kernel, dilation), reference, 2 * width)


# Smoothing.


CYCLES = (8, 16, 32)  # of sines in LENGTH samples: an eighth, a quarter and a half of the Nyquist frequency
LENGTH = 128


def images_db(kernel: jax.Array, stride: int) -> list[float]:
    """The loudest image of each sine behind `transposed`, relative to the sine."""
    turns = np.outer(CYCLES, np.arange(3 * LENGTH)) / LENGTH
    made = np.asarray(transposed(np.sin(2 * np.pi * turns, dtype=np.float32)[..., None], kernel, stride))
    spectra = np.abs(np.fft.rfft(made[:, LENGTH * stride : 2 * LENGTH * stride, 0]))  # the ends lack neighbours
    return [
        20 * math.log10(max(np.delete(spectrum, cycles)) / spectrum[cycles])
        for cycles, spectrum in zip(CYCLES, spectra, strict=True)
    ]


@pytest.mark.parametrize("stride", [2, 3, 8])
def test_smoothing_takes_off_images(stride: int):
    plain = jnp.ones((1, 1, 1))
    np.testing.assert_allclose(images_db(plain, stride), 0, atol=1e-3)  # zeros between samples: as loud as the sine
    # A window of two lobes a side: steep enough to leave little of what is not close to the Nyquist frequency.
    assert (np.array(images_db(smoothed(plain, stride), stride)) < [-43, -43, -20]).all()


@pytest.mark.parametrize(("width", "stride"), [(1, 2), (6, 3), (25, 4), (25, 8)])
def test_smoothing_is_a_filter_of_unit_energy(width: int, stride: int):
    _, kernel = drawn(width, 2, 3, 1)
    filtered = np.asarray(smoothed(kernel, stride))
    assert filtered.shape == (width + 4 * stride, 2, 3)
    taps = np.asarray(smoothed(np.ones((1, 1, 1), np.float32), stride))[:, 0, 0]
    assert np.sum(np.square(taps)) == pytest.approx(1, rel=8 * EPS)
    np.testing.assert_allclose(taps, taps[::-1], atol=EPS)  # all frequencies are delayed alike
    for i, o in np.ndindex(2, 3):
        expected = np.convolve(taps, kernel[:, i, o])
        np.testing.assert_allclose(filtered[:, i, o], expected, atol=8 * EPS * math.sqrt(width))


@pytest.mark.parametrize(("width", "stride"), [(1, 2), (6, 3), (25, 4), (25, 8)])
def test_what_is_constant_stays_so(width: int, stride: int):
    _, kernel = drawn(width, 2, 3, 1)
    made = np.asarray(transposed(jnp.ones((1, 64, 2)), smoothed(kernel, stride), stride))
    middle = made[0, made.shape[1] // 4 : -made.shape[1] // 4]
    np.testing.assert_allclose(middle, np.broadcast_to(middle[0], middle.shape), atol=64 * EPS * np.abs(kernel).sum())
