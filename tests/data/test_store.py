"""The zarr store: what is written comes back, and a torn append is not read."""

from pathlib import Path

import numpy as np
import pytest
import zarr

from flowinv.data.store import append_dataset, num_rows, read_dataset, write_dataset
from flowinv.types import Dataset


def dataset(rows: int, start: int = 0) -> Dataset:
    index = np.arange(start, start + rows)
    theta = np.stack([index, index + 0.5], -1).astype(np.float32)
    x = (index[:, None, None] * np.ones((1, 3, 2))).astype(np.float32)
    return Dataset(theta, x, index % 3 > 0, np.full(rows, start, np.int32))


def assert_same(got: Dataset, expected: Dataset) -> None:
    for a, b in zip(got, expected, strict=True):
        np.testing.assert_array_equal(a, b)
        assert a.dtype == b.dtype


def test_write_append_read(tmp_path: Path) -> None:
    path = tmp_path / "simulations"
    write_dataset(path, dataset(5), attributes={"seed": 3})
    assert append_dataset(path, dataset(4, 5)) == 9
    assert num_rows(path) == 9
    whole = read_dataset(path)
    first, second = dataset(5), dataset(4, 5)
    both = [np.concatenate(p) for p in zip(first, second, strict=True)]
    assert_same(whole, Dataset(*both))
    assert_same(read_dataset(path, slice(5, 9)), second)
    assert zarr.open_group(path, mode="r").attrs["notes"] == {"seed": 3}


def test_torn_append_is_ignored_and_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "simulations"
    write_dataset(path, dataset(5))
    append_dataset(path, dataset(4, 100))
    # As if the process had died between the arrays and the count.
    zarr.open_group(path, mode="r+").attrs["num_rows"] = 5
    assert_same(read_dataset(path), dataset(5))
    append_dataset(path, dataset(2, 5))
    assert_same(read_dataset(path, slice(5, None)), dataset(2, 5))


def test_empty_store_then_append(tmp_path: Path) -> None:
    write_dataset(tmp_path / "s", dataset(0))
    append_dataset(tmp_path / "s", dataset(3))
    assert_same(read_dataset(tmp_path / "s"), dataset(3))


def test_overwrite_only_when_asked(tmp_path: Path) -> None:
    path = tmp_path / "s"
    write_dataset(path, dataset(5))
    with pytest.raises(ValueError, match="in a new folder"):
        write_dataset(path, dataset(2))
    write_dataset(path, dataset(2), overwrite=True)
    assert num_rows(path) == 2
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "thesis.txt").write_text("years of work")
    with pytest.raises(ValueError, match="zarr 3 group"):
        write_dataset(foreign, dataset(2), overwrite=True)
    assert (foreign / "thesis.txt").exists()


def test_bad_stores_answer_in_one_line(tmp_path: Path) -> None:
    write_dataset(tmp_path / "s", dataset(2))
    zarr.open_group(tmp_path / "other", mode="w", zarr_format=3)
    (tmp_path / "file").write_text("x")
    wide = dataset(2)._replace(theta=np.zeros((2, 3), np.float32))
    short = dataset(2)._replace(valid=np.ones(1, bool))
    for run, message in (
        (lambda: read_dataset(tmp_path / "none"), "to exist"),
        (lambda: read_dataset(tmp_path / "other"), "with format"),
        (lambda: read_dataset(tmp_path / "file"), "zarr 3 group"),
        (lambda: read_dataset(tmp_path / "s", slice(0, 2, 2)), "contiguous"),
        (lambda: append_dataset(tmp_path / "s", wide), r"rows of shape \(2,\)"),
        (lambda: append_dataset(tmp_path / "s", short), "of one length"),
    ):
        with pytest.raises(ValueError, match=message) as error:
            run()
        assert "\n" not in str(error.value)
