"""Whether x is like its simulations: false alarms, and what must be seen."""

import numpy as np
import pytest

from flowinv.diagnostics.check import Answered, HeldOut, Inputs
from flowinv.diagnostics.likeness import COARSE, LIKENESS, crowd, likeness

WAVES = np.sin(np.arange(40) * np.linspace(0.05, 0.3, 3)[:, None])


def simulated(rng, count):
    """Counts of 40 numbers along a curved sheet of three parameters."""
    theta = rng.uniform(-1, 1, size=(count, 3))
    return rng.poisson(100 * np.exp(0.5 * theta @ WAVES)).astype(np.float32)


@pytest.fixture(scope="module")
def rows():
    return simulated(np.random.default_rng(0), 1_000)


def test_right_observations_are_called_off_once_in_a_hundred(rows):
    """1,000 right ones: 10 expected, more than 20 once in 500."""
    found = likeness(simulated(np.random.default_rng(1), 1_000), rows, many=True)
    assert (found.p < 0.01).sum() <= 20
    # Uniform: the mean of 1,000 is 0.5 to 0.009; four of it, and the rows' own scatter.
    assert abs(found.p.mean() - 0.5) < 0.06
    assert found.ratio.max() < 1.5


def test_a_count_that_no_simulation_has_is_as_rare_in_x_as_in_them():
    """1,000 sparse counts: 5 are expected, more than 14 once in 4,000."""
    rng = np.random.default_rng(1)
    simulated, x = rng.poisson(0.001, (2, 1_000, 200)).astype(np.float32)
    alone = ((x > 0) & (simulated == 0).all(0)).any(-1)
    assert alone.mean() > 0.05
    p = likeness(x, simulated, many=True).p
    assert (p < 0.005).sum() <= 14


def test_a_number_that_is_always_the_same_in_simulations_alone(rows):
    dark, lit = np.zeros((len(rows), 1)), np.ones((len(rows), 1))
    simulated = np.concatenate([dark, rows[:, :3]], -1)
    assert likeness(np.concatenate([lit[0], rows[0, :3]]), simulated).p < 0.005


def test_many_are_as_each_alone(rows):
    many = simulated(np.random.default_rng(4), 5) + np.arange(5)[:, None] * 20
    alone = [likeness(x, rows) for x in many]
    found = likeness(many, rows, many=True)
    np.testing.assert_allclose(np.transpose(alone), found, rtol=1e-12)
    # The nearest by hand, in sds.
    scale = rows.std(0, dtype=float)
    distances = np.linalg.norm((rows[:, None] - rows[None, :50]) / scale, axis=-1)
    nearest = np.sort(distances, 0)[1]
    np.testing.assert_allclose(crowd(rows).nearest[:50], nearest, rtol=1e-6)
    with pytest.raises(ValueError, match="x with 40 numbers"):
        crowd(rows).likeness(many)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda x: x + 40.0,  # a background
        lambda x: 3.0 * x,
        lambda x: x[::-1],
        lambda x: np.where(np.arange(40) == 7, 1_000.0, x),  # a hot pixel
    ],
)
def test_what_was_never_simulated_is_seen(rows, wrong):
    x = simulated(np.random.default_rng(2), 1)[0]
    found = likeness(wrong(x), rows)
    assert found.p < 0.01


def test_the_verdict_names_what_is_unlike(rows):
    theta = np.zeros((1_000, 1))
    held_out = HeldOut(theta, theta[:, None], theta, theta[:, 0], theta, x=rows)
    right, wrong = simulated(np.random.default_rng(3), 1)[0], 9.0 * rows[0]
    answered = tuple(
        Answered(label, theta, np.zeros((2, 1)), x=x)
        for label, x in (("mine", right), ("other", wrong))
    )
    inputs = Inputs(("a",), (("0", "1"),), held_out, answered)
    assert LIKENESS.needs(inputs)
    (finding,) = LIKENESS.judge(LIKENESS.measure(inputs), inputs)
    assert finding.status == "not trusted"
    assert "other (" in finding.words
    assert "mine" not in finding.words
    fine = Inputs(("a",), (("0", "1"),), held_out, answered[:1])
    assert LIKENESS.judge(LIKENESS.measure(fine), fine) == [None]


def test_what_the_network_is_told_may_be_far_where_x_is_not(rows):
    """Of held-out simulations, or of an answer's own."""
    theta, told = np.zeros((1_000, 1)), rows[:, :2].copy()
    x = simulated(np.random.default_rng(3), 1)[0]
    held_out = HeldOut(
        theta, theta[:, None], theta, theta[:, 0], theta, x=rows, context=told
    )
    for own, seen in ((held_out, None), (None, told)):
        for shift, status in ((0.0, None), (500.0, "not trusted")):
            context = (told[0] + 0.01 + shift, seen)
            answer = Answered(
                "mine", theta, np.zeros((2, 1)), x=x, seen=rows, context=context
            )
            inputs = Inputs(("a",), (("0", "1"),), own, (answer,))
            (finding,) = LIKENESS.judge(LIKENESS.measure(inputs), inputs)
            assert (finding and finding.status) == status


def test_rounding_of_a_network_is_no_misfit():
    """A number that does not vary, computed for one x by another program."""
    told = np.random.default_rng(0).normal(size=(500, 3))
    told[:, 2] = 0.3
    x = told[0] + [0.01, 0.01, 1e-6]
    assert likeness(x, told).ratio > 1.0
    assert likeness(x, told, COARSE).p > 0.1


def test_an_answer_in_rounds_is_compared_with_its_own_simulations(rows):
    theta, x = np.zeros((5, 1)), rows[0]
    own = Answered("x", theta, np.zeros((2, 1)), x=x, seen=rows + 500.0)
    inputs = Inputs(("a",), (("0", "1"),), answered=(own,))
    assert LIKENESS.judge(LIKENESS.measure(inputs), inputs)[0].status == "not trusted"


def test_few_rows_say_nothing(rows):
    assert likeness(rows[0], rows[:150]) is None
    bad = np.where(np.arange(1_000)[:, None] < 900, np.nan, rows)
    assert likeness(rows[0], bad) is None
