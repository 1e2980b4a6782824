"""How fast a WaveNet is sampled: the op `wavenet_decode` beside the `incremental_forward` of PyTorch's `wavenet-vocoder`.

Every run starts from silence and draws some hundred samples of each stream; compiling is not counted. The shapes of nv
(20 layers; 64, 256 and 256 channels; softmax over 256 mu-law codes) are those that the tests prove the op on; beside them
stands our default model. PyTorch's sampler draws one stream at a time, on one thread or on all: the faster one counts.

samples_per_second counts all streams of a batch; real_time is how many times faster than 16 kHz each stream is.
share_of_limit stays empty: what bounds a loop over samples on a CPU is how fast the weights come from the cache, and no
library's matrix product reaches that with one vector (they are slower than the op itself).
"""

import dataclasses
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
    print_table,
    pytorch_wavenet,
    shrunk,
    write_json,
)

from wavesynth.config import Material
from wavesynth.families import bind, family_type, preset
from wavesynth.kernels.wavenet_decode import IMPLEMENTATIONS, DecodeSpec, pack, silent_cache, wavenet_decode
from wavesynth.kernels.wavenet_decode.arg_specs import MEASURED, ArgSpec

SAMPLE_RATE = 16_000


def default_model() -> Any:
    """The shape of preset wavenet-small, for pieces without labels."""
    config = preset("wavenet-small")
    return family_type(config.family).adapt(config.model, Material(SAMPLE_RATE, clip_seconds=60.0))


def op(spec: ArgSpec, implementation: str) -> Callable[[], Any]:
    model = spec.model
    family = bind("wavenet", model, Material(SAMPLE_RATE))
    noise = np.random.default_rng(0).normal(0, 0.1, (4, 2 * family.context)).astype(np.float32)
    weights = pack(family.init(jax.random.key(0), noise), DecodeSpec.of(model))
    silence = silent_cache(weights, spec.batch)
    uniforms = jax.random.uniform(jax.random.key(1), (spec.steps, 2, spec.batch))

    def once() -> Any:
        cache = jax.tree.map(jnp.copy, silence)  # the op consumes it
        return wavenet_decode(weights, cache, None, uniforms, implementation=implementation).samples.block_until_ready()

    return once


def pytorch(spec: ArgSpec, threads: int) -> Callable[[], Any]:
    import torch

    model = pytorch_wavenet(spec.model).eval()
    model.make_generation_fast_()
    silence = torch.nn.functional.one_hot(torch.tensor([[128]]), spec.model.likelihood.width).float().transpose(1, 2)

    def once() -> Any:
        before = torch.get_num_threads()
        torch.set_num_threads(threads)
        with torch.no_grad():
            model.incremental_forward(silence, T=spec.steps)
        torch.set_num_threads(before)

    return once


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--repeats", type=int, help="runs of each, of which the median counts (7; quick: 2)")
    options = parser.parse_args()
    rows: list[Row] = [machine()]
    repeats = options.repeats or (2 if options.quick else 7)
    specs = MEASURED | {f"wavenet-small-batch-{n}": ArgSpec(default_model(), batch=n, steps=512) for n in (1, 8)}
    if options.quick:
        specs = {name: ArgSpec(shrunk(spec.model), 1, 64) for name, spec in specs.items() if spec.batch == 1}

    cases = [(name, kind, None, spec) for name, spec in specs.items() for kind in IMPLEMENTATIONS]
    candidates = {case[:3]: op(case[3], case[1]) for case in cases}
    if has_pytorch():
        import torch

        for threads in sorted({1, torch.get_num_threads()}):
            name, spec = "nv-batch-1", dataclasses.replace(specs["nv-batch-1"], steps=64 if options.quick else 256)
            cases.append((name, "pytorch", threads, spec))
            candidates[cases[-1][:3]] = pytorch(spec, threads)
    timings = interleaved(candidates, repeats)

    for *case, spec in cases:
        name, implementation, threads = case
        timing = timings[tuple(case)]
        rate = spec.batch * spec.steps / timing.median
        rows.append({
            "what": "decode", "implementation": implementation,
            "model": name.rsplit("-batch-")[0] + ", 3 layers" * options.quick, "dtype": "float32", "batch": spec.batch,
            "threads": threads, "seconds": timing.median, "seconds_low": timing.low, "seconds_high": timing.high,
            "samples_per_second": rate, "real_time": rate / spec.batch / SAMPLE_RATE, "share_of_limit": None,
            "steps": spec.steps, "repeats": repeats, "quick": options.quick,
        })  # fmt: skip
    columns = ("what", "implementation", "model", "dtype", "batch", "threads", "steps", "seconds", "seconds_low")
    print_table(rows[1:], (*columns, "seconds_high", "samples_per_second", "real_time"))
    theirs = max((row["samples_per_second"] for row in rows if row.get("implementation") == "pytorch"), default=None)
    for row in rows[1:]:
        if theirs and row["model"].startswith("nv") and row["implementation"] != "pytorch":
            ratio = row["samples_per_second"] / theirs
            print(
                f"{row['implementation']}, nv, batch {row['batch']}: {ratio:.1f} times as fast as pytorch's one stream"
            )
    write_json(options.json, rows)


if __name__ == "__main__":
    main()
