"""Solved starts against closed forms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flowinv.flows import CINN, Placed
from flowinv.models.ridge import PENALTIES, _ridge, _Rows, _weighted, solve_ridge


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
def test_a_ridge_is_that_of_the_closed_form(weighted):
    rng = np.random.default_rng(1)
    design = rng.normal(size=(300, 6))
    design[:, -1] = 1.0
    target = design @ rng.normal(size=6) + 3.0 * rng.normal(size=300)
    weight = np.exp(rng.normal(size=300)) if weighted else np.ones(300)
    count = 200
    rows = _Rows(np.float32(design), *map(np.float32, last(300, 100)))
    column, weights = np.float32(target[:, None]), np.float32(weight[:, None])
    if weighted:
        found = _weighted(rows, column, weights)
    else:
        found = _ridge(rows, column, rows.gram())
    free = np.ones(6)
    free[-1] = 0.0
    train, scaled = design[:count], design[:count] * weight[:count, None]
    tries = [
        np.linalg.solve(
            scaled.T @ train + count * p * weight[:count].mean() * np.diag(free),
            scaled.T @ target[:count],
        )
        for p in PENALTIES
    ]
    errors = [
        (weight[count:] * (target[count:] - design[count:] @ t) ** 2).sum()
        for t in tries
    ]
    np.testing.assert_allclose(found[:, 0], tries[int(np.argmin(errors))], rtol=2e-3)


def test_features_that_say_nothing_give_the_marginal():
    rng = np.random.default_rng(2)
    z = np.float32(2.0 + 0.5 * rng.normal(size=(5_000, 1)))
    start = jax.jit(solve_ridge)(jnp.zeros((5_000, 3)), z, *last(5_000, 500))
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


def test_rows_in_neither_mask_change_nothing():
    x, z, _, _ = linear_gaussian(600)
    train, held = last(500, 50)
    alone = jax.jit(solve_ridge)(x[:500], z[:500], train, held)
    rng = np.random.default_rng(3)
    order = rng.permutation(600)
    wild = np.concatenate([x[:500], 1e3 * x[500:]])[order]
    far = np.concatenate([z[:500], 1e3 * z[500:]])[order]
    masks = [np.concatenate([m, np.zeros(100, bool)])[order] for m in (train, held)]
    among = jax.jit(solve_ridge)(wild, far, *masks)
    for a, b in zip(alone, among, strict=True):
        np.testing.assert_allclose(a, b, atol=2e-3)
