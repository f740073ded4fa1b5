"""flowinv: simulators inverted with conditional normalizing flows, in JAX.

Names load when first used: `import flowinv` costs little more than `import jax`.
"""

import importlib
from typing import Any

from flowinv.compiling import enable_cache

__version__ = "0.1.0"

# Public name -> module that defines it.
_NAMES = {
    "APT": "flowinv.methods",
    "Dataset": "flowinv.types",
    "Estimator": "flowinv.models.estimator",
    "FMPE": "flowinv.methods",
    "InputError": "flowinv.checks",
    "Posterior": "flowinv.models.posterior",
    "RejectionABC": "flowinv.methods",
    "RunConfig": "flowinv.experiment.config",
    "SMCABC": "flowinv.methods",
    "SNLE": "flowinv.methods",
    "SNRE": "flowinv.methods",
    "SampledPosterior": "flowinv.models.sampled",
    "Simulator": "flowinv.types",
    "Task": "flowinv.tasks.task",
    "TrainConfig": "flowinv.training.config",
    "NLE": "flowinv.methods",
    "NPE": "flowinv.methods",
    "NRE": "flowinv.methods",
    "Truncated": "flowinv.methods",
    "diagnose": "flowinv.experiment.measure",
    "load": "flowinv.models.files",
    "run": "flowinv.experiment.run",
    "run_rounds": "flowinv.sequential",
    "save": "flowinv.models.files",
    "simulate": "flowinv.data.simulate",
    "task": "flowinv.tasks.registry",
    "train": "flowinv.training.fit",
}
_ROOMS = (
    "bijectors",
    "diagnostics",
    "flows",
    "methods",
    "models",
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
