"""Rounds where posteriors are hard: far, narrow, cut, split. Slow, all of it.

Every posterior is known: by a sum over a grid, coordinate by coordinate, or in closed
form. Seeds are fixed; limits are what the methods promise, not what was seen.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from prior_kinds import FALLBACKS, KINDS
from scipy import stats

import flowinv as fi
from flowinv.diagnostics.c2st import c2st
from flowinv.experiment.build import build_estimator
from flowinv.experiment.config import RunConfig
from flowinv.methods import APT, Truncated
from flowinv.priors import independent, normal, uniform
from flowinv.sequential import run_rounds
from flowinv.tasks.registry import task as get_task
from flowinv.tasks.task import Task

pytestmark = pytest.mark.slow

KINDS_OF_ROUNDS = {"auto": Truncated, "apt": APT}
each_method = pytest.mark.parametrize("name", KINDS_OF_ROUNDS)


@dataclasses.dataclass(frozen=True)
class Location:
    """x = f(theta) + noise, coordinate by coordinate."""

    noise: tuple[float, ...]
    fold: bool = False

    @property
    def x_shape(self):
        return (len(self.noise),)

    def simulate(self, key, theta):
        mean = jnp.abs(theta) if self.fold else theta
        noise = jax.random.normal(key, (len(self.noise),))
        return mean + jnp.asarray(self.noise) * noise


def infer(prior, simulator, x_obs, method, seed=1):
    """Draws of the last round's posterior, `[20000, D]`."""
    task = Task(prior, simulator)
    estimator = build_estimator(task, "spline", method.network)
    x_obs = np.asarray(x_obs, np.float32)
    done = run_rounds(jax.random.key(seed), estimator, simulator, x_obs, method)
    theta = done.posterior.sample(jax.random.key(2), x_obs, 20_000)
    return np.asarray(theta, np.float64)


@pytest.mark.parametrize(
    ("name", "noise"), [(n, noise) for n in KINDS_OF_ROUNDS for noise in (1e-4, 1e-5)]
)
def test_a_noise_far_below_the_prior(name, noise):
    """Widths within a tenth, five rounds of 1,000."""
    method = KINDS_OF_ROUNDS[name](num_rounds=5, num_simulations=1_000)
    prior = normal([0.0, 0.0], [1.0, 1.0])
    theta = infer(prior, Location((noise, noise)), [0.3, -1.2], method)
    np.testing.assert_allclose(theta.std(0) / noise, 1.0, atol=0.1)
    assert np.abs((theta.mean(0) - [0.3, -1.2]) / noise).max() < 0.1


@each_method
@pytest.mark.parametrize("dim", [1, 20])
def test_linear_gaussian_of_few_and_many_dimensions(name, dim):
    """Means within 0.1 sd on average over coordinates, variances 0.9 to 1.1."""
    task = get_task(f"gaussian_linear:dim={dim}")
    x_obs, _ = task.observation(1)
    method = KINDS_OF_ROUNDS[name](num_rounds=5, num_simulations=1_000)
    theta = infer(task.prior, task.simulator, x_obs, method)
    exact = np.asarray(task.exact(np.asarray(x_obs), 100_000, jax.random.key(3)))
    shift = (theta.mean(0) - exact.mean(0)) / exact.std(0)
    ratio = theta.var(0) / exact.var(0)
    assert np.sqrt((shift**2).mean()) < 0.1, (shift, ratio)
    assert 0.9 < ratio.mean() < 1.1, (shift, ratio)


@each_method
def test_x_outside_of_a_box_prior(name):
    """An edge where the likelihood still falls: 0.9 noise sds outside."""
    task = get_task("gaussian_linear_uniform:dim=2")
    x_obs = np.array([1.3, -0.3], np.float32)
    method = KINDS_OF_ROUNDS[name](num_rounds=3, num_simulations=1_000)
    theta = infer(task.prior, task.simulator, x_obs, method)
    exact = np.asarray(task.exact(x_obs, 2_000, jax.random.key(3)))
    assert np.abs(theta).max() <= 1.0
    assert c2st(exact, theta[:2_000], "forest").score < 0.55


def said(task, x_obs, name, folder):
    """Draws of a whole run's answer to a scan, and whether it is to be trusted."""
    np.save(folder / "x.npy", np.asarray(x_obs, np.float32))
    method = KINDS_OF_ROUNDS[name](num_rounds=5, num_simulations=1_000)
    out = str(folder / "run")
    config = RunConfig(method=method, x=str(folder / "x.npy"), out=out)
    metrics = fi.run(config, task=task, quiet=True)
    verdicts = {v for k, v in metrics.items() if "/verdict/" in k}
    theta = fi.load(f"{out}/model").sample(jax.random.key(2), x_obs, 20_000)
    return np.asarray(theta, np.float64), verdicts == {"trusted"}


@each_method
def test_x_far_outside_of_a_box_prior(name, tmp_path):
    """4.7 noise sds beyond the edge, where no simulation is: right, or said."""
    task = get_task("gaussian_linear_uniform:dim=2")
    x_obs = np.array([1.0 + 4.7 * 0.1**0.5, -0.3], np.float32)
    theta, is_trusted = said(task, x_obs, name, tmp_path)
    assert np.abs(theta).max() <= 1.0
    exact = np.asarray(task.exact(x_obs, 2_000, jax.random.key(3)))
    assert not is_trusted or c2st(exact, theta[:2_000], "forest").score < 0.55


@each_method
def test_x_eight_prior_sds_away(name, tmp_path):
    """A posterior 6.4 prior sds out, where no prior draw ever was: right, or said."""
    noise, x_obs = 0.5, np.array([8.0, 0.3])
    task = Task(normal([0.0, 0.0], [1.0, 1.0]), Location((noise, noise)))
    theta, is_trusted = said(task, x_obs, name, tmp_path)
    sd = (1 + noise**-2) ** -0.5
    shift = np.abs((theta.mean(0) - x_obs / noise**2 * sd**2) / sd).max()
    assert not is_trusted or (shift < 0.3 and abs(theta.std(0) / sd - 1).max() < 0.15)


@each_method
def test_four_modes(name):
    """x = |theta|: a quarter of the draws in each mode, and few between.

    Seen: 0.6 to 1.2 % between (regions), 2.4 to 4 % (atoms); exact: none.
    """
    prior = uniform([-1.0, -1.0], [1.0, 1.0])
    method = KINDS_OF_ROUNDS[name](num_rounds=5, num_simulations=1_000)
    theta = infer(prior, Location((0.05, 0.05), fold=True), [0.5, 0.5], method)
    which = (theta > 0) @ [1, 2]
    shares = np.bincount(which, minlength=4) / len(theta)
    np.testing.assert_allclose(shares, 0.25, atol=0.04)
    # Six noise sds from every mode.
    assert (np.abs(np.abs(theta) - 0.5).max(1) > 0.3).mean() < {
        "auto": 0.02,
        "apt": 0.05,
    }[name]


@each_method
def test_a_rare_mode_is_kept(name):
    """A mode of 5 % has 3 to 7 %; with atoms it is there (seen: 0.8 to 6 %)."""
    prior = normal([1.0, 0.0], [1.0, 1.0])
    simulator = Location((0.1, 0.1), fold=True)
    method = KINDS_OF_ROUNDS[name](num_rounds=5, num_simulations=1_000)
    theta = infer(prior, simulator, [1.5, 1.0], method)
    points = np.linspace(-6, 6, 120_001)
    density = stats.norm(1, 1).pdf(points) * stats.norm(np.abs(points), 0.1).pdf(1.5)
    rare = density[points < 0].sum() / density.sum()
    assert 0.04 < rare < 0.06
    low, high = (0.6, 1.4) if name == "auto" else (0.1, 2.0)
    assert low * rare < (theta[:, 0] < 0).mean() < high * rare


FAMILIES = [kind for kind in KINDS if KINDS[kind][1] is not None]
# Its far mode has 1.2 % of the posterior, and 19 times as much for an x that lies one
# sd lower. Alone it is right; beside four others 5,000 rows leave it 4 %.
ALONE = "two_modes"
OTHERS = [kind for kind in FAMILIES if kind != ALONE]
FEW = [OTHERS[start : start + 6] for start in range(0, len(OTHERS), 6)] + [[ALONE]]


@each_method
@pytest.mark.parametrize("kinds", FEW, ids=lambda kinds: kinds[0])
def test_every_prior_family(name, kinds):
    """Six families at a time: means within 0.2 sd (atoms 0.3), widths within 15 %.

    But for one that has a problem of its own, see `ALONE`.
    """
    most = {"auto": 0.2, "apt": 0.3}[name]
    if name == "auto":
        kinds = [kind for kind in kinds if kind not in FALLBACKS]
    base = [KINDS[kind][1] for kind in kinds]
    noise = [0.5 * float(b.ppf(0.75) - b.ppf(0.25)) / 1.35 for b in base]
    x_obs = np.array([b.ppf(0.7) for b in base])
    prior = independent({kind: KINDS[kind][0] for kind in kinds})
    method = KINDS_OF_ROUNDS[name](num_rounds=5, num_simulations=1_000)
    theta = infer(prior, Location(tuple(noise)), x_obs, method)
    for column, (b, x, sd, kind) in enumerate(
        zip(base, x_obs, noise, kinds, strict=True)
    ):
        # Midpoints in the prior's probability: steep densities are no trouble.
        points = b.ppf((np.arange(200_000) + 0.5) / 200_000)
        weights = stats.norm(x, sd).pdf(points)
        mean = np.average(points, weights=weights)
        width = np.sqrt(np.average((points - mean) ** 2, weights=weights))
        draws = theta[:, column]
        assert abs(draws.mean() - mean) < most * width, kind
        assert 0.85 < draws.std() / width < 1.15, kind


@each_method
def test_a_mixture_prior_of_two_far_modes(name):
    """Twelve sds apart: each has its share."""
    import numpyro.distributions as dist

    two = dist.MixtureSameFamily(
        dist.Categorical(probs=jnp.array([0.3, 0.7])),
        dist.Normal(jnp.array([-3.0, 3.0]), jnp.array([0.5, 0.5])),
    )
    method = KINDS_OF_ROUNDS[name](num_rounds=5, num_simulations=1_000)
    theta = infer(independent({"a": two}), Location((2.0,)), [0.5], method)
    points = np.linspace(-8, 8, 100_001)
    prior = 0.3 * stats.norm(-3, 0.5).pdf(points) + 0.7 * stats.norm(3, 0.5).pdf(points)
    weights = prior * stats.norm(points, 2.0).pdf(0.5)
    share = weights[points < 0].sum() / weights.sum()
    assert abs((theta[:, 0] < 0).mean() - share) < 0.04
    mean = np.average(points, weights=weights)
    width = np.sqrt(np.average((points - mean) ** 2, weights=weights))
    assert abs(theta[:, 0].mean() - mean) < 0.1 * width
    assert 0.9 < theta[:, 0].std() / width < 1.1


@each_method
def test_fifty_seeds_of_two_moons(name):
    """2 rounds of 1,000: all finish, all finite, none above C2ST 0.80."""
    task = get_task("two_moons")
    method = KINDS_OF_ROUNDS[name](num_rounds=2, num_simulations=1_000)
    estimator = build_estimator(task, "spline", method.network)
    x_obs, _ = task.observation(1)
    done = run_rounds(
        jax.random.key(7), estimator, task.simulator, np.stack([x_obs] * 50), method
    )
    exact = task.reference(1, 1_000, jax.random.key(8)).draws
    for lane, posterior in enumerate(done.posteriors):
        theta = posterior.sample(jax.random.key(lane), x_obs, 1_000)
        assert bool(jnp.isfinite(theta).all())
        assert done.history[lane].round.tolist() == [0, 1]
        assert c2st(exact, np.asarray(theta), "mlp").score < 0.80
