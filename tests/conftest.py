"""What every test runs under: the installed package, strict JAX, reproducible hypothesis, and the shipped sounds."""

import dataclasses
import gc
import importlib.machinery
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from functools import cached_property
from importlib.metadata import version
from pathlib import Path

import pytest
from hypothesis import settings

ROOT = Path(__file__).resolve().parent.parent


def prefer_installed_package() -> None:
    """Makes `import wavesynth` find the installed package, here and in child processes.

    `python -m pytest` puts the repository's root first on the import path. The source tree would then hide the
    installed package, and a wheel that lacks a file would pass. Without an installed package, or with an editable one,
    the tests run on the source tree.
    """
    elsewhere = [entry for entry in sys.path if Path(entry or ".").resolve() != ROOT]
    found = importlib.machinery.PathFinder.find_spec("wavesynth", elsewhere)
    if found is not None and found.origin is not None:  # not an empty folder that an uninstalled one left
        sys.path[:] = elsewhere
        os.environ["PYTHONSAFEPATH"] = "1"


prefer_installed_package()


def configure_compiler() -> None:
    """Sets how programs are compiled, here and in child processes, before JAX reads the environment.

    All processes of a session share one compile cache. The process that started first makes its folder, so no result
    comes from an earlier run or another program. XLA compiles without optimisation and without its MLIR emitters, which
    takes a third of the time: tests check what is computed, not how fast. What XLA_FLAGS says already comes later and wins.
    """
    if "PYTEST_XDIST_WORKER" in os.environ:
        return  # configured by the process that started it
    os.environ["JAX_ENABLE_COMPILATION_CACHE"] = "true"
    os.environ["JAX_COMPILATION_CACHE_DIR"] = tempfile.mkdtemp(prefix="wavesynth-tests-")
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
    flags = ["--xla_backend_optimization_level=0"]
    if version("jaxlib").startswith("0.10."):  # later ones know no such flag, and end the process
        flags.append("--xla_cpu_use_fusion_emitters=false")
    os.environ["XLA_FLAGS"] = " ".join([*flags, os.environ.get("XLA_FLAGS", "")]).strip()


def pytest_unconfigure() -> None:
    if "PYTEST_XDIST_WORKER" not in os.environ:
        shutil.rmtree(os.environ["JAX_COMPILATION_CACHE_DIR"], ignore_errors=True)


configure_compiler()

import jax  # noqa: E402  (after the environment that it reads)

# [B, 1] + [B] is a bug far more often than it is meant.
jax.config.update("jax_numpy_rank_promotion", "raise")

# The same examples in every run and no time limit: a failure is about the code, not about the machine's load.
settings.register_profile("ci", derandomize=True, deadline=None, database=None)
settings.load_profile("ci")


@pytest.fixture(autouse=True, scope="module")
def forget_programs() -> Iterator[None]:
    """Drops what a module has compiled. Each program takes some memory maps, and Linux allows a process 65,530 of them."""
    yield
    jax.clear_caches()
    gc.collect()


@pytest.fixture(scope="session")
def shipped() -> Path:
    """The folder of short sounds that ships with the package: LABEL/*.flac, 44.1 kHz, stereo, one second or less."""
    import wavesynth

    return Path(wavesynth.__file__).parent / "demo" / "sounds"


@pytest.fixture(scope="session")
def sounds(tmp_path_factory: pytest.TempPathFactory, shipped: Path) -> Path:
    """The same sounds at 16 kHz, mono, with which tests are fast."""
    import soundfile

    from wavesynth.audio import files

    folder = tmp_path_factory.mktemp("sounds")
    for path in sorted(shipped.rglob("*.flac")):
        (copy := folder / path.relative_to(shipped)).parent.mkdir(exist_ok=True)
        soundfile.write(copy, files.read(path, 16_000)[0], 16_000, subtype="PCM_16")
    return folder


@pytest.fixture(scope="session")
def shared() -> Path:
    """Recordings in `shared/data` beside the repository; the tests that ask for them are skipped without it."""
    folder = ROOT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"no recordings in {folder}")
    return folder


@pytest.fixture(scope="session")
def tiny_config():
    """A WaveNet that trains in a second: 5 layers, 8 channels, 20 steps of 4 windows of 32 ms."""
    from wavesynth.config import Config, TrainingConfig
    from wavesynth.models.wavenet import WaveNetConfig

    model = WaveNetConfig(
        stacks=1, layers_per_stack=5, channels=8, skip_channels=16, head_channels=16, taps=16, mixtures=2,
        vector_channels=4, hop_length=64,
    )  # fmt: skip
    training = TrainingConfig(
        steps=20, batch_size=4, crop_seconds=0.032, warmup=2, validate_every=5, validation_windows=8, save_every=5,
        preview_every=1_000, preview_seconds=0.05,
    )  # fmt: skip
    return Config("wavenet", model, training)


@pytest.fixture(scope="session")
def tiny_flags(tiny_config) -> list[str]:
    """`tiny_config` as flags of the command line."""
    values = {"model": tiny_config.model, "training": tiny_config.training}
    fields = [
        (part, f.name, getattr(value, f.name)) for part, value in values.items() for f in dataclasses.fields(value)
    ]
    return ["--preset=wavenet-tiny", *(f"--{part}.{name.replace('_', '-')}={value}" for part, name, value in fields)]


@pytest.fixture(scope="session")
def tiny_shards(tmp_path_factory: pytest.TempPathFactory, sounds: Path) -> Path:
    """Shards of `sounds`."""
    from wavesynth.data.prepare import prepare

    folder = tmp_path_factory.mktemp("tiny") / "shards"
    prepare(sounds, folder, workers=1, progress=False)
    return folder


@pytest.fixture(scope="session")
def compile_cache() -> None:
    """All tests share the session's compile cache."""


@pytest.fixture(scope="session")
def tiny_run(tmp_path_factory: pytest.TempPathFactory, tiny_shards: Path, tiny_config) -> Path:
    """A finished run of `tiny_config` on `tiny_shards`. Tests that change it work on a copy."""
    import wavesynth

    run = tmp_path_factory.mktemp("tiny") / "run"
    wavesynth.train(tiny_shards, run, tiny_config, progress=False)
    return run


@pytest.fixture(scope="session")
def tiny_synth(tiny_run: Path):
    """The synth of `tiny_run`."""
    import wavesynth

    return wavesynth.load(tiny_run)


# Imports what the command line needs once, then forks a child for every line of arguments. JAX starts in the child.
SERVER = """
import importlib.util, json, os, sys, traceback
import jax, orbax.checkpoint, safetensors.numpy, soundfile, soxr, tqdm, tyro
import wavesynth.api
from wavesynth.__main__ import main
if importlib.util.find_spec("tensorboardX"):
    import tensorboardX
for line in sys.stdin:
    order = json.loads(line)
    child = os.fork()
    if child:
        print(child, flush=True)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
        continue
    for number, name in ((1, "stdout"), (2, "stderr")):
        os.dup2(os.open(order[name], os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
    jax.config.update("jax_num_cpu_devices", order["devices"])
    status = 1
    try:
        status = main(order["arguments"])
    except SystemExit as stop:
        status = stop.code
    except BaseException:
        traceback.print_exc()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status or 0)
"""


@dataclasses.dataclass
class Child:
    """A running command: its process, and what it has printed so far."""

    pid: int
    folder: Path
    server: subprocess.Popen

    @property
    def stdout(self) -> str:
        return (self.folder / "stdout").read_text() if (self.folder / "stdout").exists() else ""

    @property
    def stderr(self) -> str:
        return (self.folder / "stderr").read_text() if (self.folder / "stderr").exists() else ""

    @cached_property
    def status(self) -> int:
        """Exit status; waits for the end. Minus the signal's number if a signal ended it."""
        assert self.server.stdout is not None
        return int(self.server.stdout.readline())


@pytest.fixture(scope="session")
def child_environment() -> dict[str, str]:
    """The environment of processes that run JAX on the CPU: the session's compile cache, and lines of 100 columns."""
    return os.environ | {"JAX_PLATFORMS": "cpu", "COLUMNS": "100"}


@pytest.fixture(scope="session")
def start(
    tmp_path_factory: pytest.TempPathFactory, child_environment: dict[str, str]
) -> Iterator[Callable[..., Child]]:
    """start(*arguments) runs `wavesynth ARGUMENTS` in a process of its own, once the previous one has ended."""
    server = subprocess.Popen(
        [sys.executable, "-c", SERVER], env=child_environment, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert server.stdin is not None
    assert server.stdout is not None

    children: list[Child] = []

    def begin(*arguments: object, devices: int = 1) -> Child:
        for child in children[-1:]:
            assert child.status is not None
        folder = tmp_path_factory.mktemp("child")
        order = {"arguments": list(map(str, arguments)), "devices": devices}
        order |= {name: str(folder / name) for name in ("stdout", "stderr")}
        server.stdin.write(json.dumps(order) + "\n")
        server.stdin.flush()
        children.append(Child(int(server.stdout.readline()), folder, server))
        return children[-1]

    yield begin
    server.stdin.close()
    server.wait()
    server.stdout.close()
