"""Small networks: what is tested here is what is done with them."""

import dataclasses

import pytest

from flowinv.benchmark import budget, runner, sbibm
from flowinv.experiment.build import build_estimator


@pytest.fixture(autouse=True)
def small_networks(monkeypatch):
    """Two narrow layers in the place of a method's own eight."""

    def build(task, flow, network):
        narrow = {"num_layers": 2, "hidden": (8,), "head_hidden": (8,)}
        return build_estimator(task, flow, dataclasses.replace(network, **narrow))

    for module in (budget, runner, sbibm):
        monkeypatch.setattr(module, "build_estimator", build)
