"""What a check is: from arrays to named numbers, and from numbers to a judgement.

A check is one file and one row of `flowinv.diagnostics.table`. It gets arrays and knows
no posterior, simulator or page. Numbers go to `metrics.json`, judgements to the
verdicts; a page shows both and computes neither.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

__all__ = [
    "STATUSES",
    "Answered",
    "Check",
    "Finding",
    "HeldOut",
    "Inputs",
    "LastRound",
    "Numbers",
    "Results",
    "Verdict",
    "labelled",
    "of_answers",
    "of_label",
    "said_of_all",
]

STATUSES = ("unchecked", "trusted", "caution", "not trusted")
"""From no evidence to the worst."""

Numbers = Mapping[str, float | np.ndarray]
"""Names to numbers, or to arrays `[D]` with one for each parameter."""


def labelled(label: str, numbers: Numbers) -> dict[str, float | np.ndarray]:
    """Numbers of one observation under its name."""
    return {f"{_slug(label)}/{what}": value for what, value in numbers.items()}


def of_label(numbers: Numbers, label: str) -> dict[str, float | np.ndarray]:
    """Numbers of one observation by their own names; empty where it has none."""
    start = f"{_slug(label)}/"
    return {n.removeprefix(start): v for n, v in numbers.items() if n.startswith(start)}


def _slug(label: str) -> str:
    return label.replace(" ", "_")


@dataclass(frozen=True)
class HeldOut:
    """New simulations and what a posterior says about each.

    Attributes:
        theta: true parameters, `[S, D]`.
        draws: posterior draws, `[S, n, D]`.
        log_q: their log density under the posterior, `[S, n]`.
        log_q_true: log density of the true parameters, `[S]`.
        ranks: ranks of the truth among the draws, ties broken at random, `[S, D]`.
        mode: points of highest density, `[S, D]`, or None.
        x: the first of the simulations, 1,000 at most, `[m, *x_shape]`, or None.
        log_p: log-likelihood of some of the draws, `[S, m]`, or None.
        log_p_true: log-likelihood of the true parameters, `[S]`, or None.
        context: what the network is told of each of these x, `[m, C]`, or None.
    """

    theta: np.ndarray
    draws: np.ndarray
    log_q: np.ndarray
    log_q_true: np.ndarray
    ranks: np.ndarray
    mode: np.ndarray | None = None
    x: np.ndarray | None = None
    log_p: np.ndarray | None = None
    log_p_true: np.ndarray | None = None
    context: np.ndarray | None = None

    @property
    def num_samples(self) -> int:
        """Draws behind every rank."""
        return self.draws.shape[1]

    def density_ranks(self) -> np.ndarray:
        """Ranks of the truth's log density among those of its draws, `[S]`."""
        return (self.log_q < self.log_q_true[:, None]).sum(1)

    def estimates(self) -> dict[str, np.ndarray]:
        """Point estimates by name, `[S, D]` each."""
        mean = self.draws.mean(1, dtype=np.float64)
        found = {"mean": mean, "median": np.median(self.draws, 1)}
        return found if self.mode is None else {**found, "MAP": self.mode}

    def errors_in_sds(self) -> np.ndarray:
        """(mean - truth) / sd of every posterior, `[S, D]`."""
        sd = np.maximum(self.draws.std(1, dtype=np.float64), 1e-30)
        return (self.draws.mean(1, dtype=np.float64) - self.theta) / sd


class LastRound(NamedTuple):
    """What the last of some rounds says of itself.

    Attributes:
        distance: how far it moved the posterior, in its sds.
        mass_outside: share of the posterior outside the region of the round.
        unsimulated: share of the posterior beyond all simulated parameters.
        num_effective: rows that the network learned from, as so many of equal weight.
    """

    distance: float
    mass_outside: float
    unsimulated: float
    num_effective: float


@dataclass(frozen=True)
class Answered:
    """What a posterior says about one observation, and what is known about it.

    Attributes:
        label: name of the observation.
        draws: posterior draws, `[n, D]`.
        tails: shares of the draws in the prior's lowest and highest 1 %, `[2, D]`.
        exact: draws of the exact posterior `[m, D]`, or None.
        x: the observation, `[*x_shape]`, or None.
        predictive: simulations from posterior draws, `[m, *x_shape]`, or None.
        last_round: of an answer in rounds, or None.
        seen: simulations that an answer in rounds learned from last,
            `[m, *x_shape]`, or None.
        fit: parameters and errors of the classical fit, `[D]` each, or None.
        weighing: log-likelihood, log prior and log q of the draws, `[n]` each; or None
            where the likelihood is not known or was not asked for.
        members: draws of each network of an ensemble, `[M, n, D]`, or None.
        context: what the network is told of x, `[C]`, and of the simulations in `seen`,
            `[m, C]` or None; or None.
        panels: names and lengths of the parts of a flat x; none for one part.
        statistics: functions of a flat x by name, `[m, L]` to `[m]`, before those that
            every x has.
        asked: x as the network takes it and as `seen` holds it, where that is more
            than `x` (positions beside the signal); else None.
    """

    label: str
    draws: np.ndarray
    tails: np.ndarray
    exact: np.ndarray | None = None
    x: np.ndarray | None = None
    predictive: np.ndarray | None = None
    last_round: LastRound | None = None
    seen: np.ndarray | None = None
    fit: tuple[np.ndarray, np.ndarray] | None = None
    weighing: tuple[np.ndarray, np.ndarray, np.ndarray] | None = None
    members: np.ndarray | None = None
    context: tuple[np.ndarray, np.ndarray | None] | None = None
    panels: tuple[tuple[str, int], ...] = ()
    statistics: Mapping[str, Callable[[np.ndarray], np.ndarray]] = field(
        default_factory=dict
    )
    asked: np.ndarray | None = None


@dataclass(frozen=True)
class Inputs:
    """All that checks may ask for; what is absent leaves checks out.

    Attributes:
        names: parameter names, D of them.
        edges: lowest and highest value of each parameter in words, `[D]` pairs.
        held_out: new simulations, or None.
        answered: observations that were answered.
        classifiers: C2ST classifiers to train.
        thorough: checks that take long are asked for.
    """

    names: tuple[str, ...]
    edges: tuple[tuple[str, str], ...]
    held_out: HeldOut | None = None
    answered: tuple[Answered, ...] = ()
    classifiers: tuple[str, ...] = ("mlp", "forest")
    thorough: bool = False


class Finding(NamedTuple):
    """What a check says about one parameter.

    Attributes:
        status: one of `STATUSES`; "unchecked" for words without a judgement.
        words: a sentence.
    """

    status: str
    words: str


def of_answers(
    inputs: Inputs, figures: Callable[[Answered], Any], prefix: str
) -> Numbers:
    """Figures of every answer that has any, named `label/prefix_field`."""
    numbers: dict[str, float | np.ndarray] = {}
    for answered in inputs.answered:
        found = figures(answered)
        if found is not None:
            own = {f"{prefix}_{k}": v for k, v in found._asdict().items()}
            numbers |= labelled(answered.label, own)
    return numbers


class Below(NamedTuple):
    """An answer that a limit calls off, and its numbers."""

    label: str
    numbers: Numbers


def below(numbers: Numbers, inputs: Inputs, what: str, limit: float) -> list[Below]:
    """Answers whose number `what` is below `limit`, with all their numbers."""
    every = ((a.label, of_label(numbers, a.label)) for a in inputs.answered)
    return [Below(label, own) for label, own in every if own.get(what, limit) < limit]


def beyond(
    numbers: Numbers, inputs: Inputs, what: str, limit: float, digits: int = 1
) -> list[str]:
    """Answers whose `what` is above `limit`, in words: one text for each parameter.

    A parameter without one has "".
    """
    every = [(a.label, of_label(numbers, a.label).get(what)) for a in inputs.answered]
    return [
        ", ".join(
            f"{label} ({own[d]:.{digits}f})"
            for label, own in every
            if own is not None and own[d] > limit
        )
        for d in range(len(inputs.names))
    ]


def finite_rows(simulated: np.ndarray, least: int) -> np.ndarray | None:
    """Finite rows of simulations, flat, in float64; None for fewer than `least`."""
    rows = np.asarray(simulated, np.float64).reshape(len(simulated), -1)
    rows = rows[np.isfinite(rows).all(-1)]
    return None if len(rows) < least else rows


def least_spread(rows: Any) -> Any:
    """Rounding of each column: a number that hardly varies is known to that."""
    return 1e-6 * abs(rows).max(0) + 1e-30


def said_of_all(inputs: Inputs, finding: Finding | None) -> list[Finding | None]:
    """The same finding, or None, for every parameter."""
    return [finding] * len(inputs.names)


class Check(NamedTuple):
    """One row of the table.

    Attributes:
        name: of the check.
        asks: the question that it answers.
        limit: what is judged by which limit, in words.
        meaning: what to make of it, one sentence.
        needs: whether the inputs hold what it needs.
        measure: inputs to numbers; none where what is there is too little.
        judge: numbers and inputs to one `Finding` (or None) for each parameter;
            None where numbers speak for themselves.
    """

    name: str
    asks: str
    limit: str
    meaning: str
    needs: Callable[[Inputs], bool]
    measure: Callable[[Inputs], Numbers]
    judge: Callable[[Numbers, Inputs], Sequence[Finding | None]] | None = None


@dataclass(frozen=True)
class Verdict:
    """What can be said about one parameter of one model.

    Attributes:
        parameter: its name.
        status: one of `STATUSES`.
        words: the reasons, one sentence of each check.
    """

    parameter: str
    status: str
    words: str


@dataclass(frozen=True)
class Results:
    """Numbers of all checks that ran, and a verdict for each parameter.

    Attributes:
        names: parameter names.
        numbers: check to its numbers.
        verdicts: in the order of the parameters.
    """

    names: tuple[str, ...] = ()
    numbers: dict[str, dict[str, float | np.ndarray]] = field(default_factory=dict)
    verdicts: tuple[Verdict, ...] = ()

    def flat(self) -> dict[str, float | str]:
        """Every number and verdict as one entry: `what`, or `what/parameter`."""
        found: dict[str, float | str] = {}
        for numbers in self.numbers.values():
            for what, value in numbers.items():
                if np.ndim(value):
                    pairs = zip(self.names, value, strict=True)
                    found |= {f"{what}/{name}": float(v) for name, v in pairs}
                else:
                    found[what] = float(value)
        for verdict in self.verdicts:
            found[f"verdict/{verdict.parameter}"] = verdict.status
        return found
