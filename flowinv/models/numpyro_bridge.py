"""A learned likelihood as a numpyro distribution, for models of the user's own."""

from typing import Any

from jax import Array
from numpyro import distributions as dist

__all__ = ["learned_distribution"]


class _Learned(dist.Distribution):
    """p(x | theta); only its density is known."""

    support = dist.constraints.independent(dist.constraints.real, 1)
    reparametrized_params: tuple[str, ...] = ()

    def __init__(self, likelihood: Any, theta: Array) -> None:
        self.likelihood, self.theta = likelihood, theta
        super().__init__((), likelihood.x_shape, validate_args=False)

    def log_prob(self, value: Array) -> Array:
        """Return log p(value | theta)."""
        return self.likelihood.log_prob(value, self.theta)

    def sample(self, key: Any, sample_shape: tuple[int, ...] = ()) -> Array:
        """Raise: a network of summaries cannot simulate x."""
        raise NotImplementedError(
            "A learned likelihood is for obs=...; simulate with the simulator."
        )


def learned_distribution(likelihood: Any, theta: Array) -> dist.Distribution:
    """Return p(. | theta) `[*x_shape]` as a numpyro distribution."""
    return _Learned(likelihood, theta)
