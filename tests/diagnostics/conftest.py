"""Reference outputs of other implementations, and a problem of known posterior."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

VECTORS = Path(__file__).resolve().parents[2] / ".." / "shared" / "vectors"


@pytest.fixture
def vectors():
    """Return a loader of `../shared/vectors/metrics_<name>.npz`."""

    def load(name):
        path = VECTORS / f"metrics_{name}.npz"
        if not path.exists():
            pytest.skip(
                f"no reference vectors: ../shared/vectors/{path.name} is absent"
            )
        with np.load(path) as archive:
            return {key: archive[key] for key in archive.files}

    return load


class Calibration(NamedTuple):
    """Truths and draws of their posterior."""

    theta: np.ndarray
    samples: np.ndarray


@pytest.fixture
def normal_posterior():
    """Return draws of the posterior of theta ~ N(0, I), x ~ N(theta, I), sds scaled."""

    def make(sd_factor=1.0, num_simulations=2_000, num_samples=199, dim=4, seed=0):
        rng = np.random.default_rng(seed)
        theta = rng.normal(size=(num_simulations, dim))
        x = theta + rng.normal(size=theta.shape)
        noise = rng.normal(size=(num_simulations, num_samples, dim))
        samples = x[:, None] / 2 + sd_factor * np.sqrt(0.5) * noise
        return Calibration(theta.astype(np.float32), samples.astype(np.float32))

    return make
