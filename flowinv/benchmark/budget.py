"""How many simulations are enough: quality against their number, and its trend.

Networks learn from the first N of one set of simulations, for several N, and are asked
about the same held-out ones. Their mean log density there lies below the best possible
one by the mean KL divergence to the exact posterior, which falls as a power of N; a
fit of

    loss(N) = limit + scale N^-power

says how much is left, and what twice as many would buy.
"""

import csv
import dataclasses
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np

from flowinv.benchmark.cells import BudgetConfig, numbers_of
from flowinv.benchmark.references import known_of
from flowinv.checks import check_at_least, fail
from flowinv.data.simulate import simulate
from flowinv.data.stream import stored_rows
from flowinv.diagnostics.c2st import c2st
from flowinv.diagnostics.coverage import interval_coverage
from flowinv.diagnostics.sbc import sbc
from flowinv.experiment.build import build_estimator
from flowinv.experiment.experiment import check_task, write_problem
from flowinv.experiment.observed import parse_indices
from flowinv.experiment.watch import Watch
from flowinv.files import Lock, read_arrays, read_json, write_arrays, write_json
from flowinv.methods.npe import NPE
from flowinv.models.posterior import Posterior
from flowinv.tasks.registry import task as get_task
from flowinv.tasks.task import Task
from flowinv.types import Dataset

__all__ = ["Measured", "Trend", "run_budget", "sentence", "trend"]

SIMULATE, HELD_OUT, TRAIN, DRAW, TIES = range(5)
ENOUGH = 0.05
"""Nats of each parameter: a normal posterior 25 % too wide, or a third of an sd off."""
POWERS = np.linspace(0.25, 2.0, 71)
DRAWS, C2ST_DRAWS = 199, 2_000
LEVEL = 0.9
CSV, SETTINGS, PROBLEM = "budget.csv", "settings.json", "task.npz"


@dataclass(frozen=True)
class Measured:
    """One network.

    Attributes:
        budget: simulations that it learned from.
        log_q: log density of each held-out truth under its posterior, `[S]`.
        coverage_error: mean over parameters of observed - promised coverage of 90 %
            intervals.
        sbc_p: smallest Holm-corrected p of the ranks.
        width: geometric mean over parameters of the mean posterior sd, in prior sds.
        c2st: forest, mean over observations; NaN where none was asked for.
    """

    budget: int
    log_q: np.ndarray
    coverage_error: float
    sbc_p: float
    width: float
    c2st: float

    @property
    def loss(self) -> float:
        """Mean of -log q."""
        return -float(self.log_q.mean())


class Trend(NamedTuple):
    """What the losses say of more simulations.

    Attributes:
        limit: loss of endless simulations.
        scale: with `power`, how far above it N lie.
        power: fitted where there are three budgets, else 1.
        excess: nats above the limit at the largest budget.
        gain: nats that twice as many would buy.
        error: standard error of the last step's loss between the two largest budgets.
    """

    limit: float
    scale: float
    power: float
    excess: float
    gain: float
    error: float


def trend(measured: Sequence[Measured]) -> Trend:
    """Fit loss(N) = limit + scale N^-power by least squares, scale at least 0.

    Args:
        measured: of two budgets at least, in order, of the same held-out rows.
    """
    check_at_least("number of budgets", len(measured), 2)
    sizes = np.array([own.budget for own in measured], np.float64)
    losses = np.array([own.loss for own in measured])
    powers = POWERS if len(sizes) > 2 else np.ones(1)
    best = None
    for power in powers:
        falls = (sizes / sizes[-1]) ** -power
        centred = falls - falls.mean()
        slope = max(
            float(centred @ (losses - losses.mean()) / (centred @ centred)), 0.0
        )
        limit = float(losses.mean() - slope * falls.mean())
        error = float(((losses - limit - slope * falls) ** 2).sum())
        if best is None or error < best[0]:
            best = error, limit, slope, float(power)
    _, limit, excess, power = best
    step = measured[-1].log_q - measured[-2].log_q
    return Trend(
        limit=limit,
        scale=excess * float(sizes[-1]) ** power,
        power=power,
        excess=excess,
        gain=excess * (1 - 2**-power),
        error=float(step.std(ddof=1) / math.sqrt(len(step))),
    )


def sentence(measured: Sequence[Measured], found: Trend, dim: int) -> str:
    """Say whether the largest budget is enough, and what twice as many would buy."""
    last = measured[-1]
    left = found.excess / dim
    enough = "enough" if left < ENOUGH else "not enough"
    words = (
        f"{last.budget:,} simulations are {enough}: by the trend the posterior is "
        f"{left:.3f} nats a parameter from exact (limit {ENOUGH}); {2 * last.budget:,} "
        f"would take {found.gain / dim:.3f} of them away"
    )
    if found.excess < 2 * found.error:
        words += f", less than this measurement sees (+- {found.error / dim:.3f})"
    return f"{words}."


def run_budget(
    config: BudgetConfig,
    *,
    quiet: bool = True,
    should_stop: Callable[[], bool] | None = None,
) -> tuple[list[Measured], Trend, str]:
    """Train and measure every budget that is not there yet; fit the trend.

    Args:
        config: what is asked.
        quiet: no bar.
        should_stop: asked between pieces of work.

    Returns:
        What was measured, the trend, and the sentence.

    Raises:
        ValueError: a setting out of its range, or a folder of another question.
        Interrupted: if `should_stop` said so.
    """
    config.check()
    task, folder = get_task(config.task), Path(config.out).expanduser()
    folder.mkdir(parents=True, exist_ok=True)
    watch = Watch(quiet, should_stop)
    with Lock(folder):
        _claim(folder, config, task)
        sizes, measured = numbers_of(config.budgets, "budgets"), []
        with watch.bar("budgets", len(sizes)) as bar:
            for done, size in enumerate(sizes, 1):
                path = folder / f"{size}.npz"
                if not path.is_file():
                    bar.say(f"{size:,} simulations")
                    write_arrays(path, _measure(config, task, size, folder, watch))
                measured.append(read_arrays(Measured, path, "a measured budget"))
                bar.to(done)
        _write(folder / CSV, measured)
    found = trend(measured)
    return measured, found, sentence(measured, found, task.prior.dim)


def _claim(folder: Path, config: BudgetConfig, task: Task) -> None:
    """A folder is of one question; only budgets may be added."""
    own = dataclasses.asdict(config)
    asked = {name: own[name] for name in own if name not in ("budgets", "out")}
    if not (folder / SETTINGS).exists():
        write_problem(folder / PROBLEM, task)
        write_json(folder / SETTINGS, asked)
        return
    kept = read_json(folder / SETTINGS, "settings of the budgets")
    others = [name for name in asked if kept.get(name) != asked[name]]
    if others:
        got = ", ".join(f"{name} {kept.get(name)!r}" for name in others)
        remedy = "Give the same ones, or another --out."
        fail(f"settings of {folder}", "to be these", got, remedy)
    check_task(folder / PROBLEM, task)


def _measure(
    config: BudgetConfig, task: Task, size: int, folder: Path, watch: Watch
) -> Measured:
    """Train on the first `size` simulations, and ask about the held-out ones."""
    root = jax.random.key(config.seed)
    keys = [jax.random.fold_in(root, stream) for stream in range(5)]
    # Row i of a key is the same whatever the number of rows.
    problem = keys[SIMULATE], task.prior, task.simulator
    data = stored_rows(folder / "simulations", *problem, size)
    held = simulate(keys[HELD_OUT], task.prior, task.simulator, config.num_heldout)
    method = NPE(num_simulations=str(size))
    posterior = method.fit(
        keys[TRAIN],
        build_estimator(task, config.flow, method.network),
        data,
        folder=folder / "parts" / str(size),
        should_stop=watch.should_stop,
    ).posterior
    valid = np.asarray(held.valid)
    held = Dataset(*(np.asarray(array)[valid] for array in held))
    draws = np.asarray(posterior.sample(keys[DRAW], held.x, DRAWS))
    ranks = sbc(keys[TIES], held.theta, draws)
    coverage = interval_coverage(ranks.ranks, DRAWS, [LEVEL])
    width = draws.std(1).mean(0) / np.maximum(held.theta.std(0), 1e-30)
    return Measured(
        budget=size,
        log_q=np.asarray(posterior.log_prob(held.theta, held.x), np.float64),
        coverage_error=float((coverage.observed[0] - coverage.nominal[0]).mean()),
        sbc_p=float(ranks.chi2_p_holm.min()),
        width=float(np.exp(np.log(width).mean())),
        c2st=_c2st(config, task, posterior, folder),
    )


def _c2st(
    config: BudgetConfig, task: Task, posterior: Posterior, folder: Path
) -> float:
    scores = []
    for index in parse_indices(config.observations, task.num_observations):
        sources = None, folder / "references"
        name = config.task.replace(":", "-").replace("/", "-")
        known = known_of(task, name, index, C2ST_DRAWS, sources)
        key = jax.random.fold_in(jax.random.key(config.seed), DRAW)
        draws = np.asarray(posterior.sample(key, known.x, len(known.exact)))
        scores.append(c2st(known.exact, draws, "forest").score)
    return float(np.mean(scores)) if scores else math.nan


def _write(path: Path, measured: Sequence[Measured]) -> None:
    """The numbers as a table."""
    names = ("coverage_error", "sbc_p", "width", "c2st")
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["simulations", "log_prob", "log_prob_error", *names])
        for own in measured:
            error = own.log_q.std(ddof=1) / math.sqrt(len(own.log_q))
            rest = (getattr(own, name) for name in names)
            figures = (-own.loss, error, *rest)
            writer.writerow([own.budget, *(f"{value:.5g}" for value in figures)])
