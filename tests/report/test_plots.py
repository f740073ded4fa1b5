import numpy as np
import pytest
from matplotlib.figure import Figure

from flowinv.report.plots import (
    coverage_curves,
    estimates_against_truth,
    rank_histograms,
    training_curves,
)


def png_size(figure, tmp_path):
    path = tmp_path / "figure.png"
    figure.savefig(path)
    return path.stat().st_size


def titles(figure):
    return [axis.get_title("left") for axis in figure.axes]


def test_training_curves(content, tmp_path):
    figure = training_curves(content.models["cINN"].history)
    assert isinstance(figure, Figure)
    assert titles(figure) == [
        "loss (-log q, nats)",
        "gradient norm",
        "out of range (share)",
    ]
    assert png_size(figure, tmp_path) > 10_000


@pytest.mark.parametrize(
    "history",
    [
        {},
        {"gradient_norm": [1.0, 0.0]},
        {"train_loss": [3.0]},
        {"train_loss": [3.0, np.nan], "validation_loss": [np.nan, np.nan]},
        {"out_of_range": [0.0, 0.0, 0.0]},
    ],
)
def test_short_missing_and_non_finite_histories(history, tmp_path):
    assert png_size(training_curves(history), tmp_path) > 0


def test_estimates_against_truth_states_the_errors(content):
    estimates = content.models["cINN"].estimates
    figure = estimates_against_truth(
        estimates.truth, estimates.named(), content.names, content.units
    )
    assert len(figure.axes) == 12
    error = estimates.mean[:, 0] - estimates.truth[:, 0]
    text = figure.axes[0].texts[0].get_text()
    assert f"RMSE {np.sqrt((error**2).mean()):.3g}" in text
    assert "R² 0.999" in text


def test_rank_histograms_show_every_rank(content):
    calibration = content.models["cINN"].calibration
    figure = rank_histograms(calibration.ranks, 199, content.names)
    for axis in figure.axes:
        bars = [patch.get_height() for patch in axis.containers[0]]
        assert sum(bars) == 1_000
        assert len(bars) == 20


def test_coverage_curves_start_and_end_near_zero(content):
    models = {
        name: (m.calibration.ranks, m.calibration.num_samples)
        for name, m in content.models.items()
    }
    figure = coverage_curves(models, content.names)
    assert titles(figure) == list(models)
    right, narrow = (
        np.array([line.get_ydata() for line in axis.lines[1:]]) for axis in figure.axes
    )
    assert np.abs(right).max() < 5
    assert narrow.min() < -10


def test_coverage_curves_with_few_draws(tmp_path):
    ranks = np.random.default_rng(0).integers(0, 6, size=(50, 1))
    assert png_size(coverage_curves({"few": (ranks, 5)}, ["a"]), tmp_path) > 0


def test_figures_leave_the_users_settings_alone(content):
    import matplotlib

    before = dict(matplotlib.rcParams)
    rank_histograms(content.models["cINN"].calibration.ranks, 199, content.names)
    assert dict(matplotlib.rcParams) == before


def test_wrong_number_of_names(content):
    with pytest.raises(ValueError, match="names with shape"):
        estimates_against_truth(
            np.ones((3, 2)), {"mean": np.ones((3, 2))}, ["a"], ["", ""]
        )
