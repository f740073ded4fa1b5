"""Boxes hold the posterior, nest, stay on the prior's edges and move out again."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flowinv.priors.cut import WHOLE, Box, whole_box
from flowinv.priors.latent import normal, uniform
from flowinv.sequential.boxes import next_box

PRIOR = uniform([0.0, 0.0], [1.0, 1.0])


def stacked(*boxes):
    """Boxes of the rounds so far, the last one repeated up to four."""
    boxes = [*boxes] + [boxes[-1]] * (4 - len(boxes))
    return jax.tree.map(lambda *edges: jnp.stack(edges), *boxes)


def in_theta(prior, box):
    return [np.asarray(prior.from_latent(edge)) for edge in box]


def draws(mean, sd, count=4_096):
    noise = jax.random.normal(jax.random.key(0), (count, 2))
    return jnp.asarray(mean) + jnp.asarray(sd) * noise


def test_box_is_the_range_of_the_draws_and_a_margin():
    theta = draws([0.4, 0.6], [0.01, 0.02])
    found = next_box(PRIOR, stacked(whole_box(2)), jnp.int32(0), theta, 1e-4, 0.15)
    low, high = in_theta(PRIOR, found.box)
    tails = np.quantile(theta, [2.5e-5, 1 - 2.5e-5], axis=0)
    pad = 0.15 * (tails[1] - tails[0])
    np.testing.assert_allclose(low, tails[0] - pad, atol=2e-4)
    np.testing.assert_allclose(high, tails[1] + pad, atol=2e-4)
    assert float(found.pressed) == 0.0


@pytest.mark.parametrize("prior", [PRIOR, normal([0.4, 0.6], [0.1, 0.1])])
def test_boxes_nest(prior):
    boxes, theta = [whole_box(2)], draws([0.4, 0.6], [0.01, 0.02])
    for index in range(3):
        found = next_box(prior, stacked(*boxes), jnp.int32(index), theta, 1e-4, 0.15)
        assert bool(boxes[-1].holds(found.box))
        boxes.append(found.box)
    assert bool(prior.contains(theta).all())
    # The last two agree up to the margin: a box that fits stays.
    np.testing.assert_allclose(boxes[-1].low, boxes[-2].low, atol=1e-3)


def test_a_posterior_on_the_priors_edge_keeps_it():
    theta = jnp.abs(draws([0.0, 0.5], [0.01, 0.01]))
    found = next_box(PRIOR, stacked(whole_box(2)), jnp.int32(0), theta, 1e-4, 0.15)
    assert float(found.box.low[0]) == -WHOLE
    assert float(found.box.high[0]) < -1.0
    assert float(found.pressed) == 0.0


@pytest.mark.parametrize("side", [1.0, -1.0])
def test_a_face_that_cuts_moves_out_to_an_earlier_one(side):
    """The box of round 2 ends 1 sd beyond the mean; that of round 1 does not cut."""

    def at(low, high):
        edges = sorted([0.5 + side * low, 0.5 + side * high])
        theta = jnp.asarray([[e, e] for e in edges])
        return Box(*PRIOR.to_latent(theta))

    boxes = stacked(whole_box(2), at(-0.2, 0.2), at(-0.05, 0.01))
    centre = 0.5 + side * 0.0
    theta = draws([centre, centre], [0.01, 0.01])
    inside = boxes.low[2] <= PRIOR.to_latent(theta)
    inside &= PRIOR.to_latent(theta) <= boxes.high[2]
    found = next_box(PRIOR, boxes, jnp.int32(2), theta[inside.all(-1)], 1e-4, 0.15)
    assert float(found.pressed) > 1e-3
    edge, earlier = (
        (found.box.high, boxes.high[1]) if side > 0 else (found.box.low, boxes.low[1])
    )
    np.testing.assert_array_equal(edge, earlier)
    # The other face is not pressed: it moves in.
    low, high = in_theta(PRIOR, found.box)
    far = 0.5 - low if side > 0 else high - 0.5
    assert (far < 0.05).all()
