"""Lanes sharded over four forced CPU devices equal their single runs."""

import os
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np

from flowinv.sequential import run_rounds

CODE = """
import sys
sys.path.insert(0, sys.argv[1])
import jax, numpy as np
from conftest import QUICK, Shift
from flowinv.flows import CINN
from flowinv.models.estimator import Estimator
from flowinv.priors.latent import normal
from flowinv.methods import Truncated
from flowinv.sequential import run_rounds
from flowinv.sequential.programs import lane_sharding

assert len(jax.devices()) == 4
assert len(lane_sharding(4).device_set) == 4
assert lane_sharding(3) is None
flow = CINN(num_layers=2, hidden=(16,), head_hidden=(16,))
estimator = Estimator(normal([0.0, 0.0], [1.0, 1.0]), flow, input_scaling="none")
few = dict(num_rounds=3, num_simulations=300, last_training=2, train=QUICK)
method = Truncated(region="box", lanes_per_call=4, **few)
x = np.linspace(-1, 1, 8, dtype=np.float32).reshape(4, 2)
done = run_rounds(jax.random.key(0), estimator, Shift(), x, method)
np.save(sys.argv[2], np.stack([h.mean for h in done.history]))
"""


def test_sharded_lanes_equal_single_runs(estimator, simulator, quick, tmp_path):
    file = tmp_path / "sharded.npy"
    flags = "--xla_force_host_platform_device_count=4"
    environment = {
        **os.environ,
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": f"{os.environ.get('XLA_FLAGS', '')} {flags}",
    }
    process = subprocess.Popen(
        [sys.executable, "-c", CODE, str(Path(__file__).parent), str(file)],
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
    )
    x = np.linspace(-1, 1, 8, dtype=np.float32).reshape(4, 2)
    single = run_rounds(jax.random.key(0), estimator, simulator, x, quick("box"))
    _, said = process.communicate()
    assert process.returncode == 0, said[-2000:]
    sharded = np.load(file)
    alone = np.stack([history.mean for history in single.history])
    # As a lane of many on one device: see test_run.py.
    np.testing.assert_allclose(sharded[:, 0], alone[:, 0], atol=3e-4)
    np.testing.assert_allclose(sharded, alone, atol=1e-3)
