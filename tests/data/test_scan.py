"""Scans as instruments write them: what comes out beside what was put in."""

import gzip
import importlib.util
from pathlib import Path

import h5py
import numpy as np
import pytest

from flowinv.data.scan import ReadOptions, read_scan

FILES = Path(__file__).parent / "files"


def _module():
    spec = importlib.util.spec_from_file_location("make", FILES / "make.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


TRUTH = _module().truth()
POSITION, SIGNAL, MONITOR = TRUTH.values()


def read(path, **options):
    return read_scan(path, ReadOptions(**options))


@pytest.mark.parametrize(
    ("name", "options", "axis", "has_monitor"),
    [
        ("scan.nxs", {}, "knife_x", True),
        ("scan.nxs", {"entry": "entry"}, "knife_x", True),
        ("scan.spec", {"entry": "2"}, "knife x", False),
        ("step.jsonl", {}, "knife_x", False),
        ("fly.jsonl", {}, "knife_x", False),
        (
            "step.jsonl",
            {"columns": "position=knife_x,signal=diode,monitor=ring"},
            "knife_x",
            True,
        ),
    ],
)
def test_files_of_the_formats_own_libraries(name, options, axis, has_monitor):
    (scan,) = read(FILES / name, **options)
    assert scan.axis == axis
    np.testing.assert_allclose(scan.position, POSITION, atol=1e-6)
    np.testing.assert_array_equal(scan.signal, SIGNAL)
    assert (scan.monitor is not None) == has_monitor
    if has_monitor:
        np.testing.assert_allclose(scan.monitor, MONITOR)
    assert scan.falling
    if name != "scan.spec":
        assert (scan.unit, scan.signal_unit) == ("mm", "counts")
    if name == "scan.nxs":
        np.testing.assert_allclose(scan.errors, np.sqrt(SIGNAL + 1.0))
        assert scan.exposure == 0.5


def test_eve_tables_are_joined_on_the_position_count():
    (scan,) = read(FILES / "scan_eve.h5")
    np.testing.assert_array_equal(scan.position, POSITION[2:])
    np.testing.assert_array_equal(scan.signal, SIGNAL[2:])
    np.testing.assert_array_equal(scan.monitor, MONITOR[2:])
    assert scan.notes == ("2 rows without a partner left out",)


def table(*columns, separator=" ", form="{:.7g}"):
    rows = zip(*columns, strict=True)
    return "\n".join(separator.join(form.format(v) for v in row) for row in rows) + "\n"


def comma(text):
    return text.replace(".", ",")


PAIR = table(POSITION, SIGNAL)
BARE = "position (mm) signal (counts)\n"
META = "Sample: mirror 3\nexposure = 0.5 s\n2026-11-26 10:00\n\n"
LVM = (
    "LabVIEW Measurement\t\nWriter_Version\t2\nSeparator\tTab\nDecimal_Separator\t,\n"
    "***End_of_Header***\t\n\nChannels\t1\nSamples\t44\n***End_of_Header***\t\n"
    "Position [mm]\tDiode [A]\tComment\n"
)
LVM_ROWS = "".join(
    line + "\t\n" for line in table(POSITION, SIGNAL, separator="\t").splitlines()
)
TEXTS = {
    "two bare columns": (PAIR, "", ""),
    "named with units": (BARE + PAIR, "mm", "counts"),
    "named in a comment": ("# position [mm]  signal [counts]\n" + PAIR, "mm", "counts"),
    "metadata before": (META + BARE + PAIR, "mm", "counts"),
    "signal first": (
        "counts;pos/mm\n" + table(SIGNAL, POSITION, separator=";"),
        "mm",
        "",
    ),
    "comma": ("Motor (mm),Diode\n" + table(POSITION, SIGNAL, separator=","), "mm", ""),
    "decimal comma": (
        "Motor (mm);Diode (A)\n" + comma(table(POSITION, SIGNAL, separator=";")),
        "mm",
        "A",
    ),
    "lvm": (LVM + comma(LVM_ROWS), "mm", "A"),
    "descending": (BARE + table(POSITION[::-1], SIGNAL[::-1]), "mm", "counts"),
    "blank lines": (BARE + PAIR.replace("\n", "\n\n", 3), "mm", "counts"),
}


@pytest.mark.parametrize("case", TEXTS)
@pytest.mark.parametrize("encoding", ["utf-8", "latin-1", "utf-16"])
def test_texts(case, encoding, tmp_path):
    text, unit, signal_unit = TEXTS[case]
    if encoding == "latin-1":
        text = "# Größe in \xb5m\n" + text
    path = tmp_path / "scan.txt"
    path.write_bytes(text.encode(encoding))
    (scan,) = read(path)
    np.testing.assert_allclose(scan.position, POSITION, rtol=1e-6)
    np.testing.assert_array_equal(scan.signal, SIGNAL)
    assert (scan.unit, scan.signal_unit) == (unit, signal_unit)
    assert scan.notes == (("descending positions turned",) * (case == "descending"))
    zipped = tmp_path / "scan.csv.gz"
    zipped.write_bytes(gzip.compress(text.encode(encoding)))
    np.testing.assert_array_equal(read(zipped)[0].signal, SIGNAL)


def test_columns_are_taken_by_number_and_name(tmp_path):
    path = tmp_path / "scan.dat"
    path.write_text(table(POSITION, MONITOR, SIGNAL))
    (scan,) = read(path, columns="position=1,signal=3,monitor=2")
    np.testing.assert_allclose(scan.monitor, MONITOR)
    np.testing.assert_array_equal(scan.signal, SIGNAL)
    path.write_text("u (um) v w\n" + table(POSITION, MONITOR, SIGNAL))
    (scan,) = read(path, columns="position=u,signal=w")
    assert (scan.axis, scan.unit) == ("u", "um")
    np.testing.assert_array_equal(scan.signal, SIGNAL)


def test_two_axes_side_by_side(tmp_path):
    path = tmp_path / "scan.csv"
    columns = POSITION, SIGNAL, POSITION + 5, SIGNAL[::-1]
    for head in ("", "x (mm),counts,y (mm),counts 2\n"):
        path.write_text(head + table(*columns, separator=","))
        first, second = read(path)
        assert (first.axis, second.axis) == (("x", "y") if head else ("", ""))
        np.testing.assert_allclose(second.position, POSITION + 5, rtol=1e-6)
        np.testing.assert_array_equal(second.signal, SIGNAL[::-1])
        assert (first.falling, second.falling) == (True, False)


def test_repeated_places(tmp_path):
    path = tmp_path / "scan.txt"
    twice = np.r_[POSITION, POSITION[3:5]], np.r_[SIGNAL, SIGNAL[3:5] + 2]
    path.write_text(BARE + table(*twice))
    with pytest.raises(ValueError, match="positions of scan.txt .* got 2 at -1.55"):
        read(path)
    (scan,) = read(path, duplicates="mean")
    expected = SIGNAL.astype(float)
    expected[3:5] += 1
    np.testing.assert_allclose(scan.signal, expected)
    assert scan.notes == ("positions sorted", "mean of 2 repeated exposures")


def test_arrays_by_name(tmp_path):
    np.savez(tmp_path / "scan.npz", motor=POSITION, counts=SIGNAL, title="x")
    (scan,) = read(tmp_path / "scan.npz")
    np.testing.assert_array_equal(scan.signal, SIGNAL)
    np.savez(tmp_path / "odd.npz", a=POSITION, b=SIGNAL)
    with pytest.raises(ValueError, match="--dataset position=NAME,signal=NAME"):
        read(tmp_path / "odd.npz")
    (scan,) = read(tmp_path / "odd.npz", dataset="position=a,signal=b")
    np.testing.assert_array_equal(scan.position, POSITION)
    np.save(tmp_path / "scan.npy", np.stack([POSITION, SIGNAL]))
    (scan,) = read(tmp_path / "scan.npy")
    np.testing.assert_array_equal(scan.signal, SIGNAL)
    with h5py.File(tmp_path / "plain.h5", "w") as file:
        file["entry/u"], file["entry/v"] = POSITION, SIGNAL
    (scan,) = read(tmp_path / "plain.h5", dataset="position=entry/u,signal=entry/v")
    np.testing.assert_array_equal(scan.signal, SIGNAL)


def test_rays_become_two_knife_edges(tmp_path):
    rng = np.random.default_rng(0)
    rays = rng.normal([1.0, -2.0], [0.1, 0.3], (5_000, 2))
    names = "Image_RN\tImage_OX\tImage_OY\tImage_OZ\n"
    rows = "".join(f"1\t{x:.6f}\t{y:.6f}\t0\n" for x, y in rays)
    path = tmp_path / "Image-RawRaysOutgoing.csv"
    path.write_text("# RAY-UI\n" + names + rows)
    across, down = read(path)
    assert (across.axis, down.axis, across.unit) == ("x", "y", "mm")
    for scan, own in zip((across, down), rays.T, strict=True):
        assert (scan.signal[0], scan.signal[-1]) == (0, 5_000)
        middle = np.interp(2_500, scan.signal, scan.position)
        assert middle == pytest.approx(np.median(own), abs=0.01)
        assert not scan.falling


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "with numbers; got the empty file"),
        ("nothing here\n", "with 5 rows of numbers at least"),
        (table(SIGNAL), "with positions beside the signal; got one column"),
        (table(POSITION, POSITION), "that name position and signal"),
        (table(POSITION, MONITOR, SIGNAL), "--columns position=1,signal=2"),
        ("a b c\n" + table(POSITION, MONITOR, SIGNAL), "position and signal; got a, b"),
        (PAIR + "stopped\n" + PAIR, "in one piece; got 'stopped' in line 45"),
        (PAIR + "stopped\n3.1 5\n", "in one piece; got 'stopped' in line 45"),
        ("-3 4100\nback\n" + PAIR, "in one piece; got 'back' in line 2"),
        (PAIR.replace("4043", "nan"), "signal of scan.txt to be finite"),
        (table(POSITION[:4], SIGNAL[:4]), "with 5 rows of numbers"),
    ],
)
def test_what_is_wrong_is_one_line(text, message, tmp_path):
    path = tmp_path / "scan.txt"
    path.write_text(text)
    with pytest.raises(ValueError, match=message) as error:
        read(path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("scan.spec", {}, "scans of scan.spec to be one; got 1, 2.* --entry 2"),
        ("scan.spec", {"entry": "3"}, "scan of scan.spec to be one of"),
        ("scan.nxs", {"entry": "entr"}, "Did you mean 'entry'"),
        ("scan_eve.h5", {"entry": "c2"}, "chain of scan_eve.h5"),
        ("step.jsonl", {"columns": "position=knife,signal=diode"}, "Did you mean"),
        ("step.jsonl", {"columns": "position=knife_x"}, "with signal= for each axis"),
        ("step.jsonl", {"columns": "place=knife_x"}, "role of a column"),
        (
            "step.jsonl",
            {"columns": "position=knife_x,signal=diode;position=ring,signal=diode"},
            "axes of --columns to be one for a run; got 2",
        ),
        ("absent.csv", {}, "scan file to exist"),
        ("make.py", {}, "suffix of the scan file"),
        ("scan.nxs", {"duplicates": "first"}, "duplicates to be one of"),
    ],
)
def test_what_cannot_be_known_is_asked_for(name, options, message):
    with pytest.raises(ValueError, match=message) as error:
        read(FILES / name, **options)
    assert "\n" not in str(error.value)


def test_nothing_is_chosen_in_silence(tmp_path):
    """A monitor of another length, two chains, a number that was scanned twice."""
    path = tmp_path / "scan.nxs"
    path.write_bytes((FILES / "scan.nxs").read_bytes())
    with h5py.File(path, "a") as file:
        short = file["entry/control/data"][:-3]
        del file["entry/control/data"]
        file["entry/control/data"] = short
    with pytest.raises(
        ValueError, match=r"monitor of scan.nxs with 44 numbers; got 41"
    ):
        read(path)
    path = tmp_path / "scan_eve.h5"
    path.write_bytes((FILES / "scan_eve.h5").read_bytes())
    with h5py.File(path, "a") as file:
        file.copy("c1", "c2")
    with pytest.raises(
        ValueError, match=r"to be one; got c1, c2. Name one: --entry c1"
    ):
        read(path)
    assert len(read(path, entry="c2")) == 1
    lines = (FILES / "scan.spec").read_text()
    start = lines.index("#S 2")
    path = tmp_path / "scan.spec"
    path.write_text(lines + lines[start:].replace("#S 2", "#S 1"))
    with pytest.raises(ValueError, match=r"to be one; got 1, 2, 1.2"):
        read(path)
    assert len(read(path, entry="1")[0].signal) == 6
    assert len(read(path, entry="1.2")[0].signal) == 44


def test_what_was_done_is_said(tmp_path):
    path = tmp_path / "scan.txt"
    path.write_text(table(POSITION[::-1], SIGNAL[::-1]))
    assert read(path)[0].notes == ("descending positions turned",)
    rows = np.r_[0, np.arange(len(POSITION))]
    path.write_text("position counts\n" + table(POSITION[rows], SIGNAL[rows]))
    (scan,) = read(path, duplicates="mean")
    assert scan.notes == ("mean of 1 repeated exposures",)
