"""How many simulations are enough: the trend's fit, and what is said of it."""

import csv
import dataclasses

import jax
import numpy as np
import pytest

from flowinv.benchmark import budget
from flowinv.benchmark.budget import Measured, run_budget, sentence, trend
from flowinv.benchmark.cells import BudgetConfig
from flowinv.data.simulate import simulate
from flowinv.methods import NPE
from flowinv.tasks.registry import task as get_task
from flowinv.training.config import TrainConfig

QUICK = TrainConfig(max_epochs=2, steps_per_epoch=5, warmup_steps=1, num_members=1)


def measured(sizes, limit, scale, power, noise=0.0):
    """Losses on the curve; rows scatter by 1 around them, alike for all budgets."""
    rows = np.random.default_rng(0).normal(size=1_000)
    rows -= rows.mean()
    return [
        Measured(n, rows - (limit + scale * n**-power + noise * i), 0, 1, 1, np.nan)
        for i, n in enumerate(sizes)
    ]


@pytest.mark.parametrize("power", [0.5, 1.0, 1.5])
def test_the_trend_is_the_curve(power):
    sizes = (1_000, 3_000, 10_000, 30_000)
    found = trend(measured(sizes, 2.0, 300.0, power))
    assert found.power == pytest.approx(power, abs=0.03)
    assert found.limit == pytest.approx(2.0, abs=2e-3)
    excess = 300.0 * 30_000**-power
    assert found.excess == pytest.approx(excess, rel=0.05)
    assert found.gain == pytest.approx(excess * (1 - 2**-power), rel=0.05)
    assert found.error == pytest.approx(0.0, abs=1e-9)


def test_two_budgets_take_the_power_1():
    found = trend(measured((1_000, 2_000), 1.0, 100.0, 1.0))
    assert (found.power, found.limit) == (1.0, pytest.approx(1.0))
    assert found.excess == pytest.approx(0.05)


def test_losses_that_rise_leave_nothing_to_gain():
    found = trend(measured((1_000, 2_000, 4_000), 1.0, 0.0, 1.0, noise=0.01))
    assert found.excess == found.gain == 0.0


def test_the_sentence():
    rows = measured((1_000, 10_000), 1.0, 2_000.0, 1.0)
    words = sentence(rows, trend(rows), 2)
    assert "10,000 simulations are not enough" in words
    assert "0.100 nats a parameter" in words
    assert "20,000 would take 0.050" in words
    rows = measured((1_000, 10_000), 1.0, 200.0, 1.0)
    assert "10,000 simulations are enough" in sentence(rows, trend(rows), 2)
    # Rows that scatter: a step that is smaller than its error is said to be.
    noisy = dataclasses.replace(rows[1], log_q=rows[1].log_q[::-1])
    assert "less than this measurement" in sentence(
        [rows[0], noisy], trend([rows[0], noisy]), 2
    )


def test_smaller_budgets_are_the_first_rows_of_larger_ones():
    task = get_task("two_moons")
    few, many = (
        simulate(jax.random.key(0), task.prior, task.simulator, n) for n in (300, 700)
    )
    np.testing.assert_array_equal(few.theta, many.theta[:300])
    np.testing.assert_array_equal(few.x, many.x[:300])


def test_budgets_are_measured_once(tmp_path, monkeypatch, small_forests):
    @dataclasses.dataclass(frozen=True)
    class Brief(NPE):
        train: TrainConfig = QUICK

    monkeypatch.setattr(budget, "NPE", Brief)
    config = BudgetConfig(
        task="gaussian_linear:dim=2",
        budgets="300,600",
        num_heldout=200,
        observations="1",
        out=str(tmp_path),
    )
    found, _, words = run_budget(config)
    assert [own.budget for own in found] == [300, 600]
    assert "600 simulations are" in words
    with open(tmp_path / "budget.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    # log q of N(x / 2, .05 I) in two dimensions: -log(2 pi e .05) = .16 at most.
    best = -np.log(2 * np.pi * np.e * 0.05)
    for row in rows:
        assert best - 0.6 < float(row["log_prob"]) < best + 0.25
        assert abs(float(row["coverage_error"])) < 0.1
        assert float(row["width"]) == pytest.approx(np.sqrt(0.5), rel=0.15)
        assert 0.45 < float(row["c2st"]) < 0.7
    monkeypatch.setattr(Brief, "fit", None)  # nothing is trained again
    again, _, same = run_budget(config)
    assert same == words
    np.testing.assert_array_equal(again[1].log_q, found[1].log_q)
    with pytest.raises(ValueError, match="got seed 0"):
        run_budget(dataclasses.replace(config, seed=1))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"budgets": "1000"}, "number of budgets of at least 2"),
        ({"budgets": "50,1000"}, "budgets of at least 200"),
        ({"budgets": "1e3,x"}, "budgets like"),
        ({"flow": "splin"}, "spline"),
        ({"num_heldout": 10}, "num_heldout of at least 100"),
        ({"observations": "99"}, "observations from 1 to"),
    ],
)
def test_bad_settings(changes, message):
    with pytest.raises(ValueError, match=message):
        BudgetConfig(**changes).check()
