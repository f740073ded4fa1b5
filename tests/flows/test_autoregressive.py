"""Masks of the autoregressive flows."""

import functools
import itertools

import jax
import numpy as np
import pytest

from flowinv.flows import AffineAutoregressiveFlow, SplineAutoregressiveFlow
from flowinv.flows.autoregressive import made_masks


@pytest.mark.parametrize("flow", [AffineAutoregressiveFlow, SplineAutoregressiveFlow])
def test_an_autoregressive_layer_looks_only_backwards(flow):
    module = flow(num_layers=1, hidden=(16, 16), act="silu")
    z = np.random.default_rng(0).normal(size=4).astype(np.float32)
    variables = module.init(jax.random.key(0), z, None)
    rng = np.random.default_rng(1)
    params = jax.tree.map(
        lambda leaf: leaf + rng.normal(size=leaf.shape),
        variables["params"]["conditioner"],
    )
    variables["params"]["conditioner"] = params
    inverse = functools.partial(module.apply, method="inverse_and_log_det")
    jacobian = np.asarray(jax.jacfwd(lambda z: inverse(variables, z)[0])(z))
    assert (jacobian[np.triu_indices(4, 1)] == 0).all()
    assert (jacobian[np.tril_indices(4)] != 0).all()


@pytest.mark.parametrize(("dim", "hidden"), [(1, (4,)), (2, (8,)), (5, (16, 16))])
def test_made_masks_connect_each_output_with_all_before_it(dim, hidden):
    masks = made_masks(dim, hidden, 2)
    assert [mask.shape for mask in masks] == list(
        itertools.pairwise((dim, *hidden, 2 * dim))
    )
    paths = np.linalg.multi_dot([np.eye(dim), *masks])
    expected = np.repeat(np.triu(np.ones((dim, dim)), 1), 2, 1) > 0
    np.testing.assert_array_equal(paths > 0, expected)
