"""Measures wavesynth on one GPU in one run: whether the kernel is right, and how fast sampling and training are.

* check: the Pallas kernel beside the plain loop on the same GPU, over the shapes of the tests and of nv-wavenet. The plain
  loop then multiplies in full float32. A row is `ok` if log-probabilities, state and drawn samples differ from the plain
  loop's by no more than `allowed`.
* read, multiply: the limits of the GPU. `read` is a kernel of several programs, each of which reads the same 16 MB again
  and again, so from the cache. `multiply` is one large bfloat16 matrix product by XLA.
* decode: each run continues the one before; compilation is not counted. share_of_limit: a step takes at least the time to
  read all weights once at the rate of the most programs, and the time of its multiply-adds at the rate of `multiply`; the
  longer of both, divided by the step's time. share_of_own_limit: the same where each program reads all weights for its own
  tile of the batch, at the rate of as many programs.
* command_buffer: the plain loop in a process of its own, with and without XLA_FLAGS=--xla_gpu_enable_command_buffer=+WHILE.
* train_step: as in train_wavenet.py, but share_of_limit is of the bfloat16 product, whatever dtype the network computes in.
* whole_sounds: the presets `wavegan` and `autoencoder`: a training step (of the autoencoder, one with discriminators too), and
  the seconds of sound generated per second. share_of_limit: the program's multiply-adds at the rate of `multiply` or its
  bytes at the rate of `copy` (both as XLA counts them), the longer of both, divided by the measured time. `copy` adds 1 to a
  gigabyte of float32.
* tuning: the kernel with other numbers of warps and stages than its own.

A part that fails, or for which no time is left, becomes a row with an `error`; the other parts still run.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from decode import packed, preset_model, weight_bytes
from harness import Row, Timing, arguments, interleaved, machine, multiply_adds, print_table, write_json
from jax.experimental import pallas as pl
from train_wavenet import wavesynth_step
from trainees import PIECES, bound

from wavesynth.conditions import Conditions
from wavesynth.config import Config, DatasetInfo, TrainingConfig
from wavesynth.families import Family, Request, preset
from wavesynth.families.coding import CodingFamily
from wavesynth.kernels.wavenet_decode import IMPLEMENTATIONS, DecodeSpec, DecodeWeights, pack, pallas, silent_cache
from wavesynth.kernels.wavenet_decode.arg_specs import NV, TESTED, ArgSpec
from wavesynth.models.functional import initialize
from wavesynth.models.likelihoods import quantize
from wavesynth.models.wavenet import WaveNet, WaveNetConfig
from wavesynth.training.objective import Objective, Phased

MINUTES = 6.0  # no part begins later
FLAG = "--xla_gpu_enable_command_buffer=+WHILE"
STATIC = ("top_k", "top_p", "log_probs")
PLAIN: dict[str, Any] = dict(
    conditioning=None, frame_index=None, periods=None, forced=None, top_k=None, top_p=None, log_probs=False
)
BATCHES = (1, 16, 128, 2_048)
READ_BLOCK, READ_BLOCKS = 8_192, 512  # float32 numbers in a block; 16 MB in all, which fit into a cache of 40 MB
PEAK = 8_192  # rows and columns
NOTES = DatasetInfo(sample_rate=16_000, labels=("bright", "dark"), pitched=True, clip_seconds=1.0)
Decode = Callable[..., Any]


def compiled(**settings: Any) -> Decode:
    return jax.jit(partial(pallas.decode, **settings), static_argnames=STATIC, donate_argnames="cache")


def case(spec: ArgSpec, dtype: Any) -> dict[str, Any]:
    """Arguments of the op: random weights, conditioning, periods, and sounds to score."""
    model, decode_spec = spec.model, DecodeSpec.of(spec.model)
    params = initialize(lambda rngs: WaveNet(model, rngs=rngs), jax.random.key(0))
    if model.output == "mixture":
        params["fixed_log_scale"] -= 4.0  # the scale of sound
    keys = jax.random.split(jax.random.key(1), 4)
    weights = pack(params, decode_spec, dtype)
    shape = (3, len(model.dilations), spec.batch, 2 * model.channels)
    conditioned = model.vector_channels or model.frame_channels
    sounds = jnp.clip(0.2 * jax.random.normal(keys[0], (spec.steps, spec.batch)), -1, 1)
    periods = jnp.linspace(model.taps_ago, model.longest_period, spec.batch).astype(jnp.int32)
    return PLAIN | dict(
        weights=weights,
        conditioning=jax.random.normal(keys[1], shape) if conditioned else None,
        frame_index=jnp.minimum(jnp.arange(spec.steps) // 10, 2) if conditioned else None,
        periods=periods if model.taps_ago else None,
        uniforms=jax.random.uniform(keys[2], (spec.steps, 2, spec.batch)),
        forced=quantize(sounds, model.likelihood.quantization),
        temperature=jnp.float32(1),
        log_probs=True,
    )


def check(name: str, spec: ArgSpec, dtype: str, decode: Decode) -> Row:
    """Compares `decode` with the plain loop on this device: scores, state, and draws with and without top_k and top_p."""
    arguments = case(spec, dtype)
    rounded = dtype == "bfloat16" and pallas.tile_for(spec.batch) > 1
    allowed = 0.25 if rounded else 1e-3
    row: Row = {"what": "check", "implementation": "pallas", "model": name, "dtype": dtype, "batch": spec.batch}

    def both(**changed: Any) -> list[Any]:
        results = []
        with jax.default_matmul_precision("highest"):
            for one in (IMPLEMENTATIONS["jax"].decode, decode):
                results.append(one(**arguments | changed, cache=silent_cache(arguments["weights"], spec.batch)))
        return results

    (_, nats, cache), (_, own_nats, own_cache) = both()
    row["error_nats"] = float(jnp.abs(own_nats - nats).max())
    row["error_state"] = float(
        jnp.abs(own_cache.rings - cache.rings).max() / jnp.maximum(jnp.abs(cache.rings).max(), 1)
    )
    same = []
    for how in ({}, dict(top_k=3, top_p=0.8, temperature=jnp.float32(0.7))):
        (samples, *_), (own_samples, *_) = both(forced=None, log_probs=False, **how)
        half = max(1, spec.steps // 2)  # one sample that rounds to another bin changes all later ones
        same.append(float(jnp.mean(samples[:half] == own_samples[:half])))
    row |= {"same_samples": same[0], "same_samples_cut": same[1], "allowed": allowed}
    fine = row["error_nats"] <= allowed and row["error_state"] <= (0.03 if rounded else 1e-4)
    return row | {"ok": bool(np.isfinite(row["error_nats"]) and fine and (rounded or min(same) > 0.95))}


def checks(decode: Decode, quick: bool) -> list[Row]:
    """All shapes of the tests, each also with a batch for tensor cores; nv in both dtypes."""
    todo = []
    for name, spec in TESTED.items():
        todo += [(name, replace(spec, batch=batch), "float32") for batch in {spec.batch, 18}]
    todo += [(name, replace(TESTED[name], batch=18), "bfloat16") for name in ("mixture-conditioned", "softmax-width-3")]
    todo += [("nv", ArgSpec(NV, batch), dtype) for batch in (1, 16) for dtype in ("float32", "bfloat16")]
    if quick:
        todo = todo[:2] + todo[-2:]
    return in_threads([(partial(check, *each, decode), dict(what="check", model=each[0])) for each in todo])


def in_threads(jobs: list[tuple[Callable[[], Row], Row]]) -> list[Row]:
    """The rows of jobs; for a job that fails, its name and the error. Threads compile at the same time."""

    def tried(job: tuple[Callable[[], Row], Row]) -> Row:
        try:
            return job[0]()
        except Exception as error:
            return job[1] | {"error": f"{type(error).__name__}: {str(error)[:500]}"}

    with ThreadPoolExecutor(8) as pool:
        return list(pool.map(tried, jobs))


def reading(programs: int, passes: int, interpret: bool = False) -> Callable[[], Any]:
    """A candidate in which each of `programs` reads all blocks `passes` times, each starting at a different block."""

    def kernel(blocks: Any, out: Any) -> None:
        first = pl.program_id(0) * 7

        def add(step: jax.Array, total: jax.Array) -> jax.Array:
            return total + blocks[jax.lax.rem(first + step, READ_BLOCKS), :]

        total = jax.lax.fori_loop(0, passes * READ_BLOCKS, add, jnp.zeros(READ_BLOCK))
        out[pl.program_id(0), :] = total

    params = None
    if not interpret:
        from jax.experimental.pallas import triton

        params = triton.CompilerParams(num_warps=pallas.WARPS, num_stages=1)
    read = jax.jit(
        pl.pallas_call(
            kernel,
            grid=(programs,),
            out_shape=jax.ShapeDtypeStruct((programs, READ_BLOCK), jnp.float32),
            compiler_params=params,
            interpret=interpret,
        )
    )
    blocks = jnp.ones((READ_BLOCKS, READ_BLOCK))
    return lambda: read(blocks).block_until_ready()


def limits(quick: bool) -> tuple[list[Row], dict[int, float], float]:
    """Rows; bytes per second by number of programs; multiply-adds per second."""
    size = 1_024 if quick else PEAK
    square = jnp.ones((size, size), jnp.bfloat16)
    multiply = jax.jit(jnp.matmul)
    passes = 1 if quick else 8
    candidates: dict[Any, Callable[[], Any]] = {n: reading(n, passes) for n in (1, 8, 128, 264)}
    timings = interleaved(candidates | {"multiply": lambda: multiply(square, square).block_until_ready()}, 3)
    read_bytes = passes * READ_BLOCKS * READ_BLOCK * 4
    rates = {n: n * read_bytes / timings[n].median for n in candidates}
    rate = size**3 / timings["multiply"].median
    rows: list[Row] = [{"what": "read", "programs": n, "bytes_per_second": each} for n, each in rates.items()]
    return [*rows, {"what": "multiply", "dtype": "bfloat16", "multiply_adds_per_second": rate}], rates, rate


def sampler(weights: DecodeWeights, batch: int, steps: int, decode: Decode) -> Callable[[], Any]:
    """A candidate that draws `steps` samples of each stream, continuing the streams."""
    cache = silent_cache(weights, batch)
    uniforms = jax.random.uniform(jax.random.key(1), (steps, 2, batch))

    def once() -> None:
        nonlocal cache
        samples, _, cache = decode(**PLAIN, weights=weights, cache=cache, uniforms=uniforms, temperature=jnp.float32(1))
        samples.block_until_ready()

    return once


def timed(what: str, row: Row, candidate: Callable[[], Any], repeats: int) -> Row:
    """A row with the times of its candidate, which has run once already."""
    seconds = []
    for _ in range(repeats):
        began = time.perf_counter()
        candidate()
        seconds.append(time.perf_counter() - began)
    timing = Timing(float(np.median(seconds)), min(seconds), max(seconds))
    made = row["batch"] * row["steps"]
    row = {"what": what, **row, "seconds": timing.median, "seconds_low": timing.low, "seconds_high": timing.high}
    return row | {"samples_per_second": made / timing.median, "repeats": repeats}


def measure(what: str, jobs: list[tuple[Row, Callable[[], Callable[[], Any]]]], repeats: int) -> list[Row]:
    """Builds and compiles all candidates in parallel, then times one after the other."""

    def built(make: Callable[[], Callable[[], Any]], row: Row) -> Row:
        candidate = make()
        candidate()
        return row | {"candidate": candidate}

    rows = []
    for row in in_threads([(partial(built, make, row), {"what": what} | row) for row, make in jobs]):
        candidate = row.pop("candidate", None)
        rows.append(row if candidate is None else timed(what, row, candidate, repeats))
    return rows


def networks() -> dict[tuple[str, str], WaveNetConfig]:
    """Networks by name and dtype of the weights."""
    return {("nv", "float32"): NV, ("nv", "bfloat16"): NV, ("wavenet", "bfloat16"): preset_model("wavenet")}


def decoding(quick: bool, rates: dict[int, float], multiply_rate: float) -> list[Row]:
    models = networks()
    weights = {key: packed(model, key[1]) for key, model in models.items()}
    jobs = []
    for key in models:
        for batch in BATCHES[: 2 if quick else None]:
            for name in ("pallas", "jax"):
                steps = 32 if name == "jax" or quick else 1_024 if key[0] == "nv" else 512
                row = {"implementation": name, "model": key[0], "dtype": key[1], "batch": batch, "steps": steps}
                decode = IMPLEMENTATIONS[name].decode
                jobs.append((row, partial(sampler, weights[key], batch, steps, decode)))
    rows = measure("decode", jobs, 2 if quick else 5)
    for row in rows:
        if "seconds" in row:
            key = row["model"], row["dtype"]
            row |= shares(row, weight_bytes(weights[key]), multiply_adds(models[key]), rates, multiply_rate)
    return rows


def shares(row: Row, size: int, products: int, rates: dict[int, float], multiply_rate: float) -> Row:
    """Real-time factors, and shares of the limits."""
    step, arithmetic = row["seconds"] / row["steps"], products * row["batch"] / multiply_rate
    read = size / max(rates.values())
    programs = -(-row["batch"] // pallas.tile_for(row["batch"]))
    nearest = min(rates, key=lambda n: abs(n - programs))
    own_read = size * programs / rates[nearest]
    speed = {f"real_time_{khz}": 1 / step / (1_000 * khz) for khz in (16, 48)}
    bound = {
        "share_of_limit": max(read, arithmetic) / step,
        "bound_by": "reading" if read > arithmetic else "arithmetic",
    }
    return speed | bound | ({"share_of_own_limit": own_read / step} if row["implementation"] == "pallas" else {})


def tuning(quick: bool) -> list[Row]:
    weights = packed(networks()["nv", "bfloat16"], "bfloat16")
    jobs = []
    for batch in (1, 16):
        for warps in (4, 8, 16):
            for stages in (1,) if batch == 1 else (1, 2):  # reading ahead is for tensor cores only
                row = {"implementation": "pallas", "model": "nv", "dtype": "bfloat16", "batch": batch, "steps": 512}
                decode = compiled(warps=warps, stages=stages)
                make = partial(sampler, weights, batch, 512, decode)
                jobs.append((row | {"warps": warps, "stages": stages}, make))
    return measure("tuning", jobs[: 2 if quick else None], 2 if quick else 5)


def plain_loop(quick: bool) -> list[Row]:
    weights = {dtype: packed(networks()["nv", dtype], dtype) for dtype in ("float32", "bfloat16")}
    flags = os.environ.get("XLA_FLAGS", "")
    jobs = []
    for dtype, each in weights.items():
        for batch in (1, 16):
            row = {
                "implementation": "jax",
                "model": "nv",
                "dtype": dtype,
                "batch": batch,
                "steps": 64,
                "xla_flags": flags,
            }
            jobs.append((row, partial(sampler, each, batch, 64, IMPLEMENTATIONS["jax"].decode)))
    return measure("command_buffer", jobs, 3)


def command_buffers(quick: bool) -> list[Row]:
    """The plain loop in processes of its own, because XLA reads its flags once."""
    rows = []
    for flags in ("", FLAG):
        environment = os.environ | {"XLA_FLAGS": f"{os.environ.get('XLA_FLAGS', '')} {flags}".strip()}
        command = [sys.executable, __file__, "--only-plain-loop", *(["--quick"] if quick else [])]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=120)
        if done.returncode:
            rows.append({"what": "command_buffer", "xla_flags": flags, "error": done.stderr[-500:]})
        else:
            rows += json.loads(done.stdout.splitlines()[-1])
    return rows


def training(quick: bool, multiply_rate: float) -> list[Row]:
    full = preset("wavenet")
    configs = {"wavenet": full, "nv": Config("wavenet", NV, TrainingConfig(batch_size=16, crop_seconds=0.512))}
    rows = []
    for name, config in configs.items():
        batch, crop = config.training.batch_size, bound(config, PIECES).crop(config.training)
        row = {"implementation": "wavesynth", "model": name, "dtype": config.model.dtype, "batch": batch, "steps": crop}
        for each in measure("train_step", [(row, partial(wavesynth_step, config))], 2 if quick else 7):
            if "seconds" in each:
                products = 3 * multiply_adds(config.model) * batch * crop
                each["share_of_limit"] = products / multiply_rate / each["seconds"]
            rows.append(each | {"crop": each.pop("steps")})
    return rows


def copying() -> float:
    """Bytes of device memory read and written per second."""
    numbers = jnp.ones(2**28)
    add = jax.jit(lambda x: x + 1)
    timing = interleaved({"copy": lambda: add(numbers).block_until_ready()}, 5)["copy"]
    return 2 * numbers.nbytes / timing.median


def whole_sounds(quick: bool, multiply_rate: float) -> list[Row]:
    """Families that generate whole sounds: training steps and generation."""
    copy_rate = copying()
    rows: list[Row] = [{"what": "copy", "bytes_per_second": copy_rate}]
    for name in ("wavegan", "autoencoder"):
        config = preset(name)
        training = config.training
        family = bound(config, NOTES)
        batch = notes(training.batch_size, family.crop(training))
        params = family.init(jax.random.key(0), jax.tree.map(np.asarray, batch))
        case = {"what": "whole_sounds", "implementation": "wavesynth", "model": name, "dtype": config.model.dtype}
        measured = stepping(family.objective(training), params, batch, multiply_rate, copy_rate, 2 if quick else 7)
        measured.append(making(family, family.published(params), 8 if quick else 64, 2 if quick else 7))
        rows += [case | row for row in measured]
    return rows


def notes(rows: int, length: int) -> dict[str, jax.Array]:
    """A batch of noise with one label and pitch."""
    return {
        "samples": 0.1 * jax.random.normal(jax.random.key(0), (rows, 1, length)),
        "real": jnp.ones((rows, length), bool),
        "conditions": Conditions.constant([0] * rows, len(NOTES.labels), [60.0] * rows),
        "start": jnp.zeros(rows, jnp.int32),
    }


def stepping(
    objective: Objective, params: Any, batch: dict[str, jax.Array], multiply_rate: float, copy_rate: float, repeats: int
) -> list[Row]:
    """A training step, of each phase where there are phases."""
    rows = []
    rest: list[tuple[int, ...]] = [()]
    if isinstance(objective, Phased):
        rest = [(phase,) for phase in range(objective.phase(0), objective.phase(objective.training.steps - 1) + 1)]
    for phase in rest:
        state = objective.init(jax.tree.map(jnp.copy, params))
        step = jax.jit(objective.step, static_argnums=2 if phase else ())
        program = step.lower(state, batch, *phase).compile()
        cost: Any = program.cost_analysis()
        cost = cost[0] if isinstance(cost, list) else cost
        run = partial(lambda program, *given: jax.block_until_ready(program(*given)), program, state, batch)
        timing = interleaved({"step": run}, repeats)["step"]
        bounds = {"arithmetic": cost["flops"] / 2 / multiply_rate, "memory": cost["bytes accessed"] / copy_rate}
        bound_by = max(bounds, key=bounds.__getitem__)
        rows.append({
            "part": " ".join(["train step", *(f"of phase {number}" for number in phase)]),
            "batch": len(batch["samples"]), "seconds": timing.median, "seconds_low": timing.low, "seconds_high": timing.high,
            "samples_per_second": batch["samples"].size / timing.median,
            "share_of_limit": bounds[bound_by] / timing.median, "bound_by": bound_by,
        })  # fmt: skip
    return rows


def making(family: Family, params: Any, n: int, repeats: int) -> Row:
    """Generates sounds of one second, or of the model's length."""
    paths = None
    if isinstance(family, CodingFamily):
        paths = (
            np.random.default_rng(0).normal(0, 1, (n, round(family.frame_rate), family.code_width)).astype(np.float32)
        )
    conditions, request = Conditions.constant([0] * n, len(NOTES.labels), [60.0] * n), Request(latents=paths)
    timing = interleaved({"make": lambda: list(family.generate(params, conditions, request))}, repeats)["make"]
    seconds = n * (family.length or NOTES.sample_rate) / NOTES.sample_rate
    return {
        "part": "making", "batch": n, "seconds": timing.median, "seconds_low": timing.low, "seconds_high": timing.high,
        "real_time_16": seconds / timing.median,
    }  # fmt: skip


def report(rows: list[Row]) -> None:
    """Prints a table for each part, and the errors."""
    columns = {
        "check": ("model", "dtype", "batch", "error_nats", "error_state", "same_samples", "same_samples_cut", "ok"),
        "read": ("programs", "bytes_per_second"),
        "multiply": ("dtype", "multiply_adds_per_second"),
        "copy": ("bytes_per_second",),
        "train_step": ("model", "dtype", "batch", "crop", "seconds", "samples_per_second", "share_of_limit"),
    }
    speed = ("implementation", "model", "dtype", "batch", "steps", "seconds", "seconds_low", "seconds_high")
    speed += ("samples_per_second", "real_time_16", "real_time_48", "share_of_limit", "bound_by", "share_of_own_limit")
    for what in dict.fromkeys(row["what"] for row in rows):
        these = [row for row in rows if row["what"] == what]
        extra = {"tuning": ("warps", "stages"), "whole_sounds": ("part",), "command_buffer": ("xla_flags",)}.get(
            what, ()
        )
        print(f"\n{what}")
        print_table([row for row in these if "error" not in row], columns.get(what, (*speed, *extra)))
        for row in these:
            if "error" in row:
                print("failed:", json.dumps(row))


def parts(options: argparse.Namespace, rows: list[Row]) -> None:
    """Adds the rows of one part after the other, and writes the file after each."""
    began, quick = time.monotonic(), options.quick
    measured, rates, multiply_rate = limits(quick)
    rows += measured
    todo: dict[str, Callable[[], list[Row]]] = {
        "train_step": lambda: training(quick, multiply_rate),  # first: a wrong memory access would end all others
        "whole_sounds": lambda: whole_sounds(quick, multiply_rate),
        "check": lambda: checks(IMPLEMENTATIONS["pallas"].decode, quick),
        "decode": lambda: decoding(quick, rates, multiply_rate),
        "command_buffer": lambda: command_buffers(quick),
        "tuning": lambda: tuning(quick),
    }
    for what, part in todo.items():
        minutes = (time.monotonic() - began) / 60
        print(f"{minutes:.1f} minutes: {what}", flush=True)
        try:
            if minutes > MINUTES:
                raise TimeoutError(f"{minutes:.1f} minutes had passed")
            added = part()
        except Exception as error:
            added = [{"what": what, "error": f"{type(error).__name__}: {str(error)[:500]}"}]
        rows += [row | {"quick": quick} for row in added]
        write_json(options.json, rows)


def main() -> int:
    parser = arguments(__doc__)
    parser.add_argument("--only-plain-loop", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # another process of this benchmark needs room
    if jax.default_backend() != "gpu":
        print(f"gpu.py measures a GPU, and JAX computes on {jax.default_backend()}: install the extra cuda12 or cuda13")
        return 2
    if options.only_plain_loop:
        print(json.dumps(plain_loop(options.quick)))
        return 0
    rows: list[Row] = [machine()]
    parts(options, rows)
    report(rows[1:])
    wrong = [row for row in rows if row["what"] == "check" and not row.get("ok")]
    print(f"\n{len(wrong)} checks failed" if wrong else "\nall checks passed")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
