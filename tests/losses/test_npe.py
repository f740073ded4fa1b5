"""The NPE loss: -log q of the rows, smallest where q is the posterior."""

import jax
import jax.numpy as jnp
import numpy as np

from flowinv.losses.npe import Batch, npe_loss


def gaussian(params, z, features):
    """log N(z; slope x, sd^2)."""
    slope, log_sd = params
    v = (z[..., 0] - slope * features) / jnp.exp(log_sd)
    return -0.5 * v**2 - log_sd - 0.5 * jnp.log(2 * jnp.pi)


def test_is_minus_log_q_per_row():
    batch = Batch(jnp.array([[0.5], [2.0]]), jnp.array([1.0, 2.0]), jnp.ones(2, bool))
    loss = npe_loss(gaussian, (1.0, 0.0), batch, jax.random.key(0))
    expected = 0.5 * np.log(2 * np.pi) + 0.5 * np.array([0.25, 0.0])
    np.testing.assert_allclose(loss, expected, rtol=1e-6)


def test_is_stationary_at_the_posterior():
    """z ~ N(0, 1), x = z + N(0, 1): posterior N(x / 2, 1 / 2).

    50,000 rows: the gradient's standard error is 0.01; 5 of them, false alarm 1e-6.
    """
    key_z, key_x = jax.random.split(jax.random.key(0))
    z = jax.random.normal(key_z, (50_000, 1))
    x = z[:, 0] + jax.random.normal(key_x, (50_000,))
    batch = Batch(z, x, jnp.ones(len(z), bool))

    def mean(params):
        return npe_loss(gaussian, params, batch, None).mean()

    exact = (0.5, 0.5 * jnp.log(0.5))
    value, slope = jax.value_and_grad(mean)(exact)
    np.testing.assert_allclose(slope, 0.0, atol=0.05)
    # Entropy of N(., 1 / 2); the standard error of the mean is 0.003.
    np.testing.assert_allclose(value, 0.5 * np.log(np.pi * np.e), atol=0.016)
    for other in ((0.7, exact[1]), (0.5, exact[1] + 0.2), (0.5, exact[1] - 0.2)):
        assert mean(other) > value
