"""A task of the user's own: `file.py:name`."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

from flowinv.checks import InputError, fail
from flowinv.tasks.task import Task

__all__ = ["is_file_spec", "task_from_file"]

DEFAULT_NAME = "task"


def is_file_spec(spec: str) -> bool:
    """Whether a task's text names a Python file."""
    return spec.endswith(".py") or ".py:" in spec


def task_from_file(spec: str) -> Task:
    """Return the task `name` of `file.py:name`: a `Task` or a function that gives one.

    Raises:
        ValueError: for a missing file or name, an error while the file runs, or
            something else than a task.
    """
    path, _, name = spec.partition(".py")
    path, name = Path(path + ".py"), name.lstrip(":") or DEFAULT_NAME
    if not path.is_file():
        fail("task", "to be a file", str(path))
    module = _module(path)
    if not hasattr(module, name):
        fail(f"a task called {name!r} in {path}", "(Task or function)", "none")
    found = getattr(module, name)
    if not isinstance(found, Task) and callable(found):
        found = _called(found, spec)
    if not isinstance(found, Task):
        remedy = "Build it with flowinv.Task(prior, simulator)."
        fail(f"{name} of {path}", "to be a flowinv.Task", type(found).__name__, remedy)
    return found


def _module(path: Path) -> ModuleType:
    """Run the file once; its folder can be imported from."""
    name = f"flowinv_task_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    folder = str(path.resolve().parent)
    sys.path.insert(0, folder)
    # Dataclasses look their module up.
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except InputError:
        raise
    except (Exception, SystemExit) as error:
        fail(f"task file {path}", "to run", _line(error))
    finally:
        sys.path.remove(folder)
    return module


def _called(build: object, spec: str) -> object:
    try:
        return build()
    except InputError:
        raise
    except (Exception, SystemExit) as error:
        return fail(f"task {spec}", "to build", _line(error))


def _line(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"
