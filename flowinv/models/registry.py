"""Flows, embeddings and summaries by name, and modules as plain data.

A model file names classes; only those listed here, and those that the reader hands in,
are built from it. There is no pickle and no code in a file.
"""

import dataclasses
import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import flax.linen as nn

from flowinv.checks import check_at_least, check_known, fail
from flowinv.flows.autoregressive import AutoregressiveFlow
from flowinv.flows.base import ConditionalFlow
from flowinv.flows.candidates import Candidates
from flowinv.flows.coupling import CouplingFlow
from flowinv.flows.density import Flow
from flowinv.flows.ratio import RatioNetwork
from flowinv.flows.univariate import Affine, Spline, Univariate
from flowinv.flows.vector_field import VectorField
from flowinv.networks.activation import ACTIVATIONS
from flowinv.networks.conv import ConvEmbedding
from flowinv.networks.edge_fit import EdgeFit
from flowinv.networks.mlp import MLP, ResidualMLP
from flowinv.networks.moments import ProfileMoments
from flowinv.networks.sets import SetEmbedding
from flowinv.simulators.any_scan import AnyScan
from flowinv.simulators.knife_edge import EdgeAxis, StepScan

__all__ = [
    "EMBEDDINGS",
    "FLOWS",
    "NORMALIZING",
    "SUMMARIES",
    "NetworkConfig",
    "build",
    "build_embedding",
    "build_flow",
    "describe",
]

SCALINGS = ("task", "auto", "none", "root", "asinh", "log")


@dataclass(frozen=True)
class NetworkConfig:
    """Flow and embedding.

    Attributes:
        num_layers: layers of the flow.
        hidden: widths of each layer's conditioner.
        num_bins: bins of a spline.
        activation: of conditioners and head.
        head_hidden: widths of the affine head's correction.
        lu_mixing: learned linear map after every layer.
        unroll: write the layers out instead of scanning them: longer to compile, up
            to a third faster for small splines on a CPU.
        embedding: network that reads x: mlp, residual, conv, set, "none" or "task".
        embedding_width: units of its layers.
        embedding_layers: its layers, blocks or convolutions.
        summary: fixed summaries of x that join the context: moments, what else the
            task knows (edges), "none" or "task".
        input_scaling: root, log, asinh, none, "auto" from the data or "task".
        placed: solve where the flow begins for each x by a regression.
    """

    num_layers: int = 8
    hidden: tuple[int, ...] = (64, 64)
    num_bins: int = 8
    activation: str = "silu"
    head_hidden: tuple[int, ...] = (128, 128)
    lu_mixing: bool = True
    unroll: bool = False
    embedding: str = "task"
    embedding_width: int = 128
    embedding_layers: int = 2
    summary: str = "task"
    input_scaling: str = "task"
    placed: bool = True

    def check(self) -> None:
        """Raise one line for the first field out of its range."""
        check_at_least("num_layers", self.num_layers, 1)
        check_at_least("num_bins", self.num_bins, 2)
        check_at_least("embedding_width", self.embedding_width, 1)
        check_at_least("embedding_layers", self.embedding_layers, 1)
        if not self.hidden or min(self.hidden) < 1:
            fail("hidden", "to name layers of at least one unit", self.hidden)
        if self.head_hidden and min(self.head_hidden) < 1:
            fail("head_hidden", "to name layers of at least one unit", self.head_hidden)
        check_known("activation", self.activation, ACTIVATIONS)
        check_known("embedding", self.embedding, [*EMBEDDINGS, "none", "task"])
        check_known("input scaling", self.input_scaling, SCALINGS)


def _mlp(config: NetworkConfig) -> MLP:
    return MLP((config.embedding_width,) * config.embedding_layers, config.activation)


def _residual(config: NetworkConfig) -> ResidualMLP:
    return ResidualMLP(
        config.embedding_width, config.embedding_layers, config.activation
    )


def _conv(config: NetworkConfig) -> ConvEmbedding:
    return ConvEmbedding(
        channels=(32,) * config.embedding_layers,
        features=config.embedding_width,
        act=config.activation,
    )


def _set(config: NetworkConfig) -> SetEmbedding:
    return SetEmbedding(_mlp(config), (config.embedding_width,))


def _layered(
    kind: type[ConditionalFlow], univariate: Univariate, config: NetworkConfig
) -> ConditionalFlow:
    return kind(
        univariate=univariate,
        num_layers=config.num_layers,
        hidden=config.hidden,
        act=config.activation,
        head_hidden=config.head_hidden,
        lu_mixing=config.lu_mixing,
        unroll=config.unroll,
    )


# A row each: name, and how a config builds it. With a plus: what held-out rows ask for.
FLOWS: dict[str, Callable[[NetworkConfig], Flow | Candidates]] = {
    "spline": lambda own: _layered(CouplingFlow, Spline(own.num_bins), own),
    "cinn": lambda own: _layered(CouplingFlow, Affine(), own),
    "maf": lambda own: _layered(AutoregressiveFlow, Affine(), own),
    "spline-ar": lambda own: _layered(AutoregressiveFlow, Spline(own.num_bins), own),
    "maf+spline-ar": lambda own: Candidates(
        (FLOWS["maf"](own), FLOWS["spline-ar"](own))
    ),
    "field": lambda own: VectorField(own.hidden, own.activation),
    "ratio": lambda own: RatioNetwork(own.hidden, own.activation),
}
NORMALIZING = ("spline", "cinn", "maf", "spline-ar")
"""Flows of layers: exact density and draws in one pass."""
EMBEDDINGS = {"mlp": _mlp, "residual": _residual, "conv": _conv, "set": _set}
SUMMARIES = {"moments": ProfileMoments}

# Classes that a model file may name.
_CLASSES = {
    kind.__name__: kind
    for kind in (
        *(CouplingFlow, AutoregressiveFlow, VectorField, RatioNetwork),
        *(Affine, Spline),
        *(MLP, ResidualMLP, ConvEmbedding, SetEmbedding, ProfileMoments),
        *(EdgeFit, StepScan, EdgeAxis, AnyScan),
    )
}
_LINEN = ("parent", "name")


def build_flow(name: str, config: NetworkConfig) -> Flow | Candidates:
    """Return the flow called `name` with the fields of `config`.

    Raises:
        ValueError: for an unknown name.
    """
    check_known("flow", name, FLOWS)
    return FLOWS[name](config)


def build_embedding(name: str, config: NetworkConfig) -> Any:
    """Return the embedding called `name`, None for "none".

    Raises:
        ValueError: for an unknown name.
    """
    if name == "none":
        return None
    check_known("embedding", name, EMBEDDINGS)
    return EMBEDDINGS[name](config)


def describe(thing: Any) -> Any:
    """Return `{"class": name, fields}` of a module or map; None for None.

    A function is described by its name, and handed in again when the file is read.

    Raises:
        ValueError: for what is no linen module, dataclass or function, or holds such a
            field.
    """
    if thing is None or isinstance(thing, (bool, int, float, str)):
        return thing
    if isinstance(thing, (list, tuple)):
        return [describe(item) for item in thing]
    if inspect.isfunction(inspect.unwrap(thing)) and hasattr(thing, "__qualname__"):
        return {"function": thing.__qualname__}
    if not dataclasses.is_dataclass(thing) or isinstance(thing, type):
        expected = "a linen module or a dataclass of plain fields"
        fail("a module fit for saving", expected, type(thing).__name__)
    values = {name: describe(getattr(thing, name)) for name in _fields(type(thing))}
    return {"class": type(thing).__name__, **values}


def kinds_of(thing: Any) -> tuple[Any, ...]:
    """Classes and functions that `thing` is made of: what `build` asks for.

    Args:
        thing: what `describe` takes, or a list or mapping of such things.
    """
    if isinstance(thing, Mapping):
        thing = tuple(thing.values())
    if isinstance(thing, (list, tuple)):
        return tuple(kind for item in thing for kind in kinds_of(item))
    if inspect.isfunction(inspect.unwrap(thing)):
        return (thing,)
    if not dataclasses.is_dataclass(thing):
        return ()
    kind = thing if isinstance(thing, type) else type(thing)
    held = [] if kind is thing else [getattr(thing, name) for name in _fields(kind)]
    return (kind, *kinds_of(held))


def _fields(kind: type) -> list[str]:
    """Fields that a description holds: all but those that flax adds to a module."""
    names = [field.name for field in dataclasses.fields(kind)]
    if issubclass(kind, nn.Module):
        names = [name for name in names if name not in _LINEN]
    return names


def build(description: Any, modules: Iterable[Any] = ()) -> Any:
    """Build what `describe` described (or its JSON round trip).

    Args:
        description: plain data.
        modules: classes and functions of the caller's own that it may name.

    Raises:
        ValueError: for an unknown class or field.
    """
    own = {
        kind.__name__ if isinstance(kind, type) else kind.__qualname__: kind
        for kind in modules
    }
    return _built(description, {**_CLASSES, **own})


def _built(value: Any, known: Mapping[str, Any]) -> Any:
    if isinstance(value, list):
        return tuple(_built(item, known) for item in value)
    if not isinstance(value, dict):
        return value
    fields = dict(value)
    name = str(fields.pop("class", fields.get("function")))
    if name not in known:
        remedy = f"Give it: load(folder, modules=[{name}])."
        what = "function" if "function" in fields else "class"
        expected = f"to be one of {sorted(known)}"
        fail(f"a {what} of the model file", expected, name, remedy)
    if "function" in fields:
        return known[name]
    names = _fields(known[name])
    for field in fields:
        check_known(f"field of {name}", field, names)
    return known[name](**{n: _built(item, known) for n, item in fields.items()})
