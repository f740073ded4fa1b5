"""Scan files: every layout that is understood, and one line for every bad one."""

from pathlib import Path

import h5py
import numpy as np
import pytest

from flowinv.data.scans import read_scans

SCANS = np.array([[3.0, 1, 4, 1, 5, 9], [2, 6, 5, 3, 5, 8]])


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
    "header twice": ("a,b\nc,d\n", "only a header in"),
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
    np.savez(folder / "none.npz", a=np.zeros(2), b=np.zeros(2))
    np.save(folder / "pickle.npy", np.array([{}], dtype=object), allow_pickle=True)
    np.savez(folder / "pickle.npz", x=np.array([{}], dtype=object))
    np.save(folder / "text.npy", np.array(["a", "b"]))
    np.save(folder / "complex.npy", np.zeros(2, complex))
    np.save(folder / "mask.npy", np.zeros(2, bool))
    np.save(folder / "long.npy", np.zeros((4, 3)))
    np.save(folder / "no_rows.npy", np.zeros((0, 2)))
    np.save(folder / "nan.npy", np.array([0.0, np.nan]))
    for name in ("broken.npy", "broken.npz", "broken.h5", "binary.csv", "a.xlsx"):
        (folder / name).write_bytes(b"\x93\xff\x00 nothing of the kind")
    with h5py.File(folder / "two.h5", "w") as file:
        file["a"], file["b"] = np.zeros(2), np.zeros(2)
    with h5py.File(folder / "twice.h5", "w") as file:
        file["one/counts"], file["two/counts"] = np.zeros(2), np.ones(2)
    (folder / "folder.csv").mkdir()
    messages = {
        "none.npz": r"^Expected none.npz with an array .*; got \['a', 'b'\]",
        "pickle.npy": "pickled objects",
        "pickle.npz": "pickled objects",
        "text.npy": "real numbers",
        "complex.npy": "real numbers",
        "mask.npy": "real numbers; got dtype bool",
        "long.npy": r"with shape \(2,\) or \(scans, 2\); got \(4, 3\)",
        "no_rows.npy": "with numbers",
        "nan.npy": "to be finite; got nan at point 1 of scan 0",
        "broken.npy": "to begin as a numpy file",
        "broken.npz": "to begin as a numpy file",
        "broken.h5": "readable HDF5",
        "binary.csv": "binary data",
        "a.xlsx": "suffix of the scan file to be one of",
        "twice.h5": "one array of a name; got one/counts, two/counts. Name one: twice",
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


COUNTS = np.random.default_rng(0).poisson(50.0, 24).astype(float)
ACROSS, DOWN = COUNTS[:12], COUNTS[12:]
POSITIONS = 10.0 + 0.25 * np.arange(12)


def lines(*columns, separator: str = ",") -> str:
    rows = zip(*columns, strict=True)
    return "".join(separator.join(f"{v:.6g}" for v in row) + "\n" for row in rows)


def texts() -> dict[str, str | bytes]:
    """Files that hold the same scan, by what is special about them."""
    row = ",".join(f"{v:g}" for v in COUNTS)
    counting = ",".join(map(str, range(24)))
    named = "position_um,counts_x,counts_y\n" + lines(POSITIONS, ACROSS, DOWN)
    return {
        "columns": lines(ACROSS, DOWN),
        "position first": lines(POSITIONS, ACROSS, DOWN),
        "named position": named,
        "position last": lines(ACROSS, DOWN, POSITIONS),
        "positions of both": lines(POSITIONS, ACROSS, POSITIONS + 1, DOWN),
        "downwards": lines(POSITIONS[::-1], ACROSS[::-1], DOWN[::-1]),
        "index column": lines(np.arange(12), ACROSS, DOWN),
        "data frame": f"{counting}\n{row}\n",
        "data frame with index": f",{counting}\n0,{row}\n",
        "header lines": f"beamline X\nscan 7\n{row}\n",
        "savetxt": "# position h v\n" + lines(POSITIONS, ACROSS, DOWN, separator=" "),
        "two rows": lines(*np.array([ACROSS, DOWN]).T),
        "three rows": lines(*np.array([POSITIONS, ACROSS, DOWN]).T),
        "fortran": " ".join(f"{v:.6E}".replace("E", "D") for v in COUNTS),
        "utf-16": named.encode("utf-16"),
        "utf-16 without a mark": named.encode("utf-16-le"),
        "latin-1": named.replace("um", "\xb5m").encode("latin-1"),
        "utf-8 with a mark": named.encode("utf-8-sig"),
        "one column": "counts\n" + lines(COUNTS),
        "numbered column": lines(np.concatenate([POSITIONS, POSITIONS]), COUNTS),
    }


@pytest.mark.parametrize("case", texts())
def test_one_scan_however_it_was_written(tmp_path: Path, case: str) -> None:
    text, path = texts()[case], tmp_path / "a.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    np.testing.assert_allclose(read_scans(path, (24,)), [COUNTS])


REFUSED = {
    "one axis": (lines(POSITIONS, ACROSS), "with 24 counts; got 12 x 1 besides posi"),
    "only a counting row": (",".join(map(str, range(24))), "only a header 0, 1, 2"),
    "uneven positions": (
        "position,h,v\n" + lines(POSITIONS**2, ACROSS, DOWN),
        "to be evenly spaced; got steps from 5.06 to 6.31",
    ),
    "second axis first": (
        "vertical,horizontal\n" + lines(DOWN, ACROSS),
        "in the order horizontal, vertical; got vertical, horizontal.*#horizontal,ver",
    ),
    "axes in turn": ("pos,y,x\n" + lines(POSITIONS, DOWN, ACROSS), "order x, y; got"),
    "commas of thousands": (
        "\n".join(
            f"{a:,.0f};{b:,.0f}"
            for a, b in zip(1000 * ACROSS, 1000 * DOWN, strict=True)
        ),
        "commas of one meaning; got '[0-9]+,[0-9]+', which may be thousands",
    ),
    "too many columns": (lines(ACROSS, DOWN, DOWN), r"got 12 x 3 .* FILE#2,3"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_could_be_read_wrongly_is_refused(tmp_path: Path, case: str) -> None:
    text, message = REFUSED[case]
    with pytest.raises(ValueError, match=message) as error:
        read_scans(write(tmp_path / "a.csv", text), (24,))
    assert "\n" not in str(error.value)


def test_columns_and_arrays_by_name(tmp_path: Path) -> None:
    table = "a,b,c,d\n" + lines(DOWN, ACROSS, 1 + DOWN, POSITIONS**2)
    path = write(tmp_path / "a.csv", table)
    for name in ("b,a", "2,1", "2, a"):
        np.testing.assert_array_equal(read_scans(f"{path}#{name}", (24,)), [COUNTS])
    with pytest.raises(ValueError, match="column of a.csv to be one of 1, 2, 3, 4, a"):
        read_scans(f"{path}#b,e", (24,))
    np.savez(tmp_path / "a.npz", up=COUNTS, x=np.zeros(24))
    np.testing.assert_array_equal(read_scans(f"{tmp_path}/a.npz#up", (24,)), [COUNTS])
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["entry/one"], file["entry/two"] = COUNTS, np.zeros(24)
    for name in ("entry/one", "/entry/one"):
        found = read_scans(f"{tmp_path}/a.h5#{name}", (24,))
        np.testing.assert_array_equal(found, [COUNTS])
    with pytest.raises(ValueError, match="dataset of a.h5 to be one of entry/one, en"):
        read_scans(f"{tmp_path}/a.h5#three", (24,))


@pytest.mark.parametrize("shape", [(24,), (24, 1), (1, 24), (2, 12), (12, 2)])
@pytest.mark.parametrize("kind", ["npy", "npz", "h5", "nxs"])
def test_arrays_of_one_scan(tmp_path: Path, shape: tuple[int, ...], kind: str) -> None:
    array = np.array([ACROSS, DOWN]).T if shape == (12, 2) else COUNTS.reshape(shape)
    path = tmp_path / f"a.{kind}"
    if kind == "npy":
        np.save(path, array)
    elif kind == "npz":
        # The usual names of a curve: x is where, y is how much.
        np.savez(path, x=np.concatenate([POSITIONS, POSITIONS]), y=array)
    else:
        with h5py.File(path, "w") as file:
            file["entry/data/counts_1"], file["entry/other"] = array, np.zeros(24)
            if kind == "h5":
                del file["entry/other"]
                file["entry/data/positions"] = POSITIONS
            file.attrs["default"] = "entry"
            file["entry"].attrs["default"] = "data"
            file["entry/data"].attrs["signal"] = b"counts_1"
    np.testing.assert_array_equal(read_scans(path, (24,)), [COUNTS])


def test_positions_alone_are_no_scan(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=np.arange(24.0))
    with pytest.raises(ValueError, match="Name it: a.npz#NAME"):
        read_scans(tmp_path / "a.npz", (24,))
    found = read_scans(f"{tmp_path}/a.npz#x", (24,))
    np.testing.assert_array_equal(found, [np.arange(24.0)])
