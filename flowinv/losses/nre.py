"""Neural ratio estimation: is this theta the one that made x, or another's?

A classifier between pairs of the joint and pairs of theta and x of different rows
learns the ratio of likelihood and evidence, r(theta, x) = p(x | theta) / p(x), in terms
of the score log r of the network:

    A   two classes: one pair of each kind (binary cross-entropy);
    B   which of K parameters made x: fixes r up to a factor c(x);
    C   K independent parameters, or K with the right one among them, at odds gamma:
        as sharp as B, and normalised as A is.

`balance` adds lambda (E_joint[s(log r)] + E_marginal[s(log r)] - 1)^2, s the logistic
function: zero for the exact ratio, it keeps a classifier from being overconfident.

References:
    Hermans et al. 2020, Likelihood-free MCMC with amortized ratios, arXiv:1903.04057
    (A); Durkan et al. 2020, On contrastive learning, arXiv:2002.03712 (B); Miller et
    al. 2022, Contrastive neural ratio estimation, arXiv:2210.06170 (C); Delaunoy et
    al. 2022, Towards reliable simulation-based inference, arXiv:2208.13624, and 2023,
    Balancing simulation-based inference, arXiv:2304.10978 (the balance of posteriors).
"""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from flowinv.checks import check_at_least, check_known, check_positive
from flowinv.flows.density import standard_normal_log_prob
from flowinv.losses.apt import atom_rows, make_apt_loss
from flowinv.losses.npe import Apply, Batch, Loss, npe_loss

__all__ = ["VARIANTS", "make_balanced_npe_loss", "make_nre_loss"]

VARIANTS = ("a", "b", "c")
LogPrior = Callable[[Array], Array]


def make_nre_loss(
    variant: str = "c",
    num_atoms: int = 10,
    gamma: float = 1.0,
    balance: float = 0.0,
    log_prior: LogPrior = standard_normal_log_prob,
) -> Loss:
    """Return `loss(apply, params, batch, key)`, in nats, `[B]`.

    Args:
        variant: "a", "b" or "c".
        num_atoms: parameters of a comparison: K of b, the row's own among them; K of c
            beside it. Fewer rows than that are all taken.
        gamma: odds of c that the right one is there.
        balance: lambda of the balance, 0 for none.
        log_prior: log density of the latent prior, `[..., D]` to `[...]`.

    Raises:
        ValueError: what, expected, got.
    """
    check_known("variant", variant, VARIANTS)
    check_at_least("num_atoms", num_atoms, 2)
    check_positive("gamma", gamma)
    check_at_least("balance", balance, 0)
    atomic = make_apt_loss(num_atoms, log_prior)

    def loss(apply: Apply, params: Any, batch: Batch, key: Array) -> Array:
        if variant == "b" and not balance:
            return atomic(apply, params, batch, key)
        count = 2 if variant == "a" else num_atoms + (variant == "c")
        log_r, real = _log_ratios(apply, params, batch, key, (count, log_prior))
        if variant == "a":
            values = jax.nn.softplus(-log_r[:, 0]) + jax.nn.softplus(log_r[:, 1])
        elif variant == "b":
            values = jax.nn.logsumexp(log_r, -1, where=real) - log_r[:, 0]
        else:
            values = _contrasted(log_r, real, gamma)
        return values + balance * _imbalance(log_r, batch)

    return loss


def make_balanced_npe_loss(
    balance: float, log_prior: LogPrior = standard_normal_log_prob
) -> Loss:
    """Return maximum likelihood of theta with the balance of log q(z | x) / p(z).

    Args:
        balance: lambda; 100 in the paper.
        log_prior: log density of the latent prior, `[..., D]` to `[...]`.
    """
    check_at_least("balance", balance, 0)
    if not balance:
        return npe_loss

    def loss(apply: Apply, params: Any, batch: Batch, key: Array) -> Array:
        log_r, _ = _log_ratios(apply, params, batch, key, (2, log_prior))
        values = -log_r[:, 0] - log_prior(batch.z)
        return values + balance * _imbalance(log_r, batch)

    return loss


def _log_ratios(
    apply: Apply, params: Any, batch: Batch, key: Array, asked: tuple[int, LogPrior]
) -> tuple[Array, Array]:
    """Score of the row's own theta and of others, `[B, K]`, and which there are."""
    count, log_prior = asked
    rows, real = atom_rows(key, batch.valid, min(count, len(batch.z)))
    # One context per row, broadcast over its atoms.
    features = jax.tree.map(lambda leaf: leaf[:, None], batch.features)
    z = batch.z[rows]
    return apply(params, z, features) - log_prior(z), real


def _contrasted(log_r: Array, real: Array, gamma: float) -> Array:
    """Loss C: others alone, and others of whom one has given way to the right one."""
    others = real.at[0].set(False)
    count = jnp.maximum(others.sum(), 1)
    first = jnp.flatnonzero(others, size=1, fill_value=0)[0]
    without = others.at[first].set(False)
    alone = jax.nn.logsumexp(log_r, -1, where=others)
    together = jax.nn.logsumexp(log_r, -1, where=without.at[0].set(True))
    log_count, log_gamma = jnp.log(count), math.log(gamma)
    none = jnp.logaddexp(log_count, log_gamma + alone) - log_count
    right = jnp.logaddexp(log_count, log_gamma + together) - log_gamma - log_r[:, 0]
    return (none + gamma * right) / (1.0 + gamma)


def _imbalance(log_r: Array, batch: Batch) -> Array:
    """How far from 1 the classifier's answers to one pair of each kind add up, `[]`."""
    answers = jax.nn.sigmoid(log_r[:, :2]).sum(-1)
    mean = batch.weigh(answers).sum() / jnp.maximum(
        batch.weigh(answers * 0 + 1).sum(), 1
    )
    return (mean - 1.0) ** 2
