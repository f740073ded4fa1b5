"""Input scaling: statistics of valid rows, stable maps, and what `auto` chooses."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flowinv.data.standardise import (
    Statistics,
    fit_statistics,
    resolve_scaling,
    restandardise,
    standardise,
)

RNG = np.random.default_rng(0)
NORMAL = RNG.normal(size=(4_000, 5)).astype(np.float32)
DATA = {
    "none": NORMAL,
    "root": RNG.poisson(30.0, size=(4_000, 5)).astype(np.float32),
    "log": np.exp(2.0 * NORMAL),
    "asinh": RNG.standard_t(1.0, size=(4_000, 5)).astype(np.float32),
}
ALL = np.ones(4_000, bool)
USED = jnp.arange(1_009) < 1_007
USED = USED & (jnp.arange(1_009) >= 7)


@pytest.mark.parametrize("scaling", DATA)
def test_auto_chooses_and_scales_to_unit_variance(scaling: str) -> None:
    x = DATA[scaling]
    assert resolve_scaling(x, ALL) == scaling
    statistics = fit_statistics(x, ALL, scaling)
    y = np.asarray(standardise(statistics, x, scaling), float)
    np.testing.assert_allclose(y.mean(0), 0, atol=1e-5)
    np.testing.assert_allclose(y.std(0), 1, rtol=1e-5)
    jitted = jax.jit(standardise, static_argnames="scaling")
    np.testing.assert_allclose(jitted(statistics, x, scaling), y, rtol=1e-4, atol=1e-5)


def test_flags_and_small_categories_are_no_counts() -> None:
    assert resolve_scaling((NORMAL > 0).astype(float), ALL) == "none"
    assert resolve_scaling(NORMAL, ALL, "log") == "log"


def test_only_valid_rows_count() -> None:
    valid = ALL.copy()
    valid[::2] = False
    spoiled = DATA["root"].copy()
    spoiled[~valid] = -1e9
    assert resolve_scaling(spoiled, valid) == "root"
    for scaling in ("none", "root", "asinh"):
        got = fit_statistics(spoiled, valid, scaling)
        expected = fit_statistics(DATA["root"][valid], ALL[valid], scaling)
        for a, b in zip(got, expected, strict=True):
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("scaling", DATA)
def test_other_rows_are_restandardised_as_the_host_does_it(scaling: str) -> None:
    """The map stays that of the first rows; mean and sd are those of the new ones."""
    x = DATA[scaling]
    first = fit_statistics(x, ALL, scaling)
    new = x[1_000:2_000] * np.float32(1.0 if scaling == "root" else 1.1)
    new[:, 0] = new[0, 0]  # a constant keeps the scale 1
    again = jax.jit(restandardise, static_argnames="scaling")(
        first, np.concatenate([x[:7], new, x[7:9]]), USED, scaling
    )
    host = fit_statistics(new, ALL[:1_000], scaling)
    for name in ("centre", "width"):
        np.testing.assert_array_equal(getattr(again, name), getattr(first, name))
    if scaling in ("none", "root"):  # maps without constants of their own
        np.testing.assert_allclose(again.shift, host.shift, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(again.scale, host.scale, rtol=1e-5)
    y = np.asarray(standardise(again, new, scaling), float)
    np.testing.assert_allclose(y.mean(0), 0, atol=1e-5)
    np.testing.assert_allclose(y.std(0), [0, 1, 1, 1, 1], rtol=1e-4)


def test_empty_counts_are_no_hundreds_of_sds_in_other_rows_either() -> None:
    x = np.tile(DATA["root"][:, :1], 5)
    x[:, 4] = 0.0
    x[7, 4] = 1.0
    first = fit_statistics(x, ALL, "root")
    again = restandardise(first, x, jnp.asarray(ALL), "root")
    np.testing.assert_allclose(again.scale, first.scale, rtol=1e-5)


def test_large_offsets_cost_no_digits() -> None:
    x = (1e4 + NORMAL).astype(np.float32)
    statistics = fit_statistics(x, ALL, "none")
    exact = x.astype(np.float64)
    np.testing.assert_allclose(statistics.shift, exact.mean(0), rtol=1e-7)
    np.testing.assert_allclose(statistics.scale, exact.std(0), rtol=1e-6)


@pytest.mark.parametrize("scaling", ["none", "root", "asinh", "log"])
def test_constant_columns_get_scale_one(scaling: str) -> None:
    x = DATA["root"] + 0.1
    x[:, 2] = 0.1
    statistics = fit_statistics(x, ALL, scaling)
    assert statistics.scale[2] == 1
    y = standardise(statistics, x, scaling)
    assert bool(jnp.all(jnp.isfinite(y)))
    np.testing.assert_allclose(y[:, 2], 0, atol=1e-5)


def test_floor_holds_nearly_empty_pixels() -> None:
    x = DATA["root"].copy()
    x[:, 0] = 0
    x[7, 0] = 1
    free = standardise(fit_statistics(x, ALL, "root", floor=0.0), x, "root")
    held = standardise(fit_statistics(x, ALL, "root"), x, "root")
    assert float(jnp.max(free)) > 50
    assert float(jnp.max(jnp.abs(held[:, 0]))) < 15
    np.testing.assert_array_equal(free[:, 1:], held[:, 1:])


def test_root_makes_poisson_variance_one() -> None:
    """Anscombe: sd of 2 sqrt(n + 3/8) is 1 within 2 % for means of 5 and above."""
    for mean in (5.0, 50.0, 5_000.0):
        counts = np.random.default_rng(1).poisson(mean, size=(40_000, 1))
        statistics = fit_statistics(counts, np.ones(40_000, bool), "root")
        # 1 % is 2.8 standard errors of an sd from 40,000 draws, 2 % the bias at 5.
        assert abs(float(statistics.scale[0]) - 1) < 0.03


def test_unseen_values_stay_finite() -> None:
    for scaling, x in DATA.items():
        statistics = fit_statistics(x, ALL, scaling)
        far = jnp.asarray([[-1e6, 0.0, 1e6, 1e-20, 1e30]])
        assert bool(jnp.all(jnp.isfinite(standardise(statistics, far, scaling))))


def test_statistics_are_a_pytree_of_float32() -> None:
    statistics = fit_statistics(NORMAL.reshape(-1, 1, 5), ALL, "none")
    assert isinstance(statistics, Statistics)
    for leaf in jax.tree.leaves(statistics):
        assert leaf.shape == (1, 5)
        assert leaf.dtype == jnp.float32


@pytest.mark.parametrize(
    ("run", "message"),
    [
        (lambda: resolve_scaling(NORMAL, ALL, "rot"), "Did you mean 'root'"),
        (lambda: fit_statistics(NORMAL, ALL, "auto"), "to be resolved"),
        (lambda: fit_statistics(NORMAL, ~ALL, "none"), "at least one valid row"),
        (lambda: fit_statistics(NORMAL, ALL[:5], "none"), r"shape \(4000,\)"),
        (lambda: fit_statistics(NORMAL, ALL, "root"), "of at least 0 for the root"),
        (lambda: fit_statistics(NORMAL, ALL, "log"), "above 0 for the log"),
        (lambda: fit_statistics(NORMAL, ALL, "none", floor=-1), "floor of at least 0"),
    ],
)
def test_bad_arguments(run, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        run()
