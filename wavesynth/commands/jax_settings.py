"""JAX settings of the command line. The library changes no settings of its host process."""

import os
from pathlib import Path

CACHE_BYTES = 2**30
"""Size limit of the compile cache. The least recently used entries are removed first."""


def configure_jax() -> None:
    """Caches compiled programs on disk, so that later commands start quickly, and sets JAX to 32 bits.

    The cache is `$XDG_CACHE_HOME/wavesynth/jax`, by default `~/.cache/wavesynth/jax`, unless JAX_COMPILATION_CACHE_DIR is set.
    If that folder cannot be written, there is no cache. JAX_ENABLE_X64 is ignored, because the models compute in 32 bits.
    """
    import jax

    jax.config.update("jax_enable_x64", False)
    folder = _cache_folder()
    if jax.config.jax_compilation_cache_dir is None and folder is not None:  # pyright: ignore[reportAttributeAccessIssue]
        jax.config.update("jax_compilation_cache_dir", str(folder))
        jax.config.update("jax_compilation_cache_max_size", CACHE_BYTES)  # JAX needs the package filelock for this
        # A command starts with some 200 small programs.
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)


def _cache_folder() -> Path | None:
    """The cache's folder; None if it cannot be written."""
    try:
        folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "wavesynth" / "jax"
        folder.mkdir(parents=True, exist_ok=True)
    except (OSError, RuntimeError):  # RuntimeError: there is no home folder
        return None
    return folder if os.access(folder, os.W_OK) else None
