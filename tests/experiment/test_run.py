"""Runs that are broken off: signals, kills, and going on to the same numbers.

Real processes are stopped by SIGTERM and SIGKILL in the middle of training, one after
another in the same folder; the last resume must end where an unbroken run ends.
"""

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import time

import jax
import numpy as np
import pytest

from flowinv import cli
from flowinv.data.store import num_rows
from flowinv.diagnostics.check import HeldOut
from flowinv.experiment.run import run
from flowinv.files import read_arrays
from flowinv.signals import StopRequest
from flowinv.tasks.registry import task
from flowinv.training.fit import Interrupted

# 10 steps an epoch, 10 epochs a chunk, a checkpoint after every chunk: 30 of them.
SETTINGS = [
    "--flow=cinn",
    "--num-simulations=400",
    "--batch-size=36",
    "--max-epochs=300",
    "--patience=0",
    "--checkpoint-seconds=0",
    "--num-layers=1",
    "--hidden=8",
    "--head-hidden=8",
    "--num-heldout=100",
    "--num-samples=20",
    "--num-exact=100",
    "--observations=1",
    "--classifiers=forest",
    "--no-point-estimates",
    "--quiet",
]


def checkpoints(folder):
    """Steps of the complete checkpoints."""
    found = (folder / "cinn" / "checkpoints").glob("*")
    return sorted(int(path.name) for path in found if path.name.isdigit())


def start(folder, *arguments):
    code = "from flowinv.cli import main; main()"
    return subprocess.Popen(
        [sys.executable, "-c", code, "run", f"--out={folder}", *arguments],
        env={**os.environ, "JAX_PLATFORMS": "cpu"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def stop_in_training(process, folder, number):
    """Send the signal once a new checkpoint shows that training goes on."""
    last = max(checkpoints(folder), default=0)
    deadline = time.monotonic() + 300
    while max(checkpoints(folder), default=0) <= last:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.005)
    process.send_signal(number)
    out, err = process.communicate(timeout=300)
    return process.returncode, out, err


def in_process(*arguments):
    with pytest.raises(SystemExit) as end:
        cli.main(["run", *map(str, arguments)])
    return end.value.code


BEAM = pytest.param("beam_profile:points=100,samples=200", marks=pytest.mark.slow)


@pytest.fixture(scope="module", params=["gaussian_linear:dim=2", BEAM])
def settings(request):
    """What is resumed is the same for all tasks; the beam has more parts."""
    return [f"--task={request.param}", *SETTINGS]


@pytest.fixture(scope="module")
def unbroken(settings, tmp_path_factory, small_forests):
    folder = tmp_path_factory.mktemp("unbroken") / "run"
    with pytest.MonkeyPatch.context() as patch:
        # Pages are other tests'.
        patch.setattr("flowinv.report.page.write_report", lambda *_: None)
        assert in_process(*settings, f"--out={folder}") == 0
    return folder


@pytest.fixture(scope="module")
def broken(settings, tmp_path_factory):
    """Folder of a run stopped twice, and what each stop answered."""
    folder, answers = tmp_path_factory.mktemp("broken") / "run", []
    arguments = settings
    for number in (signal.SIGTERM, signal.SIGKILL):
        process = start(folder, *arguments)
        answers.append(stop_in_training(process, folder, number))
        arguments = ["--resume", "--quiet"]
    return folder, answers


@pytest.mark.slow
def test_a_signal_answers_in_one_line_and_exits_143(broken):
    folder, answers = broken
    assert [code for code, *_ in answers] == [143, -signal.SIGKILL]
    for _, out, err in answers[:1]:
        assert out == ""
        expected = f"flowinv: stopped; go on with: flowinv run --out {folder} --resume"
        assert err.splitlines() == [expected]


@pytest.mark.usefixtures("pageless")
def test_resumed_after_a_kill_equals_unbroken_bitwise(broken, unbroken, timeless):
    folder, _ = broken
    # Killed, not finished.
    assert not (folder / "cinn" / "training.json").exists()
    assert 0 < max(checkpoints(folder)) < 3_000
    assert in_process(f"--out={folder}", "--resume", "--quiet") == 0
    for name in ("model/params.safetensors", "model/model.json", "cinn/history.jsonl"):
        assert (folder / name).read_bytes() == (unbroken / name).read_bytes(), name
    one, two = (
        json.loads((f / "metrics.json").read_text()) for f in (folder, unbroken)
    )
    assert min(m["seconds"] for m in (one, two)) > 0
    assert min(m["cinn/training_seconds"] for m in (one, two)) > 0
    assert timeless(one) == timeless(two)
    assert max(checkpoints(folder)) == 3_000


@pytest.mark.usefixtures("pageless")
def test_a_moved_run_can_be_resumed_and_measures_nothing_twice(unbroken, monkeypatch):
    """--out names the folder; it is no setting of the run."""
    before = json.loads((unbroken / "metrics.json").read_text())
    found = read_arrays(HeldOut, unbroken / "cinn" / "held_out.npz", "held-out results")
    assert found.log_q.shape == found.draws.shape[:2] == (100, 20)
    monkeypatch.setattr("flowinv.experiment.measure.held_out", None)
    moved = unbroken.with_name("moved")
    unbroken.rename(moved)
    try:
        assert in_process("--out", moved, "--resume", "--quiet") == 0
    finally:
        moved.rename(unbroken)
    after = json.loads((unbroken / "metrics.json").read_text())
    assert {**before, "seconds": 0} == {**after, "seconds": 0}


@pytest.mark.usefixtures("pageless")
def test_a_network_that_is_trained_again_is_measured_again(
    unbroken, tmp_path, timeless
):
    """Held-out results are kept for the network that they speak of."""
    folder = tmp_path / "again"
    shutil.copytree(unbroken, folder)
    (folder / "cinn" / "training.json").unlink()
    # What would be read if it were taken by its name.
    (folder / "cinn" / "held_out.npz").write_bytes(b"of another network")
    assert in_process("--out", folder, "--resume", "--quiet") == 0
    one, two = (
        json.loads((f / "metrics.json").read_text()) for f in (folder, unbroken)
    )
    assert timeless(one) == timeless(two)


def test_seeds_are_models_of_their_own(unbroken, tmp_path):
    """--seeds trains as often; the first seed is the run without the flag."""
    folder, settings = tmp_path / "seeds", config(unbroken)
    train = dataclasses.replace(settings.method.train, max_epochs=2)
    method = dataclasses.replace(settings.method, train=train)
    few = dataclasses.replace(settings, method=method, seeds=2, out=str(folder))
    metrics = run(few, quiet=True)
    names = [name for name, _, _ in few.models()]
    assert len(names) == 2
    assert metrics["best_flow"] in names
    first = task(settings.task).prior.names[0]
    one, two = (metrics[f"{name}/rmse/mean/{first}"] for name in names)
    assert one != two
    for name in names:
        assert (folder / name / "model" / "model.json").is_file()
    page = (folder / "report.html").read_text()
    assert all(f"{name}: " in page for name in names)


def config(folder):
    from flowinv.experiment.config import RunConfig

    saved = RunConfig.read(folder / "config.json")
    return type(saved)(**{**vars(saved), "out": str(folder.with_name("other"))})


def test_a_stop_before_training_leaves_a_resumable_run(unbroken):
    """Asked while simulating: nothing is half written, and resuming starts over."""
    other = config(unbroken)
    folder = other.folder()
    with pytest.raises(Interrupted):
        run(other, quiet=True, should_stop=lambda: True)
    assert {path.name for path in folder.iterdir()} == {"config.json", "task.npz"}
    # What a kill in the middle of writing the simulations leaves.
    (folder / "simulations.part" / "theta").mkdir(parents=True)
    asked = []

    def after_the_simulations():
        asked.append(num_rows(folder / "simulations") if len(asked) else 0)
        return len(asked) > 1

    with pytest.raises(Interrupted):
        run(other, resume=True, quiet=True, should_stop=after_the_simulations)
    assert asked == [0, 400]
    assert not (folder / "simulations.part").exists()


def test_stop_request_notes_signals_and_restores_the_handlers():
    # A shell starts background jobs with SIGINT ignored: the usual handler is put back.
    usual = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        check_stop_request()
    finally:
        signal.signal(signal.SIGINT, usual)


def check_stop_request():
    before = [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)]
    for number, code in ((signal.SIGINT, 130), (signal.SIGTERM, 143)):
        with StopRequest() as stop:
            assert not stop()
            assert stop.exit_code == 0
            signal.raise_signal(number)
            assert stop()
            assert stop.exit_code == code
            # The next one breaks off at once, as without the context.
            with pytest.raises(KeyboardInterrupt):
                signal.raise_signal(signal.SIGINT)
        now = [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)]
        assert now == before


@pytest.mark.slow
def test_several_flows_and_fresh_simulations(tmp_path):
    """Two ensembles on fresh simulations, with a scan file of the user's."""
    scan = tmp_path / "mine.npy"
    np.save(scan, np.asarray(jax.random.poisson(jax.random.key(0), 5.0, (200,))))
    fresh = [
        "--task=beam_profile:points=100,samples=200",
        *(s for s in SETTINGS if not s.startswith(("--flow", "--num-sim"))),
        *("--flow", "cinn", "spline", "--num-members=2", "--num-steps=60"),
        *("--steps-per-epoch=20", "--num-validation=100", f"--x={scan}"),
    ]
    folder = tmp_path / "run"
    assert in_process(*fresh, f"--out={folder}") == 0
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics["best_flow"] in ("cinn", "spline")
    assert "mine.npy" in (folder / "report.html").read_text()
    assert {p.name for p in folder.iterdir()} >= {"cinn", "spline", "model"}
    assert not (folder / "simulations").exists()
