"""The last round's figures against their limits."""

import numpy as np
import pytest

from flowinv.diagnostics.check import Answered, Inputs, LastRound
from flowinv.diagnostics.table import run_checks

GOOD = LastRound(0.2, 0.0, 0.0, 900.0)


def verdict(*rounds):
    draws, tails = np.random.default_rng(0).normal(size=(300, 1)), np.zeros((2, 1))
    answered = tuple(
        Answered(f"scan {k}", draws, tails, last_round=last)
        for k, last in enumerate(rounds)
    )
    return run_checks(Inputs(("a",), (("0", "1"),), None, answered, ()))


def test_rounds_that_have_settled_say_nothing():
    results = verdict(GOOD, GOOD._replace(distance=0.49, mass_outside=0.009))
    assert results.verdicts[0].status == "unchecked"
    assert results.flat()["scan_1/last_distance"] == 0.49


@pytest.mark.parametrize(
    ("name", "caution", "far", "words"),
    [
        ("distance", 0.7, 2.0, "still moved by 0.7 sd"),
        ("mass_outside", 0.02, 0.78, "2.0% of it lies outside the region"),
        ("unsimulated", 0.018, 0.2, "1.8% of it lies where nothing was simulated"),
    ],
)
def test_each_figure_is_judged(name, caution, far, words):
    found = verdict(GOOD, GOOD._replace(**{name: caution})).verdicts[0]
    assert found.status == "caution"
    assert words in found.words
    assert "scan 1" in found.words
    assert "scan 0" not in found.words
    for value in (far, np.nan):
        found = verdict(GOOD._replace(**{name: value}), GOOD).verdicts[0]
        assert found.status == "not trusted"
