"""The settings of JAX that the command line makes for its own process. The library makes none: its host process decides."""

import importlib.util
import os
from pathlib import Path

CACHE_BYTES = 2**30
"""The size that the compile cache is kept within; the entries that were not used for longest go first."""


def configure_jax() -> None:
    """Keeps compiled programs between processes, so that a second command starts at once, and computes in 32 bits.

    The cache is `$XDG_CACHE_HOME/wavesynth/jax`, by default `~/.cache/wavesynth/jax`, unless JAX_COMPILATION_CACHE_DIR names
    another. It is left out where there is no such place to write. JAX_ENABLE_X64 is ignored: the models are of 32 bits.
    """
    import jax

    jax.config.update("jax_enable_x64", False)
    folder = _cache_folder()
    if jax.config.jax_compilation_cache_dir is None and folder is not None:  # pyright: ignore[reportAttributeAccessIssue]
        jax.config.update("jax_compilation_cache_dir", str(folder))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)  # a start is some 200 small programs
        if importlib.util.find_spec("filelock") is not None:  # which JAX needs to keep to a size
            jax.config.update("jax_compilation_cache_max_size", CACHE_BYTES)


def _cache_folder() -> Path | None:
    """The cache's folder; None where it cannot be written."""
    try:
        folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "wavesynth" / "jax"
        folder.mkdir(parents=True, exist_ok=True)
    except (OSError, RuntimeError):  # a RuntimeError: there is no home
        return None
    return folder if os.access(folder, os.W_OK) else None
