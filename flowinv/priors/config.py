"""Priors as JSON, and blocks from their descriptions: one way in for all kinds.

A description is a dict with `kind` and one vector for each argument. Every number is
checked here, so that a mistyped prior answers in one line whichever way it came.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from flowinv.checks import check_known, fail
from flowinv.priors.blocks import Block, LogNormal, LogUniform, Normal, Uniform
from flowinv.priors.latent import Prior

__all__ = ["block_from_config", "prior_from_config"]

# Arguments of each closed-form kind, and those that must lie above 0.
_CLOSED: dict[str, tuple[type, tuple[str, ...], tuple[str, ...]]] = {
    "uniform": (Uniform, ("low", "high"), ()),
    "log_uniform": (LogUniform, ("low", "high"), ("low",)),
    "normal": (Normal, ("loc", "scale"), ("scale",)),
    "log_normal": (LogNormal, ("loc", "scale"), ("scale",)),
}
_PLACES = {
    "log": ("edge", "scale"),
    "logit": ("low", "width"),
    "line": ("loc", "scale"),
    "asinh": ("loc", "scale"),
}


def prior_from_config(config: Mapping[str, Any]) -> Prior:
    """Build the prior that `Prior.to_config` described.

    numpyro loads only for a fallback block; every other kind does without it.

    Args:
        config: `names`, `units` and `blocks`, each block with its `columns`.

    Raises:
        ValueError: a key that is missing, or a block that is no prior.
    """
    for key in ("names", "units", "blocks"):
        if key not in config:
            fail("prior configuration", f"with the key {key!r}", sorted(config))
    names = list(config["names"])
    blocks = []
    for entry in config["blocks"]:
        columns = [int(c) for c in entry["columns"]]
        labels = [names[c] if 0 <= c < len(names) else f"theta_{c}" for c in columns]
        blocks.append((block_from_config(entry, labels), columns))
    return Prior(blocks, names, list(config["units"]))


def block_from_config(entry: Mapping[str, Any], names: Sequence[str]) -> Block:
    """Build one block from `kind` and its arguments, naming bad columns by `names`.

    Raises:
        ValueError: unknown kind, missing argument, or a number out of its range.
    """
    kind = str(entry.get("kind"))
    if kind in _CLOSED:
        return _closed(kind, entry, names)
    if kind == "multivariate_normal":
        return _multivariate(entry, names)
    if kind == "normal_mixture":
        return _mixture(entry, names)
    if kind == "unconstrained":
        from flowinv.priors.unconstrained import Unconstrained, rebuild

        given = entry["distribution"]
        given = rebuild(given) if isinstance(given, Mapping) else given
        return Unconstrained(given, entry.get("shift"), entry.get("scale"))
    return _tabulated(kind, entry, names)


def _closed(kind: str, entry: Mapping[str, Any], names: Sequence[str]) -> Block:
    build, required, positive = _CLOSED[kind]
    values = {k: _vector(kind, k, entry, names, k in positive) for k in required}
    if "high" in values:
        _check_order(names, values["low"], values["high"])
    elif kind == "normal":
        for key, missing in (("low", -np.inf), ("high", np.inf)):
            if entry.get(key) is not None:
                values[key] = _edges(entry[key], missing)
    return build(**values)


def _multivariate(entry: Mapping[str, Any], names: Sequence[str]) -> Block:
    from flowinv.priors.whitened import MultivariateNormal

    loc = _vector("multivariate_normal", "loc", entry, names, False)
    factor = np.asarray(entry["scale_tril"], np.float64)
    if factor.shape != (loc.size, loc.size):
        fail("scale_tril", f"with shape {(loc.size, loc.size)}", factor.shape)
    if not (np.all(np.isfinite(factor)) and np.all(np.diag(factor) > 0)):
        fail(
            f"covariance of {', '.join(names)}",
            "to be finite and positive definite",
            f"Cholesky diagonal {np.diag(factor).tolist()}",
        )
    return MultivariateNormal(loc, np.tril(factor))


def _mixture(entry: Mapping[str, Any], names: Sequence[str]) -> Block:
    from flowinv.priors.mixture import NormalMixture

    for key in ("weights", "loc", "scale"):
        if key not in entry:
            fail("prior of kind 'normal_mixture'", f"with {key!r}", sorted(entry))
    values = {k: np.asarray(entry[k], np.float64) for k in ("weights", "loc", "scale")}
    shapes = {value.shape for value in values.values()}
    shape = next(iter(shapes))
    if len(shapes) > 1 or len(shape) != 2 or shape[0] != len(names) or not shape[1]:
        expected = f"of one shape ({len(names)}, number of components)"
        fail(f"weights, loc and scale of {', '.join(names)}", expected, sorted(shapes))
    for key, value in values.items():
        good = np.isfinite(value) & ((value > 0) | (key == "loc"))
        for name, row, right in zip(names, value, good, strict=True):
            if not right.all():
                expected = "to be finite" if key == "loc" else "to be finite, above 0"
                fail(f"{key} of prior {name!r}", expected, row.tolist())
    return NormalMixture(**values)


def _tabulated(kind: str, entry: Mapping[str, Any], names: Sequence[str]) -> Block:
    from flowinv.priors.families import FAMILIES
    from flowinv.priors.tabulated import Tabulated

    known = {*FAMILIES, *_CLOSED}
    known |= {"multivariate_normal", "normal_mixture", "unconstrained"}
    check_known("prior kind", kind, known)
    family = FAMILIES[kind]
    place, stretch = _PLACES[family.coordinate]
    first = _vector(kind, "first", entry, names, False, place)
    one_sided = family.coordinate == "log" and not family.positive
    second = _vector(kind, "second", entry, names, not one_sided, stretch)
    shape = {
        k: _vector(kind, k, entry, names, family.positive) for k in family.parameters
    }
    if kind == "truncated_normal":
        _check_order(names, shape["low_sd"], shape["high_sd"])
    if np.any(second == 0):
        fail(f"scale of {', '.join(names)}", "other than 0", second.tolist())
    far = entry.get("far")
    if far is not None:
        far = _edges(far, np.inf)
    return Tabulated(kind, first, second, far, **shape)


def _vector(
    kind: str,
    key: str,
    entry: Mapping[str, Any],
    names: Sequence[str],
    positive: bool,
    label: str | None = None,
) -> np.ndarray:
    """One checked float64 vector of a description."""
    if key not in entry:
        fail(f"prior of kind {kind!r}", f"with the argument {key!r}", sorted(entry))
    value = np.atleast_1d(np.asarray(entry[key], np.float64))
    if value.shape != (len(names),):
        fail(f"{key} of {kind}", f"with shape {(len(names),)}", value.shape)
    for name, number in zip(names, value, strict=True):
        if not np.isfinite(number) or (positive and number <= 0):
            expected = "to be finite and above 0" if positive else "to be finite"
            fail(f"{label or key} of prior {name!r}", expected, f"{number:g}")
    return value


def _check_order(names: Sequence[str], low: np.ndarray, high: np.ndarray) -> None:
    for name, a, b in zip(names, low, high, strict=True):
        if not a < b:
            fail(f"prior of {name!r}", "with low < high", f"low={a:g}, high={b:g}")


def _edges(values: Sequence[float | None], missing: float) -> np.ndarray:
    """Edges from JSON, where None stands for infinity."""
    return np.array([missing if v is None else v for v in values], np.float64)
