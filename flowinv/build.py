"""Names to objects: the estimator that a config and a task ask for."""

from typing import Any

from flowinv.checks import fail
from flowinv.config import NetworkConfig
from flowinv.flows.description import EMBEDDINGS, FLOWS, SUMMARIES
from flowinv.flows.estimator import Estimator
from flowinv.tasks.task import Task

__all__ = ["build_estimator", "build_flow"]


def build_flow(name: str, network: NetworkConfig) -> Any:
    """Return the flow called `name` with the fields of `network`."""
    fields: dict[str, Any] = {
        "num_layers": network.num_layers,
        "hidden": network.hidden,
        "act": network.activation,
        "head_hidden": network.head_hidden,
        "lu_mixing": network.lu_mixing,
        "unroll": network.unroll,
    }
    if name in ("spline", "spline-ar"):
        fields["num_bins"] = network.num_bins
    return FLOWS[name](**fields)


def build_estimator(task: Task, flow: str, network: NetworkConfig) -> Estimator:
    """Return the estimator of `flow` for `task`; "task" fields take the task's choice.

    Raises:
        ValueError: for summaries or an embedding that the task's x has no place for.
    """
    embedding, summary = network.embedding, network.summary
    embedding = task.embedding if embedding == "task" else embedding
    if embedding == "set" and len(task.simulator.x_shape) < 2:
        # Unchecked, it would take a batch of scans for one set.
        shape = task.simulator.x_shape
        fail("embedding", f"other than set for one scan of shape {shape}", embedding)
    summary = task.summary if summary == "task" else summary
    scaling = network.input_scaling
    scaling = task.input_scaling if scaling == "task" else scaling
    return Estimator(
        task.prior,
        build_flow(flow, network),
        _embedding(embedding, network),
        _summary(summary, task),
        scaling,
        network.anchored,
    )


def _embedding(name: str, network: NetworkConfig) -> Any:
    width, layers = network.embedding_width, network.embedding_layers
    act = network.activation
    if name == "none":
        return None
    if name == "mlp":
        return EMBEDDINGS["mlp"]((width,) * layers, act)
    if name == "residual":
        return EMBEDDINGS["residual"](width, layers, act)
    if name == "conv":
        return EMBEDDINGS["conv"](channels=(32,) * layers, features=width, act=act)
    if name == "set":
        return EMBEDDINGS["set"](EMBEDDINGS["mlp"]((width,) * layers, act), (width,))
    return fail("embedding", f"to be one of {sorted(EMBEDDINGS)} or none", name)


def _summary(name: str, task: Task) -> Any:
    if name == "none":
        return None
    if len(task.simulator.x_shape) != 1:
        fail("summary", "to be none for an x that is no flat scan", name)
    return SUMMARIES[name](cumulative=task.cumulative)
