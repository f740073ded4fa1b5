"""The predictive check: right observations pass, those of another instrument do not."""

import numpy as np
import pytest

from flowinv.diagnostics.check import Answered, Inputs
from flowinv.diagnostics.predictive import predictive_check
from flowinv.diagnostics.table import run_checks

RNG = np.random.default_rng(0)
GRID = np.linspace(-3, 3, 60)


def scans(centre, rng=RNG, width=1.0, amplitude=200.0):
    """Counts of a peak on a background, one scan for each centre."""
    peak = np.exp(-0.5 * ((GRID - np.asarray(centre)[..., None]) / width) ** 2)
    return rng.poisson(5.0 + amplitude * peak).astype(float)


def posterior(rng, truth, count):
    """Draws about as wide as the exact posterior of the centre, shifted like it."""
    sd = 1.0 / np.sqrt(200.0 * 2.5 * 60 / 6.0 / 1.2)
    return truth + sd * rng.normal() + sd * rng.normal(size=count)


def test_right_scans_are_called_off_at_most_once_in_a_hundred():
    """1,000 scans: 10 are expected at most; more than 20 once in 600 (Poisson)."""
    rng, called = np.random.default_rng(1), 0
    for truth in rng.normal(size=1_000):
        found = predictive_check(
            scans(truth, rng), scans(posterior(rng, truth, 200), rng)
        )
        called += found.p < 0.01
    assert called <= 20


@pytest.mark.parametrize(
    "spoil",
    [
        lambda x: x + 50,
        lambda x: x / x.max(),
        lambda x: 0 * x,
        lambda x: 10 * x,
        lambda x: np.where(np.arange(60) == 30, 0, x),
        lambda x: np.cumsum(x) / 10,
        lambda x: x + scans(2.5),
    ],
    ids=["background", "normalised", "zero", "brighter", "dead", "knife", "second"],
)
def test_faults_are_seen(spoil):
    x = scans(0.0)
    found = predictive_check(spoil(x), scans(posterior(RNG, 0.0, 200)))
    assert found.p < 0.01
    assert found.distance > 4
    right = predictive_check(x, scans(posterior(RNG, 0.0, 200)))
    assert right.p > 0.01


def test_numbers_by_hand():
    rows = RNG.normal(size=(50, 3))
    x = np.array([0.1, 7.0, -0.2])
    found = predictive_check(x, rows)
    assert found.worst == 1
    sd = rows.std(0, ddof=1)
    assert found.worst_sds == pytest.approx((7.0 - rows[:, 1].mean()) / sd[1])
    total = (((x - rows.mean(0)) / sd) ** 2).sum()
    own = []
    for i in range(50):
        rest = np.delete(rows, i, 0)
        own.append((((rows[i] - rest.mean(0)) / rest.std(0, ddof=1)) ** 2).sum())
    expected = (total - np.mean(own)) / np.std(own)
    assert found.distance == pytest.approx(expected, rel=1e-6)
    assert found.p == pytest.approx((1 + (np.array(own) >= total).sum()) / 51)


def test_failed_simulations_are_left_out_and_too_few_say_nothing():
    rows = RNG.normal(size=(60, 2))
    spoiled = np.concatenate([rows, [[np.nan, 0.0], [np.inf, 1.0]]])
    assert predictive_check(rows[0], spoiled) == predictive_check(rows[0], rows)
    assert predictive_check(rows[0], rows[:19]) is None


def test_a_constant_that_is_right_is_no_fault():
    rows = np.concatenate([RNG.normal(size=(60, 2)), np.ones((60, 1))], 1)
    assert predictive_check(np.array([0.0, 0.0, 1.0]), rows).p > 0.01
    assert predictive_check(np.array([0.0, 0.0, 1.1]), rows).p < 0.02


def test_verdicts_name_the_observation_and_the_worst_number():
    draws, tails = RNG.normal(size=(300, 1)), np.zeros((2, 1))
    simulated = scans(posterior(RNG, 0.0, 200))

    def verdict(x):
        answered = Answered("mine", draws, tails, None, x, simulated)
        inputs = Inputs(("a",), (("0", "1"),), None, (answered,), ())
        results = run_checks(inputs)
        assert "mine/predictive_p" in results.flat()
        return results.verdicts[0]

    assert verdict(scans(0.0)).status == "unchecked"
    dead = scans(0.0)
    dead[29] = 0
    bad = verdict(dead)
    assert bad.status in ("caution", "not trusted")
    assert "does not explain mine" in bad.words
    assert "number 30 of x" in bad.words
    assert verdict(0 * dead).status == "not trusted"
