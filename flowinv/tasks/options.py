"""Options of a task in a text: `name:option=value,option=value`."""

import math
from collections.abc import Callable, Mapping

from flowinv.checks import check_known, fail

__all__ = ["boolean", "choice", "integer", "number", "parse_options", "split_spec"]

Parser = Callable[[str, str], object]

BOOLEANS = {"true": True, "yes": True, "false": False, "no": False}


def boolean(name: str, text: str) -> bool:
    """Read true or false."""
    if text.lower() not in BOOLEANS:
        fail(f"option {name}", "to be true or false", repr(text))
    return BOOLEANS[text.lower()]


def integer(name: str, text: str) -> int:
    """Read a whole number."""
    try:
        return int(text)
    except ValueError:
        return fail(f"option {name}", "to be a whole number", repr(text))


def number(name: str, text: str) -> float:
    """Read a finite number."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        fail(f"option {name}", "to be a finite number", repr(text))
    return value


def choice(*known: str) -> Parser:
    """Return a reader of one of the `known` words."""

    def read(name: str, text: str) -> str:
        check_known(f"option {name}", text, known)
        return text

    return read


def split_spec(spec: str) -> tuple[str, dict[str, str]]:
    """Cut a spec into the task's name and its options as texts.

    Raises:
        ValueError: for an option without a value, or given twice.
    """
    name, _, rest = spec.strip().partition(":")
    options: dict[str, str] = {}
    for part in filter(None, (part.strip() for part in rest.split(","))):
        option, equals, value = (piece.strip() for piece in part.partition("="))
        if not (equals and option and value):
            fail("task option", "as option=value", repr(part))
        if option in options:
            fail(f"option {option}", "once", "twice")
        options[option] = value
    return name.strip(), options


def parse_options(
    task: str, texts: Mapping[str, str], parsers: Mapping[str, Parser]
) -> dict[str, object]:
    """Read each option by its parser.

    Raises:
        ValueError: for an unknown option (with near names) or a bad value.
    """
    for option in texts:
        check_known(f"option of task {task}", option, parsers)
    return {option: parsers[option](option, text) for option, text in texts.items()}
