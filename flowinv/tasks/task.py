"""What a task is: an inference problem with its answers."""

import dataclasses
from collections.abc import Callable

import jax
import numpy as np
from jax import Array

from flowinv.checks import fail
from flowinv.priors.latent import Prior
from flowinv.types import Simulator

__all__ = ["Reference", "Task"]

Reference = Callable[[np.ndarray, int, Array], np.ndarray]


@dataclasses.dataclass(frozen=True)
class Task:
    """A prior, a simulator, fixed observations, and their exact posterior if known.

    Attributes:
        name: name in the registry.
        prior: named parameters with units.
        simulator: draws x given theta.
        num_observations: number of fixed observations, counted from 1.
        input_scaling: how x is scaled before the embedding, e.g. "root" for counts.
        embedding: network that suits x, "none" where the summaries say it all.
        summary: fixed summaries that suit x, e.g. "moments" for profiles, or "none".
        cumulative: x holds knife-edge curves, not profiles.
        description: one sentence.
        spec: the text that gives this task again, name and options.
        observation_key: integer that fixes the observations; part of the problem's
            definition, like the prior.
        exact: `exact(x, num_samples, key) -> [n, D]` posterior draws, or None.
    """

    name: str
    prior: Prior
    simulator: Simulator
    num_observations: int
    input_scaling: str
    embedding: str
    summary: str
    cumulative: bool
    description: str
    spec: str
    observation_key: int
    exact: Reference | None = None

    def observation(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the fixed observation `index` and the theta it was simulated from.

        Args:
            index: from 1 to `num_observations`.

        Returns:
            x float32 with the simulator's `x_shape`, and theta float32 `[D]`.

        Raises:
            ValueError: if there is no such observation.
        """
        if not 1 <= index <= self.num_observations:
            fail("observation", f"from 1 to {self.num_observations}", index)
        # The implementation is named, so that a changed default changes no problem.
        root = jax.random.key(self.observation_key, impl="threefry2x32")
        key_theta, key_x = jax.random.split(jax.random.fold_in(root, index))
        theta = self.prior.sample(key_theta, 1)[0].astype(np.float32)
        x = jax.jit(self.simulator.simulate)(key_x, theta)
        return np.asarray(x, np.float32), np.asarray(theta)

    def reference(self, index: int, num_samples: int, key: Array) -> np.ndarray | None:
        """Return exact posterior draws of observation `index`, `[n, D]`, or None.

        Args:
            index: from 1 to `num_observations`.
            num_samples: number of draws n.
            key: typed key.

        Raises:
            ValueError: if there is no such observation.
        """
        if self.exact is None:
            return None
        x, _ = self.observation(index)
        return self.exact(x, num_samples, key)
