"""What priors refuse, and that every one that is accepted reads back equal."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest

from flowinv.priors import from_numpyro, independent, mixed, prior_from_config, uniform


class Silent(dist.Distribution):
    """Draws, a density and a support that do not agree, whichever is asked for."""

    support = dist.constraints.real

    def __init__(self, scale=1.0, wrong=0):
        self.scale, self.wrong = scale, wrong
        super().__init__((), ())

    def sample(self, key, sample_shape=()):
        draws = self.scale * jax.random.normal(key, sample_shape)
        return jnp.where(self.wrong == 1, draws.at[0].set(jnp.nan), draws)

    def log_prob(self, value):
        density = stats_norm(value / self.scale)
        return density + (np.log(2.0) if self.wrong == 2 else 0.0)


def stats_norm(value):
    return jax.scipy.stats.norm.logpdf(value)


AFFINE = dist.transforms.AffineTransform(2.0, 3.0)


@pytest.mark.parametrize(
    ("base", "message"),
    [
        (
            dist.TransformedDistribution(dist.Uniform(0.0, 1.0), AFFINE),
            "density wherever the support that it declares is",
        ),
        (
            dist.TransformedDistribution(dist.Exponential(1.0), AFFINE),
            "density wherever the support",
        ),
        (
            dist.TransformedDistribution(
                dist.Uniform(0.0, 1.0).expand((3,)).to_event(1), AFFINE
            ),
            "density wherever the support",
        ),
        (Silent(wrong=1), "inside the support that it declares; got 20000 of"),
        (Silent(wrong=2), "integrates to one .* a mass of 2 where 1 of the draws"),
        (Silent(), "reads back|to be one of"),
        (
            dist.ImproperUniform(dist.constraints.positive, (), ()),
            "with draws .a proper distribution.; got ImproperUniform",
        ),
    ],
)
def test_a_prior_that_contradicts_itself_is_refused(base, message: str) -> None:
    with pytest.raises(ValueError, match=message) as error:
        independent({"a": base})
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "base",
    [
        dist.GaussianRandomWalk(scale=1.0, num_steps=5),
        dist.TransformedDistribution(dist.Normal(0.0, 1.0), AFFINE),
        dist.TransformedDistribution(
            dist.Normal(0.0, 1.0), [AFFINE, dist.transforms.ExpTransform()]
        ),
        dist.Laplace(1.0, 2.0),
        dist.Kumaraswamy(0.5, 3.0),
        dist.AsymmetricLaplace(1.0, 2.0, 0.5),
        dist.SoftLaplace(1.0, 2.0),
        dist.MultivariateStudentT(4.0, jnp.zeros(3), jnp.eye(3)),
        dist.LowRankMultivariateNormal(jnp.zeros(3), jnp.ones((3, 1)), jnp.ones(3)),
        dist.TruncatedCauchy(0.0, 1.0, low=-1.0),
        dist.MixtureSameFamily(
            dist.Categorical(probs=jnp.asarray([0.3, 0.7])),
            dist.Laplace(jnp.asarray([-2.0, 2.0]), jnp.asarray([0.5, 1.0])),
        ),
    ],
    ids=lambda base: type(base).__name__,
)
def test_every_prior_that_is_accepted_reads_back_equal(base) -> None:
    prior = from_numpyro(base)
    again = prior_from_config(json.loads(json.dumps(prior.to_config())))
    assert again == prior
    theta = prior.sample(jax.random.key(0), 50)
    values = theta if prior.dim > 1 else theta[:, 0]
    exact, own, new = (
        np.asarray(jax.jit(log_prob)(given))
        for log_prob, given in (
            (base.log_prob, values),
            (prior.log_prob, theta),
            (again.log_prob, theta),
        )
    )
    np.testing.assert_allclose(new, own, rtol=1e-5)
    np.testing.assert_allclose(own, exact, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    "base",
    [
        dist.Normal(1e9, 1.0),
        dist.Uniform(7112.0, 7112.01),
        dist.LogNormal(100.0, 1.0),
        dist.Gamma(1e13, 1.0),
        dist.TruncatedNormal(1e6, 1e-2, low=0.0),
        dist.StudentT(3.0, 1e8, 1.0),
        dist.MultivariateNormal(jnp.full(2, 1e8), jnp.eye(2)),
        dist.Laplace(1e9, 1.0),
        dist.Uniform(0.0, 1e38),
        dist.Uniform(0.0, 1e-38),
    ],
    ids=lambda base: type(base).__name__,
)
def test_what_float32_cannot_resolve_is_refused(base) -> None:
    with pytest.raises(ValueError, match="float32 steps|between 1e-37 and 1e37"):
        from_numpyro(base)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: independent({}), "at least one parameter"),
        (lambda: independent({"n": dist.Poisson(3.0)}), "'n' to be continuous"),
        (lambda: independent({"n": 3.0}), "'n' to be a numpyro distribution; got fl"),
        (lambda: independent({"a": dist.Uniform(2.0, 1.0)}), "'a' with low < high"),
        (
            lambda: independent({"a": dist.Normal(0.0, -1.0, validate_args=False)}),
            "scale of prior 'a'",
        ),
        (
            lambda: independent({"a": dist.Gamma(0.0, 1.0, validate_args=False)}),
            "concentration of prior",
        ),
        (lambda: independent({"a": dist.Gamma(1e-4, 1.0)}), "mass within floating"),
        (
            lambda: independent({"a": dist.Normal(np.nan, 1.0, validate_args=False)}),
            "to be finite",
        ),
        (
            lambda: independent({"a": dist.TruncatedNormal(0, 1.0, low=2, high=1)}),
            "'a' with low < high",
        ),
        (lambda: from_numpyro(dist.Dirichlet(jnp.ones(3))), "as many free numbers"),
        (lambda: from_numpyro(dist.Normal(jnp.zeros((2, 2)), 1)), "number or a vector"),
        (lambda: from_numpyro(dist.Normal(0, 1), names=["a", "b"]), "names as 1 str"),
        (lambda: mixed([uniform(0, 1), uniform(0, 1)]), "names to be distinct"),
        (
            lambda: independent({"a": dist.Normal(0, 1)}, units={"b": "mm"}),
            "units for parameters among",
        ),
        (lambda: prior_from_config({"names": ["a"]}), "with the key 'units'"),
        (
            lambda: prior_from_config(
                {
                    "names": ["a"],
                    "units": [""],
                    "blocks": [{"kind": "x", "columns": [0]}],
                }
            ),
            "prior kind to be one of",
        ),
    ],
)
def test_bad_priors_answer_in_one_line(build, message: str) -> None:
    with pytest.raises(ValueError, match=message) as error:
        build()
    assert "\n" not in str(error.value)
