"""The normal location model."""

import jax
import numpy as np
import pytest
from scipy.stats import norm

from flowinv.simulators.gaussian_linear import GaussianLinear


def test_draws_and_density():
    model = GaussianLinear(3, 0.5)
    theta = np.float32([1.0, -2.0, 0.0])
    keys = jax.random.split(jax.random.key(0), 20_000)
    x = np.asarray(jax.vmap(model.simulate, (0, None))(keys, theta))
    # Five standard errors of a mean and of a variance.
    np.testing.assert_allclose(x.mean(0), theta, atol=5 * np.sqrt(0.5 / 20_000))
    np.testing.assert_allclose(x.var(0), 0.5, rtol=5 * np.sqrt(2 / 20_000))
    expected = norm.logpdf(x[:9], theta, np.sqrt(0.5)).sum(-1)
    np.testing.assert_allclose(model.log_prob(theta, x[:9]), expected, rtol=1e-5)


@pytest.mark.parametrize("fields", [{"dim": 0}, {"variance": 0.0}])
def test_invalid_fields(fields):
    with pytest.raises(ValueError, match=f"Expected {next(iter(fields))} "):
        GaussianLinear(**fields)
