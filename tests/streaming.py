"""One check for everything that streams: blocks must give what the whole gives, no later than claimed, from what is claimed.

After `verify_contract` of google/sequence-layers.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from tests.tolerances import assert_close


@dataclass(frozen=True)
class Streaming:
    """A layer or a model as functions of arrays [B, T, ...], time on axis 1. An output hop belongs to each input hop.

    Attributes:
        whole: inputs [B, T, ...] to outputs [B, T / hop * out_hop, ...].
        init: the first `lookahead` inputs to the state before the first hop.
        step: the next inputs, whole hops of them, and a state, to outputs and the next state.
        hop: inputs per hop.
        out_hop: outputs per hop.
        lookahead: inputs behind a hop that its output needs. Behind the end the stream gets zeros.
        held: hops for which the stream gets the first hop before it begins; their outputs are dropped.
        past: inputs before a hop that its output sees.
        future: inputs behind a hop that its output sees; -1 if it does not see the hop's last one.
        terms: length of the longest chain of additions, for the tolerance (see `rounding`).
        dtype: what is computed in.
        differentiable: whether gradients reach the inputs; rounding to 16 bits stops them.
    """

    whole: Callable[[jax.Array], jax.Array]
    init: Callable[[jax.Array], Any]
    step: Callable[[jax.Array, Any], tuple[jax.Array, Any]]
    hop: int = 1
    out_hop: int = 1
    lookahead: int = 0
    held: int = 0
    past: int = 0
    future: int = 0
    terms: int = 64
    dtype: str = "float32"
    differentiable: bool = True

    @property
    def latency(self) -> int:
        """Inputs by which the outputs of a stream are late, the hop itself aside."""
        return self.lookahead + self.held * self.hop

    def streamed(self, inputs: jax.Array, blocks: Sequence[int]) -> jax.Array:
        """The outputs of a stream that gets blocks of so many hops; the last size repeats until all is out."""
        hops = inputs.shape[1] // self.hop + self.held
        sizes = list(blocks)
        while sum(sizes) < hops:
            sizes.append(sizes[-1])
        first = jnp.tile(inputs[:, : self.hop], (1, self.held, *(1,) * (inputs.ndim - 2)))
        padding = self.lookahead + (sum(sizes) - hops) * self.hop
        widths = ((0, 0), (0, padding)) + ((0, 0),) * (inputs.ndim - 2)
        fed = jnp.pad(jnp.concatenate([first, inputs], axis=1), widths)
        state, place, outputs = self.init(fed[:, : self.lookahead]), self.lookahead, []
        for size in sizes:
            made, state = self.step(fed[:, place : place + size * self.hop], state)
            assert made.shape[1] == size * self.out_hop, f"{size} hops gave {made.shape[1]} outputs"
            outputs.append(made)
            place += size * self.hop
        return jnp.concatenate(outputs, axis=1)[:, self.held * self.out_hop : hops * self.out_hop]


def verify_streaming(
    streaming: Streaming, inputs: Any, blocks: Sequence[Sequence[int]] = ((1,), (3,), (2, 1, 4))
) -> None:
    """Asserts the whole contract of something that streams.

    * Outputs: for each way to cut into blocks, the stream gives what the whole gives, from the first output on.
    * Gradients: those of the stream with respect to the inputs are those of the whole.
    * Latency: no output depends on more than `lookahead` inputs behind its hop.
    * Receptive field: every output hop sees exactly the inputs from `past` before it to `future` behind it.

    Args:
        streaming: what streams.
        inputs: array [B, T, ...], a multiple of the hop long, and longer than the receptive field.
        blocks: sizes of blocks in hops, for each stream; the last size repeats.

    Raises:
        AssertionError: what does not hold.
    """
    inputs = np.asarray(inputs)
    whole = jax.jit(streaming.whole)
    outputs = whole(inputs)
    hops = inputs.shape[1] // streaming.hop
    assert outputs.shape[1] * streaming.hop == inputs.shape[1] * streaming.out_hop
    assert np.isfinite(outputs).all()
    compiled = replace(streaming, step=jax.jit(streaming.step))
    for sizes in blocks:
        streamed = compiled.streamed(inputs, sizes)
        assert_close(streamed, outputs, terms=streaming.terms, dtype=streaming.dtype)
    if streaming.differentiable:
        weights = jax.random.normal(jax.random.key(0), outputs.shape)
        gradients = [
            jax.jit(jax.grad(lambda inputs, made=made: (weights * made(inputs)).sum()))(inputs)
            for made in (streaming.whole, lambda inputs: streaming.streamed(inputs, (2, -(-hops // 2))))
        ]
        assert np.any(gradients[0]), "no gradient reaches the inputs"
        assert_close(gradients[1], gradients[0], terms=8 * streaming.terms, dtype=streaming.dtype)
    assert streaming.future <= streaming.lookahead, "it sees more than a stream has"
    seen = influence(whole, inputs, streaming.out_hop)
    for number, row in enumerate(seen):
        first, last = number * streaming.hop - streaming.past, (number + 1) * streaming.hop - 1 + streaming.future
        expected = range(max(first, 0), min(last + 1, inputs.shape[1]))
        found = np.flatnonzero(row)
        assert found.size or not expected, f"hop {number} sees nothing"
        assert found[0] == expected[0], f"hop {number} sees from input {found[0]} on, not from {expected[0]}"
        assert found[-1] == expected[-1], f"hop {number} sees up to input {found[-1]}, not {expected[-1]}"


def influence(whole: Callable[[jax.Array], jax.Array], inputs: jax.Array, out_hop: int) -> np.ndarray:
    """Which output hops change when an input is moved: bool [hops, T]."""
    before = np.asarray(whole(inputs))
    hops = before.shape[1] // out_hop
    seen = np.zeros((hops, inputs.shape[1]), bool)
    for place in range(inputs.shape[1]):
        moved = np.array(inputs)
        moved[:, place] += 0.5
        after = np.asarray(whole(moved))
        changed = (after != before).reshape(len(before), hops, -1)
        seen[:, place] = changed.any(axis=(0, 2))
    return seen
