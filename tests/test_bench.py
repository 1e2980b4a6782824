"""The benchmarks run: what they measure is for bench/RESULTS.md, on a quiet machine."""

import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import pytest

import wavesynth

BENCH = Path(__file__).resolve().parent.parent / "bench"
FIELDS = {"what", "implementation", "model", "quick"}
SPEED = FIELDS | {"dtype", "batch", "seconds", "samples_per_second", "share_of_limit"}


def run(name: str, *arguments: object, status: int = 0) -> str:
    """What a benchmark prints, run as a script on the package under test."""
    # A script finds its neighbours in its own folder, which PYTHONSAFEPATH would hide.
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONSAFEPATH"}
    environment |= {
        "PYTHONPATH": str(Path(wavesynth.__file__).parent.parent),
        "COLUMNS": "100",
        "JAX_NUM_CPU_DEVICES": "1",
    }
    command = [sys.executable, BENCH / name, *map(str, arguments)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == status, done.stderr
    return done.stdout


def rows_of(path: Path) -> list[dict]:
    """The rows behind the first, which tells of the machine."""
    machine, *rows = json.loads(path.read_text())
    assert machine["what"] == "machine"
    assert machine["wavesynth"] == wavesynth.__version__
    assert {"cpu", "cores", "system", "jax", "jaxlib", "numpy", "torch"} <= machine.keys()
    assert all(not isinstance(value, dict | list) for row in rows for value in row.values())
    return rows


def check_pytorch(rows: list[dict], printed: str) -> None:
    """An implementation that is not installed is named."""
    assert any(row["implementation"] == "pytorch" for row in rows) != ("left out: implementation pytorch" in printed)


@pytest.mark.parametrize("name", ["train_wavenet.py", "decode.py", "memory.py", "piano_bits.py", "gpu.py"])
def test_help_tells_the_options(name: str) -> None:
    printed = run(name, "--help")
    assert "--quick" in printed
    assert "--json PATH" in printed


@pytest.mark.skipif(jax.default_backend() == "gpu", reason="there is one")
def test_without_a_gpu_its_benchmark_says_so(tmp_path: Path) -> None:
    printed = run("gpu.py", "--json", tmp_path / "rows.json", status=2)
    assert printed.splitlines() == [
        "gpu.py measures a GPU, and JAX computes on cpu: install the extra cuda12 or cuda13"
    ]
    assert not (tmp_path / "rows.json").exists()


@pytest.mark.parametrize(
    ("name", "implementation", "models"),
    [
        ("train_wavenet.py", "wavesynth", {"nv", "wavenet-small"}),
        ("decode.py", "jax", {"nv", "small", "full"}),
    ],
)
def test_speed(name: str, implementation: str, models: set[str], tmp_path: Path) -> None:
    printed = run(name, "--quick", "--json", tmp_path / "rows.json")
    rows = rows_of(tmp_path / "rows.json")
    assert all(row.keys() >= SPEED and row["quick"] for row in rows)
    own = {row["model"].split(",")[0] for row in rows if row["implementation"] == implementation}
    assert own == models
    assert all(row["seconds_low"] <= row["seconds"] <= row["seconds_high"] for row in rows)
    check_pytorch(rows, printed)


def test_memory(tmp_path: Path) -> None:
    run("memory.py", "--quick", "--json", tmp_path / "rows.json")
    *readings, growth = rows_of(tmp_path / "rows.json")
    assert all(row.keys() >= SPEED | {"minutes", "megabytes", "measure"} and row["quick"] for row in readings)
    assert len(readings) == 61
    assert growth["what"] == "growth"
    assert growth["megabytes_highest"] == max(row["megabytes"] for row in readings[7:])
    # The sound that is made after the first tenth takes 3.5 million bytes in float32.
    assert growth["megabytes_highest"] - growth["megabytes_first"] < 3


def test_bits_of_held_out_sound(tmp_path: Path, sounds: Path) -> None:
    printed = run(
        "piano_bits.py", sounds, "--held-out", "cello_060", "--quick", "--json", tmp_path / "rows.json",
        "--save", tmp_path / "run",
    )  # fmt: skip
    rows = rows_of(tmp_path / "rows.json")
    assert all(row.keys() >= FIELDS | {"bits", "bits_from_mulaw_past", "schedule_minutes"} for row in rows)
    bits = {row["implementation"]: row["bits"] for row in rows}
    assert bits["uniform"] == 8.0
    assert 0 < bits["linear prediction"] < bits["unigram"] < 8
    assert 0 < bits["wavesynth"] < 8
    check_pytorch(rows, printed)
    synth = wavesynth.load(tmp_path / "run")
    assert synth.labels == tuple(sorted(path.name for path in sounds.iterdir() if path.is_dir()))
