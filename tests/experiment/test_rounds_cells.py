"""The rounds experiment: its plan, the rows of a cell, and what is not done again."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "experiments" / "rounds" / "rounds.py"


@pytest.fixture(scope="module")
def rounds():
    spec = importlib.util.spec_from_file_location("rounds", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_cell_is_a_run_that_may_begin(rounds):
    cells = rounds.table()
    assert len(cells) == len({repr(config.to_json()) for config in cells.values()})
    for name, config in cells.items():
        config.check()
        kind = rounds.kind_of(config.method)
        own = f"{config.task}-{config.evaluate.observations}-{kind}-"
        assert name.startswith(own)


def test_a_row_holds_what_the_run_measured(rounds):
    name, config = next(iter(rounds.table().items()))
    metrics = {}
    for model, _, seed in config.models():
        own = f"{model}/observation_{config.evaluate.observations}/"
        metrics |= {own + figure: 0.5 + seed for figure in rounds.FIGURES}
        metrics |= {f"{model}/training_seconds": 9.0, f"{model}/verdict/a": "trusted"}
    rows = [
        dict(zip(rounds.COLUMNS, row, strict=True))
        for row in rounds.rows_of(name, config, metrics, False)
    ]
    assert [row["seed"] for row in rows] == list(range(config.seeds))
    assert [row["c2st_forest"] for row in rows] == [0.5 + s for s in range(len(rows))]
    assert {row["verdict"] for row in rows} == {"trusted"}
    assert {row["seconds"] for row in rows} == {9.0}
    # A clock that was stopped in between says nothing.
    again = rounds.rows_of(name, config, metrics, True)
    assert {row[rounds.COLUMNS.index("seconds")] for row in again} == {""}


def test_cells_that_are_there_are_not_named_again(rounds, tmp_path):
    name = next(iter(rounds.table()))
    rounds.write(tmp_path / "results.csv", [[name] + [""] * (len(rounds.COLUMNS) - 1)])
    command = [sys.executable, SCRIPT, "--list", "--out", tmp_path]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    missing = done.stdout.split()
    assert name not in missing
    assert len(missing) == len(rounds.table()) - 1
