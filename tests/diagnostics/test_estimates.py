import numpy as np
import pytest
from sklearn.metrics import r2_score, root_mean_squared_error

from flowinv.diagnostics.estimates import estimate_errors


def test_agrees_with_scikit_learn():
    rng = np.random.default_rng(0)
    truth = rng.normal(size=(100, 3)) * [1, 10, 0.1] + 50
    estimate = truth + rng.normal(size=truth.shape) * [0.1, 5, 1] + [0, 1, 0]
    result = estimate_errors(truth, estimate)
    r2 = r2_score(truth, estimate, multioutput="raw_values")
    rmse = root_mean_squared_error(truth, estimate, multioutput="raw_values")
    np.testing.assert_allclose(result.r2, r2)
    np.testing.assert_allclose(result.rmse, rmse)
    np.testing.assert_allclose(result.bias, (estimate - truth).mean(0))


def test_perfect_and_mean_estimates():
    truth = np.random.default_rng(1).normal(size=(50, 2))
    np.testing.assert_allclose(estimate_errors(truth, truth), [[0, 0], [1, 1], [0, 0]])
    mean = np.broadcast_to(truth.mean(0), truth.shape)
    np.testing.assert_allclose(estimate_errors(truth, mean).r2, 0, atol=1e-12)


@pytest.mark.parametrize(
    ("truth", "estimate", "message"),
    [
        (np.ones((1, 2)), np.ones((1, 2)), "truth with at least 2 rows"),
        (np.ones((3, 2)), np.ones((4, 2)), r"estimate with shape \(3, 2\)"),
        (np.ones((3, 2)), np.full((3, 2), np.nan), "estimate to hold finite"),
    ],
)
def test_bad_input(truth, estimate, message):
    with pytest.raises(ValueError, match=message):
        estimate_errors(truth, estimate)
