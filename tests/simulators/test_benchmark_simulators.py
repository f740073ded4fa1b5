"""The mixture, the spikes and the distractors of the benchmark, by other means."""

import jax
import numpy as np
import pytest
from scipy import stats

from flowinv.simulators import distractors
from flowinv.simulators.bernoulli_glm import BernoulliGlm, glm_design, glm_precision
from flowinv.simulators.distractors import SlcpDistractors
from flowinv.simulators.gaussian_mixture import GaussianMixture
from flowinv.simulators.slcp import Slcp

KEYS = jax.random.split(jax.random.key(0), 20_000)


def many(simulator, theta, keys=KEYS):
    theta = np.float32(theta)
    return np.asarray(jax.jit(jax.vmap(simulator.simulate, (0, None)))(keys, theta))


def test_the_mixtures_likelihood_is_scipys():
    rng = np.random.default_rng(0)
    theta, x = rng.normal(size=(2, 50, 2))
    expected = np.logaddexp(
        *(stats.norm(theta, sd).logpdf(x).sum(-1) for sd in (1.0, 0.1))
    )
    found = GaussianMixture().log_prob(np.float32(theta), np.float32(x))
    np.testing.assert_allclose(found, expected - np.log(2), rtol=1e-4, atol=1e-4)


def test_every_row_of_the_mixture_chooses_its_own_noise():
    """Distances against their distribution: a false alarm of 1e-3, fixed seed."""
    away = np.linalg.norm(many(GaussianMixture(), [3.0, -2.0]) - [3.0, -2.0], axis=1)

    def below(r):
        return 1 - 0.5 * (np.exp(-0.5 * r**2) + np.exp(-50 * r**2))

    assert stats.kstest(away, below).pvalue > 1e-3
    # Neighbours are as often of one kind as of two.
    narrow = away < 0.3
    same = (narrow[1:] == narrow[:-1]).mean()
    share = narrow.mean()
    assert same == pytest.approx(share**2 + (1 - share) ** 2, abs=0.02)


def test_design_and_prior_of_the_spikes():
    """Row by row from the definition; D D has the second difference's three numbers."""
    design = glm_design()
    assert design.shape == (100, 10)
    for t in (0, 3, 8, 57, 99):
        for delay in range(9):
            expected = design[t - delay, 1] if t >= delay else 0.0
            assert design[t, 1 + delay] == expected
    factor = np.zeros((9, 9))
    for i in range(9):
        for lag, value in ((0, 1.0), (1, -2.0), (2, 1.0)):
            if i >= lag:
                factor[i, i - lag] += value
        factor[i, i] += np.sqrt(i / 9)
    precision = glm_precision()
    np.testing.assert_allclose(precision[1:, 1:], factor.T @ factor, atol=1e-12)
    assert precision[0, 0] == 0.5
    assert not precision[0, 1:].any()


def test_the_likelihood_of_spikes_and_of_their_sums():
    """scipy's Bernoulli; sums differ by what does not depend on theta: nothing."""
    rng = np.random.default_rng(1)
    theta = np.float32(rng.normal(size=(20, 10)))
    spikes = np.float32(rng.random(100) < 0.4)
    chance = 1 / (1 + np.exp(-np.float64(theta) @ glm_design().T.astype(float)))
    expected = stats.bernoulli.logpmf(spikes, chance).sum(-1)
    raw = BernoulliGlm(raw=True).log_prob(theta, spikes)
    summed = BernoulliGlm().log_prob(theta, spikes @ glm_design())
    np.testing.assert_allclose(raw, expected, rtol=1e-4, atol=1e-3)
    np.testing.assert_allclose(summed, expected, rtol=1e-4, atol=1e-3)


def test_spikes_come_as_often_as_they_should():
    """20,000 trains: rates to five binomial errors, .018; sums are X^T y."""
    theta = np.random.default_rng(2).normal(size=10)
    spikes = many(BernoulliGlm(raw=True), theta)
    assert set(np.unique(spikes)) == {0.0, 1.0}
    chance = 1 / (1 + np.exp(-glm_design() @ theta))
    assert np.abs(spikes.mean(0) - chance).max() < 0.018
    summed = many(BernoulliGlm(), theta)
    np.testing.assert_allclose(summed, spikes @ glm_design(), atol=1e-4)


def test_eight_of_a_hundred_numbers_are_slcps():
    """Their marginals; and the others are the Students of the parts.

    False alarms of 1e-3 and 1e-4 each, fixed seeds.
    """
    theta = [0.7, -2.9, -1.0, -0.9, 0.6]
    x = many(SlcpDistractors(), theta, KEYS[:4_000])
    own = np.asarray(SlcpDistractors().informative(x))
    plain = many(Slcp(), theta, KEYS[4_000:8_000])
    for a, b in zip(own.T, plain.T, strict=True):
        assert stats.ks_2samp(a, b).pvalue > 1e-3
    frozen = distractors._frozen()
    assert sorted(frozen.order) == list(range(100))
    rest = np.empty_like(x, np.float64)
    rest[:, frozen.order] = x
    # The same mixture by numpy; single numbers and sums of all with random signs.
    rng = np.random.default_rng(3)
    parts = rng.integers(0, 20, 4_000)
    noise = rng.normal(size=(4_000, 92)) / np.sqrt(rng.chisquare(2, (4_000, 1)) / 2)
    expected = frozen.loc[parts] + np.einsum("cij,cj->ci", frozen.factor[parts], noise)
    signs = np.c_[np.eye(92)[:, ::9], rng.choice([-1.0, 1.0], (92, 5))]
    for a, b in zip((rest[:, 8:] @ signs).T, (expected @ signs).T, strict=True):
        assert stats.ks_2samp(a, b).pvalue > 1e-4


def test_the_likelihood_looks_at_the_eight_alone():
    theta, x = np.float32([0.1, 0.2, 1.5, 0.8, 0.3]), np.float32(np.arange(100.0))
    eight = SlcpDistractors().informative(x)
    expected = Slcp().log_prob(theta, eight)
    assert SlcpDistractors().log_prob(theta, x) == expected
    frozen = distractors._frozen()
    np.testing.assert_array_equal(frozen.order[np.int64(eight)], np.arange(8))
