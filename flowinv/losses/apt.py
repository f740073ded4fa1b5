"""Automatic posterior transformation with atomic proposals.

Rows drawn from a proposal instead of the prior would bend a plain maximum-likelihood
fit. The atomic loss asks another question, whose answer no proposal bends: *which* of
A parameters (atoms), the row's own among them, produced x_i? Under a uniform choice
among the atoms the posterior over them is

    p(i | x_i) = [q(z_i | x_i) / p(z_i)] / sum_a [q(z_a | x_i) / p(z_a)],

and the loss is its negative log. q and p are densities of the prior's latent z: the
Jacobians to theta cancel, and p is the exact latent prior, N(0, I) for all priors but
the `biject_to` fallback's. No draw can lie outside the prior, so nothing leaks.

Failed simulations are atoms and never rows. Let s(theta) be the chance of success. The
A atoms are drawn from the proposal before anything is simulated, so given them and that
row i succeeded with x_i, atom a has the weight p(x_i, success | theta_a) for every
proposal, and the loss is smallest at q(theta | x) ~ p(theta) p(x, success | theta): the
posterior of what was seen, a success among it. Were failures left out as atoms, atoms
would come from proposal x s, and the answer would be divided by s.

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
from flowinv.flows.density import standard_normal_log_prob
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
        combined: add -log q of the rows that were drawn from the prior: steadier, and
            exact too. The batch then needs its `from_prior`.

    Raises:
        ValueError: for fewer than two atoms or another word than "all". The returned
            loss raises for a batch of fewer rows than atoms, or one without
            `from_prior` where it is needed.
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
        rows, real = atom_rows(key, batch.valid, atoms)
        # One context per row, broadcast over its atoms.
        features = jax.tree.map(lambda leaf: leaf[:, None], batch.features)
        z = batch.z[rows]
        log_q = apply(params, z, features)
        score = log_q - log_prior(z)
        # -inf would do, but for its gradient.
        everything = jax.nn.logsumexp(score, -1, where=real)
        values = everything - score[:, 0]
        if combined:
            if batch.from_prior is None:
                fail("batch", "with from_prior of each row", "none")
            values = values - jnp.where(batch.from_prior, log_q[:, 0], 0.0)
        return values

    return loss


def atom_rows(key: Array, valid: Array, num_atoms: int) -> tuple[Array, Array]:
    """Return row numbers of the atoms, `[B, A]`, and which of the A there are, `[A]`.

    The row itself, then others among the valid rows. All rows share one random set of
    shifts, so no row holds an atom twice. Fewer valid rows than atoms are all taken;
    for a row that is not valid nothing is promised but itself.

    Args:
        key: typed key.
        valid: rows that may be atoms, `[B]`.
        num_atoms: A, at most B.
    """
    size, count = len(valid), valid.sum()
    # Valid rows in turn, and the place of each among them.
    order, place = jnp.argsort(~valid, stable=True), jnp.cumsum(valid) - 1
    shifts = 1 + jnp.arange(size - 1)
    draw = jnp.where(shifts < count, jax.random.uniform(key, (size - 1,)), jnp.inf)
    shifts = shifts[jnp.argsort(draw)[: num_atoms - 1]]
    others = order[(place[:, None] + shifts) % jnp.maximum(count, 1)]
    rows = jnp.concatenate([jnp.arange(size)[:, None], others], -1)
    return rows, jnp.concatenate([jnp.ones(1, bool), shifts < count])
