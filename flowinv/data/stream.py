"""A stream of simulations on disk: rows are drawn once, and more when more are asked.

Row i of a key is the same whatever the number of rows, so what many trainings of
different sizes learn from is one set.
"""

import shutil
from collections.abc import Callable
from pathlib import Path

from jax import Array

from flowinv.data.simulate import simulate
from flowinv.data.store import append_dataset, num_rows, read_dataset, write_dataset
from flowinv.priors.latent import Prior
from flowinv.types import Dataset, Simulator

__all__ = ["stored_rows"]


def stored_rows(
    path: str | Path,
    key: Array,
    prior: Prior,
    simulator: Simulator,
    count: int,
    progress: Callable[[int, int], None] | None = None,
) -> Dataset:
    """Return the first `count` rows of a stream; only those not stored are simulated.

    Args:
        path: folder of the store; made where there is none.
        key: typed key of the stream; the caller sees to it that a store has one.
        prior: prior of theta.
        simulator: jit- and vmap-able simulator.
        count: rows, at least 1.
        progress: called as progress(rows_done, rows_to_simulate).

    Raises:
        ValueError: as `flowinv.data.simulate.simulate` does, or a folder that is no
            store.
    """
    path = Path(path).expanduser()
    stored = num_rows(path) if path.exists() else 0
    if stored >= count:
        return read_dataset(path, slice(0, count))
    rest, options = count - stored, {"progress": progress, "first_row": stored}
    data = simulate(key, prior, simulator, rest, **options)
    if stored:
        append_dataset(path, data)
        return read_dataset(path)
    # Renamed when complete: a killed process leaves no half store to stumble over.
    part = path.with_name(f"{path.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    write_dataset(part, data)
    part.rename(path)
    return data
