"""The door of rounds: what is asked before a program is compiled, and of first rows."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from flowinv.checks import fail, finite_float32, named, one_key
from flowinv.compiling import compiled
from flowinv.data.entrance import (
    admit_simulator,
    check_varies,
    host_rows,
    is_host,
    probe,
    refuse_all_failed,
    rows_at_once,
)
from flowinv.data.simulate import by_parts
from flowinv.data.standardise import resolve_scaling
from flowinv.files import settled
from flowinv.models.entrance import admit_estimator, admit_parts
from flowinv.models.estimator import Estimator
from flowinv.priors.latent import Prior
from flowinv.sequential.method import RoundsMethod
from flowinv.sequential.proposals import KS_LIMIT
from flowinv.sequential.state import RoundInfo
from flowinv.types import Simulator

__all__ = [
    "admit_rounds",
    "check_first_rows",
    "check_posterior",
    "check_proposal",
    "lane_keys",
    "observations_of",
    "resolved",
]

# Rows of the first round that must not all be the same.
FEW = 256
# Rows of the prior that choose the scaling.
_ROWS = 200
# Why rows are not their proposal's: of callers, and of rounds that draw them here.
FROM_OTHERS = "Append rows with the proposal that they were drawn from."
TOO_NARROW = (
    "The posterior is narrower than float32 tells apart: raise num_simulations."
)


def admit_rounds(
    estimator: Estimator, simulator: Simulator, method: RoundsMethod
) -> tuple[RoundsMethod, tuple[int, ...]]:
    """Method and shape of x, after checks that all fits together.

    Raises:
        ValueError: what does not, or a simulator that always fails.
    """
    if not isinstance(method, RoundsMethod):
        remedy = "Take flowinv.Truncated or flowinv.APT."
        fail("method", "to be a method of rounds", named(method), remedy)
    method = settled(type(method), method, "method")
    method.check()
    admit_parts(estimator)
    x_shape = admit_simulator(simulator, estimator.prior)
    admit_estimator(estimator, x_shape)
    method.check_prior(estimator.prior)
    _refuse_always_failing(simulator, estimator.prior)
    return method.suited(estimator.prior), x_shape


def _refuse_always_failing(simulator: Any, prior: Prior) -> None:
    """Raise for a simulator whose probe fails, and rows of the prior as well.

    A host simulator's runs cost: its first round tells.
    """
    if not is_host(simulator) and not np.isfinite(probe(simulator, prior)).any():
        _prior_rows(simulator, prior)


def resolved(estimator: Estimator, simulator: Any) -> Estimator:
    """The estimator with `auto` scaling replaced by what prior rows ask for.

    The same rows whatever the lanes: a lane alone is scaled as among others.
    """
    if estimator.input_scaling != "auto":
        return estimator
    x, valid = _prior_rows(simulator, estimator.prior)
    scaling = resolve_scaling(x, valid, estimator.input_scaling)
    return dataclasses.replace(estimator, input_scaling=scaling)


def _prior_rows(simulator: Any, prior: Prior) -> tuple[np.ndarray, np.ndarray]:
    """X of some rows of the prior, and which are finite: one at least, or it raises."""
    key = jax.random.key(0)
    theta = prior.sample(key, _ROWS)
    if is_host(simulator):
        x, _ = host_rows(simulator, key, theta)
    else:
        at_once = rows_at_once(simulator, prior)
        keys = jax.random.split(key, _ROWS)
        run = compiled(
            lambda *rows: by_parts(lambda row: simulator.simulate(*row), rows, at_once),
            once=True,
        )
        x = run(keys, theta)
    x = np.asarray(x)
    valid = np.isfinite(x).reshape(len(x), -1).all(-1)
    refuse_all_failed(valid, "simulations of the prior")
    return x, valid


def observations_of(x_obs: ArrayLike, shape: tuple[int, ...]) -> Array:
    """Observations as `[lanes, *x_shape]`, checked."""
    x_obs = np.asarray(finite_float32("x_obs", x_obs))
    if x_obs.shape == shape:
        x_obs = x_obs[None]
    if x_obs.shape[1:] != shape or not len(x_obs):
        fail("x_obs", f"with shape {shape} or {('lanes', *shape)}", x_obs.shape)
    if not np.isfinite(x_obs).all():
        fail("x_obs", "to be finite", "NaN or infinity")
    return jnp.asarray(x_obs)


def lane_keys(key: Array, num_lanes: int) -> Array:
    """One key for each lane: those given, or numbers folded into the one given."""
    if not isinstance(key, jax.Array) or key.ndim == 0 or key.dtype == np.uint32:
        key = one_key(key)
        return jax.vmap(jax.random.fold_in, (None, 0))(
            key, jnp.arange(num_lanes, dtype=jnp.int32)
        )
    if key.shape != (num_lanes,):
        fail("keys", f"one for each of {num_lanes} lanes", key.shape)
    return key


def check_first_rows(x: Array, valid: Array, batch_rows: int, batched: bool) -> None:
    """Raise where rows of the first round cannot be learned from.

    Args:
        x: simulations, `[N, *x_shape]`, with a leading axis of lanes if `batched`.
        valid: which succeeded, `[N]` or `[lanes, N]`.
        batch_rows: rows of a training batch.
        batched: whether there are lanes.

    Raises:
        ValueError: none succeeded, fewer than two batches in a lane, or all the same.
    """
    good = np.atleast_2d(np.asarray(valid))
    refuse_all_failed(good, "simulations of the first round")
    count = int(good.sum(-1).min())
    if count < 2 * batch_rows:
        wanted = f"of at least two batches, {2 * batch_rows}"
        name = "valid simulations in the first round"
        fail(name, wanted, count, "Raise num_simulations.")
    few = (0,) * batched + (slice(FEW),)
    check_varies(np.asarray(x[few])[np.asarray(valid[few])])


def check_posterior(info: RoundInfo) -> None:
    """Raise for a round whose posterior is not finite: later ones would begin there.

    Args:
        info: of one lane, or of several.

    Raises:
        ValueError: which round it was.
    """
    bad = ~np.isfinite(np.stack([info.mean, info.sd])).all((0, -1))
    if bad.any():
        number = int(np.max(info.round)) + 1
        remedy = "Look at what the simulator gives for extreme parameters."
        if number > 1:
            remedy = f"With num_rounds={number - 1} they end before it."
        fail(f"the posterior of round {number}", "to be finite", "NaN", remedy)


def check_proposal(distance: ArrayLike, remedy: str = FROM_OTHERS) -> None:
    """Raise unless rows came from the proposal whose density they carry.

    Args:
        distance: from `base_distance`; false alarms once in 1e9 tests.
        remedy: what to do.

    Raises:
        ValueError: for rows of another distribution.
    """
    worst = float(np.max(np.asarray(distance)))
    if not worst < KS_LIMIT:
        fail(
            "theta",
            "to come from the proposal of its round",
            f"sqrt(N) x Kolmogorov-Smirnov distance {worst:.1f} (limit {KS_LIMIT})",
            remedy,
        )
