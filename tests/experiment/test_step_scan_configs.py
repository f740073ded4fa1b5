"""The step-scan experiment: its words are runs that pass their own checks."""

import importlib.util
from pathlib import Path

import pytest

from flowinv.experiment.problem import instrument_for
from flowinv.tasks.registry import task
from flowinv.tasks.step_scan import instrument_task

FOLDER = Path(__file__).parents[2] / "experiments" / "step_scan"


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("step_scan", FOLDER / "step_scan.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_word_is_a_run_of_a_task_with_an_exact_posterior(script):
    for word in script.CONFIGS:
        config = script.config(word)
        config.check()
        assert config.out == f"runs/step_scan-{word}"
        own = task(config.task)
        if config.like:
            own = instrument_task(instrument_for(config))
        assert own.exact is not None
    with pytest.raises(ValueError, match="Did you mean 'noise'"):
        script.config("nois")
