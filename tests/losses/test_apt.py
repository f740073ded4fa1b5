"""The atomic loss against the softmax it stands for, and against exact posteriors."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import norm

from flowinv.losses import apt
from flowinv.losses.apt import make_apt_loss
from flowinv.losses.npe import Batch, npe_loss
from flowinv.training.update import masked_mean

KEY = jax.random.key(0)
# Compiled: one by one its operations take longer.
atom_rows = jax.jit(apt.atom_rows, static_argnums=2)


def gaussian(params, z, features):
    """log N(z; slope x, sd^2)."""
    slope, log_sd = params
    v = (z[..., 0] - slope * features) / jnp.exp(log_sd)
    return -0.5 * v**2 - log_sd - 0.5 * jnp.log(2 * jnp.pi)


def rows_of(count, centre=0.0, sd=1.0, seed=0):
    """z ~ N(centre, sd^2), whatever the prior N(0, 1) says; x = z + N(0, 1)."""
    rng = np.random.default_rng(seed)
    z = centre + sd * rng.normal(size=(count, 1))
    x = z[:, 0] + rng.normal(size=count)
    return Batch(jnp.float32(z), jnp.float32(x), jnp.ones(count, bool))


def softmax_loss(params, batch):
    """Minus the log posterior over all rows, in float64."""
    slope, sd = params[0], np.exp(params[1])
    z, x = np.asarray(batch.z[:, 0], float), np.asarray(batch.features, float)
    score = norm.logpdf(z, slope * x[:, None], sd) - norm.logpdf(z)
    score = score[:, np.asarray(batch.valid)]
    own = norm.logpdf(z, slope * x, sd) - norm.logpdf(z)
    return np.log(np.exp(score).sum(-1)) - own


@pytest.mark.parametrize("dropped", [[], [3, 7]])
def test_all_atoms_are_the_softmax_over_the_valid_rows(dropped):
    batch = rows_of(20)
    batch = batch._replace(valid=batch.valid.at[jnp.array(dropped, int)].set(False))
    params = (0.4, -0.3)
    loss = make_apt_loss("all")

    @jax.jit
    def values_and_slope(p):
        def total(p):
            values = loss(gaussian, p, batch, KEY)
            return values.sum(), values

        return jax.grad(total, has_aux=True)(p)

    gradient, found = values_and_slope(params)
    valid = np.asarray(batch.valid)
    expected = softmax_loss(params, batch)
    np.testing.assert_allclose(found[valid], expected[valid], rtol=1e-5)
    chex.assert_tree_all_finite(gradient)


def test_rows_that_are_not_valid_change_nothing_and_give_finite_gradients():
    batch, loss = rows_of(12), make_apt_loss("all")
    valid = batch.valid.at[5].set(False)

    @jax.jit
    @jax.value_and_grad
    def total(params, z):
        values = loss(gaussian, params, batch._replace(z=z, valid=valid), KEY)
        return jnp.where(valid, values, 0).sum()

    own, _ = total((0.4, -0.3), batch.z)
    for z in (batch.z, batch.z.at[5].set(1e4)):
        value, slope = total((0.4, -0.3), z)
        np.testing.assert_allclose(value, own, rtol=1e-6)
        chex.assert_tree_all_finite(slope)


def test_atoms_are_the_row_itself_and_others_without_replacement():
    everything = jnp.ones(50, bool)
    rows, real = map(np.asarray, atom_rows(KEY, everything, 10))
    assert real.all()
    assert rows.shape == (50, 10)
    np.testing.assert_array_equal(rows[:, 0], np.arange(50))
    assert all(len(set(row)) == 10 for row in rows)
    assert rows.min() == 0
    assert rows.max() == 49
    other = np.asarray(atom_rows(jax.random.key(1), everything, 10)[0])
    assert (rows[:, 1:] != other[:, 1:]).any()
    # Every other row is an atom equally often: 2,000 draws of 9 out of 49 shifts.
    keys = jax.random.split(KEY, 2_000)
    shifts = jax.vmap(lambda k: atom_rows(k, everything, 10)[0][0, 1:])(keys)
    counts = np.bincount(np.asarray(shifts).ravel(), minlength=50)[1:]
    # Five binomial sds: a false alarm once in 30,000 seeds for 49 counts.
    assert np.abs(counts - 2_000 * 9 / 49).max() < 5 * np.sqrt(2_000 * 9 / 49)


@pytest.mark.parametrize("count", [3, 10, 30])
def test_atoms_of_a_block_that_is_not_full_are_its_valid_rows(count):
    """As many as were asked for, wherever the rows lie."""
    valid = np.zeros(50, bool)
    valid[np.random.default_rng(0).permutation(50)[:count]] = True
    rows, real = map(np.asarray, atom_rows(KEY, jnp.asarray(valid), 10))
    assert real.sum() == min(count, 10)
    for row in rows[valid][:, real]:
        assert len(set(row)) == real.sum()
        assert valid[row].all()


def test_failed_simulations_are_atoms_and_no_rows():
    """Prior N(0, 1), x = z + N(0, 1), success with the chance of a normal bump in z.

    The posterior of a success is then normal, too. Failures as atoms: stationary there,
    whatever the proposal. Without them: bent to the posterior divided by the chance.
    """
    centre, width = 1.0, 0.7
    batches = []
    for seed in range(200):
        batch = rows_of(100, 0.5, 0.8, seed)
        z, draw = np.asarray(batch.z[:, 0]), np.random.default_rng(1_000 + seed)
        chance = np.exp(-0.5 * ((z - centre) / width) ** 2)
        weight = np.float32(draw.random(100) < chance)
        batches.append(batch._replace(weight=jnp.asarray(weight)))
    batches = jax.tree.map(lambda *leaves: jnp.stack(leaves), *batches)
    keys, loss = jax.random.split(KEY, 200), make_apt_loss(10)

    def bump(params, z, features):
        """log N(z; mean, sd^2) of a slope, a shift and a log sd."""
        slope, shift, log_sd = params
        v = (z[..., 0] - slope * features - shift) / jnp.exp(log_sd)
        return -0.5 * v**2 - log_sd

    def mean(params, batch, key):
        return masked_mean(loss(bump, params, batch, key), batch)

    def pulls(params, batches):
        slopes = np.array(
            jax.jit(jax.vmap(jax.grad(mean), (None, 0, 0)))(params, batches, keys)
        )
        return np.abs(slopes.mean(1)) / (slopes.std(1) / np.sqrt(200))

    def answer(precision, pull):
        """Slope, shift and log sd of N(0, 1) x N(x; z, 1) x a bump in z."""
        total = 2.0 + precision
        return 1.0 / total, pull / total, -0.5 * np.log(total)

    success = answer(width**-2, centre * width**-2)
    # Five standard errors of each of three slopes: false alarm 2e-6.
    assert pulls(success, batches).max() < 5
    without = batches._replace(valid=batches.weight > 0)
    assert pulls(answer(0.0, 0.0), without).max() < 5
    assert pulls(success, without).max() > 5
    assert pulls(answer(0.0, 0.0), batches).max() > 5


@pytest.mark.parametrize("num_atoms", [2, 10, "all"])
@pytest.mark.parametrize(("centre", "sd"), [(0.0, 1.0), (1.0, 0.5)])
def test_is_stationary_at_the_posterior_whatever_the_proposal(num_atoms, centre, sd):
    """Prior N(0, 1), x = z + N(0, 1): posterior N(x / 2, 1 / 2)."""
    loss = make_apt_loss(num_atoms)
    batches = [rows_of(100, centre, sd, seed) for seed in range(200)]
    batches = jax.tree.map(lambda *leaves: jnp.stack(leaves), *batches)
    keys = jax.random.split(KEY, 200)

    def mean(params, batch, key):
        return loss(gaussian, params, batch, key).mean()

    slopes_of = jax.jit(jax.vmap(jax.grad(mean), (None, 0, 0)))

    def pulls(params):
        slopes = np.array(slopes_of(params, batches, keys))
        return np.abs(slopes.mean(1)) / (slopes.std(1) / np.sqrt(200))

    # Five standard errors of each of two slopes: false alarm 1e-6.
    exact = (0.5, 0.5 * np.log(0.5))
    assert pulls(exact).max() < 5
    # The check sees a wrong slope and a wrong width.
    assert pulls((0.8, exact[1])).max() > 5
    assert pulls((0.5, exact[1] + 0.4)).max() > 5


def test_plain_npe_is_bent_by_a_proposal():
    """Why the atomic loss exists: the same rows pull npe_loss off the posterior."""
    batch = rows_of(10_000, 1.0, 0.5)
    exact = (0.5, 0.5 * np.log(0.5))
    slope = jax.grad(lambda p: npe_loss(gaussian, p, batch, KEY).mean())(exact)
    assert np.abs(np.array(slope)).max() > 0.2


def test_the_combined_loss_adds_npe_on_the_rows_of_the_prior():
    batch = rows_of(20)._replace(from_prior=jnp.arange(20) % 2 == 0)
    params = (0.4, -0.3)
    plain = make_apt_loss(5)(gaussian, params, batch, KEY)
    both = make_apt_loss(5, combined=True)(gaussian, params, batch, KEY)
    npe = npe_loss(gaussian, params, batch, KEY)
    np.testing.assert_allclose(both, plain + np.where(np.arange(20) % 2, 0, npe), 1e-5)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: make_apt_loss(1), "num_atoms of at least 2; got 1"),
        (lambda: make_apt_loss("some"), "num_atoms to be a whole number or 'all'"),
        (
            lambda: make_apt_loss(30)(gaussian, (0.5, 0.0), rows_of(20), KEY),
            "num_atoms of at most the batch's 20 rows; got 30",
        ),
        (
            lambda: make_apt_loss(5, combined=True)(
                gaussian, (0.5, 0.0), rows_of(20), KEY
            ),
            "batch with from_prior of each row; got none",
        ),
    ],
)
def test_bad_arguments(make, message):
    with pytest.raises(ValueError, match=message):
        make()
