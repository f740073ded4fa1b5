"""What each command does; heavy imports happen inside, so that --help is quick."""

import json
import logging
import platform
import sys
import time
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import tyro

from flowinv.benchmark.cells import BenchmarkConfig, BudgetConfig
from flowinv.checks import check_known, fail
from flowinv.compiling import cache_folder
from flowinv.data.scan import ReadOptions
from flowinv.experiment.config import DiagnoseConfig, RunConfig
from flowinv.files import write_bytes
from flowinv.infer import AS_WRITTEN, best_model, infer, load_model
from flowinv.methods.registry import METHODS
from flowinv.models.registry import EMBEDDINGS, FLOWS, SUMMARIES

if TYPE_CHECKING:
    from flowinv.signals import StopRequest

__all__ = ["COMMANDS", "run_command"]

T = TypeVar("T")

# A signal is answered within two seconds, whatever is being computed.
STOP_SECONDS = 1.5
BENCHMARK, BUDGET = BenchmarkConfig(), BudgetConfig()
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

        `--method NAME` (see `flowinv list`) chooses the method, whose settings are
        flags too.
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

    folder = config.folder()
    again = f"go on with: flowinv run --out {folder} --resume"
    try:
        metrics, code = _until_stopped(
            again,
            lambda stop: run(config, resume=resume, quiet=quiet, should_stop=stop),
        )
    except OSError as error:
        reason = f"{error.strerror or error} ({folder})"
        print(f"flowinv: {reason}: mend it, then {again}", file=sys.stderr)
        return 1
    if metrics is None:
        return code
    for name, _, _ in config.models():
        if words := _one_line(name, metrics):
            print(f"{name}: {words}")
    bad = _verdicts(metrics)
    print(f"metrics: {folder / 'metrics.json'}\nreport: {folder / 'report.html'}")
    return 3 if strict and bad else 0


def _until_stopped(
    again: str, work: "Callable[[StopRequest], T]"
) -> tuple[T | None, int]:
    """Return what `work` gives and 0; after a signal None and the exit code.

    Args:
        again: how to go on, said when a signal came.
        work: is given the question whether one came.
    """
    from flowinv.signals import StopRequest
    from flowinv.training.fit import Interrupted

    # Libraries below log what these commands say in one line.
    logging.getLogger("absl").setLevel(logging.CRITICAL)
    words = f"flowinv: stopped; {again}"
    with StopRequest(words, STOP_SECONDS) as stop:
        try:
            return work(stop), 0
        except Interrupted:
            print(words, file=sys.stderr)
            return None, stop.exit_code


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


_ASKED = DiagnoseConfig()


def diagnose(
    run: tyro.conf.Positional[str],
    *,
    model: str = "",
    ask: DiagnoseConfig = _ASKED,
    reading: ReadOptions = AS_WRITTEN,
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
    from flowinv.experiment.diagnose import asked_task, diagnose_run
    from flowinv.experiment.watch import Watch
    from flowinv.models.widened import check_widenable

    posterior = load_model(folder, model, asked_task(folder, ask))
    name = model or best_model(folder)
    if ask.widened:
        check_widenable(posterior)

    def work(stop: "StopRequest") -> Any:
        watch = Watch(quiet, stop)
        return diagnose_run(folder, name, posterior, ask, watch, reading)

    again = f"the same command goes on: flowinv diagnose {folder}"
    content, code = _until_stopped(again, work)
    if content is None:
        return code
    verdicts = content.models[name].results.verdicts
    for verdict in verdicts:
        print(f"{verdict.parameter}: {verdict.status}. {verdict.words}")
    print(f"numbers: {folder / 'diagnosis.json'}\npage: {folder / 'diagnosis.html'}")
    bad = [v.parameter for v in verdicts if v.status == "not trusted"]
    if bad and strict:
        print(f"flowinv: not trusted: {', '.join(bad)}", file=sys.stderr)
    return 3 if strict and bad else 0


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


def benchmark(settings: BenchmarkConfig = BENCHMARK, *, quiet: bool = False) -> int:
    """Compare methods on the tasks of the standard benchmark; goes on where it was.

    Rows are appended to OUT/results.csv as they are known, and OUT/index.html shows
    them. The same command again fills what is missing.

    Args:
        settings: which cells.
        quiet: no bar.
    """
    from flowinv.benchmark.page import write_page
    from flowinv.benchmark.runner import RESULTS, run_benchmark

    folder = Path(settings.out).expanduser()
    filled, code = _until_stopped(
        "go on with the same command",
        lambda stop: run_benchmark(settings, quiet=quiet, should_stop=stop),
    )
    if filled is None:
        return code
    write_page(filled, folder / "index.html", settings.published)
    print(f"results: {folder / RESULTS}\npage: {folder / 'index.html'}")
    return 0


def budget(settings: BudgetConfig = BUDGET, *, quiet: bool = False) -> int:
    """Say how many simulations are enough: quality against their number.

    Networks of every budget are asked about the same held-out simulations; the trend
    of their log density says what is left, and what twice as many would buy. The same
    command again goes on, and with more budgets adds to what is there.

    Args:
        settings: task and budgets.
        quiet: no bar.
    """
    from flowinv.benchmark.budget import CSV, run_budget

    found, code = _until_stopped(
        "go on with the same command",
        lambda stop: run_budget(settings, quiet=quiet, should_stop=stop),
    )
    if found is None:
        return code
    measured, _, said = found
    print("simulations  log density  90 % coverage off by  width (prior sds)  C2ST")
    for own in measured:
        score = "" if own.c2st != own.c2st else f"{own.c2st:.3f}"
        print(
            f"{own.budget:11,}  {-own.loss:11.3f}  {100 * own.coverage_error:18.1f} %  "
            f"{own.width:17.3f}  {score}"
        )
    print(f"{said}\ntable: {Path(settings.out).expanduser() / CSV}")
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
    "benchmark": benchmark,
    "budget": budget,
    "list": list_names,
    "doctor": doctor,
}
"""Every command but `run`, whose defaults depend on its arguments."""
