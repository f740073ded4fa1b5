"""Argument checks of the public boundary: one line saying what, expected, got."""

import difflib
import math
from collections.abc import Iterable
from typing import NoReturn

__all__ = [
    "InputError",
    "check_at_least",
    "check_known",
    "check_last_axis",
    "check_positive",
    "check_shape",
    "fail",
]


class InputError(ValueError):
    """Bad input, said in one line: what was expected, what came, what to do."""


def fail(what: str, expected: object, got: object, remedy: str = "") -> NoReturn:
    """Raise the one-line error that every check of flowinv ends in.

    Args:
        what: name of the argument or file.
        expected: what it should have been.
        got: what it was.
        remedy: what to do, one short sentence; empty when the expectation says it.

    Raises:
        InputError: always.
    """
    tail = f" {remedy}" if remedy else ""
    raise InputError(f"Expected {what} {expected}; got {got}.{tail}")


def check_positive(what: str, value: float) -> None:
    """Raise unless `value` is a finite number above 0."""
    if not (math.isfinite(value) and value > 0):
        fail(what, "above 0", value)


def check_at_least(what: str, value: float, least: float, remedy: str = "") -> None:
    """Raise unless `value` is at least `least`."""
    if not value >= least:
        fail(what, f"of at least {least}", value, remedy)


def check_known(what: str, name: str, known: Iterable[str]) -> None:
    """Raise unless `name` is one of `known`; the message gives near names."""
    known = sorted(known)
    if name in known:
        return
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.4)
    remedy = f"Did you mean {' or '.join(map(repr, near))}?" if near else ""
    fail(what, f"to be one of {', '.join(known)}", repr(name), remedy)


def check_last_axis(what: str, shape: tuple[int, ...], size: int) -> None:
    """Raise unless the last axis of `shape` has `size` entries."""
    if not shape or shape[-1] != size:
        fail(what, f"with shape (..., {size})", tuple(shape))


def check_shape(what: str, shape: tuple[int, ...], expected: tuple[int, ...]) -> None:
    """Raise unless `shape` equals `expected`."""
    if tuple(shape) != tuple(expected):
        fail(what, f"with shape {tuple(expected)}", tuple(shape))
