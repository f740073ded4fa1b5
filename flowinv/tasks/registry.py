"""The tasks by name: an explicit table, no discovery."""

from collections.abc import Callable, Mapping

from flowinv.checks import check_known
from flowinv.tasks.beam_profile import BEAM_OPTIONS, beam_profile
from flowinv.tasks.benchmark import (
    GAUSSIAN_OPTIONS,
    bernoulli_glm,
    bernoulli_glm_raw,
    gaussian_linear,
    gaussian_linear_uniform,
    gaussian_mixture,
    lotka_volterra,
    sir,
    slcp,
    slcp_distractors,
    two_moons,
)
from flowinv.tasks.from_file import is_file_spec, task_from_file
from flowinv.tasks.options import split_spec
from flowinv.tasks.step_scan import SCAN_OPTIONS, step_scan
from flowinv.tasks.task import Task

__all__ = ["task", "task_names", "task_options"]

Builder = Callable[[Mapping[str, str]], Task]

TASKS: dict[str, tuple[Builder, tuple[str, ...]]] = {
    "beam_profile": (beam_profile, tuple(BEAM_OPTIONS)),
    "bernoulli_glm": (bernoulli_glm, ()),
    "bernoulli_glm_raw": (bernoulli_glm_raw, ()),
    "gaussian_linear": (gaussian_linear, tuple(GAUSSIAN_OPTIONS)),
    "gaussian_linear_uniform": (gaussian_linear_uniform, tuple(GAUSSIAN_OPTIONS)),
    "gaussian_mixture": (gaussian_mixture, ()),
    "lotka_volterra": (lotka_volterra, ()),
    "sir": (sir, ()),
    "slcp": (slcp, ()),
    "slcp_distractors": (slcp_distractors, ()),
    "step_scan": (step_scan, tuple(SCAN_OPTIONS)),
    "two_moons": (two_moons, ()),
}


def task_names() -> tuple[str, ...]:
    """Names of all tasks, sorted."""
    return tuple(sorted(TASKS))


def task_options(name: str) -> tuple[str, ...]:
    """Names of the options that the task `name` takes.

    Raises:
        ValueError: for an unknown name.
    """
    check_known("task", name, TASKS)
    return TASKS[name][1]


def task(spec: str) -> Task:
    """Return the task of `name` or `name:option=value,option=value`.

    `beam_profile` takes prior (today, slides), points (200, 100), samples, rotation,
    nuisance, observable (projections, knife_edge), image and noise_free; `step_scan`
    takes prior, points, photons, background, drift, jitter, read_noise, fit_amplitude
    and fit_background; the `gaussian_linear`s take dim; the others of the benchmark
    nothing.

    `file.py:name` takes a `Task` of your own, or a function without arguments that
    returns one; `file.py` alone looks for `task`.

    Raises:
        ValueError: for an unknown task or option (with near names), a bad value, or a
            file that does not give a task.
    """
    if is_file_spec(spec):
        return task_from_file(spec)
    name, options = split_spec(spec)
    check_known("task", name, TASKS)
    return TASKS[name][0](options)
