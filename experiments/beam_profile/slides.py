"""The slides' settings for the cINN and the spline flow, side by side.

command  python experiments/beam_profile/slides.py --num-simulations 10000
device   CPU, GPU or TPU, unchanged
time     2 cores: about 20 ms a step; 30 epochs of the cINN half a minute, 100 epochs of
         the spline one and a half, for 10,000 simulations
score    10,000 simulations, spline, RMSE of the mean: 0.28, 0.24, 0.20, 0.20 grid units
"""

from dataclasses import dataclass, replace

import tyro
from config import SLIDES_EPOCHS, slides

import flowinv as fi
from flowinv.checks import check_known


@dataclass(frozen=True)
class Flags:
    """Flags of the script.

    Attributes:
        flows: flows to train.
        num_simulations: size of the fixed set.
        prior: slides (stds from 5) or today (stds from 1).
        out: folder that the runs go below.
        seed: seed of everything.
        resume: go on with earlier runs.
    """

    flows: tuple[str, ...] = ("cinn", "spline")
    num_simulations: int = 10_000
    prior: str = "slides"
    out: str = "runs"
    seed: int = 0
    resume: bool = False


def main(flags: Flags) -> None:
    """Train each flow and print its errors on held-out simulations."""
    for flow in flags.flows:
        check_known("flow", flow, SLIDES_EPOCHS)
        config = replace(
            slides(flow, flags.num_simulations),
            task=f"beam_profile:prior={flags.prior}",
            out=f"{flags.out}/slides-{flow}",
            seed=flags.seed,
        )
        metrics = fi.run(config, resume=flags.resume)
        for name in fi.task(config.task).prior.names:
            rmse, r2 = (
                metrics[f"{flow}/{what}/mean/{name}"] for what in ("rmse", "r2")
            )
            print(f"{flow:7} {name:7} RMSE {rmse:.4f}  R2 {r2:.6f}")


if __name__ == "__main__":
    main(tyro.cli(Flags))
