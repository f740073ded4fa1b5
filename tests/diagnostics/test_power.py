"""Every fault is seen by a named check, and right posteriors are left alone.

The faults and checks are those of experiments/trust/power.py, which makes the table of
docs/power.md.
"""

import importlib.util
from pathlib import Path

import pytest

FILE = Path(__file__).parents[2] / "experiments" / "trust" / "power.py"
SEES = {
    "0.7 times as wide": ("SBC chi2", "90 % intervals", "regions", "TARP"),
    "1.5 times as wide": ("SBC chi2", "90 % intervals", "regions", "TARP"),
    "shifted by 0.28 sd": ("SBC chi2",),
    "the prior itself": ("SBC of log-likelihood", "TARP near x"),
    "no correlation": ("regions", "SBC of log-likelihood"),
    "one of two modes lost": ("SBC chi2", "averaged", "regions"),
}


@pytest.fixture(scope="module")
def power():
    spec = importlib.util.spec_from_file_location("power", FILE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("fault", SEES)
def test_every_fault_is_caught(power, fault):
    for check in SEES[fault]:
        assert power.p_values(fault, check, 1)[0] < 1e-3, check


def test_the_blind_spots_are_as_the_documents_say(power):
    """The prior passes checks of parameters; lost correlations pass them too."""
    for fault in ("the prior itself", "no correlation"):
        assert power.p_values(fault, "SBC chi2", 1)[0] > 1e-3
    assert power.p_values("the prior itself", "TARP", 1)[0] > 1e-3


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["right (normal)", "right (two modes)"])
def test_right_posteriors_pass_at_the_stated_rate(power, kind):
    """200 seeds, p < .05 in 10 +- 3.1: more than 25 once in 50,000 a check."""
    for check in power.CHECKS:
        if check not in power.SLOW:
            p = power.p_values(kind, check, 200)
            assert (p < 0.05).sum() <= 25, check
            assert p.min() > 1e-5
