"""How much memory an endless sound takes: one hour at 16 kHz, written to disk as it is made by `Synth.write`.

The network is that of wavenet-tiny with random weights (what it plays is noise, but it takes the memory and the time of a
trained one), for a tone with a label and a pitch, so that the sampler carries all it can carry. The implementation is the
one that is chosen by default. The wav is written to a temporary folder and thrown away.

A row is a reading of the memory that is resident in this process, in millions of bytes: the first when the first block is
on disk and all is compiled, then one every minute of sound, or 60 in all where the sound is shorter than an hour. The last
row, `growth`, compares: megabytes_first is the median of the readings of the first tenth of the sound (without the very
first one, from before anything was repeated), megabytes_end that of the last tenth, megabytes_highest the highest
of all after the first tenth; growth_percent and highest_percent are how far those two lie above the first tenth.
samples_per_second is that of the whole sound after its first block, so that compiling is not counted; `seconds` counts
from the call, compiling included.

`measure` is "resident" where Linux's /proc tells it. Elsewhere it is "peak", the most that was ever resident, which hides
growth that stays below what compiling took; where the system does not tell that either, nothing is measured.
"""

import argparse
import dataclasses
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
from harness import Row, arguments, machine, print_table, shrunk, write_json
from trainees import bound

from wavesynth import Synth
from wavesynth.conditions import Conditions
from wavesynth.config import DatasetInfo
from wavesynth.families import preset
from wavesynth.kernels.wavenet_decode import DecodeSpec, pack
from wavesynth.kernels.wavenet_decode.api import choose

PRESET = "wavenet-tiny"
NOTES = DatasetInfo(sample_rate=16_000, labels=("bright", "dark"), pitched=True, clip_seconds=2.0)
STATUS = Path("/proc/self/status")
READINGS = 60  # at least, whatever the length
SHORTEST = 4.0  # seconds that hold so many blocks


@dataclasses.dataclass(frozen=True, eq=False)
class Watched(Synth):
    """A synth that tells `watch` how many samples have been made, whenever the block that held the last was dealt with."""

    watch: Callable[[int], None]

    def blocks(self, *shape: Any, **options: Any) -> Iterator[np.ndarray]:
        made = 0
        for block in super().blocks(*shape, **options):
            yield block
            made += block.shape[-1]
            self.watch(made)


def meter(parser: argparse.ArgumentParser) -> tuple[str, Callable[[], float]]:
    """What this system tells of the process's memory, and a function that reads it, in millions of bytes."""
    if STATUS.exists():
        return "resident", resident
    try:
        import resource
    except ImportError:
        parser.exit(2, f"memory.py reads {STATUS} or getrusage, and {sys.platform} has neither: nothing is measured\n")
    print(f"{sys.platform} has no {STATUS}: what is measured is the peak, which hides what lies below it", flush=True)
    unit = 1 if sys.platform == "darwin" else 1_024
    return "peak", lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


def resident() -> float:
    lines = dict(line.split(":", 1) for line in STATUS.read_text().splitlines())
    return int(lines["VmRSS"].split()[0]) * 1_024 / 1e6


def untrained(three_layers: bool, watch: Callable[[int], None]) -> Watched:
    """A synth that has learned nothing yet."""
    config = preset(PRESET)
    family = bound(dataclasses.replace(config, model=shrunk(config.model)) if three_layers else config, NOTES)
    noise = np.random.default_rng(0).normal(0, 0.1, (4, 2 * family.context)).astype(np.float32)
    windows = {
        "samples": noise[:, None],
        "conditions": Conditions.constant([-1] * len(noise), len(NOTES.labels), [None] * len(noise)),
    }
    return Watched(family, family.init(jax.random.key(0), windows), watch)


def growth(readings: list[Row]) -> Row:
    """The last tenth of the readings, and the highest, beside the first tenth; the very first reading is left out."""
    megabytes = [row["megabytes"] for row in readings[1:]]
    tenth = max(1, len(megabytes) // 10)
    first, end = statistics.median(megabytes[:tenth]), statistics.median(megabytes[-tenth:])
    highest = max(megabytes[tenth:])
    return {
        "megabytes_first": first,
        "megabytes_end": end,
        "megabytes_highest": highest,
        "growth_percent": 100 * (end / first - 1),
        "highest_percent": 100 * (highest / first - 1),
    }


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--seconds", type=float, help="length of the sound (3600; quick: 60)")
    options = parser.parse_args()
    seconds = options.seconds if options.seconds is not None else 60.0 if options.quick else 3_600.0
    if not SHORTEST <= seconds < float("inf"):
        parser.error(f"--seconds is {seconds:g}: it must be at least {SHORTEST:g}, and finite")
    measure, read = meter(parser)
    rows: list[Row] = [machine()]
    every = int(min(60.0, seconds / READINGS) * NOTES.sample_rate)  # samples
    readings: list[Row] = []

    def watch(made: int) -> None:
        if made >= len(readings) * every:
            now = time.perf_counter() - began
            readings.append({"minutes": made / NOTES.sample_rate / 60, "seconds": now, "megabytes": read()})

    synth = untrained(options.three_layers, watch)
    weights = pack(synth.params, DecodeSpec.of(synth.family.model), synth.family.model.dtype)
    case = {
        "implementation": choose(None, weights),
        "model": PRESET,
        "dtype": synth.family.model.dtype,
        "batch": 1,
        "measure": measure,
    }
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        synth.write(folder, 1, seconds, progress=True, label=NOTES.labels[0], pitch=60.0)
    took = time.perf_counter() - began
    first = readings[0]
    made = (seconds - 60 * first["minutes"]) * NOTES.sample_rate
    speed = {"samples_per_second": made / (took - first["seconds"]), "share_of_limit": None, "quick": options.quick}
    rows += [{"what": "memory", **case, **reading, **speed} for reading in readings]
    rows.append({"what": "growth", **case, "minutes": seconds / 60, "seconds": took, **growth(readings), **speed})
    print_table(rows[1:-1], ("minutes", "seconds", "megabytes"))
    print_table(rows[-1:], tuple(name for name in rows[-1] if name not in ("what", "quick", "share_of_limit")))
    write_json(options.json, rows)


if __name__ == "__main__":
    main()
