"""Shared code of the benchmarks: arguments, timing, a description of the machine, tables on screen, rows in JSON.

Alternatives are timed in one process and in turns, so that a slower machine affects all of them. The first run of each, which
compiles and warms up, does not count.
"""

import argparse
import dataclasses
import importlib.metadata
import importlib.util
import json
import os
import platform
import statistics
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import wavesynth
from wavesynth import Synth
from wavesynth.audio.pcm import to_float
from wavesynth.data.batches import mono
from wavesynth.data.shards import Shards
from wavesynth.models.wavenet import WaveNetConfig

Row = dict[str, Any]


class Timing(NamedTuple):
    """Seconds of one run: the median of several, the fastest and the slowest."""

    median: float
    low: float
    high: float


def arguments(description: str | None) -> argparse.ArgumentParser:
    """The arguments of every benchmark. `--three-layers` is for tests: it shrinks networks, see `shrunk`."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer repeats of the same shapes: under a minute, rough")
    parser.add_argument("--json", type=Path, metavar="PATH", help="where to write the rows, the machine first")
    parser.add_argument("--three-layers", action="store_true", help=argparse.SUPPRESS)
    return parser


def has_pytorch() -> bool:
    """Whether the extra `bench` is installed. If not, prints what is left out."""
    missing = [name for name in ("torch", "wavenet_vocoder") if importlib.util.find_spec(name) is None]
    if missing:
        print(f"left out: implementation pytorch, since {' and '.join(missing)} is missing (extra `bench`)", flush=True)
    return not missing


def pytorch_wavenet(config: WaveNetConfig) -> Any:
    """A `wavenet-vocoder` of the size of a softmax WaveNet with equal skip and head widths, without dropout."""
    import torch
    from wavenet_vocoder import WaveNet

    warnings.filterwarnings("ignore", category=FutureWarning, module="torch")  # from a dependency of the old package
    torch.manual_seed(0)
    return WaveNet(
        out_channels=config.likelihood.width, layers=len(config.dilations), stacks=config.stacks,
        residual_channels=config.channels, gate_channels=2 * config.channels, skip_out_channels=config.skip_channels,
        kernel_size=config.kernel_width, dropout=0.0,
    )  # fmt: skip


def shrunk(config: WaveNetConfig) -> WaveNetConfig:
    """The same network with three layers, which compiles in a moment: for tests of the benchmarks."""
    return dataclasses.replace(config, stacks=1, layers_per_stack=3)


def multiply_adds(config: WaveNetConfig) -> int:
    """Multiply-adds of a WaveNet's matrix products for one sample. Table lookups do not count."""
    width, channels, skip, head = config.kernel_width, config.channels, config.skip_channels, config.head_channels
    layer = width * channels * 2 * channels + channels * channels + channels * skip
    front = 0 if config.output == "softmax" else config.taps * (config.taps + channels + 1)
    return front + len(config.dilations) * layer + skip * head + head * config.likelihood.width


def machine() -> Row:
    """Processor, cores, system, versions, and the load before the benchmark began.

    Prints a warning if the machine was busy: threads then wait for each other, PyTorch's the longest.
    """
    packages = ("jax", "jaxlib", "numpy", "torch", "wavenet-vocoder")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    if load is not None and load > 0.3 * (cores or 1):
        print(f"the machine is busy (load {load:.1f}): the numbers will be unreliable", flush=True)
    return {
        "what": "machine",
        "date": time.strftime("%Y-%m-%d %H:%M:%S"),
        "cpu": _cpu(),
        "cores": cores,
        "device": jax.devices()[0].device_kind,
        "system": platform.platform(),
        "python": platform.python_version(),
        "load": load,
        "wavesynth": wavesynth.__version__,
    } | {package: _version(package) for package in packages}


def _cpu() -> str:
    """The processor's name and vector extensions, where the system names them."""
    try:
        lines = dict(line.split(":", 1) for line in Path("/proc/cpuinfo").read_text().splitlines() if ":" in line)
    except OSError:
        return platform.processor() or platform.machine()
    facts = {name.strip(): value.strip() for name, value in lines.items()}
    known = ("avx2", "avx512f", "avx512_bf16", "amx_bf16", "asimd", "sve")
    extensions = [name for name in known if name in facts.get("flags", facts.get("Features", "")).split()]
    return " ".join([facts.get("model name", platform.machine()), *extensions])


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def interleaved(candidates: dict[str, Callable[[], Any]], repeats: int) -> dict[str, Timing]:
    """Times each candidate `repeats` times, in turns. A candidate must return when its work is done, not when it is queued."""
    for candidate in candidates.values():
        candidate()
    seconds: dict[str, list[float]] = {name: [] for name in candidates}
    for _ in range(repeats):
        for name, candidate in candidates.items():
            began = time.perf_counter()
            candidate()
            seconds[name].append(time.perf_counter() - began)
    return {name: Timing(statistics.median(all_), min(all_), max(all_)) for name, all_ in seconds.items()}


def matrix_product(rows: int, columns: int = 2_048) -> Callable[[], Any]:
    """A candidate that multiplies [rows, columns] by [columns, columns] in float32: the machine's arithmetic limit."""
    left, right = jnp.ones((rows, columns)), jnp.ones((columns, columns))
    multiply = jax.jit(jnp.matmul)
    return lambda: multiply(left, right).block_until_ready()


def shards_for(synth: Synth, path: str | Path) -> Shards:
    """Opens shards, which must have the model's sample rate, and its channels unless it is mono."""
    shards = Shards.open(path)
    if shards.sample_rate != synth.sample_rate or synth.channels not in (1, shards.channels):
        raise SystemExit(
            f"SHARDS is {path}, of {shards.sample_rate} Hz and {shards.channels} channels; the model has {synth.sample_rate} "
            f"Hz and {synth.channels}: prepare the sounds like those that it was trained on"
        )
    return shards


def sound_of(shards: Shards, clip: int, channels: int, length: int | None = None) -> np.ndarray:
    """A clip or its beginning, float32 [C, T]. It is mixed if one channel is asked for."""
    samples = to_float(shards.samples(clip)[:, :length])
    return mono(samples)[None] if channels == 1 else samples


def print_table(rows: list[Row], columns: tuple[str, ...]) -> None:
    """Prints rows under the names of their columns. Missing values stay empty."""
    cells = [[column.replace("_", " ") for column in columns]]
    cells += [[_cell(row.get(column)) for column in columns] for row in rows]
    widths = [max(len(line[index]) for line in cells) for index in range(len(columns))]
    for line in cells:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip(), flush=True)


def _cell(value: Any) -> str:
    if isinstance(value, float | np.floating):
        return f"{value:,.0f}" if abs(value) >= 1_000 else f"{value:.3g}" if abs(value) < 1 else f"{value:.2f}"
    return "" if value is None else str(value)


def write_json(path: Path | None, rows: list[Row]) -> None:
    """Writes the rows as a list of flat objects, one per line, whole or not at all. None writes nothing."""
    if path is not None:
        temporary = path.with_name(path.name + ".tmp")
        temporary.write_text("[\n" + ",\n".join(json.dumps(row) for row in rows) + "\n]\n")
        os.replace(temporary, path)
