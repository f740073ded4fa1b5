"""The page's section on rounds: numbers in the table, a figure for each observation."""

import dataclasses

import numpy as np
import pytest

from flowinv.report.content import load_content, save_content
from flowinv.report.rounds_plot import rounds_plot
from flowinv.report.rounds_section import rounds_section


def test_table_and_figures(sequential):
    text = rounds_section(sequential)
    assert text.count("<summary>") == 2
    assert text.count("<svg") == 2
    first, second = text.split("<details", 2)[1:]
    assert "6,000" in first
    assert "C2ST (forest)</th>" in first
    # Without an exact posterior there is no score to show.
    assert "C2ST (forest)</th>" not in second
    assert "1.0 %" in first


def test_saved_and_read_again(sequential, tmp_path):
    save_content(sequential, tmp_path / "report.npz")
    read = load_content(tmp_path / "report.npz")
    for label, trace in sequential.models["spline"].rounds.items():
        found = read.models["spline"].rounds[label]
        for field in dataclasses.fields(trace):
            np.testing.assert_array_equal(
                getattr(found, field.name), getattr(trace, field.name)
            )


@pytest.mark.parametrize("dim", [1, 2, 4, 12])
def test_any_number_of_parameters(sequential, dim):
    trace = sequential.models["spline"].rounds["observation 1"]
    wide = dataclasses.replace(
        trace, mean=np.resize(trace.mean, (6, dim)), sd=np.resize(trace.sd, (6, dim))
    )
    figure = rounds_plot(wide, [f"p{d}" for d in range(dim)], [""] * dim)
    shown = min(dim, 8)
    assert len(figure.axes) == shown + (2 if dim > 1 else 1)
    drawn = figure.axes[0].containers[0].lines[0].get_ydata()
    expected = (wide.mean[:, 0] - wide.mean[-1, 0]) / wide.sd[-1, 0]
    np.testing.assert_allclose(drawn, expected)
