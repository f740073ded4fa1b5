"""What a run recommends, from its verdicts."""

import pytest

from flowinv.diagnostics.check import Results, Verdict
from flowinv.experiment.advice import next_steps
from flowinv.experiment.config import RunConfig
from flowinv.experiment.experiment import Experiment
from flowinv.experiment.watch import Watch
from flowinv.methods import NPE, Truncated
from flowinv.report.content import ModelResult


def steps(method, status, numbers=None):
    config = RunConfig(task="two_moons", method=method, out="runs/mine")
    run = Experiment(config, None, config.folder(), Watch())
    verdict = Verdict("theta_1", status, "Some words.")
    results = Results(("theta_1",), numbers or {}, (verdict,))
    answers = {"observation 1": None, "mine.csv": None}
    model = ModelResult(answers=answers, results=results)
    return [" ".join((step.words, step.command)) for step in next_steps(run, model)]


@pytest.mark.parametrize(
    ("method", "words"),
    [
        (NPE("1000"), "--num-simulations 4000"),
        (NPE(), "--num-steps 12000"),
        (Truncated(), "--num-rounds"),
    ],
)
def test_a_bad_verdict_is_answered_by_what_mends_it(method, words):
    first, last = steps(method, "not trusted")
    assert first.startswith("Do not report theta_1")
    assert words in first
    assert "--x scan.csv" in last
    assert len(steps(method, "trusted")) == 1


@pytest.mark.parametrize("check", ["predictive", "likeness"])
def test_a_scan_like_no_simulation_is_to_be_looked_at_first(check):
    numbers = {check: {f"observation_1/{check}_p": 0.4, f"mine.csv/{check}_p": 0.002}}
    _, second, _ = steps(NPE("1000"), "caution", numbers)
    assert "compare mine.csv with what the simulator gives" in second
    assert "observation" not in second
