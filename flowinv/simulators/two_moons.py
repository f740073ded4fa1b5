"""Two moons: a crescent seen through a fold; the posterior is two thin crescents.

With r ~ N(0.1, 0.01^2) and a ~ U(-pi/2, pi/2),

    p = (r cos a + 0.25, r sin a),
    x = p + (-|theta_1 + theta_2| / sqrt 2, (-theta_1 + theta_2) / sqrt 2).

The benchmark task of Lueckmann et al. 2021, arXiv:2101.04653.
"""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from flowinv.simulators.rejection import kept_of

__all__ = ["TwoMoons"]

RADIUS, THICKNESS, OFFSET = 0.1, 0.01, 0.25
ROOT_HALF = math.sqrt(0.5)


@dataclasses.dataclass(frozen=True)
class TwoMoons:
    """Two parameters, two observed numbers, all without unit."""

    @property
    def x_shape(self) -> tuple[int]:
        """Shape of one observation, `(2,)`."""
        return (2,)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the parameters."""
        return ("theta_1", "theta_2")

    def simulate(self, key: Array, theta: ArrayLike) -> Array:
        """Draw x `[2]` for one theta `[2]`, float32."""
        key_angle, key_radius = jax.random.split(key)
        angle = jax.random.uniform(key_angle, minval=-jnp.pi / 2, maxval=jnp.pi / 2)
        radius = RADIUS + THICKNESS * jax.random.normal(key_radius)
        point = radius * jnp.stack([jnp.cos(angle), jnp.sin(angle)])
        return point + _centre(jnp.asarray(theta))

    def log_prob(self, theta: ArrayLike, x: ArrayLike) -> Array:
        """Return log p(x | theta), normalised; -inf behind the crescent.

        Negative radii, 10 standard deviations off, are left out.

        Args:
            theta: parameters, `[..., 2]`.
            x: observations, `[..., 2]`.
        """
        offset = jnp.asarray(x) - _centre(jnp.asarray(theta))
        radius = jnp.linalg.norm(offset, axis=-1)
        safe = jnp.maximum(radius, 1e-12)
        # Polar coordinates: density of r, 1 / pi for the angle, 1 / r for the area.
        log_prob = jax.scipy.stats.norm.logpdf(safe, RADIUS, THICKNESS)
        log_prob = log_prob - jnp.log(jnp.pi * safe)
        return jnp.where(offset[..., 0] > 0, log_prob, -jnp.inf)

    def posterior(
        self, x: np.ndarray, num_samples: int, rng: np.random.Generator
    ) -> np.ndarray:
        """Draw exactly from p(theta | x) under U[-1, 1]^2, `[n, 2]`.

        The map is inverted with a fresh crescent point and a random side of the fold;
        draws outside the box are made again.

        Args:
            x: one observation, `[2]`.
            num_samples: draws n.
            rng: numpy generator.

        Raises:
            ValueError: if hardly any theta of the box can give this x.
        """

        def propose(count: int) -> tuple[np.ndarray, np.ndarray]:
            angle = rng.uniform(-np.pi / 2, np.pi / 2, count)
            radius = rng.normal(RADIUS, THICKNESS, count)
            side = rng.choice([-1.0, 1.0], count)
            fold = side * (radius * np.cos(angle) + OFFSET - x[0])
            lean = x[1] - radius * np.sin(angle)
            theta = ROOT_HALF * np.stack([fold - lean, fold + lean], -1)
            # Behind the fold no theta gives this x.
            return theta, (np.abs(theta) <= 1).all(-1) & (side * fold >= 0)

        return kept_of(propose, x, num_samples)


def _centre(theta: Array) -> Array:
    """Centre of the crescent's circle in x, `[..., 2]`."""
    fold = OFFSET - ROOT_HALF * jnp.abs(theta[..., 0] + theta[..., 1])
    return jnp.stack([fold, ROOT_HALF * (theta[..., 1] - theta[..., 0])], -1)
