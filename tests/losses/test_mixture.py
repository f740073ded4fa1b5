"""Non-atomic APT for Gaussian mixtures in closed form, and the atomic loss against it.

With a posterior estimate q(z | x) that is a mixture of K normals, a prior N(0, I) and a
proposal that is a mixture of L normals, the proposal posterior q p~ / p / Z(x) is a
mixture of K x L normals with precisions P_kl = P_k + P~_l - I (Greenberg et al. 2019,
arXiv:1905.07488, appendix A.1). Its negative log density at rows drawn from p~ is what
the atomic loss estimates with atoms.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax import Array
from scipy import stats
from scipy.special import logsumexp

from flowinv.losses.apt import make_apt_loss
from flowinv.losses.npe import Batch


class Mixture(NamedTuple):
    """Mixtures of K normals in D dimensions, any leading batch.

    Attributes:
        log_weight: normalised log weights, `[..., K]`.
        mean: means, `[..., K, D]`.
        precision: inverse covariances, `[..., K, D, D]`.
    """

    log_weight: Array
    mean: Array
    precision: Array


def mixture_log_prob(mixture: Mixture, z: Array) -> Array:
    """Return log density of `z` `[..., D]`, shape `[...]`."""
    gap = z[..., None, :] - mixture.mean
    square = jnp.einsum("...kd,...kde,...ke->...k", gap, mixture.precision, gap)
    constant = 0.5 * z.shape[-1] * math.log(2.0 * math.pi)
    inside = 0.5 * _log_det(mixture.precision) - 0.5 * square - constant
    return jax.nn.logsumexp(mixture.log_weight + inside, -1)


def proposal_posterior(mixture: Mixture, proposal: Mixture) -> Mixture:
    """Return q p~ / p, normalised, for the prior p = N(0, I): K x L components.

    Args:
        mixture: q(z | x), `[..., K]`.
        proposal: p~(z), `[L]`, or with a batch that broadcasts.
    """
    first, second = _canonical(mixture), _canonical(proposal)
    precision = first[1][..., :, None, :, :] + second[1][..., None, :, :, :]
    precision = precision - jnp.eye(precision.shape[-1])
    shift = first[2][..., :, None, :] + second[2][..., None, :, :]
    mean = jnp.linalg.solve(precision, shift[..., None])[..., 0]
    # What completing the square leaves over, without the constants.
    rest = 0.5 * (mean * shift).sum(-1) - 0.5 * _log_det(precision)
    log_weight = first[0][..., :, None] + second[0][..., None, :] + rest
    lead = log_weight.shape[:-2]
    log_weight = jax.nn.log_softmax(log_weight.reshape(*lead, -1))
    dim = mean.shape[-1]
    mean = mean.reshape(*lead, -1, dim)
    return Mixture(log_weight, mean, precision.reshape(*lead, -1, dim, dim))


def mixture_apt_loss(mixture: Mixture, proposal: Mixture, z: Array) -> Array:
    """Return -log q~(z | x) in nats, `[B]`, for rows z `[B, D]` drawn from `proposal`.

    Args:
        mixture: q(z | x) of each row, batch `[B]`.
        proposal: the mixture that the rows were drawn from.
        z: latent parameters of the rows.
    """
    return -mixture_log_prob(proposal_posterior(mixture, proposal), z)


def _canonical(mixture: Mixture) -> tuple[Array, Array, Array]:
    """Log weights with each component's constants, precisions, precision x mean."""
    shift = jnp.einsum("...de,...e->...d", mixture.precision, mixture.mean)
    constant = 0.5 * _log_det(mixture.precision) - 0.5 * (mixture.mean * shift).sum(-1)
    return mixture.log_weight + constant, mixture.precision, shift


def _log_det(precision: Array) -> Array:
    """Log determinant; NaN unless positive definite."""
    factor = jnp.linalg.cholesky(precision)
    return 2.0 * jnp.log(jnp.diagonal(factor, axis1=-2, axis2=-1)).sum(-1)


def make(seed, components, dim=2, narrow=3.0):
    rng = np.random.default_rng(seed)
    root = rng.normal(size=(components, dim, dim))
    precision = root @ root.swapaxes(-1, -2) + narrow * np.eye(dim)
    weight = rng.dirichlet(np.ones(components))
    mean = rng.normal(size=(components, dim))
    return Mixture(
        *(jnp.asarray(a, jnp.float32) for a in (np.log(weight), mean, precision))
    )


def test_density_is_scipys():
    mixture, z = make(0, 3), np.random.default_rng(1).normal(size=(50, 2))
    parts = [
        np.asarray(w) + stats.multivariate_normal(m, np.linalg.inv(p)).logpdf(z)
        for w, m, p in zip(*mixture, strict=True)
    ]
    found = mixture_log_prob(mixture, jnp.asarray(z, jnp.float32))
    np.testing.assert_allclose(found, logsumexp(parts, axis=0), rtol=2e-5, atol=2e-5)


def test_proposal_posterior_is_the_normalised_product_on_a_grid():
    mixture, proposal = make(0, 2), make(5, 3)
    line = np.linspace(-6, 6, 601)
    grid = np.stack(np.meshgrid(line, line, indexing="ij"), -1).reshape(-1, 2)
    z = jnp.asarray(grid, jnp.float32)
    prior = stats.norm.logpdf(grid).sum(-1)
    product = np.asarray(
        mixture_log_prob(mixture, z) + mixture_log_prob(proposal, z) - prior, np.float64
    )
    log_mass = logsumexp(product) + 2 * np.log(line[1] - line[0])
    found = mixture_log_prob(proposal_posterior(mixture, proposal), z)
    likely = product - log_mass > -12
    np.testing.assert_allclose(
        np.asarray(found)[likely], (product - log_mass)[likely], atol=2e-3
    )


def test_proposal_equal_to_the_prior_changes_nothing():
    mixture, z = make(0, 3), jnp.asarray([[0.3, -0.2], [1.0, 1.0]])
    prior = Mixture(jnp.zeros(1), jnp.zeros((1, 2)), jnp.eye(2)[None])
    np.testing.assert_allclose(
        mixture_apt_loss(mixture, prior, z), -mixture_log_prob(mixture, z), atol=1e-5
    )


def test_not_positive_definite_is_nan():
    wide = Mixture(jnp.zeros(1), jnp.zeros((1, 2)), 0.1 * jnp.eye(2)[None])
    assert np.isnan(mixture_apt_loss(wide, wide, jnp.zeros((1, 2)))).all()


@pytest.mark.slow
def test_atomic_and_closed_form_agree_on_a_gaussian_problem():
    """x = z + 0.5 noise, rows from a wrong proposal: both losses find N(0.8 x, 0.2).

    q(z | x) = N(a x + b, exp(2 s)) per dimension. 20,000 rows, batches of 500: the
    tolerance is five times the spread over seeds (0.01).
    """
    key_z, key_x = jax.random.split(jax.random.key(0))
    proposal = Mixture(
        jnp.zeros(1),
        jnp.asarray([[0.7, -0.4]]),
        jnp.diag(jnp.asarray([6.0, 3.0]))[None],
    )
    noise = jax.random.normal(key_z, (20_000, 2)) / jnp.sqrt(jnp.asarray([6.0, 3.0]))
    z = proposal.mean[0] + noise
    x = z + 0.5 * jax.random.normal(key_x, z.shape)

    def q(params, x):
        mean = params["a"] * x + params["b"]
        precision = jnp.exp(-2.0 * params["s"])[..., None] * jnp.eye(2)
        precision = jnp.broadcast_to(precision, (*mean.shape, 2))
        return Mixture(
            jnp.zeros((*mean.shape[:-1], 1)),
            mean[..., None, :],
            precision[..., None, :, :],
        )

    def apply(params, z, x):
        x = jnp.broadcast_to(x, z.shape)
        return mixture_log_prob(q(params, x), z)

    atomic = make_apt_loss(20)

    def atomic_loss(params, z, x, key):
        batch = Batch(z, x, jnp.ones(len(z), bool))
        return atomic(apply, params, batch, key).mean()

    def closed_loss(params, z, x, key):
        del key
        return mixture_apt_loss(q(params, x), proposal, z).mean()

    def fit(loss):
        steps = 700
        optimizer = optax.adam(optax.cosine_decay_schedule(0.02, steps))
        start = {"a": jnp.ones(2) * 0.5, "b": jnp.zeros(2), "s": -0.5 * jnp.ones(2)}

        def step(carry, number):
            params, state = carry
            key = jax.random.fold_in(jax.random.key(3), number)
            rows = jax.random.randint(key, (500,), 0, len(z))
            change = jax.grad(loss)(params, z[rows], x[rows], key)
            change, state = optimizer.update(change, state)
            return (optax.apply_updates(params, change), state), None

        scan = jax.jit(lambda c: jax.lax.scan(step, c, jnp.arange(steps))[0])
        return scan((start, optimizer.init(start)))[0]

    exact = {"a": 0.8, "b": 0.0, "s": 0.5 * np.log(0.2)}
    for loss in (closed_loss, atomic_loss):
        found = fit(loss)
        for name, value in exact.items():
            np.testing.assert_allclose(found[name], value, atol=0.05, err_msg=name)
