"""Every option of every task, from simulation to an answer: none refuses its own x."""

import jax
import numpy as np
import pytest

from flowinv.data.simulate import simulate
from flowinv.experiment.build import build_estimator
from flowinv.experiment.observed import user_scans
from flowinv.models.registry import NetworkConfig
from flowinv.tasks.registry import TASKS, task
from flowinv.training.config import TrainConfig
from flowinv.training.fit import train

NETWORK = NetworkConfig(
    num_layers=1, hidden=(8,), head_hidden=(8,), embedding_width=8, lu_mixing=False
)
TRAIN = TrainConfig(batch_size=20, max_epochs=1)
# The values that each option takes: all, or one that is not the default.
VALUES = {
    "beam_profile": {
        "prior": ("slides",),
        "pitch": ("5",),
        "points": ("100",),
        "samples": ("32768", "16"),
        "rotation": ("true",),
        "nuisance": ("2",),
        "observable": ("knife_edge",),
        "image": ("true",),
        "noise_free": ("true",),
    },
    "step_scan": {
        "prior": ("slides",),
        "pitch": ("5",),
        "points": ("100",),
        "photons": ("100",),
        "background": ("50",),
        "drift": ("0.1",),
        "jitter": ("0.3",),
        "read_noise": ("5",),
        "fit_amplitude": ("true",),
        "fit_background": ("true",),
    },
    "gaussian_linear": {"dim": ("3",)},
    "gaussian_linear_uniform": {"dim": ("3",)},
    **{name: {} for name in ("slcp", "slcp_distractors", "two_moons")},
    **{name: {} for name in ("sir", "lotka_volterra")},
    **{name: {} for name in ("bernoulli_glm", "bernoulli_glm_raw", "gaussian_mixture")},
}
ALONE = [
    f"{name}:{option}={value}"
    for name, options in VALUES.items()
    for option, values in options.items()
    for value in values
]
TOGETHER = [
    "beam_profile:rotation=true,samples=32768",
    "beam_profile:image=true,observable=knife_edge,points=100",
    "step_scan:read_noise=5,jitter=0.3,drift=0.1,background=50",
    "step_scan:fit_amplitude=true,fit_background=true,read_noise=2",
]
# This one has failed: the rest are slow rows.
FAST = ["beam_profile:observable=knife_edge"]
SPECS = [
    pytest.param(spec, marks=[] if spec in FAST else [pytest.mark.slow])
    for spec in [*VALUES, *ALONE, *TOGETHER]
]


def test_every_option_is_tried():
    assert set(VALUES) == set(TASKS)
    for name, (_, options) in TASKS.items():
        assert set(VALUES[name]) == set(options)


@pytest.mark.parametrize("spec", SPECS)
@pytest.mark.slow
def test_an_option_end_to_end(spec, tmp_path):
    key, own = jax.random.key(0), task(spec)
    data = simulate(key, own.prior, own.simulator, 60)
    assert bool(data.valid.all())
    fit = train(key, build_estimator(own, "cinn", NETWORK), data, TRAIN)
    x, theta = own.observation(1)
    # The file that a user would hand in.
    path = tmp_path / "scan.csv"
    np.savetxt(path, x.reshape(1, -1), delimiter=",")
    (scan,) = user_scans(own, path)
    np.testing.assert_allclose(scan.x, x, rtol=1e-5, atol=1e-5)
    draws = fit.posterior.sample(key, scan.x, 10)
    assert draws.shape == (10, own.prior.dim)
    assert bool(own.prior.contains(draws).all())
    assert own.prior.contains(theta)
