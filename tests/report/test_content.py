import dataclasses
import json

import numpy as np
import pytest

from flowinv.diagnostics.calibration import calibration_curves
from flowinv.diagnostics.check import Results
from flowinv.report.content import (
    Answer,
    Errors,
    ModelResult,
    Observation,
    ReportContent,
    load_content,
    save_content,
)
from flowinv.tasks.task import Derived, ScanLayout


def leaves(value):
    """Every leaf of a tree of dataclasses, dicts and tuples, with its path."""
    if dataclasses.is_dataclass(value):
        items = [(f.name, getattr(value, f.name)) for f in dataclasses.fields(value)]
    elif isinstance(value, dict):
        items = list(value.items())
    elif isinstance(value, tuple):
        items = list(enumerate(value))
    else:
        return {"": value}
    return {f".{k}{p}": leaf for k, v in items for p, leaf in leaves(v).items()}


def test_round_trip(content, tmp_path):
    path = tmp_path / "report.npz"
    save_content(content, path)
    before, after = leaves(content), leaves(load_content(path))
    assert before.keys() == after.keys()
    for name, value in before.items():
        assert type(after[name]) is type(value), name
        np.testing.assert_array_equal(after[name], value)
        assert getattr(after[name], "dtype", None) == getattr(value, "dtype", None)
    assert [p.name for p in tmp_path.iterdir()] == ["report.npz"]


def test_empty_content_and_odd_names(tmp_path):
    content = ReportContent(
        "a/b \\ 'c'", ("θ",), ("µm",), {"$x": "1"}, {"../up": ModelResult()}
    )
    save_content(content, tmp_path / "c.npz")
    assert load_content(tmp_path / "c.npz") == content


def test_numbers_of_checks_survive(tmp_path):
    numbers = {"exactness": {"o/c2st": np.float32(0.5), "o/density": float("nan")}}
    results = Results(("a",), numbers)
    content = ReportContent(
        "t", ("a",), ("",), models={"m": ModelResult(results=results)},
        observations=(Observation("o", np.zeros(3)),),
    )  # fmt: skip
    save_content(content, tmp_path / "c.npz")
    loaded = load_content(tmp_path / "c.npz").models["m"].numbers("exactness", "o")
    assert loaded["c2st"] == 0.5
    assert np.isnan(loaded["density"])


@pytest.mark.parametrize("damage", ["missing", "text", "pickle", "schema", "fields"])
def test_files_that_are_not_content(content, tmp_path, damage):
    path = tmp_path / "c.npz"
    if damage == "text":
        path.write_text("no archive")
    elif damage == "pickle":
        np.savez(path, content=np.array({"a": 1}, dtype=object))
    elif damage == "schema":
        np.savez(path, content=np.array(json.dumps({"schema": 99})))
    elif damage == "fields":
        tree = {"schema": 2, "content": {"title": "t"}}
        np.savez(path, content=np.array(json.dumps(tree)))
    with pytest.raises(ValueError, match="Expected report content"):
        load_content(path)


ONE_COUNTED = calibration_curves(np.arange(40)[:, None], 99)
NAMES = {"title": "t", "names": ("a", "b"), "units": ("", "")}


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"units": ("",)}, "units of length 2"),
        (
            {"observations": (Observation("o", np.ones(3)),) * 2},
            "observation labels to differ",
        ),
        (
            {"observations": (Observation("o", np.ones(3), exact=np.ones((5, 3))),)},
            r"exact of o with shape \(n, 2\)",
        ),
        (
            {"observations": (Observation("o", np.ones(3), theta_true=np.ones(3)),)},
            "theta_true of o",
        ),
        (
            {
                "observations": (
                    Observation(
                        "o",
                        np.ones((3, 2)),
                        layout=ScanLayout(("s",), (np.arange(4),)),
                        seen=np.ones(3),
                    ),
                ),
            },
            "layout of o of length 3",
        ),
        (
            {"models": {"m": ModelResult(answers={"o": Answer(np.ones((5, 2)))})}},
            "answers of m for",
        ),
        (
            {"models": {"m": ModelResult(calibration=ONE_COUNTED)}},
            "counts of m with shape",
        ),
        (
            {
                "models": {
                    "m": ModelResult(errors=Errors(np.ones((5, 2)), np.ones((4, 2))))
                }
            },
            "errors of m with shape",
        ),
        (
            {"derived": (Derived("fwhm", "um", "c", 2.35),)},
            "parameter to be one of a, b",
        ),
    ],
)
def test_arrays_that_do_not_fit(parts, message):
    with pytest.raises(ValueError, match=message):
        ReportContent(**NAMES | parts)
