"""How fast a WaveNet is sampled: the op `wavenet_decode` beside the `incremental_forward` of PyTorch's `wavenet-vocoder`.

Every run starts from silence and draws some hundred samples of each stream; compiling is not counted. The shapes of nv
(20 layers; 64, 256 and 256 channels; softmax over 256 mu-law codes) are those that the tests prove the op on; small is our
preset for a laptop, full the one for a GPU. PyTorch's sampler draws one stream at a time, on one thread or on all: the
faster one counts.

samples_per_second counts all streams of a batch; real_time_16 and real_time_48 are how many times faster than 16 and 48
kHz each stream is. What bounds a step is the longer of two things, both measured in the same run: reading as many bytes as
the weights have, again and again, with as many threads (by the native library, so from whichever cache they fit into), and
its multiply-adds at the rate of XLA's float32 matrix product. share_of_limit is that time over the step's.

--run RUN --sound FILE also scores a sound by a trained model, sample by sample, with float32 and with bfloat16 weights.
"""

import ctypes
import dataclasses
import time
from collections.abc import Callable
from pathlib import Path
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
    matrix_product,
    multiply_adds,
    print_table,
    pytorch_wavenet,
    shrunk,
    write_json,
)

from wavesynth.audio import files
from wavesynth.conditions import Conditions
from wavesynth.config import DatasetInfo
from wavesynth.families import bind, family_type, preset
from wavesynth.kernels.wavenet_decode import (
    IMPLEMENTATIONS,
    DecodeSpec,
    DecodeWeights,
    native,
    pack,
    silent_cache,
    wavenet_decode,
)
from wavesynth.kernels.wavenet_decode.arg_specs import NV
from wavesynth.models.wavenet import WaveNetConfig

SAMPLE_RATE = 16_000
READ_BYTES = 1_000_000_000  # in one timing of reading
BATCHES = (1, 8, 64)
DTYPES = {"jax": ("float32",), "native": ("float32", "bfloat16")}


def preset_model(name: str) -> WaveNetConfig:
    """The shape of a preset, for pieces without labels."""
    config = preset(name)
    return family_type(config.family).adapt(config.model, DatasetInfo(SAMPLE_RATE, clip_seconds=60.0))


def packed(model: WaveNetConfig, dtype: Any) -> DecodeWeights:
    """The weights of a network that has learned nothing yet."""
    family = bind("wavenet", model, DatasetInfo(SAMPLE_RATE))
    noise = np.random.default_rng(0).normal(0, 0.1, (4, 2 * family.context)).astype(np.float32)
    windows = {"samples": noise[:, None], "conditions": Conditions.constant([-1] * len(noise), 0, [None] * len(noise))}
    return pack(family.init(jax.random.key(0), windows), DecodeSpec.of(model), dtype)


def op(weights: DecodeWeights, batch: int, steps: int, implementation: str) -> Callable[[], Any]:
    silence = silent_cache(weights, batch)
    uniforms = jax.random.uniform(jax.random.key(1), (steps, 2, batch))

    def once() -> Any:
        cache = jax.block_until_ready(jax.tree.map(jnp.copy, silence))  # the op consumes it
        return wavenet_decode(weights, cache, None, uniforms, implementation=implementation).samples.block_until_ready()

    return once


def pytorch(model: WaveNetConfig, steps: int, threads: int) -> Callable[[], Any]:
    import torch

    network = pytorch_wavenet(model).eval()
    network.make_generation_fast_()
    silence = torch.nn.functional.one_hot(torch.tensor([[128]]), model.likelihood.width).float().transpose(1, 2)

    def once() -> Any:
        before = torch.get_num_threads()
        torch.set_num_threads(threads)
        with torch.no_grad():
            network.incremental_forward(silence, T=steps)
        torch.set_num_threads(before)

    return once


def reading(num_bytes: int, threads: int) -> Callable[[], Any]:
    """A candidate that reads so many bytes over and over, READ_BYTES in all."""
    library = native.library()
    assert library is not None
    memory = np.ones(-(-num_bytes // 4), np.int32)
    passes = max(1, READ_BYTES // memory.nbytes)
    return lambda: library.wavesynth_read(
        memory.ctypes.data_as(ctypes.c_void_p), ctypes.c_int64(memory.nbytes), passes, threads
    )


@dataclasses.dataclass(frozen=True)
class Case:
    model: str
    implementation: str
    dtype: str
    batch: int
    steps: int
    threads: int | None = None


def cases(models: dict[str, WaveNetConfig], quick: bool) -> list[Case]:
    found = []
    for name in models:
        for batch in BATCHES[: 1 if quick else 2 if name == "full" else 3]:
            for implementation in (name for name in IMPLEMENTATIONS if name in DTYPES):
                slow = implementation == "jax" or batch > 8
                steps = 64 if quick else (256 if slow else 2_048) // (4 if name == "full" else 1)
                found += [Case(name, implementation, dtype, batch, steps) for dtype in DTYPES[implementation]]
    return found


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--repeats", type=int, help="runs of each, of which the median counts (7; quick: 2)")
    parser.add_argument("--run", type=Path, help="a trained run, to score --sound by")
    parser.add_argument("--sound", type=Path, nargs="+", help="the sounds to score")
    options = parser.parse_args()
    rows: list[Row] = [machine()]
    repeats = options.repeats or (2 if options.quick else 7)
    models = {"nv": NV, "small": preset_model("wavenet-small"), "full": preset_model("wavenet")}
    if options.quick:
        models = {name: shrunk(model) for name, model in models.items()}

    weights = {(name, dtype): packed(model, dtype) for name, model in models.items() for dtype in DTYPES["native"]}
    found = [case for case in cases(models, options.quick) if serves(case, weights[case.model, case.dtype])]
    candidates: dict[Any, Callable[[], Any]] = {
        case: op(weights[case.model, case.dtype], case.batch, case.steps, case.implementation) for case in found
    }
    if has_pytorch():
        import torch

        for threads in sorted({1, torch.get_num_threads()}):
            case = Case("nv", "pytorch", "float32", 1, 64 if options.quick else 256, threads)
            candidates[case] = pytorch(models["nv"], case.steps, threads)
            found.append(case)
    reads = {}
    if native.library() is not None:
        for name, dtype in weights:
            size, cores = weight_bytes(weights[name, dtype]), native.processors()
            reads |= {(size, threads): reading(size, threads) for threads in {1, cores}}
    peak = matrix_product(512 if options.quick else 2_048)
    timings = interleaved(candidates | reads | {"peak": peak}, repeats)

    rate = (512 if options.quick else 2_048) * 2_048**2 / timings["peak"].median  # multiply-adds a second
    for case in found:
        timing = timings[case]
        made = case.batch * case.steps / timing.median
        row = {"what": "decode", **dataclasses.asdict(case), "seconds": timing.median}
        row |= {
            "seconds_low": timing.low,
            "seconds_high": timing.high,
            "samples_per_second": made,
            "share_of_limit": None,
        }
        row |= {f"real_time_{khz}": made / case.batch / (1_000 * khz) for khz in (16, 48)}
        packed_weights = weights.get((case.model, case.dtype))
        if packed_weights is not None and reads and case.implementation != "pytorch":
            size = weight_bytes(packed_weights)
            threads = native.threads_for(packed_weights, case.batch)
            read = timings[size, threads if (size, threads) in reads else 1].median / max(1, READ_BYTES // size)
            arithmetic = multiply_adds(models[case.model]) * case.batch / rate
            row |= {"threads": threads if case.implementation == "native" else None}
            row |= {"share_of_limit": max(read, arithmetic) * case.steps / timing.median}
            row |= {"bound_by": "reading" if read > arithmetic else "arithmetic"}
        rows.append(row | {"repeats": repeats, "quick": options.quick})
    if options.run:
        rows += scores(options.run, options.sound)
    columns = ("implementation", "model", "dtype", "batch", "threads", "seconds", "seconds_low", "seconds_high")
    print_table(
        rows[1:], (*columns, "samples_per_second", "real_time_16", "real_time_48", "share_of_limit", "bound_by")
    )
    compare(rows)
    write_json(options.json, rows)


def serves(case: Case, weights: DecodeWeights) -> bool:
    return IMPLEMENTATIONS[case.implementation].unsupported_reason(weights) is None


def weight_bytes(weights: DecodeWeights) -> int:
    return weights.size * weights.out.dtype.itemsize


def compare(rows: list[Row]) -> None:
    """Ratios to PyTorch's one stream, and to the plain loop at the same batch."""
    speeds = {
        (r["implementation"], r["model"], r["dtype"], r["batch"]): r["samples_per_second"]
        for r in rows[1:]
        if "batch" in r
    }
    theirs = max((r["samples_per_second"] for r in rows[1:] if r.get("implementation") == "pytorch"), default=None)
    for (implementation, model, dtype, batch), speed in speeds.items():
        if implementation == "pytorch":
            continue
        ratios = [f"{speed / speeds['jax', model, 'float32', batch]:.1f} times the plain loop"]
        if theirs and model == "nv":
            ratios.append(f"{speed / theirs:.1f} times pytorch's one stream")
        print(f"{implementation}, {model}, {dtype}, batch {batch}: {', '.join(ratios)}")


def scores(run: Path, sounds: list[Path]) -> list[Row]:
    """Bits per sample of sounds, by the op with their samples forced, with weights of both kinds."""
    import wavesynth

    synth = wavesynth.load(run)
    rows = []
    for dtype in DTYPES["native"]:
        weights = pack(synth.params, DecodeSpec.of(synth.family.model), dtype)
        bits, count, began = 0.0, 0, time.perf_counter()
        for sound in sounds:
            samples = jnp.asarray(files.read(sound, synth.sample_rate)[0])
            idle = jnp.zeros((len(samples), 2, 1))
            decoded = wavenet_decode(
                weights, silent_cache(weights, 1), None, idle, forced=samples[:, None], log_probs=True
            )
            bits -= float(jnp.sum(decoded.log_probs)) / np.log(2)
            count += len(samples)
        rows.append({"what": "bits_per_sample", "implementation": "scored", "model": str(run.name), "dtype": dtype})
        rows[-1] |= {"seconds": time.perf_counter() - began, "bits": bits / count}
        print(f"{run.name}, {dtype} weights: {bits / count:.5f} bits per sample of {count:,} samples")
    return rows


if __name__ == "__main__":
    main()
