"""Answers to scans as files: draws as npz, csv or netCDF, the table as JSON."""

import io
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from flowinv.diagnostics.answers import QUANTILES, summary
from flowinv.priors.latent import Prior
from flowinv.tasks.task import ClassicalFit, Derived, quantities

__all__ = ["SUFFIXES", "Answer", "as_bytes", "as_data"]

SUFFIXES = (".npz", ".csv", ".nc")


class Answer(NamedTuple):
    """The answer to one scan.

    Attributes:
        label: file, and number in it where it holds several.
        draws: of the posterior, `[n, D]`.
        fit: the classical fit, or None.
        misfit: what guards say, by guard.
    """

    label: str
    draws: np.ndarray
    fit: ClassicalFit | None
    misfit: dict[str, str]


def as_bytes(suffix: str, prior: Prior, answers: Sequence[Answer]) -> bytes:
    """Draws of all answers as an npz, a csv or a netCDF file.

    npz: samples `[scan, n, D]`, names, units, scans, misfit ("" for nothing). csv: a
    row for each draw, with the number of its scan and whether that is a misfit. nc
    (netCDF 3): the variable of each parameter `(scan, draw)` with its unit.

    Args:
        suffix: one of `SUFFIXES`.
        prior: whose names and units the draws have.
        answers: one for each scan.
    """
    draws = np.stack([answer.draws for answer in answers])
    said = [_said(answer) for answer in answers]
    buffer = io.BytesIO()
    if suffix == ".npz":
        np.savez_compressed(
            buffer,
            samples=draws,
            names=np.array(prior.names),
            units=np.array(prior.units),
            scans=np.array([answer.label for answer in answers]),
            misfit=np.array(said),
        )
        return buffer.getvalue()
    if suffix == ".nc":
        return _netcdf(prior, draws, answers)
    pairs = zip(prior.names, prior.units, strict=True)
    names = [f"{name} ({unit})" if unit else name for name, unit in pairs]
    rows = [",".join(["scan", *names, "misfit"])]
    for number, own in enumerate(draws):
        off = str(int(said[number] != ""))
        for draw in own:
            rows.append(",".join([str(number + 1), *(f"{v:.9g}" for v in draw), off]))
    return ("\n".join(rows) + "\n").encode()


def _said(answer: Answer) -> str:
    return "; ".join(f"{name}: {words}" for name, words in answer.misfit.items())


def _netcdf(prior: Prior, draws: np.ndarray, answers: Sequence[Answer]) -> bytes:
    from scipy.io import netcdf_file

    class Kept(io.BytesIO):
        """scipy closes what it writes to."""

        def close(self) -> None:
            if not self.closed:
                self.kept = self.getvalue()
            super().close()

    buffer = Kept()
    file = netcdf_file(buffer, "w")
    file.createDimension("scan", len(draws))
    file.createDimension("draw", draws.shape[1])
    file.title = "Posterior draws of flowinv"
    file.scans = "\n".join(answer.label for answer in answers)
    file.misfit = "\n".join(_said(answer) or "none" for answer in answers)
    for index, (name, unit) in enumerate(zip(prior.names, prior.units, strict=True)):
        variable = file.createVariable(name, "f4", ("scan", "draw"))
        variable[:] = draws[..., index]
        variable.units = unit or "1"
    file.close()
    return buffer.kept


def as_data(
    prior: Prior, answers: Sequence[Answer], derived: Sequence[Derived] = ()
) -> list[dict[str, Any]]:
    """The tables of all answers as plain data for JSON.

    Args:
        prior: whose names and units they have.
        answers: one for each scan.
        derived: quantities beside the parameters.
    """
    found = []
    for answer in answers:
        numbers, rows = summary(answer.draws), {}
        for quantity in quantities(prior.names, prior.units, derived):
            d, factor = quantity.index, quantity.factor
            row: dict[str, Any] = {"unit": quantity.unit}
            for what in (*QUANTILES, "sd"):
                row[what] = factor * float(numbers[what][d])
            if answer.fit is not None and np.isfinite(answer.fit.values[d]):
                row["fit"] = factor * float(answer.fit.values[d])
                row["fit_error"] = factor * float(answer.fit.errors[d])
            rows[quantity.name] = row
        found.append(
            {"scan": answer.label, "parameters": rows, "misfit": dict(answer.misfit)}
        )
    return found
