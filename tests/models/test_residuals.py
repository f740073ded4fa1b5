"""Residuals that are normal, and those that are not: by draws and by hand."""

import jax
import numpy as np
import pytest

from flowinv.models.residuals import errors_from_normal
from flowinv.types import Placed

LANES, COUNT, D = 400, 1_000, 3
errors = jax.jit(jax.vmap(errors_from_normal))


def placed():
    """Places and errors that vary from row to row."""
    rng = np.random.default_rng(0)
    mean = np.float32(rng.normal(size=(LANES, COUNT, D)))
    return Placed(mean, np.float32(rng.uniform(-3.0, 1.0, size=mean.shape)))


@pytest.mark.parametrize("uneven", [False, True])
def test_normals_are_seldom_called_something_else(uneven):
    """15 means of 400 lanes: 6,000, of which 6e-5 exceed 4 if they are normal: 0.4.

    More than three have a false-alarm rate of 8e-4 (seen: none of 4,000 lanes, errors
    being a normal's at least).
    """
    rng = np.random.default_rng(1)
    place = placed()
    z = place.mean + np.exp(place.log_sd) * np.float32(rng.normal(size=place[0].shape))
    weights = np.ones((LANES, COUNT), np.float32)
    if uneven:
        weights = np.float32(rng.exponential(size=weights.shape))
    found = np.asarray(errors(place, z, weights))
    assert (found > 4.0).sum() <= 3
    # Of 15 normals the largest has the median 2.0 without its sign.
    assert 1.7 < np.median(found) < 2.2


def second(of):
    """Residuals of which `of` gives the second parameter's, from three normals."""

    def draw(rng):
        r = rng.normal(size=(LANES, COUNT, D))
        r[..., 1] = of(r)
        return r

    return draw


@pytest.mark.parametrize(
    ("draw", "expected"),
    [
        (second(lambda r: r[..., 1] + 0.2), 0.2),
        (second(lambda r: 0.8 * r[..., 1]), 0.36 / 2**0.5),
        (second(lambda r: (0.3 * r[..., 0] + r[..., 1]) / 1.09**0.5), 0.3 / 1.09**0.5),
        # An exponential's skew of 2, of which a tenth of the variance.
        (second(lambda r: np.where(r[..., 2] > 1.2816, 4.0, -4 / 9) * 0.75), None),
    ],
    ids=["shifted", "too wide", "correlated", "two modes"],
)
def test_others_are_found(draw, expected):
    """The mean's size in its error, 1 / sqrt(1,000) for the first three."""
    place, r = placed(), draw(np.random.default_rng(2))
    z = np.float32(place.mean + np.exp(place.log_sd) * r)
    found = np.asarray(errors(place, z, np.ones((LANES, COUNT), np.float32)))
    assert (found > 4.0).mean() > 0.9
    if expected is not None:
        assert abs(np.median(found) / (expected * COUNT**0.5) - 1) < 0.12


def test_rows_that_do_not_count_say_nothing():
    place = Placed(*(leaf[:1] for leaf in placed()))
    r = np.random.default_rng(3).normal(size=place.mean.shape)
    z = np.float32(place.mean + np.exp(place.log_sd) * r)
    weights = np.ones((1, COUNT), np.float32)
    alone = Placed(*(leaf[:, :500] for leaf in place))
    expected = errors(alone, z[:, :500], weights[:, :500])
    weights[:, 500:] = 0.0
    z[:, 500:] += 5.0
    np.testing.assert_allclose(errors(place, z, weights), expected, rtol=1e-4)
