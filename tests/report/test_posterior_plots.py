import numpy as np
import pytest

from flowinv.report.posterior_plots import pair_plot, scan_plot
from flowinv.tasks.task import ScanLayout

FOUR = ScanLayout(("a",), (np.arange(4),))


def drawn(axis):
    return [text.get_text() for text in axis.get_legend().get_texts()]


def test_pair_plot_of_two_flows(content, tmp_path):
    observation = content.observations[0]
    figure = pair_plot(
        {n: m.answers[observation.label].samples for n, m in content.models.items()},
        content.names,
        content.units,
        observation.exact,
        observation.theta_true,
    )
    assert len(figure.axes) == 16
    assert drawn(figure.axes[3]) == ["exact", "cINN", "spline flow", "truth"]
    assert figure.axes[12].get_xlabel() == "mean_x (grid)"
    figure.savefig(tmp_path / "pairs.png")
    for d in range(4):
        low, high = figure.axes[5 * d].get_xlim()
        assert low < observation.theta_true[d] < high


@pytest.mark.parametrize("dim", [1, 2, 5])
def test_pair_plot_in_other_dimensions(dim, tmp_path):
    draws = np.random.default_rng(0).normal(size=(300, dim))
    names = [f"theta_{d}" for d in range(dim)]
    figure = pair_plot({"flow": draws}, names, [""] * dim)
    figure.savefig(tmp_path / "pairs.png")
    assert len(figure.axes) == dim**2


def test_pair_plot_of_degenerate_draws(tmp_path):
    """All draws equal: nothing to contour, and no error."""
    figure = pair_plot({"flow": np.ones((100, 2))}, ["a", "b"], ["", ""])
    figure.savefig(tmp_path / "pairs.png")
    assert (tmp_path / "pairs.png").stat().st_size > 0
    for axis in figure.axes:
        low, high = axis.get_xlim()
        assert np.isfinite([low, high]).all()
        assert low < high


def test_contours_hold_their_share():
    """The filled 50 and 90 % regions of a normal: radii 1.177 and 2.146 sds."""
    draws = np.random.default_rng(1).normal(size=(200_000, 2))
    figure = pair_plot({"flow": draws}, ["a", "b"], ["", ""])
    lines = figure.axes[2].collections[0].get_paths()
    radii = [np.linalg.norm(path.vertices, axis=1).mean() for path in lines]
    np.testing.assert_allclose(sorted(radii), [1.177, 2.146], rtol=0.03)


def test_a_broad_neighbour_does_not_smear_a_thin_posterior():
    """Contour radii of the thin set stay right beside one 100 times as broad."""
    thin, broad = np.random.default_rng(1).normal(size=(2, 100_000, 2))
    sets = {"thin": thin, "broad": 100 * broad}
    figure = pair_plot(sets, ["a", "b"], ["", ""])
    lines = figure.axes[2].collections[0].get_paths()
    radii = [np.linalg.norm(path.vertices, axis=1).mean() for path in lines]
    np.testing.assert_allclose(sorted(radii), [1.177, 2.146], rtol=0.03)


def test_scan_plot_panels(content, tmp_path):
    observation = content.observations[0]
    answer = content.models["cINN"].answers[observation.label]
    predicted = {"cINN": answer.predictive}
    figure = scan_plot(
        observation.drawn, observation.layout, predicted, observation.fit.curve
    )
    figure.savefig(tmp_path / "scan.png")
    assert len(figure.axes) == 4
    assert drawn(figure.axes[1]) == [
        "predicted, 90 %",
        "predicted, 50 %",
        "scan",
        "classical fit",
    ]
    low, high = figure.axes[0].get_xlim()
    center, width = observation.theta_true[0], observation.theta_true[2]
    assert low < center - 2 * width < center + 2 * width < high
    assert high - low < 10 * width


def test_one_figure_shows_what_every_model_predicts(content):
    observation = content.observations[0]
    predicted = {
        name: model.answers[observation.label].predictive
        for name, model in content.models.items()
    }
    figure = scan_plot(observation.drawn, observation.layout, predicted)
    assert drawn(figure.axes[1]) == [
        "predicted, 90 %",
        "predicted, 50 %",
        "spline flow, median",
        "scan",
    ]
    # Residuals of both, and the line of zero.
    assert len(figure.axes[2].lines) == 3


def test_residuals_of_a_right_prediction_are_standard():
    rng = np.random.default_rng(2)
    x, predictive = rng.poisson(100, size=200), rng.poisson(100, size=(500, 200))
    figure = scan_plot(x, ScanLayout(("scan",), (np.arange(200),)), {"m": predictive})
    residuals = figure.axes[1].lines[-1].get_ydata()
    assert abs(residuals.mean()) < 0.3
    assert abs(residuals.std() - 1) < 0.2


def test_bare_scan_and_cumulative_curve(tmp_path):
    grid = np.arange(100.0)
    knife = np.cumsum(np.exp(-0.5 * (grid - 50) ** 2 / 9))
    layout = ScanLayout(("knife edge",), (grid,))
    three = {"flow": np.stack([knife] * 3)}
    bare = scan_plot(knife, layout)
    # A hundredth of room on both sides: points at the ends are whole.
    assert bare.axes[0].get_xlim() == pytest.approx((-0.99, 99.99))
    predicted = scan_plot(knife, layout, three)
    low, high = predicted.axes[0].get_xlim()
    assert 35 < low < 45
    assert 55 < high < 65
    predicted.savefig(tmp_path / "scan.png")
    down = scan_plot(knife, ScanLayout(("downwards",), (grid[::-1],)), three)
    assert down.axes[0].get_xlim() == pytest.approx((99 - high, 99 - low))
    shown = down.axes[0].lines[0].get_xdata()
    assert len(shown) == pytest.approx((high - low) / 1.02 + 1)
    assert len(shown) == np.ptp(shown) + 1


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: scan_plot(np.ones(5), FOUR), "x with shape"),
        (
            lambda: scan_plot(np.ones(4), FOUR, {"f": np.ones((3, 5))}),
            "predictive with shape",
        ),
        (lambda: pair_plot({"f": np.ones((9, 3))}, ["a"], [""]), "draws of f with"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()
