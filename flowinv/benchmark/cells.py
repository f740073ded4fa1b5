"""What the benchmark and the question of budgets consist of: settings and cells."""

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from flowinv.checks import check_at_least, check_known, fail
from flowinv.experiment.observed import parse_indices
from flowinv.methods import FMPE, NLE, NPE, NRE, SMCABC, SNLE, RejectionABC
from flowinv.methods.registry import METHODS
from flowinv.methods.sequential import Sequential
from flowinv.models.registry import FLOWS
from flowinv.tasks.registry import task as get_task
from flowinv.training.config import TrainConfig

__all__ = [
    "METRICS",
    "BenchmarkConfig",
    "BudgetConfig",
    "Cell",
    "Metric",
    "Training",
    "numbers_of",
]

STANDARD = (
    "gaussian_linear",
    "gaussian_linear_uniform",
    "slcp",
    "slcp_distractors",
    "bernoulli_glm",
    "bernoulli_glm_raw",
    "gaussian_mixture",
    "two_moons",
    "sir",
    "lotka_volterra",
)
LEAST_BUDGET = 200
ROUNDS, FEW_ROUNDS, LEAST_ROUND = 10, 4, 100
BALANCE = 100.0
"""As in the papers on balanced classifiers and posteriors."""
PRESETS: dict[str, Any] = {
    **{name: kind() for name, kind in METHODS.items()},
    "rej-abc": RejectionABC(),
    "smc-abc": SMCABC(),
    "bnpe": NPE(balance=BALANCE),
    "nre-a": NRE(variant="a"),
    "nre-b": NRE(variant="b"),
    "bnre": NRE(variant="a", balance=BALANCE),
    "npe-5": NPE(train=TrainConfig(num_members=5)),
    "fmpe-5": FMPE(train=TrainConfig(num_members=5)),
    "nle-5": NLE(train=TrainConfig(num_members=5)),
    "nre-5": NRE(train=TrainConfig(num_members=5)),
    "snle-5": SNLE(train=TrainConfig(num_members=5)),
}
"""Methods as the benchmark names them: every one, variants, ensembles of five."""


class Metric(NamedTuple):
    """A number of an answer.

    Attributes:
        name: c2st, mmd, density, coverage or median_distance.
        protocol: of c2st: mlp (A: sbibm's own network) or forest (B); else "".
    """

    name: str
    protocol: str = ""


METRICS = (
    Metric("c2st", "mlp"),
    Metric("c2st", "forest"),
    Metric("mmd"),
    Metric("density"),
    Metric("coverage"),
    Metric("median_distance"),
)
"""In the order of a cell's rows."""


class Training(NamedTuple):
    """What is trained at once: one network for all observations, or their lanes.

    Attributes:
        task: its spec.
        method: a row of `PRESETS`.
        flow: name of the flow.
        budget: simulations: of the network, or of all rounds of an observation.
        seed: number of the key.
    """

    task: str
    method: str
    flow: str
    budget: int
    seed: int

    @property
    def name(self) -> str:
        """As a file is called."""
        task = self.task.replace(":", "-").replace("/", "-")
        return f"{task}-{self.method}-{self.flow}-{self.budget}-{self.seed}"

    def settings(self) -> Any:
        """The method with its defaults; only the number of simulations is set.

        Rounds are ten of a tenth each, fewer where that were below 100; four of
        likelihoods and ratios, where ten take twice the time and were not clearly
        better (lotka_volterra and bernoulli_glm, 1,000 simulations).
        """
        own = PRESETS[self.method]
        if own.amortised:
            return replace(own, num_simulations=str(self.budget))
        most = FEW_ROUNDS if isinstance(own, Sequential) else ROUNDS
        rounds = min(most, self.budget // LEAST_ROUND)
        size = {"num_rounds": rounds, "num_simulations": self.budget // rounds}
        return replace(own, **size)


class Cell(NamedTuple):
    """One number that is asked for, by all that it depends on."""

    task: str
    method: str
    flow: str
    budget: int
    observation: int
    seed: int
    metric: str
    protocol: str


@dataclass(frozen=True)
class BenchmarkConfig:
    """Which cells are filled, and from what; lists have commas between.

    Attributes:
        tasks: specs of tasks.
        methods: names of methods, also snle, snre, rej-abc and smc-abc, of variants
            (bnpe, nre-a, nre-b, bnre) and of ensembles (npe-5, fmpe-5, nle-5, nre-5).
        budgets: numbers of simulations (1000 or 1e3); the smallest are filled first.
        observations: like "1-5".
        seeds: keys of every training.
        flows: names of flows; "", and a method that has none of them, takes the
            method's own.
        protocols: of C2ST: mlp (sbibm's own network) and forest.
        num_draws: draws of the exact and of the learned posterior that are compared.
        references: folder with <task>/obs_<k>.npz (observation, true_parameters,
            reference_samples); without it the files of an installed sbibm, where there
            is one, else observations and exact posteriors of flowinv's own tasks.
        published: csv of published C2ST (columns task, algorithm, num_simulations,
            num_observation, C2ST), drawn behind.
        out: folder of results.
    """

    tasks: str = ",".join(STANDARD)
    methods: str = "npe,tsnpe,apt"
    budgets: str = "1000,10000"
    observations: str = "1-5"
    seeds: int = 1
    flows: str = ""
    protocols: str = "mlp,forest"
    num_draws: int = 10_000
    references: str = ""
    published: str = ""
    out: str = "runs/benchmark"

    def check(self) -> None:
        """Raise one line for the first setting out of its range.

        Raises:
            ValueError: what, expected, got.
        """
        known = {"methods": PRESETS, "flows": FLOWS, "protocols": ("mlp", "forest")}
        for what in ("tasks", "budgets", *known):
            if not _listed(getattr(self, what)) and what != "flows":
                fail(what, "with one at least", "none")
            for name in _listed(getattr(self, what)) if what in known else ():
                check_known(what, name, known[what])
        for budget in self.sizes():
            check_at_least("budgets", budget, LEAST_BUDGET)
        check_at_least("seeds", self.seeds, 1)
        check_at_least("num_draws", self.num_draws, 100)
        for what in ("references", "published"):
            path = getattr(self, what)
            if path and not Path(path).expanduser().exists():
                fail(what, "to be there", path)
        for spec in _listed(self.tasks):
            self.observed(spec)

    def sizes(self) -> tuple[int, ...]:
        """Numbers of simulations, in order.

        Raises:
            ValueError: for one that is no whole number.
        """
        return numbers_of(self.budgets, "budgets")

    def observed(self, spec: str) -> tuple[int, ...]:
        """Numbers of the observations of a task."""
        return parse_indices(self.observations, get_task(spec).num_observations)

    def trainings(self) -> tuple[Training, ...]:
        """All trainings, in the order in which they are done."""
        sizes, methods = range(self.seeds), _listed(self.methods)
        every = itertools.product(sizes, self.sizes(), methods, _listed(self.tasks))
        return tuple(
            Training(task, method, flow, budget, seed)
            for seed, budget, method, task in every
            for flow in self.flows_of(method)
        )

    def flows_of(self, method: str) -> tuple[str, ...]:
        """Those of `flows` that a method can train, or its own one."""
        own = PRESETS[method].flows
        return tuple(f for f in _listed(self.flows) if f in own) or own[:1]

    def cells(self, training: Training) -> Iterator[Cell]:
        """Every number that is asked of a training."""
        task, method, flow, budget, seed = training
        for index in self.observed(task):
            for metric in METRICS:
                if metric.protocol in ("", *_listed(self.protocols)):
                    yield Cell(task, method, flow, budget, index, seed, *metric)

    def relevant(self) -> dict[str, object]:
        """What results depend on beside the cell itself."""
        # However the path is written: the folder is the same.
        given = self.references
        folder = str(Path(given).expanduser().resolve()) if given else ""
        return {"num_draws": self.num_draws, "references": folder}


@dataclass(frozen=True)
class BudgetConfig:
    """What is asked.

    Attributes:
        task: spec of the task.
        budgets: numbers of simulations, with commas between.
        flow: name of the flow.
        seed: of all keys.
        num_heldout: held-out simulations.
        observations: like "1-3": C2ST of these, where the task has exact posteriors;
            "" asks for none.
        out: folder.
    """

    task: str = "beam_profile"
    budgets: str = "1000,3000,10000,30000"
    flow: str = "spline"
    seed: int = 0
    num_heldout: int = 1_000
    observations: str = ""
    out: str = "runs/budget"

    def check(self) -> None:
        """Raise one line for the first setting out of its range.

        Raises:
            ValueError: what, expected, got.
        """
        check_known("flow", self.flow, NPE.flows)
        check_at_least("num_heldout", self.num_heldout, 100)
        sizes = numbers_of(self.budgets, "budgets")
        check_at_least("number of budgets", len(sizes), 2)
        check_at_least("budgets", sizes[0], LEAST_BUDGET)
        parse_indices(self.observations, get_task(self.task).num_observations)


def numbers_of(text: str, what: str) -> tuple[int, ...]:
    """Return the whole numbers that "1000,1e4" means, in order.

    Raises:
        ValueError: for anything else.
    """
    found = []
    for part in _listed(text):
        try:
            size = float(part)
        except ValueError:
            size = math.nan
        if not size.is_integer():
            fail(what, 'like "1000,10000" or "1e3,1e4"', repr(text))
        found.append(int(size))
    return tuple(sorted(set(found)))


def _listed(text: str) -> tuple[str, ...]:
    """Split at commas; `option=value` belongs to the task before it."""
    found: list[str] = []
    for part in filter(None, text.replace(" ", "").split(",")):
        option = "=" in part and ":" not in part and found
        found[len(found) - bool(option) :] = [f"{found[-1]},{part}" if option else part]
    return tuple(dict.fromkeys(found))
