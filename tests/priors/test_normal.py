"""Tails and scores of the standard normal, against scipy in float64."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special, stats

from flowinv.compiling import compiled
from flowinv.priors.normal import (
    lower_tail,
    normal_cdf,
    normal_quantile,
    normal_score,
)

Z = np.linspace(-12.9, 12.9, 4_001)
TAILS = np.concatenate([np.geomspace(1e-37, 0.1, 2_000), np.linspace(0.1, 0.5, 999)])


@pytest.fixture(params=["float32", "float64"])
def dtype(request):
    with jax.enable_x64(request.param == "float64"):
        yield np.dtype(request.param)


def test_tails_and_scores_are_scipys(dtype):
    """Relative errors; of exp(-z^2 / 2) they grow with z^2, as scipy's own do."""
    z, tails = Z.astype(dtype), TAILS.astype(dtype)
    exact, eps = special.ndtr(np.float64(z)), np.finfo(dtype).eps
    bound = eps * (4.0 + z**2)
    tail, cdf = lower_tail(jnp.asarray(z)), normal_cdf(jnp.asarray(z))
    assert tail.dtype == cdf.dtype == dtype
    assert (np.abs(tail / special.ndtr(-np.abs(np.float64(z))) - 1) < bound).all()
    assert (np.abs(cdf / exact - 1) < bound).all()
    score = normal_score(jnp.asarray(tails))
    assert score.dtype == dtype
    exact = special.ndtri(np.float64(tails))
    np.testing.assert_allclose(score, exact, rtol=4 * eps, atol=eps)
    both = np.concatenate([tails, 1 - tails[-1_000:]])
    quantiles = normal_quantile(jnp.asarray(both))
    exact = special.ndtri(np.float64(both))
    np.testing.assert_allclose(quantiles, exact, rtol=4 * eps, atol=eps)


@functools.partial(compiled, once=True)
def derivatives(z, near, tails):
    """Of the CDF, once and twice; there and back; twice of scores."""

    def there(v):
        return normal_score(lower_tail(v))

    functions = (
        (jax.grad(normal_cdf), z),
        (jax.grad(jax.grad(normal_cdf)), z),
        (jax.grad(there), near),
        (jax.grad(jax.grad(normal_score)), tails),
    )
    return [jax.vmap(function)(values) for function, values in functions]


def test_derivatives_are_the_density_to_any_order(dtype):
    z, rtol = Z[::10].astype(dtype), 2e-5 if dtype == np.float32 else 1e-12
    near, tails = z[np.abs(z) < 12.5], np.asarray([1e-3, 0.2, 0.4], dtype)
    first, second, back, twice = derivatives(z, near, tails)
    np.testing.assert_allclose(first, stats.norm.pdf(np.float64(z)), rtol=rtol)
    np.testing.assert_allclose(second, -z * first, rtol=rtol)
    off = np.abs(back * np.where(near <= 0, 1.0, -1.0) - 1.0)
    assert (off < np.finfo(dtype).eps * (4.0 + 4.0 * near**2)).all()
    score = special.ndtri(np.float64(tails))
    np.testing.assert_allclose(twice, score / stats.norm.pdf(score) ** 2, rtol=rtol)


def test_no_tail_is_minus_infinity(dtype):
    """Nothing gives the smallest float's score, and no gradient."""
    zero = jnp.zeros((), dtype)
    least = 4 * np.finfo(dtype).tiny
    assert float(normal_score(zero)) == pytest.approx(special.ndtri(least), rel=1e-6)
    assert float(jax.grad(normal_score)(zero)) == 0.0
