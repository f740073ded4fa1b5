"""Boxes hold the posterior, nest, stay on the prior's edges and move out again."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flowinv.priors.cut import WHOLE, Box, whole_box
from flowinv.priors.latent import normal, uniform
from flowinv.sequential.boxes import balanced, next_box

PRIOR = uniform([0.0, 0.0], [1.0, 1.0])


def in_theta(prior, box):
    return [np.asarray(prior.from_latent(edge)) for edge in box]


def draws(mean, sd, count=4_096):
    noise = jax.random.normal(jax.random.key(0), (count, 2))
    return jnp.asarray(mean) + jnp.asarray(sd) * noise


def test_box_is_the_range_of_the_draws_and_a_margin():
    theta = draws([0.4, 0.6], [0.01, 0.02])
    found = next_box(PRIOR, whole_box(2), theta, 1e-4, 0.15)
    low, high = in_theta(PRIOR, found.box)
    tails = np.quantile(theta, [2.5e-5, 1 - 2.5e-5], axis=0)
    pad = 0.15 * (tails[1] - tails[0])
    np.testing.assert_allclose(low, tails[0] - pad, atol=2e-4)
    np.testing.assert_allclose(high, tails[1] + pad, atol=2e-4)
    assert float(found.pressed) == 0.0


@pytest.mark.parametrize("prior", [PRIOR, normal([0.4, 0.6], [0.1, 0.1])])
def test_boxes_nest(prior):
    boxes, theta = [whole_box(2)], draws([0.4, 0.6], [0.01, 0.02])
    for _ in range(3):
        found = next_box(prior, boxes[-1], theta, 1e-4, 0.15)
        assert bool(boxes[-1].holds(found.box))
        boxes.append(found.box)
    assert bool(prior.contains(theta).all())
    # The last two agree up to the margin: a box that fits stays.
    np.testing.assert_allclose(boxes[-1].low, boxes[-2].low, atol=1e-3)


def test_a_posterior_on_the_priors_edge_keeps_it():
    theta = jnp.abs(draws([0.0, 0.5], [0.01, 0.01]))
    found = next_box(PRIOR, whole_box(2), theta, 1e-4, 0.15)
    assert float(found.box.low[0]) == -WHOLE
    assert float(found.box.high[0]) < -1.0
    assert float(found.pressed) == 0.0


@pytest.mark.parametrize("side", [1.0, -1.0])
def test_a_face_that_cuts_moves_out_by_four_sds(side):
    """The box ends 1 sd beyond the mean on one side and 5 sd on the other."""
    edges = sorted([0.5 - 0.05 * side, 0.5 + 0.01 * side])
    box = Box(*PRIOR.to_latent(jnp.asarray([[e, e] for e in edges])))
    theta = draws([0.5, 0.5], [0.01, 0.01])
    inside = box.contains(PRIOR.to_latent(theta))
    found = next_box(PRIOR, box, theta[inside], 1e-4, 0.15)
    assert float(found.pressed) > 1e-3
    low, high = in_theta(PRIOR, found.box)
    pressed, far = (high, 0.5 - low) if side > 0 else (low, high - 0.5)
    # A normal cut at 1 sd has 0.79 of its sd.
    np.testing.assert_allclose(pressed, 0.5 + (0.01 + 4 * 0.0079) * side, atol=1e-3)
    # The other face is not pressed: it moves in.
    assert (far < 0.05).all()


def test_a_face_that_cuts_moves_to_the_priors_edge_at_most():
    box = Box(*PRIOR.to_latent(jnp.asarray([[0.1, 0.1], [0.9, 0.9]])))
    theta = jax.random.uniform(jax.random.key(1), (4_096, 2), minval=0.1, maxval=0.9)
    found = next_box(PRIOR, box, theta, 1e-4, 0.15)
    np.testing.assert_array_equal(found.box, whole_box(2))


def test_weights_make_rows_of_any_boxes_the_prior():
    """Boxes that shrink, move and grow; KS in theta, false-alarm rate 1e-3 each."""
    edges = [(0.0, 1.0), (0.2, 0.5), (0.4, 0.9), (0.3, 0.95)]
    boxes = [PRIOR.to_latent(jnp.asarray([[a, a], [b, b]])) for a, b in edges]
    boxes[0] = jnp.stack(whole_box(2))
    stack = Box(*jnp.stack(boxes, 1))
    count, rows = 20_000, []
    for number, (a, b) in enumerate(edges):
        key = jax.random.key(number)
        rows.append(jax.random.uniform(key, (count, 2), minval=a, maxval=b))
    theta = jnp.concatenate(rows)
    state = SimpleNamespace(
        z=PRIOR.to_latent(theta),
        round=jnp.repeat(jnp.arange(4), count),
        index=jnp.int32(3),
    )
    weights = np.asarray(balanced(state, stack))
    inside = ((theta >= 0.3) & (theta <= 0.95)).all(-1)
    np.testing.assert_array_equal(weights > 0, inside)
    assert weights.max() == 1.0
    # By hand: two points, held by three and by two boxes.
    mass = [(b - a) ** 2 for a, b in edges]
    for point, held in (((0.45, 0.45), (0, 1, 2, 3)), ((0.7, 0.35), (0, 3))):
        near = np.argmin(np.abs(np.asarray(theta) - point).sum(-1) + ~inside)
        expected = 1.0 / sum(1.0 / mass[k] for k in held)
        least = 1.0 / sum(1.0 / mass[k] for k in (0, 3))
        np.testing.assert_allclose(weights[near], expected / least, rtol=1e-3)
    effective = weights.sum() ** 2 / (weights**2).sum()
    for column in np.asarray(theta).T:
        order = np.argsort(column)
        cdf = np.cumsum(weights[order]) / weights.sum()
        gap = np.abs(cdf - np.clip((column[order] - 0.3) / 0.65, 0, 1)).max()
        assert gap * np.sqrt(effective) < 1.95
