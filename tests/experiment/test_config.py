"""The config of a run: every field checked, and files read strictly."""

import dataclasses
import json

import numpy as np
import pytest

from flowinv import cli
from flowinv.experiment.build import build_estimator
from flowinv.experiment.config import EvaluateConfig, RunConfig
from flowinv.files import settled
from flowinv.methods import APT, NPE, Truncated
from flowinv.methods.registry import METHODS
from flowinv.models.registry import NetworkConfig
from flowinv.tasks.registry import task as get_task
from flowinv.training.config import TrainConfig

BAD = [
    ({"flow": ("splin",)}, "Did you mean 'spline'"),
    ({"flow": ("maf", "maf")}, "flow to name at least one flow, each once"),
    ({"flow": ("cinn", "cinn")}, "each once"),
    ({"method": NPE(num_simulations="many")}, "whole number or 'fresh'; got 'many'"),
    ({"method": NPE(num_simulations="-5")}, "whole number or 'fresh'; got '-5'"),
    ({"method": NPE(num_simulations="1e5")}, "whole number or 'fresh'"),
    ({"method": NPE(num_simulations="²")}, "whole number or 'fresh'"),
    ({"method": NPE(num_simulations="0")}, "num_simulations above 0; got 0"),
    ({"seed": -1}, r"seed from 0 to 2\^32 - 1; got -1"),
    ({"seed": 2**32}, "seed from 0"),
    (
        {"method": NPE(num_simulations="140")},
        "two batches of 64 .*got 126 after 14 .*lower --batch",
    ),
    (
        {"method": NPE(train=TrainConfig(learning_rate=-1.0))},
        "learning_rate above 0; got -1.0",
    ),
    ({"method": Truncated(margin=0.0)}, "margin above 0; got 0.0"),
    ({"seeds": 0}, "seeds of at least 1; got 0"),
    ({"network": NetworkConfig(num_layers=0)}, "num_layers of at least 1"),
    ({"network": NetworkConfig(num_bins=1)}, "num_bins of at least 2"),
    ({"network": NetworkConfig(hidden=())}, "hidden to name layers"),
    ({"network": NetworkConfig(hidden=(64, 0))}, "hidden to name layers"),
    ({"network": NetworkConfig(head_hidden=(0,))}, "head_hidden to name layers"),
    ({"network": NetworkConfig(activation="rellu")}, "Did you mean 'relu'"),
    ({"network": NetworkConfig(embedding="mlpp")}, "Did you mean 'mlp'"),
    ({"network": NetworkConfig(embedding_width=0)}, "embedding_width of at least 1"),
    ({"network": NetworkConfig(embedding_layers=0)}, "embedding_layers of at least 1"),
    ({"network": NetworkConfig(input_scaling="sqrt")}, "input scaling to be one of"),
    ({"evaluate": EvaluateConfig(num_heldout=99)}, "num_heldout of at least 100"),
    ({"evaluate": EvaluateConfig(num_samples=19)}, "num_samples of at least 20"),
    ({"evaluate": EvaluateConfig(num_exact=99)}, "num_exact of at least 100"),
    ({"evaluate": EvaluateConfig(classifiers=("tree",))}, "classifier to be one of"),
    ({"evaluate": EvaluateConfig(references="/no/where")}, "references to be a folder"),
]


def test_summaries_are_a_tasks_or_the_registrys():
    task = get_task("step_scan:points=100")
    edges = build_estimator(task, "cinn", NetworkConfig(summary="edges")).summary
    assert edges == task.summaries["edges"]
    for spec, name, message in (
        ("step_scan:points=100", "edge", "Did you mean 'edges'"),
        ("beam_profile", "moment", "Did you mean 'moments'"),
        ("beam_profile", "edges", "summary to be one of"),
    ):
        with pytest.raises(ValueError, match=message):
            build_estimator(get_task(spec), "cinn", NetworkConfig(summary=name))


@pytest.mark.parametrize(("fields", "message"), BAD)
def test_bad_settings_answer_in_one_line(fields, message):
    config = dataclasses.replace(RunConfig(), **fields)
    with pytest.raises(ValueError, match=message) as error:
        config.check()
    assert "\n" not in str(error.value)


def test_two_batches_are_enough():
    RunConfig(method=NPE(num_simulations="569")).check()
    RunConfig().check()
    assert RunConfig().method.fresh


def test_folder_is_the_tasks_and_flows():
    config = RunConfig(
        task="beam_profile:prior=slides,points=100", flow=("cinn", "maf")
    )
    assert str(config.folder()) == "runs/beam_profile-prior-slides-points-100-cinn-maf"
    assert str(dataclasses.replace(config, out="here").folder()) == "here"


def train(fields):
    return {"method": {"train": fields}}


def write(tmp_path, data):
    path = tmp_path / "config.json"
    path.write_text(data if isinstance(data, str) else json.dumps(data))
    return path


@pytest.mark.parametrize(
    "method",
    [
        NPE("5000", TrainConfig(learning_rate=0.5)),
        Truncated(region="hdr"),
        APT(num_atoms="all"),
    ],
)
def test_there_and_back(tmp_path, method):
    config = RunConfig(
        flow=("cinn", "spline"),
        method=method,
        network=NetworkConfig(hidden=(7, 8), head_hidden=()),
        evaluate=EvaluateConfig(classifiers=("forest",)),
    )
    assert RunConfig.read(write(tmp_path, config.to_json())) == config
    assert RunConfig.read(write(tmp_path, {"config": config.to_json()})) == config


def test_a_part_of_a_config_leaves_the_rest_at_its_defaults(tmp_path):
    method = {"name": "tsnpe", "train": {"learning_rate": 1}}
    path = write(tmp_path, {"method": method, "flow": ["maf"]})
    config = RunConfig.read(path)
    # The method's own defaults, not those of a bare TrainConfig.
    train = dataclasses.replace(Truncated().train, learning_rate=1.0)
    assert config == RunConfig(method=Truncated(train=train), flow=("maf",))
    assert RunConfig.read(write(tmp_path, {"method": "apt"})) == RunConfig(method=APT())


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"learning_rat": 1}, "field in .*config.json to be one of"),
        (train({"learning_rat": 1}), "Did you mean 'learning_rate'"),
        (
            {"method": {"train": {"learning_rate": "fast"}}},
            "train: learning_rate of type float",
        ),
        ({"method": {"train": {"batch_size": 1.5}}}, "batch_size of type int; got 1.5"),
        (
            {"method": {"train": {"batch_size": True}}},
            "batch_size of type int; got True",
        ),
        (train([1]), "train to hold an object; got list"),
        ({"flow": "cinn"}, "flow to be a list; got 'cinn'"),
        ({"flow": [1]}, "flow of type str; got 1"),
        ({"task": None}, "task of type str; got None"),
        ({"network": {"placed": 1}}, "placed of type bool; got 1"),
        ({"method": "mpe"}, "Did you mean .*'npe'"),
        ({"method": 3}, "method to hold an object; got int"),
        ({"method": {"name": "npe", "margin": 1.0}}, "field in .*: method to be one"),
        ([1, 2], "config.json to hold an object; got list"),
        ("{", "config.json to be JSON"),
        ("", "config.json to be JSON"),
    ],
)
def test_bad_files_answer_in_one_line(tmp_path, data, message):
    with pytest.raises(ValueError, match=message) as error:
        RunConfig.read(write(tmp_path, data))
    assert "\n" not in str(error.value)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ValueError, match="config to be a file; got .*nowhere.json"):
        RunConfig.read(tmp_path / "nowhere.json")


def leaves(value, path=()):
    """Every field that is no dataclass itself, by its path."""
    for field in dataclasses.fields(value):
        inner = getattr(value, field.name)
        if dataclasses.is_dataclass(inner):
            yield from leaves(inner, (*path, field.name))
        else:
            yield (*path, field.name), inner


def another(value):
    """A value of the same type that is not this one."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, tuple):
        return (*value, value[0]) if value else ("std=1..2",)
    return f"{value}x" if isinstance(value, str) else value + 1


def flag(path, value):
    name = path[-1].replace("_", "-")
    if isinstance(value, bool):
        return [f"--{name}" if value else f"--no-{name}"]
    values = value if isinstance(value, tuple) else (value,)
    return [f"--{name}", *map(str, values)]


@pytest.mark.parametrize("method", METHODS)
def test_a_flag_changes_what_it_names_and_nothing_else(method, monkeypatch):
    """Every field of every config of every method, by its flag."""
    import flowinv.commands as commands

    got = []
    monkeypatch.setattr(
        commands, "run_experiment", lambda config, *_: got.append(config) or 0
    )

    def parsed(*arguments):
        with pytest.raises(SystemExit) as end:
            cli.main(["run", "--method", method, *arguments])
        assert end.value.code == 0
        return dict(leaves(got[-1]))

    default = RunConfig(method=METHODS[method]())
    before = parsed()
    assert before == dict(leaves(default))
    flags = [path[-1] for path in before]
    assert len(set(flags)) == len(flags)
    for path, value in before.items():
        new = another(value)
        after = parsed(*flag(path, new))
        assert after.pop(path) == new, path
        assert after == {p: v for p, v in before.items() if p != path}, path


def test_a_method_brings_its_own_network_and_a_given_one_stays():
    assert RunConfig().network == NetworkConfig()
    assert RunConfig(method=Truncated()).network == Truncated.network
    own = NetworkConfig(num_layers=2)
    assert RunConfig(method=APT(), network=own).network == own
    # A network equal to NPE's default is a choice like any other.
    assert RunConfig(method=APT(), network=NetworkConfig()).network == NetworkConfig()


def test_what_python_users_write_becomes_what_a_file_holds(tmp_path):
    """Paths, lists and numbers of numpy are taken; a config is hashable after it."""
    config = RunConfig(
        out=tmp_path,
        flow=["cinn", "spline"],
        seed=np.int64(3),
        method=NPE(num_simulations=5_000),
    )
    found = settled(RunConfig, config, "config")
    assert found.out == str(tmp_path)
    assert found.flow == ("cinn", "spline")
    assert type(found.seed) is int
    assert found.method.num_simulations == "5000"
    hash(found)
    for bad in ({"seed": 1.5}, {"flow": "cinn"}, {"memory": "2"}, {"seeds": True}):
        with pytest.raises(ValueError, match=f"config: {next(iter(bad))}"):
            settled(RunConfig, dataclasses.replace(config, **bad), "config")
