"""The command line: parse, dispatch, exit codes 0, 2 (bad input), 130 and 143."""

import contextlib
import dataclasses
import functools
import io
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import tyro

from flowinv.checks import InputError, check_known, fail
from flowinv.commands import COMMANDS, run_command
from flowinv.experiment.config import RunConfig
from flowinv.methods.registry import method_class

__all__ = ["experiment", "main"]

# Every field a flag of its own name, whatever it is nested in.
_FLAT = (tyro.conf.AvoidSubcommands, tyro.conf.OmitArgPrefixes)
_TITLE = "usage: flowinv COMMAND [options]; flowinv COMMAND --help tells them"


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command and exit with its code."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    sys.exit(_guarded(_dispatch, arguments))


def _guarded(work: Callable[[list[str]], int], arguments: list[str]) -> int:
    """Exit code of `work`; what went wrong is one line on stderr."""
    try:
        return work(arguments)
    except InputError as error:
        print(f"flowinv: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        # A disk that is full or not writable, in the middle of anything.
        place = f" ({error.filename})" if error.filename else ""
        print(f"flowinv: {error.strerror or error}{place}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("flowinv: interrupted", file=sys.stderr)
        return 130


def _dispatch(arguments: list[str]) -> int:
    commands = {"run": run_command(RunConfig()), **COMMANDS}
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(f"{_TITLE}\n")
        for name, command in commands.items():
            print(f"  {name:9} {command.__doc__.splitlines()[0]}")
        return 0
    name, rest = arguments[0], arguments[1:]
    check_known("command", name, commands)
    command = commands[name]
    if name == "run":
        default, rest = _run_defaults(rest)
        command = run_command(default)
    return _called(command, f"flowinv {name}", rest)


def experiment(default: RunConfig | Callable[[str], RunConfig], word: str = "") -> None:
    """Run `default` as a script: every setting is a flag, as of `flowinv run`.

    Args:
        default: what the script does without arguments; or a function that gives it
            for the script's first argument, a word.
        word: the word that is taken where none is given.
    """

    def script(arguments: list[str]) -> int:
        settings, first = default, word
        if callable(default):
            if arguments and not arguments[0].startswith("-"):
                first, arguments = arguments[0], arguments[1:]
            settings = default(first)
        settings, rest = _run_defaults(arguments, settings)
        return _called(run_command(settings), Path(sys.argv[0]).name, rest)

    sys.exit(_guarded(script, sys.argv[1:]))


def _called(command: Callable[..., int], name: str, arguments: list[str]) -> int:
    """Parse by tyro; what it draws in a box about a bad flag becomes one line."""

    @functools.wraps(command)
    def later(*values: Any, **flags: Any) -> Callable[[], int]:
        return functools.partial(command, *values, **flags)

    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            parsed = tyro.cli(later, args=arguments, prog=name, config=_FLAT)
    except SystemExit as end:
        if not end.code:
            raise
        drawn = [line.strip("│ ") for line in said.getvalue().splitlines()[1:-1]]
        # Rules between paragraphs are drawn in ASCII where the terminal knows no other.
        rules = [set(line) <= {"─"} or set(line) == {"-"} for line in drawn]
        pairs = zip(drawn, rules, strict=True)
        text = " ".join("|" if is_rule else line for line, is_rule in pairs)
        parts = [part.strip() for part in text.split("|")]
        hidden = ("For full", "Argument help")
        kept = [part for part in parts if part and not part.startswith(hidden)]
        tail = f"Try: {name} --help"
        raise InputError(". ".join([*kept, tail])) from None
    return parsed()


def _run_defaults(
    arguments: list[str], default: RunConfig | None = None
) -> tuple[RunConfig, list[str]]:
    """Defaults of `run`, and the other arguments.

    `--config`'s file, or the saved config of a run to resume, or `default`; another
    `--method` than theirs brings its own settings and network.
    """
    file, rest = _take(arguments, "--config")
    if file is None and "--resume" in arguments:
        out, _ = _take(arguments, "--out")
        saved = Path(out or "") / "config.json"
        if out is None:
            fail("--resume", "together with --out", "no --out")
        if not saved.is_file():
            fail(f"a run to resume in {out}", "(config.json)", "none")
        file = str(saved)
    settings = default or RunConfig()
    if file is not None:
        settings = RunConfig.read(file)
    # One or several: both words are meant.
    rest = [re.sub(r"^--observation(?=$|=)", "--observations", word) for word in rest]
    method, rest = _take(rest, "--method")
    if method is not None and not isinstance(settings.method, method_class(method)):
        own = method_class(method)()
        settings = dataclasses.replace(settings, method=own, network=own.network)
    return settings, rest


def _take(arguments: list[str], flag: str) -> tuple[str | None, list[str]]:
    """Last value of `flag` ("--flag value" or "--flag=value"), and the rest."""
    value, rest, i = None, [], 0
    while i < len(arguments):
        argument = arguments[i]
        if argument.startswith(f"{flag}="):
            value = argument.split("=", 1)[1]
        elif argument == flag:
            i += 1
            if i == len(arguments):
                fail(flag, "with a value", "none")
            value = arguments[i]
        else:
            rest.append(argument)
        i += 1
    return value, rest
