"""The benchmark: cells, rows that are never lost nor twice, references, the page."""

import bz2
import csv
import dataclasses
import re
import sys

import numpy as np
import pytest

from flowinv.benchmark import references, runner
from flowinv.benchmark.cells import BenchmarkConfig, Cell, Metric, Training
from flowinv.benchmark.page import means, published_curves, write_page
from flowinv.benchmark.references import known_of
from flowinv.benchmark.results import COLUMNS, Result, append, read
from flowinv.benchmark.runner import run_benchmark
from flowinv.data import stream
from flowinv.methods import APT, NPE
from flowinv.tasks.registry import task as get_task
from flowinv.training.config import TrainConfig
from flowinv.training.fit import Interrupted

QUICK = TrainConfig(max_epochs=2, steps_per_epoch=5, warmup_steps=1, num_members=1)


@pytest.fixture
def config(tmp_path, monkeypatch, small_forests):
    """Two linear tasks, two observations, one seed; trained for a moment."""

    def settings(training):
        if training.method == "npe":
            return NPE(num_simulations=str(training.budget), train=QUICK)
        return APT(num_rounds=2, num_simulations=training.budget // 2, train=QUICK)

    monkeypatch.setattr(Training, "settings", settings)
    return BenchmarkConfig(
        tasks="gaussian_linear:dim=2,two_moons",
        methods="npe",
        budgets="400",
        observations="1-2",
        protocols="forest",
        num_draws=200,
        out=str(tmp_path / "out"),
    )


def lines(config):
    with open(f"{config.out}/results.csv", newline="") as file:
        return list(csv.reader(file))


def test_every_cell_once(config, monkeypatch):
    filled = run_benchmark(config)
    rows = lines(config)
    assert tuple(rows[0]) == COLUMNS
    # 2 tasks, 2 observations, 5 numbers.
    assert len(rows) == 1 + 20 == 1 + len(filled)
    assert len({tuple(row[:8]) for row in rows[1:]}) == 20
    assert all(np.isfinite(float(row[8])) for row in rows[1:])
    assert run_benchmark(config).keys() == filled.keys()
    assert lines(config) == rows
    # More observations: only those are answered, and only they are scored.
    more = run_benchmark(dataclasses.replace(config, observations="1-3"))
    assert len(more) == 30
    assert lines(config)[:21] == rows
    # Larger budgets go on with the same simulations.
    monkeypatch.setattr(stream, "simulate", None)
    with pytest.raises(TypeError):
        run_benchmark(dataclasses.replace(config, budgets="500"))
    fewer = dataclasses.replace(config, tasks="two_moons", budgets="300")
    assert run_benchmark(fewer).keys() > more.keys()
    changed = dataclasses.replace(config, num_draws=300)
    with pytest.raises(ValueError, match="settings of .* got num_draws 200"):
        run_benchmark(changed)


def test_broken_off_anywhere_nothing_is_lost_nor_twice(config, monkeypatch):
    """Stopped before the third observation is scored; a line cut off by a crash."""
    asked = []

    def append_two(path, results):
        if len(asked) == 2:
            raise Interrupted
        asked.append(results)
        append(path, results)

    monkeypatch.setattr(runner, "append", append_two)
    with pytest.raises(Interrupted):
        run_benchmark(config)
    with open(f"{config.out}/results.csv", "a") as file:
        file.write("two_moons,npe,spline,400,1,0,c2s")
    monkeypatch.setattr(runner, "append", append)
    # Both tasks' draws were kept: nothing is trained again.
    monkeypatch.setattr(NPE, "fit", None)
    run_benchmark(config)
    rows = lines(config)
    assert len(rows) == 21
    assert len({tuple(row[:8]) for row in rows[1:]}) == 20


@pytest.mark.slow
def test_rounds_answer_each_observation_as_alone(config):
    alone = dataclasses.replace(
        config, tasks="two_moons", methods="apt", observations="2"
    )
    both = dataclasses.replace(alone, observations="1-2", out=config.out + "2")
    one, two = run_benchmark(alone), run_benchmark(both)
    cell = next(cell for cell in one if cell.metric == "median_distance")
    assert two[cell].value == pytest.approx(one[cell].value, rel=0.02)
    assert len(two) == 2 * len(one)


def test_scores_are_those_of_the_draws(config):
    """Against the diagnostics called by hand on exact draws: all agree."""
    task = get_task("two_moons")
    x, _ = task.observation(1)
    exact = task.exact(x, 400, runner.jax.random.key(0))
    known = references.Known(x, exact[:200])
    values = {
        metric: runner._value(metric, task, known, exact[200:])
        for metric in (Metric("c2st", "forest"), Metric("mmd"), Metric("coverage"))
    }
    assert values[Metric("c2st", "forest")] == pytest.approx(0.5, abs=0.1)
    assert abs(values[Metric("mmd")]) < 0.02
    assert values[Metric("coverage")] == pytest.approx(0.97, abs=0.04)
    # x again is 2-D with noise: distances of about .1.
    distance = runner._value(Metric("median_distance"), task, known, exact[200:])
    simulated = np.stack(
        [
            task.simulator.simulate(key, theta)
            for key, theta in zip(
                runner.jax.random.split(runner.jax.random.key(runner.PREDICT), 200),
                np.float32(exact[200:]),
                strict=True,
            )
        ]
    )
    expected = np.median(np.linalg.norm(simulated - x, axis=1))
    assert distance == pytest.approx(expected, rel=1e-4)


def test_references_are_read_made_once_and_refused(tmp_path, monkeypatch):
    task, kept = get_task("two_moons"), tmp_path / "kept"
    made = known_of(task, "two_moons", 1, 300, (None, kept))
    assert made.exact.shape == (300, 2)
    again = known_of(task, "two_moons", 1, 300, (None, kept))
    np.testing.assert_array_equal(made.exact, again.exact)
    folder = tmp_path / "given" / "two_moons"
    folder.mkdir(parents=True)
    draws = np.arange(20.0).reshape(10, 2)
    np.savez(folder / "obs_1.npz", observation=[1.0, 2.0], reference_samples=draws)
    given = known_of(task, "two_moons", 1, 4, (tmp_path / "given", kept))
    np.testing.assert_array_equal(given.x, [1.0, 2.0])
    np.testing.assert_array_equal(given.exact[:, 0], [0.0, 6.0, 12.0, 18.0])
    with pytest.raises(ValueError, match="references with two_moons/obs_2.npz"):
        known_of(task, "two_moons", 2, 4, (tmp_path / "given", kept))
    np.savez(folder / "obs_3.npz", observation=np.zeros(3), reference_samples=draws)
    with pytest.raises(ValueError, match="observation of two_moons"):
        known_of(task, "two_moons", 3, 4, (tmp_path / "given", kept))


def test_an_installed_sbibm_is_read_as_data(tmp_path, monkeypatch):
    """A package of that name which must not be imported; its files as it has them."""
    package = tmp_path / "sbibm"
    folder = package / "tasks" / "slcp" / "files" / "num_observation_2"
    folder.mkdir(parents=True)
    (package / "__init__.py").write_text("raise RuntimeError('imported')\n")
    head = ",".join(f"data_{i}" for i in range(8))
    (folder / "observation.csv").write_text(f"{head}\n1,2,3,4,5,6,7,8\n")
    text = "a,b,c,d,e\n1,2,3,4,5\n6,7,8,9,10\n"
    with bz2.open(folder / "reference_posterior_samples.csv.bz2", "wt") as file:
        file.write(text)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    known = known_of(get_task("slcp"), "slcp", 2, 100, (None, tmp_path))
    np.testing.assert_array_equal(known.x, np.arange(1, 9))
    np.testing.assert_array_equal(known.exact[1], [6, 7, 8, 9, 10])
    assert references.sbibm_files("slcp_distractors", 2) is None
    assert references.sbibm_files("slcp", 3) is None


def result(value, budget=1_000, method="npe", task="two_moons", observation=1):
    cell = Cell(task, method, "spline", budget, observation, 0, "c2st", "mlp")
    return Result(cell, value, 2.5, budget, "flowinv <0>")


def test_the_page_has_means_ranks_and_published_curves(tmp_path):
    rows = [
        *(result(0.6 + 0.1 * i, observation=i) for i in (1, 2)),
        result(0.55, 10_000),
        result(0.58, method="apt"),
    ]
    curves = means(rows, Metric("c2st", "mlp"))
    expected = {1_000: pytest.approx(0.75), 10_000: 0.55}
    assert curves["two_moons"]["npe (spline)"] == expected
    published = tmp_path / "published.csv"
    columns = "task,algorithm,num_simulations,num_observation,C2ST,source"
    old = "two_moons,SNPE,1000,1,0.9,main\n"
    new = "".join(f"two_moons,SNPE,1000,{i},0.{i},rerun_v1\n" for i in (6, 7))
    published.write_text(f"{columns}\n{old}{new}")
    found = published_curves(published)
    assert found["two_moons"]["SNPE"] == {1_000: pytest.approx(0.65)}
    write_page({own.cell: own for own in rows}, tmp_path / "a.html", str(published))
    page = (tmp_path / "a.html").read_text()
    for words in ("0.750", "apt (spline) 1.0, npe (spline) 2.0", "flowinv &lt;0&gt;"):
        assert words in page
    assert "SNPE" in page
    assert not re.search(r"(?:src|href)=.https?:", page)
    published.write_text("task,C2ST\n")
    with pytest.raises(ValueError, match="columns of"):
        published_curves(published)


def test_rows_come_back_and_others_are_refused(tmp_path):
    path = tmp_path / "results.csv"
    rows = [result(0.5), result(0.25, 10_000)]
    append(path, rows[:1])
    append(path, rows[1:])
    assert read(path) == {own.cell: own for own in rows}
    with path.open("a") as file:
        file.write("nonsense,1\n")
    with pytest.raises(ValueError, match="line 4 of .*to be a result"):
        read(path)
    path.write_text("task,method\n")
    with pytest.raises(ValueError, match="columns of"):
        read(path)
    assert read(tmp_path / "none.csv") == {}


def test_methods_get_their_budget():
    """Ten rounds of a tenth; fewer of a hundred where that is not possible."""

    def sizes(method, budget):
        own = Training("slcp", method, "spline", budget, 0).settings()
        return own.num_rounds, own.num_simulations

    assert sizes("apt", 10_000) == (10, 1_000)
    assert sizes("tsnpe", 500) == (5, 100)
    npe = Training("slcp", "npe", "spline", 1_000, 0).settings()
    assert npe == NPE(num_simulations="1000")


def test_options_of_a_task_stay_with_it():
    spec = "beam_profile:prior=slides,points=100"
    config = BenchmarkConfig(tasks=f"{spec},slcp", methods="npe", budgets="1e4,1000")
    found = config.trainings()
    assert [(own.task, own.budget) for own in found] == [
        (spec, 1_000),
        ("slcp", 1_000),
        (spec, 10_000),
        ("slcp", 10_000),
    ]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"methods": "bayes"}, "methods to be one of"),
        ({"tasks": "two_moon"}, "two_moons"),
        ({"tasks": ""}, "tasks with one at least"),
        ({"budgets": "many"}, "budgets like"),
        ({"budgets": "100"}, "budgets of at least 200"),
        ({"observations": "0-3"}, "observations"),
        ({"protocols": "tree"}, "protocols to be one of"),
        ({"references": "/nowhere"}, "references to be there"),
        ({"seeds": 0}, "seeds of at least 1"),
    ],
)
def test_bad_settings(changes, message):
    with pytest.raises(ValueError, match=message):
        BenchmarkConfig(**changes).check()
