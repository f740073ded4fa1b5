"""Which check sees which fault: power of every check of calibration, as a table.

command  python experiments/trust/power.py [SEEDS] > docs/power.md
device   CPU
time     2 cores: 5 minutes for 20 seeds (200 for right posteriors, of the quick checks)

Each seed is 1,000 simulations with 199 draws of a posterior that is right, or wrong in
one way. Two problems: a correlated normal posterior in 2-D, and one with two modes.
"""

import sys
from collections.abc import Callable
from typing import NamedTuple

import jax
import numpy as np
from scipy import stats

from flowinv.diagnostics.averaged import data_averaged
from flowinv.diagnostics.coverage import interval_coverage
from flowinv.diagnostics.lc2st import Places, lc2st
from flowinv.diagnostics.regions import quantity_ranks, region_coverage
from flowinv.diagnostics.sbc import sbc
from flowinv.diagnostics.tarp import references_near, tarp

SIMULATIONS, DRAWS = 1_000, 199
RIGHT_SEEDS, SEEDS = 200, 20
CAUGHT = 1e-3

# x = MIX theta + NOISE: theta's posterior has a correlation of -0.8.
MIX, NOISE = np.array([[1.0, 1.0], [0.3, -0.3]]), 0.35
PRECISION = np.eye(2) + MIX.T @ MIX / NOISE**2
COVARIANCE = np.linalg.inv(PRECISION)
MODE_NOISE = 0.3


class Asked(NamedTuple):
    """What checks get.

    Attributes:
        theta: true parameters, `[S, 2]`.
        x: what was simulated, `[S, 2]`.
        draws: `[S, n, 2]`.
        log_q: of the draws, and of the truth, `[S, n + 1]`.
        log_p: log-likelihood of the draws, and of the truth, `[S, n + 1]`.
    """

    theta: np.ndarray
    x: np.ndarray
    draws: np.ndarray
    log_q: np.ndarray
    log_p: np.ndarray


def normal(
    rng: np.random.Generator,
    width: float = 1.0,
    shift: float = 0.0,
    plain: bool = False,
) -> Asked:
    """A normal posterior: too narrow or wide, shifted in sds, or uncorrelated."""
    theta = rng.normal(size=(SIMULATIONS, 2))
    x = theta @ MIX.T + NOISE * rng.normal(size=theta.shape)
    mean = x @ MIX @ COVARIANCE / NOISE**2
    sd = np.sqrt(np.diag(COVARIANCE))
    covariance = width**2 * (np.diag(sd**2) if plain else COVARIANCE)
    mean = mean + shift * sd
    root = np.linalg.cholesky(covariance)
    draws = mean[:, None] + rng.normal(size=(SIMULATIONS, DRAWS, 2)) @ root.T
    every = np.concatenate([draws, theta[:, None]], 1)
    log_q = stats.multivariate_normal(np.zeros(2), covariance).logpdf(
        every - mean[:, None]
    )
    return Asked(theta, x, draws, log_q, _likelihood(every, x))


def prior_alone(rng: np.random.Generator) -> Asked:
    """A posterior that ignores x: the prior."""
    right = normal(rng)
    draws = rng.normal(size=right.draws.shape)
    every = np.concatenate([draws, right.theta[:, None]], 1)
    log_q = stats.norm.logpdf(every).sum(-1)
    return right._replace(draws=draws, log_q=log_q, log_p=_likelihood(every, right.x))


def _likelihood(theta: np.ndarray, x: np.ndarray) -> np.ndarray:
    return stats.norm.logpdf(x[:, None], theta @ MIX.T, NOISE).sum(-1)


def modes(rng: np.random.Generator, lost: bool = False) -> Asked:
    """x1 sees |theta1|: two modes, of which one may be lost."""
    theta = rng.normal(size=(SIMULATIONS, 2))
    seen = np.stack([np.abs(theta[:, 0]), theta[:, 1]], -1)
    x = seen + MODE_NOISE * rng.normal(size=theta.shape)
    scale = 1 / (1 + MODE_NOISE**2)
    mean, sd = scale * x, MODE_NOISE * np.sqrt(scale)
    cut = stats.truncnorm(-mean[:, :1] / sd, np.inf, loc=mean[:, :1], scale=sd)
    size = cut.rvs((SIMULATIONS, DRAWS), random_state=rng)
    sign = 1.0 if lost else rng.choice([-1.0, 1.0], size=size.shape)
    other = mean[:, 1:] + sd * rng.normal(size=size.shape)
    draws = np.stack([sign * size, other], -1)
    every = np.concatenate([draws, theta[:, None]], 1)
    log_q = cut.logpdf(np.abs(every[..., 0])) - (0.0 if lost else np.log(2))
    if lost:
        log_q = np.where(every[..., 0] > 0, log_q, -np.inf)
    log_q = log_q + stats.norm(mean[:, 1:], sd).logpdf(every[..., 1])
    along = np.stack([np.abs(every[..., 0]), every[..., 1]], -1)
    log_p = stats.norm.logpdf(x[:, None], along, MODE_NOISE).sum(-1)
    return Asked(theta, x, draws, log_q, log_p)


FAULTS: dict[str, Callable[[np.random.Generator], Asked]] = {
    "right (normal)": normal,
    "right (two modes)": modes,
    "0.7 times as wide": lambda rng: normal(rng, width=0.7),
    "1.5 times as wide": lambda rng: normal(rng, width=1.5),
    "shifted by 0.28 sd": lambda rng: normal(rng, shift=0.28),
    "the prior itself": prior_alone,
    "no correlation": lambda rng: normal(rng, plain=True),
    "one of two modes lost": lambda rng: modes(rng, lost=True),
}
RIGHT = tuple(name for name in FAULTS if name.startswith("right"))


def _sbc(key: jax.Array, a: Asked) -> float:
    return float(sbc(key, a.theta, a.draws).chi2_p_holm.min())


def _intervals(key: jax.Array, a: Asked) -> float:
    """Two-sided p of the 90 % intervals, Bonferroni over parameters."""
    ranks = sbc(key, a.theta, a.draws).ranks
    z = interval_coverage(ranks, DRAWS, [0.9]).z_score[0]
    return float(min(1.0, 2 * (2 * stats.norm.sf(np.abs(z))).min()))


def _regions(key: jax.Array, a: Asked) -> float:
    return region_coverage(a.log_q[:, -1], a.log_q[:, :-1], key=key).p


def _likelihood_ranks(key: jax.Array, a: Asked) -> float:
    ranks = quantity_ranks(key, a.log_p[:, -1], a.log_p[:, :-1])
    u = (ranks + np.asarray(jax.random.uniform(key, ranks.shape))) / (DRAWS + 1)
    return float(stats.kstest(u, "uniform").pvalue)


def _tarp(key: jax.Array, a: Asked) -> float:
    return tarp(key, a.theta, a.draws).p


def _tarp_near(key: jax.Array, a: Asked) -> float:
    near = references_near(key, a.theta, a.x)
    return tarp(key, a.theta, a.draws, near).p


def _averaged(key: jax.Array, a: Asked) -> float:
    del key
    return float(data_averaged(a.theta, a.draws).p_holm.min())


def _local(key: jax.Array, a: Asked) -> float:
    """At the first simulation, by 100 classifiers with random labels."""
    found = lc2st(key, a.theta, a.x, a.draws[:, 0], Places(a.x[:1], a.draws[:1]))
    return float(found.p[0])


CHECKS = {
    "SBC chi2": _sbc,
    "90 % intervals": _intervals,
    "regions": _regions,
    "SBC of log-likelihood": _likelihood_ranks,
    "TARP": _tarp,
    "TARP near x": _tarp_near,
    "averaged": _averaged,
    "L-C2ST at one x": _local,
}
SLOW = ("L-C2ST at one x",)


def p_values(fault: str, check: str, seeds: int) -> np.ndarray:
    """P-values of one check for many seeds, `[seeds]`."""
    found = []
    for seed in range(seeds):
        asked = FAULTS[fault](np.random.default_rng([seed, *fault.encode()]))
        found.append(CHECKS[check](jax.random.key(seed), asked))
    return np.array(found)


def main(seeds: int) -> None:
    """Print the table."""
    print("# Which check sees which fault\n")
    print("Made by `python experiments/trust/power.py`: 1,000 simulations, 199 draws")
    print("each. A cell: share of seeds with p < 0.001, and the median p. The rows of")
    print("right posteriors: share with p < 0.05, which should be 5 %.\n")
    print(f"| posterior | {' | '.join(CHECKS)} |\n| --- |{' --- |' * len(CHECKS)}")
    for fault in FAULTS:
        cells = []
        for check in CHECKS:
            right = fault in RIGHT
            count = RIGHT_SEEDS if right and check not in SLOW else seeds
            p = p_values(fault, check, count)
            if right:
                cells.append(f"{100 * (p < 0.05).mean():.1f} % of {count}")
            else:
                caught = f"{100 * (p < CAUGHT).mean():.0f} %"
                cells.append(f"{caught}, {np.median(p):.1g}")
            print(f"{fault}, {check}: {cells[-1]}", file=sys.stderr)
        print(f"| {fault} | {' | '.join(cells)} |", flush=True)
    print("\nL-C2ST counts against 100 classifiers: its smallest p is 0.0099.")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else SEEDS)
