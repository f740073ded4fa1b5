"""The beam profile in rounds, observation by observation: truncated or atomic.

command  python experiments/beam_profile/apt.py --method tsnpe --references DIR
         (DIR holds obs_<k>.npz; without it the task's own observations are taken)
device   CPU, GPU or TPU, unchanged
time     tsnpe, 10 rounds of 1,000, 2 cores: about half a minute for an observation
score    tsnpe, observations 1, 2 and 4, mean forest C2ST 0.53
"""

from dataclasses import dataclass, replace

import tyro
from config import ROUNDS

import flowinv as fi


@dataclass(frozen=True)
class Flags:
    """Flags of the script.

    Attributes:
        method: tsnpe or apt.
        flow: flow to train.
        num_rounds: rounds.
        num_simulations: simulations of each round.
        truncated_rounds: apt's first rounds that draw from a box of the prior.
        seeds: repetitions of every observation.
        observations: fixed observations to infer.
        references: folder with obs_<k>.npz; "" takes the task's own.
        out: folder of the run; "" names it after the method.
        seed: seed of everything.
        resume: go on with an earlier run.
    """

    method: str = "tsnpe"
    flow: str = "spline"
    num_rounds: int = 10
    num_simulations: int = 1_000
    truncated_rounds: int = 0
    seeds: int = 1
    observations: str = "1-10"
    references: str = ""
    out: str = ""
    seed: int = 0
    resume: bool = False


def main(flags: Flags) -> None:
    """Run, and print the mean scores by round."""
    config = replace(
        ROUNDS,
        method=flags.method,
        flow=(flags.flow,),
        num_simulations=str(flags.num_simulations),
        out=flags.out or f"{ROUNDS.out}-{flags.method}",
        seed=flags.seed,
        rounds=replace(
            ROUNDS.rounds,
            num_rounds=flags.num_rounds,
            truncated_rounds=flags.truncated_rounds,
            seeds=flags.seeds,
        ),
        evaluate=replace(
            ROUNDS.evaluate,
            observations=flags.observations,
            references=flags.references,
        ),
    )
    metrics = fi.run(config, resume=flags.resume)
    for number in range(1, flags.num_rounds + 1):
        end = f"/round_{number}/c2st_forest"
        scores = [value for name, value in metrics.items() if name.endswith(end)]
        if scores:
            print(f"round {number}: forest C2ST {sum(scores) / len(scores):.3f}")
    for name, value in metrics.items():
        if any(part in name for part in ("/mean/", "/largest", "/smallest")):
            print(f"{name}: {value:.3f}")


if __name__ == "__main__":
    main(tyro.cli(Flags))
