"""The state of a lane: one pytree, and what a human reads of a round."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from flowinv.flows.estimator import Estimator, Variables
from flowinv.priors.cut import Box, whole_box
from flowinv.sequential.config import RoundsConfig

__all__ = ["EMPTY", "RoundInfo", "RoundsState", "empty_info", "init_rounds"]

EMPTY = -1
"""Round of a row that is not filled yet."""


class RoundsState(NamedTuple):
    """All that rounds change; B = num_rounds x num_simulations rows.

    Attributes:
        theta: parameters, `[B, D]`.
        x: simulations, `[B, *x_shape]`.
        valid: False for failed simulations and empty rows, `[B]`.
        round: round of each row, -1 for empty ones, `[B]`.
        log_proposal: log density in theta of the proposal at each row, `[B]`.
        boxes: box that each round drew from, `[R + 1, D]` per edge.
        index: number of the next round.
        variables: networks of the last round; new ones, which are the prior, before it.
        threshold: log q in z below which the last posterior is cut ("hdr").
        draws: draws of the last posterior, `[K, D]`.
        key: typed key of the lane.
        stopped: no more rounds are run.
    """

    theta: Array
    x: Array
    valid: Array
    round: Array
    log_proposal: Array
    boxes: Box
    index: Array
    variables: Variables
    threshold: Array
    draws: Array
    key: Array
    stopped: Array


class RoundInfo(NamedTuple):
    """What a round reports.

    Attributes:
        round: number, from 0.
        num_failed: simulations of the round that failed.
        num_used: rows that the round's network was trained and validated on.
        validation_loss: best, nats.
        steps: training steps.
        mass_outside: share of the posterior's mass outside the region that held the
            last proposal's 1 - 1e-4; for a box, the share pressed against its faces.
        sample_efficiency: effective share of the round's draws when weighted to the
            new posterior, (sum w)^2 / (n sum w^2).
        distance: largest Wasserstein-1 distance of any parameter's marginal from the
            last round's, in sds of the new one.
        mean: posterior mean in the parameters' units, `[D]`.
        sd: posterior sd, `[D]`.
        proposal_ks: largest Kolmogorov-Smirnov statistic of the round's rows against
            their stated proposal, times sqrt(N).
        draws: posterior draws, `[K, D]`.
    """

    round: Array
    num_failed: Array
    num_used: Array
    validation_loss: Array
    steps: Array
    mass_outside: Array
    sample_efficiency: Array
    distance: Array
    mean: Array
    sd: Array
    proposal_ks: Array
    draws: Array


def empty_info(num_draws: int, dim: int, lanes: tuple[int, ...] = ()) -> RoundInfo:
    """A `RoundInfo` of zeros: shapes and dtypes, for checkpoints to fill."""
    whole, number = np.zeros(lanes, np.int32), np.zeros(lanes, np.float32)
    moments = np.zeros((*lanes, dim), np.float32)
    return RoundInfo(
        round=whole,
        num_failed=whole,
        num_used=whole,
        validation_loss=number,
        steps=number,
        mass_outside=number,
        sample_efficiency=number,
        distance=number,
        mean=moments,
        sd=moments,
        proposal_ks=number,
        draws=np.zeros((*lanes, num_draws, dim), np.float32),
    )


def init_rounds(
    key: Array,
    estimator: Estimator,
    config: RoundsConfig,
    x_shape: tuple[int, ...],
    num_draws: int,
    is_cut: bool,
) -> RoundsState:
    """Return the state before the first round: empty rows, the prior as posterior."""
    count, dim = config.num_rounds * config.num_simulations, estimator.prior.dim
    box = whole_box(dim)
    frozen = estimator.skeleton(x_shape).frozen
    if is_cut:
        frozen = frozen._replace(box=box)
    members = config.train.num_members
    params = estimator.draw(key, frozen)
    if members > 1:
        params = jax.tree.map(lambda leaf: jnp.stack([leaf] * members), params)
    edges = jax.tree.map(
        lambda edge: jnp.broadcast_to(edge, (config.num_rounds + 1, dim)), box
    )
    return RoundsState(
        theta=jnp.zeros((count, dim)),
        x=jnp.zeros((count, *x_shape)),
        valid=jnp.zeros(count, bool),
        round=jnp.full(count, EMPTY, jnp.int32),
        log_proposal=jnp.full(count, jnp.nan, jnp.float32),
        boxes=edges,
        index=jnp.zeros((), jnp.int32),
        variables=Variables(params, frozen),
        threshold=jnp.asarray(-jnp.inf, jnp.float32),
        draws=estimator.prior.sample(key, num_draws),
        key=key,
        stopped=jnp.asarray(False),
    )
