"""How programs are compiled: the cache on disk, and what a compilation may cost.

The XLA compilation cache is on by default, in the user's cache folder: a second start
of a program skips most of its compile time. A folder that is set already, by
JAX_COMPILATION_CACHE_DIR or in `jax.config`, is left alone; FLOWINV_CACHE=off turns
the default off.

On a CPU a cold compilation is most of a short job. Programs that run once there
(draw the parameters, solve the start) are compiled quickly rather than well.
"""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax

__all__ = [
    "cache_folder",
    "compiled",
    "compiler_options",
    "enable_cache",
    "indexed",
    "memory_limit",
    "set_memory_limit",
    "strong",
]

Options = dict[str, bool | int]

GIB = 2**30
_MEMORY = "FLOWINV_MEMORY"


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


def compiled(
    function: Callable[..., Any],
    *,
    once: bool = False,
    wide: bool = False,
    static: Sequence[int] = (),
    donate: Sequence[int] = (),
) -> Callable[..., Any]:
    """`jax.jit` with the compiler options that suit the program on this backend.

    Args:
        function: a pure function.
        once: the program runs once, on little data: compile it ten times as fast into
            code that LLVM has not optimised.
        wide: a wide network's step, where a better program is worth a compilation
            twice as long.
        static: numbers of arguments that are compile-time constants.
        donate: numbers of arguments whose buffers are given up.
    """
    return jax.jit(
        function,
        static_argnums=tuple(static) or None,
        donate_argnums=tuple(donate) or None,
        compiler_options=None if wide else compiler_options(once),
    )


def memory_limit() -> int:
    """Bytes that simulations may take while they run: 2 GiB, or FLOWINV_MEMORY GiB.

    A program of more rows than fit runs them in parts; its numbers stay the same.
    """
    return int(float(os.environ.get(_MEMORY, "2")) * GIB)


def set_memory_limit(gib: float) -> None:
    """Set the limit of this process, in GiB."""
    os.environ[_MEMORY] = str(gib)


@jax.jit
def indexed(tree: Any, index: Any) -> Any:
    """Leaves of `tree` at `index`, by one program: outside of it a leaf takes five."""
    return jax.tree.map(lambda leaf: leaf[index], tree)


def strong(tree: Any) -> Any:
    """Return arrays whose types are no longer weak, as arrays from files are.

    A program is compiled anew for a state that differs in this alone: a resumed run
    would pay for every program twice.
    """
    return jax.tree.map(lambda leaf: leaf.astype(leaf.dtype), tree)


def compiler_options(once: bool = False) -> Options | None:
    """Options of one program; None but on a CPU, whose compiler they are for."""
    if jax.default_backend() != "cpu":
        return None
    options: Options = {"xla_backend_optimization_level": 0} if once else {}
    if jax.__version_info__ < (0, 11):
        # They double a compilation to save a tenth of a wide network's step and
        # nothing of a small one's; jax 0.11 leaves no choice.
        options["xla_cpu_use_fusion_emitters"] = False
    return options or None
