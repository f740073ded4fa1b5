"""Whose folder it is: locks, tasks that have changed, signals that are not heard."""

import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from flowinv.checks import InputError
from flowinv.experiment.config import EvaluateConfig, RunConfig
from flowinv.experiment.run import run
from flowinv.files import LOCK, Lock
from flowinv.methods.npe import NPE
from flowinv.models.registry import NetworkConfig
from flowinv.training.config import TrainConfig

HOLD = """
import sys, time
from flowinv.files import Lock
lock = Lock(sys.argv[1])
print("held", flush=True)
time.sleep(100)
"""
# Deaf is who sits in compiled code: Python gets to run no handler.
DEAF = """
import ctypes, sys, time
from flowinv.signals import StopRequest
with StopRequest("flowinv: stopped; go on", 0.3) as stop:
    print("ready", flush=True)
    if len(sys.argv) == 1:
        libc, end = ctypes.CDLL(None), time.monotonic() + 100
        while time.monotonic() < end:
            libc.sleep(100)
    while not stop():
        time.sleep(0.01)
    sys.exit(stop.exit_code)
"""
TASK = """
import jax, flowinv as fi

class Sim:
    x_shape = (2,)
    def simulate(self, key, theta):
        return theta + {noise} * jax.random.normal(key, (2,))

task = fi.Task(fi.priors.uniform([-1, -1], [1, {edge}]), Sim())
"""


def script(code, *arguments):
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_a_lock_is_one_process_at_a_time(tmp_path):
    holder = script(HOLD, tmp_path)
    try:
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(InputError, match=f"process {holder.pid} on ") as error:
            Lock(tmp_path)
        assert "\n" not in str(error.value)
    finally:
        holder.kill()
        holder.communicate()
    # Killed, not released: the file is still there, and nobody's.
    assert (tmp_path / LOCK).exists()
    with Lock(tmp_path) as lock:
        with pytest.raises(InputError, match=f"process {os.getpid()} on "):
            Lock(tmp_path)
        lock.release()
        assert not (tmp_path / LOCK).exists()
    with Lock(tmp_path):
        pass


@pytest.mark.parametrize("hears", [False, True])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_is_answered_in_time(hears, number):
    process = script(DEAF, *["hears"] * hears)
    assert process.stdout.readline() == "ready\n"
    process.send_signal(number)
    began = time.monotonic()
    out, err = process.communicate(timeout=20)
    assert process.returncode == 128 + number
    assert err == ("" if hears else "flowinv: stopped; go on\n")
    assert time.monotonic() - began < 10


def tiny(tmp_path, **changes):
    train = TrainConfig(batch_size=30, max_epochs=1)
    return RunConfig(
        task=f"{tmp_path / 'mine.py'}:task",
        method=NPE(num_simulations=100, train=train),
        flow=("cinn",),
        out=str(tmp_path / "run"),
        network=NetworkConfig(num_layers=1, hidden=(8,), head_hidden=(8,)),
        evaluate=EvaluateConfig(
            num_heldout=100,
            num_samples=20,
            observations="1",
            num_exact=100,
            classifiers=("forest",),
            point_estimates=False,
        ),
        **changes,
    )


@pytest.mark.usefixtures("pageless", "small_forests")
def test_a_task_that_has_changed_is_not_resumed(tmp_path, monkeypatch):
    """What was simulated belongs to the simulator that the file held then."""
    file, config = tmp_path / "mine.py", tiny(tmp_path)
    file.write_text(TASK.format(noise=0.1, edge=1))
    first = run(config)
    for text, what in (
        (TASK.format(noise=0.2, edge=1), "another simulator"),
        (TASK.format(noise=0.1, edge=2), "another prior and simulator"),
    ):
        file.write_text(text)
        with pytest.raises(InputError, match=f"{what}. Put it back"):
            run(config, resume=True)
    # Comments change nothing; what was measured is not measured again.
    file.write_text("# the same\n" + TASK.format(noise=0.1, edge=1))
    monkeypatch.setattr("flowinv.experiment.amortised.score", None)
    monkeypatch.setattr("flowinv.experiment.observed.observations", None)
    again = run(config, resume=True)
    assert {**first, "seconds": 0} == {**again, "seconds": 0}
    with Lock(tmp_path / "run"), pytest.raises(InputError, match="in nobody's use"):
        run(config, resume=True)


def test_a_tilde_is_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    config = RunConfig(out="~/runs/one")
    assert config.folder() == tmp_path / "runs" / "one"
    from flowinv.data.scans import read_scans
    from flowinv.data.store import num_rows, write_dataset
    from flowinv.types import Dataset

    rows = Dataset(*map(np.asarray, ([[0.0]], [[1.0]], [True], [0])))
    write_dataset("~/store", rows)
    assert num_rows("~/store") == 1
    (tmp_path / "scan.csv").write_text("1,2,4\n")
    assert read_scans("~/scan.csv", (3,)).tolist() == [[1, 2, 4]]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["scan.csv", "store"]
