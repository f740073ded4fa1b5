"""What a prior from outside says of itself, checked where it comes in.

A distribution declares its support, its density and its draws separately; a flow is
promised that they agree. And float32, which everything after this is computed in, must
resolve what the prior spreads over.
"""

import json
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from flowinv.checks import InputError, fail, one_line

__all__ = ["check_fallback", "check_resolution"]

# Float32 steps that the middle 95 % of a parameter must span, and the range of sizes
# in which squares and ratios of it stay finite.
LEAST_STEPS, MOST, LEAST = 1_000, 1e37, 1e-37
# Sds of the latent within which mass is compared; beyond it lies next to nothing of any
# distribution that could train a flow.
REACH = 8.0
_NUM_DRAWS, _NUM_GRID = 20_000, 4_001
# Sds in which a density has to be above 0, but for rounding to an edge.
_NEAR, _MOST_EMPTY = 3.0, 0.005
# Standard errors, and on top of them a share that no quadrature is blamed for.
_MOST_ERRORS, _SLACK = 6.0, 0.03


def check_resolution(names: Any, low: np.ndarray, high: np.ndarray) -> None:
    """Raise for a parameter whose spread float32 cannot resolve.

    Args:
        names: of the parameters, D of them.
        low: lower end of the middle 95 % of each, float64 `[D]`.
        high: upper end.

    Raises:
        ValueError: fewer than 1,000 float32 steps between them, or a size beyond 1e37.
    """
    remedy = "Shift or rescale the parameter, and undo it in the simulator."
    for name, a, b in zip(names, low, high, strict=True):
        size, width = max(abs(a), abs(b)), b - a
        if not (size <= MOST and width >= LEAST):
            got = f"from {a:.6g} to {b:.6g}"
            fail(f"prior of {name!r}", "of a size between 1e-37 and 1e37", got, remedy)
        steps = width / np.spacing(np.float32(size)).astype(np.float64)
        if steps < LEAST_STEPS:
            got = f"{steps:.0f} of them between {a:.9g} and {b:.9g}"
            expected = f"over at least {LEAST_STEPS:,} float32 steps"
            fail(f"prior of {name!r}", expected, got, remedy)


def check_fallback(block: Any, what: str, rebuild: Any) -> None:
    """Raise unless density, support and draws of a distribution agree.

    Args:
        block: the `Unconstrained` block of the distribution.
        what: its names, for the message.
        rebuild: builds a block from a description.

    Raises:
        ValueError: draws outside the declared support or without density; a density
            whose mass is not that of the draws; a description that reads back as
            another distribution.
    """
    z = block.sample_latent(jax.random.key(1), _NUM_DRAWS, jnp.float32)
    inside, density = jax.jit(lambda z: _at(block, z))(z)
    kind = type(block.distribution).__name__
    if bad := int((~np.asarray(inside)).sum()):
        expected = "with draws inside the support that it declares"
        fail(f"prior {what}", expected, f"{bad} of {_NUM_DRAWS:,} outside ({kind})")
    if bad := int((~np.isfinite(density)).sum()):
        got = f"{bad} of {_NUM_DRAWS:,} without ({kind})"
        fail(f"prior {what}", "with a density at each of its draws", got)
    _check_support(block, np.asarray(z, np.float64), what)
    _check_mass(block, np.asarray(z, np.float64), what)
    _check_description(block, z, what, rebuild)


def _at(block: Any, z: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Whether theta(z) lies inside, and the latent density there."""
    theta = block.from_latent_and_log_det(z)[0]
    return block.contains(theta), block.latent_log_prob(z)


def _check_support(block: Any, z: np.ndarray, what: str) -> None:
    """Raise where the density ends inside the support that is declared."""
    first, middle, third = np.quantile(z, [0.25, 0.5, 0.75], axis=0)
    wide = _NEAR * (third - first) / 1.349
    shares = np.random.default_rng(0).uniform(-1, 1, (_NUM_GRID, z.shape[1]))
    log_p = jax.jit(block.latent_log_prob)(jnp.float32(middle + wide * shares))
    empty = (np.asarray(log_p) == -np.inf).mean()
    if empty > _MOST_EMPTY:
        fail(
            f"prior {what}",
            "with a density wherever the support that it declares is",
            f"none in {100 * empty:.0f} % of it ({type(block.distribution).__name__})",
            "Use a distribution that declares where it ends, such as Uniform(2, 5).",
        )


def _check_mass(block: Any, z: np.ndarray, what: str) -> None:
    """Compare the mass within some sds by the density and by the draws."""
    count, dim = z.shape
    first, middle, third = np.quantile(z, [0.25, 0.5, 0.75], axis=0)
    if dim == 1:
        radius = REACH * (third - first) / 1.349
        share = (np.abs(z - middle) < radius).mean()
        grid = np.linspace(middle - radius, middle + radius, _NUM_GRID)
        density = np.exp(np.asarray(block.latent_log_prob(jnp.float32(grid)), float))
        mass = np.trapezoid(density, grid[:, 0])
        error = 0.5 / np.sqrt(count)
    else:
        share, mass, error = _sampled_mass(block, z)
    if not abs(mass - share) < _MOST_ERRORS * error + _SLACK:
        got = f"a mass of {mass:.3g} where {share:.3g} of the draws lie"
        fail(
            f"prior {what}",
            "with a density that integrates to one over the support that it declares",
            f"{got} ({type(block.distribution).__name__})",
            "Use a distribution that declares where its density ends.",
        )


def _sampled_mass(block: Any, z: np.ndarray) -> tuple[float, float, float]:
    """Share of draws in an ellipsoid, its mass by sampling, and the error."""
    count, dim = z.shape
    mean, factor = z.mean(0), np.linalg.cholesky(np.cov(z.T) + 1e-9 * np.eye(dim))
    radius = np.sqrt(dim) + 3.0
    own = np.linalg.norm(np.linalg.solve(factor, (z - mean).T), axis=0)
    share = (own < radius).mean()
    wide = 1.5
    base = np.random.default_rng(0).normal(size=(count, dim))
    points = mean + wide * base @ factor.T
    inside = wide * np.linalg.norm(base, axis=1) < radius
    log_q = -0.5 * (base**2).sum(1) - 0.5 * dim * np.log(2 * np.pi)
    log_q -= np.log(np.diag(factor)).sum() + dim * np.log(wide)
    log_p = np.asarray(jax.jit(block.latent_log_prob)(jnp.float32(points)), float)
    weights = np.where(inside, np.exp(log_p - log_q), 0.0)
    error = np.hypot(weights.std() / np.sqrt(count), 0.5 / np.sqrt(count))
    return float(share), float(weights.mean()), float(error)


def _check_description(block: Any, z: jax.Array, what: str, rebuild: Any) -> None:
    """Raise unless the block reads back from JSON, equal in words and in numbers."""
    kind = type(block.distribution).__name__
    try:
        text = json.dumps(block.to_config())
        again = rebuild(json.loads(text), [what] * z.shape[1])
        same = json.dumps(again.to_config()) == text
        one, two = (b.latent_log_prob(z[:100]) for b in (block, again))
        same = same and np.allclose(one, two, 1e-4, 1e-4)
    except InputError:
        raise
    except Exception as error:
        fail(f"prior {what}", "that reads back from its description", one_line(error))
    if not same:
        remedy = "Build it from distributions with plain arguments."
        fail(f"prior {what}", "that reads back from its description", kind, remedy)
