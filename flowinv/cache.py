"""The XLA compilation cache: on by default, in the user's cache folder.

A second start of a program then skips most of its compile time. A folder that is set
already, by JAX_COMPILATION_CACHE_DIR or in `jax.config`, is left alone;
FLOWINV_CACHE=off turns the default off.
"""

import os
from pathlib import Path

import jax

__all__ = ["cache_folder", "enable_cache"]


def enable_cache() -> None:
    """Point jax's compilation cache to the user's cache folder, unless one is set."""
    if cache_folder() is not None or os.environ.get("FLOWINV_CACHE") == "off":
        return
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    folder = Path(base) / "flowinv" / "xla"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return  # a read-only home costs compile time, nothing else
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)


def cache_folder() -> str | None:
    """Folder of the compilation cache in use, None if it is off."""
    return jax.config.jax_compilation_cache_dir
