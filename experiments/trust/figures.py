"""Pictures of docs/trust.md: what checks look like for right and wrong posteriors.

command  python experiments/trust/figures.py docs/figures
device   CPU
time     10 s
"""

import sys
from pathlib import Path

import jax
import numpy as np

from flowinv.diagnostics.calibration import calibration_curves
from flowinv.diagnostics.sbc import rank_test, sbc_ranks
from flowinv.report.plots import coverage_curves, ecdf_differences, rank_histograms

SIMULATIONS, DRAWS = 1_000, 199
# Width and shift of the posterior, in sds of the right one.
KINDS = {
    "right": (1.0, 0.0),
    "overconfident": (0.7, 0.0),
    "underconfident": (1.5, 0.0),
    "biased": (1.0, 0.4),
}


def main(folder: Path) -> None:
    """Draw every kind."""
    folder.mkdir(parents=True, exist_ok=True)
    rng, every, ranks = np.random.default_rng(0), {}, []
    for kind, (width, shift) in KINDS.items():
        theta = rng.normal(size=(SIMULATIONS, 1))
        draws = shift + width * rng.normal(size=(SIMULATIONS, DRAWS, 1))
        own = np.asarray(sbc_ranks(jax.random.key(0), theta, draws))
        # All parameters together: a normal's density falls with the distance.
        far = -np.abs(draws - shift)[..., 0]
        density = (far < -np.abs(theta - shift)).sum(1)
        every[kind] = calibration_curves(own, DRAWS, density)
        ranks.append(own)
    side_by_side = np.concatenate(ranks, 1)
    p = rank_test(side_by_side, DRAWS).chi2_p
    together = calibration_curves(side_by_side, DRAWS)
    figures = {
        "ranks": rank_histograms(together, p, list(KINDS)),
        "ecdf": ecdf_differences(every, ["theta"]),
        "coverage": coverage_curves(every, ["theta"]),
    }
    for name, figure in figures.items():
        figure.savefig(folder / f"trust-{name}.png", dpi=110)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
