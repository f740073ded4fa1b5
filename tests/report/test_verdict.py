import numpy as np
import pytest

from flowinv.report.content import Answer, Calibration, ModelResult, ReportContent
from flowinv.report.verdict import interval_levels, verdicts

CONTENT = ReportContent("t", ("a",), ("",))


def judge(ranks, num_samples=99, metrics=()):
    answers = {
        str(i): Answer(np.ones((2, 1)), metrics=m) for i, m in enumerate(metrics)
    }
    calibration = None if ranks is None else Calibration(ranks[:, None], num_samples)
    (verdict,) = verdicts(
        CONTENT, ModelResult(calibration=calibration, answers=answers)
    )
    return verdict


def ranks_of(draw):
    """Ranks 0..99 of 2,000 truths with position `draw(rng)` in (0, 1)."""
    return np.minimum(draw(np.random.default_rng(0)) * 100, 99).astype(int)


def moments(shift, ratio):
    return {"mean_shift": np.array([shift]), "sd_ratio": np.array([ratio])}


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
    verdict = judge(ranks_of(draw))
    assert verdict.status == status
    assert words in verdict.words


def test_uneven_ranks_with_right_intervals_are_misshapen():
    even = np.repeat(np.arange(0, 100, 2), 40)
    verdict = judge(np.where(even % 10 < 5, even // 10 * 10, even))
    assert verdict.status == "not trusted"


@pytest.mark.parametrize(
    ("metrics", "status"),
    [
        ([moments(0.1, 1.1)], "trusted"),
        ([moments(0.1, 1.6)], "caution"),
        ([moments(-0.9, 1.0)], "caution"),
        ([moments(0.1, 1.0), moments(0.0, 1.0), moments(2.0, 3.0)], "trusted"),
    ],
)
def test_words_from_exact_posteriors(metrics, status):
    """One odd scan does not decide: medians over observations do."""
    verdict = judge(ranks_of(lambda r: r.uniform(size=2_000)), metrics=metrics)
    assert verdict.status == status
    assert f"{len(metrics)} observation" in verdict.words
    assert judge(None, metrics=metrics).status == status


def test_nothing_measured():
    assert judge(None).status == "unchecked"


def test_few_draws_resolve_few_levels():
    assert interval_levels(99) == (0.5, 0.9, 0.95)
    assert interval_levels(19) == (0.5, 0.9)
    assert interval_levels(1) == ()
    assert judge(np.zeros(50, int), num_samples=1).status == "not trusted"


def test_the_made_up_study(content):
    right, narrow = (verdicts(content, m) for m in content.models.values())
    assert [v.status for v in right] == ["trusted"] * 4
    assert [v.status for v in narrow] == ["not trusted"] * 4
    assert all("Too narrow" in v.words for v in narrow)
