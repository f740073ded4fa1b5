"""The command line: parse, dispatch, exit codes 0, 2 (bad input), 130 and 143."""

import dataclasses
import difflib
import functools
import inspect
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import tyro
import tyro._errors as tyro_errors  # the reasons as data; hence tyro < 1.1

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
    """Parse by tyro and call; what it would draw in a box becomes one line."""

    @functools.wraps(command)
    def later(*values: Any, **flags: Any) -> Callable[[], int]:
        return functools.partial(command, *values, **flags)

    def refuse(event: tyro_errors.ParseErrorEvent) -> None:
        raise InputError(f"{_reason(event, command)} Try: {name} --help") from None

    with tyro_errors.on_parse_error(refuse):
        parsed = tyro.cli(later, args=arguments, prog=name, config=_FLAT)
    return parsed()


def _reason(event: tyro_errors.ParseErrorEvent, command: Callable[..., int]) -> str:
    """Why tyro refuses the arguments, in a sentence."""
    match event:
        case tyro_errors.UnrecognizedArgs(tokens=[first, *_]):
            flag = first.split("=")[0]
            near = difflib.get_close_matches(flag, _flags(inspect.signature(command)))
            meant = f" Did you mean {' or '.join(near)}?" if near else ""
            return f"Expected a flag of this command; got {flag!r}.{meant}"
        case tyro_errors.MissingArgs(missing_arguments=missing):
            names = (argument.arg.display_name() for argument in missing)
            return f"Expected {' and '.join(names)}; got none."
        case tyro_errors.BadValue(argument=argument):
            return f"Expected {argument.display_name()} with a value; got none."
        case tyro_errors.InvalidChoice(argument=argument, value=value, choices=known):
            what = argument.display_name()
            return f"Expected {what} to be one of {', '.join(known)}; got {value!r}."
        case tyro_errors.InstantiationFailure(message=message, argument=argument):
            what = "other arguments"
            if argument is not None:
                what = f"{argument.display_name()} {argument.lowered.metavar}"
            return f"Expected {what}; {message.rstrip('.')}."
    return f"Expected other arguments ({type(event).__name__})."


def _flags(signature: inspect.Signature) -> list[str]:
    """Flags of a command: names of its parameters, and of all fields within them."""
    found, waiting = [], [(p.name, p.default) for p in signature.parameters.values()]
    while waiting:
        name, value = waiting.pop()
        if dataclasses.is_dataclass(value):
            fields = dataclasses.fields(value)
            waiting += [(f.name, getattr(value, f.name)) for f in fields]
            continue
        flag = name.replace("_", "-")
        found += [f"--{flag}", f"--no-{flag}"] if value is True else [f"--{flag}"]
    return found


def _run_defaults(
    arguments: list[str], default: RunConfig | None = None
) -> tuple[RunConfig, list[str]]:
    """Defaults of `run`, and the other arguments.

    `--config`'s file, or the saved config of a run to resume, or `default`; another
    `--method` than theirs brings its own settings, network and flow.
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
        changed = {"method": own, "network": own.network, "flow": ()}
        settings = dataclasses.replace(settings, **changed)
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
