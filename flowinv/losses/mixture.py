"""Non-atomic automatic posterior transformation, in closed form for Gaussian mixtures.

With a posterior estimate q(z | x) that is a mixture of K normals, a prior N(0, I) and a
proposal that is a mixture of L normals, the proposal posterior

    q~(z | x) = q(z | x) p~(z) / p(z) / Z(x)

is a mixture of K x L normals. Component (k, l) has, with precisions P_k and P~_l and
h = P m,

    P_kl = P_k + P~_l - I,      m_kl = P_kl^-1 (h_k + h~_l),
    log a_kl = log a_k + log a~_l + 1/2 [log|P_k| + log|P~_l| - log|P_kl|]
               - 1/2 [m_k h_k + m~_l h~_l - m_kl h_kl] + const,

and its negative log density at rows drawn from p~ is the loss: what the atomic loss of
`flowinv.losses.apt` estimates with atoms. P_kl must be positive definite; where q is
wider than the prior it may not be, and the loss is then NaN, not a wrong number.

Reference: Greenberg et al. 2019, arXiv:1905.07488, appendix A.1.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

__all__ = ["Mixture", "mixture_apt_loss", "mixture_log_prob", "proposal_posterior"]


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
