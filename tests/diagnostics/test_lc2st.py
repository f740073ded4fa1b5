"""The local two-sample test: reference numbers, level and power."""

import jax
import numpy as np
import pytest

from flowinv.diagnostics.lc2st import Places, lc2st, lc2st_statistic

KEY = jax.random.key(0)


@pytest.mark.parametrize("case", ["good", "narrow"])
def test_agrees_with_reference_implementation(vectors, case):
    """Its statistic of its own probabilities, and its verdict with ours."""
    v = vectors("lc2st")
    own = lc2st_statistic(v[f"{case}_probs_class0"][0])
    np.testing.assert_allclose(own, v[f"{case}_stat"], rtol=1e-5)
    samples, theta_o = v[f"{case}_posterior_samples"], v[f"{case}_theta_o"]
    found = lc2st(
        KEY, v["theta"], v["x"], samples, Places(v["x_o"][None], theta_o[None]), 20
    )
    assert (found.p[0] < 0.05) == (v[f"{case}_p_value_20null"] < 0.05)
    assert found.null.shape == (20, 1)


def test_a_fault_at_one_place_is_found_there():
    """theta ~ N(0, 1), x ~ N(theta, 1); draws are shifted by 0.8 sd where x > 0."""
    rng = np.random.default_rng(0)
    theta = rng.normal(size=(1_500, 1))
    x = theta + rng.normal(size=theta.shape)

    def answered(x, count):
        noise = np.sqrt(0.5) * rng.normal(size=(len(x), count))
        return x / 2 + noise + 0.8 * np.sqrt(0.5) * (x > 0)

    places = np.array([[-1.5], [1.5]])
    found = lc2st(
        *(KEY, theta, x, answered(x, 1)),
        Places(places, answered(places, 1_000)[..., None]),
        num_null=50,
    )
    assert found.p[0] > 0.02
    assert found.p[1] == pytest.approx(1 / 51)
    assert found.statistic[1] > 5 * found.statistic[0]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"theta": np.zeros((50, 1)), "samples": np.zeros((50, 1))}, "at least 100"),
        ({"x": np.zeros((99, 1))}, "x with 100 rows; got 99"),
        ({"samples": np.zeros((100, 2))}, "samples with shape"),
        ({"at": np.zeros((1, 2))}, "x of places with shape"),
        ({"drawn": np.zeros((2, 5, 1))}, r"samples of places with shape \(1, n, 1\)"),
        ({"num_null": 0}, "num_null of at least 1"),
    ],
)
def test_bad_input(changes, message):
    given = {name: np.zeros((100, 1)) for name in ("theta", "x", "samples")}
    given |= {"at": np.zeros((1, 1)), "drawn": np.zeros((1, 5, 1)), **changes}
    places = Places(given.pop("at"), given.pop("drawn"))
    with pytest.raises(ValueError, match=message):
        lc2st(KEY, **given, places=places)
