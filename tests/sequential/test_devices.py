"""Lanes sharded over four forced CPU devices equal one device."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np

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

assert len(jax.devices()) == int(sys.argv[2])
flow = CINN(num_layers=2, hidden=(16,), head_hidden=(16,))
estimator = Estimator(normal([0.0, 0.0], [1.0, 1.0]), flow, input_scaling="none")
config = Truncated(num_rounds=2, num_simulations=300, train=QUICK, lanes_per_call=4)
x = np.linspace(-1, 1, 8, dtype=np.float32).reshape(4, 2)
done = run_rounds(jax.random.key(0), estimator, Shift(), x, config)
if sys.argv[2] == "4":
    assert len(lane_sharding(4).device_set) == 4
    assert lane_sharding(3) is None
np.save(sys.argv[3], np.stack([h.mean for h in done.history]))
"""


def test_sharded_lanes_equal_one_device(tmp_path):
    found = []
    for count in (1, 4):
        file = tmp_path / f"{count}.npy"
        arguments = [str(Path(__file__).parent), str(count), str(file)]
        flags = f"--xla_force_host_platform_device_count={count}"
        environment = {
            **os.environ,
            "JAX_PLATFORMS": "cpu",
            "XLA_FLAGS": f"{os.environ.get('XLA_FLAGS', '')} {flags}",
        }
        done = subprocess.run(
            [sys.executable, "-c", CODE, *arguments],
            env=environment,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr[-2000:]
        found.append(np.load(file))
    np.testing.assert_allclose(found[0][:, 0], found[1][:, 0], atol=5e-5)
    # The second box carries the first training's rounding: a row may fall in or out.
    np.testing.assert_allclose(found[0], found[1], atol=1e-3)
