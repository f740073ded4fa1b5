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
from flowinv.sequential.entrance import check_posterior, check_proposal
from flowinv.sequential.method import Plan
from flowinv.sequential.proposals import KS_LIMIT, resampled
from flowinv.sequential.state import PROPOSE, empty_info
from flowinv.sequential.wide import Ball, WideFlow, WideNormal

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


@pytest.mark.later("apt")
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
        # Prior density over the region's mass, but for chances of being taken.
        gap = np.asarray(plan.estimator.prior.log_prob(rows.theta) - rows.log_prob)
        assert len(np.unique(np.asarray(rows.theta), axis=0)) == 300
        prior = jax.random.normal(jax.random.key(2), (200_000, 2))
        mass = float((log_q(plan, state, prior) >= state.region.level).mean())
        # 300 rows of 16 times as many: mean ratio to 5 sds of 2 %.
        assert np.exp(gap).mean() == pytest.approx(mass, rel=0.1)
        assert gap.std() < 0.2
    else:
        # The posterior with an area twice as large: base draws times sqrt(2).
        posterior = Posterior(plan.estimator, state.variables)
        expected = posterior.log_prob(rows.theta[None], X_OBS[None])[0]
        squared = (in_base(plan, state, rows.theta) ** 2).sum(-1)
        expected = expected + 0.25 * squared - np.log(2.0)
        np.testing.assert_allclose(rows.log_prob, expected, atol=2e-3)
        assert squared.mean() / 4 == pytest.approx(1.0, abs=0.2)


@compiled
def in_base(plan, state, theta):
    est, frozen = plan.estimator, state.variables.frozen
    w = est.prior_of(frozen).to_latent(theta)
    features = est.features(frozen, X_OBS[None])
    return est.apply_flow("inverse_and_log_det", state.variables.params, w, features)[0]


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
    ratio = np.exp(plan.estimator.prior.log_prob(rows.theta) - rows.log_prob)
    which = np.digitize(rows.theta[:, 0], edges)
    counts = np.bincount(which, weights=ratio / ratio.mean(), minlength=6)
    assert stats.chisquare(counts).pvalue > 1e-3


@pytest.mark.parametrize("many", [2, 16])
def test_rows_taken_by_weight_are_unbiased(many):
    """Means under N(0, 1) of candidates from N(0, 4), 2,000 times 100 rows.

    Ratios over chances make them right to 5 standard errors; left out, as few
    candidates as twice the rows make the variance wrong by more than 20.
    """

    @jax.jit
    @jax.vmap
    def once(key):
        theta = 2.0 * jax.random.normal(key, (many * 100,))
        log_w = -0.5 * theta**2 + 0.125 * theta**2 + np.log(2.0)
        taken, ratio = resampled(jax.random.fold_in(key, 1), log_w, 100)
        own = theta[taken]
        weight = jnp.exp(ratio)
        right = jnp.stack([weight.mean(), (weight * own**2).mean()])
        return right, (own**2).mean(), jnp.unique(taken, size=100, fill_value=-1)

    right, plain, taken = once(jax.random.split(jax.random.key(0), 2_000))
    error = np.asarray(right).std(0) / 2_000**0.5
    assert (np.abs(right.mean(0) - 1.0) < 5 * error).all()
    assert int(taken.min()) >= 0
    if many == 2:
        assert abs(plain.mean() - 1.0) > 20 * plain.std() / 2_000**0.5


def test_members_of_an_ensemble_are_mixed(later):
    """Two networks: the mean of their densities, and draws in turn."""
    plan, state = later("hdr")
    own = state.variables
    moved = jax.tree.map(lambda leaf: leaf, own.params)
    moved["flow"]["head"]["correction"]["bias"] = jnp.asarray([5.0, 5.0, -1.0, -1.0])
    both = jax.tree.map(lambda a, b: jnp.stack([a, b]), own.params, moved)
    other = dataclasses.replace(own, params=moved)
    mixed = dataclasses.replace(own, params=both, num_members=2)
    flows = [
        WideFlow(plan, variables, X_OBS, WideNormal(1.3))
        for variables in (own, other, mixed)
    ]
    w = jax.jit(lambda key: flows[2].sample(key, 1_001))(jax.random.key(0))
    assert w.shape == (1_001, 2)
    first, second, mean = (jax.jit(flow.log_probs)(w) for flow in flows)
    for a, b, c in zip(first, second, mean, strict=True):
        np.testing.assert_allclose(c, np.logaddexp(a, b) - np.log(2.0), atol=1e-4)
    # Where a network drew a row, it is denser.
    np.testing.assert_array_equal((first[1] > second[1])[::2], True)
    np.testing.assert_array_equal((first[1] < second[1])[1::2], True)


@pytest.mark.slow
def test_a_ball_is_even_where_the_flow_is_gaussian(later):
    """Density one over the volume of an ellipse, or of its share in an ensemble."""
    plan, state = later("hdr")
    ball = WideFlow(plan, state.variables, X_OBS, Ball(1.5))
    w = jax.jit(lambda key: ball.sample(key, 4_000))(jax.random.key(0))
    own, even = jax.jit(ball.log_probs)(w)
    np.testing.assert_allclose(own, log_q(plan, state, w), atol=1e-4)
    draws = np.asarray(plan.draws(jax.random.key(1), state.variables, X_OBS, 20_000))
    area = np.pi * 1.5**2 * np.sqrt(np.linalg.det(np.cov(draws.T)))
    np.testing.assert_allclose(even, -np.log(area), atol=0.05)
    # Even in the base: the squared radius is uniform.
    radius = np.linalg.norm((np.asarray(w) - draws.mean(0)) / draws.std(0), axis=1)
    assert radius.max() < 1.6
    assert np.mean(radius**2 / 1.5**2) == pytest.approx(0.5, abs=0.03)
    outside = draws.mean(0) + 1.7 * draws.std(0)
    assert jax.jit(ball.log_probs)(jnp.asarray(outside)[None])[1][0] == -np.inf


@pytest.mark.parametrize(
    "name", ["box", "apt", pytest.param("hybrid", marks=pytest.mark.slow)]
)
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


def test_a_posterior_that_is_not_finite_ends_the_rounds():
    """The round is named, of one lane or several."""
    for lanes in ((), (3,)):
        info = empty_info(4, 2, lanes)
        check_posterior(info)
        info = info._replace(round=info.round + 7, mean=info.mean.copy())
        info.mean[..., 1] = np.nan
        with pytest.raises(ValueError, match="posterior of round 8 to be finite.*=7"):
            check_posterior(info)
    with pytest.raises(ValueError, match="posterior of round 1 .*extreme parameters"):
        check_posterior(info._replace(round=info.round - 7))
