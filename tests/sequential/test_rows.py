"""Rows in buffers: packing, batches, and which of them may be used."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from flowinv.methods.truncated import Cut
from flowinv.priors.cut import Box, CutPrior
from flowinv.sequential import fitting
from flowinv.sequential.boxes import box_at, with_box
from flowinv.sequential.fitting import prepare
from flowinv.sequential.method import Fitted, Plan, Proposal
from flowinv.sequential.rows import (
    append,
    filled,
    held_out,
    newest,
    packed,
)

X_OBS = jnp.zeros(2)


def test_packed_rows_take_turns():
    mask = jnp.asarray([False, True, True, False, True])
    rows, count = packed(mask, 7)
    assert int(count) == 3
    assert rows.tolist() == [1, 2, 4, 1, 2, 4, 1]


def test_newest_rows_begin_at_the_end():
    mask = jnp.asarray([False, True, True, False, True])
    rows, count = newest(mask, 5)
    assert int(count) == 3
    assert rows.tolist() == [4, 2, 1, 4, 2]
    assert newest(mask, 2)[0].tolist() == [4, 2]


# Compiled once each: operation by operation they are hundreds of small programs.
compiled = functools.partial(jax.jit, static_argnums=0)
appended, prepared_by = compiled(append), compiled(prepare)


def start(estimator, method):
    plan = Plan(estimator, method)
    state = jax.jit(plan.start, static_argnums=1)(jax.random.key(0), (2,))
    return plan, state


@compiled
def weights_of(plan, state):
    return plan.method.weights(plan, state, X_OBS)


@compiled
def propose(plan, state):
    return plan.method.propose(plan, jax.random.key(5), state, X_OBS)


@compiled
def log_q_of(plan, state, z):
    return plan.log_q(state.variables, z, X_OBS)


def usable(plan, state, index=None):
    if index is not None:
        state = state._replace(index=jnp.int32(index))
    use = np.asarray(filled(state) & state.valid)
    return use & (np.asarray(weights_of(plan, state)) > 0)


@compiled
def put(plan, state, box, key, valid=None):
    """Rows of the prior cut to `box` as the next round."""
    prior = CutPrior(plan.estimator.prior, box)
    if plan.method.latent_box(state.region, 0) is not None:
        cut = isinstance(state.region, Cut)
        boxes = state.region.boxes if cut else state.region
        boxes = with_box(boxes, state.index, box)
        region = state.region._replace(boxes=boxes) if cut else boxes
        state = state._replace(region=region)
    count = plan.method.num_simulations
    theta = prior.from_latent(prior.sample_latent(key, count))
    valid = jnp.ones(count, bool) if valid is None else valid
    rows = Proposal(theta, prior.log_prob(theta))
    state = append(plan, state, rows, theta, valid)
    return state._replace(index=state.index + 1)


def small(half):
    return Box(jnp.full(2, -half), jnp.full(2, half))


def test_rows_inside_a_nested_box_are_the_cut_prior(estimator, quick):
    """KS of reused rows in the cut latent, fixed seeds; false-alarm rate 1e-3 each."""
    plan, state = start(estimator, quick("box", num_rounds=4, num_simulations=2_000))
    for round_index, half in enumerate((6.0, 1.0, 0.7)):
        state = put(plan, state, small(half), jax.random.key(round_index))
    state = state._replace(index=jnp.int32(2))
    use = usable(plan, state)
    box = box_at(state.region.boxes, state.index)
    assert use[4_000:6_000].all()
    assert 0.2 < use[:2_000].mean() < 0.35  # 0.516^2 of the prior
    assert not use[6_000:].any()
    w = np.asarray(CutPrior(estimator.prior, box).to_latent(state.theta))[use]
    for column in w.T:
        assert stats.kstest(column, "norm").pvalue > 1e-3


def test_rows_of_a_smaller_box_count_less_when_it_grows(estimator, quick):
    plan, state = start(estimator, quick("box", num_rounds=4))
    boxes = (6.0, 0.5, 1.0)
    for round_index, half in enumerate(boxes):
        state = put(plan, state, small(half), jax.random.key(round_index))
    state = state._replace(index=jnp.int32(2))
    assert usable(plan, state)[300:900].all()
    weights = np.asarray(weights_of(plan, state))
    # Masses of the boxes: all, 0.383^2 and 0.683^2 of the prior.
    density = [1.0 / (2 * stats.norm.cdf(half) - 1) ** 2 for half in boxes]
    ratio = sum(density) / (density[0] + density[2])
    np.testing.assert_allclose(weights[300:600] * ratio, 1.0, rtol=1e-4)
    prepared = prepared_by(plan, state, X_OBS)
    assert int(prepared.num_used) == usable(plan, state).sum()
    used = weights[usable(plan, state)]
    expected = used.sum() ** 2 / (used**2).sum()
    assert float(prepared.num_effective) == pytest.approx(expected, rel=1e-4)
    counted = prepared.training.weight[: int(prepared.num_train)]
    assert float(counted.mean()) == pytest.approx(1.0, abs=0.05)


@pytest.mark.parametrize("skewed", [False, True])
def test_rows_near_x_obs_refute_a_start_that_is_no_gaussian(estimator, quick, skewed):
    """Noise that is normal, and an exponential with the same mean and variance."""
    plan, state = start(estimator, quick("box", num_rounds=4))
    for number in range(4):
        state = put(plan, state, small(6.0), jax.random.key(number))
    rng, shape = np.random.default_rng(0), state.theta.shape
    noise = rng.exponential(size=shape) - 1 if skewed else rng.normal(size=shape)
    x = np.asarray(state.theta) + 0.5 * np.float32(noise)
    state = state._replace(x=jnp.asarray(x, state.x.dtype), index=jnp.int32(2))
    unlike = float(prepared_by(plan, state, X_OBS).unlike)
    assert unlike > 4.0 if skewed else unlike < 3.0


def test_failed_rows_and_prior_rows(estimator, quick):
    plan, state = start(estimator, quick("apt", keep_prior_rows=False))
    valid = jnp.arange(300) % 3 > 0
    for round_index in range(2):
        state = put(plan, state, small(6.0), jax.random.key(round_index), valid)
    first = usable(plan, state, 0)
    np.testing.assert_array_equal(first[:300], valid)
    later = usable(plan, state, 1)
    assert not later[:300].any()
    np.testing.assert_array_equal(later[300:600], valid)


def test_failed_rows_are_atoms_and_nothing_else(estimator, quick):
    valid = jnp.arange(300) % 3 > 0
    for name, kept in (("apt", True), ("box", False)):
        plan, state = start(estimator, quick(name))
        state = put(plan, state, small(6.0), jax.random.key(0), valid)
        state = state._replace(index=jnp.int32(0))
        prepared = prepared_by(plan, state, X_OBS)
        assert int(prepared.num_used) == 200
        assert int(prepared.num_train) == (270 if kept else 180)
        failed = prepared.training.weight[: int(prepared.num_train)] == 0
        assert int(failed.sum()) == (90 if kept else 0)
        # Their x is no number of the solved Gaussian, nor of the statistics.
        wild = jnp.where(state.valid[:, None], state.x, 1e6)
        other = prepared_by(plan, state._replace(x=wild), X_OBS).frozen
        for a, b in zip(
            jax.tree.leaves(other), jax.tree.leaves(prepared.frozen), strict=True
        ):
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(
    "settings",
    [
        {"truncated_rounds": 2},
        pytest.param(
            {"truncated_rounds": 1, "keep_prior_rows": False}, marks=pytest.mark.slow
        ),
    ],
    ids=["boxes", "none left"],
)
def test_a_start_is_solved_however_many_rows_no_box_has_drawn(
    estimator, quick, monkeypatch, settings
):
    """More of them than a start is solved on: it looks for the others behind them."""
    monkeypatch.setattr(fitting, "MAX_SOLVE", 400)
    plan, state = start(estimator, quick("apt", num_rounds=6, **settings))
    for number in range(6):
        state = put(plan, state, small(6.0), jax.random.key(number))
    state = state._replace(index=jnp.int32(5))
    solve = jax.jit(lambda state: prepare(plan, state, X_OBS).frozen)
    found = solve(state)
    for leaf in jax.tree.leaves(found):
        assert bool(jnp.isfinite(leaf).all())
    if settings["truncated_rounds"] == 2:
        x = jnp.where(state.round[:, None] < 2, state.x, 1e6)
        other = jax.tree.leaves(solve(state._replace(x=x)))
        for a, b in zip(other, jax.tree.leaves(found), strict=True):
            np.testing.assert_array_equal(a, b)


def test_held_out_rows_are_a_tenth_of_each_round():
    assert held_out(600).reshape(2, 300).mean(1).tolist() == pytest.approx([0.1, 0.1])


def test_a_stopped_lane_keeps_its_rows(estimator, quick):
    plan, state = start(estimator, quick("box"))
    state = put(plan, state, small(6.0), jax.random.key(0))
    frozen = state._replace(stopped=jnp.asarray(True))
    after = put(plan, frozen, small(6.0), jax.random.key(1))
    np.testing.assert_array_equal(after.theta, state.theta)
    np.testing.assert_array_equal(after.round, state.round)


def test_rows_outside_the_highest_density_region_are_left_out(estimator, quick):
    """All rows of the region and no others, by the last posterior's own density."""
    plan, state = start(estimator, quick("hdr", num_simulations=2_000))
    state = put(plan, state, small(6.0), jax.random.key(0))
    log_q = np.asarray(log_q_of(plan, state, state.theta))[:2_000]
    threshold = float(np.median(log_q))
    cut = Cut(None, jnp.float32(threshold))
    use = usable(plan, state._replace(region=cut))
    np.testing.assert_array_equal(use[:2_000], log_q >= threshold)
    assert not use[2_000:].any()
    first = state._replace(region=Cut(None, jnp.float32(-jnp.inf)))
    assert usable(plan, first)[:2_000].all()


def level_at(plan, state, radius):
    """Density of the new network, a round normal, on a circle in its latent."""
    return log_q_of(plan, state, jnp.asarray([[radius, 0.0]]))[0]


@pytest.mark.slow
def test_rows_of_boxes_and_of_regions_in_them_are_the_prior_together(estimator, quick):
    """Two rounds of boxes, one cut to a level: weights against the exact mixture."""
    plan, state = start(estimator, quick("auto", num_rounds=4, num_simulations=2_000))
    for number, half in enumerate((6.0, 1.5)):
        state = put(plan, state, small(half), jax.random.key(number))
    level = level_at(plan, state, 0.8)
    boxes = with_box(state.region.boxes, state.index, small(1.2))
    state = state._replace(region=Cut(boxes, level))
    rows = propose(plan, state)
    radius = np.linalg.norm(rows.theta, axis=-1)
    assert radius.max() <= 0.8 + 1e-4
    assert len(np.unique(np.asarray(rows.theta), axis=0)) == 2_000
    disc = 1.0 - np.exp(-0.5 * 0.8**2)
    ratio = np.exp(plan.estimator.prior.log_prob(rows.theta) - rows.log_prob)
    # 16,000 candidates from the box, 0.39 of them in the disc: to 1 %, five of it.
    assert ratio.mean() == pytest.approx(disc, rel=0.05)
    # The ball is far wider than this disc: few candidates come from there.
    assert ratio.std() < 0.1 * disc
    valid = jnp.ones(2_000, bool)
    state = appended(plan, state, rows, rows.theta, valid)
    weights = np.asarray(weights_of(plan, state))
    inside = np.linalg.norm(state.theta[:6_000], axis=-1) <= 0.8
    np.testing.assert_array_equal(weights[:6_000] > 0, inside)
    # In the disc all three rounds have drawn everywhere: one weight for all, but for
    # the chance that a candidate of the last was taken.
    early, last = np.where(inside[:4_000])[0], weights[4_000:6_000]
    np.testing.assert_allclose(weights[early], weights[early[0]], rtol=1e-3)
    assert last.mean() == pytest.approx(weights[early[0]], rel=1e-3)


def test_few_candidates_widen_the_region(estimator, quick):
    """As many distinct rows as asked for, and the density of the wider region."""
    plan, state = start(estimator, quick("auto"))
    cut = Cut(state.region.boxes, level_at(plan, state, 0.01))
    state = state._replace(region=cut)
    rows = propose(plan, state)
    assert len(np.unique(np.asarray(rows.theta), axis=0)) == 300
    radius = np.linalg.norm(rows.theta, axis=-1).max()
    mass = 1.0 - np.exp(-0.5 * radius**2)
    # All 300 innermost are taken: prior over mixture, known to 6 %; three of it.
    ratio = np.exp(plan.estimator.prior.log_prob(rows.theta) - rows.log_prob)
    assert ratio.mean() == pytest.approx(mass, rel=0.2)
    assert 0.02 < mass < 0.2
    state = appended(plan, state, rows, rows.theta, jnp.ones(300, bool))
    assert usable(plan, state)[:300].all()


@pytest.mark.parametrize("apart", [0.0, 12.0])
def test_waste_is_zero_for_a_gaussian_and_more_for_two(apart):
    """Two equal normals along the diagonal, against their closed form."""
    key, pick = jax.random.split(jax.random.key(0))
    side = jnp.where(jax.random.bernoulli(pick, 0.5, (50_000, 1)), 1.0, -1.0)
    w = 0.3 * jax.random.normal(key, (50_000, 2)) + 0.15 * apart * side
    log_q = stats.norm.logpdf((w - 0.15 * apart * side) / 0.3).sum(-1) - 2 * np.log(0.3)
    log_q = log_q - np.log(2.0) * (apart > 0)
    found = float(Fitted(None, w, w, jnp.asarray(log_q)).waste())
    # Covariance I + (apart / 2)^2 of ones, in units of 0.3; two modes are log 2 apart.
    expected = 0.5 * np.log1p(2 * (apart / 2) ** 2) - np.log(2.0) * (apart > 0)
    assert found == pytest.approx(expected, abs=0.03)
