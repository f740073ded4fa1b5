"""The guarantee of recalibrated regions, by simulation, and factors on widths."""

import numpy as np
import pytest
from scipy import stats

from flowinv.diagnostics.conformal import recalibrate, width_factor


def simulated(rng, count, factor):
    """log q of truths and of draws of a normal in 2-D whose sds are off by a factor."""
    q = stats.norm(scale=factor)
    theta = rng.normal(size=(count, 2))
    draws = factor * rng.normal(size=(count, 99, 2))
    return q.logpdf(theta).sum(-1), q.logpdf(draws).sum(-1)


@pytest.mark.parametrize("factor", [0.5, 1.0, 2.0])
def test_regions_hold_what_they_guarantee(factor):
    """Mean coverage of 400 recalibrations by 99 simulations each, of 90 %.

    Between .9 and .91; each is asked about 100 new simulations: error
    sqrt(.09 / 40,000 + .0009 / 400) = .0021; five of them.
    """
    rng, held = np.random.default_rng(0), []
    for _ in range(400):
        found = recalibrate(*simulated(rng, 99, factor))
        true, drawn = simulated(rng, 100, factor)
        held.append((true >= found.threshold(drawn, 0.9)).mean())
    assert 0.9 - 0.0105 < np.mean(held) < 0.91 + 0.0105


@pytest.mark.parametrize("shift", [0.0, 1.0])
def test_regions_hold_what_they_guarantee_however_wrong_the_network_is(shift):
    """Truths skewed (exponential), tails as wide as x says; draws normal, of one width
    for every x, and shifted. Errors as above."""
    rng, held = np.random.default_rng(1), []
    q = stats.norm(shift, 1.0)

    def rows(count):
        scale = rng.uniform(0.2, 3.0, size=(count, 1))
        theta = scale * rng.exponential(size=(count, 2))
        draws = rng.normal(shift, 1.0, size=(count, 99, 2))
        return q.logpdf(theta).sum(-1), q.logpdf(draws).sum(-1)

    for _ in range(400):
        found = recalibrate(*rows(99))
        true, drawn = rows(100)
        held.append((true >= found.threshold(drawn, 0.9)).mean())
    assert 0.9 - 0.0105 < np.mean(held) < 0.91 + 0.0105


def test_wrong_widths_show_in_the_mass_of_a_region():
    """In 2-D the region that holds 90 % of truths has the mass 1 - .1^(1 / f^2)."""
    rng = np.random.default_rng(0)
    for factor in (0.7, 1.0, 2.0):
        true, drawn = simulated(rng, 4_000, factor)
        mass = recalibrate(true, drawn).mass(drawn, 0.9)
        assert mass == pytest.approx(1 - 0.1 ** (1 / factor**2), abs=0.03)


@pytest.mark.parametrize("factor", [0.6, 1.0, 1.7])
def test_factors_undo_wrong_widths(factor):
    rng = np.random.default_rng(0)
    theta = rng.normal(size=(2_000, 3))
    draws = factor * rng.normal(size=(2_000, 199, 3))
    found = width_factor(theta, draws)
    assert (np.abs(found.factor - 1 / factor) < 5 * found.error).all()


def test_bad_input():
    few = recalibrate(np.zeros(9), np.zeros((9, 5)))
    with pytest.raises(ValueError, match="Hold out 19 simulations at least"):
        few.depth(0.95)
    with pytest.raises(ValueError, match="level in"):
        few.depth(1.0)
    with pytest.raises(ValueError, match="log_q_true with shape"):
        recalibrate(np.zeros(8), np.zeros((9, 5)))
