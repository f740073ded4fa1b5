"""The predictive check: right observations pass, those of another instrument do not."""

import numpy as np
import pytest

from flowinv.diagnostics.check import Answered, Inputs
from flowinv.diagnostics.predictive import P_LIMIT, predictive_check
from flowinv.diagnostics.statistics import panel_statistics, statistic_p
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
    """1,000 scans: 10 are expected at most, by both tests together; more than 20 once
    in 600 (Poisson)."""
    rng = np.random.default_rng(1)
    truth = rng.normal(size=1_000)
    x = scans(truth, rng)
    simulated = scans([posterior(rng, own, 200) for own in truth], rng)
    whole = predictive_check(x, simulated, many=True).p
    of_statistics = statistics(x, simulated).p_all
    assert (np.minimum(whole, of_statistics) < P_LIMIT).sum() <= 20


def test_a_count_that_no_simulation_has_is_as_rare_in_x_as_in_them():
    """1,000 sparse counts: 5 are expected at most, more than 14 once in 4,000."""
    rng = np.random.default_rng(1)
    x, simulated = (rng.poisson(0.005, (1_000, *m, 100)) for m in ((), (200,)))
    alone = ((x > 0) & (simulated == 0).all(1)).any(-1)
    assert alone.mean() > 0.1
    found = predictive_check(np.float32(x), np.float32(simulated), many=True)
    assert (found.p < P_LIMIT).sum() <= 14


def test_many_are_as_each_alone():
    rng = np.random.default_rng(2)
    x = scans(np.zeros(4), rng)
    simulated = scans([posterior(rng, 0.0, 30) for _ in x], rng)
    simulated[1, 3, 5] = np.nan  # left out
    simulated[2, 19:] = np.inf  # too few
    for many, alone in (
        (predictive_check(x, simulated, many=True), predictive_check),
        (statistics(x, simulated), statistics),
    ):
        fields = [name for name in many._fields if name != "names"]
        for s in (0, 1, 3):
            own = alone(x[s], simulated[s])
            for name in fields:
                expected = getattr(own, name)
                np.testing.assert_allclose(getattr(many, name)[s], expected, rtol=1e-9)
        assert alone(x[2], simulated[2]) is None
        assert np.isnan(many[-1 if many._fields[0] == "names" else 0][2])
    kept = np.delete(simulated[1], 3, 0)
    assert predictive_check(x[1], kept) == predictive_check(x[1], simulated[1])
    with pytest.raises(ValueError, match="simulated with an axis of simulations more"):
        predictive_check(x, simulated)


def statistics(x, simulated, panels=()):
    """Of one observation, or of many."""
    own = panel_statistics(x[..., None, :], panels)
    return statistic_p(
        {name: value[..., 0] for name, value in own.items()},
        panel_statistics(simulated, panels),
    )


@pytest.mark.parametrize(
    ("spoil", "names"),
    [
        (lambda x: x + 8, {"mean", "smallest", "first_tenth", "last_tenth"}),
        (lambda x: 1.3 * x, {"mean", "sd", "largest"}),
        (
            lambda x: x + 0.15 * x * (-1) ** np.arange(60),
            {"roughness", "largest_step"},
        ),
        (lambda x: x + 0.3 * np.arange(60), {"last_tenth"}),
    ],
    ids=["background", "brighter", "noisy", "slope"],
)
def test_a_statistic_says_what_is_off(spoil, names):
    found = statistics(spoil(scans(0.0)), scans(posterior(RNG, 0.0, 200)))
    worst = found.names[int(np.abs(found.sds).argmax())].replace(" ", "_")
    assert worst in names
    assert found.p_all < P_LIMIT


def test_statistics_by_hand():
    """Two panels, one of so few numbers that they are their own statistics."""
    rows = RNG.normal(size=(99, 22))
    panels = (("left", 20), ("right", 2))
    own, every = (panel_statistics(a, panels) for a in (rows[:1], rows[1:]))
    left = rows[:, :20]
    second = left[:, 2:] - 2 * left[:, 1:-1] + left[:, :-2]
    expected = {
        "mean of left": left.mean(1),
        "sd of left": left.std(1),
        "first tenth of left": left[:, :2].mean(1),
        "last tenth of left": left[:, 18:].mean(1),
        "largest step of left": np.abs(left[:, 1:] - left[:, :-1]).max(1),
        "roughness of left": np.sqrt((second**2).mean(1)),
        "x 1 of right": rows[:, 20],
        "x 2 of right": rows[:, 21],
    }
    found = panel_statistics(rows, panels)
    for name, values in expected.items():
        np.testing.assert_allclose(found[name], values)
    p = statistic_p({name: value[0] for name, value in own.items()}, every)
    index = p.names.index("x 2 of right")
    column = rows[:, 21]
    below = (column <= column[0]).sum() / 99
    above = (column >= column[0]).sum() / 99
    assert p.p[index] == pytest.approx(min(1.0, 2 * min(below, above)))
    sds = (column[0] - column[1:].mean()) / column[1:].std(ddof=1)
    assert p.sds[index] == pytest.approx(sds)
    largest = np.max([np.abs(v - v.mean()) / v.std() for v in found.values()], 0)
    assert p.p_all == pytest.approx((largest >= largest[0]).sum() / 99)


def test_statistics_of_all_are_uniform_for_right_rows():
    """20,000 sets of 21 rows: each of the 21 ranks in 952 of them, sd 30.

    The chi-square of 20 degrees is beyond 60 once in 100,000.
    """
    rng = np.random.default_rng(0)
    sets = rng.standard_t(5, size=(20_000, 21, 30))
    ranks = np.rint(21 * statistics(sets[:, 0], sets[:, 1:]).p_all).astype(int)
    counts = np.bincount(ranks, minlength=22)
    assert counts[0] == 0
    assert (((counts[1:] - 20_000 / 21) ** 2) / (20_000 / 21)).sum() < 60


def test_bad_panels_and_too_few_rows():
    with pytest.raises(ValueError, match="rows with shape"):
        panel_statistics(np.zeros((3, 9)), (("a", 5), ("b", 5)))
    assert statistic_p({"a": 0.0}, {"a": np.zeros(19)}) is None
    assert statistic_p({}, {}) is None


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
    assert found.p < P_LIMIT
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
        assert "mine/p_of_roughness" in results.flat()
        return results.verdicts[0]

    assert verdict(scans(0.0)).status == "unchecked"
    dead = scans(0.0)
    dead[29] = 0
    bad = verdict(dead)
    assert bad.status in ("caution", "not trusted")
    assert "does not explain mine" in bad.words
    assert "number 30 of x" in bad.words
    assert verdict(0 * dead).status == "not trusted"
    noisy = verdict(scans(0.0) + 15 * (np.arange(60) % 2))
    assert "off" in noisy.words
