"""The table of checks, and what they say together."""

from flowinv.diagnostics.accuracy import ACCURACY
from flowinv.diagnostics.answers import ANSWERS
from flowinv.diagnostics.averaged import AVERAGED
from flowinv.diagnostics.calibration import CALIBRATION
from flowinv.diagnostics.check import (
    STATUSES,
    Check,
    Finding,
    Inputs,
    Results,
    Verdict,
)
from flowinv.diagnostics.conformal import CONFORMAL
from flowinv.diagnostics.convergence import CONVERGENCE
from flowinv.diagnostics.disagreement import MEMBERS
from flowinv.diagnostics.edges import EDGES
from flowinv.diagnostics.exactness import EXACTNESS
from flowinv.diagnostics.fits import FITS
from flowinv.diagnostics.importance import WEIGHTS
from flowinv.diagnostics.information import INFORMATION
from flowinv.diagnostics.lc2st import LOCAL
from flowinv.diagnostics.likeness import LIKENESS
from flowinv.diagnostics.predictive import PREDICTIVE
from flowinv.diagnostics.regions import REGIONS
from flowinv.diagnostics.tarp import BALLS

__all__ = ["CHECKS", "run_checks"]

CHECKS: tuple[Check, ...] = (
    ANSWERS,
    ACCURACY,
    CALIBRATION,
    REGIONS,
    BALLS,
    AVERAGED,
    INFORMATION,
    CONFORMAL,
    EXACTNESS,
    WEIGHTS,
    LOCAL,
    MEMBERS,
    CONVERGENCE,
    PREDICTIVE,
    LIKENESS,
    EDGES,
    FITS,
)

NOTHING = "Nothing was measured that could judge it."


def run_checks(inputs: Inputs, checks: tuple[Check, ...] = CHECKS) -> Results:
    """Run every check whose inputs are there; the worst finding is the verdict.

    Args:
        inputs: arrays.
        checks: rows of the table.
    """
    numbers, findings = {}, []
    for check in checks:
        found = dict(check.measure(inputs)) if check.needs(inputs) else {}
        if found:
            numbers[check.name] = found
            if check.judge is not None:
                findings.append(check.judge(numbers[check.name], inputs))
    verdicts = [
        _verdict(name, [row[d] for row in findings if row[d] is not None])
        for d, name in enumerate(inputs.names)
    ]
    return Results(inputs.names, numbers, tuple(verdicts))


def _verdict(parameter: str, found: list[Finding]) -> Verdict:
    status = max((f.status for f in found), key=STATUSES.index, default=STATUSES[0])
    words = [finding.words for finding in found]
    if status == STATUSES[0]:
        words.insert(0, NOTHING)
    return Verdict(parameter, status, " ".join(words))
