"""The README's Python runs as it stands."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
BLOCKS = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.S)


def test_blocks_are_short_and_compile():
    assert len(BLOCKS) == 3
    for block in BLOCKS:
        compile(block, "README.md", "exec")
        assert len(block.strip().splitlines()) <= 20


@pytest.mark.slow
@pytest.mark.parametrize("number", range(len(BLOCKS)))
def test_block_runs(number, tmp_path):
    code = BLOCKS[number]
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-2000:]


def test_the_nnx_line_works():
    import jax
    import jax.numpy as jnp
    from flax import nnx

    from flowinv.flows import CINN

    assert "nnx.bridge.ToNNX(flow, rngs=nnx.Rngs(0)).lazy_init(z, x)" in (
        (ROOT / "README.md").read_text()
    )
    flow = CINN(num_layers=1, hidden=(4,))
    z, x = jnp.zeros((2, 2)), jnp.zeros((2, 1))
    model = nnx.bridge.ToNNX(flow, rngs=nnx.Rngs(0)).lazy_init(z, x)
    assert model(z, x).shape == (2,)
    assert model.sample(jax.random.key(0), x, 100).shape == (2, 100, 2)
