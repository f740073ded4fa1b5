"""The standard benchmark, filled in the order that says most first.

command  python experiments/sbibm/sbibm.py [STEP ...] [--references DIR] [--out FOLDER]
         (DIR/<task>/obs_<k>.npz; STEP is a number of the table below, all by default)
         python experiments/sbibm/sbibm.py --figure c2st.png [--published FILE]
         (draws the forest's C2ST of results.csv, published curves behind)
device   CPU, GPU or TPU, unchanged
time     2 cores, other work beside: NPE with 1,000 simulations trains in 4 to 26 s, by
         task, with 10,000 in 37 to 81 s; rounds and sbibm's own network were not timed
score    experiments/sbibm/results.csv holds the rows that were filled so far; goes on
         where FOLDER was left. NPE of slcp_distractors with 10,000 simulations was
         trained with 20 passes (61 now, as the other nine tasks); the one row of snle
         on bernoulli_glm is from before the present sampler and choice of flow
"""

import argparse
import sys
from dataclasses import replace
from pathlib import Path

from flowinv.benchmark.cells import BenchmarkConfig, Metric
from flowinv.benchmark.page import benchmark_figure, means, published_curves
from flowinv.benchmark.results import read
from flowinv.cli import main

ROWS = Path(__file__).with_name("results.csv")

FIRST = BenchmarkConfig(methods="npe", budgets="1000,10000")
STEPS = {
    "1": FIRST,
    "2": replace(FIRST, methods="tsnpe,apt", budgets="1000"),
    "3": replace(
        FIRST,
        tasks="two_moons,slcp,sir,lotka_volterra",
        methods="tsnpe,apt",
        budgets="10000",
    ),
    "4": replace(FIRST, methods="nle,snle,snle-5,nre,fmpe", budgets="1000"),
    "5": replace(
        FIRST, methods="nle,snle,snle-5,nre,fmpe,rej-abc,smc-abc", budgets="10000"
    ),
    "6": replace(FIRST, methods="npe,tsnpe,apt", seeds=3),
    "7": replace(FIRST, budgets="100000"),
}


def fill() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("steps", nargs="*", type=known, help="1 to 7; all by default")
    parser.add_argument("--references", default="", help="folder of exact draws")
    parser.add_argument("--out", default="runs/benchmark", help="folder")
    parser.add_argument("--figure", default="", help="draw results.csv to this file")
    parser.add_argument("--published", default="", help="csv of published C2ST")
    asked = parser.parse_args()
    if asked.figure:
        draw(asked.figure, asked.published)
        return
    for step in asked.steps or STEPS:
        own = STEPS[step]
        words = ["benchmark", "--out", asked.out, "--seeds", str(own.seeds)]
        for name in ("tasks", "methods", "budgets"):
            words += [f"--{name}", getattr(own, name)]
        if asked.references:
            words += ["--references", asked.references]
        try:
            main(words)
        except SystemExit as ended:
            if ended.code:
                sys.exit(ended.code)


def known(step: str) -> str:
    # Not `choices`: argparse would ask them for a list where none is given.
    if step not in STEPS:
        raise argparse.ArgumentTypeError(f"expected 1 to {len(STEPS)}; got {step!r}")
    return step


def draw(file: str, published: str) -> None:
    curves = means(read(ROWS).values(), Metric("c2st", "forest"))
    behind = published_curves(published) if published else None
    benchmark_figure(curves, behind).savefig(file, dpi=150)


if __name__ == "__main__":
    fill()
