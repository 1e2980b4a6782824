"""How fast a WaveNet is sampled: the op `wavenet_decode` beside the `incremental_forward` of PyTorch's `wavenet-vocoder`.

Every run starts from silence and draws some hundred samples of each stream; compiling is not counted. The shapes of nv
(20 layers; 64, 256 and 256 channels; softmax over 256 mu-law codes) are those that the tests prove the op on; beside them
stands our default model. PyTorch's sampler draws one stream at a time, on one thread or on all: the faster one counts.

samples_per_second counts all streams of a batch; real_time is how many times faster than 16 kHz each stream is.
share_of_limit: against one product of the batch with one matrix of as many weights as the network has, in float32: on a CPU
the limit is how fast weights come from the cache, and a loop over samples cannot avoid reading them all for each.
"""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from harness import (
    Row,
    arguments,
    has_pytorch,
    interleaved,
    machine,
    multiply_adds,
    print_table,
    pytorch_wavenet,
    write_json,
)

from wavesynth.config import Material
from wavesynth.families import bind, family_type, preset
from wavesynth.kernels.wavenet_decode import IMPLEMENTATIONS, DecodeSpec, pack, silent_cache, wavenet_decode
from wavesynth.kernels.wavenet_decode.arg_specs import MEASURED, NV, ArgSpec

SAMPLE_RATE = 16_000


def default_model() -> Any:
    """The shape of preset wavenet-small, for pieces without labels."""
    config = preset("wavenet-small")
    return family_type(config.family).adapt(config.model, Material(SAMPLE_RATE, clip_seconds=60.0))


def op(spec: ArgSpec, implementation: str) -> Callable[[], Any]:
    model = spec.model
    family = bind("wavenet", model, Material(SAMPLE_RATE))
    noise = np.random.default_rng(0).normal(0, 0.1, (4, 2 * family.context)).astype(np.float32)
    packed = DecodeSpec(model.dilations, model.kernel_width, model.taps, model.output, model.likelihood.quantization)
    weights = pack(family.init(jax.random.key(0), noise), packed)
    silence = silent_cache(weights, spec.batch)
    uniforms = jax.random.uniform(jax.random.key(1), (spec.steps, 2, spec.batch))

    def once() -> Any:
        cache = jax.tree.map(jnp.copy, silence)  # the op consumes it
        return wavenet_decode(weights, cache, None, uniforms, implementation=implementation).samples.block_until_ready()

    return once


def pytorch(steps: int, threads: int) -> Callable[[], Any]:
    import torch

    model = pytorch_wavenet(NV).eval()
    model.make_generation_fast_()
    silence = torch.nn.functional.one_hot(torch.tensor([[128]]), NV.likelihood.width).float().transpose(1, 2)

    def once() -> Any:
        before = torch.get_num_threads()
        torch.set_num_threads(threads)
        with torch.no_grad():
            model.incremental_forward(silence, T=steps)
        torch.set_num_threads(before)

    return once


def weights_once(spec: ArgSpec) -> Callable[[], Any]:
    """As many steps, each one product with one matrix of as many weights as the network has."""
    width = round(math.sqrt(multiply_adds(spec.model)))
    left, right = np.ones((spec.batch, width), np.float32), np.ones((width, width), np.float32)
    out = np.empty_like(left)

    def once() -> None:
        for _ in range(spec.steps):
            np.matmul(left, right, out=out)

    return once


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--repeats", type=int, help="runs of each, of which the median counts (7; quick: 2)")
    options = parser.parse_args()
    rows: list[Row] = [machine()]
    repeats = options.repeats or (2 if options.quick else 7)
    specs = MEASURED | {f"wavenet-small-batch-{n}": ArgSpec(default_model(), batch=n, steps=512) for n in (1, 8)}
    if options.quick:
        specs = {name: ArgSpec(spec.model, 1, 64) for name, spec in specs.items() if spec.batch == 1}

    candidates, measured = {}, {}
    for name, spec in specs.items():
        for implementation in IMPLEMENTATIONS:
            measured[name, implementation] = spec
            candidates[name, implementation] = op(spec, implementation)
        candidates[name, "limit"] = weights_once(spec)
    if has_pytorch():
        import torch

        for threads in sorted({1, torch.get_num_threads()}):
            measured["nv-batch-1", f"pytorch, {threads}"] = spec = ArgSpec(NV, 1, 64 if options.quick else 256)
            candidates["nv-batch-1", f"pytorch, {threads}"] = pytorch(spec.steps, threads)
    timings = interleaved(candidates, repeats)

    for (name, implementation), spec in measured.items():
        timing, steps = timings[name, implementation], specs[name].steps
        rate = spec.batch * spec.steps / timing.median
        limit = spec.batch * steps / timings[name, "limit"].median
        rows.append({
            "what": "decode", "implementation": implementation.split(", ")[0], "model": name.rsplit("-batch-")[0],
            "dtype": "float32", "batch": spec.batch, "seconds": timing.median, "seconds_low": timing.low,
            "seconds_high": timing.high, "samples_per_second": rate, "real_time": rate / spec.batch / SAMPLE_RATE,
            "share_of_limit": rate / limit, "steps": spec.steps, "repeats": repeats, "quick": options.quick,
        })  # fmt: skip
    theirs = sorted((row for row in rows if row.get("implementation") == "pytorch"), key=lambda row: row["seconds"])
    rows = [row for row in rows if row not in theirs[1:]]
    columns = ("what", "implementation", "model", "dtype", "batch", "steps", "seconds", "seconds_low", "seconds_high")
    print_table(rows[1:], (*columns, "samples_per_second", "real_time", "share_of_limit"))
    for row in rows[1:]:
        if theirs and row["model"] == "nv" and row["implementation"] != "pytorch":
            ratio = row["samples_per_second"] / theirs[0]["samples_per_second"]
            print(f"{row['implementation']}, nv, batch {row['batch']}: {ratio:.1f} times as fast as pytorch's one stream")
    write_json(options.json, rows)


if __name__ == "__main__":
    main()
