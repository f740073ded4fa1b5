import numpy as np
import pytest
from matplotlib.figure import Figure

from flowinv.diagnostics.calibration import calibration_curves
from flowinv.report.plots import (
    coverage_curves,
    ecdf_differences,
    errors_in_sds,
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


def test_errors_are_in_units_of_the_posteriors_own_sd(content):
    for model, width in zip(content.models.values(), (1.0, 0.7), strict=True):
        errors, sd = model.errors, model.results.numbers["accuracy"]["error_in_sds"]
        figure = errors_in_sds(
            *(errors.truth, errors.in_sds, sd), *(content.names, content.units)
        )
        assert len(figure.axes) == 4
        dots = figure.axes[0].collections[-1].get_offsets()
        pull = errors.in_sds[:, 0]
        np.testing.assert_allclose(dots[:, 1], np.clip(pull, -5, 5), rtol=1e-6)
        # The made-up posterior is `width` times as wide as it should be.
        assert pull.std() == pytest.approx(1 / width, rel=0.1)
        assert titles(figure)[0] == f"mean_x: sd {pull.std():.2f}"


def test_rank_histograms_show_every_rank(content):
    curves = content.models["cINN"].calibration
    figure = rank_histograms(curves, np.ones(4), content.names)
    for axis in figure.axes:
        bars = [patch.get_height() for patch in axis.containers[0]]
        assert sum(bars) == 1_000
        assert len(bars) == 20


def test_coverage_curves_start_and_end_near_zero(content):
    models = {name: m.calibration for name, m in content.models.items()}
    figure = coverage_curves(models, content.names)
    assert titles(figure) == list(models)
    right, narrow = (
        np.array([line.get_ydata() for line in axis.lines[1:]]) for axis in figure.axes
    )
    assert np.abs(right).max() < 5
    assert narrow.min() < -10


def test_distributions_of_ranks_show_what_is_wrong(content):
    models = {name: model.calibration for name, model in content.models.items()}
    figure = ecdf_differences(models, content.names)
    assert titles(figure) == list(models)
    right, narrow = figure.axes
    low, high = models["cINN"].whole
    for line in right.lines[1:]:
        own = line.get_ydata()
        assert ((own > 1.5 * low) & (own < 1.5 * high)).all()
    # Too narrow: more low ranks than promised, and more high ones.
    for line in narrow.lines[1:]:
        own = line.get_ydata()
        assert own[: len(own) // 3].max() > 0.03
        assert own[-len(own) // 3 :].min() < -0.03


def test_coverage_curves_with_few_draws(tmp_path):
    ranks = np.random.default_rng(0).integers(0, 6, size=(50, 1))
    curves = calibration_curves(ranks, 5)
    assert png_size(coverage_curves({"few": curves}, ["a"]), tmp_path) > 0


def test_figures_leave_the_users_settings_alone(content):
    import matplotlib

    before = dict(matplotlib.rcParams)
    rank_histograms(content.models["cINN"].calibration, np.ones(4), content.names)
    assert dict(matplotlib.rcParams) == before


def test_wrong_number_of_names(content):
    with pytest.raises(ValueError, match="names with shape"):
        errors_in_sds(*2 * [np.ones((3, 2))], np.ones(2), ["a"], ["", ""])
