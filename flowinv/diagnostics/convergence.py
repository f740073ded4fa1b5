"""Check: have the rounds ended where they would stay?

What rounds say of themselves: how far the last round moved the posterior, what of it
lies where the rounds before could not look, and where no simulation has ever been.
"""

from collections.abc import Sequence

from flowinv.diagnostics.check import (
    STATUSES,
    Check,
    Finding,
    Inputs,
    LastRound,
    Numbers,
    of_answers,
    said_of_all,
)

__all__ = ["CONVERGENCE"]

LIMITS = {
    "distance": (0.5, 1.5),
    "mass_outside": (0.01, 0.05),
    "unsimulated": (0.01, 0.05),
}
"""Figure of the last round to the values above which it is called off, and false."""
WORDS = {
    "distance": "it still moved by {:.2g} sd in the last round",
    "mass_outside": "{:.1%} of it lies outside the region of the last round",
    "unsimulated": "{:.1%} of it lies where nothing was simulated",
}


def _measure(inputs: Inputs) -> Numbers:
    return of_answers(inputs, lambda answered: answered.last_round, "last")


def _judge(numbers: Numbers, inputs: Inputs) -> Sequence[Finding | None]:
    del numbers
    status, words = STATUSES[0], []
    for answered in inputs.answered:
        found = _off(answered.last_round)
        for name, own in found.items():
            status = max(status, own, key=STATUSES.index)
            figure = WORDS[name].format(getattr(answered.last_round, name))
            words.append(f"{answered.label}: {figure}")
    text = f"Not converged ({'; '.join(words)}): run more rounds."
    return said_of_all(inputs, Finding(status, text) if words else None)


def _off(last: LastRound | None) -> dict[str, str]:
    """Figures beyond a limit, with what follows; NaN is beyond all."""
    found = {}
    if last is not None:
        for name, (most, far) in LIMITS.items():
            value = getattr(last, name)
            if not value <= far:
                found[name] = "not trusted"
            elif value > most:
                found[name] = "caution"
    return found


CONVERGENCE = Check(
    name="convergence",
    asks="Would another round change the answer?",
    limit="moved by 0.5 sd, 1 % outside the last region or where nothing was simulated",
    meaning="Rounds that have not settled answer for the region that they looked at.",
    needs=lambda inputs: any(a.last_round is not None for a in inputs.answered),
    measure=_measure,
    judge=_judge,
)
"""The row of the table."""
