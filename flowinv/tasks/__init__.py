"""Tasks: a prior, a simulator, fixed observations and their reference posterior."""

from flowinv.tasks.registry import task, task_names
from flowinv.tasks.task import Task

__all__ = ["Task", "task", "task_names"]
