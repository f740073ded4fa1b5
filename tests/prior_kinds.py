"""Every kind of prior beside its namesake in scipy, for the tests of several rooms."""

import numpy as np
import numpyro.distributions as dist
from scipy import stats


class Mixture:
    """A mixture of normals as scipy would have it."""

    def __init__(self, weights, loc, scale):
        self.weights, self.parts = np.array(weights), stats.norm(loc, scale)

    def _sum(self, of, value):
        return of(np.asarray(value, float)[..., None]) @ self.weights

    def cdf(self, value):
        return self._sum(self.parts.cdf, value)

    def sf(self, value):
        return self._sum(self.parts.sf, value)

    def logpdf(self, value):
        return np.log(self._sum(self.parts.pdf, value))

    def ppf(self, level):
        points = np.linspace(-12.0, 12.0, 1_000_001)
        return np.interp(level, self.cdf(points), points)


def normals(weights, loc, scale):
    """A mixture of normals, and as scipy would have it."""
    parts = dist.Normal(np.array(loc), np.array(scale))
    weighed = dist.Categorical(probs=np.array(weights))
    return dist.MixtureSameFamily(weighed, parts), Mixture(weights, loc, scale)


# name: numpyro distribution, scipy distribution.
KINDS = {
    "uniform": (dist.Uniform(-1.0, 3.0), stats.uniform(-1, 4)),
    "log_uniform": (dist.LogUniform(0.01, 10.0), stats.loguniform(0.01, 10)),
    "normal": (dist.Normal(2.0, 0.5), stats.norm(2, 0.5)),
    "log_normal": (dist.LogNormal(1.0, 0.7), stats.lognorm(0.7, scale=np.e)),
    "gamma_2": (dist.Gamma(2.0, 2.0), stats.gamma(2, scale=0.5)),
    "gamma_half": (dist.Gamma(0.5, 0.5), stats.gamma(0.5, scale=2)),
    "gamma_300": (dist.Gamma(300.0, 10.0), stats.gamma(300, scale=0.1)),
    "exponential": (dist.Exponential(4.0), stats.expon(scale=0.25)),
    "chi2": (dist.Chi2(5.0), stats.chi2(5)),
    "inverse_gamma": (dist.InverseGamma(3.0, 2.0), stats.invgamma(3, scale=2)),
    "weibull": (dist.Weibull(2.0, 1.5), stats.weibull_min(1.5, scale=2)),
    "pareto": (dist.Pareto(2.0, 3.0), stats.pareto(3, scale=2)),
    "half_normal": (dist.HalfNormal(2.0), stats.halfnorm(scale=2)),
    "half_cauchy": (dist.HalfCauchy(2.0), stats.halfcauchy(scale=2)),
    "left": (
        dist.TruncatedNormal(1.0, 2.0, low=0.0),
        stats.truncnorm(-0.5, np.inf, loc=1, scale=2),
    ),
    "left_tail": (
        dist.TruncatedNormal(-8.0, 2.0, low=0.0),
        stats.truncnorm(4, np.inf, loc=-8, scale=2),
    ),
    "right": (
        dist.TruncatedNormal(1.0, 2.0, high=0.0),
        stats.truncnorm(-np.inf, -0.5, loc=1, scale=2),
    ),
    "both": (
        dist.TruncatedNormal(0.0, 1.0, low=-2.0, high=3.0),
        stats.truncnorm(-2, 3),
    ),
    "both_narrow": (
        dist.TruncatedNormal(0.0, 1.0, low=0.0, high=0.1),
        stats.truncnorm(0, 0.1),
    ),
    "both_wide": (
        dist.TruncatedNormal(0.5, 0.01, low=0.0, high=1.0),
        stats.truncnorm(-50, 50, loc=0.5, scale=0.01),
    ),
    "both_far_edge": (
        dist.TruncatedNormal(1.0, 1.0, low=0.0, high=1000.0),
        stats.truncnorm(-1, 999, loc=1),
    ),
    "beta": (dist.Beta(2.0, 5.0), stats.beta(2, 5)),
    "beta_steep": (dist.Beta(0.7, 3.0), stats.beta(0.7, 3)),
    "beta_skew": (dist.Beta(5.0, 300.0), stats.beta(5, 300)),
    "student_t": (dist.StudentT(3.0, 1.0, 2.0), stats.t(3, 1, 2)),
    "cauchy": (dist.Cauchy(1.0, 2.0), stats.cauchy(1, 2)),
    "logistic": (dist.Logistic(1.0, 2.0), stats.logistic(1, 2)),
    "gumbel": (dist.Gumbel(1.0, 2.0), stats.gumbel_r(1, 2)),
    "two_modes": normals([0.3, 0.7], [-2.0, 2.0], [0.5, 1.0]),
    # No transport of its own: biject_to, with the density of z kept.
    "fallback_line": (dist.Laplace(1.0, 2.0), stats.laplace(1, 2)),
    "fallback_interval": (dist.Kumaraswamy(2.0, 3.0), None),
}
FALLBACKS = {"fallback_line", "fallback_interval"}
