"""Memory use of an endless sound: `Synth.write` writes one hour at 16 kHz to disk while it is generated.

The network is wavenet-tiny with random weights. It generates noise, but takes as much memory and time as a trained one. The
sound has a label and a pitch, and uses the default implementation. The WAV file is temporary.

Each row is a reading of this process's resident memory, in millions of bytes: the first after compilation and the first
block, then one per minute of sound (60 in total, if the sound is shorter than an hour). The last row, `growth`, compares
them: megabytes_first is the median of the readings of the first tenth of the sound, without the very first one;
megabytes_end is that of the last tenth; megabytes_highest is the maximum after the first tenth; growth_percent and
highest_percent are the increases of these two over megabytes_first. samples_per_second excludes the first block, and so
compilation; `seconds` counts from the call.

`measure` is "resident" if Linux's /proc reports it. Otherwise it is "peak", the maximum so far, which hides growth below the
memory that compilation took. If the system reports neither, nothing is measured.
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
from wavesynth.config import DatasetInfo
from wavesynth.families import preset
from wavesynth.kernels.wavenet_decode import DecodeSpec, pack
from wavesynth.kernels.wavenet_decode.api import choose
from wavesynth.models.functional import initialize
from wavesynth.models.wavenet import WaveNet

PRESET = "wavenet-tiny"
NOTES = DatasetInfo(sample_rate=16_000, labels=("bright", "dark"), pitched=True, clip_seconds=2.0)
STATUS = Path("/proc/self/status")
READINGS = 60  # at least, whatever the length
SHORTEST = 4.0  # seconds that hold so many blocks


@dataclasses.dataclass(frozen=True, eq=False)
class Watched(Synth):
    """A synth that reports the number of generated samples to `watch`, after each block was used."""

    watch: Callable[[int], None]

    def blocks(self, *shape: Any, **options: Any) -> Iterator[np.ndarray]:
        made = 0
        for block in super().blocks(*shape, **options):
            yield block
            made += block.shape[-1]
            self.watch(made)


def meter(parser: argparse.ArgumentParser) -> tuple[str, Callable[[], float]]:
    """Which measure of the process's memory this system has, and a function that reads it, in millions of bytes."""
    if STATUS.exists():
        return "resident", resident
    try:
        import resource
    except ImportError:
        parser.exit(2, f"memory.py reads {STATUS} or getrusage, and {sys.platform} has neither: nothing is measured\n")
    print(f"{sys.platform} has no {STATUS}: the peak is measured, which hides growth below it", flush=True)
    unit = 1 if sys.platform == "darwin" else 1_024
    return "peak", lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


def resident() -> float:
    lines = dict(line.split(":", 1) for line in STATUS.read_text().splitlines())
    return int(lines["VmRSS"].split()[0]) * 1_024 / 1e6


def untrained(three_layers: bool, watch: Callable[[int], None]) -> Watched:
    """An untrained synth."""
    config = preset(PRESET)
    family = bound(dataclasses.replace(config, model=shrunk(config.model)) if three_layers else config, NOTES)
    fresh = initialize(lambda rngs: WaveNet(family.model, rngs=rngs), jax.random.key(0))
    return Watched(family, jax.tree.map(np.asarray, fresh), watch)


def growth(readings: list[Row]) -> Row:
    """Compares the last tenth of the readings, and the highest, with the first tenth, without the very first reading."""
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
