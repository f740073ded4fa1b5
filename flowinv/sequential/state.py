"""The state of a lane: one pytree, and what a human reads of a round."""

from typing import Any, NamedTuple

import numpy as np
from jax import Array

from flowinv.models.estimator import Variables

__all__ = [
    "ANSWER",
    "NUM_DRAWS",
    "PROPOSE",
    "SIMULATE",
    "TRAIN",
    "RoundInfo",
    "RoundsState",
    "empty_info",
]

# Streams of a round's key.
PROPOSE, SIMULATE, TRAIN, ANSWER = range(4)
# Draws that stand for the last posterior between two rounds. A box leaves out a share
# of 1e-4 of them on all faces together: about their extremes.
NUM_DRAWS = 4_096


class RoundsState(NamedTuple):
    """All that rounds change; B = num_rounds x num_simulations rows.

    Attributes:
        theta: parameters, `[B, D]`.
        z: their latent under the whole prior, `[B, D]`.
        x: simulations, `[B, *x_shape]`.
        valid: False for failed simulations and empty rows, `[B]`.
        round: round of each row, -1 for empty ones, `[B]`.
        log_proposal: log density in theta of the proposal at each row, `[B]`.
        region: where the method looks: its own pytree.
        index: number of the next round.
        variables: networks of the last round; new ones, which are the prior, before it.
        draws: draws of the last posterior, `[K, D]`.
        key: typed key of the lane.
        stopped: no more rounds are run.
    """

    theta: Array
    z: Array
    x: Array
    valid: Array
    round: Array
    log_proposal: Array
    region: Any
    index: Array
    variables: Variables
    draws: Array
    key: Array
    stopped: Array


class RoundInfo(NamedTuple):
    """What a round reports.

    Attributes:
        round: number, from 0.
        num_failed: simulations of the round that failed.
        num_used: rows that the round's network was trained and validated on.
        num_effective: as many rows of equal weight would say as much.
        validation_loss: best, nats.
        steps: training steps.
        mass_outside: share of the posterior's mass outside the region that held the
            last proposal's 1 - 1e-4; for a box, the share pressed against its faces.
        unsimulated: share of the posterior beyond the smallest or largest value of some
            parameter that was ever simulated.
        sample_efficiency: effective share of the round's draws when weighted to the
            new posterior, (sum w)^2 / (n sum w^2).
        waste: nats by which the posterior is smaller than the Gaussian around it: the
            room that a box around it wastes.
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
    num_effective: Array
    validation_loss: Array
    steps: Array
    mass_outside: Array
    unsimulated: Array
    sample_efficiency: Array
    waste: Array
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
        num_effective=number,
        validation_loss=number,
        steps=number,
        mass_outside=number,
        unsimulated=number,
        sample_efficiency=number,
        waste=number,
        distance=number,
        mean=moments,
        sd=moments,
        proposal_ks=number,
        draws=np.zeros((*lanes, num_draws, dim), np.float32),
    )
