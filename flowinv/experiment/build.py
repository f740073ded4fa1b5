"""Names to objects: the estimator that a config and a task ask for."""

from typing import Any

from flowinv.checks import check_known, fail
from flowinv.models.estimator import Estimator
from flowinv.models.registry import (
    SUMMARIES,
    NetworkConfig,
    build_embedding,
    build_flow,
)
from flowinv.tasks.task import Task

__all__ = ["build_estimator"]


def build_estimator(task: Task, flow: str, network: NetworkConfig) -> Estimator:
    """Return the estimator of `flow` for `task`; "task" fields take the task's choice.

    Raises:
        ValueError: for summaries or an embedding that the task's x has no place for.
    """
    embedding, scaling = network.embedding, network.input_scaling
    embedding = task.embedding if embedding == "task" else embedding
    if embedding == "set" and len(task.simulator.x_shape) < 2:
        # Unchecked, it would take a batch of scans for one set.
        shape = task.simulator.x_shape
        fail("embedding", f"other than set for one scan of shape {shape}", embedding)
    if embedding != "none" and task.at is not None:
        remedy = "The fit of a scan at any positions is its embedding."
        fail("embedding", "to be none with --any-positions", embedding, remedy)
    return Estimator(
        task.prior,
        build_flow(flow, network),
        build_embedding(embedding, network),
        _summary(network.summary, task),
        task.input_scaling if scaling == "task" else scaling,
        network.placed,
    )


def _summary(name: str, task: Task) -> Any:
    """The summaries called `name`: as the task reads its x, or as the registry does."""
    name = task.summary if name == "task" else name
    if name == "none":
        return None
    if name in task.summaries:
        return task.summaries[name]
    check_known("summary", name, [*task.summaries, *SUMMARIES, "none", "task"])
    if len(task.simulator.x_shape) != 1:
        fail("summary", "to be none for an x that is no flat scan", name)
    return SUMMARIES[name]()
