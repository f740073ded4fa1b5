"""What each command does; heavy imports happen inside, so that --help is quick."""

import glob
import json
import logging
import platform
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import tyro

from flowinv.checks import check_at_least, check_known, fail
from flowinv.compiling import cache_folder
from flowinv.data.scan import ReadOptions
from flowinv.experiment.config import DiagnoseConfig, RunConfig
from flowinv.files import write_bytes, write_json
from flowinv.methods.registry import METHODS
from flowinv.models.registry import EMBEDDINGS, FLOWS, SUMMARIES
from flowinv.report.answer_files import SUFFIXES, Answer, as_bytes, as_data

__all__ = ["COMMANDS", "run_command"]

# A signal is answered within two seconds, whatever is being computed.
STOP_SECONDS = 1.5
PACKAGES = ("flowinv", "jax", "jaxlib", "flax", "optax", "distrax", "numpyro", "chex")


def run_command(default: RunConfig) -> Callable[..., int]:
    """Return the command `run` with the settings of `default` as its defaults."""

    def run(
        settings: RunConfig = default,
        *,
        resume: bool = False,
        quiet: bool = False,
        strict: bool = False,
    ) -> int:
        """Run a whole experiment: simulate, train, measure, report.

        `--method npe|tsnpe|apt` chooses the method, whose settings are flags too.
        `--config FILE` takes the settings of a saved config.json; flags win over it.

        Args:
            settings: what to do.
            resume: go on with an earlier run in the same --out.
            quiet: no progress bars.
            strict: exit with 3 where a verdict of the best model is "not trusted".
        """
        return run_experiment(settings, resume, quiet, strict)

    return run


def run_experiment(
    config: RunConfig, resume: bool, quiet: bool, strict: bool = False
) -> int:
    """Run an experiment; a signal leaves a resumable run."""
    from flowinv.experiment.run import run
    from flowinv.signals import StopRequest
    from flowinv.training.fit import Interrupted

    # Libraries below log what this command says in one line.
    logging.getLogger("absl").setLevel(logging.CRITICAL)
    folder = config.folder()
    words = f"flowinv: stopped; go on with: flowinv run --out {folder} --resume"
    with StopRequest(words, STOP_SECONDS) as stop:
        try:
            metrics = run(config, resume=resume, quiet=quiet, should_stop=stop)
        except Interrupted:
            print(words, file=sys.stderr)
            return stop.exit_code
        except OSError as error:
            reason = f"{error.strerror or error} ({folder})"
            again = f"then go on with: flowinv run --out {folder} --resume"
            print(f"flowinv: {reason}: mend it, {again}", file=sys.stderr)
            return 1
    for name, _, _ in config.models():
        if words := _one_line(name, metrics):
            print(f"{name}: {words}")
    bad = _verdicts(metrics)
    print(f"metrics: {folder / 'metrics.json'}\nreport: {folder / 'report.html'}")
    return 3 if strict and bad else 0


def _verdicts(metrics: dict[str, Any]) -> bool:
    """Print what the best model's verdicts are; True where one is "not trusted"."""
    start = f"{metrics['best_flow']}/verdict/"
    by_status: dict[str, list[str]] = {}
    for key, value in metrics.items():
        if key.startswith(start):
            by_status.setdefault(value, []).append(key.removeprefix(start))
    for status, names in by_status.items():
        print(f"{status}: {', '.join(names)}")
    return "not trusted" in by_status


def _one_line(name: str, metrics: dict[str, Any]) -> str:
    """The few numbers that sum a flow up."""
    words = []
    for what in ("c2st_mlp", "c2st_forest", "prdc_density", "prdc_coverage"):
        if (key := f"{name}/mean/{what}") in metrics:
            words.append(f"{what} {metrics[key]:.3f}")
    p_values = [
        v for k, v in metrics.items() if k.startswith(f"{name}/sbc_chi2_p_holm")
    ]
    if p_values:
        words.append(f"smallest SBC p (Holm) {min(p_values):.3g}")
    return ", ".join(words)


_AS_WRITTEN, _ASKED = ReadOptions(), DiagnoseConfig()


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
    reading: ReadOptions = _AS_WRITTEN,
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
    posterior = _load(folder, model)
    _warn_of_rounds(folder)
    labels, scans = _scans(task, posterior, x, reading)
    prior, derived = posterior.estimator.prior, () if task is None else task.derived
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
    from flowinv.experiment.measure import scans_of

    labels, found = [], []
    for file in (one for text in files for one in _files(text)):
        name = Path(file).name
        if task is None:
            counts = posterior.estimator.input_scaling == "root"
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
    if saved.is_file() and not RunConfig.read(saved).method.amortised:
        print(
            "flowinv: this model was trained in rounds for one observation; for "
            "another scan run its own rounds: flowinv run --method tsnpe --x FILE",
            file=sys.stderr,
        )


def _load(folder: Path, model: str) -> Any:
    from flowinv.models.files import load

    if model:
        found = _models(folder)
        check_known(f"model in {folder}", model, found)
        return load(found[model])
    if (folder / "model.json").is_file():
        return load(folder)
    if not (folder / "model").is_dir():
        fail(f"a model in {folder}", "(model/model.json)", "none", "Finish the run.")
    return load(folder / "model")


def _models(folder: Path) -> dict[str, Path]:
    """Folders of a run's models by name; an amortised one's name is its flow's."""
    found = {}
    for file in folder.glob("*/*/model.json"):
        flow, own = file.parent.parent.name, file.parent.name
        found[flow if own == "model" else f"{flow}/{own}"] = file.parent
    return found


def diagnose(
    run: tyro.conf.Positional[str],
    *,
    model: str = "",
    ask: DiagnoseConfig = _ASKED,
    reading: ReadOptions = _AS_WRITTEN,
    strict: bool = False,
    quiet: bool = False,
) -> int:
    """Say how far a run may be trusted, from fresh simulations.

    Writes diagnosis.json and diagnosis.html in the run's folder. Called again it goes
    on where it was broken off.

    Args:
        run: folder of a run, or of a model.
        model: model of the run to ask, as in `infer`; "" takes the best.
        ask: what is asked.
        reading: what scan files do not say themselves, for a model of `--like`.
        strict: exit with 3 where a verdict is "not trusted".
        quiet: no progress bars.
    """
    ask.check()
    folder = Path(run).expanduser()
    if not folder.is_dir():
        fail("run", "to be a folder", repr(run))
    from flowinv.experiment.diagnose import diagnose_run
    from flowinv.experiment.watch import Watch
    from flowinv.signals import StopRequest
    from flowinv.training.fit import Interrupted

    posterior, name = _load(folder, model), model or _best(folder)
    words = f"flowinv: stopped; the same command goes on: flowinv diagnose {folder}"
    with StopRequest(words, STOP_SECONDS) as stop:
        try:
            watch = Watch(quiet, stop)
            content = diagnose_run(folder, name, posterior, ask, watch, reading)
        except Interrupted:
            print(words, file=sys.stderr)
            return stop.exit_code
    verdicts = content.models[name].results.verdicts
    for verdict in verdicts:
        print(f"{verdict.parameter}: {verdict.status}. {verdict.words}")
    print(f"numbers: {folder / 'diagnosis.json'}\npage: {folder / 'diagnosis.html'}")
    bad = [v.parameter for v in verdicts if v.status == "not trusted"]
    if bad and strict:
        print(f"flowinv: not trusted: {', '.join(bad)}", file=sys.stderr)
    return 3 if strict and bad else 0


def _best(folder: Path) -> str:
    """Name of the model that `_load` takes where none is named."""
    metrics = folder / "metrics.json"
    if not metrics.is_file():
        return "model"
    best, own = json.loads(metrics.read_text())["best_flow"], _models(folder)
    if best in own:
        return best
    # In rounds the first observation's, as the run has kept it.
    return next((name for name in own if name.startswith(f"{best}/")), best)


def report(
    run: tyro.conf.Positional[str], *, figures: str = "", suffix: str = "svg"
) -> int:
    """Write report.html of a finished run again, and its figures as files.

    Args:
        run: folder of the run.
        figures: folder for the figures of the page; "" writes none.
        suffix: of the figures: svg, pdf or png.
    """
    from flowinv.report.content import load_content
    from flowinv.report.embed import figures_kept
    from flowinv.report.page import render_report

    check_known("--suffix", suffix, ("svg", "pdf", "png"))
    folder, target = Path(run).expanduser(), Path(figures).expanduser()
    if not folder.is_dir():
        fail("run", "to be a folder", repr(run))
    if figures and target.exists() and not target.is_dir():
        fail("--figures", "to be a folder", repr(figures))
    content = load_content(folder / "report.npz")
    with figures_kept() as kept:
        page = render_report(content)
    write_bytes(folder / "report.html", page.encode())
    print(f"report: {folder / 'report.html'}")
    if figures:
        target.mkdir(parents=True, exist_ok=True)
        for name, figure in kept.items():
            figure.savefig(target / f"{name}.{suffix}", dpi=200)
        print(f"figures: {len(kept)} in {target}")
    return 0


def list_names() -> int:
    """List tasks, flows, embeddings and methods."""
    from flowinv.tasks.registry import task, task_names, task_options

    print("tasks (options after a colon, as beam_profile:prior=slides,points=100)")
    for name in task_names():
        print(f"  {name:14} {task(name).description}")
        print(f"  {'':14} options: {', '.join(task_options(name))}")
    for title, names in (
        ("methods", METHODS),
        ("flows", FLOWS),
        ("embeddings", EMBEDDINGS),
        ("summaries", SUMMARIES),
    ):
        print(f"{title}\n  {', '.join(names)}")
    return 0


def doctor() -> int:
    """Show devices, versions and caches, and time one compiled program."""
    import jax
    import jax.numpy as jnp

    print(f"python {platform.python_version()}, {platform.platform()}")
    for package in PACKAGES:
        try:
            print(f"{package} {version(package)}")
        except PackageNotFoundError:
            print(f"{package} not installed")
    for device in jax.devices():
        print(f"device {device.id}: {device.platform} ({device.device_kind})")
    print(f"compilation cache: {cache_folder() or 'off'}")
    size = 1024
    product = jax.jit(lambda a: a @ a)
    square = jnp.ones((size, size))
    product(square).block_until_ready()
    began = time.perf_counter()
    for _ in range(10):
        product(square).block_until_ready()
    rate = 10 * 2 * size**3 / (time.perf_counter() - began) / 1e9
    print(f"matrix product {size} x {size}, float32: {rate:.0f} GFLOP/s")
    print(json.dumps({"x64": jax.config.jax_enable_x64}))
    return 0


COMMANDS: dict[str, Callable[..., int]] = {
    "infer": infer,
    "diagnose": diagnose,
    "report": report,
    "list": list_names,
    "doctor": doctor,
}
"""Every command but `run`, whose defaults depend on its arguments."""
