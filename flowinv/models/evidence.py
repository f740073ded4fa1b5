"""Linear regression whose penalties, one for each term, the evidence chooses.

Automatic relevance determination: evidence alone keeps every term whose coefficient
exceeds its own error; a term must say more than by chance, as by Schwarz's criterion,
or it goes.

References:
    MacKay 1992, Bayesian interpolation, Neural Computation 4, 415.
    Schwarz 1978, Estimating the dimension of a model, Annals of Statistics 6, 461.
    Tipping 2001, Sparse Bayesian learning, JMLR 1, 211.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

__all__ = ["Design", "Line", "Problem", "product", "solve_line"]

# In the last few steps terms that say too little go.
PRUNING_STEPS = 4
NUM_REFINEMENTS = 3
# Penalties in units of a term's own power per row. The floor keeps float32 solves of
# nearly collinear terms apart; at the ceiling a term is gone.
LEAST_PENALTY, MOST_PENALTY = 1e-7, 1e6


class Design(NamedTuple):
    """The rows of a regression: their terms, and how much each counts.

    Attributes:
        terms: shape `[N, F + 1]`, the constant last; zeros for those it does without.
        train: weights of the rows that are fitted, `[N]`.
        held: weights of those that are held out, `[N]`.
        size: how many terms it may take, besides the constant, `[]`.
    """

    terms: Array
    train: Array
    held: Array
    size: Array

    @property
    def count(self) -> Array:
        """Number of training rows."""
        return self.train.sum()

    def masked(self, terms: Array) -> "Design":
        """The rows with only some of the terms: 1 for each that stays, `[F + 1]`."""
        return self._replace(terms=self.terms * terms, size=terms[:-1].sum())

    def gram(self, weights: Array | None = None) -> Array:
        """Products of the training rows, per row."""
        use = self.train if weights is None else self.train * weights
        rows = self.terms * use[:, None]
        return product(rows.T, self.terms) / self.count

    def predict(self, kernel: Array) -> Array:
        """Values of a regression, `[N]`."""
        return product(self.terms, kernel)


class Problem(NamedTuple):
    """What one regression is to explain.

    Attributes:
        target: values, `[N]`.
        weights: weights of the rows, of mean 1 over those that train, `[N]`.
        gram: `rows.gram(weights)`, `[F + 1, F + 1]`.
        noise: variance of the noise, None where it is to be found as well.
    """

    target: Array
    weights: Array
    gram: Array
    noise: float | None = None


class Line(NamedTuple):
    """A regression of one output.

    Attributes:
        kernel: coefficients, the constant last, `[F + 1]`.
        penalty: penalties, `[F + 1]`.
        num_terms: how many coefficients the rows determine, `[]`.
    """

    kernel: Array
    penalty: Array
    num_terms: Array


def solve_line(rows: Design, problem: Problem, penalty: Array, steps: Array) -> Line:
    """Regression whose penalties maximise the evidence.

    Args:
        rows: the design.
        problem: what is to be explained.
        penalty: penalties to begin with, `[F + 1]`.
        steps: steps of MacKay's fixed point, `[]`.
    """
    target, weights, gram, noise = problem
    count, use = rows.count, rows.train * weights
    power = jnp.sqrt(jnp.maximum(jnp.diagonal(gram), 1e-12))
    # From the left: a product with the transposed design takes ten times as long.
    moment = product(use * target, rows.terms) / count
    gram, moment = gram / (power * power[:, None]), moment / power
    # The constant, last, is free.
    penalised = jnp.ones_like(power).at[-1].set(0.0)

    def solve(penalty: Array) -> tuple[Array, Array, Array]:
        system = gram + jnp.diag(penalty + 1e-9)
        kernel, spread = _solved(system, moment)
        spread = jnp.maximum(spread, 1e-12)
        return kernel, spread, jnp.clip(1.0 - penalty * spread, 1e-6, 1.0)

    # Squared errors of a kernel near that of the first penalties, from the rest which
    # that one leaves: a pass over the rows at each step would take as long as all else.
    first, *_ = solve(penalty * penalised)
    error = target - rows.predict(first / power)
    rest = product(use * error, rows.terms) / (count * power)
    least = (use * error**2).sum() / count
    # An exact regression's rest, which rounding makes zero or negative.
    smallest = 1e-14 * (use * target**2).sum() / count + 1e-30

    def squares(kernel: Array) -> Array:
        off = kernel - first
        curved = product(gram, off)
        return least + jnp.vdot(off, curved - 2.0 * rest, precision="highest")

    def step(number: Array, last: Line) -> Line:
        penalty = last.penalty
        kernel, spread, terms = solve(penalty)
        variance = noise
        if variance is None:
            share = jnp.maximum(1.0 - terms.sum() / count, 1.0 / count)
            variance = jnp.maximum(squares(kernel), smallest) / share
        new = terms * variance / (count * jnp.maximum(kernel**2, 1e-20))
        # A coefficient of t errors before shrinking has t^2 - 1 after it.
        signal = kernel**2 * count / (variance * spread)
        weak = (signal < jnp.log(count) - 1.0) & (number >= steps - PRUNING_STEPS)
        new = jnp.where(weak, MOST_PENALTY, new)
        new = jnp.clip(new, LEAST_PENALTY, MOST_PENALTY) * penalised
        # After the last step the penalties are solved with once more.
        return Line(kernel, jnp.where(number < steps, new, penalty), terms.sum())

    begin = Line(jnp.zeros_like(moment), penalty * penalised, jnp.zeros_like(count))
    line = jax.lax.fori_loop(0, steps + 1, step, begin)
    return line._replace(kernel=line.kernel / power)


def _solved(matrix: Array, moment: Array) -> tuple[Array, Array]:
    """Solution of a symmetric positive system, and its inverse's diagonal, `[F]` each.

    By Cholesky's factor; where float32 has none, by LU, which takes twice as long.
    """
    one = jnp.eye(len(matrix), dtype=matrix.dtype)
    factor = jax.lax.linalg.cholesky(matrix, symmetrize_input=False)
    half = jax.lax.linalg.triangular_solve(factor, one, left_side=True, lower=True)

    def refined(inverse: Callable[[Array], Array]) -> Array:
        """What nearly collinear terms leave is solved too: their inverse is rough."""
        kernel = jnp.zeros_like(moment)
        for _ in range(NUM_REFINEMENTS):
            kernel = kernel + inverse(moment - product(matrix, kernel))
        return kernel

    def by_factor() -> tuple[Array, Array]:
        solution = refined(lambda rest: product(product(half, rest), half))
        return solution, (half**2).sum(0)

    # Without a factor there is not a number anywhere.
    whole = jnp.isfinite(half[0, 0])

    def by_inverse() -> tuple[Array, Array]:
        # It waits for the factor: under vmap both are taken, and two batched calls of
        # LAPACK side by side can wait for each other's threads for ever (jaxlib 0.10).
        inverse = jnp.linalg.inv(jnp.where(whole, one, matrix))
        solution = refined(lambda rest: product(inverse, rest))
        return solution, jnp.diagonal(inverse)

    return jax.lax.cond(whole, by_factor, by_inverse)


def product(left: Array, right: Array) -> Array:
    """Matrix product with all digits, on any device."""
    return jnp.matmul(left, right, precision="highest")
