"""Solved starts against closed forms."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats
from scipy.optimize import brentq, minimize

from flowinv.flows import CINN, Placed
from flowinv.models.evidence import Design, Problem, _solved, solve_line
from flowinv.models.ridge import FIRST_STEPS, Ridge, solve_ridges

# Compiled: one by one its operations take longer.
solve_ridge = jax.jit(
    lambda *rows, **options: solve_ridges(*rows, **options)[0],
    static_argnames="num_simple",
)


def last(rows, held):
    """Masks of training rows and of the last `held` ones."""
    late = np.arange(rows) >= rows - held
    return ~late, late


def linear_gaussian(rows, dim=2, size=5, noise=0.2):
    """Return x, z and the exact posterior's mean map and sds, z ~ N(0, I)."""
    rng = np.random.default_rng(0)
    matrix = rng.normal(size=(dim, size))
    z = rng.normal(size=(rows, dim))
    x = z @ matrix + noise * rng.normal(size=(rows, size))
    covariance = np.linalg.inv(np.eye(dim) + matrix @ matrix.T / noise**2)
    gain = matrix.T @ covariance / noise**2
    return np.float32(x), np.float32(z), gain, np.sqrt(np.diag(covariance))


def test_the_solved_head_is_the_exact_posterior_of_a_linear_gaussian_problem():
    rows = 20_000
    x, z, gain, sd = linear_gaussian(rows)
    flow = CINN(num_layers=2, hidden=(8,), head_hidden=(8,))
    variables = flow.init(jax.random.key(0), z[:1], x[:1])
    ridge = solve_ridge(x, z, *last(rows, rows // 10))
    placed = Placed(*ridge.predict(x[:500]))
    _, head = flow.apply(variables, x[:500], 2, placed, method="parts")
    # Error of a regression of this many rows: sd sqrt(F / N) = 0.02 sd; five of them.
    assert (np.abs(head.shift - x[:500] @ gain) / sd).max() < 0.1
    # The median of 2,000 rows gives a normal's sd to 1.2 / sqrt(2,000) = 3 %; the log
    # sd's own regression adds sqrt(F / N) of a log chi^2's sd. Four of them together.
    np.testing.assert_allclose(np.exp(head.log_scale), np.tile(sd, (500, 1)), rtol=0.15)
    log_prob = flow.apply(variables, z[:500], x[:500], placed)
    residual = (z[:500] - x[:500] @ gain) / sd
    exact = -0.5 * residual**2 - np.log(sd) - 0.5 * np.log(2 * np.pi)
    assert abs(np.mean(log_prob) - exact.sum(-1).mean()) < 0.05


@pytest.mark.parametrize("weighted", [True, False])
def test_penalties_maximise_the_evidence(weighted):
    """Against a direct search of the marginal likelihood in float64."""
    rng = np.random.default_rng(1)
    count, size = 80, 3
    design = rng.normal(size=(count, size + 1))
    design[:, -1] = 1.0
    coefficients = np.array([2.0, -0.7, 0.5, 3.0])
    weight = np.exp(0.5 * rng.normal(size=count)) if weighted else np.ones(count)
    weight /= weight.mean()
    noise = 0.8 / np.sqrt(weight)
    target = design @ coefficients + noise * rng.normal(size=count)
    ones = np.ones(count, np.float32)
    rows = Design(np.float32(design), ones, np.zeros(count), np.float32(size))
    weights = np.float32(weight)
    problem = Problem(np.float32(target), weights, rows.gram(weights))
    line = solve_line(rows, problem, jnp.full(size + 1, 1.0 / count), FIRST_STEPS)

    def minus_evidence(logs):
        precision, variance = np.append(np.exp(logs[:size]), 1e-5), np.exp(logs[size])
        covariance = np.diag(variance / weight) + design / precision @ design.T
        log_det = np.linalg.slogdet(covariance)[1]
        return 0.5 * (log_det + target @ np.linalg.solve(covariance, target))

    how = {"maxiter": 5_000, "xatol": 1e-6, "fatol": 1e-10}
    start = np.zeros(size + 1)
    found = minimize(minus_evidence, start, method="Nelder-Mead", options=how).x
    precision = np.append(np.exp(found[:size]), 1e-5)
    scaled = design.T * weight / np.exp(found[size])
    kernel = np.linalg.solve(scaled @ design + np.diag(precision), scaled @ target)
    np.testing.assert_allclose(line.kernel, kernel, rtol=1e-3)


@pytest.mark.parametrize("definite", [True, False])
def test_a_system_is_solved_with_and_without_a_factor(definite):
    """Against float64; a matrix that is not positive has no Cholesky factor."""
    rng = np.random.default_rng(11)
    rows = rng.normal(size=(60, 12))
    matrix = rows.T @ rows / 60
    if not definite:
        matrix[0, 0] = -1.0
    moment = rng.normal(size=12)
    solution, spread = jax.jit(_solved)(np.float32(matrix), np.float32(moment))
    np.testing.assert_allclose(solution, np.linalg.solve(matrix, moment), rtol=1e-4)
    inverse = np.diagonal(np.linalg.inv(matrix))
    np.testing.assert_allclose(spread, inverse, rtol=1e-4)


def test_terms_that_say_nothing_are_gone():
    """A thousand rows, 60 terms, of which two say something: nothing else is left."""
    rng = np.random.default_rng(6)
    features = np.float32(rng.normal(size=(1_000, 60)))
    noise = 0.1 * rng.normal(size=(1_000, 5))
    targets = np.float32(features[:, :1] - 0.3 * features[:, 1:2] + noise)
    ridge = solve_ridge(features, targets, *last(1_000, 100))
    # Each of 58 terms stays by chance with the probability of t^2 > log 900, 0.9 %;
    # more than eight of the 290 stay once in 500.
    left = np.abs(ridge.mean_kernel[2:]) > 1e-4
    assert left.sum() <= 8
    np.testing.assert_allclose(ridge.mean_kernel[0], 1.0, atol=0.015)
    np.testing.assert_allclose(ridge.mean_kernel[1], -0.3, atol=0.015)
    # The sd does not vary: it is one number, of 1.2 / sqrt(1,000) = 4 % (three of it).
    assert np.abs(ridge.scale_kernel).max() < 1e-5
    np.testing.assert_allclose(np.exp(ridge.scale_bias), 0.1, rtol=0.12)


@pytest.mark.parametrize("curve", [0.0, 0.3])
def test_products_stay_out_unless_they_say_something(curve):
    """Eight outputs of eight features and their 36 products, 500 rows.

    By one product of 36 the others come in too, each by chance with 1.2 % (t^2 above
    log 450): about four coefficients of the 280.
    """
    rng = np.random.default_rng(13)
    features = rng.normal(size=(500, 8))
    i, j = np.triu_indices(8)
    products = features[:, i] * features[:, j]
    targets = features + curve * products[:, 1:2] + 0.5 * rng.normal(size=(500, 8))
    every = np.float32(np.concatenate([features, products], 1))
    given = every, np.float32(targets), *last(500, 50)
    ridge = solve_ridge(*given, num_simple=8)
    whole = solve_ridge(*given)
    assert (np.abs(whole.mean_kernel[8:]) > 1e-4).any()
    if curve:
        for one, other in zip(ridge, whole, strict=True):
            np.testing.assert_allclose(one, other, atol=1e-4)
        np.testing.assert_allclose(ridge.mean_kernel[9], curve, atol=0.1)
        return
    alone = solve_ridge(every[:, :8], *given[1:])
    np.testing.assert_allclose(ridge.mean_kernel[:8], alone.mean_kernel, atol=1e-4)
    np.testing.assert_array_equal(ridge.mean_kernel[8:], 0.0)
    np.testing.assert_allclose(ridge.scale_bias, alone.scale_bias, atol=1e-3)


def test_an_sd_that_varies_is_found():
    rng = np.random.default_rng(7)
    features = np.float32(rng.normal(size=(4_000, 3)))
    sd = 0.2 * np.exp(0.5 * features[:, :1])
    targets = np.float32(features[:, 1:2] + sd * rng.normal(size=(4_000, 1)))
    ridge = solve_ridge(features, targets, *last(4_000, 400))
    # Half a log chi^2 has the sd 1.11: 1.11 / sqrt(3,600) = 0.019; four of it.
    np.testing.assert_allclose(ridge.scale_kernel[:, 0], [0.5, 0.0, 0.0], atol=0.075)
    np.testing.assert_allclose(np.exp(ridge.scale_bias), 0.2, rtol=0.08)
    np.testing.assert_allclose(ridge.mean_kernel[:, 0], [0.0, 1.0, 0.0], atol=0.02)
    # Ten sds out the line says 5 less and more. No row had less than -.5 * 2.33 but one
    # in a hundred, known to .03, and to .04 by the slope; four of these errors.
    _, far = ridge.predict(np.float32([[-10.0, 0.0, 0.0], [10.0, 0.0, 0.0]]))
    assert abs(far[0, 0] - np.log(0.2) + 0.5 * 2.326) < 0.2
    assert abs(far[1, 0] - np.log(0.2) - 5.0) < 0.76
    fixed = solve_ridge(features, targets, *last(4_000, 400), may_vary=False)
    np.testing.assert_array_equal(fixed.scale_kernel, 0.0)
    # The sd at which squares cut at three sds are a normal's, by the draws themselves;
    # new rows are likelier by it than by the sd that the median alone would tell.
    rest = targets[:, 0] - features[:, 1]
    normal = stats.norm.expect(lambda z: min(z * z, 9.0))

    def too_many(sd):
        return np.minimum((rest / sd) ** 2, 9.0).mean() - normal

    typical = brentq(too_many, 0.1, 0.5)
    np.testing.assert_allclose(np.exp(fixed.scale_bias), typical, rtol=0.05)
    middle = np.median(np.abs(rest)) / 0.6745
    new = sd[:, 0] * rng.normal(size=4_000)
    by_both = [stats.norm.logpdf(new, 0, s).mean() for s in (typical, middle)]
    assert by_both[0] > by_both[1]


def test_outliers_do_not_spoil_the_sd():
    rng = np.random.default_rng(12)
    features = np.float32(rng.normal(size=(4_000, 3)))
    noise = 0.2 * rng.normal(size=(4_000, 1))
    # One row of fifty is a hundred sds away: each counts as one at three at most.
    noise[::50] *= 100.0
    ridge = solve_ridge(
        features, np.float32(features[:, :1] + noise), *last(4_000, 400), may_vary=False
    )
    assert 0.2 < np.exp(ridge.scale_bias[0]) < 0.2 * np.sqrt(1.0 + 0.02 * 9.0) * 1.1


def test_features_that_say_nothing_give_the_marginal():
    rng = np.random.default_rng(2)
    z = np.float32(2.0 + 0.5 * rng.normal(size=(5_000, 1)))
    start = solve_ridge(jnp.zeros((5_000, 3)), z, *last(5_000, 500))
    mean, log_sd = start.predict(jnp.zeros((1, 3)))
    # 3 sd of a mean of 4,500 rows is 0.02; the median of 500 residuals gives 6 %.
    assert mean[0, 0] == pytest.approx(2.0, abs=0.03)
    assert np.exp(log_sd[0, 0]) == pytest.approx(0.5, rel=0.2)


def test_an_exact_regression_stays_finite():
    x, _, gain, _ = linear_gaussian(400)
    targets = jnp.asarray(np.float32(x @ gain))
    start = solve_ridge(jnp.asarray(x), targets, *last(400, 40))
    for leaf in start:
        assert np.isfinite(leaf).all()
    np.testing.assert_allclose(start.predict(x)[0], x @ gain, atol=1e-3)


def test_uneven_weights_turn_a_proposal_back_into_the_prior():
    """Rows of a proposal weighted by prior over proposal solve the prior's problem."""
    rows, wide = 20_000, 2.0
    rng = np.random.default_rng(8)
    # Prior N(0, 1); x = z + noise 0.5: the posterior is N(0.8 x, 0.447^2).
    z = wide * rng.normal(size=(rows, 1))
    x = np.float32(z + 0.5 * rng.normal(size=(rows, 1)))
    weights = wide * np.exp(-0.5 * z[:, 0] ** 2 * (1.0 - wide**-2))
    train, held = (np.float32(mask * weights) for mask in last(rows, rows // 10))
    ridge = solve_ridge(x, np.float32(z), train, held, may_vary=False)
    # Effective rows: 18,000 x 0.66: the slope's error is 0.447 / sqrt(12,000 var x).
    np.testing.assert_allclose(ridge.mean_kernel[0, 0], 0.8, atol=0.015)
    np.testing.assert_allclose(ridge.mean_bias, 0.0, atol=0.02)
    # Without weights the slope is 4 / 4.25: they are not ignored.
    plain = solve_ridge(x, np.float32(z), *last(rows, rows // 10), may_vary=False)
    np.testing.assert_allclose(plain.mean_kernel[0, 0], 4.0 / 4.25, atol=0.015)


@pytest.mark.parametrize("spread", [0.0, 0.7])
def test_the_sd_is_the_error_of_new_rows_where_rows_are_few(spread):
    """Of even, or uneven, weights, with 20 terms that all say something."""
    rng = np.random.default_rng(9)
    count, size, sets = 160, 20, 200
    features = np.float32(rng.normal(size=(sets, count, size)))
    targets = features @ np.ones((size, 1), np.float32)
    targets += np.float32(0.3 * rng.normal(size=targets.shape))
    weights = np.float32(np.exp(spread * rng.normal(size=(sets, count))))
    held = np.arange(count) >= count - 2
    solve = jax.jit(jax.vmap(lambda *row: solve_ridge(*row, may_vary=False)))
    ridge = solve(features, targets, weights * ~held, np.tile(held, (sets, 1)))
    new = np.float32(rng.normal(size=(sets, 400, size)))
    mean, log_sd = jax.vmap(Ridge.predict)(ridge, new)
    error = new.sum(-1) + 0.3 * rng.normal(size=new.shape[:2]) - mean[..., 0]
    # A median of 160 residuals gives an sd to 9 %, 200 of them together to 0.7 %.
    own = np.sqrt((error**2).mean(-1)) / np.exp(log_sd[:, 0, 0])
    assert 0.95 < np.exp(np.log(own).mean()) < 1.05


def test_the_sd_is_the_error_of_new_rows_where_terms_outnumber_the_rows():
    """100 rows, 120 terms that all say a little: those kept happen to fit the rows.

    By those rows alone the sd would be 50 times too small.
    """
    rng = np.random.default_rng(3)
    count, size, sets = 100, 120, 60
    gains = 0.1 * rng.normal(size=(sets, size, 1))
    features = np.float32(rng.normal(size=(sets, count, size)))
    noise = 0.1 * rng.normal(size=(sets, count, 1))
    targets = np.float32(features @ gains + noise)
    masks = (np.tile(mask, (sets, 1)) for mask in last(count, count // 10))
    # One after the other: under vmap both factorisations are paid.
    one = functools.partial(solve_ridge, may_vary=False)
    solve = jax.jit(lambda *rows: jax.lax.map(lambda row: one(*row), rows))
    ridge = solve(features, targets, *masks)
    new = np.float32(rng.normal(size=(sets, 400, size)))
    mean, log_sd = jax.vmap(Ridge.predict)(ridge, new)
    error = (new @ gains)[..., 0] + 0.1 * rng.normal(size=new.shape[:2]) - mean[..., 0]
    own = np.median(np.abs(error), -1) / 0.6745 / np.exp(log_sd[:, 0, 0])
    # Ten held-out rows give an sd to 40 %, 60 such of them together to 5 %.
    assert 0.8 < np.exp(np.log(own).mean()) < 1.4
    assert own.max() < 5


def test_rows_in_neither_mask_change_nothing():
    x, z, _, _ = linear_gaussian(600)
    train, held = last(500, 50)
    alone = solve_ridge(x[:500], z[:500], train, held)
    rng = np.random.default_rng(3)
    order = rng.permutation(600)
    wild = np.concatenate([x[:500], 1e3 * x[500:]])[order]
    far = np.concatenate([z[:500], 1e3 * z[500:]])[order]
    masks = [np.concatenate([m, np.zeros(100, bool)])[order] for m in (train, held)]
    among = solve_ridge(wild, far, *masks)
    for a, b in zip(alone, among, strict=True):
        np.testing.assert_allclose(a, b, atol=2e-3)
