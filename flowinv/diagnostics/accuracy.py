"""Check: how far are point estimates from the truth? Numbers without a judgement."""

from flowinv.diagnostics.check import Check, Inputs, Numbers
from flowinv.diagnostics.estimates import estimate_errors

__all__ = ["ACCURACY"]


def _measure(inputs: Inputs) -> Numbers:
    truth = inputs.held_out.theta
    numbers = {
        f"{what}/{kind}": values
        for kind, estimate in inputs.held_out.estimates().items()
        for what, values in estimate_errors(truth, estimate)._asdict().items()
    }
    # 1 if the posterior is as wide as its mean is off.
    return {**numbers, "error_in_sds": inputs.held_out.errors_in_sds().std(0)}


ACCURACY = Check(
    name="accuracy",
    asks="How far are point estimates from the truth?",
    limit="none: noise in the data sets the floor",
    meaning="Root mean squared error, share of variance explained, and bias.",
    needs=lambda inputs: inputs.held_out is not None,
    measure=_measure,
)
