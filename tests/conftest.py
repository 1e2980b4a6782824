"""What every test runs under: the installed package, strict JAX, reproducible hypothesis, and the shipped sounds."""

import importlib.machinery
import os
import sys
from pathlib import Path

import pytest
from hypothesis import settings

ROOT = Path(__file__).resolve().parent.parent


def prefer_installed_package() -> None:
    """Make `import wavesynth` find the installed package, here and in child processes.

    `python -m pytest` puts the repository's root in front of the import path, so the source tree would hide what a
    user gets: a wheel that lacks a file would pass. An editable install is the source tree, and where nothing is
    installed the tests run on the source tree.
    """
    elsewhere = [entry for entry in sys.path if Path(entry or ".").resolve() != ROOT]
    if importlib.machinery.PathFinder.find_spec("wavesynth", elsewhere) is not None:
        sys.path[:] = elsewhere
        os.environ["PYTHONSAFEPATH"] = "1"


prefer_installed_package()

# No result may come from a cache that an earlier run or another program left.
os.environ.pop("JAX_COMPILATION_CACHE_DIR", None)
os.environ["JAX_ENABLE_COMPILATION_CACHE"] = "false"

import jax  # noqa: E402  (after the environment that it reads)

# [B, 1] + [B] is a bug far more often than it is meant.
jax.config.update("jax_numpy_rank_promotion", "raise")

# The same examples in every run and no time limit: a failure is about the code, not about the machine's load.
settings.register_profile("ci", derandomize=True, deadline=None, database=None)
settings.load_profile("ci")


@pytest.fixture(scope="session")
def sounds() -> Path:
    """The folder of short sounds that ships with the package: LABEL/*.flac, 16 kHz, one second or less."""
    import wavesynth

    return Path(wavesynth.__path__[0], "demo", "sounds")


@pytest.fixture(scope="session")
def shared() -> Path:
    """Recordings in `shared/data` beside the repository; the tests that ask for them are skipped without it."""
    folder = ROOT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"no recordings in {folder}")
    return folder
