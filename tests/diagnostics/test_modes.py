"""Separate ranges of a parameter."""

import numpy as np
import pytest
from scipy import stats

from flowinv.diagnostics.modes import separate_parts

ONE_MODE = {
    "normal": lambda rng, n: rng.normal(size=n),
    "uniform": lambda rng, n: rng.uniform(size=n),
    "exponential": lambda rng, n: rng.exponential(size=n),
    "student": lambda rng, n: rng.standard_t(2, size=n),
    "edges": lambda rng, n: rng.beta(0.5, 0.5, size=n),
    "far": lambda rng, n: 1e6 + rng.normal(size=n),
    "lognormal": lambda rng, n: rng.lognormal(size=n),
}


@pytest.mark.parametrize("name", ONE_MODE)
def test_one_mode_is_one_part(name):
    """200 sets each, of 1,000 and 5,000 draws: no false alarm, fixed seeds."""
    rng = np.random.default_rng(0)
    for size in (1_000, 5_000):
        for _ in range(100):
            assert len(separate_parts(ONE_MODE[name](rng, size))) == 1


def test_two_modes_are_two_parts_with_their_shares():
    rng = np.random.default_rng(0)
    for apart, share in ((10.0, 0.5), (8.0, 0.2), (50.0, 0.85)):
        second = rng.uniform(size=10_000) < share
        draws = rng.normal(size=10_000) + apart * second
        low, high = separate_parts(draws)
        ends = stats.norm.ppf([0.025 / (1 - share), 1 - 0.025 / share])
        assert low.low == pytest.approx(ends[0], abs=0.3)
        assert high.high == pytest.approx(apart + ends[1], abs=0.3)
        assert low.high < apart / 2 < high.low
        assert high.share == pytest.approx(share, abs=0.03)
        assert low.share + high.share == pytest.approx(1.0, abs=0.02)


def test_modes_that_touch_are_one_part():
    """Two normals 3 sds apart have a dip, not a gap."""
    rng = np.random.default_rng(0)
    draws = rng.normal(size=10_000) + 3.0 * (rng.uniform(size=10_000) < 0.5)
    assert len(separate_parts(draws)) == 1


def test_few_draws_or_equal_ones_are_one_part():
    rng = np.random.default_rng(0)
    few = rng.normal(size=999) + 50.0 * (rng.uniform(size=999) < 0.5)
    assert len(separate_parts(few)) == 1
    assert separate_parts(np.full(2_000, 3.0)) == ((3.0, 3.0, 1.0),)
