"""The step scan: independent exposures against their exact moments and likelihood.

Bounds of 5 to 6 standard errors on 400 to 40,000 entries, fixed seeds.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from flowinv.simulators.knife_edge import EdgeAxis, StepScan, lattice_axes

THETA = (45.0, 60.0, 6.0, 9.0)
# One axis as instruments have them: uneven, in mm, with a monitor, moving in.
UNEVEN = EdgeAxis(
    "",
    tuple(np.r_[np.linspace(-3, 1, 15), np.linspace(4, 5, 4)].tolist()),
    tuple(np.linspace(0.8, 1.3, 19).tolist()),
    falling=True,
)
OWN_THETA = (-0.5, 0.7)


def draws_of(simulator, theta, num_draws):
    keys = jax.random.split(jax.random.key(3), num_draws)
    draw = jax.jit(jax.vmap(simulator.simulate, (0, None)))
    return np.asarray(draw(keys, jnp.asarray(theta)), np.float64)


def rate_of(simulator, theta=THETA, offset=0.0):
    """Expected counts by scipy, with the knife off by `offset`, `[..., L]`."""
    rates, count = [], len(simulator.axes)
    for number, (axis, grid) in enumerate(
        zip(simulator.axes, simulator.positions, strict=True)
    ):
        time = np.linspace(0, 1, len(grid))
        beam = stats.norm(theta[number], theta[count + number])
        passed = (beam.sf if axis.falling else beam.cdf)(grid + offset)
        scale = simulator.num_photons * (1 + simulator.drift * time)
        scale = scale * np.array(axis.monitor or 1.0)
        rates.append(scale * passed + simulator.background)
    return np.concatenate(rates, -1)


@pytest.mark.parametrize(
    ("simulator", "theta"),
    [
        (StepScan(lattice_axes(100), background=20.0, drift=-0.2), THETA),
        (StepScan((UNEVEN,), num_photons=300.0, drift=0.1, unit="mm"), OWN_THETA),
    ],
)
def test_exposures_are_independent_poisson(simulator, theta):
    x = draws_of(simulator, theta, 8_000)
    rate = rate_of(simulator, theta)
    error = np.sqrt(rate / len(x)) + 1e-3
    assert np.abs((x.mean(axis=0) - rate) / error).max() < 5
    covariance = np.cov(x.T)
    noise = np.sqrt((np.outer(rate, rate) + np.diag(rate**2 + rate)) / len(x)) + 1e-3
    assert np.abs((covariance - np.diag(rate)) / noise).max() < 6


def test_jitter_and_read_noise_add_their_variance():
    plain = StepScan(lattice_axes(100), background=20.0)
    noisy = StepScan(lattice_axes(100), background=20.0, jitter=0.3, read_noise=8.0)
    x = draws_of(noisy, THETA, 8_000)
    slope = np.concatenate(
        [
            4096 * stats.norm(THETA[a], THETA[2 + a]).pdf(plain.positions[a])
            for a in (0, 1)
        ]
    )
    expected = rate_of(plain) + 64.0 + (0.3 * slope) ** 2
    assert np.abs(x.var(axis=0) / expected - 1).max() < 6 * np.sqrt(2 / len(x)) + 0.01
    assert np.any(x != np.round(x))


def test_derivatives_of_the_curve_are_autodiffs():
    simulator = StepScan((UNEVEN,), fit_amplitude=True, fit_background=True)
    theta = jnp.asarray([*OWN_THETA, 0.7, 50.0])
    curve = simulator.curve(theta)
    slopes = jax.jacobian(lambda own: simulator.curve(own).rate)(theta)
    ones = np.ones_like(curve.rate)
    found = np.stack([curve.by_place, curve.by_width, curve.passed, ones], 1)
    np.testing.assert_allclose(found, slopes, rtol=1e-4, atol=1e-2)
    # Averaged over the knife's jitter: a wider edge with the same parameters.
    smeared = jax.jacobian(lambda own: simulator.curve(own, jitter=0.5).rate)(theta)
    curve = simulator.curve(theta, jitter=0.5)
    found = np.stack([curve.by_place, curve.by_width], 1)
    np.testing.assert_allclose(found, smeared[:, :2], rtol=1e-4, atol=1e-2)
    nodes, weights = np.polynomial.hermite_e.hermegauss(40)
    rates = jax.vmap(lambda j: simulator.curve(theta, 0.5 * j).rate)(jnp.asarray(nodes))
    expected = np.average(rates, axis=0, weights=weights)
    np.testing.assert_allclose(curve.rate, expected, rtol=1e-4)


def exact_log_prob(simulator, theta, x):
    """Sum over counts and dense sum over jitter, by scipy, in float64."""
    places = np.linspace(-7, 7, 2_001 if simulator.jitter else 1)
    weights = stats.norm.pdf(places)
    rates = np.stack(
        [rate_of(simulator, theta, offset=simulator.jitter * j) for j in places]
        if simulator.jitter
        else [rate_of(simulator, theta)]
    )
    total = 0.0
    for value, rate in zip(x, rates.T, strict=True):
        noise = simulator.read_noise
        if noise:
            low, high = value - 9 * noise - 2, value + 9 * noise + 2
            counts = np.arange(max(0, int(low)), max(1, int(high) + 1))
            # A smooth function of the rate, tabulated.
            table = np.linspace(rate.min(), rate.max() + 1e-9, 3_000)
            shares = (
                stats.poisson.pmf(counts[:, None], table) if len(rate) > 1 else None
            )
            if shares is None:
                shares = stats.poisson.pmf(counts[:, None], rate)
            read = stats.norm.pdf(value - counts, 0, noise)[:, None]
            density = (shares * read).sum(0)
            if len(rate) > 1:
                density = np.interp(rate, table, density)
        else:
            density = stats.poisson.pmf(value, rate)
        total += np.log(np.average(density, weights=weights))
    return total


@pytest.mark.parametrize(
    ("options", "theta", "limit"),
    [
        ({"drift": 0.1}, THETA, 1e-6),
        ({"read_noise": 0.3}, THETA, 1e-6),
        ({"read_noise": 2.0}, THETA, 2e-3),
        ({"read_noise": 30.0}, THETA, 1e-5),
        pytest.param({"jitter": 0.3}, THETA, 1e-4, marks=pytest.mark.slow),
        pytest.param(
            {"jitter": 1.0}, (45.2, 60.3, 1.0, 1.5), 0.03, marks=pytest.mark.slow
        ),
        ({"jitter": 0.2, "read_noise": 5.0}, THETA, 2e-3),
    ],
)
@pytest.mark.later("options6-*")
def test_log_prob_is_the_integral_over_noise_and_jitter(options, theta, limit):
    """To `limit` nats over the whole scan, for a theta about one sd off."""
    axes = tuple(EdgeAxis(a, tuple(range(20, 80, 2))) for a in "xy")
    simulator = StepScan(axes, background=3.0, **options)
    x = draws_of(simulator, theta, 1)[0]
    other = np.array(theta) + [0.1, -0.1, 0.05, 0.1]
    expected = exact_log_prob(simulator, other, x) - exact_log_prob(simulator, theta, x)
    with jax.enable_x64(True):
        both = jnp.asarray([theta, other], jnp.float64)
        log_prob = jax.jit(jax.vmap(simulator.log_prob, (0, None)))
        here, there = log_prob(both, jnp.asarray(x, jnp.float64))
    assert abs(float(there - here) - expected) < limit


@pytest.mark.parametrize("noise", [0.0, 0.4, 3.0])
@pytest.mark.parametrize("jitter", [0.0, 0.3])
def test_gradient_is_that_of_differences(noise, jitter):
    axes = tuple(EdgeAxis(a, tuple(range(20, 80, 2))) for a in "xy")
    simulator = StepScan(axes, background=3.0, jitter=jitter, read_noise=noise)
    x = jnp.asarray(draws_of(simulator, THETA, 1)[0])
    with jax.enable_x64(True):
        theta, x = (jnp.asarray(a, jnp.float64) for a in (THETA, x))
        log_prob = jax.jit(jax.vmap(simulator.log_prob, (0, None)))
        step = 1e-4 * np.eye(4)
        ends = np.asarray(log_prob(jnp.concatenate([theta + step, theta - step]), x))
        gradient = jax.jit(jax.grad(simulator.log_prob))(theta, x)
    found = (ends[:4] - ends[4:]) / 2e-4
    np.testing.assert_allclose(gradient, found, rtol=5e-3, atol=5e-2)


def test_fitted_amplitude_and_background():
    simulator = StepScan(fit_amplitude=True, fit_background=True)
    assert simulator.names[4:] == ("amplitude", "background")
    assert simulator.units[4:] == ("", "counts")
    theta = jnp.asarray([*THETA, 0.7, 50.0])
    x = draws_of(simulator, theta, 2_000)
    assert abs(x[:, 0].mean() - 50.0) < 1.0
    assert abs(x[:, 199].mean() - (0.7 * 4096 + 50)) < 8.0
    gradient = jax.jit(jax.grad(simulator.log_prob))(
        theta, jnp.asarray(x[0], jnp.float32)
    )
    assert np.all(np.isfinite(gradient))
    assert np.all(np.asarray(gradient) != 0)


@pytest.mark.parametrize("options", [{}, {"jitter": 0.3}, {"read_noise": 2.0}])
def test_log_prob_is_finite_far_from_the_data(options):
    simulator = StepScan(**options)
    x = jnp.asarray(draws_of(simulator, THETA, 1)[0], jnp.float32)
    far = jnp.asarray([80.0, 20.0, 1.0, 1.0])
    value, gradient = jax.jit(jax.value_and_grad(simulator.log_prob))(far, x)
    assert np.isfinite(value)
    assert np.all(np.isfinite(gradient))


def test_one_axis_has_plain_names_in_its_own_unit():
    simulator = StepScan((UNEVEN,), fit_background=True, unit="mm")
    assert simulator.names == ("mean", "std", "background")
    assert simulator.units == ("mm", "mm", "counts")
    assert simulator.x_shape == (19,)
    assert simulator.dim == 3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_photons": 0.0}, "num_photons above 0"),
        ({"background": -1.0}, "background of at least 0"),
        ({"jitter": float("nan")}, "jitter of at least 0"),
        ({"drift": -1.0}, "drift above -1"),
        ({"axes": ()}, "axes to be one or two; got 0"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(ValueError, match=message):
        StepScan(**options)


@pytest.mark.parametrize(
    ("axis", "message"),
    [
        ({"positions": (1.0, 2.0)}, "positions to be 5 to 2000 of them; got 2"),
        ({"positions": (1.0, 2.0, 2.0, 3.0, 4.0)}, "positions to differ"),
        ({"positions": (1.0, 2.0, np.inf, 3.0, 4.0)}, "positions to be finite"),
        ({"monitor": (1.0,)}, "monitor with 5 numbers, one a position; got 1"),
        ({"monitor": (1.0, 1.0, 0.0, 1.0, 1.0)}, "monitor above 0"),
    ],
)
def test_bad_axes(axis, message):
    with pytest.raises(ValueError, match=message):
        EdgeAxis(**{"name": "", "positions": (1.0, 2.0, 3.0, 4.0, 5.0), **axis})


def test_bad_shapes():
    with pytest.raises(ValueError, match="num_points to be 100 or 200"):
        lattice_axes(7)
    with pytest.raises(ValueError, match=r"x with shape \(400,\)"):
        StepScan().log_prob(jnp.ones(4), jnp.ones(3))
