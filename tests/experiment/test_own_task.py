"""A problem of the user's own: the same experiment, calibration and page."""

import json
import math

import jax
import numpy as np
import pytest

import flowinv as fi
from flowinv.checks import fail
from flowinv.experiment.config import EvaluateConfig
from flowinv.experiment.experiment import Experiment
from flowinv.experiment.observed import observations
from flowinv.experiment.watch import Watch
from flowinv.methods import NPE, SNLE
from flowinv.models.registry import NetworkConfig
from flowinv.models.sampled import SamplerConfig
from flowinv.tasks.task import ClassicalFit, ExactDraws
from flowinv.training.config import TrainConfig

MINE = """
import dataclasses
import jax, jax.numpy as jnp
import flowinv as fi

@dataclasses.dataclass(frozen=True)
class Spring:
    '''Position at 20 times of a mass on a spring, with noise.'''

    x_shape = (20,)

    def simulate(self, key, theta):
        time = jnp.linspace(0.0, 3.0, 20)
        noise = 0.1 * jax.random.normal(key, (20,))
        return theta[1] * jnp.cos(theta[0] * time) + noise

prior = fi.priors.uniform([1.0, 0.5], [2.0, 1.5], ["omega", "swing"], ["1/s", "mm"])
task = fi.Task(prior, Spring(), description="A mass on a spring.")
"""
EVALUATE = EvaluateConfig(
    num_heldout=100,
    num_samples=39,
    observations="1",
    num_exact=200,
    classifiers=("forest",),
    point_estimates=False,
)
SMALL = NetworkConfig(num_layers=1, hidden=(8,), head_hidden=(8,))
CONFIG = fi.RunConfig(
    method=NPE("600", TrainConfig(batch_size=64, max_epochs=2)),
    flow=("cinn",),
    network=SMALL,
    evaluate=EVALUATE,
)


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    path = tmp_path_factory.mktemp("mine") / "mine.py"
    path.write_text(MINE)
    return path


@pytest.fixture(scope="module")
def finished(file, tmp_path_factory, small_forests):
    """The whole experiment by the file's name."""
    import dataclasses

    out = str(tmp_path_factory.mktemp("own") / "run")
    config = dataclasses.replace(CONFIG, task=f"{file}:task", out=out)
    return config.folder(), fi.run(config, quiet=True)


def test_a_task_from_a_file_gets_numbers_verdicts_and_a_page(finished):
    folder, metrics = finished
    assert json.loads((folder / "metrics.json").read_text()) == metrics
    assert metrics["cinn/verdict/omega"] in ("trusted", "caution", "not trusted")
    for name in ("rmse/mean/swing", "sbc_chi2_p/omega", "coverage_90_z/swing"):
        assert np.isfinite(metrics[f"cinn/{name}"])
    page = (folder / "report.html").read_text()
    for words in ("A mass on a spring", "omega (1/s)", "Calibration", "swing (mm)"):
        assert words in page
    assert "x is read as" in page
    assert "its own numbers, standardised" in page
    assert "least-squares" not in page
    assert "exact posterior of" not in page


def test_infer_answers_for_it(flowinv, finished, tmp_path):
    folder, _ = finished
    path = tmp_path / "scan.csv"
    path.write_text(",".join(f"{math.cos(0.2 * i):.4f}" for i in range(20)))
    code, said, err = flowinv("infer", folder, f"--x={path}")
    assert (code, err) == (0, [])
    assert [line.split()[0] for line in said[2:4]] == ["omega", "swing"]
    assert "fit" not in said[0]


@pytest.mark.usefixtures("pageless")
def test_a_task_object_gives_the_same_numbers(finished, file, tmp_path, timeless):
    import dataclasses

    _, metrics = finished
    task = fi.task(f"{file}:task")
    config = dataclasses.replace(CONFIG, out=str(tmp_path / "run"))
    again = fi.run(config, task=task, quiet=True)
    assert timeless(again) == timeless(metrics)


def test_diagnose_measures_any_posterior(finished, file):
    folder, metrics = finished
    posterior, task = fi.load(folder / "cinn" / "model"), fi.task(f"{file}:task")
    results = fi.diagnose(jax.random.key(3), posterior, task, EVALUATE)
    assert [verdict.parameter for verdict in results.verdicts] == ["omega", "swing"]
    assert set(results.numbers) == {
        *("answers", "accuracy", "calibration", "predictive", "edges"),
        *("regions", "tarp", "averaged", "information", "recalibration"),
    }
    # Other simulations, the same posterior: errors agree to their noise.
    ratio = results.flat()["rmse/mean/omega"] / metrics["cinn/rmse/mean/omega"]
    assert 0.6 < ratio < 1.6


@pytest.mark.parametrize(
    ("found", "good"),
    [
        (ExactDraws(np.zeros((200, 2))), True),
        (ExactDraws(np.zeros((200, 2)), 1.01, 900.0, 0), True),
        (ExactDraws(np.zeros((200, 2)), 1.2, 900.0, 0), False),
        (ExactDraws(np.zeros((200, 2)), 1.01, 40.0, 0), False),
        (ExactDraws(np.zeros((200, 2)), 1.01, 900.0, 30), False),
        (ExactDraws(np.zeros((200, 2)), math.nan, 900.0, 0), False),
    ],
)
def test_draws_of_a_sampler_that_did_not_converge_are_no_exact_posterior(
    file, tmp_path, found, good
):
    import dataclasses

    task = fi.task(f"{file}:task")
    fit = ClassicalFit(np.ones(2), np.ones(2))
    task = dataclasses.replace(
        task, exact=lambda x, n, key: found, classical=lambda x: fit
    )
    run = Experiment(CONFIG, task, tmp_path, Watch())
    (observed,) = observations(run.key("observe"), task, EVALUATE)
    assert (observed.exact is not None) == good
    assert observed.fit is fit
    if not math.isinf(found.ess):
        assert "effective draws" in observed.exact_note
    assert observed.exact_note.startswith("withheld") == (not good)


SUMMED = """

@dataclasses.dataclass(frozen=True)
class Parts:
    '''Means of equal parts.'''

    count: int

    def __call__(self, x):
        return x.reshape(*x.shape[:-1], self.count, -1).mean(-1)

summed = fi.Task(prior, Spring(), summary="parts", summaries={"parts": Parts(5)})
"""


@pytest.mark.usefixtures("pageless")
@pytest.mark.parametrize(
    "method", ["npe", pytest.param("snle", marks=pytest.mark.slow)]
)
@pytest.mark.slow
def test_a_tasks_own_summary_is_known_wherever_its_run_is_read(
    method, flowinv, tmp_path, monkeypatch
):
    """By a resumed run, infer and diagnose; the model file holds no code."""
    import dataclasses

    file, scan = tmp_path / "mine.py", tmp_path / "scan.csv"
    file.write_text(MINE + SUMMED)
    scan.write_text(",".join(f"{math.cos(0.2 * i):.4f}" for i in range(20)))
    tiny = TrainConfig(batch_size=32, max_epochs=1)
    sampler = SamplerConfig(num_particles=50, moves=1, last_moves=2)
    known = {"npe": NPE("200", tiny), "snle": SNLE(2, 100, tiny, sampler)}
    # One flow, and several to choose from.
    flow = {"npe": "maf", "snle": "maf+spline-ar"}[method]
    config = dataclasses.replace(
        CONFIG,
        task=f"{file}:summed",
        out=str(tmp_path / method),
        method=known[method],
        flow=(flow,),
    )
    first = fi.run(config, quiet=True)
    name = f"{flow}/" + {"npe": "model", "snle": "observation_1"}[method]
    with pytest.raises(ValueError, match=r"load\(folder, modules=\[Parts\]\)"):
        fi.load(config.folder() / name)
    for result in config.folder().glob(f"{flow}/result.npz"):
        result.unlink()
    again = fi.run(config, resume=True, quiet=True)
    assert {*again} == {*first}
    code, said, err = flowinv("infer", config.folder(), f"--x={scan}")
    assert code == 0
    assert said[2].split()[0] == "omega"
    # It is the reading that is asked here, not the checks.
    read = []
    monkeypatch.setattr(
        "flowinv.experiment.diagnose.diagnose_run",
        lambda *given: read.append(given[2]) or fail("a stop", "here", "none"),
    )
    assert flowinv("diagnose", config.folder())[0] == 2
    assert type(read[0].summary).__name__ == "Parts"
