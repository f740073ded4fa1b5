"""`flowinv diagnose`: any run, resumed where it stopped, and what it refuses."""

import functools
import json
import shutil

import jax
import numpy as np
import pytest

from flowinv import cli
from flowinv.data.simulate import simulate
from flowinv.diagnostics import lc2st
from flowinv.experiment.config import DiagnoseConfig
from flowinv.experiment.diagnose import diagnose_run
from flowinv.experiment.watch import Watch
from flowinv.models.files import load
from flowinv.tasks.registry import task as get_task
from flowinv.training.fit import Interrupted

TASK = "gaussian_linear:dim=2"
TINY = [
    *("--num-simulations=4000", "--max-epochs=2", "--num-layers=1", "--hidden=4"),
    *("--head-hidden=4", "--num-heldout=100", "--num-samples=20", "--flow=cinn"),
    *("--num-exact=100", "--observations=1", "--no-point-estimates", "--quiet"),
    *("--classifiers=jax",),
]
ASK = ("--num-simulations", 300, "--num-samples", 59, "--quiet")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Folder of a run with an ensemble of two networks; capsys is of functions."""
    folder = tmp_path_factory.mktemp("diagnose") / "run"
    with pytest.raises(SystemExit) as end:
        cli.main(["run", f"--task={TASK}", f"--out={folder}", "--num-members=2", *TINY])
    assert end.value.code == 0
    return folder


@pytest.fixture
def few_classifiers(monkeypatch):
    """Five that learn nothing, in the place of a hundred."""
    few = functools.partial(lc2st.lc2st, num_null=5)
    monkeypatch.setattr(lc2st, "lc2st", few)


def test_every_check_speaks_of_a_run(made, flowinv):
    code, out, err = flowinv("diagnose", made, *ASK, "--strict")
    assert (code, err) == (0, [])
    assert [line.partition(":")[0] for line in out[:2]] == ["theta_1", "theta_2"]
    found = json.loads((made / "diagnosis.json").read_text())
    assert found["num_heldout"] == 300
    for what in (
        *(
            "regions_p",
            "tarp_p",
            "tarp_near_p",
            "averaged_p/theta_1",
            "region_after_90",
        ),
        *("shrinkage/theta_2", "observation_1/efficiency", "observation_1/lc2st_p"),
        *("observation_1/members_shift/theta_1", "observation_1/c2st_jax"),
    ):
        assert np.isfinite(found[what]), what
    # The exact posterior of a linear Gaussian is where the flow begins.
    assert found["observation_1/efficiency"] > 0.9
    page = (made / "diagnosis.html").read_text()
    for words in ("Diagnosis of run", "recalibration", "region_mass_for_90"):
        assert words in page


@pytest.mark.usefixtures("few_classifiers", "pageless")
def test_what_is_there_is_not_done_again(made, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(made, folder)
    shutil.rmtree(folder / "diagnosis", ignore_errors=True)
    posterior, config = load(folder / "model"), DiagnoseConfig(600, 59)
    asked = []

    def stop():
        asked.append((folder / "diagnosis" / "part_0.npz").is_file())
        return asked[-1]

    with pytest.raises(Interrupted):
        diagnose_run(folder, "cinn", posterior, config, Watch(True, stop))
    parts = sorted(path.name for path in (folder / "diagnosis").iterdir())
    assert parts == ["part_0.npz"]
    before = (folder / "diagnosis" / "part_0.npz").stat().st_mtime_ns
    diagnose_run(folder, "cinn", posterior, config, Watch(True))
    assert (folder / "diagnosis" / "part_0.npz").stat().st_mtime_ns == before
    assert len(list((folder / "diagnosis").iterdir())) == 3
    # Other settings are other simulations.
    other = DiagnoseConfig(500, 59, seed=2)
    again = (folder / "diagnosis" / "part_0.npz").stat

    def later():
        return again().st_mtime_ns != before

    with pytest.raises(Interrupted):
        diagnose_run(folder, "cinn", posterior, other, Watch(True, later))
    assert later()


def test_pairs_stand_in_for_a_simulator(made, tmp_path, flowinv, refused):
    """A model alone, and pairs that it has not seen; wrong ones are found."""
    model = tmp_path / "model"
    shutil.copytree(made / "model", model)
    refused(flowinv("diagnose", model, *ASK), "simulator of", "--data pairs.npz")
    own = get_task(TASK)
    data = simulate(jax.random.key(9), own.prior, own.simulator, 400)
    theta, x = np.asarray(data.theta), np.asarray(data.x)
    np.savez(tmp_path / "pairs.npz", theta=theta, x=x)
    asked = ("--data", tmp_path / "pairs.npz", *ASK)
    assert flowinv("diagnose", model, *asked, "--strict")[0] == 0
    np.savez(tmp_path / "pairs.npz", theta=theta, x=x + 0.5)
    code, _, err = flowinv("diagnose", model, *asked, "--strict")
    assert code == 3
    assert err == ["flowinv: not trusted: theta_1, theta_2"]
    np.savez(tmp_path / "pairs.npz", theta=theta[:, :1], x=x)
    refused(flowinv("diagnose", model, *asked), "theta of", "with shape (400, 2)")
    np.savez(tmp_path / "pairs.npz", theta=theta)
    refused(flowinv("diagnose", model, *asked), "with arrays theta and x; got theta")


@pytest.mark.usefixtures("few_classifiers", "pageless")
def test_a_model_with_calibrated_widths_is_saved(made, tmp_path, flowinv, refused):
    target = tmp_path / "wider"
    assert flowinv("diagnose", made, *ASK, "--widened", target)[0] == 0
    widths = load(target).estimator.flow.widths
    # Right ones: 1 to 5 sds of 300 simulations.
    np.testing.assert_allclose(widths, 1.0, atol=0.3)
    refused(
        flowinv("diagnose", made, *ASK, "--widened", target),
        "--widened to name a new folder",
    )


def test_figures_of_the_page_are_files(made, tmp_path, flowinv, refused):
    folder = tmp_path / "figures"
    code, out, _ = flowinv("report", made, "--figures", folder, "--suffix", "pdf")
    assert code == 0
    names = {path.name for path in folder.iterdir()}
    assert {"ecdf.pdf", "coverage.pdf", "ranks-0.pdf", "answer-scan.pdf"} <= names
    assert out[-1] == f"figures: {len(names)} in {folder}"
    refused(flowinv("report", made, "--suffix", "gif"), "--suffix to be one of")


def test_another_task_is_refused(made, flowinv, refused):
    refused(
        flowinv("diagnose", made, *ASK, "--task", "gaussian_linear_uniform:dim=2"),
        *("the task of", "to be what it was; got another prior"),
    )
    refused(flowinv("diagnose", made / "none", *ASK), "run to be a folder")
    refused(flowinv("diagnose", made, "--num-simulations", 9), "of at least 100")


@pytest.mark.slow
def test_a_model_of_rounds_is_asked_about_its_own_scan(tmp_path, flowinv):
    folder = tmp_path / "run"
    code, *_ = flowinv(
        *("run", f"--task={TASK}", f"--out={folder}", "--method=tsnpe"),
        "--region=box",
        *("--num-rounds=1", "--num-simulations=300", "--num-layers=1", "--hidden=4"),
        *("--head-hidden=4", "--flow=cinn", "--observations=1", "--num-exact=100"),
        *("--classifiers=jax", "--max-epochs=2", "--quiet"),
    )
    assert code == 0
    assert flowinv("diagnose", folder, *ASK)[0] == 0
    found = json.loads((folder / "diagnosis.json").read_text())
    assert found["model"] == "cinn/observation_1"
    assert found["observation_1/efficiency"] > 0.5
    assert "sbc_ks_p/theta_1" not in found
