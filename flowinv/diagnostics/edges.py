"""Check: does a posterior press on an edge of the prior? Words, no judgement.

A posterior right at an edge is cut by what the prior assumed, as much as it is told by
the data: calibration cannot see it, because held-out truths obey the same prior.
"""

from collections.abc import Sequence

import numpy as np

from flowinv.diagnostics.check import Check, Finding, Inputs, Numbers

__all__ = ["EDGES"]

PRESSED = 0.05
"""Share of draws in the prior's outer 1 % above which a posterior presses there."""


def _measure(inputs: Inputs) -> Numbers:
    tails = np.stack([answered.tails for answered in inputs.answered])
    return {
        "lowest_1_percent": tails[:, 0].max(0),
        "highest_1_percent": tails[:, 1].max(0),
    }


def _judge(numbers: Numbers, inputs: Inputs) -> Sequence[Finding | None]:
    del numbers
    return [_words(inputs, d) for d in range(len(inputs.names))]


def _words(inputs: Inputs, d: int) -> Finding | None:
    parts = []
    for side, word in enumerate(("lower", "upper")):
        pressed = [a.label for a in inputs.answered if a.tails[side, d] > PRESSED]
        if pressed:
            edge = inputs.edges[d][side]
            parts.append(f"the prior's {word} edge ({edge}) in {', '.join(pressed)}")
    if not parts:
        return None
    words = f"Presses on {' and '.join(parts)}: widen the prior if it may lie beyond."
    return Finding("unchecked", words)


EDGES = Check(
    name="edges",
    asks="Does the prior cut the answer?",
    limit="5 % of the draws in the prior's outer 1 %",
    meaning="Where it does, the answer is the prior's as much as the data's.",
    needs=lambda inputs: bool(inputs.answered),
    measure=_measure,
    judge=_judge,
)
