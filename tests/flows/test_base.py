"""Fields that every flow checks before it is built."""

import jax
import jax.numpy as jnp
import pytest

from flowinv.flows import (
    CINN,
    AffineAutoregressiveFlow,
    SplineAutoregressiveFlow,
    SplineCouplingFlow,
)

FLOWS = {
    "cinn": CINN,
    "spline": SplineCouplingFlow,
    "maf": AffineAutoregressiveFlow,
    "spline-ar": SplineAutoregressiveFlow,
}


@pytest.mark.parametrize("flow", FLOWS)
@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"num_layers": 0}, "Expected num_layers of at least 1; got 0"),
        ({"hidden": ()}, r"Expected hidden to name at least one layer .*; got \(\)"),
        ({"hidden": (8, 0)}, r"Expected hidden to name .*; got \(8, 0\)"),
        ({"head_hidden": (0,)}, r"Expected head_hidden to name .*; got \(0,\)"),
        ({"bound": 0.0}, "Expected bound above 0; got 0.0"),
        ({"bound": float("nan")}, "Expected bound above 0; got nan"),
        ({"act": "rellu"}, "Expected activation to be one of .* Did you mean 'relu'"),
    ],
)
def test_invalid_fields(flow, fields, message):
    with pytest.raises(ValueError, match=message):
        FLOWS[flow](**fields).init(jax.random.key(0), jnp.zeros((1, 2)))


@pytest.mark.parametrize(
    ("flow", "fields", "message"),
    [
        ("cinn", {"clamp": 0.0}, "Expected clamp above 0; got 0.0"),
        ("maf", {"clamp": -1.0}, "Expected clamp above 0; got -1.0"),
        ("spline", {"num_bins": 1}, "Expected num_bins of at least 2; got 1"),
        ("spline-ar", {"num_bins": 0}, "Expected num_bins of at least 2; got 0"),
    ],
)
def test_invalid_fields_of_one_kind(flow, fields, message):
    with pytest.raises(ValueError, match=message):
        FLOWS[flow](**fields).init(jax.random.key(0), jnp.zeros((1, 2)))
