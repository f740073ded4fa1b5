"""Today's defaults: amortised inversion of the beam profile, measured.

command  python experiments/beam_profile/npe.py --num-simulations fresh
         (or 10000, 100000; --references DIR scores on obs_<k>.npz of that folder)
device   CPU, GPU or TPU, unchanged
time     2 cores: fresh 4 to 6 minutes a flow, 100,000 2 to 4, 10,000 half a minute;
         20 s to score an observation
score    mean forest C2ST, cINN / spline: fresh, 20,000 steps 0.51 / 0.51; 10,000
         simulations 0.60 / 0.60; 100,000 0.52 / 0.53
"""

from dataclasses import dataclass, replace

import tyro
from config import NPE, npe

import flowinv as fi


@dataclass(frozen=True)
class Flags:
    """Flags of the script.

    Attributes:
        num_simulations: a number, or fresh.
        flows: flows to train.
        num_steps: steps with fresh simulations.
        observations: fixed observations to answer.
        num_heldout: held-out simulations for calibration.
        references: folder with obs_<k>.npz; "" takes the task's own.
        out: folder of the run; "" names it after the simulations.
        seed: seed of everything.
        resume: go on with an earlier run.
    """

    num_simulations: str = "fresh"
    flows: tuple[str, ...] = NPE.flow
    num_steps: int = NPE.train.num_steps
    observations: str = "1-10"
    num_heldout: int = 2_000
    references: str = ""
    out: str = ""
    seed: int = 0
    resume: bool = False


def main(flags: Flags) -> None:
    """Run and print the mean scores."""
    base = npe(flags.num_simulations)
    config = replace(
        base,
        flow=flags.flows,
        num_simulations=flags.num_simulations,
        out=flags.out or f"{base.out}-{flags.num_simulations}",
        seed=flags.seed,
        train=replace(base.train, num_steps=flags.num_steps),
        evaluate=replace(
            base.evaluate,
            observations=flags.observations,
            num_heldout=flags.num_heldout,
            references=flags.references,
        ),
    )
    metrics = fi.run(config, resume=flags.resume)
    for flow in flags.flows:
        for name, value in metrics.items():
            if name.startswith(
                (f"{flow}/mean/", f"{flow}/largest", f"{flow}/smallest")
            ):
                print(f"{name}: {value:.3f}")


if __name__ == "__main__":
    main(tyro.cli(Flags))
