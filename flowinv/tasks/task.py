"""What a task is: an inference problem with its answers."""

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
from jax import Array

from flowinv.checks import fail
from flowinv.data.entrance import admit_prior, host_rows, is_host, x_shape_of
from flowinv.data.scan import ReadOptions
from flowinv.priors.latent import Prior
from flowinv.types import Simulator

__all__ = [
    "ClassicalFit",
    "Derived",
    "ExactDraws",
    "Quantity",
    "Reference",
    "ScanLayout",
    "Scans",
    "Task",
    "quantities",
]

Reference = Callable[[np.ndarray, int, Array], "np.ndarray | ExactDraws"]
Summary = Callable[[Array], Array]

# A sampler's draws are believed up to here: chains that agree to 5 %, a mean that is
# known to a tenth of its sd, one transition of a hundred that went wrong.
MOST_R_HAT, LEAST_ESS, MOST_DIVERGENT = 1.05, 100.0, 0.01


class ExactDraws(NamedTuple):
    """Draws of an exact posterior, and how a sampler judges its own work.

    Attributes:
        draws: shape `[n, D]`.
        r_hat: largest potential scale reduction of a parameter; 1 for exact samplers.
        ess: smallest effective number of draws of a parameter; infinite likewise.
        num_divergent: divergent transitions.
    """

    draws: np.ndarray
    r_hat: float = 1.0
    ess: float = math.inf
    num_divergent: int = 0

    @property
    def good(self) -> bool:
        """Whether the draws may stand for the posterior."""
        few = self.num_divergent <= MOST_DIVERGENT * len(self.draws)
        return self.r_hat < MOST_R_HAT and self.ess > LEAST_ESS and few

    @property
    def words(self) -> str:
        """The sampler's numbers in words; "" for exact samplers."""
        if math.isinf(self.ess):
            return ""
        words = (
            f"NUTS: r_hat {self.r_hat:.3f}, {self.ess:.0f} effective draws, "
            f"{self.num_divergent} divergent"
        )
        return words if self.good else f"withheld, not converged ({words})"


@dataclasses.dataclass(frozen=True)
class ClassicalFit:
    """The least-squares fit that the posterior is shown beside.

    Attributes:
        values: fitted parameters `[D]`; NaN where the fit knows no such parameter.
        errors: their reported standard errors `[D]`, NaN where unknown.
        curve: the fitted scan, as long as the flattened x, or None.
        method: what was fitted, in a few words.
    """

    values: np.ndarray
    errors: np.ndarray
    curve: np.ndarray | None = None
    method: str = "least-squares fit"


@dataclasses.dataclass(frozen=True)
class Derived:
    """A parameter times a factor: the same in another unit or by another convention.

    Attributes:
        name: of the quantity.
        unit: its unit.
        parameter: name of the parameter.
        factor: quantity over parameter.
    """

    name: str
    unit: str
    parameter: str
    factor: float


class Quantity(NamedTuple):
    """One row of a table of answers: a parameter, or what derives from it.

    Attributes:
        name: of the quantity.
        unit: its unit; "" without one.
        index: column of the parameter in theta.
        factor: quantity over parameter; 1 for the parameter itself.
        is_derived: whether it is not the parameter itself.
    """

    name: str
    unit: str
    index: int
    factor: float = 1.0
    is_derived: bool = False


def quantities(
    names: Sequence[str], units: Sequence[str], derived: Sequence[Derived] = ()
) -> list[Quantity]:
    """Every parameter, each followed by what derives from it."""
    rows = []
    for index, (name, unit) in enumerate(zip(names, units, strict=True)):
        rows.append(Quantity(name, unit, index))
        rows += [
            Quantity(own.name, own.unit, index, own.factor, is_derived=True)
            for own in derived
            if own.parameter == name
        ]
    return rows


@dataclasses.dataclass(frozen=True)
class ScanLayout:
    """How the flattened x is cut into panels; lengths add up to that of x.

    Attributes:
        names: one title per panel.
        positions: one array of abscissae per panel.
        position_label: axis label with unit.
        value_label: axis label with unit.
    """

    names: tuple[str, ...]
    positions: tuple[np.ndarray, ...]
    position_label: str = "position"
    value_label: str = "counts"


class Scans(NamedTuple):
    """Scans of a file as x of a task.

    Attributes:
        x: `[S, *x_shape]`.
        notes: what was done to them: sorted, means taken.
    """

    x: np.ndarray
    notes: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True, eq=False)
class Task:
    """A prior, a simulator, fixed observations, and their exact posterior if known.

    Attributes:
        prior: named parameters with units.
        simulator: draws x given theta.
        name: name of the task, for the report.
        description: one sentence.
        num_observations: number of fixed observations, counted from 1.
        observation_key: integer that fixes the observations; part of the problem's
            definition, like the prior.
        input_scaling: how x is scaled before the embedding, e.g. "root" for counts;
            "auto" decides from the data.
        embedding: network that suits x, "none" where the summaries say it all.
        summary: fixed summaries that suit x, e.g. "moments" for profiles, or "none".
        summaries: summaries by name that read this task's x, before the registry's.
        exact: `exact(x, num_samples, key)`: posterior draws, `[n, D]` or with a
            sampler's own judgement, or None.
        classical: `classical(x)`: the fit that scans are read by today, or None.
        layout: how a scan is drawn; None draws x against its index.
        derived: quantities that are shown beside the parameters.
        read: `read(path, options)` of a scan file; None reads files on the
            simulator's own grid.
        at: where x holds more than what was seen (positions): `at(x)` gives the task
            of scans like this one alone, and the x of that task.
        again: with `at`: `again(key, theta, x)` simulates an x with the positions of
            this one, jit- and vmap-able.
        statistics: what a reader knows of x by name, `f(rows [m, L])` to `[m]`; each
            gets a posterior predictive p-value, beside those that every x has.
    """

    prior: Prior
    simulator: Simulator
    name: str = "task"
    description: str = "A task of your own."
    num_observations: int = 10
    observation_key: int = 0
    input_scaling: str = "auto"
    embedding: str = "none"
    summary: str = "none"
    summaries: Mapping[str, Summary] = dataclasses.field(default_factory=dict)
    exact: Reference | None = None
    classical: Callable[[np.ndarray], ClassicalFit] | None = None
    layout: ScanLayout | None = None
    derived: tuple[Derived, ...] = ()
    read: Callable[[Path, ReadOptions], Scans] | None = None
    at: Callable[[np.ndarray], "tuple[Task, np.ndarray]"] | None = None
    again: Callable[[Array, Array, Array], Array] | None = None
    statistics: Mapping[str, Callable[[np.ndarray], np.ndarray]] = dataclasses.field(
        default_factory=dict
    )

    def __post_init__(self) -> None:
        """Check prior and simulator.

        Raises:
            ValueError: one of them is something else, or `at` without `again`.
        """
        admit_prior(self.prior)
        x_shape_of(self.simulator)
        if (self.at is None) != (self.again is None):
            fail("at and again of the task", "to be given both, or none", "one of them")

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
        if is_host(self.simulator):
            x = host_rows(self.simulator, key_x, theta[None])[0][0]
        else:
            x = jax.jit(self.simulator.simulate)(key_x, theta)
        return np.asarray(x, np.float32), np.asarray(theta)

    def of_scan(self, x: np.ndarray) -> "tuple[Task, np.ndarray]":
        """Return the task whose simulations are comparable with x, and that task's x.

        Args:
            x: one observation, `[*x_shape]`.
        """
        return (self, x) if self.at is None else self.at(x)

    def reference(self, index: int, num_samples: int, key: Array) -> ExactDraws | None:
        """Return exact posterior draws of observation `index`, or None.

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
        found = self.exact(x, num_samples, key)
        return found if isinstance(found, ExactDraws) else ExactDraws(found)
