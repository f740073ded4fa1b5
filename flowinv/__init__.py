"""flowinv: simulators inverted with conditional normalizing flows, in JAX.

Names load when first used: `import flowinv` costs little more than `import jax`.
"""

import importlib
from typing import Any

from flowinv.compiling import enable_cache

__version__ = "0.1.0"

# Public name -> module that defines it.
_NAMES = {
    "APT": "flowinv.sequential",
    "Dataset": "flowinv.types",
    "Estimator": "flowinv.flows.estimator",
    "InputError": "flowinv.checks",
    "Posterior": "flowinv.posteriors.direct",
    "RunConfig": "flowinv.config",
    "Simulator": "flowinv.types",
    "TrainConfig": "flowinv.training.config",
    "Truncated": "flowinv.sequential",
    "load": "flowinv.posteriors.model_files",
    "run": "flowinv.run",
    "run_rounds": "flowinv.sequential",
    "save": "flowinv.posteriors.model_files",
    "simulate": "flowinv.data.simulate",
    "task": "flowinv.tasks.registry",
    "train": "flowinv.training.fit",
}
_ROOMS = (
    "bijectors",
    "diagnostics",
    "flows",
    "networks",
    "priors",
    "report",
    "samplers",
    "sequential",
    "simulators",
)

__all__ = [*_NAMES, *_ROOMS]

enable_cache()


def __getattr__(name: str) -> Any:
    if name in _NAMES:
        value = getattr(importlib.import_module(_NAMES[name]), name)
    elif name in _ROOMS:
        value = importlib.import_module(f"flowinv.{name}")
    else:
        raise AttributeError(f"module 'flowinv' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
