"""The door for estimators: what cannot be trained or saved is said first."""

import json
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from flowinv.checks import InputError, check_known, fail, named, one_line
from flowinv.data.entrance import admit_prior
from flowinv.data.standardise import SCALINGS
from flowinv.flows.density import Flow
from flowinv.identity import identity
from flowinv.models.estimator import Estimator
from flowinv.models.registry import describe
from flowinv.priors.config import prior_from_config

__all__ = ["admit_estimator", "admit_parts", "estimator_marks"]


def admit_estimator(estimator: Any, x_shape: tuple[int, ...]) -> None:
    """Check every part of an estimator against one x, traced only.

    Args:
        estimator: what is to be trained.
        x_shape: shape of one observation.

    Raises:
        ValueError: a part of another kind, one that no model file can describe, a
            summary or an embedding that does not map this x to a vector, or that
            needs more than parameters (batch statistics, random numbers).
    """
    admit_parts(estimator)
    _check_saving(estimator)
    x = jax.ShapeDtypeStruct((2, *x_shape), jnp.float32)
    if estimator.summary is not None:
        _check_summary(estimator.summary, x)
    if estimator.embedding is not None:
        _check_embedding(estimator.embedding, x)


def admit_parts(estimator: Any) -> None:
    """Check what an estimator is made of, before anything is asked of it.

    Raises:
        ValueError: a part of another kind.
    """
    if not isinstance(estimator, Estimator):
        fail("estimator", "to be a flowinv.Estimator", named(estimator))
    admit_prior(estimator.prior)
    flow = estimator.flow
    if not (isinstance(flow, nn.Module) and isinstance(flow, Flow)):
        remedy = "Take one of flowinv.flows."
        fail("flow", "to be a flow of flowinv", named(flow), remedy)
    check_known("input scaling", estimator.input_scaling, SCALINGS)
    if not (estimator.summary is None or callable(estimator.summary)):
        fail("summary", "to be a function of x", named(estimator.summary))
    embedding = estimator.embedding
    if not (embedding is None or isinstance(embedding, nn.Module)):
        remedy = "Wrap it in one; a class has to be called first."
        fail("embedding", "to be a flax.linen module", named(embedding), remedy)


def _check_saving(estimator: Estimator) -> None:
    """Describe and rebuild now what `save` and `load` will."""
    text = json.dumps(estimator.prior.to_config())
    if prior_from_config(json.loads(text)) != estimator.prior:
        remedy = "Use a distribution with plain arguments."
        fail("prior", "that reads back from its description", estimator.prior, remedy)
    for name in ("flow", "embedding", "summary"):
        part = getattr(estimator, name)
        try:
            describe(part)
            hash(part)
        except (InputError, TypeError):
            remedy = "Make it a frozen dataclass or linen module of numbers and tuples."
            fail(name, "that a model file can describe", named(part), remedy)


def _check_summary(summary: Any, x: jax.ShapeDtypeStruct) -> None:
    try:
        got = jax.eval_shape(summary, x)
    except InputError:
        raise
    except Exception as error:
        fail("summary", f"to read x of shape {x.shape}", one_line(error))
    _check_vector("summary", got, x)
    if _is_own(summary):
        _check_rows("summary", summary, x)


def _check_embedding(embedding: Any, x: jax.ShapeDtypeStruct) -> None:
    try:
        variables = jax.eval_shape(embedding.init, jax.random.key(0), x)
        extra = sorted(set(variables) - {"params"})
        if extra:
            remedy = "Use LayerNorm or GroupNorm in place of BatchNorm."
            fail("embedding", "of parameters alone", f"also {', '.join(extra)}", remedy)
        got = jax.eval_shape(embedding.apply, variables, x)
    except InputError:
        raise
    except Exception as error:
        words = one_line(error)
        remedy = "Dropout has no place here: give deterministic=True."
        remedy = remedy if "rng" in words.lower() else ""
        fail("embedding", f"to read x of shape {x.shape}", words, remedy)
    _check_vector("embedding", got, x)
    if _is_own(embedding):
        drawn = embedding.init(jax.random.key(0), jnp.zeros(x.shape, x.dtype))
        made = _check_rows("embedding", lambda rows: embedding.apply(drawn, rows), x)
        if not np.isfinite(made).all():
            got = "NaN or infinity for numbers around 0 and 1"
            fail("embedding", "to give finite numbers", got)


def _is_own(part: Any) -> bool:
    """Whether a part is the user's, not one of flowinv."""
    return type(part).__module__.split(".")[0] != "flowinv"


def _check_rows(
    what: str, part: Callable[[Array], Array], x: jax.ShapeDtypeStruct
) -> np.ndarray:
    """Each x is read by itself: beside others it gives the same numbers."""
    rows = jax.random.normal(jax.random.key(1), x.shape, x.dtype)
    both = np.asarray(part(rows), np.float64)
    alone = np.asarray(part(rows[:1]), np.float64)
    size = np.abs(both[np.isfinite(both)]).max(initial=1.0)
    if not np.allclose(both[:1], alone, rtol=0, atol=1e-3 * size, equal_nan=True):
        remedy = "Take means and the like over the axes of one x, not over rows."
        fail(what, "to read each x by itself", "other numbers beside another x", remedy)
    return both


def _check_vector(what: str, got: Any, x: jax.ShapeDtypeStruct) -> None:
    """One vector for each x: `[2, C]` for two of them."""
    shape = getattr(got, "shape", None)
    if shape is None or len(shape) != 2 or shape[0] != x.shape[0] or not shape[1]:
        found = type(got).__name__ if shape is None else shape
        expected = f"to give one vector each for x of shape {x.shape}: (2, C)"
        fail(what, expected, found)


def estimator_marks(estimator: Estimator) -> dict[str, str]:
    """What tells an estimator from another one, in every process, by part."""
    parts = ("flow", "embedding", "summary", "input_scaling", "placed")
    marks = {name: identity(getattr(estimator, name))[0] for name in parts}
    return {"prior": identity(estimator.prior.to_config())[0], **marks}
