"""`flowinv infer` on bad scans, bad flags and folders without a model."""

import json
import re

import numpy as np
import pytest

from flowinv.flows import CINN
from flowinv.models.estimator import Estimator
from flowinv.models.files import save
from flowinv.models.posterior import Posterior
from flowinv.priors import uniform
from flowinv.report.answer_text import answer_table
from flowinv.tasks.registry import task

TASK = "beam_profile:points=100,samples=200"


CELLS = [str(7 + i * i % 11) for i in range(200)]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A model folder without training: two profiles of 100 points."""
    problem = task(TASK)
    flow = CINN(num_layers=1, hidden=(8,), head_hidden=(8,))
    estimator = Estimator(problem.prior, flow, input_scaling="root")
    folder = tmp_path_factory.mktemp("made") / "model"
    save(folder, Posterior(estimator, estimator.skeleton((200,))))
    return folder


@pytest.fixture
def scan(tmp_path):
    """A good scan file, to be made bad."""
    path = tmp_path / "scan.csv"
    path.write_text(",".join(CELLS))
    return path


def write_csv(change):
    def write(path):
        path.write_text(change(CELLS))
        return path

    return write


def write_bytes(blob, suffix):
    def write(path):
        path = path.with_suffix(suffix)
        path.write_bytes(blob)
        return path

    return write


def write_npy(array, suffix=".npy"):
    def write(path):
        path = path.with_suffix(suffix)
        np.save(path, array, allow_pickle=True)
        return path

    return write


BAD_SCANS = [
    (write_csv(lambda c: ",".join(c[:199])), ["scan", "200 numbers", "1 x 199"]),
    (
        write_csv(lambda c: ",".join([*c[:7], "nan", *c[8:]])),
        ["finite", "nan at point 7"],
    ),
    (
        write_csv(lambda c: ",".join([*c[:7], "inf", *c[8:]])),
        ["finite", "inf at point 7"],
    ),
    (write_csv(lambda c: ""), ["with numbers", "empty file"]),
    (write_csv(lambda c: "\n \n# nothing\n"), ["with numbers", "empty file"]),
    (
        write_csv(lambda c: ",".join([*c[:3], "abc", *c[4:]])),
        ["'abc' in line 1, column 4"],
    ),
    (write_csv(lambda c: ",".join(["-3", *c[1:]])), ["at least 0", "-3 at point 0"]),
    (write_bytes(b"", ".npy"), ["with numbers", "empty file"]),
    (write_bytes(b"rubbish", ".npy"), ["scan.npy to begin as a numpy file"]),
    (write_bytes(b"rubbish", ".npz"), ["scan.npz to begin as a numpy file"]),
    (write_bytes(b"rubbish", ".h5"), ["readable HDF5 file"]),
    (write_bytes(b"1,2", ".xls"), ["suffix of the scan file", "'.xls'"]),
    (write_npy(np.zeros((3, 201))), ["shape (200,)", "(3, 201)"]),
    (write_npy(np.array([{}, 1], object)), ["plain numbers", "pickled"]),
    (write_npy(np.array(["a", "b"])), ["real numbers", "dtype"]),
    (lambda path: path.with_name("gone.csv"), ["scan file to exist", "gone.csv"]),
    (lambda path: path.parent, ["to be a file", "the folder"]),
]


@pytest.mark.parametrize(("write", "words"), BAD_SCANS)
def test_bad_scans_answer_in_one_line(refused, flowinv, model, scan, write, words):
    path = write(scan)
    out = scan.parent / "draws.npz"
    refused(flowinv("infer", model, f"--x={path}", f"--out={out}"), *words)
    assert not out.exists()


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--num-samples=0"], ["--num-samples of at least 20; got 0"]),
        (["--seed=-1"], ["--seed from 0 to 2^32 - 1; got -1"]),
        (["--out=/no/where/draws.npz"], ["--out", "existing folder"]),
        (["--out=/"], ["--out to name a file"]),
        (["--out=draws.txt"], ["--out to end in .npz or .csv or .nc; got 'dra"]),
        (["--json=table.txt"], ["--json to end in .json; got 'table.txt'"]),
        (["--out=draws"], ["--out to end in .npz or .csv"]),
        (["--model=splin"], ["model in", "'splin'"]),
    ],
)
def test_bad_flags_of_infer(refused, flowinv, model, scan, flags, words):
    refused(flowinv("infer", model, f"--x={scan}", *flags), *words)


def test_folders_without_a_model(refused, flowinv, scan, tmp_path):
    refused(
        flowinv("infer", "nowhere", f"--x={scan}"), "run to be a folder; got 'nowhere'"
    )
    refused(
        flowinv("infer", tmp_path, f"--x={scan}"),
        "a model in",
        "none",
        "Finish the run",
    )
    (tmp_path / "model").mkdir()
    refused(flowinv("infer", tmp_path, f"--x={scan}"), "model.json")
    refused(flowinv("infer", tmp_path), "Expected --x; got none", "infer --help")
    refused(flowinv("report", tmp_path), "report content to be a file", "finished")
    refused(flowinv("report", "nowhere"), "run to be a folder")


def test_a_tampered_model_is_refused(refused, flowinv, model, scan, tmp_path):
    for name in ("model.json", "params.safetensors"):
        (tmp_path / name).write_bytes((model / name).read_bytes())
    path = tmp_path / "params.safetensors"
    blob = bytearray(path.read_bytes())
    blob[-1] ^= 1
    path.write_bytes(bytes(blob))
    refused(flowinv("infer", tmp_path, f"--x={scan}"), "with SHA-256", "Save the model")


def test_draws_as_a_table_and_nothing_overwritten(refused, flowinv, model, scan):
    """A csv holds what it is called; a file that is there is not replaced unasked."""
    table, archive = scan.parent / "draws.csv", scan.parent / "draws.npz"
    ask = ("infer", model, f"--x={scan}", "--num-samples=20")
    for out in (table, archive):
        code, _, err = flowinv(*ask, f"--out={out}")
        assert (code, err) == (0, [])
    rows = np.genfromtxt(table, delimiter=",", skip_header=1)
    with np.load(archive) as found:
        np.testing.assert_allclose(rows[:, 1:-1], found["samples"][0], rtol=1e-6)
        assert found["misfit"].tolist() == [""]
    np.testing.assert_array_equal(rows[:, -1], 0)
    assert table.read_text().startswith("scan,mean_x (grid),mean_y (grid),std_x (gr")
    before = table.read_bytes()
    refused(flowinv(*ask, f"--out={table}", "--seed=1"), "a new file", "--overwrite")
    assert table.read_bytes() == before
    assert flowinv(*ask, f"--out={table}", "--seed=1", "--overwrite")[0] == 0
    assert table.read_bytes() != before


def test_files_of_several_scans(flowinv, model, scan):
    """Two files in one call: the same draws as netCDF and npz, the table as JSON."""
    from scipy.io import netcdf_file

    folder = scan.parent
    other = folder / "other.csv"
    other.write_bytes(scan.read_bytes())
    targets = {name: folder / f"all.{name}" for name in ("nc", "npz", "json")}
    for name in ("nc", "npz"):
        flags = ("--num-samples=50", "--overwrite", f"--json={targets['json']}")
        ask = ("infer", model, "--x", scan, other, f"--out={targets[name]}", *flags)
        code, out, err = flowinv(*ask)
        assert (code, err) == (0, [])
        assert [line for line in out if line.endswith(".csv")] == [
            "scan.csv",
            "other.csv",
        ]
    with np.load(targets["npz"]) as archive:
        samples, names = archive["samples"], archive["names"].tolist()
        assert archive["scans"].tolist() == ["scan.csv", "other.csv"]
    assert samples.shape == (2, 50, 4)
    with netcdf_file(targets["nc"], mmap=False) as file:
        for index, name in enumerate(names):
            np.testing.assert_array_equal(file.variables[name][:], samples[..., index])
            assert file.variables[name].units == b"grid"
    first, second = json.loads(targets["json"].read_text())
    assert (first["scan"], second["misfit"]) == ("scan.csv", {})
    for index, name in enumerate(names):
        row, own = first["parameters"][name], samples[0, :, index]
        assert row["median"] == pytest.approx(np.median(own), rel=1e-6)
        assert row["high_95"] == pytest.approx(np.quantile(own, 0.975), rel=1e-5)


def test_a_pattern_names_files(flowinv, refused, model, scan):
    """Patterns that no shell has expanded, in the order of their names."""
    (scan.parent / "b.csv").write_bytes(scan.read_bytes())
    code, out, _ = flowinv("infer", model, f"--x={scan.parent}/*.csv")
    assert code == 0
    assert [line for line in out if line.endswith(".csv")] == ["b.csv", "scan.csv"]
    asked = flowinv("infer", model, f"--x={scan.parent}/*.nxs")
    refused(asked, "--x to name a file at least", "*.nxs")


def test_no_interval_is_narrower_than_float32_tells():
    """Draws pinned on one number: a step of float32, 1.9e-6, to either side."""
    draws = np.full((100, 1), np.float32(20.00000191))
    table = answer_table(uniform([20.0], [80.0], ["a"]), draws, None)
    (row,) = table.splitlines()[2:]
    assert row.split()[2:6] == ["20.0000019", "20.0000000", "..", "20.0000038"]


def test_an_answer_of_two_ranges_says_so():
    """Below the table, for that parameter alone."""
    rng = np.random.default_rng(0)
    far = rng.normal(30.0, 1.0, 4_000) + 20.0 * (rng.uniform(size=4_000) < 0.5)
    draws = np.stack([far, rng.normal(40.0, 1.0, 4_000)], -1)
    table = answer_table(uniform([20.0] * 2, [80.0] * 2, ["a", "b"]), draws, None)
    *_, row, said = table.splitlines()
    assert row.startswith("b ")
    assert re.match(r"a is 28\.\d – 3\d\.\d \(5\d %\) or 4\d\.\d – 5\d\.\d", said)
    assert said.endswith("between: its median and intervals say little.")
