"""The script that fills the benchmark: its steps, and the figure of its rows."""

import importlib.util
import sys
from pathlib import Path

import pytest

from flowinv.benchmark.page import benchmark_figure

FILE = Path(__file__).parents[2] / "experiments" / "sbibm" / "sbibm.py"


@pytest.fixture
def script(monkeypatch):
    """The script, whose commands are written down instead of run."""
    spec = importlib.util.spec_from_file_location("sbibm_steps", FILE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "main", lambda words: module.asked.append(words))
    module.asked = []

    def run(*words):
        monkeypatch.setattr(sys, "argv", [str(FILE), *map(str, words)])
        module.asked.clear()
        module.fill()
        return list(module.asked)

    return run


def test_every_step_is_a_command_that_the_benchmark_takes(script):
    from flowinv.benchmark.cells import BenchmarkConfig

    every = script("--out=results")
    assert len(every) == 7
    for command, *flags in every:
        assert command == "benchmark"
        names = (flag.removeprefix("--") for flag in flags[::2])
        fields = dict(zip(names, flags[1::2], strict=True))
        seeds = int(fields.pop("seeds"))
        BenchmarkConfig(seeds=seeds, **fields).check()
    assert script("3", "1", "--out=results") == [every[2], every[0]]
    with pytest.raises(SystemExit):
        script("8")


def test_rows_are_drawn(script, tmp_path):
    published = tmp_path / "published.csv"
    published.write_text(
        "task,algorithm,num_simulations,num_observation,C2ST\ntwo_moons,X,1000,1,.9\n"
    )
    file = tmp_path / "c2st.png"
    assert script("--figure", file, "--published", published) == []
    assert file.read_bytes().startswith(b"\x89PNG")


def test_every_method_is_named_once():
    """Also one that the first task has no rows of."""
    curves = {"a": {"npe": {1_000: 0.6}}, "b": {"npe": {1_000: 0.6}, "nle": {9: 0.7}}}
    (legend,) = benchmark_figure(curves).legends
    assert [text.get_text() for text in legend.get_texts()] == ["npe", "nle"]
