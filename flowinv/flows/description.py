"""Modules as plain data: name and fields, for model files and configs.

Only the classes listed here are built from a description, so a model file can name
nothing else; there is no pickle anywhere.
"""

import dataclasses
from typing import Any

import flax.linen as nn

from flowinv.checks import check_known, fail
from flowinv.flows.autoregressive import (
    AffineAutoregressiveFlow,
    SplineAutoregressiveFlow,
)
from flowinv.flows.coupling import CINN, SplineCouplingFlow
from flowinv.networks.conv import ConvEmbedding
from flowinv.networks.mlp import MLP, ResidualMLP
from flowinv.networks.moments import ProfileMoments
from flowinv.networks.sets import SetEmbedding

__all__ = ["EMBEDDINGS", "FLOWS", "SUMMARIES", "build", "describe"]

FLOWS = {
    "cinn": CINN,
    "spline": SplineCouplingFlow,
    "maf": AffineAutoregressiveFlow,
    "spline-ar": SplineAutoregressiveFlow,
}
EMBEDDINGS = {
    "mlp": MLP,
    "residual": ResidualMLP,
    "conv": ConvEmbedding,
    "set": SetEmbedding,
}
SUMMARIES = {"moments": ProfileMoments}
_KNOWN = {**FLOWS, **EMBEDDINGS, **SUMMARIES}


def describe(thing: Any) -> dict[str, Any] | None:
    """Return `{"name": ..., fields}` of a known module, None for None.

    Raises:
        ValueError: for a class that no model file can name.
    """
    if thing is None:
        return None
    names = {cls: name for name, cls in _KNOWN.items()}
    if type(thing) not in names:
        known = ", ".join(sorted(cls.__name__ for cls in names))
        fail("a module fit for saving", f"one of {known}", type(thing).__name__)
    fields = {
        field.name: getattr(thing, field.name)
        for field in dataclasses.fields(thing)
        if field.name not in ("parent", "name")
    }
    plain = {
        k: describe(v) if isinstance(v, nn.Module) else v for k, v in fields.items()
    }
    return {"name": names[type(thing)], **plain}


def build(description: dict[str, Any] | None) -> Any:
    """Build a module from what `describe` gave (or its JSON round trip).

    Raises:
        ValueError: for an unknown name or field.
    """
    if description is None:
        return None
    fields = dict(description)
    name = fields.pop("name", None)
    check_known("module name", str(name), _KNOWN)
    known = {field.name for field in dataclasses.fields(_KNOWN[name])}
    for field in fields:
        check_known(f"field of {name}", field, known - {"parent", "name"})
    return _KNOWN[name](**{k: _restore(v) for k, v in fields.items()})


def _restore(value: Any) -> Any:
    if isinstance(value, dict):
        return build(value)
    return tuple(value) if isinstance(value, list) else value
