"""The table of checks: data that passes, data that must fail, and what is written."""

import numpy as np
import pytest

from flowinv.diagnostics.calibration import interval_levels
from flowinv.diagnostics.check import (
    STATUSES,
    Answered,
    Check,
    Finding,
    HeldOut,
    Inputs,
)
from flowinv.diagnostics.table import CHECKS, run_checks

EDGES = (("0", "1 mm"),)
NONE = np.zeros((2, 1))


def held_out(ranks, num_samples=99):
    """A posterior over one parameter of which only the ranks matter."""
    ranks = np.asarray(ranks)[:, None]
    draws = np.zeros((len(ranks), num_samples, 1))
    log_q = np.zeros((len(ranks), num_samples))
    theta = np.linspace(0, 1, len(ranks))[:, None]
    return HeldOut(theta, draws, log_q, log_q[:, 0], ranks)


def answered(shift, ratio, label="observation 1", tails=NONE):
    """Normal draws with a mean and an sd against exact N(0, 1) ones."""
    normal = np.random.default_rng(0).normal(size=(2, 500, 1))
    normal = (normal - normal.mean(1, keepdims=True)) / normal.std(1, keepdims=True)
    return Answered(label, shift + ratio * normal[0], tails, normal[1])


def judge(found=None, answers=()):
    inputs = Inputs(("a",), EDGES, found, tuple(answers), ())
    (verdict,) = run_checks(inputs).verdicts
    return verdict


def ranks_of(draw):
    """Ranks 0..99 of 2,000 truths with position `draw(rng)` in (0, 1)."""
    return np.minimum(draw(np.random.default_rng(0)) * 100, 99).astype(int)


UNIFORM = ranks_of(lambda r: r.uniform(size=2_000))


@pytest.mark.parametrize(
    ("draw", "status", "words"),
    [
        (lambda r: r.uniform(size=2_000), "trusted", "Calibrated"),
        (lambda r: r.beta(0.5, 0.5, size=2_000), "not trusted", "Too narrow"),
        (lambda r: r.beta(2, 2, size=2_000), "caution", "Too wide"),
        (lambda r: r.beta(1.3, 1, size=2_000), "not trusted", "lies too low"),
        (lambda r: r.beta(1, 1.3, size=2_000), "not trusted", "lies too high"),
    ],
)
def test_words_from_ranks(draw, status, words):
    """Truths above most draws have high ranks: the posterior lies too low."""
    verdict = judge(held_out(ranks_of(draw)))
    assert verdict.status == status
    assert words in verdict.words


def test_uneven_ranks_with_right_intervals_are_misshapen():
    even = np.repeat(np.arange(0, 100, 2), 40)
    verdict = judge(held_out(np.where(even % 10 < 5, even // 10 * 10, even)))
    assert verdict.status == "not trusted"


@pytest.mark.parametrize(
    ("moments", "status"),
    [
        ([(0.1, 1.1)], "trusted"),
        ([(0.1, 1.5)], "caution"),
        ([(0.1, 0.7)], "caution"),
        ([(-0.5, 1.0)], "caution"),
        ([(1.2, 1.0)], "not trusted"),
        ([(0.0, 2.5)], "not trusted"),
        ([(0.0, 0.4)], "not trusted"),
        # The worst scan decides: medians would pass both.
        ([(0.1, 1.0), (0.0, 1.0), (0.0, 1.46)], "caution"),
        ([(0.1, 1.0), (0.0, 1.0), (2.0, 3.0)], "not trusted"),
    ],
)
def test_the_worst_scan_decides(moments, status):
    answers = [answered(*pair, label=f"scan {i}") for i, pair in enumerate(moments)]
    verdict = judge(held_out(UNIFORM), answers)
    assert verdict.status == status
    assert f"{len(moments)} observation" in verdict.words
    if len(moments) > 1:
        assert "worst in scan 2" in verdict.words
    # Calibration passed or was not measured: the same word.
    assert judge(None, answers).status == status


def test_a_narrow_posterior_is_not_saved_by_one_good_scan():
    narrow = ranks_of(lambda r: r.beta(0.5, 0.5, size=2_000))
    assert judge(held_out(narrow), [answered(0.0, 1.0)]).status == "not trusted"


def test_the_edge_that_a_posterior_presses_on_is_named():
    free, lower, upper = (NONE, np.array([[0.2], [0.0]]), np.array([[0.01], [0.3]]))
    answers = [
        answered(0.0, 1.0, label, tails)
        for label, tails in (("one", free), ("two", lower), ("three", upper))
    ]
    verdict = judge(None, answers)
    assert "the prior's lower edge (0) in two" in verdict.words
    assert "upper edge (1 mm) in three" in verdict.words
    assert "one" not in verdict.words.split("Presses")[1]
    # Words, no judgement: where the truth is, the prior is right.
    assert verdict.status == "trusted"
    alone = Answered("mine", np.zeros((10, 1)), lower)
    assert judge(None, [alone]).status == "unchecked"
    assert "Presses on" in judge(None, [alone]).words
    assert "Presses" not in judge(None, [answered(0.0, 1.0)]).words


def test_nothing_measured():
    verdict = judge()
    assert verdict.status == "unchecked"
    assert verdict.words == "Nothing was measured that could judge it."


def test_few_draws_resolve_few_levels():
    assert interval_levels(99) == (0.5, 0.9, 0.95)
    assert interval_levels(19) == (0.5, 0.9)
    assert interval_levels(1) == ()
    assert judge(held_out(np.zeros(50, int), 1)).status == "not trusted"


@pytest.mark.parametrize("count", [199, 239, 279, 399])
def test_draws_that_the_config_recommends_have_exact_levels(count):
    inputs = Inputs(("a",), EDGES, held_out(UNIFORM, count))
    numbers = run_checks(inputs).numbers["calibration"]
    for level in (50, 90, 95):
        assert numbers[f"coverage_{level}_nominal"] == pytest.approx(level / 100)


def test_flat_numbers_and_verdicts():
    answers = (answered(0.1, 1.1), answered(-0.2, 0.9, "observation 2"))
    inputs = Inputs(("a",), EDGES, held_out(UNIFORM), answers, ("forest",))
    results = run_checks(inputs)
    flat = results.flat()
    assert flat["verdict/a"] == "trusted"
    assert flat["rmse/mean/a"] > 0
    assert flat["sbc_chi2_p_holm/a"] > 0.01
    assert flat["observation_1/sd_ratio/a"] == pytest.approx(1.1, rel=1e-3)
    assert flat["observation_2/mean_shift/a"] == pytest.approx(-0.2, abs=1e-3)
    scores = [flat[f"observation_{i}/c2st_forest"] for i in (1, 2)]
    assert flat["mean/c2st_forest"] == pytest.approx(np.mean(scores))
    assert flat["largest_mean_shift"] == pytest.approx(0.2, abs=1e-3)
    assert (flat["smallest_sd_ratio"], flat["largest_sd_ratio"]) == pytest.approx(
        (0.9, 1.1), rel=1e-3
    )
    # About 0 for equal posteriors; these differ a little.
    assert -1e-3 < flat["mean/mmd_squared"] < 0.02


def test_every_row_says_what_it_asks():
    assert len({check.name for check in CHECKS}) == len(CHECKS)
    for check in CHECKS:
        assert check.asks.endswith("?")
        assert check.limit
        assert check.meaning.endswith(".")


def test_a_new_check_is_one_row():
    mine = Check(
        name="mine",
        asks="Is it mine?",
        limit="0",
        meaning="Mine.",
        needs=lambda inputs: inputs.held_out is not None,
        measure=lambda inputs: {"spread": inputs.held_out.draws.std((0, 1))},
        judge=lambda numbers, inputs: [Finding("caution", "Not mine.")],
    )
    found = held_out(UNIFORM)
    results = run_checks(Inputs(("a",), EDGES, found), (*CHECKS, mine))
    assert results.flat()["spread/a"] == 0.0
    assert results.verdicts[0].status == "caution"
    assert results.verdicts[0].words.endswith("Not mine.")
    assert STATUSES.index("caution") < STATUSES.index("not trusted")


@pytest.mark.parametrize(
    ("sd", "status", "words"),
    [
        (0.287, "trusted", "Calibrated"),
        (1.0, "caution", "says less than x does"),
        (0.2, "not trusted", "Too narrow"),
    ],
)
def test_the_likelihood_sees_an_answer_that_ignores_x(sd, status, words):
    """theta ~ N(0, 1), x ~ N(theta, 0.3): posterior sd 0.287; the prior's is 1."""
    from scipy.stats import norm

    rng = np.random.default_rng(0)
    theta = rng.normal(size=(1_000, 1))
    x = theta + 0.3 * rng.normal(size=theta.shape)
    centre = 0.0 if sd == 1.0 else x / 1.09
    draws = centre + sd * rng.normal(size=(1_000, 99))
    both = np.concatenate([draws, theta], 1)
    log_q, log_p = norm.logpdf(both, centre, sd), norm.logpdf(x, both, 0.3)
    found = HeldOut(
        *(theta, draws[..., None], log_q[:, :-1], log_q[:, -1]),
        (draws < theta).sum(1)[:, None],
        log_p=log_p[:, :-1],
        log_p_true=log_p[:, -1],
    )
    verdict = judge(found)
    assert verdict.status == status
    assert words in verdict.words
