"""A run on an instrument's own scan, by the command line, from file to answer."""

import json
import re

import numpy as np
import pytest

QUICK = [
    *("--num-simulations=400", "--max-epochs=1", "--num-layers=1", "--hidden=4"),
    *("--head-hidden=4", "--num-heldout=100", "--num-samples=20", "--flow=cinn"),
    *("--num-exact=100", "--observations=", "--no-point-estimates", "--quiet"),
]
PLACES = np.r_[np.linspace(100, 160, 25), np.linspace(165, 240, 16)]


def write(path, background=20.0, order=slice(None)):
    """A scan in um that falls: 3,000 counts, 180 um, width 12."""
    from scipy.stats import norm

    rate = 3_000 * norm(180, 12).sf(PLACES) + background
    counts = np.random.default_rng(0).poisson(rate)
    rows = [f"{u:g}\t{n:d}" for u, n in zip(PLACES, counts, strict=True)][order]
    path.write_text("Knife (um)\tCounts\n" + "\n".join(rows) + "\n")
    return str(path)


def run_like(folder, *flags):
    """Folder of a run like a file that is gone since; capsys is of functions."""
    from flowinv import cli

    file = folder / "knife.txt"
    write(file)
    ask = ["run", "--task=step_scan", f"--like={file}", f"--out={folder / 'run'}"]
    with pytest.raises(SystemExit) as end:
        cli.main([*ask, "--prior", "std=4..40um", *QUICK, *flags])
    assert end.value.code == 0
    file.unlink()
    return folder / "run"


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    return run_like(tmp_path_factory.mktemp("like"))


@pytest.fixture(scope="module")
def anywhere(tmp_path_factory):
    """A run that takes scans of up to 50 positions."""
    return run_like(tmp_path_factory.mktemp("any"), "--any-positions=50")


@pytest.mark.slow
def test_a_network_of_any_positions_answers_them(anywhere, flowinv, refused, tmp_path):
    page = (anywhere / "report.html").read_text()
    for words in ("knife.txt", "position (um)", "up to 50"):
        assert words in page
    whole = write(tmp_path / "whole.txt")
    part = write(tmp_path / "part.txt", order=slice(None, None, 2))
    code, out, err = flowinv("infer", anywhere, "--x", whole, part)
    assert (code, err) == (0, [])
    rows = [line for line in out if line.startswith("mean ")]
    for row in rows:
        assert float(re.split(r"\s{2,}", row)[2]) == pytest.approx(180, abs=4)
    assert len(rows) == 2
    bright = write(tmp_path / "bright.txt", background=400.0)
    code, _, err = flowinv("infer", anywhere, "--x", bright, "--strict")
    assert code == 3
    assert any("its summaries are" in line for line in err)


def test_the_run_speaks_the_scans_units_and_answers_it(finished):
    instrument = json.loads((finished / "instrument.json").read_text())
    assert instrument["unit"] == "um"
    assert instrument["std"] == [[4.0, 40.0]]
    assert instrument["axes"][0]["falling"]
    page = (finished / "report.html").read_text()
    for words in ("knife.txt", "position (um)", "signal (counts)", "fwhm"):
        assert words in page


@pytest.mark.slow
def test_its_model_answers_files_of_the_same_places(finished, flowinv, tmp_path):
    scan = write(tmp_path / "next.txt", order=slice(None, None, -1))
    code, out, err = flowinv("infer", finished, "--x", scan)
    assert (code, err) == (0, ["flowinv: next.txt: descending positions turned"])
    row = next(line for line in out if line.startswith("mean "))
    median = float(re.split(r"\s{2,}", row)[2])
    assert median == pytest.approx(180, abs=3)
    # More background than the model knows: said, and an exit code where asked for.
    bright = write(tmp_path / "bright.txt", background=400.0)
    code, _, err = flowinv("infer", finished, "--x", bright, "--strict")
    assert code == 3
    assert any("its summaries are" in line for line in err)


def test_many_scans_are_looked_at_together(finished, flowinv, tmp_path):
    """One scan twenty times over has no scatter: no such set was predicted."""
    scan = write(tmp_path / "next.txt")
    code, out, err = flowinv("infer", finished, "--strict", "--x", *[scan] * 20)
    assert code == 3
    assert [line for line in err if line.startswith("flowinv: all 20 scans: together")]
    assert sum(line.startswith("mean ") for line in out) == 20


def test_other_places_are_refused_with_the_command(
    finished, flowinv, refused, tmp_path
):
    write(tmp_path / "short.txt", order=slice(1, None))
    refused(
        flowinv("infer", finished, "--x", tmp_path / "short.txt"),
        "positions of short.txt Knife to be the model's 41, 100 to 240",
        "flowinv run --task step_scan --like short.txt",
    )


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--task=beam_profile"], "task with --like to be step_scan"),
        (["--task=step_scan", "--prior", "std=1..2mm"], "prior of std in um; got mm"),
        (["--task=step_scan:points=100"], "that the scan does not say; got points"),
        (["--task=step_scan", "--columns=position=5,signal=2"], "column of knife.txt"),
        (
            ["--task=step_scan", "--any-positions=20", "--method=tsnpe"],
            "method with --any-positions to be npe; got tsnpe",
        ),
        (
            ["--task=step_scan:drift=.1", "--any-positions=50"],
            "drift with any positions to be 0; got 0.1",
        ),
        (["--task=step_scan", "--any-positions=30"], "to be 30 at most; got 41"),
    ],
)
def test_what_does_not_fit_is_one_line(flags, words, flowinv, refused, tmp_path):
    like = write(tmp_path / "knife.txt")
    out = f"--out={tmp_path / 'run'}"
    refused(flowinv("run", f"--like={like}", out, *flags, *QUICK), words)
    assert not (tmp_path / "run").exists()


def test_ranges_of_a_prior_belong_to_a_scan(flowinv, refused):
    refused(flowinv("run", "--prior", "std=1..2", *QUICK), "--prior with --like")
