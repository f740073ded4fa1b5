"""The commands: bad input in one line, a whole experiment, answers to scan files."""

import json

import numpy as np
import pytest

from flowinv import cli
from flowinv.tasks.registry import task

TASK = "beam_profile:points=100,samples=200"
TINY = [
    f"--task={TASK}",
    "--flow=cinn",
    "--num-simulations=400",
    "--batch-size=64",
    "--max-epochs=2",
    "--num-layers=1",
    "--hidden=8",
    "--head-hidden=8",
    "--num-heldout=100",
    "--num-samples=20",
    "--num-exact=200",
    "--observations=1",
    "--classifiers=forest",
    "--no-point-estimates",
    "--quiet",
]


BAD_RUNS = [
    (["--task=beam_profil"], ["task", "Did you mean 'beam_profile'?", "'beam_profil'"]),
    (["--task=beam_profile:point=9"], ["option of task", "Did you mean 'points'"]),
    (["--task=beam_profile:points=x"], ["option points", "whole number", "'x'"]),
    (["--task=beam_profile:prior=slide"], ["Did you mean 'slides'?"]),
    (["--flow=splin"], ["flow", "'splin'", "Did you mean 'spline'"]),
    (["--learning-rate=0"], ["learning_rate above 0; got 0"]),
    (["--learning-rate=-0.1"], ["learning_rate above 0; got -0.1"]),
    (["--learning-rate=fast"], ["--learning-rate FLOAT", "'fast'"]),
    (["--learnin-rate=1"], ["--learnin-rate", "Did you mean --learning-rate?"]),
    (
        ["--num-simulations=100"],
        ["two batches of 64", "got 90 after 10", "--batch-size"],
    ),
    (["--num-simulations=-4"], ["num_simulations", "whole number"]),
    (["--validation-share=1.5"], ["validation_share between 0 and 1; got 1.5"]),
    (["--observations=1-11"], ["observations from 1 to 10; got 11"]),
    (["--observations=one"], ["observations like", "'one'"]),
    (["--embedding=set"], ["embedding other than set", "(200,)"]),
    (["--references=/no/where"], ["references to be a folder"]),
    (["--x=/no/where.csv"], ["scan file to exist; got /no/where.csv"]),
    (["--classifiers=tree"], ["classifier to be one of forest, jax, mlp; got 'tree'"]),
    (["--seed=-1"], ["seed from 0"]),
    (["extra"], ["flag of this command", "'extra'", "flowinv run --help"]),
    (["--num-heldout=1.5"], ["--num-heldout INT", "'1.5'"]),
    (["--task"], ["--task with a value; got none"]),
]


@pytest.mark.parametrize(("arguments", "words"), BAD_RUNS)
def test_bad_runs_answer_in_one_line_and_leave_no_folder(
    refused, flowinv, tmp_path, arguments, words
):
    out = tmp_path / "run"
    refused(flowinv("run", *TINY, f"--out={out}", *arguments), *words)
    assert not out.exists()


def test_references_are_read_before_the_work(refused, flowinv, tmp_path):
    out = tmp_path / "run"
    command = ["run", *TINY, f"--out={out}", f"--references={tmp_path}"]
    refused(flowinv(*command), "scan file to exist", "obs_1.npz")
    x, theta = np.ones(200), np.ones((1, 3))
    np.savez(tmp_path / "obs_1.npz", observation=x, true_parameters=theta)
    refused(flowinv(*command), "true_parameters", "(4,)", "(3,)")
    assert not out.exists()


def test_output_folder_of_another_run_is_left_alone(refused, flowinv, tmp_path):
    (tmp_path / "model").mkdir()
    message = ["output folder to be new or empty", str(tmp_path), "--resume", "--out"]
    refused(flowinv("run", *TINY, f"--out={tmp_path}"), *message)
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_output_that_cannot_be_written(refused, flowinv, tmp_path):
    (tmp_path / "file").touch()
    refused(
        flowinv("run", *TINY, f"--out={tmp_path / 'file' / 'run'}"),
        "output folder to be writable",
        "Not a directory",
        "Choose another --out.",
    )
    refused(flowinv("run", *TINY, f"--out={tmp_path / 'file'}"), "File exists")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--resume"], ["--resume together with --out"]),
        (["--resume", "--out=nowhere"], ["a run to resume in nowhere", "config.json"]),
        (["--config"], ["--config with a value"]),
        (["--config=nowhere.json"], ["config to be a file; got nowhere.json"]),
    ],
)
def test_nothing_to_resume_or_read(
    refused, flowinv, tmp_path, monkeypatch, arguments, words
):
    monkeypatch.chdir(tmp_path)
    refused(flowinv("run", *arguments), *words)
    assert list(tmp_path.iterdir()) == []


def test_config_with_an_unknown_field(refused, flowinv, tmp_path):
    path = tmp_path / "mine.json"
    path.write_text(json.dumps({"method": {"train": {"learning_rte": 1e-3}}}))
    refused(
        flowinv("run", f"--config={path}", f"--out={tmp_path / 'run'}"),
        "field in",
        "mine.json: method: train",
        "Did you mean 'learning_rate'",
    )
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (["infr"], ["'infr'", "Did you mean 'infer'"]),
        (["--bad"], ["command", "'--bad'"]),
    ],
)
def test_unknown_commands_name_near_ones(refused, flowinv, command, words):
    refused(flowinv(*command), *words)


@pytest.mark.parametrize("arguments", [[], ["--help"], ["-h"], ["help"]])
def test_usage_names_all_commands(flowinv, arguments):
    code, out, err = flowinv(*arguments)
    assert (code, err) == (0, [])
    for command in ("run", "infer", "report", "list", "doctor"):
        assert any(line.split()[:1] == [command] for line in out)


def test_help_of_a_command(flowinv):
    code, out, _ = flowinv("run", "--help")
    assert code == 0
    text = " ".join(out)
    assert all(
        flag in text for flag in ("--task", "--learning-rate", "--resume", "--out")
    )


def test_list_names_what_flags_take(flowinv):
    code, out, err = flowinv("list")
    assert (code, err) == (0, [])
    text = "\n".join(out)
    for name in (
        "beam_profile",
        "step_scan",
        "prior, pitch, points",
        "spline-ar",
        "moments",
    ):
        assert name in text


def test_doctor_shows_devices_and_versions(flowinv):
    code, out, err = flowinv("doctor")
    assert (code, err) == (0, [])
    text = "\n".join(out)
    for name in ("python 3.", "jax ", "device 0: ", "compilation cache: ", "GFLOP/s"):
        assert name in text


@pytest.fixture(scope="module")
def finished(tmp_path_factory, small_forests):
    """A whole tiny experiment, through the command."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    with pytest.raises(SystemExit) as end:
        cli.main(["run", *TINY, f"--out={folder}"])
    assert end.value.code == 0
    return folder


def test_a_run_leaves_what_it_promises(finished):
    names = {path.name for path in finished.iterdir()}
    assert names == {
        *("config.json", "task.npz", "simulations", "observed.npz", "cinn", "model"),
        *("metrics.json", "report.npz", "report.html"),
    }
    metrics = json.loads((finished / "metrics.json").read_text())
    assert metrics["best_flow"] == "cinn"
    for name in (
        "cinn/rmse/mean/mean_x",
        "cinn/sbc_chi2_p_holm/std_y",
        "cinn/coverage_90/std_x",
        "cinn/observation_1/c2st_forest",
        "cinn/mean/prdc_coverage",
    ):
        assert np.isfinite(metrics[name]), name
    assert not any("c2st_mlp" in name for name in metrics)
    lines = (finished / "cinn" / "history.jsonl").read_text().splitlines()
    assert [json.loads(line)["epoch"] for line in lines] == [1, 2]
    page = (finished / "report.html").read_text()
    assert page.lower().startswith("<!doctype html>")
    for words in ("observation 1", "x is read as", "a summary"):
        assert words in page


def test_config_file_gives_the_settings_and_flags_win(
    refused, flowinv, finished, tmp_path
):
    out = tmp_path / "again"
    result = flowinv(
        *("run", "--config", finished / "config.json", "--out", out),
        *("--learning-rate", "-1"),
    )
    refused(result, "learning_rate above 0; got -1")
    assert not out.exists()


def test_resume_of_a_finished_run_rebuilds_the_report(flowinv, finished):
    before = (finished / "model" / "params.safetensors").read_bytes()
    metrics = json.loads((finished / "metrics.json").read_text())
    for name in ("report.html", "metrics.json"):
        (finished / name).unlink()
    code, out, _ = flowinv("run", "--resume", f"--out={finished}", "--quiet")
    assert code == 0
    assert any("report.html" in line for line in out)
    assert (finished / "report.html").is_file()
    assert (finished / "model" / "params.safetensors").read_bytes() == before
    again = json.loads((finished / "metrics.json").read_text())
    metrics.pop("seconds")
    again.pop("seconds")
    assert again == metrics


def test_resume_with_other_settings_is_refused(refused, flowinv, finished):
    refused(
        flowinv("run", "--resume", f"--out={finished}", "--learning-rate=0.5"),
        "the config in",
        "Give the settings of the first start, or only --out and --resume.",
    )
    refused(
        flowinv("run", *TINY, f"--out={finished}"), "output folder to be new or empty"
    )


def test_infer_prints_a_table_and_writes_draws(flowinv, finished, tmp_path):
    x, _ = task(TASK).observation(1)
    path, out = tmp_path / "scan.csv", tmp_path / "draws.npz"
    path.write_text(",".join(f"{value:g}" for value in x))
    code, said, err = flowinv("infer", finished, f"--x={path}", f"--out={out}")
    assert (code, err) == (0, [])
    assert said[0].split("  ")[0] == "parameter"
    for word in ("unit", "median", "68 % interval", "95 % interval", "fit"):
        assert word in said[0]
    names = ("mean_x", "mean_y", "std_x", "std_y")
    rows = {line.split()[0]: float(line.split()[2]) for line in said[2:8]}
    assert list(rows) == [*names[:3], "fwhm_x", names[3], "fwhm_y"]
    with np.load(out, allow_pickle=False) as draws:
        assert draws["samples"].shape == (1, 2_000, 4)
        assert draws["names"].tolist() == list(names)
        median = np.median(draws["samples"][0], 0)
        prior = task(TASK).prior
        assert (draws["samples"] > prior.low).all()
        assert (draws["samples"] < prior.high).all()
    np.testing.assert_allclose([rows[name] for name in names], median, rtol=0.05)
    assert rows["fwhm_y"] == pytest.approx(2.3548 * rows["std_y"], rel=0.05)


def test_infer_reads_many_scans_and_named_models(flowinv, finished, tmp_path):
    x = np.stack([task(TASK).observation(k)[0] for k in (1, 2)])
    path = tmp_path / "scans.npz"
    np.savez(path, x=x)
    code, said, _ = flowinv(
        *("infer", finished, f"--x={path}", "--model=cinn", "--num-samples=50")
    )
    assert code == 0
    labels = [line for line in said if line.startswith("scans.npz")]
    assert labels == ["scans.npz scan 1", "scans.npz scan 2"]
    code, one, _ = flowinv("infer", finished / "model", f"--x={path}")
    assert code == 0
    assert "fit" not in one[1]  # a bare model knows no classical fit


def test_verdicts_are_printed_and_strict_exits_with_3(
    flowinv, finished, monkeypatch, pageless
):
    from flowinv.experiment import run as module

    real, again = module.run, ["run", f"--out={finished}", "--resume", "--quiet"]
    metrics = json.loads((finished / "metrics.json").read_text())
    status = metrics["cinn/verdict/mean_x"]
    code, out, _ = flowinv(*again)
    assert code == 0
    assert any(line.startswith(f"{status}: ") and "mean_x" in line for line in out)

    def spoiled(*arguments, **options):
        found = real(*arguments, **options)
        # Of another model than the best: it is printed and judged no more.
        found["other/verdict/mean_x"] = "not trusted"
        return found | {"cinn/verdict/std_x": verdict}

    monkeypatch.setattr(module, "run", spoiled)
    for verdict, expected in (("not trusted", 3), ("caution", 0)):
        code, out, _ = flowinv(*again, "--strict")
        assert code == expected
        assert any(line.startswith(f"{verdict}: ") for line in out)
    verdict = "not trusted"
    assert flowinv(*again)[0] == 0


def test_report_writes_the_page_again(flowinv, finished):
    page = finished / "report.html"
    page.unlink()
    code, out, _ = flowinv("report", finished)
    assert code == 0
    assert out == [f"report: {page}"]
    assert page.is_file()
