"""`flowinv run` with the sequential methods: from flags to metrics and page."""

import json

import jax
import numpy as np
import pytest

import flowinv as fi
from flowinv import cli
from flowinv.experiment.config import EvaluateConfig
from flowinv.experiment.rounds import _scores

QUICK = [
    "--flow=cinn",
    "--num-rounds=2",
    "--num-simulations=300",
    "--batch-size=64",
    "--max-epochs=2",
    "--steps-per-epoch=5",
    "--num-layers=1",
    "--hidden=8",
    "--head-hidden=8",
    "--num-exact=200",
    "--classifiers=forest",
    "--quiet",
]
TASK = "--task=gaussian_linear_uniform:dim=2"


# The region that compiles fastest: which one is no matter here.
TSNPE = ("--method=tsnpe", "--region=box")
SLOW_APT = pytest.param(("--method=apt",), marks=pytest.mark.slow)


@pytest.fixture(scope="module", params=[TSNPE, SLOW_APT], ids=["tsnpe", "apt"])
def finished(request, tmp_path_factory, small_forests):
    """Folder of a finished run of each method: two observations, two seeds."""
    out = tmp_path_factory.mktemp("rounds") / "run"
    arguments = ["--observations=1,3", "--seeds=2", f"--out={out}", *QUICK]
    with pytest.raises(SystemExit) as end:
        cli.main(["run", TASK, *request.param, *arguments])
    assert end.value.code == 0
    return out


def test_run_from_the_command_line(finished):
    metrics = json.loads((finished / "metrics.json").read_text())
    for seed in (1, 2):
        for observation in (1, 3):
            where = f"cinn-seed-{seed}/observation_{observation}"
            assert 0.4 < metrics[f"{where}/c2st_forest"] <= 1.0
            used = [metrics[f"{where}/round_{r}/num_simulations"] for r in (1, 2)]
            assert used == [300, 600]
            assert 0.4 < metrics[f"{where}/round_2/c2st_forest"] <= 1.0
            assert f"{where}/round_1/c2st_forest" not in metrics
            assert metrics[f"{where}/round_2/distance"] > 0
    own = [metrics[f"cinn-seed-{s}/observation_1/round_2/distance"] for s in (1, 2)]
    assert own[0] != own[1]
    page = (finished / "report.html").read_text()
    assert "Round by round" in page
    assert "300 in each of 2 rounds" in page
    assert "its own numbers, standardised" in page
    model = fi.load(finished / "cinn-seed-1" / "observation_3")
    x, _ = fi.task("gaussian_linear_uniform:dim=2").observation(3)
    theta = np.asarray(model.sample(jax.random.key(0), x, 500))
    assert np.abs(theta).max() <= 1.0


@pytest.mark.parametrize(("every", "scored"), [(0, []), (1, [0, 1, 2]), (2, [0, 2])])
def test_some_rounds_are_scored_and_the_last_always(every, scored):
    settings = EvaluateConfig(score_rounds=every)
    draws = np.random.default_rng(0).normal(size=(3, 60, 2))
    found = _scores(settings, draws[0, :50] + 9.0, draws)
    assert np.flatnonzero(np.isfinite(found)).tolist() == scored
    assert (found[scored] > 0.9).all()
    assert not np.isfinite(_scores(settings, None, draws)).any()


@pytest.mark.usefixtures("pageless")
def test_resumed_run_computes_no_round_again(flowinv, finished):
    out = finished
    before = json.loads((out / "metrics.json").read_text())
    code, _, _ = flowinv("run", f"--out={out}", "--resume", "--quiet")
    assert code == 0
    after = json.loads((out / "metrics.json").read_text())
    before.pop("seconds")
    after.pop("seconds")
    assert after == before


@pytest.mark.usefixtures("pageless")
def test_a_users_scan_takes_the_place_of_the_observations(flowinv, tmp_path):
    file = tmp_path / "mine.csv"
    file.write_text("0.1,-0.4\n")
    code, _, _ = flowinv(
        "run", TASK, *TSNPE, f"--x={file}", f"--out={tmp_path / 'o'}", *QUICK
    )
    assert code == 0
    metrics = json.loads((tmp_path / "o" / "metrics.json").read_text())
    assert metrics["cinn/mine.csv/round_2/num_simulations"] == 600
    assert not any("observation_" in name for name in metrics)
    assert (tmp_path / "o" / "cinn" / "mine.csv" / "model.json").is_file()


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--method=snpe"], ["method", "apt", "'snpe'"]),
        (["--num-rounds=0"], ["num_rounds", "at least 1"]),
        (["--num-simulations=50"], ["num_simulations", "at least 100"]),
        (["--region=ball"], ["region", "auto, box, hdr"]),
        (["--method=apt", "--num-atoms=1"], ["num_atoms", "at least 2"]),
        (["--method=apt", "--truncated-rounds=2"], ["truncated_rounds"]),
        (["--seeds=0"], ["seeds", "at least 1"]),
        (["--observations="], ["observations", "to name one"]),
        (["--observation=11"], ["observations from 1 to 10; got 11"]),
        (["--observation", "11"], ["observations from 1 to 10; got 11"]),
    ],
)
def test_bad_flags_answer_before_any_work(flowinv, refused, tmp_path, flags, words):
    out = tmp_path / "out"
    arguments = [TASK, "--method=tsnpe", f"--out={out}", *QUICK, *flags]
    refused(flowinv("run", *arguments), *words)
    assert not out.exists()


def test_infer_says_that_the_model_is_of_one_observation(flowinv, finished, tmp_path):
    file = tmp_path / "mine.csv"
    file.write_text("0.1,-0.4\n")
    code, out, err = flowinv("infer", finished, f"--x={file}")
    assert code == 0
    assert any("theta_1" in line for line in out)
    assert len(err) == 1
    assert "trained in rounds for one observation" in err[0]


def test_every_model_of_a_run_can_be_asked_for(flowinv, refused, finished, tmp_path):
    x, _ = fi.task("gaussian_linear_uniform:dim=2").observation(3)
    file, out = tmp_path / "third.csv", tmp_path / "draws.npz"
    file.write_text(",".join(f"{value:.9g}" for value in x))
    name = "cinn-seed-2/observation_3"
    arguments = [f"--x={file}", f"--model={name}", f"--out={out}"]
    code, _, _ = flowinv("infer", finished, *arguments)
    assert code == 0
    own = fi.load(finished / "cinn-seed-2" / "observation_3")
    expected = own.sample(jax.random.key(0), x[None], 2_000)
    np.testing.assert_allclose(np.load(out)["samples"], expected, atol=1e-6)
    wrong = flowinv("infer", finished, f"--x={file}", "--model=cinn-seed-2")
    refused(wrong, "model in", "cinn-seed-2/observation_1")
