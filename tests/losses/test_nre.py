"""Losses of ratios: formulas by hand, and the exact ratio as their smallest value."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats
from scipy.special import expit, logsumexp

from flowinv.losses.npe import Batch
from flowinv.losses.nre import make_balanced_npe_loss, make_nre_loss

SD = 0.5
ROWS = 20_000


def linear(rows, key=0):
    """z ~ N(0, 1), x = z + .5 e; the posterior is N(x / 1.25, .2)."""
    keys = jax.random.split(jax.random.key(key))
    z = jax.random.normal(keys[0], (rows, 1))
    return Batch(
        z, z + SD * jax.random.normal(keys[1], (rows, 1)), jnp.ones(rows, bool)
    )


def exact(params, z, x):
    """Log posterior, bent by `params` along three directions."""
    mean, sd = x[..., 0] / (1 + SD**2), SD / np.sqrt(1 + SD**2)
    log_q = jax.scipy.stats.norm.logpdf(z[..., 0], mean, sd)
    bends = params[0] * z[..., 0] + params[1] * z[..., 0] * x[..., 0]
    return log_q + bends + params[2] * z[..., 0] ** 2


def by_hand(variant, log_r, gamma):
    """Loss of one row from its scores: its own first, then others'."""
    if variant == "a":
        return -np.log(expit(log_r[0])) - np.log(expit(-log_r[1]))
    if variant == "b":
        return logsumexp(log_r) - log_r[0]
    count = len(log_r) - 1
    r = np.exp(log_r)
    none = count / (count + gamma * r[1:].sum())
    right = gamma * r[0] / (count + gamma * (r[0] + r[2:].sum()))
    return -(np.log(none) + gamma * np.log(right)) / (1 + gamma)


@pytest.mark.parametrize(
    ("variant", "gamma", "count"), [("a", 1.0, 2), ("b", 1.0, 4), ("c", 2.5, 5)]
)
def test_values_are_those_by_hand(variant, gamma, count, monkeypatch):
    asked = {}

    def table(params, z, x):
        """Scores that have nothing to do with the rows; log prior taken off."""
        scores = jax.random.normal(jax.random.key(4), z.shape[:-1])
        asked["scores"] = scores
        return scores + jax.scipy.stats.norm.logpdf(z[..., 0])

    loss = make_nre_loss(variant, num_atoms=4, gamma=gamma)
    values = loss(table, None, linear(6), jax.random.key(0))
    scores = np.float64(asked["scores"])
    assert scores.shape == (6, count)
    expected = [by_hand(variant, row, gamma) for row in scores]
    np.testing.assert_allclose(values, expected, rtol=1e-5)
    balanced = make_nre_loss(variant, num_atoms=4, gamma=gamma, balance=3.0)
    more = balanced(table, None, linear(6), jax.random.key(0)) - values
    off = expit(scores[:, :2]).sum(1).mean() - 1
    np.testing.assert_allclose(more, 3.0 * off**2, rtol=1e-4)


@pytest.mark.parametrize(
    "loss",
    [
        make_nre_loss("a"),
        make_nre_loss("b"),
        make_nre_loss("c"),
        make_nre_loss("c", gamma=5.0, num_atoms=3),
        make_nre_loss("a", balance=3.0),
        make_nre_loss("b", balance=3.0),
        make_balanced_npe_loss(3.0),
    ],
    ids=["a", "b", "c", "c5", "bnre", "b-balanced", "bnpe"],
)
def test_the_exact_ratio_is_where_the_loss_is_flat(loss):
    """Slopes along three bends, in standard errors of 20 batches: all within 4.5.

    A right loss fails once in 200 times (21 slopes, Student's t with 19 degrees).
    (The balance's own batch noise, lambda / 1,000, is below these errors.)
    """
    # As in training: one gradient for each batch, the balance's own included.
    slope = jax.jit(
        jax.grad(lambda p, rows, key: loss(normalised, p, rows, key).mean())
    )
    keys = jax.random.split(jax.random.key(9), 20)
    found = np.stack(
        [slope(jnp.zeros(3), linear(1_000, n), key) for n, key in enumerate(keys)]
    )
    error = found.std(0, ddof=1) / np.sqrt(len(found))
    assert (np.abs(found.mean(0)) < 4.5 * error).all()
    off = np.stack(
        [
            slope(jnp.array([0.5, 0.0, 0.0]), linear(1_000, n), key)
            for n, key in enumerate(keys)
        ]
    )
    assert off.mean(0)[0] > 10 * off.std(0)[0] / np.sqrt(len(off))


def normalised(params, z, x):
    """The bent posterior, normalised: a density for maximum likelihood too."""
    mean, sd = x[..., 0] / (1 + SD**2), SD / np.sqrt(1 + SD**2)
    grid = jnp.linspace(-4.0, 4.0, 33)
    at = jnp.broadcast_to(mean[..., None] + sd * grid, (*mean.shape, 33))[..., None]
    total = jax.nn.logsumexp(exact(params, at, x[..., None, :]), -1)
    return exact(params, z, x) - total - jnp.log(sd * (grid[1] - grid[0]))


def test_balance_is_off_for_an_overconfident_answer():
    rows, key = linear(ROWS), jax.random.key(1)
    for factor, low, high in ((1.0, 0.0, 2e-4), (0.3, 1e-3, 1.0)):

        def narrow(params, z, x, factor=factor):
            mean, sd = x[..., 0] / (1 + SD**2), SD / np.sqrt(1 + SD**2)
            return jax.scipy.stats.norm.logpdf(z[..., 0], mean, factor * sd)

        more = make_nre_loss("a", balance=1.0)(narrow, None, rows, key)
        plain = make_nre_loss("a")(narrow, None, rows, key)
        assert low <= (more - plain).mean() < high


def test_no_balance_is_plain_maximum_likelihood():
    rows = linear(100)
    values = make_balanced_npe_loss(0.0)(exact, jnp.zeros(3), rows, jax.random.key(0))
    mean, sd = rows.features[:, 0] / (1 + SD**2), SD / np.sqrt(1 + SD**2)
    expected = -stats.norm.logpdf(rows.z[:, 0], mean, sd)
    np.testing.assert_allclose(values, expected, rtol=1e-5)
    balanced = make_balanced_npe_loss(2.0)(exact, jnp.zeros(3), rows, jax.random.key(0))
    assert np.ptp(balanced - values) < 1e-5
    assert (balanced > values - 1e-5).all()


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"variant": "d"}, "variant"),
        ({"num_atoms": 1}, "num_atoms"),
        ({"gamma": 0.0}, "gamma"),
        ({"balance": -1.0}, "balance"),
    ],
)
def test_settings_out_of_range_are_refused(fields, words):
    with pytest.raises(ValueError, match=words):
        make_nre_loss(**fields)
