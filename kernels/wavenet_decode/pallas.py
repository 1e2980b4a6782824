"""The op on GPUs as one Pallas kernel (lowered by Triton) that holds the whole loop over time.

Each program decodes one tile of the batch from the first sample to the last, so nothing is launched in between. The ring
buffers stay in device memory and are updated in place; the weights are read from the cache at every step. A tile of one
stream multiplies in float32, for any type of weights. A tile of 16 or more uses the tensor cores: they round the inputs of
bfloat16 weights to bfloat16, and split float32 into three bfloat16. Sums are float32.

Triton only supports powers of two: `lay_out` pads all sizes so that the padding stays zero or has no probability.
"""

from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl

from wavesynth.audio import mulaw
from wavesynth.kernels.wavenet_decode.cache import DecodeCache, ring_starts
from wavesynth.kernels.wavenet_decode.reference import output_distribution
from wavesynth.kernels.wavenet_decode.strategy import Strategy, entry, nearest
from wavesynth.kernels.wavenet_decode.weights import DecodeSpec, DecodeWeights, unpack
from wavesynth.models.likelihoods import MIN_LOG_SCALE, LogisticMixture, quantize

LEAST = 16  # the least number of rows and columns of a product on the tensor cores
WARPS = 8
STAGES = 1  # prefetching the next layer's weights needs more shared memory than large networks leave
AT_ONCE = 2_048  # matrix entries multiplied at once by one stream: 8 per thread; more would spill registers
AT_ONCE_BY_TILE = 16_384  # the same for a tile on the tensor cores: 64 per thread
MOST_TILES = 128  # the processors of a large GPU: larger batches get larger tiles
LARGEST_TILE = 64
THREE_BFLOAT16 = lax.DotAlgorithmPreset.BF16_BF16_F32_X6  # float32 on tensor cores that would round it to 10 bits


def unsupported_reason(weights: DecodeWeights, platform: str | None) -> str | None:
    """Why the kernel does not support these weights on a platform; None if it does."""
    return None if platform in ("gpu", None) else f"it runs on GPUs, and the weights are on a {platform}"


def tile_for(batch: int) -> int:
    """The number of streams per program: one, or at least the rows of a product on the tensor cores."""
    if batch < LEAST:
        return 1
    return min(max(LEAST, pl.next_power_of_2(-(-batch // MOST_TILES))), LARGEST_TILE)


@dataclass(frozen=True)
class Plan:
    """The static part of one call. components: logistics of a mixture, 0 for a softmax. The other fields are as in the op."""

    spec: DecodeSpec
    tile: int
    components: int
    top_k: int | None
    top_p: float | None
    interpret: bool
    warps: int
    stages: int


class Call(NamedTuple):
    """The inputs of one call. Names and sizes are as in the op, with B padded to whole tiles and C to a power of two."""

    phase: jax.Array  # int32 [1]
    temperature: jax.Array  # [1]
    uniforms: jax.Array  # [T, 2, B]
    forced: jax.Array | None  # [T, B], on the grid
    frame_index: jax.Array | None  # int32 [T]
    conditioning: jax.Array | None  # [F, L, B, 2, C]: signal, gate
    periods: jax.Array | None  # int32 [B]


NETWORK: dict[str, tuple[str | int, ...]] = {
    "ring_starts": ("L",),
    "dilations": ("L",),
    "whitening": ("N", "N"),
    "linear": (1, "N"),
    "log_scale": (1,),
    "front": ("N", "C"),
    "embedding": ("K", 256, "C"),
    "front_bias": (1, "C"),
    "dilated": ("L", "W", 2, "C", "C"),
    "dilated_bias": ("L", 2, 1, "C"),
    "residual": ("L", "C", "C"),
    "residual_bias": ("L", 1, "C"),
    "skip": ("L", "C", "S"),
    "skip_bias": (1, "S"),
    "head": ("S", "H"),
    "head_bias": (1, "H"),
    "out": (3, "H", "M"),
    "out_bias": (3, 1, "M"),
    "adaptive": ("H", "N"),
    "adaptive_bias": (1, "N"),
}
"""The shapes of `Network`: axes as in buffers.py, M the logistics of a mixture; N, C, S, H and M are filled up to powers of
two. A 2 is signal and gate, a 3 logits, corrections and log scales. A softmax has 1 in its place, and M is 256."""


class Network(NamedTuple):
    """The weights as the kernel reads them, in the shapes of `NETWORK`. A mixture has no embedding, a softmax no whitening,
    linear, log_scale, front and adaptive; out_bias is minus infinity for logistics that are only filling."""

    ring_starts: jax.Array
    dilations: jax.Array
    whitening: jax.Array | None
    linear: jax.Array | None
    log_scale: jax.Array | None
    front: jax.Array | None
    embedding: jax.Array | None
    front_bias: jax.Array
    dilated: jax.Array
    dilated_bias: jax.Array
    residual: jax.Array
    residual_bias: jax.Array
    skip: jax.Array
    skip_bias: jax.Array
    head: jax.Array
    head_bias: jax.Array
    out: jax.Array
    out_bias: jax.Array
    adaptive: jax.Array | None
    adaptive_bias: jax.Array | None


class State(NamedTuple):
    """The outputs of the kernel. The first two initially contain the past.

    recent: [A + T, B]: the last samples before the call, then those of the call, so that samples are never moved.
    rings: [R, B, C].
    log_probs: [T, B], a softmax's log-probabilities, if requested.
    outputs: [T, 3, B, M], a mixture's parameters, if log-probabilities are requested, which are computed afterwards.
    """

    recent: jax.Array
    rings: jax.Array
    log_probs: jax.Array | None
    outputs: jax.Array | None


def decode(
    weights: DecodeWeights,
    cache: DecodeCache,
    conditioning: jax.Array | None,
    frame_index: jax.Array | None,
    periods: jax.Array | None,
    uniforms: jax.Array,
    forced: jax.Array | None,
    temperature: jax.Array,
    top_k: int | None,
    top_p: float | None,
    log_probs: bool,
    interpret: bool = False,
    warps: int = WARPS,
    stages: int = STAGES,
) -> tuple[jax.Array, jax.Array | None, DecodeCache]:
    """Like `reference.decode`.

    interpret: run on any device, slowly, to test the kernel. warps: warps of 32 threads per program. stages: pipeline stages of
    reads ahead of the tensor cores.
    """
    spec, likelihood = weights.spec, output_distribution(weights)
    steps, _, batch = uniforms.shape
    if steps == 0:
        return jnp.zeros((0, batch)), jnp.zeros((0, batch)) if log_probs else None, cache
    tile, channels = tile_for(batch), cache.rings.shape[-1]
    components = likelihood.components if isinstance(likelihood, LogisticMixture) else 0
    plan = Plan(spec, tile, components, top_k, top_p, interpret, warps, stages)

    network = lay_out(weights, plan)
    streams, width = -(-batch // tile) * tile, network.front_bias.shape[-1]
    if conditioning is not None:
        halves = conditioning.reshape(*conditioning.shape[:-1], 2, channels)
        conditioning = _fill(halves, {2: streams, 4: width})
    call = Call(
        phase=cache.phase[None],
        temperature=temperature[None],
        uniforms=_fill(uniforms, {2: streams}),
        forced=None if forced is None else _fill(quantize(forced, spec.quantization), {1: streams}),
        frame_index=None if conditioning is None else frame_index,
        conditioning=conditioning,
        periods=None if periods is None or not spec.taps_ago else _fill(periods, {0: streams}),
    )
    recent = _fill(cache.recent, {0: spec.history + steps, 1: streams})
    rings = _fill(cache.rings, {1: streams, 2: width})
    after = _run(plan, network, call, State(recent, rings, None, None), log_probs)

    recent, scores = after.recent[:, :batch], None
    samples = recent[spec.history :]
    if after.outputs is not None:
        parameters = jnp.moveaxis(after.outputs[:, :, :batch, : plan.components], 1, 2)
        scores = likelihood.log_prob(parameters.reshape(steps, batch, likelihood.width), samples)
    elif after.log_probs is not None:
        scores = after.log_probs[:, :batch]
    rings = after.rings[:, :batch, :channels]
    return samples, scores, DecodeCache(recent[steps:], rings, (cache.phase + steps) % spec.period)


def _run(plan: Plan, network: Network, call: Call, begun: State, log_probs: bool) -> State:
    """Launches the kernel, with one program per tile of streams."""
    compiler_params = None
    if not plan.interpret:
        from jax.experimental.pallas import triton  # not available on every system

        compiler_params = triton.CompilerParams(num_warps=plan.warps, num_stages=plan.stages)
    steps, _, streams = call.uniforms.shape
    mixture, first = plan.components > 0, len(jax.tree.leaves((network, call)))

    def result(*shape: int) -> Any:
        return jax.ShapeDtypeStruct(shape, jnp.float32)

    return pl.pallas_call(
        partial(_kernel, plan),
        grid=(streams // plan.tile,),
        out_shape=State(
            recent=result(*begun.recent.shape),
            rings=result(*begun.rings.shape),
            log_probs=result(steps, streams) if log_probs and not mixture else None,
            outputs=result(steps, 3, streams, network.out.shape[-1]) if log_probs and mixture else None,
        ),
        input_output_aliases={first: 0, first + 1: 1},
        compiler_params=compiler_params,  # without them, some versions of JAX do not use Triton
        interpret=plan.interpret,
        name="wavenet_decode",
    )(network, call, begun)


def lay_out(weights: DecodeWeights, plan: Plan) -> Network:
    """Converts the weights to the kernel's layout."""
    spec, matrices = plan.spec, unpack(weights)
    layers, dtype, mixture = len(spec.dilations), weights.dilated.dtype, plan.components > 0
    natural_channels, values = weights.front_bias.size, 3 * plan.components
    channels, skip = _size(natural_channels), _size(weights.skip_bias.size)
    head, inputs = _size(weights.head_bias.size), _size(spec.inputs)
    dilated = matrices.dilated.reshape(layers, spec.kernel_width, natural_channels, 2, natural_channels)

    def outputs(columns: jax.Array) -> jax.Array:
        """[rows, P] to [3, rows, K] or [1, rows, 256]."""
        if not mixture:
            return columns[None]
        parts = columns[:, :values].reshape(-1, 3, plan.components).transpose(1, 0, 2)
        return _fill(parts, {2: _size(plan.components)})

    out_bias = outputs(weights.out_bias[None])
    if mixture:
        out_bias = out_bias.at[0, :, plan.components :].set(-jnp.inf)
    return Network(
        ring_starts=jnp.asarray(ring_starts(spec)),
        dilations=jnp.array(spec.dilations, jnp.int32),
        whitening=_fill(matrices.whitening, {0: inputs, 1: inputs}) if mixture else None,
        linear=_fill(weights.linear[None], {1: inputs}) if mixture else None,
        log_scale=weights.log_scale[None] if mixture else None,
        front=_fill(matrices.front, {0: inputs, 1: channels}) if mixture else None,
        embedding=None if mixture else _fill(matrices.front, {2: channels}),
        front_bias=_fill(weights.front_bias[None], {1: channels}),
        dilated=_fill(dilated.transpose(0, 1, 3, 2, 4).astype(dtype), {3: channels, 4: channels}),
        dilated_bias=_fill(weights.dilated_bias.reshape(layers, 2, 1, -1), {3: channels}),
        residual=_fill(matrices.residual.astype(dtype), {1: channels, 2: channels}),
        residual_bias=_fill(weights.residual_bias[:, None], {2: channels}),
        skip=_fill(matrices.skip.astype(dtype), {1: channels, 2: skip}),
        skip_bias=_fill(weights.skip_bias[None], {1: skip}),
        head=_fill(matrices.head.astype(dtype), {0: skip, 1: head}),
        head_bias=_fill(weights.head_bias[None], {1: head}),
        out=_fill(outputs(matrices.out).astype(dtype), {1: head}),
        out_bias=out_bias,
        adaptive=_fill(matrices.out[:, values:].astype(dtype), {0: head, 1: inputs}) if mixture else None,
        adaptive_bias=_fill(weights.out_bias[None, values:], {1: inputs}) if mixture else None,
    )


def _size(size: int) -> int:
    return max(LEAST, pl.next_power_of_2(size))


def _fill(array: jax.Array, sizes: dict[int, int]) -> jax.Array:
    """Pads axes with zeros at the end, to the given sizes."""
    return jnp.pad(array, [(0, sizes.get(axis, size) - size) for axis, size in enumerate(array.shape)])


def _kernel(plan: Plan, network: Any, call: Any, begun: Any, *after: Any) -> None:
    """Decodes one tile of the batch. The arguments hold references instead of arrays; `begun` and `after` share memory."""
    spec, state = plan.spec, State(*after)
    first = pl.program_id(0) * plan.tile
    tile = pl.ds(first, plan.tile)
    steps, layers = call.uniforms.shape[0], len(spec.dilations)

    def step(time: jax.Array, none: tuple) -> tuple:
        x, white = _read_past(plan, network, call, state, time, first)
        layer = partial(_layer, plan, network, call, state, time, tile)
        skip = jnp.broadcast_to(network.skip_bias[:], (plan.tile, network.skip_bias.shape[1]))
        _, skip = lax.fori_loop(0, layers, layer, (x, skip))
        hidden = jax.nn.relu(_multiply(network.head, (jax.nn.relu(skip), ())) + network.head_bias[:])
        uniforms = call.uniforms[time, 0, tile], call.uniforms[time, 1, tile]
        target = None if call.forced is None else call.forced[time, tile]
        finish = _softmax_sample if white is None else partial(_mixture_sample, white)
        sample = finish(plan, network, call.temperature[0], state, hidden, uniforms, target, (time, tile))
        state.recent[spec.history + time, tile] = sample
        _wait(plan)
        return none

    lax.fori_loop(0, steps, step, ())


def _wait(plan: Plan) -> None:
    """A barrier for the threads of a program, which orders their reads and writes of device memory."""
    if not plan.interpret:
        from jax.experimental.pallas import triton

        triton.debug_barrier()


def _multiply(matrix: Any, *terms: tuple[jax.Array, tuple], precision: Any = THREE_BFLOAT16) -> jax.Array:
    """The sum [tile, columns] of products of inputs x [tile, rows] with matrices [rows, columns] from a stack.

    precision: the precision of tiles with float32 weights.
    """
    rows, columns = matrix.shape[-2:]
    one_by_one = terms[0][0].shape[0] == 1
    count = min(max(1, rows * columns // (AT_ONCE if one_by_one else AT_ONCE_BY_TILE)), rows // LEAST)
    size = rows // count
    total = None
    for x, place in terms:
        for index, part in enumerate(lax.split(x, [size] * count, axis=1)):
            entries = matrix[(*place, pl.ds(index * size, size), slice(None))]
            if one_by_one:
                product = part.reshape(size, 1) * entries.astype(jnp.float32)
            else:
                product = _dot(part, entries, precision)
            total = product if total is None else total + product
    assert total is not None
    return jnp.sum(total, axis=0, keepdims=True) if one_by_one else total


def _dot(x: jax.Array, matrix: jax.Array, precision: Any) -> jax.Array:
    precision = precision if matrix.dtype == jnp.float32 else None
    return jnp.dot(x.astype(matrix.dtype), matrix, precision=precision, preferred_element_type=jnp.float32)


def _read_past(
    plan: Plan, network: Any, call: Any, state: Any, time: jax.Array, first: jax.Array
) -> tuple[jax.Array, jax.Array | None]:
    """The first layer's input [tile, C], and for a mixture the whitened past [tile, N]: `cache.read_past`."""
    spec = plan.spec
    newest = time + spec.history - spec.taps  # the position of the first of the newest taps
    bias = network.front_bias[:]
    if not plan.components:
        x = jnp.broadcast_to(bias, (plan.tile, bias.shape[1]))
        for tap in range(spec.taps):
            codes = mulaw.encode(state.recent[newest + tap, pl.ds(first, plan.tile)])
            x += network.embedding[tap, codes, :]
        return x, None
    shape = (plan.tile, network.whitening.shape[0])
    tap, stream = lax.broadcasted_iota(jnp.int32, shape, 1), first + lax.broadcasted_iota(jnp.int32, shape, 0)
    place, known = newest + tap - spec.taps_ago, (tap >= spec.taps_ago) & (tap < spec.inputs)
    if call.periods is not None:
        period = call.periods[pl.ds(first, plan.tile)][:, None]
        is_ago = tap < spec.taps_ago
        place = jnp.where(is_ago, time + spec.history - period + tap - spec.taps_ago // 2, place)
        known |= is_ago & (period > 0)
    place = jnp.clip(jnp.where(known, place, 0), 0, time + spec.history - 1)
    past = jnp.where(known, state.recent[place, stream], 0.0)
    # The relevant detail is a thousandth of the amplitude, so these small products do not use tensor cores.
    white = _multiply(network.whitening, (past, ()), precision=lax.Precision.HIGHEST)
    return _multiply(network.front, (white, ()), precision=lax.Precision.HIGHEST) + bias, white


def _layer(
    plan: Plan, network: Any, call: Any, state: Any, time: jax.Array, tile: Any, layer: jax.Array,
    carry: tuple[jax.Array, jax.Array],
) -> tuple[jax.Array, jax.Array]:  # fmt: skip
    """One gated layer: maps its input [tile, C] and the skip sum [tile, S] to both after the layer."""
    x, skip = carry
    older = plan.spec.kernel_width - 1
    dilation, now = network.dilations[layer], call.phase[0] + time
    start, length = network.ring_starts[layer], older * dilation
    halves = [jnp.broadcast_to(network.dilated_bias[layer, half], x.shape) for half in range(2)]
    if call.conditioning is not None:
        frame = call.frame_index[time]
        halves = [z + call.conditioning[frame, layer, tile, half, :] for half, z in enumerate(halves)]
    past = [state.rings[start + lax.rem(now + tap * dilation, length), tile, :] for tap in range(older)]
    signal, gate = (
        z + _multiply(network.dilated, *((value, (layer, tap, half)) for tap, value in enumerate([*past, x])))
        for half, z in enumerate(halves)
    )
    gated = jnp.tanh(signal) * jax.nn.sigmoid(gate)
    _wait(plan)  # the oldest input was read, so the newest can take its slot
    state.rings[start + lax.rem(now, length), tile, :] = x
    x += _multiply(network.residual, (gated, (layer,))) + network.residual_bias[layer]
    return x, skip + _multiply(network.skip, (gated, (layer,)))


def _softmax_sample(
    plan: Plan, network: Any, temperature: jax.Array, state: Any, hidden: jax.Array,
    uniforms: tuple[jax.Array, jax.Array], target: jax.Array | None, place: tuple,
) -> jax.Array:  # fmt: skip
    """One sample [tile] of a softmax over mu-law codes; writes its log-probability if requested."""
    logits = _multiply(network.out, (hidden, (0,))) + network.out_bias[0]
    if target is None:
        strategy = Strategy(temperature, plan.top_k, plan.top_p)
        sample = mulaw.decode(strategy.draw((logits,), uniforms, mulaw.CODES))
    else:
        sample = target
    if state.log_probs is not None:
        highest = jnp.max(logits, axis=1)
        total = jnp.log(jnp.sum(jnp.exp(logits - highest[:, None]), axis=1))
        state.log_probs[place] = entry(logits, mulaw.encode(sample)) - highest - total
    return sample


def _mixture_sample(
    white: jax.Array, plan: Plan, network: Any, temperature: jax.Array, state: Any, hidden: jax.Array,
    uniforms: tuple[jax.Array, jax.Array], target: jax.Array | None, place: tuple,
) -> jax.Array:  # fmt: skip
    """One sample [tile] of a mixture of logistics; writes the mixture's parameters if requested."""
    logits, corrections, log_scales = (_multiply(network.out, (hidden, (k,))) + network.out_bias[k] for k in range(3))
    adaptive = _multiply(network.adaptive, (hidden, ())) + network.adaptive_bias[:]
    unit = network.log_scale[0]
    prediction = jnp.sum(network.linear[:] * white, axis=1) + jnp.exp(unit) * jnp.sum(adaptive * white, axis=1)
    log_scales = jnp.maximum(log_scales + unit, MIN_LOG_SCALE)
    locations = prediction[:, None] + jnp.exp(log_scales) * corrections
    if state.outputs is not None:
        time, tile = place
        for index, values in enumerate((logits, locations, log_scales)):
            state.outputs[time, index, tile, :] = values
    if target is not None:
        return target
    strategy = Strategy(temperature, plan.top_k, plan.top_p)
    value = strategy.draw((logits, locations, log_scales), uniforms, plan.components)
    return nearest(value, plan.spec.quantization)
