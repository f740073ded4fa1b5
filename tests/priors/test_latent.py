"""Uniform and normal priors, and what every prior promises."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from flowinv.priors import Prior, normal, prior_from_config, uniform

LOW = [20.0, 20.0, 1.0, 1.0]
HIGH = [80.0, 80.0, 15.0, 15.0]
NAMES = ["mean_x", "mean_y", "std_x", "std_y"]


@pytest.fixture
def beam() -> Prior:
    return uniform(LOW, HIGH, names=NAMES, units=["mm"] * 4)


def test_labels_edges_and_repr(beam: Prior) -> None:
    assert beam.names == tuple(NAMES)
    assert beam.units == ("mm",) * 4
    assert beam.dim == 4
    np.testing.assert_array_equal(beam.low, LOW)
    np.testing.assert_array_equal(beam.high, HIGH)
    assert repr(beam) == "Prior(uniform[4]; mean_x, mean_y, std_x, std_y)"
    assert uniform(0, 1).names == ("theta_0",)


def test_samples_lie_inside_and_are_uniform(beam: Prior) -> None:
    """Kolmogorov-Smirnov, 4 tests at p > 1e-4: false alarm 4e-4."""
    theta = beam.sample(jax.random.key(1), 20_000)
    assert theta.dtype == jnp.float32
    assert bool(jnp.all((theta > jnp.asarray(LOW)) & (theta < jnp.asarray(HIGH))))
    for column, low, high in zip(np.asarray(theta, float).T, LOW, HIGH, strict=True):
        assert stats.kstest(column, "uniform", (low, high - low)).pvalue > 1e-4


def test_round_trip_of_theta_in_float32(beam: Prior) -> None:
    """Two units in the last place of the larger edge, up to both edges."""
    theta = beam.sample(jax.random.key(2), 50_000)
    edges = jnp.nextafter(jnp.asarray([LOW, HIGH]), jnp.asarray([HIGH, LOW]))
    theta = jnp.concatenate([theta, edges])
    z, log_det = beam.to_latent_and_log_det(theta)
    back, log_det_back = beam.from_latent_and_log_det(z)
    spacing = np.spacing(np.float32(HIGH))
    assert np.max(np.abs(np.asarray(back - theta)) / spacing) <= 2.0
    np.testing.assert_allclose(log_det, -log_det_back, rtol=1e-5)


def test_both_tails_keep_their_digits() -> None:
    """Near an edge at 0, z is right to 1e-6 relative down to 1e-30 of the width."""
    both = uniform([0.0, -1.0], [1.0, 0.0])
    distance = np.logspace(-30, -1, 60)
    theta = jnp.asarray(np.stack([distance, -distance], -1), jnp.float32)
    exact = stats.norm.ppf(np.asarray(theta, float)[:, 0])
    z = np.asarray(both.to_latent(theta), float)
    np.testing.assert_allclose(z[:, 0], exact, rtol=1e-6)
    np.testing.assert_allclose(z[:, 1], -exact, rtol=1e-6)
    np.testing.assert_allclose(both.from_latent(z.astype(np.float32)), theta, rtol=3e-5)


@pytest.mark.parametrize("x64", [False, True])
@pytest.mark.parametrize("size", [6.0, 20.0, 300.0, 1e6])
def test_far_latents_stay_inside(x64: bool, size: float) -> None:
    with jax.enable_x64(x64):
        dtype = jnp.float64 if x64 else jnp.float32
        prior = uniform([0.0, -1.0, 0.1, 1e6, -3e30], [1.0, 0.0, 0.3, 1e6 + 99, 3e30])
        z = jnp.asarray([[size] * 5, [-size] * 5], dtype)
        theta, log_det = prior.from_latent_and_log_det(z)
        assert theta.dtype == dtype
        # In float64 against the exact edges: rounding must not have moved out.
        inside = np.asarray(theta, np.float64)
        assert np.all((inside > prior.low) & (inside < prior.high))
        assert bool(jnp.all(prior.contains(theta)))
        assert bool(jnp.all(jnp.isfinite(log_det)))
        again, log_det = prior.to_latent_and_log_det(theta)
        assert bool(jnp.all(jnp.isfinite(again)) & jnp.all(jnp.isfinite(log_det)))


@settings(max_examples=60, deadline=None)
@given(
    st.floats(-1e6, 1e6),
    st.floats(1e-3, 1e6),
    st.floats(-1e6, 1e6, width=32),
)
def test_from_latent_never_leaves_the_box(low: float, width: float, z: float) -> None:
    if width < 1_010 * np.spacing(np.float32(abs(low) + width)):
        return  # refused
    prior = uniform([low], [low + width])
    theta = np.asarray(prior.from_latent(jnp.asarray([z], jnp.float32)), np.float64)
    assert low < theta[0] < low + width


@pytest.mark.parametrize("x64", [False, True])
def test_log_prob_at_and_outside_the_edges(beam: Prior, x64: bool) -> None:
    with jax.enable_x64(x64):
        dtype = jnp.float64 if x64 else jnp.float32
        volume = np.prod(np.subtract(HIGH, LOW))
        low, high = jnp.asarray(LOW, dtype), jnp.asarray(HIGH, dtype)
        inside = jnp.stack([low, high, 0.5 * (low + high)])
        expected = np.full(3, -np.log(volume))
        np.testing.assert_allclose(beam.log_prob(inside), expected, rtol=1e-6)
        for point in (jnp.nextafter(low, -high), jnp.nextafter(high, 2 * high)):
            for column in range(4):
                outside = inside[2].at[column].set(point[column])
                assert beam.log_prob(outside) == -jnp.inf
                assert not bool(beam.contains(outside))
                z, log_det = beam.to_latent_and_log_det(outside)
                assert bool(jnp.all(jnp.isfinite(z)))
                assert log_det == -jnp.inf
        assert beam.log_prob(inside[2].at[0].set(jnp.nan)) == -jnp.inf
        assert beam.log_prob(inside[2].at[0].set(jnp.inf)) == -jnp.inf


def test_gradients_are_finite_everywhere(beam: Prior) -> None:
    points = jnp.asarray([LOW, HIGH, [0, 0, 0, 0], [50, 50, 5, 5]], jnp.float32)
    for function in (beam.log_prob, lambda t: beam.to_latent(t).sum()):
        assert bool(jnp.all(jnp.isfinite(jax.vmap(jax.grad(function))(points))))
    z = jnp.asarray([[-1e6, -10, 10, 1e6], [0, 0, 0, 0]], jnp.float32)
    slope = jax.vmap(jax.grad(lambda z: beam.from_latent(z).sum()))(z)
    assert bool(jnp.all(jnp.isfinite(slope)))


def test_any_leading_batch_jit_and_vmap(beam: Prior) -> None:
    theta = beam.sample(jax.random.key(3), 12).reshape(3, 4, 4)
    z = beam.to_latent(theta)
    assert z.shape == (3, 4, 4)
    assert beam.log_prob(theta).shape == (3, 4)
    np.testing.assert_allclose(jax.jit(beam.to_latent)(theta), z, rtol=1e-6)
    np.testing.assert_allclose(jax.vmap(beam.to_latent)(theta), z, rtol=1e-6)
    assert beam.to_latent(theta[0, 0]).shape == (4,)


def test_dtype_follows_the_argument(beam: Prior) -> None:
    assert beam.to_latent(jnp.asarray([50, 50, 5, 5])).dtype == jnp.float32
    with jax.enable_x64(True):
        assert beam.to_latent(np.asarray([50.0, 50, 5, 5])).dtype == jnp.float64
        assert beam.to_latent(np.float32([50.0, 50, 5, 5])).dtype == jnp.float32


def test_equal_configurations_are_equal_and_hash_alike(beam: Prior) -> None:
    again = prior_from_config(json.loads(json.dumps(beam.to_config())))
    assert again == beam
    assert hash(again) == hash(beam)
    assert uniform(0, 1) != uniform(0, 2)
    assert uniform(0, 1) != normal(0, 1)


def test_normal_is_affine() -> None:
    prior = normal([1.0, -2.0], [0.5, 3.0])
    theta = prior.from_latent(jnp.asarray([1.0, -1.0]))
    np.testing.assert_allclose(theta, [1.5, -5.0])
    expected = stats.norm.logpdf([1.5, -5.0], [1.0, -2.0], [0.5, 3.0]).sum()
    np.testing.assert_allclose(prior.log_prob(theta), expected, rtol=1e-6)
    assert bool(jnp.all(jnp.isfinite(prior.from_latent(jnp.full(2, 1e6)))))


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: uniform(1, 1), r"prior of 'theta_0' with low < high; got low=1"),
        (lambda: uniform([0, 2], [1, 1], ["a", "b"]), "prior of 'b' with low < high"),
        (lambda: uniform(0, np.inf), "edges of 'theta_0' to be finite"),
        (lambda: uniform(np.nan, 1), "to be finite"),
        (lambda: uniform([0, 1], [1, 2, 3]), "vectors of one length"),
        (lambda: uniform([], []), "at least one parameter"),
        (lambda: uniform([0, 0], [1, 1], ["a"]), "names as 2 strings"),
        (lambda: uniform([0, 0], [1, 1], ["a", "a"]), "names to be distinct"),
        (lambda: uniform([0, 0], [1, 1], ["a", ""]), "names to be distinct and not"),
        (lambda: uniform(0, 1, units=["a", "b"]), "units as 1 strings"),
        (lambda: uniform(1e8, 1e8 + 1), "over at least 1,000 float32 steps; got 0"),
        (lambda: normal(0, 0), "finite loc and scale > 0; got loc=0, scale=0"),
        (lambda: normal(np.nan, 1), "finite loc"),
        (lambda: uniform(0, 1).log_prob(jnp.zeros(3)), r"theta with shape \(..., 1\)"),
        (lambda: uniform(0, 1).from_latent(0.5), r"z with shape \(..., 1\)"),
    ],
)
def test_bad_arguments_answer_in_one_line(build, message: str) -> None:
    with pytest.raises(ValueError, match=message) as error:
        build()
    assert "\n" not in str(error.value)
