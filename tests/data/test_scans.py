"""Scan files: every layout that is understood, and one line for every bad one."""

from pathlib import Path

import h5py
import numpy as np
import pytest

from flowinv.data.scans import read_scans

SCANS = np.arange(12.0).reshape(2, 6)


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


@pytest.mark.parametrize("separator", [",", ";", "\t", " ", " , "])
@pytest.mark.parametrize("header", ["", "a b c d e f\n", "# measured today\n\n"])
def test_rows_of_text(tmp_path: Path, separator: str, header: str) -> None:
    rows = "\n".join(separator.join(f"{v:g}" for v in row) for row in SCANS)
    scans = read_scans(write(tmp_path / "a.csv", header + rows + "\n"), (6,))
    assert scans.dtype == np.float32
    np.testing.assert_array_equal(scans, SCANS)


def test_column_two_columns_and_decimal_comma(tmp_path: Path) -> None:
    column = write(tmp_path / "a.txt", "counts\n" + "\n".join("123456"))
    np.testing.assert_array_equal(read_scans(column, (6,)), [[1, 2, 3, 4, 5, 6]])
    two = write(tmp_path / "b.csv", "x,y\n1,10\n2,20\n3,30\n")
    expected = [[1, 2, 3, 10, 20, 30]]
    np.testing.assert_array_equal(read_scans(two, (6,)), expected)
    np.testing.assert_array_equal(read_scans(two, (3, 2))[0, :, 1], [10, 20, 30])
    np.testing.assert_array_equal(read_scans(two, (2, 3))[0, 1], [10, 20, 30])
    comma = write(tmp_path / "c.csv", "1,5;2,5\n3;4\n")
    np.testing.assert_array_equal(read_scans(comma, (2,)), [[1.5, 2.5], [3, 4]])
    trailing = write(tmp_path / "d.csv", "1,2,\n3,4,\n")
    np.testing.assert_array_equal(read_scans(trailing, (2,)), [[1, 2], [3, 4]])


@pytest.mark.parametrize("shape", [(6,), (2, 3)])
@pytest.mark.parametrize("count", [1, 2])
def test_binary_formats(tmp_path: Path, shape: tuple[int, ...], count: int) -> None:
    array = SCANS[:count].reshape(count, *shape)
    array = array[0] if count == 1 else array
    np.save(tmp_path / "a.npy", array)
    np.savez(tmp_path / "a.npz", observation=array, other=np.zeros(3))
    np.savez(tmp_path / "b.npz", x=array, observation=np.zeros(3))
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["entry/data"] = array
    with h5py.File(tmp_path / "b.hdf5", "w") as file:
        file["x"], file["y"] = array, np.zeros(2)
    for name in ("a.npy", "a.npz", "b.npz", "a.h5", "b.hdf5"):
        scans = read_scans(tmp_path / name, shape)
        np.testing.assert_array_equal(scans, SCANS[:count].reshape(count, *shape))


TEXTS = {
    "wrong length": ("1,2,3\n", r"scan in a.csv with 2 numbers per row.*1 x 3"),
    "text": ("1,2\n3,four\n", r"'four' in line 2, column 2"),
    "gap": ("1,2\n,4\n", r"'' in line 2, column 1"),
    "ragged": ("1,2\n3\n", "line 2 of a.csv to have 2 numbers like the first; got 1"),
    "nan": ("1,2\n3,nan\n", "to be finite; got nan at point 1 of scan 1"),
    "inf": ("1,1e999\n", "to be finite; got inf"),
    "overflow": ("1,1e300\n", "to be finite; got 1e"),
    "negative": ("1,2\n-3,4\n", "at least 0, as counts are; got -3 at point 0 of scan"),
    "empty": ("", "the empty file"),
    "blank": ("\n  \n# only a comment\n", "the empty file"),
    "header twice": ("a,b\nc,d\n", "'c' in line 2, column 1"),
    "one line of text": ("a,b\n", "'a' in line 1, column 1"),
    "underscore": ("1_0,2\n", "'1_0' in line 1"),
}


@pytest.mark.parametrize("case", TEXTS)
def test_bad_text(tmp_path: Path, case: str) -> None:
    text, message = TEXTS[case]
    path = write(tmp_path / "a.csv", text)
    with pytest.raises(ValueError, match=message) as error:
        read_scans(path, (2,), counts=True)
    assert "\n" not in str(error.value)


def bad_files(folder: Path) -> dict[str, tuple[Path, str]]:
    np.savez(folder / "none.npz", y=np.zeros(2))
    np.save(folder / "pickle.npy", np.array([{}], dtype=object), allow_pickle=True)
    np.savez(folder / "pickle.npz", x=np.array([{}], dtype=object))
    np.save(folder / "text.npy", np.array(["a", "b"]))
    np.save(folder / "complex.npy", np.zeros(2, complex))
    np.save(folder / "long.npy", np.zeros((4, 3)))
    np.save(folder / "no_rows.npy", np.zeros((0, 2)))
    np.save(folder / "nan.npy", np.array([0.0, np.nan]))
    for name in ("broken.npy", "broken.npz", "broken.h5", "binary.csv", "a.xlsx"):
        (folder / name).write_bytes(b"\x93\xff\x00 nothing of the kind")
    with h5py.File(folder / "two.h5", "w") as file:
        file["a"], file["b"] = np.zeros(2), np.zeros(2)
    (folder / "folder.csv").mkdir()
    messages = {
        "none.npz": r"an array 'x' or 'observation'; got \['y'\]",
        "pickle.npy": "pickled objects",
        "pickle.npz": "pickled objects",
        "text.npy": "real numbers",
        "complex.npy": "real numbers",
        "long.npy": r"with shape \(2,\) or \(scans, 2\); got \(4, 3\)",
        "no_rows.npy": "with numbers",
        "nan.npy": "to be finite; got nan at point 1 of scan 0",
        "broken.npy": "to begin as a numpy file",
        "broken.npz": "to begin as a numpy file",
        "broken.h5": "readable HDF5",
        "binary.csv": "binary data",
        "a.xlsx": "suffix of the scan file to be one of",
        "two.h5": r"got \['a', 'b'\]",
        "folder.csv": "to be a file",
        "missing.csv": "to exist",
    }
    return {name: (folder / name, message) for name, message in messages.items()}


def test_bad_files(tmp_path: Path) -> None:
    for path, message in bad_files(tmp_path).values():
        with pytest.raises(ValueError, match=message) as error:
            read_scans(path, (2,))
        assert "\n" not in str(error.value)


def test_counts_are_asked_for_not_assumed(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", "-1,2\n")
    np.testing.assert_array_equal(read_scans(path, (2,)), [[-1, 2]])
