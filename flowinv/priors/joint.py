"""Priors from numpyro distributions: one, a named product, or a mixed product.

Distributions are recognised by name, so that this module loads without numpyro: who
passes a distribution has loaded it already.
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from flowinv.checks import fail
from flowinv.priors.blocks import Block
from flowinv.priors.config import block_from_config
from flowinv.priors.latent import Prior
from flowinv.priors.trust import check_fallback

if TYPE_CHECKING:
    from numpyro.distributions import Distribution

__all__ = ["from_numpyro", "independent", "mixed"]

# Edges further than this many sds cut off less mass than the smallest float.
_FAR = 37.0

Entry = dict[str, Any]
Get = Callable[[str], np.ndarray]


def from_numpyro(
    distribution: "Distribution",
    names: Sequence[str] | None = None,
    units: Sequence[str] | None = None,
) -> Prior:
    """Prior from one numpyro distribution; batch and event shape give the columns.

    Exactly N(0, I) in z: Uniform, LogUniform, Normal, LogNormal, truncated and half
    normals, Gamma, Exponential, Chi2, InverseGamma, Weibull, Pareto, Beta, StudentT,
    Cauchy, HalfCauchy, Logistic, Gumbel, mixtures of Normals, MultivariateNormal, and
    `expand`ed or `to_event` forms of them. Other continuous distributions go by
    `biject_to`.

    Raises:
        ValueError: a discrete distribution, a bad parameter, a support without a
            one-to-one map to R^D, or labels that do not fit.
    """
    return mixed([distribution], names, units)


def independent(
    distributions: Mapping[str, "Distribution"],
    units: Mapping[str, str] | Sequence[str] | None = None,
) -> Prior:
    """Product of named distributions: `{"width": LogNormal(0, 1), ...}`.

    A distribution over k > 1 numbers gives the names `name_0` ... `name_{k-1}`.

    Args:
        distributions: name to numpyro distribution.
        units: name to unit, or one unit for each parameter.

    Raises:
        ValueError: as `from_numpyro`; or no distribution at all.
    """
    names, expanded_units = [], []
    for name, distribution in distributions.items():
        size = _size(distribution, name)
        names += [name] if size == 1 else [f"{name}_{i}" for i in range(size)]
        if isinstance(units, Mapping):
            expanded_units += [units.get(name, "")] * size
    if isinstance(units, Mapping):
        if unknown := sorted(set(units) - set(distributions)):
            fail("units", f"for parameters among {sorted(distributions)}", unknown)
        units = expanded_units
    return mixed(list(distributions.values()), names, units)


def mixed(
    parts: Sequence["Prior | Distribution"],
    names: Sequence[str] | None = None,
    units: Sequence[str] | None = None,
) -> Prior:
    """Product of independent parts, each a prior or a numpyro distribution.

    Columns follow the order of the parts. Names and units of parts that are priors are
    kept unless `names` and `units` are given.

    Raises:
        ValueError: as `from_numpyro`; or no part at all.
    """
    if not parts:
        fail("prior", "of at least one parameter", "none")
    entries: list[tuple[Entry, list[int]]] = []
    default_names, default_units, start = [], [], 0
    for part in parts:
        size = part.dim if isinstance(part, Prior) else _size(part, "prior")
        columns = list(range(start, start + size))
        if isinstance(part, Prior):
            for block, own in part.blocks:
                entries.append((_entry_of(block), [columns[c] for c in own]))
            default_names += part.names
            default_units += part.units
        else:
            labels = (names or [])[start : start + size]
            if len(labels) < size:
                labels = [f"theta_{c}" for c in columns]
            for entry, own_columns in _entries(part, ", ".join(labels)):
                entries.append((entry, [columns[c] for c in own_columns]))
            default_names += [f"theta_{c}" for c in columns]
            default_units += [""] * size
        start += size
    names = default_names if names is None else list(names)
    if len(names) != start:
        fail("names", f"as {start} strings, one for each parameter", names)
    blocks = [
        (block_from_config(entry, [names[c] for c in columns]), columns)
        for entry, columns in _merge(entries)
    ]
    for block, columns in blocks:
        if block.kind == "unconstrained":
            labels = ", ".join(repr(names[c]) for c in columns)
            check_fallback(block, labels, block_from_config)
    return Prior(blocks, names, default_units if units is None else units)


def _entry_of(block: Block) -> Entry:
    """Description of a block; a fallback hands on its distribution itself."""
    if block.kind != "unconstrained":
        return block.to_config()
    entry = {"kind": block.kind, "distribution": block.distribution}
    return entry | {"shift": block.shift, "scale": block.scale}


def _merge(entries: list[tuple[Entry, list[int]]]) -> list[tuple[Entry, list[int]]]:
    """Join columns of one kind into one block: fewer operations to compile."""
    merged: dict[tuple[str, ...], tuple[Entry, list[int]]] = {}
    alone = ("multivariate_normal", "normal_mixture", "unconstrained")
    for position, (entry, columns) in enumerate(entries):
        if entry["kind"] in alone:
            merged[str(position), entry["kind"]] = (entry, list(columns))
            continue
        key = (entry["kind"], *sorted(entry))
        if key not in merged:
            merged[key] = (dict(entry), list(columns))
            continue
        into, into_columns = merged[key]
        for name in entry:
            if name != "kind":
                into[name] = [*into[name], *entry[name]]
        into_columns += columns
    return list(merged.values())


def _size(distribution: "Distribution", what: str) -> int:
    """Number of columns of a distribution that can be a prior."""
    batch = getattr(distribution, "batch_shape", None)
    event = getattr(distribution, "event_shape", None)
    if batch is None or event is None:
        fail(
            f"prior of {what!r}",
            "to be a numpyro distribution",
            type(distribution).__name__,
        )
    if getattr(distribution, "is_discrete", False):
        fail(
            f"prior of {what!r}",
            "to be continuous",
            f"{type(distribution).__name__}, which is discrete",
        )
    shape = tuple(batch) + tuple(event)
    if len(shape) > 1:
        fail(f"prior of {what!r}", "over a number or a vector", f"shape {shape}")
    return int(np.prod(shape))


def _entries(distribution: "Distribution", what: str) -> list[tuple[Entry, list[int]]]:
    """Descriptions of one distribution's columns."""
    size = _size(distribution, what)
    inner = distribution
    while type(inner).__name__ in ("Independent", "ExpandedDistribution"):
        inner = inner.base_dist
    kind = type(inner).__name__
    columns = list(range(size))

    def get(name: str, of: Any = None) -> np.ndarray:  # noqa: ANN401
        value = np.asarray(getattr(inner if of is None else of, name), np.float64)
        return np.array(np.broadcast_to(value, (size,)))

    if kind == "MultivariateNormal" and not distribution.batch_shape:
        entry = {"kind": "multivariate_normal", "loc": get("loc")}
        entry["scale_tril"] = np.asarray(inner.scale_tril, np.float64)
        return [(entry, columns)]
    if kind in _UNIVARIATE:
        return [(_UNIVARIATE[kind](get), columns)]
    if mixture := _normal_mixture(inner, size):
        return [(mixture, columns)]
    truncated = kind.endswith("TruncatedDistribution")
    if truncated and type(inner.base_dist).__name__ == "Normal":
        low = get("low") if hasattr(inner, "low") else np.full(size, -np.inf)
        high = get("high") if hasattr(inner, "high") else np.full(size, np.inf)
        base = functools.partial(get, of=inner.base_dist)
        return _truncated(low, high, base("loc"), base("scale"), what)
    if distribution.batch_shape:
        distribution = distribution.to_event(len(distribution.batch_shape))
    return [({"kind": "unconstrained", "distribution": distribution}, columns)]


def _normal_mixture(inner: Any, size: int) -> Entry | None:  # noqa: ANN401
    """Description of `size` mixtures of normals; None for anything else."""
    parts = getattr(inner, "component_distribution", None)
    several = getattr(inner, "component_distributions", None) or [parts]
    if inner.event_shape or any(type(part).__name__ != "Normal" for part in several):
        return None

    def numbers(name: str) -> np.ndarray:
        values = [np.asarray(getattr(part, name), np.float64) for part in several]
        if parts is not None:
            return values[0]
        values = np.broadcast_arrays(*values)
        return np.stack(values, -1)

    weights = np.asarray(inner.mixing_distribution.probs, np.float64)
    shape = (size, weights.shape[-1])
    entry = {"weights": weights, "loc": numbers("loc"), "scale": numbers("scale")}
    full = {name: np.array(np.broadcast_to(v, shape)) for name, v in entry.items()}
    return {"kind": "normal_mixture", **full}


def _truncated(
    low: np.ndarray, high: np.ndarray, loc: np.ndarray, scale: np.ndarray, what: str
) -> list[tuple[Entry, list[int]]]:
    """Truncated normals, each column by the edges that carry mass."""
    if not (np.all(scale > 0) and np.all(np.isfinite(loc) & np.isfinite(scale))):
        fail(f"scale of prior {what!r}", "to be finite and above 0", scale.tolist())
    if not np.all(low < high):
        got = f"low={low.tolist()}, high={high.tolist()}"
        fail(f"prior of {what!r}", "with low < high", got)
    entries = []
    for c in range(low.size):
        a, b = (low[c] - loc[c]) / scale[c], (high[c] - loc[c]) / scale[c]
        if a < -_FAR and b > _FAR:
            entry = {"kind": "normal", "loc": [loc[c]], "scale": [scale[c]]}
            entry |= {"low": [low[c]], "high": [high[c]]}
        elif b > max(_FAR, a + _FAR):
            entry = {"kind": "half_truncated_normal", "first": [low[c]]}
            entry |= {"second": [scale[c]], "edge": [a], "far": [high[c]]}
        elif a < min(-_FAR, b - _FAR):
            entry = {"kind": "half_truncated_normal", "first": [high[c]]}
            entry |= {"second": [-scale[c]], "edge": [-b], "far": [low[c]]}
        else:
            entry = {"kind": "truncated_normal", "first": [low[c]]}
            entry |= {"second": [high[c] - low[c]], "low_sd": [a], "high_sd": [b]}
        entries.append((entry, [c]))
    return entries


def _gamma(get: Get, concentration: np.ndarray) -> Entry:
    rate = get("rate")
    return {
        "kind": "gamma",
        "first": np.zeros_like(rate),
        "second": 1.0 / rate,
        "concentration": concentration,
    }


def _half_line(get: Get, kind: str, **shape: np.ndarray) -> Entry:
    scale = get("scale")
    return {"kind": kind, "first": np.zeros_like(scale), "second": scale, **shape}


def _line(get: Get, kind: str, **shape: np.ndarray) -> Entry:
    return {"kind": kind, "first": get("loc"), "second": get("scale"), **shape}


def _beta(get: Get) -> Entry:
    a, b = get("concentration1"), get("concentration0")
    entry = {"kind": "beta", "first": np.zeros_like(a), "second": np.ones_like(a)}
    return entry | {"concentration1": a, "concentration0": b}


def _inverse_gamma(get: Get) -> Entry:
    rate = get("rate")
    entry = {"kind": "inverse_gamma", "first": np.zeros_like(rate), "second": rate}
    return entry | {"concentration": get("concentration")}


def _pareto(get: Get) -> Entry:
    scale = get("scale")
    return {"kind": "pareto", "first": scale, "second": scale, "alpha": get("alpha")}


def _pair(kind: str, first: str, second: str) -> Callable[[Get], Entry]:
    return lambda get: {"kind": kind, first: get(first), second: get(second)}


# numpyro's class name to the description of its columns.
_UNIVARIATE: dict[str, Callable[[Get], Entry]] = {
    "Uniform": _pair("uniform", "low", "high"),
    "LogUniform": _pair("log_uniform", "low", "high"),
    "Normal": _pair("normal", "loc", "scale"),
    "LogNormal": _pair("log_normal", "loc", "scale"),
    "Gamma": lambda get: _gamma(get, get("concentration")),
    "Chi2": lambda get: _gamma(get, get("concentration")),
    "Exponential": lambda get: _gamma(get, np.ones_like(get("rate"))),
    "InverseGamma": _inverse_gamma,
    "Beta": _beta,
    "BetaProportion": _beta,
    "Pareto": _pareto,
    "Weibull": lambda g: _half_line(g, "weibull", concentration=g("concentration")),
    "HalfCauchy": lambda get: _half_line(get, "half_cauchy"),
    "HalfNormal": lambda get: _half_line(
        get, "half_truncated_normal", edge=np.zeros_like(get("scale"))
    ),
    "StudentT": lambda get: _line(get, "student_t", df=get("df")),
    "Cauchy": lambda get: _line(get, "cauchy"),
    "Logistic": lambda get: _line(get, "logistic"),
    "Gumbel": lambda get: _line(get, "gumbel"),
}
