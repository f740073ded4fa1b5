"""The command `infer`, and the models of a run that commands ask."""

import glob
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tyro

from flowinv.checks import check_at_least, check_known, fail
from flowinv.data.scan import ReadOptions
from flowinv.experiment.config import RunConfig
from flowinv.files import write_bytes, write_json
from flowinv.methods.registry import method_name
from flowinv.report.answer_files import SUFFIXES, Answer, as_bytes, as_data

__all__ = ["AS_WRITTEN", "best_model", "infer", "load_model"]

AS_WRITTEN = ReadOptions()


@dataclass(frozen=True)
class Draws:
    """What `infer` draws, and where it goes.

    Attributes:
        num_samples: posterior draws per scan.
        seed: seed of the draws.
        out: file for the draws: npz (samples [scan, n, D], names, units, scans and
            misfit), csv (a row for each draw) or nc (netCDF); "" writes none.
        json: file for the table: median, intervals, fit and misfit of each scan; ""
            writes none.
        overwrite: replace files that are there.
    """

    num_samples: int = 2_000
    seed: int = 0
    out: str = ""
    json: str = ""
    overwrite: bool = False

    def check(self) -> None:
        """Raise one line for the first field out of its range."""
        check_at_least("--num-samples", self.num_samples, 20)
        if not 0 <= self.seed < 2**32:
            fail("--seed", "from 0 to 2^32 - 1", self.seed)
        self.target("--out", self.out, SUFFIXES)
        self.target("--json", self.json, (".json",))

    def target(self, flag: str, text: str, suffixes: Sequence[str]) -> Path | None:
        """The file that something goes to, checked; None for no file."""
        if not text:
            return None
        target = Path(text).expanduser()
        if target.is_dir() or not target.parent.is_dir():
            fail(flag, "to name a file in an existing folder", repr(text))
        if target.suffix not in suffixes:
            fail(flag, f"to end in {' or '.join(suffixes)}", repr(text))
        if target.exists() and not self.overwrite:
            fail(flag, "to name a new file", repr(text), "Add --overwrite.")
        return target


def infer(
    run: tyro.conf.Positional[str],
    *,
    x: tuple[str, ...],
    model: str = "",
    draws: Draws = Draws(),
    reading: ReadOptions = AS_WRITTEN,
    strict: bool = False,
) -> int:
    """Posterior of measured scans from a trained run.

    Args:
        run: folder of a run, or of a model.
        x: scan files, such as scans/*.csv: csv, npy, npz (array x or observation) or
            h5, each with one scan or many; for a model of `--like` as instruments
            write them.
        model: model of the run to ask; "" takes the best. In rounds every observation
            has its own, such as spline/observation_1.
        draws: how many draws, and where they go.
        reading: what files do not say themselves, for a model of `--like`.
        strict: exit with 3 where a scan is none that the model may speak of.
    """
    draws.check()
    folder = Path(run).expanduser()
    if not folder.is_dir():
        fail("run", "to be a folder", repr(run))
    from flowinv.experiment.problem import task_of

    task = task_of(folder)
    posterior = load_model(folder, model, task)
    _warn_of_rounds(folder)
    labels, scans = _scans(task, posterior, x, reading)
    prior, derived = posterior.prior, () if task is None else task.derived
    answers = _answers(draws, task, posterior, labels, scans)
    off = _together(draws, task, scans, answers)
    from flowinv.report.answer_text import answer_table

    for answer in answers:
        for words in answer.misfit.values():
            print(f"flowinv: {answer.label}: {words}", file=sys.stderr)
    if off:
        print(f"flowinv: all {len(answers)} scans: {off}", file=sys.stderr)
    for number, answer in enumerate(answers):
        if len(answers) > 1:
            print(f"{chr(10) * (number > 0)}{answer.label}")
        print(answer_table(prior, answer.draws, answer.fit, derived))
    if (target := draws.target("--out", draws.out, SUFFIXES)) is not None:
        write_bytes(target, as_bytes(target.suffix, prior, answers))
        print(f"\ndraws: {target}")
    if (target := draws.target("--json", draws.json, (".json",))) is not None:
        write_json(target, as_data(prior, answers, derived))
        print(f"table: {target}")
    bad = bool(off) or any(answer.misfit for answer in answers)
    return 3 if strict and bad else 0


def _together(
    draws: Draws, task: Any, scans: np.ndarray, answers: Sequence[Answer]
) -> str:
    """What is off with many scans together; "" for nothing."""
    if task is None:
        return ""
    import jax

    from flowinv.experiment.guards import guard_together

    every = np.stack([answer.draws for answer in answers])
    found = guard_together(jax.random.key(draws.seed), task, scans, every)
    return "" if found is None else found.words


def _scans(
    task: Any, posterior: Any, files: Sequence[str], reading: ReadOptions
) -> tuple[list[str], np.ndarray]:
    """Labels and x of all scans of all files."""
    from flowinv.data.scans import read_scans
    from flowinv.experiment.observed import scans_of

    labels, found = [], []
    for file in (one for text in files for one in _files(text)):
        name = Path(file).name
        if task is None:
            counts = posterior.input_scaling == "root"
            own = read_scans(file, posterior.x_shape, counts=counts)
        else:
            own, notes = scans_of(task, file, reading)
            for note in notes:
                print(f"flowinv: {name}: {note}", file=sys.stderr)
        many = len(own) > 1
        labels += [f"{name} scan {i + 1}" if many else name for i in range(len(own))]
        found.append(own)
    if not found:
        fail("--x", "with a file", "none")
    return labels, np.concatenate(found)


def _files(text: str) -> list[str]:
    """Files that a pattern such as "scans/*.csv" names; else the text itself."""
    name = Path(text).expanduser()
    if name.exists() or not any(sign in text for sign in "*?["):
        return [text]
    found = sorted(glob.glob(str(name)))
    if not found:
        fail("--x", "to name a file at least", f"none like {text!r}")
    return found


def _answers(
    draws: Draws, task: Any, posterior: Any, labels: Sequence[str], scans: np.ndarray
) -> list[Answer]:
    """Draws, fits and what guards say, scan by scan."""
    import jax

    key = jax.random.key(draws.seed)
    theta = np.asarray(posterior.sample(key, scans, draws.num_samples))
    misfits: list[Any] = [[] for _ in scans]
    fits: list[Any] = [None for _ in scans]
    if task is not None:
        from flowinv.experiment.guards import guard

        every = [task.of_scan(scan) for scan in scans]
        fits = [own.classical and own.classical(x) for own, x in every]
        misfits = guard(key, task, posterior, scans, theta, fits)
    rows = zip(labels, theta, fits, misfits, strict=True)
    return [
        Answer(label, own, fit, {misfit.guard: misfit.words for misfit in off})
        for label, own, fit, off in rows
    ]


def _warn_of_rounds(folder: Path) -> None:
    """Say on stderr that a network trained in rounds answers one scan only."""
    saved = folder / "config.json"
    method = RunConfig.read(saved).method if saved.is_file() else None
    if method is not None and not method.amortised:
        print(
            "flowinv: this model was trained in rounds for one observation; for another"
            f" scan run its own rounds: flowinv run --method {method_name(method)} "
            "--x FILE",
            file=sys.stderr,
        )


def load_model(folder: Path, model: str, task: Any) -> Any:
    """Load the model that is named, or the best one of a run or model folder."""
    from flowinv.experiment.problem import read_model

    if model:
        found = _models(folder)
        check_known(f"model in {folder}", model, found)
        return read_model(found[model], task)
    if (folder / "model.json").is_file():
        return read_model(folder, task)
    if not (folder / "model").is_dir():
        fail(f"a model in {folder}", "(model/model.json)", "none", "Finish the run.")
    return read_model(folder / "model", task)


def _models(folder: Path) -> dict[str, Path]:
    """Folders of a run's models by name; an amortised one's name is its flow's."""
    found = {}
    for file in folder.glob("*/*/model.json"):
        flow, own = file.parent.parent.name, file.parent.name
        found[flow if own == "model" else f"{flow}/{own}"] = file.parent
    return found


def best_model(folder: Path) -> str:
    """Name of the model that `_load` takes where none is named."""
    metrics = folder / "metrics.json"
    if not metrics.is_file():
        return "model"
    best, own = json.loads(metrics.read_text())["best_flow"], _models(folder)
    if best in own:
        return best
    # In rounds the first observation's, as the run has kept it.
    return next((name for name in own if name.startswith(f"{best}/")), best)
