"""The benchmarks run, on networks of three layers. What they measure belongs into bench/RESULTS.md, on a quiet machine."""

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
QUICK = ("--quick", "--three-layers")
SPEED = FIELDS | {"dtype", "batch", "seconds", "samples_per_second", "share_of_limit"}


def run(name: str, *arguments: object, status: int = 0) -> str:
    """Runs a benchmark as a script on the package under test, and returns what it prints."""
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
    """All rows but the first, which describes the machine."""
    machine, *rows = json.loads(path.read_text())
    assert machine["what"] == "machine"
    assert machine["wavesynth"] == wavesynth.__version__
    assert {"cpu", "cores", "system", "jax", "jaxlib", "numpy", "torch"} <= machine.keys()
    assert all(not isinstance(value, dict | list) for row in rows for value in row.values())
    return rows


def check_pytorch(rows: list[dict], printed: str) -> None:
    """What is not installed is named as left out."""
    assert any(row["implementation"] == "pytorch" for row in rows) != ("left out: implementation pytorch" in printed)


def test_every_benchmark_takes_the_shared_options() -> None:
    for path in BENCH.glob("*.py"):
        if path.name not in ("harness.py", "trainees.py", "beside_real.py", "render_instruments.py"):  # no benchmarks
            assert "arguments(__doc__)" in path.read_text(encoding="utf-8"), path.name


def test_help_names_the_options() -> None:
    printed = run("decode.py", "--help")
    assert "--quick" in printed
    assert "--json PATH" in printed
    assert "three-layers" not in printed


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
    printed = run(name, *QUICK, "--json", tmp_path / "rows.json")
    rows = rows_of(tmp_path / "rows.json")
    assert all(row.keys() >= SPEED and row["quick"] for row in rows)
    own = {row["model"].split(",")[0] for row in rows if row["implementation"] == implementation}
    assert own == models
    assert all(row["seconds_low"] <= row["seconds"] <= row["seconds_high"] for row in rows)
    check_pytorch(rows, printed)


def test_memory(tmp_path: Path) -> None:
    run("memory.py", *QUICK, "--json", tmp_path / "rows.json")
    *readings, growth = rows_of(tmp_path / "rows.json")
    assert all(row.keys() >= SPEED | {"minutes", "megabytes", "measure"} and row["quick"] for row in readings)
    assert len(readings) == 61
    assert growth["what"] == "growth"
    assert growth["megabytes_highest"] == max(row["megabytes"] for row in readings[7:])
    # The sound generated after the first tenth would take 3.5 million bytes in float32.
    assert growth["megabytes_highest"] - growth["megabytes_first"] < 3


def test_bits_of_held_out_sound(tmp_path: Path, sounds: Path) -> None:
    printed = run(
        "piano_bits.py", sounds, "--held-out", "cello_060", *QUICK, "--json", tmp_path / "rows.json",
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


def test_the_instruments_that_a_published_model_must_not_know_are_kept_apart() -> None:
    program = (
        "from pathlib import Path; from render_instruments import NAMES, works; "
        "print(*(f'{work.folder} {work.instrument.program} {work.font.stem} {work.instrument.label} '"
        "for work in works(Path('out'), ['flute', 'cello'])), len(NAMES), sep='\\n')"
    )
    environment = os.environ | {"PYTHONPATH": f"{BENCH}:{Path(wavesynth.__file__).parent.parent}"}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    assert [line.strip() for line in done.stdout.splitlines()] == [
        "out/seen/flute 73 FluidR3_GM flute-fluid",
        "out/seen/flute 73 MuseScore_General_Full flute-muse",
        "out/unseen/cello 42 FluidR3_GM cello-fluid",
        "out/unseen/cello 42 MuseScore_General_Full cello-muse",
        "112",
    ]
