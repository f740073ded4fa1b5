"""A task of the user's own: read from a file, and everything about it that is wrong."""

import pytest

from flowinv.tasks.registry import task

GOOD = """
import dataclasses
import jax
import flowinv as fi

@dataclasses.dataclass(frozen=True)
class Spring:
    x_shape = (3,)

    def simulate(self, key, theta):
        return theta[0] * theta[1] + 0.1 * jax.random.normal(key, (3,))

task = fi.Task(fi.priors.uniform([0, 1], [1, 2], ["k", "m"]), Spring(), name="spring")

def soft():
    return dataclasses.replace(task, name="soft")

number = 3

def broken():
    raise RuntimeError("no\\nspring")
"""


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(GOOD)
    return path


def test_a_task_or_a_function_that_gives_one(file):
    assert task(f"{file}:task").name == "spring"
    assert task(f"{file}").name == "spring"
    assert task(f"{file}:soft").name == "soft"
    x, theta = task(f"{file}").observation(2)
    assert x.shape == (3,)
    assert theta.shape == (2,)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("tusk", r"a task called 'tusk' in .*mine.py"),
        ("number", r"number of .*mine.py to be a flowinv.Task; got int"),
        ("broken", r"task .*mine.py:broken to build; got RuntimeError: no spring"),
    ],
)
def test_names_that_give_no_task(file, name, message):
    with pytest.raises(ValueError, match=message) as error:
        task(f"{file}:{name}")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("import nowhere_at_all", "to run; got ModuleNotFoundError"),
        ("task = (", "to run; got SyntaxError"),
        ("raise SystemExit(3)", "to run; got SystemExit: 3"),
        ("import flowinv as fi; fi.priors.uniform([1], [0])", "low < high"),
    ],
)
def test_files_that_do_not_run(tmp_path, text, message):
    path = tmp_path / "bad.py"
    path.write_text(text)
    with pytest.raises(ValueError, match=message) as error:
        task(f"{path}:task")
    assert "\n" not in str(error.value)


def test_a_missing_file(tmp_path):
    with pytest.raises(ValueError, match=r"task to be a file; got .*none.py"):
        task(f"{tmp_path}/none.py:task")
