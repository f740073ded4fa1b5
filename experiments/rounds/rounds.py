"""Rounds on one scan, task by task: how near the exact posterior, in what time.

command  python experiments/rounds/rounds.py [--out runs/rounds] [--jobs 1]
         [--references DIR] [--cells WORD ...] [--list]
         (DIR/<task>/obs_<k>.npz stands in for a task's own observations)
device   CPU, GPU or TPU, unchanged; a cell is one process, its seeds are lanes
time     2 cores: a cell of boxes takes one to three minutes, of atoms three to ten
score    experiments/rounds/results.csv; a cell that is in the file is not run again,
         and one that was cut off goes on from its last round
"""

import argparse
import csv
import itertools
import os
import subprocess
import sys
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import replace
from pathlib import Path
from typing import Any

from flowinv.experiment.config import EvaluateConfig, RunConfig
from flowinv.methods import APT, Truncated
from flowinv.sequential.method import RoundsMethod

METHODS = {"auto": Truncated(), "apt": APT(), "box": Truncated(region="box")}
# metrics.json's names, as columns.
FIGURES = (
    "c2st_mlp",
    "c2st_forest",
    "prdc_coverage",
    "smallest_sd_ratio",
    "largest_sd_ratio",
    "largest_mean_shift",
    "last_distance",
    "last_mass_outside",
)
COLUMNS = (
    *("cell", "task", "method", "flow", "rounds", "simulations", "observation", "seed"),
    *FIGURES,
    *("seconds", "lanes", "verdict", "device", "versions"),
)


def table() -> dict[str, RunConfig]:
    """Every cell by its name, those that matter most first."""
    cells: dict[str, RunConfig] = {}

    def add(
        task: str,
        method: str,
        size: tuple[int, int] = (10, 1_000),
        observation: int = 1,
        seeds: int = 2,
        first: int = 0,
        draws: int = 10_000,
    ) -> None:
        rounds, simulations = size
        name = f"{task}-{observation}-{method}-{rounds}x{simulations}-{first}"
        # 2,000 draws leave the slower classifier out.
        kinds = ("mlp", "forest") if draws == 10_000 else ("forest",)
        chosen = replace(
            METHODS[method], num_rounds=rounds, num_simulations=simulations
        )
        cells[name] = RunConfig(
            task=task,
            method=chosen,
            seed=first,
            seeds=seeds,
            evaluate=EvaluateConfig(
                observations=str(observation),
                num_exact=draws,
                classifiers=kinds,
                score_rounds=0,
            ),
        )

    for task, method in itertools.product(("two_moons", "slcp"), ("apt", "auto")):
        add(task, method)
    # A key may break rounds: five of each.
    for observation in (1, 4):
        add("beam_profile", "auto", observation=observation, seeds=5, draws=2_000)
    for observation in (2, 3, 5, 6, 7, 8, 9, 10):
        add("beam_profile", "auto", observation=observation, draws=2_000)
    add("gaussian_linear", "auto")
    for method in ("auto", "apt"):
        add("two_moons", method, (10, 100))
    for method, first in itertools.product(("auto", "apt"), range(0, 50, 10)):
        add("two_moons", method, (2, 1_000), seeds=10, first=first, draws=2_000)
    for observation in (2, 3, 4, 5):
        add("slcp", "apt", observation=observation)
    for observation in (1, 2):
        add("beam_profile", "apt", observation=observation, draws=2_000)
    add("two_moons", "auto", (10, 10_000))
    add("two_moons", "apt", (10, 10_000))
    return cells


def kind_of(method: RoundsMethod) -> str:
    """Name of a method of a cell, whatever its rounds and simulations."""
    for name, own in METHODS.items():
        sizes = {f: getattr(own, f) for f in ("num_rounds", "num_simulations")}
        if replace(method, **sizes) == own:
            return name
    raise ValueError(f"no cell has the method {method}")


def rows_of(
    name: str, config: RunConfig, metrics: dict[str, Any], earlier: bool
) -> list[list[Any]]:
    """One row for each seed of a finished cell; no time where it was continued."""
    import jax

    from flowinv.experiment.experiment import versions

    (observation,) = config.evaluate.observations.split(",")
    device = jax.devices()[0].device_kind
    said, rows = " ".join(f"{k} {v}" for k, v in versions().items()), []
    for model, flow, seed in config.models():
        own = f"{model}/observation_{observation}/"
        verdicts = {v for k, v in metrics.items() if k.startswith(f"{model}/verdict/")}
        figures = [metrics.get(own + figure, "") for figure in FIGURES]
        rows.append(
            [
                name,
                config.task,
                kind_of(config.method),
                flow,
                config.method.num_rounds,
                config.method.num_simulations,
                observation,
                config.seed + seed,
                *(round(f, 4) if isinstance(f, float) else f for f in figures),
                "" if earlier else metrics[f"{model}/training_seconds"],
                config.seeds,
                ", ".join(sorted(verdicts)),
                device,
                said,
            ]
        )
    return rows


def run_cell(name: str, config: RunConfig, part: Path) -> None:
    """Run one cell, or go on with it, and write its rows."""
    import flowinv

    resume = (config.folder() / "config.json").is_file()
    metrics = flowinv.run(config, resume=resume, quiet=True)
    write(part, rows_of(name, config, metrics, resume))


def write(path: Path, rows: Iterable[list[Any]]) -> None:
    """Write rows below the header, at once or not at all."""
    part = path.with_suffix(".part")
    with part.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([COLUMNS, *rows])
    part.replace(path)


def read(path: Path) -> list[list[str]]:
    """Rows of a file, without its header; none where there is no file."""
    if not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.reader(file))[1:]


def main() -> None:
    """Run what is missing, `--jobs` cells at a time."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", default="runs/rounds", type=Path, help="folder")
    parser.add_argument("--results", type=Path, help="file (OUT/results.csv)")
    parser.add_argument("--jobs", default=1, type=int, help="cells at a time")
    parser.add_argument("--references", default="", help="folder of <task>/obs_<k>.npz")
    parser.add_argument("--cells", nargs="*", default=[""], help="words of names")
    parser.add_argument("--list", action="store_true", help="name the missing cells")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    results = options.results or options.out / "results.csv"
    cells = {}
    for name, config in table().items():
        folder = Path(options.references) / config.task
        known = str(folder) if options.references and folder.is_dir() else ""
        settings = replace(config.evaluate, references=known)
        out = str(options.out / name)
        cells[name] = replace(config, evaluate=settings, out=out)
    if options.one:
        run_cell(options.one, cells[options.one], options.out / f"{options.one}.csv")
        return
    done = {row[0] for row in read(results)}
    wanted = [n for n in cells if n not in done and any(w in n for w in options.cells)]
    if options.list:
        print("\n".join(wanted))
        return

    def one(name: str) -> tuple[str, int]:
        command = [sys.executable, __file__, "--one", name, "--out", options.out]
        with (options.out / f"{name}.log").open("a") as log:
            return name, subprocess.call(
                [*command, "--references", options.references], stdout=log, stderr=log
            )

    rows = read(results)
    with ThreadPoolExecutor(options.jobs) as pool:
        for ended in as_completed([pool.submit(one, name) for name in wanted]):
            name, code = ended.result()
            if code:
                print(f"{name}: exit code {code}; see {options.out / name}.log")
                continue
            rows += read(options.out / f"{name}.csv")
            write(results, rows)
            print(f"{name}: done", flush=True)


if __name__ == "__main__":
    os.environ.setdefault("PYTHONUNBUFFERED", "1")
    main()
