"""Runs of methods whose posterior is drawn from by a sampler, or by an equation."""

import json

import numpy as np
import pytest

import flowinv as fi

pytestmark = pytest.mark.slow

TASK = "--task=gaussian_linear:dim=2"
TINY = [
    *("--num-simulations=2000", "--max-epochs=2", "--num-heldout=100"),
    *("--num-samples=20", "--num-exact=200", "--observations=1", "--classifiers=jax"),
    *("--no-point-estimates", "--quiet"),
]
SAMPLER = ["--num-particles=100", "--moves=2", "--last-moves=5"]
NLE = ["nle", "--num-layers=2", "--hidden=16", "--head-hidden=16", *SAMPLER]


@pytest.fixture(
    scope="module",
    params=[NLE, ["nre", "--hidden=32", *SAMPLER], ["fmpe", "--hidden=32"]],
    ids=lambda own: own[0],
)
def made(request, tmp_path_factory):
    """Folder of a run, and the name of its network."""
    from flowinv import cli

    method, *flags = request.param
    folder = tmp_path_factory.mktemp(method) / "run"
    with pytest.raises(SystemExit) as end:
        cli.main(["run", TASK, f"--method={method}", f"--out={folder}", *TINY, *flags])
    assert end.value.code == 0
    return folder, {"nle": "maf+spline-ar", "nre": "ratio", "fmpe": "field"}[method]


def test_a_run_is_measured_and_says_so_on_its_page(made):
    folder, flow = made
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics["best_flow"] == flow
    assert metrics[f"{flow}/observation_1/c2st_jax"] < 0.7
    page = (folder / "report.html").read_text()
    assert "theta_1" in page
    assert "observation 1" in page


def test_its_model_answers_a_file(made, flowinv, tmp_path):
    folder, _ = made
    (tmp_path / "mine.csv").write_text("0.1,-0.4\n")
    out = tmp_path / "draws.npz"
    file = f"--x={tmp_path / 'mine.csv'}"
    code, said, err = flowinv("infer", folder, file, f"--out={out}")
    assert (code, err) == (0, [])
    assert any("theta_2" in line for line in said)
    with np.load(out) as archive:
        draws = archive[archive.files[0]]
    # The exact posterior is at half of x, with an sd of .22.
    draws = draws.reshape(-1, 2)
    np.testing.assert_allclose(draws.mean(0), [0.05, -0.2], atol=0.12)


def test_and_a_program(made):
    folder, _ = made
    posterior = fi.load(folder / "model")
    x = np.float32([[0.1, -0.4]])
    log_prob = posterior.log_prob(np.float32([[0.05, -0.2]]), x)
    # Two normals of variance .05 at their modes: -log(2 pi .05).
    np.testing.assert_allclose(log_prob, -np.log(2 * np.pi * 0.05), atol=0.6)
