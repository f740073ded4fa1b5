"""The command line: parse, dispatch, exit codes 0, 2 (bad input), 130 and 143."""

import contextlib
import io
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import tyro

from flowinv import commands
from flowinv.checks import InputError, check_known, fail
from flowinv.config import RunConfig

__all__ = ["main"]

_USAGE = """usage: flowinv COMMAND [options]; flowinv COMMAND --help tells them

  run       a whole experiment: simulate, train, measure, report
  infer     posterior of measured scans from a trained run
  report    write report.html of a finished run again
  list      tasks, flows, embeddings and methods
  doctor    devices, versions, caches, and one compiled program"""


@dataclass(frozen=True)
class Run:
    """Run a whole experiment: simulate, train, measure, report.

    `--config FILE` takes the settings of a saved config.json; flags win over it.

    Attributes:
        settings: what to do.
        resume: go on with an earlier run in the same --out.
        quiet: no progress bars.
    """

    settings: tyro.conf.OmitArgPrefixes[RunConfig] = field(default_factory=RunConfig)
    resume: bool = False
    quiet: bool = False


@dataclass(frozen=True)
class Infer:
    """Posterior of measured scans from a trained run.

    Attributes:
        run: folder of a run, or of a model.
        x: scan file: csv, npy, npz (array x or observation) or h5; one scan or many.
        num_samples: posterior draws per scan.
        out: npz for the draws: samples [scan, n, D], names and units; "" writes none.
        model: flow of the run to ask; "" takes the best.
        seed: seed of the draws.
    """

    run: tyro.conf.Positional[str]
    x: str
    num_samples: int = 2_000
    out: str = ""
    model: str = ""
    seed: int = 0


@dataclass(frozen=True)
class Report:
    """Write report.html of a finished run again.

    Attributes:
        run: folder of the run.
    """

    run: tyro.conf.Positional[str]


@dataclass(frozen=True)
class List:
    """List tasks, flows, embeddings and methods."""


@dataclass(frozen=True)
class Doctor:
    """Show devices, versions and caches, and try one compiled program."""


_ACTIONS: dict[type, Callable[..., int]] = {
    Run: lambda c: commands.run_experiment(c.settings, c.resume, c.quiet),
    Infer: lambda c: commands.infer(c.run, c.x, c.num_samples, c.out, c.model, c.seed),
    Report: lambda c: commands.report(c.run),
    List: lambda c: commands.list_names(),
    Doctor: lambda c: commands.doctor(),
}
_COMMANDS = {kind.__name__.lower(): kind for kind in _ACTIONS}


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command and exit with its code."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    try:
        code = _dispatch(arguments)
    except InputError as error:
        print(f"flowinv: {error}", file=sys.stderr)
        code = 2
    except OSError as error:
        # A disk that is full or not writable, in the middle of anything.
        place = f" ({error.filename})" if error.filename else ""
        print(f"flowinv: {error.strerror or error}{place}", file=sys.stderr)
        code = 1
    except KeyboardInterrupt:
        print("flowinv: interrupted", file=sys.stderr)
        code = 130
    sys.exit(code)


def _dispatch(arguments: list[str]) -> int:
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(_USAGE)
        return 0
    name, rest = arguments[0], arguments[1:]
    check_known("command", name, _COMMANDS)
    kind, default = _COMMANDS[name], None
    if kind is Run:
        default, rest = _run_defaults(rest)
    return _ACTIONS[kind](_parse(kind, name, rest, default))


def _parse(kind: type, name: str, arguments: list[str], default: Any) -> Any:  # noqa: ANN401
    """Parse by tyro; what it draws in a box about a bad flag becomes one line."""
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            return tyro.cli(
                kind, args=arguments, prog=f"flowinv {name}", default=default
            )
    except SystemExit as end:
        if not end.code:
            raise
        drawn = [line.strip("│ ") for line in said.getvalue().splitlines()[1:-1]]
        text = " ".join("|" if line.startswith("─") else line for line in drawn)
        parts = [part.strip() for part in text.split("|")]
        kept = [p for p in parts if not p.startswith(("For full", "Argument help"))]
        tail = f"Try: flowinv {name} --help"
        raise InputError(". ".join([*kept, tail])) from None


def _run_defaults(arguments: list[str]) -> tuple[Run, list[str]]:
    """Defaults of `run`: --config's file, or the saved config of a run to resume."""
    file, rest = _take(arguments, "--config")
    if file is None and "--resume" in arguments:
        out, _ = _take(arguments, "--out")
        saved = Path(out or "") / "config.json"
        if out is None:
            fail("--resume", "together with --out", "no --out")
        if not saved.is_file():
            fail(f"a run to resume in {out}", "(config.json)", "none")
        file = str(saved)
    settings = RunConfig.read(file) if file is not None else RunConfig()
    return Run(settings), rest


def _take(arguments: list[str], flag: str) -> tuple[str | None, list[str]]:
    """Value of `flag` (as "--flag value" or "--flag=value") and the other arguments."""
    for i, argument in enumerate(arguments):
        if argument.startswith(f"{flag}="):
            value = argument.split("=", 1)[1]
            return value, arguments[:i] + arguments[i + 1 :]
        if argument == flag:
            if i + 1 == len(arguments):
                fail(flag, "with a value", "none")
            return arguments[i + 1], arguments[:i] + arguments[i + 2 :]
    return None, arguments
