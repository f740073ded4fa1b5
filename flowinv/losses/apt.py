"""Automatic posterior transformation with atomic proposals.

Rows drawn from a proposal instead of the prior would bend a plain maximum-likelihood
fit. The atomic loss asks another question, whose answer no proposal bends: *which* of
A parameters (atoms), the row's own among them, produced x_i? Under a uniform choice
among the atoms the posterior over them is

    p(i | x_i) = [q(z_i | x_i) / p(z_i)] / sum_a [q(z_a | x_i) / p(z_a)],

and the loss is its negative log. q and p are densities of the prior's latent z: the
Jacobians to theta cancel, and p is the exact latent prior, N(0, I) for all priors but
the `biject_to` fallback's. No draw can lie outside the prior, so nothing leaks.

The atoms of all rows are the batch shifted by the same random steps: drawn without
replacement, without a sort per row. Each x is embedded once, whatever A.

References:
    Greenberg et al. 2019, Automatic Posterior Transformation, arXiv:1905.07488.
    Durkan et al. 2020, On contrastive learning for likelihood-free inference,
    arXiv:2002.03712 (the combined loss).
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from flowinv.checks import check_at_least, fail
from flowinv.flows.base import standard_normal_log_prob
from flowinv.losses.npe import Apply, Batch, Loss

__all__ = ["atom_rows", "make_apt_loss"]


def make_apt_loss(
    num_atoms: int | str = 10,
    log_prior: Callable[[Array], Array] = standard_normal_log_prob,
    combined: bool = False,
) -> Loss:
    """Return `loss(apply, params, batch, key)`, the atomic loss in nats, `[B]`.

    Args:
        num_atoms: A, from 2 to the batch size, or "all" rows of the batch.
        log_prior: log density of the latent prior, `[..., D]` to `[...]`.
        combined: add -log q of the rows of round 0, which were drawn from the prior:
            steadier, and exact too. The batch then needs its `round`.

    Raises:
        ValueError: for fewer than two atoms or another word than "all". The returned
            loss raises for a batch of fewer rows than atoms, or one without `round`
            where it is needed.
    """
    if isinstance(num_atoms, str):
        if num_atoms != "all":
            fail("num_atoms", "to be a whole number or 'all'", repr(num_atoms))
    else:
        check_at_least("num_atoms", num_atoms, 2)

    def loss(apply: Apply, params: Any, batch: Batch, key: Array) -> Array:
        size = batch.z.shape[0]
        atoms = size if num_atoms == "all" else num_atoms
        if atoms > size:
            fail("num_atoms", f"of at most the batch's {size} rows", atoms)
        rows = atom_rows(key, size, atoms)
        # One context per row, broadcast over its atoms.
        features = jax.tree.map(lambda leaf: leaf[:, None], batch.features)
        z = batch.z[rows]
        log_q = apply(params, z, features)
        score = log_q - log_prior(z)
        # The row's own atom always counts; the update drops rows that are not valid.
        counts = batch.valid[rows].at[:, 0].set(True)
        # -inf would do, but for its gradient.
        everything = jax.nn.logsumexp(score, -1, where=counts)
        values = everything - score[:, 0]
        if combined:
            if batch.round is None:
                fail("batch", "with the round of each row", "none")
            values = values - jnp.where(batch.round == 0, log_q[:, 0], 0.0)
        return values

    return loss


def atom_rows(key: Array, size: int, num_atoms: int) -> Array:
    """Return row numbers of the atoms, `[B, A]`: the row itself, then A - 1 others.

    All rows share one random set of shifts, so no row holds an atom twice.

    Args:
        key: typed key.
        size: rows B of the batch.
        num_atoms: A, at most B.
    """
    shifts = 1 + jax.random.permutation(key, size - 1)[: num_atoms - 1]
    own = jnp.arange(size)[:, None]
    return jnp.concatenate([own, (own + shifts) % size], -1)
