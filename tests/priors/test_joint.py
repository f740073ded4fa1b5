"""Every kind of prior against numpyro and scipy: density, draws, transport, edges."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
from prior_kinds import FALLBACKS, KINDS, normals
from scipy import special, stats

from flowinv.priors import from_numpyro, independent, mixed, prior_from_config, uniform
from flowinv.priors.families import FAMILIES
from flowinv.priors.latent import Prior

each_kind = pytest.mark.parametrize("kind", KINDS, scope="module")


EXACT = [kind for kind in KINDS if kind not in FALLBACKS]
ROWS = 5_000  # the same in several tests: compiled once
EVERY_FLOAT = pytest.mark.parametrize(
    "x64", [False, pytest.param(True, marks=pytest.mark.slow)]
)


@pytest.fixture(scope="module")
def joint() -> Prior:
    """All kinds as columns of one prior: few compilations, and products are tested."""
    return independent({kind: base for kind, (base, _) in KINDS.items()})


def columns(kinds) -> list[int]:
    return [list(KINDS).index(kind) for kind in kinds]


@pytest.mark.slow
def test_transport_is_exact_in_float64(joint: Prior) -> None:
    """Both tails of each CDF, round trip, and slopes N(z) / p(theta) by scipy."""
    with jax.enable_x64(True):
        line = np.linspace(-4.0, 4.0, 161)
        z = np.broadcast_to(line[:, None], (161, joint.dim))
        theta, log_det = joint.from_latent_and_log_det(jnp.asarray(z))
        back, log_det_back = joint.to_latent_and_log_det(theta)
        np.testing.assert_allclose(back, z, atol=1e-7)
        np.testing.assert_allclose(log_det, -log_det_back, atol=1e-5)
        identity = joint.latent_log_prob(z) - log_det
        np.testing.assert_allclose(joint.log_prob(theta), identity, atol=1e-5)
        # Components are independent: the gradient of the sum is the diagonal.
        there = np.log(jax.grad(lambda z: joint.from_latent(z).sum())(jnp.asarray(z)))
        here = np.log(jax.grad(lambda t: joint.to_latent(t).sum())(theta))
        np.testing.assert_allclose(there.sum(-1), log_det, atol=1e-5)
        np.testing.assert_allclose(here, -there, atol=1e-5)
    lower, upper = special.ndtr(line), special.ndtr(-line)
    for kind, column in zip(EXACT, columns(EXACT), strict=True):
        exact, value = KINDS[kind][1], np.asarray(theta)[:, column]
        with np.errstate(all="ignore"):
            tails = np.where(line < 0, exact.cdf(value) / lower, 1.0)
            tails = np.where(line > 0, exact.sf(value) / upper, tails)
        np.testing.assert_allclose(tails, 1.0, rtol=1e-6, err_msg=kind)
        slope = stats.norm.logpdf(line) - exact.logpdf(value)
        np.testing.assert_allclose(there[:, column], slope, atol=2e-6, err_msg=kind)


def test_tails_of_a_heavy_tail_reach_the_largest_floats() -> None:
    """One degree of freedom is a Cauchy, out to t where scipy's own t has given up."""
    s = np.linspace(-650.0, 650.0, 1301)
    t = np.sinh(s)
    found = FAMILIES["student_t"].log_tails((t,), {"df": np.array([1.0])})
    for tail, exact in zip(found, FAMILIES["cauchy"].log_tails((t,), {}), strict=True):
        far = exact < np.log(0.5)
        np.testing.assert_allclose(tail[far], exact[far], rtol=1e-12)


@EVERY_FLOAT
def test_log_prob_equals_numpyro_and_scipy(x64: bool, joint: Prior) -> None:
    with jax.enable_x64(x64):
        theta = joint.sample(jax.random.key(0), 300)
        log_prob = joint.log_prob(theta)
        assert log_prob.dtype == theta.dtype == (jnp.float64 if x64 else jnp.float32)
        theta = np.asarray(theta)
        peers = jax.jit(
            lambda theta: [
                KINDS[kind][0].log_prob(theta[:, column])
                for kind, column in zip(joint.names, columns(joint.names), strict=True)
            ]
        )(theta)
        peer = np.sum(np.asarray(peers, float), axis=0)
        np.testing.assert_allclose(log_prob, peer, rtol=1e-5, atol=3e-3)
        some, priors = theta[:64], [from_numpyro(KINDS[kind][0]) for kind in EXACT]
        alone = jax.jit(
            lambda theta: [
                prior.log_prob(theta[:, column : column + 1])
                for prior, column in zip(priors, columns(EXACT), strict=True)
            ]
        )(some)
        for kind, column, got in zip(EXACT, columns(EXACT), alone, strict=True):
            tolerance = 1e-9 if x64 else 1e-4
            expected = KINDS[kind][1].logpdf(np.asarray(some[:, column], np.float64))
            np.testing.assert_allclose(
                got, expected, rtol=tolerance, atol=tolerance, err_msg=kind
            )


@pytest.mark.slow
def test_draws_follow_the_distribution(joint: Prior) -> None:
    """Kolmogorov-Smirnov on theta and z, p > 1e-4 each: 60 tests, false alarm 6e-3."""
    theta = joint.sample(jax.random.key(7), ROWS)
    assert bool(jnp.all(joint.contains(theta)))
    theta = np.asarray(theta)
    keys = jax.random.split(jax.random.key(8), joint.dim)
    bases = [KINDS[kind][0] for kind in joint.names]
    pairs = zip(keys, bases, strict=True)
    reference = jnp.stack([base.sample(key, (ROWS,)) for key, base in pairs], -1)
    z = np.asarray(joint.to_latent(reference), float)
    for kind, column in zip(EXACT, columns(EXACT), strict=True):
        draws = np.asarray(theta[:, column], float)
        assert stats.kstest(draws, KINDS[kind][1].cdf).pvalue > 1e-4, kind
        assert stats.kstest(z[:, column], "norm").pvalue > 1e-4, kind


def test_float32_round_trip(joint: Prior) -> None:
    """theta -> z -> theta to 2e-6 of theta's size or of the prior's spread."""
    keys = jax.random.split(jax.random.key(9), 4)
    parts = [joint.sample(key, ROWS) for key in keys]
    back = np.concatenate([joint.from_latent(joint.to_latent(part)) for part in parts])
    theta = np.concatenate(parts)
    spread = np.diff(np.quantile(theta, [0.16, 0.84], axis=0), axis=0)
    error = np.max(np.abs(back - theta) / np.maximum(np.abs(theta), spread), axis=0)
    assert np.max(error) < 2e-6, dict(zip(joint.names, error, strict=True))


@EVERY_FLOAT
def test_far_latents_stay_inside_with_finite_log_det(x64: bool, joint: Prior) -> None:
    with jax.enable_x64(x64):
        sizes = jnp.asarray([5.0, 9.0, 14.0, 36.0, 38.0, 1e3, 1e6])
        z = jnp.concatenate([sizes, -sizes])[:, None] * jnp.ones(joint.dim)
        theta, log_det = joint.from_latent_and_log_det(z)
        # In float64 against the exact edges: rounding must not have moved out.
        inside = np.asarray(theta, np.float64)
        assert np.all((inside > joint.low) & (inside < joint.high))
        assert bool(jnp.all(joint.contains(theta)))
        assert bool(jnp.all(jnp.isfinite(log_det)))
        again, log_det = joint.to_latent_and_log_det(theta)
        finite = np.asarray(jnp.isfinite(again)).all(0)
        assert finite.all(), np.asarray(joint.names)[~finite]
        assert bool(jnp.all(jnp.isfinite(log_det)))
        slope = jax.jit(jax.grad(lambda z: joint.from_latent(z).sum()))(z)
        finite = np.asarray(jnp.isfinite(slope)).all(0)
        assert finite.all(), np.asarray(joint.names)[~finite]


@pytest.mark.parametrize("kind", KINDS)
def test_edges(kind: str) -> None:
    """Outside: -inf, float for float. On the edge: scipy's density there."""
    prior, exact = from_numpyro(KINDS[kind][0]), KINDS[kind][1]
    for edge, side in ((prior.low[0], -1.0), (prior.high[0], 1.0)):
        if not np.isfinite(edge):
            continue
        exact_edge, edge = edge, np.float32(edge)
        outside = np.nextafter(edge, np.float32(side * np.inf))
        outside = outside if abs(outside) > 1e-30 else np.float32(side * 1e-30)
        points = np.asarray([[outside], [edge]], np.float32)
        log_prob, contains, (_, log_det) = jax.jit(
            lambda p, own=prior: (
                own.log_prob(p),
                own.contains(p),
                own.to_latent_and_log_det(p),
            )
        )(points)
        assert log_prob[0] == -np.inf
        assert not bool(contains[0])
        assert log_det[0] == -np.inf
        if kind not in FALLBACKS:
            with np.errstate(all="ignore"):
                expected = exact.logpdf(exact_edge)
            np.testing.assert_allclose(log_prob[1], expected, rtol=1e-4, atol=1e-4)


def test_config_survives_json(joint: Prior) -> None:
    again = prior_from_config(json.loads(json.dumps(joint.to_config())))
    assert again == joint
    theta = joint.sample(jax.random.key(1), ROWS)
    np.testing.assert_allclose(
        again.to_latent(theta), joint.to_latent(theta), rtol=1e-6
    )
    np.testing.assert_array_equal(again.low, joint.low)
    np.testing.assert_array_equal(again.high, joint.high)


def mixture():
    covariance = np.array([[2.0, 0.6, 0.0], [0.6, 1.0, -0.3], [0.0, -0.3, 0.5]])
    return mixed(
        [
            uniform(0, 1, names="u", units=["mm"]),
            dist.MultivariateNormal(jnp.arange(3.0), jnp.asarray(covariance)),
            dist.Gamma(jnp.asarray([2.0, 5.0]), 1.0),
            dist.Uniform(-1.0, 1.0),
            dist.Gamma(3.0, 2.0).expand([2]).to_event(1),
            dist.Laplace(0.0, 1.0),
        ]
    )


def test_mixed_product_matches_its_parts() -> None:
    prior = mixture()
    assert prior.dim == 10
    assert prior.names[:2] == ("u", "theta_1")
    assert prior.units[0] == "mm"
    kinds = [block.kind for block, _ in prior.blocks]
    assert kinds == ["uniform", "multivariate_normal", "gamma", "unconstrained"]
    theta = prior.sample(jax.random.key(4), 200)
    covariance = [[2.0, 0.6, 0.0], [0.6, 1.0, -0.3], [0.0, -0.3, 0.5]]
    t = np.asarray(theta, float)
    expected = (
        stats.multivariate_normal([0, 1, 2], covariance).logpdf(t[:, 1:4])
        + stats.gamma(2).logpdf(t[:, 4])
        + stats.gamma(5).logpdf(t[:, 5])
        + np.log(0.5)
        + stats.gamma(3, scale=0.5).logpdf(t[:, 7:9]).sum(-1)
        + stats.laplace().logpdf(t[:, 9])
    )
    np.testing.assert_allclose(prior.log_prob(theta), expected, rtol=1e-4, atol=1e-4)
    z, log_det = prior.to_latent_and_log_det(theta)
    np.testing.assert_allclose(prior.from_latent(z), theta, rtol=1e-5, atol=1e-5)
    identity = prior.latent_log_prob(z) + log_det
    np.testing.assert_allclose(prior.log_prob(theta), identity, atol=1e-4)
    jacobian = jax.jit(jax.vmap(jax.jacfwd(prior.to_latent)))(theta[:20])
    by_autodiff = np.linalg.slogdet(np.asarray(jacobian, float))[1]
    np.testing.assert_allclose(log_det[:20], by_autodiff, atol=1e-4)
    jacobian = jax.jit(jax.vmap(jax.jacrev(prior.from_latent)))(z[:20])
    by_autodiff = np.linalg.slogdet(np.asarray(jacobian, float))[1]
    np.testing.assert_allclose(log_det[:20], -by_autodiff, atol=1e-4)
    again = prior_from_config(json.loads(json.dumps(prior.to_config())))
    assert again == prior
    np.testing.assert_allclose(again.to_latent(theta), z, atol=1e-5)


def test_latent_of_mixed_draws_is_standard_normal() -> None:
    """Means and covariance of 20,000 z within 5 standard errors: 54 checks, 3e-5."""
    prior = mixed([dist.MultivariateNormal(0.0, jnp.asarray([[4.0, 1], [1, 1]]))])
    draws = dist.MultivariateNormal(0.0, jnp.asarray([[4.0, 1], [1, 1]])).sample(
        jax.random.key(5), (20_000,)
    )
    z = np.asarray(prior.to_latent(draws), float)
    assert np.max(np.abs(z.mean(0))) < 5 / np.sqrt(20_000)
    assert np.max(np.abs(np.cov(z.T) - np.eye(2))) < 5 * np.sqrt(2 / 20_000)


def test_far_modes_have_their_shares() -> None:
    """Twelve sds apart: between them z says where theta is to 1e-8 of mass at best."""
    base, exact = normals([0.3, 0.7], [-3.0, 3.0], [0.5, 0.5])
    several = [dist.Normal(-3.0, 0.5), dist.Normal(3.0, 0.5)]
    weighed = dist.Categorical(probs=np.array([0.3, 0.7]))
    prior = from_numpyro(base, names=["a"])
    assert from_numpyro(dist.MixtureGeneral(weighed, several), names=["a"]) == prior
    assert prior.has_normal_latent
    line = np.linspace(-6.0, 6.0, 1_001)
    z = jnp.asarray(line[:, None], jnp.float32)
    theta, log_det = prior.from_latent_and_log_det(z)
    value = np.asarray(theta, np.float64)[:, 0]
    assert np.all(np.diff(value) > 0)
    tails = np.minimum(exact.cdf(value), exact.sf(value))
    np.testing.assert_allclose(tails, special.ndtr(-np.abs(line)), rtol=2e-5)
    back, back_log_det = prior.to_latent_and_log_det(theta)
    np.testing.assert_allclose(back, z, atol=5e-6)
    slope = stats.norm.logpdf(line) - exact.logpdf(value)
    np.testing.assert_allclose(log_det, slope, atol=1e-4)
    np.testing.assert_allclose(back_log_det, -slope, atol=1e-4)
    # The log-det's own slope, by the chain rule.
    steep = jax.jit(jax.vmap(jax.grad(lambda z: prior.from_latent_and_log_det(z)[1])))
    nudge = 1e-5
    bend = (exact.logpdf(value + nudge) - exact.logpdf(value - nudge)) / (2 * nudge)
    expected = -line - bend * np.exp(slope)
    np.testing.assert_allclose(steep(z)[:, 0], expected, rtol=1e-3, atol=1e-3)


def test_several_mixtures_are_columns() -> None:
    parts = dist.Normal(np.array([[-1.0, 1.0], [0.0, 5.0]]), np.array([0.5, 2.0]))
    weighed = dist.Categorical(probs=np.array([0.25, 0.75]))
    two = dist.MixtureSameFamily(weighed, parts)
    prior = independent({"pair": two, "alone": dist.Normal(0.0, 1.0)})
    assert prior.names == ("pair_0", "pair_1", "alone")
    theta = prior.sample(jax.random.key(3), 50)
    expected = two.log_prob(theta[:, :2]).sum(-1) + stats.norm.logpdf(theta[:, 2])
    np.testing.assert_allclose(prior.log_prob(theta), expected, rtol=1e-5, atol=1e-5)
    config = json.loads(json.dumps(prior.to_config()))
    assert prior_from_config(config) == prior
    for key, value, said in (
        ("scale", [[0.5, -2.0], [0.5, 2.0]], "scale of prior 'pair_0'"),
        ("weights", [[0.5, 0.5], [0.5, 0.0]], "weights of prior 'pair_1'"),
        ("loc", [[0.0, 0.5]], "of one shape"),
    ):
        wrong = json.loads(json.dumps(config))
        [block] = [b for b in wrong["blocks"] if b["kind"] == "normal_mixture"]
        block[key] = value
        with pytest.raises(ValueError, match=said):
            prior_from_config(wrong)


def test_fallback_keeps_the_exact_latent_density() -> None:
    """The density of z integrates to one (trapezium) and is that of the draws."""
    components = dist.Logistic(jnp.asarray([-2.0, 2.0]), jnp.asarray([0.3, 0.6]))
    mixture_ = dist.MixtureSameFamily(
        dist.Categorical(probs=jnp.asarray([0.3, 0.7])), components
    )
    prior = from_numpyro(mixture_, names=["a"])
    z = jnp.linspace(-12, 12, 4001)[:, None]
    density = np.exp(np.asarray(prior.latent_log_prob(z), float))
    np.testing.assert_allclose(np.trapezoid(density, z[:, 0]), 1.0, atol=1e-4)
    theta = prior.sample(jax.random.key(0), 4_000)
    fraction = float(jnp.mean(theta < 0))
    # 4 binomial standard errors: false alarm 6e-5.
    below = stats.logistic([-2, 2], [0.3, 0.6]).cdf(0)
    exact = 0.3 * below[0] + 0.7 * below[1]
    assert abs(fraction - exact) < 4 * np.sqrt(0.25 / 4_000)
    again = prior_from_config(json.loads(json.dumps(prior.to_config())))
    np.testing.assert_allclose(again.latent_log_prob(z), prior.latent_log_prob(z))


def test_vector_support_fallback() -> None:
    ordered = dist.TransformedDistribution(
        dist.Normal(jnp.zeros(3), 1.0).to_event(1), dist.transforms.OrderedTransform()
    )
    prior = from_numpyro(ordered)
    theta = prior.sample(jax.random.key(0), 100)
    assert bool(jnp.all(jnp.diff(theta, axis=-1) > 0))
    reference = ordered.log_prob(theta)
    np.testing.assert_allclose(prior.log_prob(theta), reference, rtol=1e-4, atol=1e-4)
    z, log_det = prior.to_latent_and_log_det(theta)
    identity = prior.latent_log_prob(z) + log_det
    np.testing.assert_allclose(identity, reference, rtol=1e-4, atol=1e-3)
    outside = theta[:1, ::-1]
    assert prior.log_prob(outside) == -jnp.inf
    assert bool(jnp.all(jnp.isfinite(prior.to_latent(outside))))
    again = prior_from_config(json.loads(json.dumps(prior.to_config())))
    assert again == prior
    np.testing.assert_allclose(again.log_prob(theta), prior.log_prob(theta), rtol=1e-5)


def test_names_of_vector_parameters() -> None:
    prior = independent(
        {"a": dist.Normal(0.0, 1.0), "b": dist.Uniform(0.0, jnp.ones(2))},
        units={"b": "urad"},
    )
    assert prior.names == ("a", "b_0", "b_1")
    assert prior.units == ("", "urad", "urad")
