"""The standard benchmark, filled in the order that says most first.

command  python experiments/sbibm/sbibm.py [STEP ...] [--references DIR] [--out FOLDER]
         (DIR/<task>/obs_<k>.npz; STEP is a number of the table below, all by default)
device   CPU, GPU or TPU, unchanged
time     2 cores, other work beside: NPE with 1,000 simulations trains in 4 to 26 s,
         by task; larger budgets, rounds and sbibm's own network were not timed
score    experiments/sbibm/results.csv holds the rows that were filled so far; goes on
         where FOLDER was left
"""

import argparse
import sys
from dataclasses import replace

from flowinv.benchmark.cells import BenchmarkConfig
from flowinv.cli import main

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
    "4": replace(FIRST, methods="nle,snle,nre,fmpe", budgets="1000"),
    "5": replace(FIRST, methods="nle,nre,fmpe,snle,rej-abc,smc-abc", budgets="10000"),
    "6": replace(FIRST, methods="npe,tsnpe,apt", seeds=3),
    "7": replace(FIRST, budgets="100000"),
}


def fill() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("steps", nargs="*", default=list(STEPS), choices=list(STEPS))
    parser.add_argument("--references", default="", help="folder of exact draws")
    parser.add_argument("--out", default="runs/benchmark", help="folder")
    asked = parser.parse_args()
    for step in asked.steps:
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


if __name__ == "__main__":
    fill()
