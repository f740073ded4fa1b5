"""Proposals: their densities, and rows that do not come from them."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flowinv.methods.truncated import Cut
from flowinv.models.posterior import Posterior
from flowinv.priors.cut import Box
from flowinv.sequential.boxes import box_at
from flowinv.sequential.method import Plan
from flowinv.sequential.proposals import KS_LIMIT
from flowinv.sequential.run import check_proposal
from flowinv.sequential.state import PROPOSE

X_OBS = jnp.asarray([0.3, -0.6])


@pytest.fixture(scope="module")
def later(estimator, quick):
    """Plan and a state in round 1, with a box and a network that is not the prior."""

    def make(name):
        method = quick(name)
        plan = Plan(estimator, method)
        state = jax.jit(plan.start, static_argnums=1)(jax.random.key(0), (2,))
        box = Box(jnp.asarray([0.0, -1.0]), jnp.asarray([0.6, -0.3]))
        variables = state.variables
        if variables.frozen.box is not None:
            region, named = state.region, name in ("auto", "box")
            boxes = region.boxes if named else region
            boxes = jax.tree.map(lambda e, b: e.at[1:].set(b), boxes, box)
            region = region._replace(boxes=boxes) if named else boxes
            state = state._replace(region=region)
            frozen = variables.frozen._replace(box=box)
            variables = dataclasses.replace(variables, frozen=frozen)
        # The affine head's last bias: one sd to the side, a third of the width.
        params = jax.tree.map(lambda leaf: leaf, variables.params)
        params["flow"]["head"]["correction"]["bias"] = jnp.asarray(
            [1.0, -1.0, -1.0, -1.0]
        )
        variables = dataclasses.replace(variables, params=params)
        return plan, state._replace(index=jnp.int32(1), variables=variables)

    return make


# Compiled once each: operation by operation they are hundreds of small programs.
compiled = functools.partial(jax.jit, static_argnums=0)


@compiled
def propose(plan, state):
    key = plan.round_key(state, PROPOSE)
    return plan.method.propose(plan, key, state, X_OBS)


@compiled
def distance_of(plan, state, theta):
    return plan.method.proposal_distance(plan, state, X_OBS, theta)


def test_density_of_each_proposal(later, method):
    """The stored log density is that of the distribution the rows came from."""
    plan, state = later(method)
    if method == "hdr":
        state = _with_level(plan, state)
    rows = propose(plan, state)
    assert rows.theta.shape == (300, 2)
    if method in ("auto", "box"):
        low, high = box_at(state.region.boxes, 1)
        assert bool(((rows.theta > low) & (rows.theta < high)).all())
        from scipy import stats

        truncated = stats.truncnorm.logpdf(np.asarray(rows.theta), low, high).sum(-1)
        np.testing.assert_allclose(rows.log_prob, truncated, atol=1e-3)
    elif method == "hdr":
        # Prior density up to one constant, the mass of the region.
        gap = np.asarray(rows.log_prob - plan.estimator.prior.log_prob(rows.theta))
        np.testing.assert_allclose(gap, gap[0], atol=1e-4)
        assert gap[0] > 0
    else:
        posterior = Posterior(plan.estimator, state.variables)
        expected = posterior.log_prob(rows.theta[None], X_OBS[None])[0]
        np.testing.assert_allclose(rows.log_prob, expected, atol=2e-3)


@compiled
def log_q(plan, state, z):
    return plan.log_q(state.variables, z, X_OBS)


@compiled
def _with_level(plan, state):
    """The region of the posterior's upper 80 %."""
    z = plan.draws(jax.random.key(1), state.variables, X_OBS, 4_000)
    level = jnp.quantile(log_q(plan, state, z), 0.2)
    # The prior is z: candidates lie around these draws.
    return state._replace(region=Cut(None, level), draws=z)


def test_highest_density_region_holds_prior_draws(later):
    """Inside the region the rows are distributed as the prior: chi-square on a grid.

    The network is a Gaussian; false-alarm rate 1e-3, fixed seed.
    """
    from scipy import stats

    plan, state = later("hdr")
    state = _with_level(plan, state)
    level = state.region.level
    rows = propose(plan, state)
    # Theta is z: an N(0, I) prior.
    assert float((log_q(plan, state, rows.theta) >= level - 1e-4).mean()) == 1.0
    prior = jax.random.normal(jax.random.key(2), (200_000, 2))
    prior = prior[log_q(plan, state, prior) >= level]
    edges = np.quantile(prior[:, 0], np.linspace(0, 1, 7)[1:-1])
    counts = np.bincount(np.digitize(rows.theta[:, 0], edges), minlength=6)
    assert stats.chisquare(counts).pvalue > 1e-3


@pytest.mark.parametrize("name", ["box", "apt", "hybrid"])
def test_rows_from_elsewhere_are_noticed(later, name):
    """Prior rows passed off as the proposal's, and the other way round."""
    plan, state = later(name)
    own = propose(plan, state).theta
    distance = distance_of(plan, state, own)
    assert float(distance) < KS_LIMIT
    check_proposal(distance)
    prior = plan.estimator.prior.sample(jax.random.key(3), 300)
    with pytest.raises(ValueError, match="theta to come from the proposal"):
        check_proposal(distance_of(plan, state, prior))
    first = state._replace(index=jnp.int32(0))
    with pytest.raises(ValueError, match="Kolmogorov-Smirnov"):
        check_proposal(distance_of(plan, first, own))


def test_nan_is_no_proposal():
    with pytest.raises(ValueError, match="theta to come from"):
        check_proposal(np.nan)
