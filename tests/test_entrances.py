"""Every entrance with what it refuses: one line each, and a table of them.

`python tests/test_entrances.py` prints docs/entrances.md anew.
"""

import dataclasses
import functools
from pathlib import Path

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import flowinv as fi
from flowinv.checks import InputError

KEY = jax.random.key(0)
PRIOR = fi.priors.uniform([-1, -1], [1, 1])
FLOW = fi.flows.CINN(num_layers=1, hidden=(8,), head_hidden=(8,))
CONFIG = fi.TrainConfig(batch_size=64, max_epochs=1)
TABLE = Path(__file__).parents[1] / "docs" / "entrances.md"


class Sim:
    x_shape = (2,)

    def simulate(self, key, theta):
        return theta + 0.1 * jax.random.normal(key, (2,))


class Image(Sim):
    x_shape = (4, 4)

    def simulate(self, key, theta):
        return theta.sum() + jax.random.normal(key, (4, 4))


class Failing(Sim):
    def simulate(self, key, theta):
        return jnp.nan * theta + jax.random.normal(key, (2,))


class Greedy(Sim):
    def simulate(self, key, theta):
        return theta[5] + jax.random.normal(key, (2,))


class Norm(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.BatchNorm(use_running_average=False)(nn.Dense(8)(x))


class Dropped(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.Dropout(0.5, deterministic=False)(nn.Dense(8)(x))


class Across(nn.Module):
    """Reads the mean over rows."""

    factor: float = 1.0

    @nn.compact
    def __call__(self, x):
        return self.factor * nn.Dense(8)(x - x.mean(0))


class Plain:
    def __call__(self, x):
        return x


@dataclasses.dataclass
class Changing:
    matrix: list

    def __call__(self, x):
        return x


def constant(x):
    return x.mean(-1)


def crash(x):
    raise RuntimeError("own error")


@functools.cache
def data(kind=Sim):
    return fi.simulate(KEY, PRIOR, kind(), 300)


@functools.cache
def posterior():
    estimator = fi.Estimator(PRIOR, FLOW, input_scaling="root")
    return fi.Posterior(estimator, estimator.skeleton((2,)))


def train(rows=None, config=CONFIG, key=KEY, prior=PRIOR, flow=FLOW, **parts):
    rows = data() if rows is None else rows
    return fi.train(key, fi.Estimator(prior, flow, **parts), rows, config)


def rounds(simulator=None, x_obs=(0.1, 0.2), method=None, key=KEY, **parts):
    estimator = fi.Estimator(PRIOR, FLOW, input_scaling="none", **parts)
    method = fi.Truncated(num_rounds=1, num_simulations=300) if not method else method
    return fi.run_rounds(key, estimator, simulator or Sim(), np.array(x_obs), method)


MISTAKES = {
    "simulate(key, prior, simulator, num_simulations)": {
        "a seed as key": lambda: fi.simulate(0, PRIOR, Sim(), 10),
        "three keys": lambda: fi.simulate(jax.random.split(KEY, 3), PRIOR, Sim(), 10),
        "edges as prior": lambda: fi.simulate(KEY, ([-1], [1]), Sim(), 10),
        "a function as simulator": lambda: fi.simulate(KEY, PRIOR, constant, 10),
        "a class as simulator": lambda: fi.simulate(KEY, PRIOR, Sim, 10),
        "more parameters than the prior has": lambda: fi.simulate(
            KEY, PRIOR, Greedy(), 10
        ),
        "half a simulation": lambda: fi.simulate(KEY, PRIOR, Sim(), 10.5),
    },
    "train(key, estimator, data, config)": {
        "a seed as key": lambda: train(key=3),
        "a dict as config": lambda: train(config={"batch_size": 64}),
        "a float for a count": lambda: train(
            config=dataclasses.replace(CONFIG, batch_size=64.0)
        ),
        "a text for a rate": lambda: train(
            config=dataclasses.replace(CONFIG, learning_rate="fast")
        ),
        "a flow as estimator": lambda: fi.train(KEY, FLOW, data(), CONFIG),
        "a class as flow": lambda: train(flow=fi.flows.CouplingFlow),
        "a pair as data": lambda: train(rows=(data().theta, data().x)),
        "nothing as data": lambda: fi.train(
            KEY, fi.Estimator(PRIOR, FLOW), None, CONFIG
        ),
        "x of NaN alone": lambda: train(rows=data(Failing)),
        "the same x everywhere": lambda: train(
            rows=data()._replace(x=np.ones_like(data().x))
        ),
        "x beyond float32": lambda: train(
            rows=data()._replace(x=1e39 * np.asarray(data().x, float))
        ),
        "theta of another prior": lambda: train(
            prior=fi.priors.uniform([0, 0, 0], [1, 1, 1])
        ),
        "theta outside the prior": lambda: train(
            prior=fi.priors.uniform([0, 0], [1, 1])
        ),
        "few rows": lambda: train(rows=jax.tree.map(lambda v: v[:20], data())),
        "rows of rounds": lambda: train(
            rows=data()._replace(round=jnp.arange(len(data().theta)) // 20)
        ),
        "a summary of one number": lambda: train(summary=constant),
        "a summary that fails": lambda: train(summary=crash),
        "a summary no file can describe": lambda: train(summary=Plain()),
        "a summary that may change": lambda: train(summary=Changing([1])),
        "a function as embedding": lambda: train(embedding=constant),
        "a class as embedding": lambda: train(embedding=Norm),
        "batch statistics": lambda: train(embedding=Norm()),
        "dropout": lambda: train(embedding=Dropped()),
        "an embedding across rows": lambda: train(embedding=Across()),
        "an embedding of NaN": lambda: train(embedding=Across(float("nan"))),
        "an MLP for images": lambda: train(
            rows=data(Image), embedding=fi.networks.MLP((8,))
        ),
        "an unknown scaling": lambda: train(input_scaling="logs"),
    },
    "run_rounds(key, estimator, simulator, x_obs, method)": {
        "a name as method": lambda: rounds(method="tsnpe"),
        "an amortised method": lambda: rounds(method=fi.NPE()),
        "x_obs of another shape": lambda: rounds(x_obs=(1.0, 2.0, 3.0)),
        "x_obs with NaN": lambda: rounds(x_obs=(1.0, np.nan)),
        "keys of other lanes": lambda: rounds(key=jax.random.split(KEY, 3)),
        "a float for a count": lambda: rounds(method=fi.APT(num_rounds=2.5)),
        "a simulator that always fails": lambda: rounds(
            simulator=Failing(),
            method=fi.Truncated(num_rounds=1, num_simulations=300, region="box"),
        ),
    },
    "Task(prior, simulator)": {
        "edges as prior": lambda: fi.Task(([-1], [1]), Sim()),
        "a function as simulator": lambda: fi.Task(PRIOR, constant),
        "a class as simulator": lambda: fi.Task(PRIOR, Sim),
        "an observation it lacks": lambda: fi.Task(PRIOR, Sim()).observation(11),
    },
    "run(config, task=)": {
        "a name as config": lambda: fi.run("beam_profile"),
        "a simulator as task": lambda: fi.run(fi.RunConfig(out="x"), task=Sim()),
        "a list of flows that is none": lambda: fi.run(
            fi.RunConfig(flow="spline", out="x"), task=fi.Task(PRIOR, Sim())
        ),
    },
    "Posterior": {
        "a flow as estimator": lambda: fi.Posterior(FLOW, None),
        "a seed as key": lambda: posterior().sample(0, np.ones(2), 10),
        "no draws": lambda: posterior().sample(KEY, np.ones(2), 0),
        "x of another shape": lambda: posterior().sample(KEY, np.ones(3), 10),
        "x with NaN": lambda: posterior().sample(KEY, np.array([1, np.nan]), 10),
        "x as words": lambda: posterior().sample(KEY, ["a", "b"], 10),
        "masked x": lambda: posterior().sample(
            KEY, np.ma.masked_less(np.ones(2), 2), 10
        ),
        "counts below 0": lambda: posterior().sample(KEY, np.array([-2.0, 1]), 10),
        "no scan": lambda: posterior().sample(KEY, np.ones((0, 2)), 10),
        "theta of another size": lambda: posterior().log_prob(np.ones(3), np.ones(2)),
    },
    "save(folder, posterior), load(folder)": {
        "a flow as posterior": lambda: fi.save("nowhere", FLOW),
        "a folder that is not there": lambda: fi.load("nowhere"),
    },
    "diagnose(key, posterior, task)": {
        "a simulator as task": lambda: fi.diagnose(KEY, posterior(), Sim()),
        "a task of another x": lambda: fi.diagnose(
            KEY, posterior(), fi.Task(PRIOR, Image())
        ),
        "a flow as posterior": lambda: fi.diagnose(KEY, FLOW, fi.Task(PRIOR, Sim())),
    },
    "priors": {
        "low above high": lambda: fi.priors.uniform([1.0], [0.0]),
        "an infinite edge": lambda: fi.priors.uniform([0.0], [np.inf]),
        "a width float32 cannot resolve": lambda: fi.priors.uniform([7112], [7112.01]),
        "an sd float32 cannot resolve": lambda: fi.priors.normal([1e9], [1.0]),
        "a number as distribution": lambda: fi.priors.independent({"a": 3.0}),
        "theta of another size": lambda: PRIOR.log_prob(np.ones(3)),
    },
    "flows": {
        "z of another size": lambda: FLOW.apply(
            FLOW.init(KEY, np.ones((2, 2)), np.ones((2, 3))),
            np.ones((2, 4)),
            np.ones((2, 3)),
        ),
        "context of another size": lambda: FLOW.apply(
            FLOW.init(KEY, np.ones((2, 2)), np.ones((2, 3))),
            np.ones((2, 2)),
            np.ones((2, 5)),
        ),
        "no layers": lambda: fi.flows.CINN(num_layers=0).init(KEY, np.ones((2, 2))),
        "an unknown activation": lambda: fi.flows.CINN(act="sine").init(
            KEY, np.ones((2, 2))
        ),
    },
}
CALLS = [(where, what) for where, own in MISTAKES.items() for what in own]


@functools.cache
def said(where, what):
    try:
        MISTAKES[where][what]()
    except InputError as error:
        return str(error)
    return None


@pytest.mark.parametrize(("where", "what"), CALLS)
def test_a_mistake_is_one_line(where, what):
    line = said(where, what)
    assert line, "not refused"
    assert "\n" not in line
    assert line.startswith("Expected ")
    assert len(line) < 400


def table():
    lines = ["# What each entrance refuses", "", "Made by tests/test_entrances.py.", ""]
    for where, own in MISTAKES.items():
        lines += [f"## {where}", "", "| given | answer |", "| --- | --- |"]
        lines += [
            f"| {what} | {(said(where, what) or 'taken').replace('|', chr(92) + '|')} |"
            for what in own
        ]
        lines.append("")
    return "\n".join(lines)


def test_the_table_of_entrances_is_up_to_date():
    """Word for word, but for what other packages say in theirs."""
    shown, made = TABLE.read_text().splitlines(), table().splitlines()
    assert len(shown) == len(made)
    for line, own in zip(shown, made, strict=True):
        end = own.find("Error:")
        assert line[:end] == own[:end]


if __name__ == "__main__":
    print(table(), end="")
