"""Knife-edge step scans against their exact posteriors, ten observations each.

command  python experiments/step_scan/step_scan.py plain|noise|instrument|any|rounds
         (any flag of flowinv run after the word)
device   CPU, GPU or TPU, unchanged
time     2 cores: plain 8 minutes; noise, instrument and any spend a minute or more on
         each observation's exact posterior (NUTS)
score    mean forest C2ST of observations 1 to 10, 2,000 draws: see README.md
"""

from pathlib import Path

from flowinv.checks import check_known
from flowinv.cli import experiment
from flowinv.experiment.config import EvaluateConfig, RunConfig
from flowinv.methods import Truncated

TEN = EvaluateConfig(observations="1-10")
NOISE = "read_noise=20,jitter=0.3,background=30,fit_amplitude=true,fit_background=true"
CONFIGS = {
    "plain": RunConfig(task="step_scan", evaluate=TEN),
    "noise": RunConfig(task=f"step_scan:{NOISE}", evaluate=TEN),
    "instrument": RunConfig(
        task="step_scan",
        like=str(Path(__file__).with_name("instrument.toml")),
        evaluate=TEN,
    ),
    "any": RunConfig(
        task="step_scan",
        like=str(Path(__file__).with_name("instrument.toml")),
        any_positions=60,
        evaluate=TEN,
    ),
    "rounds": RunConfig(
        task="step_scan",
        method=Truncated(num_rounds=10, num_simulations=1_000),
        flow=("cinn",),
        evaluate=TEN,
    ),
}


def config(word: str) -> RunConfig:
    """The settings of a word."""
    check_known("experiment", word, CONFIGS)
    own = CONFIGS[word]
    return RunConfig(**{**vars(own), "out": f"runs/step_scan-{word}"})


if __name__ == "__main__":
    experiment(config, "plain")
