"""The config of a run: every field checked, and files read strictly."""

import dataclasses
import json

import pytest

from flowinv.config import EvaluateConfig, NetworkConfig, RunConfig
from flowinv.training.config import TrainConfig

BAD = [
    ({"flow": ("splin",)}, "Did you mean 'spline'"),
    ({"flow": ()}, "flow to name at least one flow, each once"),
    ({"flow": ("cinn", "cinn")}, "each once"),
    ({"method": "mpe"}, "Did you mean 'npe'"),
    ({"num_simulations": "many"}, "whole number or 'fresh'; got 'many'"),
    ({"num_simulations": "-5"}, "whole number or 'fresh'; got '-5'"),
    ({"num_simulations": "1e5"}, "whole number or 'fresh'"),
    ({"num_simulations": "²"}, "whole number or 'fresh'"),
    ({"num_simulations": "0"}, "num_simulations above 0; got 0"),
    ({"seed": -1}, r"seed from 0 to 2\^32 - 1; got -1"),
    ({"seed": 2**32}, "seed from 0"),
    (
        {"num_simulations": "568"},
        "two batches of 256 .*got 511 after 57 .*lower --batch",
    ),
    ({"train": TrainConfig(learning_rate=-1.0)}, "learning_rate above 0; got -1.0"),
    ({"network": NetworkConfig(num_layers=0)}, "num_layers of at least 1"),
    ({"network": NetworkConfig(num_bins=1)}, "num_bins of at least 2"),
    ({"network": NetworkConfig(hidden=())}, "hidden to name layers"),
    ({"network": NetworkConfig(hidden=(64, 0))}, "hidden to name layers"),
    ({"network": NetworkConfig(head_hidden=(0,))}, "head_hidden to name layers"),
    ({"network": NetworkConfig(activation="rellu")}, "Did you mean 'relu'"),
    ({"network": NetworkConfig(embedding="mlpp")}, "Did you mean 'mlp'"),
    ({"network": NetworkConfig(embedding_width=0)}, "embedding_width of at least 1"),
    ({"network": NetworkConfig(embedding_layers=0)}, "embedding_layers of at least 1"),
    ({"network": NetworkConfig(summary="moment")}, "Did you mean 'moments'"),
    ({"network": NetworkConfig(input_scaling="sqrt")}, "input scaling to be one of"),
    ({"evaluate": EvaluateConfig(num_heldout=99)}, "num_heldout of at least 100"),
    ({"evaluate": EvaluateConfig(num_samples=19)}, "num_samples of at least 20"),
    ({"evaluate": EvaluateConfig(num_exact=99)}, "num_exact of at least 100"),
    ({"evaluate": EvaluateConfig(classifiers=("tree",))}, "classifier to be one of"),
    ({"evaluate": EvaluateConfig(references="/no/where")}, "references to be a folder"),
]


@pytest.mark.parametrize(("fields", "message"), BAD)
def test_bad_settings_answer_in_one_line(fields, message):
    config = dataclasses.replace(RunConfig(), **fields)
    with pytest.raises(ValueError, match=message) as error:
        config.check()
    assert "\n" not in str(error.value)


def test_two_batches_are_enough():
    dataclasses.replace(RunConfig(), num_simulations="569").check()
    RunConfig().check()
    assert RunConfig().fresh


def test_folder_is_the_tasks_and_flows():
    config = RunConfig(
        task="beam_profile:prior=slides,points=100", flow=("cinn", "maf")
    )
    assert str(config.folder()) == "runs/beam_profile-prior-slides-points-100-cinn-maf"
    assert str(dataclasses.replace(config, out="here").folder()) == "here"


def write(tmp_path, data):
    path = tmp_path / "config.json"
    path.write_text(data if isinstance(data, str) else json.dumps(data))
    return path


def test_there_and_back(tmp_path):
    config = RunConfig(
        flow=("cinn", "spline"),
        num_simulations="5000",
        network=NetworkConfig(hidden=(7, 8), head_hidden=()),
        train=TrainConfig(learning_rate=0.5),
        evaluate=EvaluateConfig(classifiers=("forest",)),
    )
    assert RunConfig.read(write(tmp_path, config.to_json())) == config
    assert RunConfig.read(write(tmp_path, {"config": config.to_json()})) == config


def test_a_part_of_a_config_leaves_the_rest_at_its_defaults(tmp_path):
    path = write(tmp_path, {"train": {"learning_rate": 1}, "flow": ["maf"]})
    config = RunConfig.read(path)
    assert config.train == TrainConfig(learning_rate=1.0)
    assert config == RunConfig(flow=("maf",), train=TrainConfig(learning_rate=1.0))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"learning_rat": 1}, "field in .*config.json to be one of"),
        ({"train": {"learning_rat": 1}}, "Did you mean 'learning_rate'"),
        ({"train": {"learning_rate": "fast"}}, "train: learning_rate of type float"),
        ({"train": {"batch_size": 1.5}}, "batch_size of type int; got 1.5"),
        ({"train": {"batch_size": True}}, "batch_size of type int; got True"),
        ({"train": [1]}, "train to hold an object; got list"),
        ({"flow": "cinn"}, "flow to be a list; got 'cinn'"),
        ({"flow": [1]}, "flow of type str; got 1"),
        ({"task": None}, "task of type str; got None"),
        ({"network": {"anchored": 1}}, "anchored of type bool; got 1"),
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
