"""Training settings: the table of bad values, schedules, clipping."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import optax
import pytest

from flowinv.training.config import TrainConfig, learning_rate, make_optimizer

BAD = [
    ("learning_rate", 0.0, "learning_rate above 0; got 0.0"),
    ("learning_rate", -1e-3, "learning_rate above 0; got -0.001"),
    ("learning_rate", float("nan"), "learning_rate above 0; got nan"),
    ("learning_rate", float("inf"), "learning_rate above 0; got inf"),
    ("clip_norm", 0.0, "clip_norm above 0"),
    ("batch_size", -1, "batch_size of at least 0; got -1"),
    ("max_epochs", -1, "max_epochs of at least 0"),
    ("num_steps", 0, "num_steps of at least 1"),
    ("steps_per_epoch", 0, "steps_per_epoch of at least 1"),
    ("warmup_steps", -1, "warmup_steps of at least 0"),
    ("weight_decay", -0.1, "weight_decay of at least 0"),
    ("weight_decay", float("nan"), "weight_decay of at least 0"),
    ("patience", -1, "patience of at least 0"),
    ("checkpoint_seconds", -1.0, "checkpoint_seconds of at least 0"),
    ("num_members", 0, "num_members of at least 1"),
    ("num_validation", 1, "num_validation of at least 2"),
    ("validation_share", 0.0, "validation_share between 0 and 1; got 0.0"),
    ("validation_share", 1.0, "validation_share between 0 and 1; got 1.0"),
    ("validation_share", float("nan"), "validation_share between 0 and 1"),
    ("ema_decay", 1.0, "ema_decay at least 0 and below 1; got 1.0"),
    ("ema_decay", -0.1, "ema_decay at least 0"),
    ("schedule", "cosin", "Did you mean 'cosine'"),
    ("driver", "scam", "Did you mean 'scan'"),
]


@pytest.mark.parametrize(("field", "value", "message"), BAD)
def test_bad_settings_answer_in_one_line(field, value, message):
    config = dataclasses.replace(TrainConfig(), **{field: value})
    with pytest.raises(ValueError, match=message) as error:
        config.check()
    assert "\n" not in str(error.value)


def test_defaults_pass():
    TrainConfig().check()


def test_cosine_ramps_up_and_falls_to_a_hundredth():
    config = TrainConfig(learning_rate=0.1, warmup_steps=10)
    rate = learning_rate(config, 110)
    np.testing.assert_allclose(rate(0), 0.01, rtol=1e-5)
    np.testing.assert_allclose(rate(10), 0.1, rtol=1e-5)
    np.testing.assert_allclose(rate(60), 0.1 * (0.01 + 0.99 * 0.5), rtol=1e-5)
    np.testing.assert_allclose(rate(110), 1e-3, rtol=1e-4)
    values = np.array([rate(step) for step in range(10, 111)])
    assert (np.diff(values) <= 0).all()


@pytest.mark.parametrize(("warmup", "first"), [(0, 0.1), (5, 0.02)])
def test_constant_rate(warmup, first):
    config = TrainConfig(learning_rate=0.1, warmup_steps=warmup, schedule="constant")
    rate = learning_rate(config, 100)
    np.testing.assert_allclose(rate(0), first, rtol=1e-6)
    np.testing.assert_allclose([rate(5), rate(50), rate(500)], 0.1, rtol=1e-6)


def test_a_short_run_keeps_half_its_steps_after_the_ramp():
    rate = learning_rate(TrainConfig(learning_rate=0.1, warmup_steps=100), 20)
    np.testing.assert_allclose(rate(10), 0.1, rtol=1e-6)


def test_clipping_bounds_what_the_optimizer_sees():
    config = TrainConfig(clip_norm=1.0, weight_decay=0.0)
    optimizer = make_optimizer(config, 100)
    params = jnp.zeros(2)
    state = optimizer.init(params)
    _, large = optimizer.update(jnp.array([3e6, 4e6]), state, params)
    _, unit = optimizer.update(jnp.array([0.6, 0.8]), state, params)
    first = optax.tree_utils.tree_get(large, "mu")
    np.testing.assert_allclose(first, optax.tree_utils.tree_get(unit, "mu"), rtol=1e-5)


@pytest.mark.parametrize(
    ("max_epochs", "steps", "expected"),
    [
        (7, 100, 7),
        (0, 4, 375),
        (0, 14, 108),
        (0, 140, 61),
        (0, 1_400, 34),
        (0, 10**5, 20),
    ],
)
def test_epochs_of_a_fixed_set(max_epochs, steps, expected):
    """1,500 steps, more by the power 3/4 of the rows, unless a number is given."""
    assert TrainConfig(max_epochs=max_epochs).epochs(steps) == expected
