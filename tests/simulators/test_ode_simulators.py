"""Epidemic and predators, against SciPy's DOP853 in float64 and other densities."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import integrate, stats

from flowinv.simulators.lotka_volterra import LotkaVolterra
from flowinv.simulators.ode import solved_at
from flowinv.simulators.sir import Sir

RATES = np.array([[0.4, 0.125], [0.9, 0.1], [0.15, 0.2], [1.5, 0.08]])
PREY = np.array([[0.9, 0.05, 0.9, 0.05], [0.4, 0.1, 0.5, 0.02], [2.4, 0.15, 0.4, 0.12]])


def dop(field, start, times):
    found = integrate.solve_ivp(
        field, (0, times[-1]), start, "DOP853", times, rtol=1e-11, atol=1e-11
    )
    return found.y


def epidemic(theta):
    """S, I as the definition has them, in people."""

    def field(t, y):
        new = theta[0] * y[0] * y[1] / 1e6
        return [-new, new - theta[1] * y[1]]

    return dop(field, [999_999.0, 1.0], 17.0 * np.arange(10))[1] / 1e6


def population(theta):
    """Logs of X and Y, by the equations for X and Y divided by them."""

    def field(t, y):
        prey, predators = np.exp(y)
        return [theta[0] - theta[1] * predators, theta[3] * prey - theta[2]]

    logs = dop(field, [np.log(30.0), 0.0], 2.1 * np.arange(10))
    return np.clip(logs, np.log(1e-10), np.log(1e4)).ravel()


CASES = {
    "sir": (Sir().infected, RATES, epidemic),
    "lotka_volterra": (
        LotkaVolterra().log_means,
        PREY,
        population,
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_means_are_scipys(name):
    """1e-5 in float64, 1e-3 in float32, of the numbers themselves."""
    means, thetas, expected = CASES[name]
    own = np.stack([expected(theta) for theta in thetas])
    for x64, tolerance in ((True, 1e-5), (False, 1e-3)):
        with jax.enable_x64(x64):
            theta = jnp.asarray(thetas, jnp.float64 if x64 else jnp.float32)
            found = np.asarray(jax.jit(jax.vmap(means))(theta), np.float64)
        if name == "sir":
            np.testing.assert_allclose(found, own, rtol=tolerance)
        else:
            np.testing.assert_allclose(found, own, atol=tolerance)


def test_a_row_is_the_same_alone_and_among_others():
    """Steps follow a row's own error: what stands beside it does not matter."""
    for means, thetas, _ in CASES.values():
        theta = jnp.asarray(thetas, jnp.float32)
        together = jax.jit(jax.vmap(means))(theta)
        np.testing.assert_allclose(together[1], means(theta[1]), rtol=1e-5)


def test_an_equation_that_cannot_be_solved_is_nan():
    """y' = y^2 leaves every bound at t = 1."""
    found = solved_at(lambda y, args: y**2, jnp.ones(1), jnp.zeros(1), (0.5, 2.0))
    assert np.isnan(found).all()


def test_counts_of_the_epidemic_are_binomial():
    """20,000 draws: means to five of their errors, variances to 6 %."""
    theta = np.float32(RATES[0])
    keys = jax.random.split(jax.random.key(0), 20_000)
    x = np.asarray(jax.jit(jax.vmap(Sir().simulate, (0, None)))(keys, theta))
    share = epidemic(RATES[0])
    mean, variance = 1_000 * share, 1_000 * share * (1 - share)
    assert (np.abs(x.mean(0) - mean) < 5 * np.sqrt(variance / 20_000) + 1e-3).all()
    seen = variance > 1
    np.testing.assert_allclose(x.var(0)[seen], variance[seen], rtol=0.06)
    assert (np.corrcoef(x.T[seen]) - np.eye(seen.sum()) < 0.04).all()


def test_likelihoods_are_scipys():
    x = np.asarray(Sir().simulate(jax.random.key(1), np.float32(RATES[0])))
    own = stats.binom(1_000, epidemic(RATES[1])).logpmf(x).sum()
    assert Sir().log_prob(np.float32(RATES[1]), x) == pytest.approx(own, rel=1e-3)
    x = np.asarray(LotkaVolterra().simulate(jax.random.key(1), np.float32(PREY[0])))
    own = stats.lognorm(0.1, scale=np.exp(population(PREY[0]))).logpdf(x).sum()
    found = LotkaVolterra().log_prob(np.float32(PREY), x)
    assert found.shape == (3,)
    assert found[0] == pytest.approx(own, abs=0.01)


def test_errors_of_the_counts_are_log_normal():
    keys = jax.random.split(jax.random.key(2), 20_000)
    draw = jax.jit(jax.vmap(LotkaVolterra().simulate, (0, None)))
    off = np.log(np.asarray(draw(keys, np.float32(PREY[0])))) - population(PREY[0])
    assert np.abs(off.mean(0)).max() < 5 * 0.1 / np.sqrt(20_000) + 1e-4
    assert stats.kstest(off[:, 7] / 0.1, "norm").pvalue > 1e-3
