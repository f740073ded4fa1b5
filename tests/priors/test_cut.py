"""Cut priors against scipy's truncated normals and autodiff."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from flowinv.priors.cut import (
    WHOLE,
    Box,
    CutPrior,
    check_cuttable,
    cut,
    uncut,
    whole_box,
)
from flowinv.priors.latent import normal, uniform

# Middle, narrow, narrow in a tail on either side, and one-sided boxes.
BOXES = [
    (-1.0, 2.0),
    (0.3, 0.301),
    (-4.2, -4.0),
    (3.9, 4.1),
    (-WHOLE, -2.5),
    (2.0, WHOLE),
    (-WHOLE, WHOLE),
]


@pytest.mark.parametrize(("low", "high"), BOXES)
def test_transport_agrees_with_scipy_in_float64(low, high):
    box = Box(jnp.full(1, low), jnp.full(1, high))
    share = np.linspace(0.002, 0.998, 101)
    z = stats.truncnorm.ppf(share, low, high)
    w = stats.norm.ppf(share)
    # Narrow boxes hold few float32: their spacing in units of the box.
    spacing = 4e-7 * max(abs(low), abs(high), 1.0) / (high - low)
    tolerance = 2e-4 + 30 * spacing
    found = np.asarray(cut(box, jnp.asarray(z, jnp.float32)[:, None]))[:, 0]
    np.testing.assert_allclose(found, w, atol=tolerance)
    back = np.asarray(uncut(box, jnp.asarray(w, jnp.float32)[:, None]))[:, 0]
    np.testing.assert_allclose(back, z, atol=(high - low) * tolerance + 1e-6)


@pytest.mark.parametrize(("low", "high"), BOXES)
def test_any_latent_stays_inside(low, high):
    box = Box(jnp.full(1, low), jnp.full(1, high))
    w = jnp.asarray([-1e6, -30.0, -6.0, 0.0, 6.0, 30.0, 1e6])[:, None]
    z = uncut(box, w)
    assert bool(box.contains(z).all())
    assert bool((jnp.diff(z[:, 0]) >= 0).all())
    assert bool(jnp.isfinite(cut(box, z)).all())


@pytest.mark.parametrize(
    "prior", [uniform([20.0, 1.0], [80.0, 15.0]), normal([0.0, 5.0], [1.0, 0.1])]
)
def test_density_and_log_det(prior):
    """log_prob is the prior's over the mass inside; log-dets are autodiff's."""
    low, high = jnp.asarray([-1.0, 0.5]), jnp.asarray([0.2, 1.5])
    own = CutPrior(prior, Box(low, high))
    w = jax.random.normal(jax.random.key(0), (50, 2))
    theta, log_det = jax.jit(own.from_latent_and_log_det)(w)
    jacobian = jax.jit(jax.vmap(jax.jacfwd(own.from_latent)))(w)
    np.testing.assert_allclose(log_det, np.linalg.slogdet(jacobian)[1], atol=2e-3)
    back, reverse = jax.jit(own.to_latent_and_log_det)(theta)
    np.testing.assert_allclose(back, w, atol=2e-3)
    np.testing.assert_allclose(reverse, -log_det, atol=2e-3)
    mass = np.prod(stats.norm.cdf(high) - stats.norm.cdf(low))
    expected = np.asarray(prior.log_prob(theta)) - np.log(mass)
    np.testing.assert_allclose(own.log_prob(theta), expected, atol=1e-4)
    base = stats.norm.logpdf(np.asarray(w)).sum(-1)
    np.testing.assert_allclose(base - np.asarray(log_det), expected, atol=2e-3)


def test_outside_the_box():
    prior = uniform([0.0], [1.0])
    own = CutPrior(prior, Box(jnp.asarray([-1.0]), jnp.asarray([0.0])))
    outside = jnp.asarray([[0.6], [1.2], [0.1], [jnp.nan]])
    assert not bool(own.contains(outside).any())
    assert np.isneginf(own.log_prob(outside)).all()
    assert np.isneginf(own.to_latent_and_log_det(outside)[1]).all()


def test_draws_are_the_truncated_distribution():
    """KS against scipy, fixed seed; false-alarm rate 1e-3 for each parameter."""
    prior = normal([0.0, 0.0], [1.0, 1.0])
    box = Box(jnp.asarray([-0.5, 1.0]), jnp.asarray([0.25, 3.0]))
    own = CutPrior(prior, box)
    theta = np.asarray(own.from_latent(own.sample_latent(jax.random.key(1), 4_000)))
    for column, low, high in zip(theta.T, *box, strict=True):
        cdf = stats.truncnorm(float(low), float(high)).cdf
        assert stats.kstest(column, cdf).pvalue > 1e-3


@pytest.mark.parametrize(
    "prior", [uniform([20.0, 1.0], [80.0, 15.0]), normal([0.0, 5.0], [1.0, 0.1])]
)
def test_scaled_parameters(prior):
    """Edges become -1 and 1; the way back is exact to rounding."""
    box = Box(jnp.asarray([-1.0, 0.5]), jnp.asarray([0.2, 1.5]))
    for own in (prior, CutPrior(prior, box)):
        theta = own.from_latent(jax.random.normal(jax.random.key(2), (100, 2)))
        scaled = own.to_scaled(theta)
        np.testing.assert_allclose(own.from_scaled(scaled), theta, 1e-5, 1e-6)
        if own.bounded.all():
            assert float(jnp.abs(scaled).max()) <= 1.0
    edges = prior.from_latent(jnp.stack(box))
    np.testing.assert_allclose(
        CutPrior(prior, box).to_scaled(edges), [[-1, -1], [1, 1]], atol=1e-4
    )


def test_boxes_compare():
    inner = Box(jnp.asarray([-1.0, 0.0]), jnp.asarray([1.0, 2.0]))
    assert bool(whole_box(2).holds(inner))
    assert bool(inner.holds(inner))
    assert not bool(inner.holds(whole_box(2)))
    assert not bool(inner.holds(inner._replace(high=jnp.asarray([1.0, 2.1]))))
    expected = np.log(np.prod(stats.norm.cdf([1, 2]) - stats.norm.cdf([-1, 0])))
    np.testing.assert_allclose(inner.log_mass(), expected, atol=1e-5)


def test_a_prior_without_a_cdf_is_refused():
    import numpyro.distributions as dist

    from flowinv.priors import from_numpyro

    prior = from_numpyro(dist.VonMises(0.0, 2.0))
    with pytest.raises(ValueError, match="prior of truncated rounds of parts with"):
        check_cuttable(prior)
    check_cuttable(uniform([0.0], [1.0]))
