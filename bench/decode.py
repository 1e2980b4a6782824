"""Sampling speed of a WaveNet: the op `wavenet_decode`, `Synth.stream`, and PyTorch's `wavenet-vocoder`.

The shapes are `arg_specs.MEASURED`, on which the op is also tested: nv (20 layers; 64, 256 and 256 channels; a softmax over 256
mu-law codes), small (the preset for laptops) and full (the preset for GPUs). Every run starts from silence; compilation is not
counted. PyTorch's `incremental_forward` draws one stream at a time, on one thread or on all: the faster of the two counts.

Rows by `what`:

* decode: the op. samples_per_second counts all streams of a batch; real_time_16 and real_time_48 are the speed of each
  stream relative to 16 and 48 kHz. The limit of a step is the longer of two times, both measured in the same run:
  repeatedly reading as many bytes as the weights have, with as many threads (so from any cache that they fit in), and its
  multiply-adds at the rate of XLA's float32 matrix product. share_of_limit is that time divided by the step's time.
* stream: `Synth.stream`, one sound in blocks; share_of_op is its rate divided by that of the op, measured in turn.
* neighbour: one stream by one thread and by several, while another process keeps one processor busy; share_of_one_thread is
  the rate divided by that of one thread beside the same neighbour.

--quick uses fewer repeats of the same shapes. --run RUN --sound FILE also scores a sound with a trained model, sample by
sample, with float32 and with bfloat16 weights.
"""

import contextlib
import ctypes
import dataclasses
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from harness import (
    Row,
    Timing,
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

from wavesynth import Synth
from wavesynth.audio import files
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
from wavesynth.kernels.wavenet_decode.api import choose
from wavesynth.kernels.wavenet_decode.arg_specs import MEASURED, MODELS
from wavesynth.models.functional import initialize
from wavesynth.models.wavenet import WaveNet, WaveNetConfig

SAMPLE_RATE = 16_000
READ_BYTES = 1_000_000_000  # in one timing of reading
BLOCK = 1_024  # samples
DTYPES = {"jax": ("float32",), "native": ("float32", "bfloat16")}


def preset_model(name: str) -> WaveNetConfig:
    """The shape of a preset, for pieces without labels."""
    config = preset(name)
    return family_type(config.family).adapt(config.model, DatasetInfo(SAMPLE_RATE, clip_seconds=60.0))


def fresh(model: WaveNetConfig) -> Any:
    """The parameters of an untrained network."""
    return initialize(lambda rngs: WaveNet(model, rngs=rngs), jax.random.key(0))


def packed(model: WaveNetConfig, dtype: Any) -> DecodeWeights:
    return pack(fresh(model), DecodeSpec.of(model), dtype)


def op(weights: DecodeWeights, batch: int, steps: int, implementation: str) -> Callable[[], Any]:
    silence = silent_cache(weights, batch)
    uniforms = jax.random.uniform(jax.random.key(1), (steps, 2, batch))

    def once() -> Any:
        cache = jax.block_until_ready(jax.tree.map(jnp.copy, silence))  # the op consumes it
        return wavenet_decode(weights, cache, None, uniforms, implementation=implementation).samples.block_until_ready()

    return once


def streamed(model: WaveNetConfig, dtype: Any, steps: int) -> Callable[[], Any]:
    """A candidate that takes so many samples, in whole blocks, from an endless `Synth.stream`."""
    synth = Synth(
        bind("wavenet", model, DatasetInfo(SAMPLE_RATE, clip_seconds=60.0)), jax.tree.map(np.asarray, fresh(model))
    )
    blocks = synth.stream(block=BLOCK, dtype=dtype)

    def once() -> None:
        for _ in range(steps // BLOCK):
            next(blocks)

    return once


def by_threads(weights: DecodeWeights, threads: int, steps: int) -> Callable[[], Any]:
    """A candidate that draws one stream by so many threads, block by block."""
    decode = jax.jit(native.decode, static_argnames=("top_k", "top_p", "log_probs", "threads"))
    uniforms = jax.random.uniform(jax.random.key(1), (BLOCK, 2, 1))
    draw = partial(
        decode, weights, conditioning=None, frame_index=None, periods=None, uniforms=uniforms, forced=None,
        temperature=jnp.float32(1), top_k=None, top_p=None, log_probs=False, threads=threads,
    )  # fmt: skip
    cache = silent_cache(weights, 1)
    return lambda: [draw(cache=cache)[0].block_until_ready() for _ in range(steps // BLOCK)]


@contextlib.contextmanager
def busy_neighbour() -> Iterator[None]:
    """Another process that keeps a processor busy."""
    process = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        time.sleep(0.2)
        yield
    finally:
        process.kill()
        process.wait()


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


def cases(quick: bool) -> list[Case]:
    found = []
    for name, spec in MEASURED.items():
        model = name.split("-")[0]
        for implementation in (name for name in IMPLEMENTATIONS if name in DTYPES):
            if quick and implementation == "jax" and spec.batch > 1:
                continue
            steps = min(spec.steps, 128 if implementation == "jax" or quick else spec.steps)
            found += [Case(model, implementation, dtype, spec.batch, steps) for dtype in DTYPES[implementation]]
    return found


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--repeats", type=int, help="runs of each, of which the median counts (7; quick: 2)")
    parser.add_argument("--run", type=Path, help="a trained run, to score --sound by")
    parser.add_argument("--sound", type=Path, nargs="+", help="the sounds to score")
    options = parser.parse_args()
    rows: list[Row] = [machine()]
    repeats = options.repeats or (2 if options.quick else 7)

    models = {name: shrunk(model) if options.three_layers else model for name, model in MODELS.items()}
    weights = {(name, dtype): packed(model, dtype) for name, model in models.items() for dtype in DTYPES["native"]}
    found = [case for case in cases(options.quick) if serves(case, weights[case.model, case.dtype])]
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
        row = row_of("decode", case, timings[case], repeats, options.quick)
        made = row["samples_per_second"]
        row |= {f"real_time_{khz}": made / case.batch / (1_000 * khz) for khz in (16, 48)}
        packed_weights = weights.get((case.model, case.dtype))
        if packed_weights is not None and reads and case.implementation != "pytorch":
            size = weight_bytes(packed_weights)
            threads = native.threads_for(packed_weights, case.batch)
            read = timings[size, threads if (size, threads) in reads else 1].median / max(1, READ_BYTES // size)
            arithmetic = multiply_adds(models[case.model]) * case.batch / rate
            row |= {"threads": threads if case.implementation == "native" else None}
            row |= {"share_of_limit": max(read, arithmetic) * case.steps / timings[case].median}
            row |= {"bound_by": "reading" if read > arithmetic else "arithmetic"}
        rows.append(row)
    rows += streams(models, weights, repeats, options.quick)
    if native.library() is not None:
        rows += beside_a_neighbour(weights, repeats, options.quick)
    if options.run:
        rows += scores(options.run, options.sound)
    columns = ("what", "implementation", "model", "dtype", "batch", "threads", "seconds", "seconds_low", "seconds_high")
    print_table(
        rows[1:],
        (
            *columns,
            "samples_per_second",
            "real_time_16",
            "real_time_48",
            "share_of_limit",
            "bound_by",
            "share_of_op",
            "share_of_one_thread",
        ),
    )
    compare(rows)
    write_json(options.json, rows)


def row_of(what: str, case: Case, timing: Timing, repeats: int, quick: bool) -> Row:
    speed = {"seconds": timing.median, "seconds_low": timing.low, "seconds_high": timing.high}
    speed |= {"samples_per_second": case.batch * case.steps / timing.median, "share_of_limit": None}
    return {"what": what, **dataclasses.asdict(case), **speed, "repeats": repeats, "quick": quick}


def streams(
    models: dict[str, WaveNetConfig], weights: dict[Any, DecodeWeights], repeats: int, quick: bool
) -> list[Row]:
    """`Synth.stream`, beside the op that it calls."""
    steps, rows = BLOCK * (2 if quick else 8), []
    for (name, dtype), each in weights.items():
        if name == "full":
            continue
        implementation = choose(None, each)
        case = Case(name, implementation, dtype, 1, steps)
        timings = interleaved(
            {"op": op(each, 1, steps, implementation), "stream": streamed(models[name], dtype, steps)}, repeats
        )
        rows.append(row_of("stream", case, timings["stream"], repeats, quick))
        rows[-1]["share_of_op"] = timings["op"].median / timings["stream"].median
    return rows


def beside_a_neighbour(weights: dict[Any, DecodeWeights], repeats: int, quick: bool) -> list[Row]:
    """One stream by one thread and by several, while a neighbour is busy."""
    steps, rows = BLOCK * (4 if quick else 16), []
    for dtype in DTYPES["native"]:
        each = weights["nv", dtype]
        counts = sorted({1, native.threads_for(each, 1)})
        with busy_neighbour():
            timings = interleaved({threads: by_threads(each, threads, steps) for threads in counts}, repeats)
        for threads, timing in timings.items():
            rows.append(row_of("neighbour", Case("nv", "native", dtype, 1, steps, threads), timing, repeats, quick))
            rows[-1]["share_of_one_thread"] = timings[1].median / timing.median
    return rows


def serves(case: Case, weights: DecodeWeights) -> bool:
    return IMPLEMENTATIONS[case.implementation].unsupported_reason(weights, jax.default_backend()) is None


def weight_bytes(weights: DecodeWeights) -> int:
    return weights.size * weights.out.dtype.itemsize


def compare(rows: list[Row]) -> None:
    """Ratios to PyTorch's one stream, and to the plain loop at the same batch."""
    speeds = {
        (r["implementation"], r["model"], r["dtype"], r["batch"]): r["samples_per_second"]
        for r in rows[1:]
        if r["what"] == "decode"
    }
    theirs = max((r["samples_per_second"] for r in rows[1:] if r.get("implementation") == "pytorch"), default=None)
    for (implementation, model, dtype, batch), speed in speeds.items():
        if implementation == "pytorch":
            continue
        plain = speeds.get(("jax", model, "float32", batch))
        ratios = [] if plain is None else [f"{speed / plain:.1f} times the plain loop"]
        if theirs and model == "nv":
            ratios.append(f"{speed / theirs:.1f} times pytorch's one stream")
        if ratios:
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
