"""Argument checks of the public boundary: one line saying what, expected, got."""

import difflib
import math
import re
from collections.abc import Iterable
from typing import Any, NoReturn

import jax
import numpy as np
from jax import Array

__all__ = [
    "InputError",
    "check_at_least",
    "check_known",
    "check_last_axis",
    "check_positive",
    "check_shape",
    "fail",
    "finite_float32",
    "named",
    "one_key",
    "one_line",
    "whole",
]


class InputError(ValueError):
    """Bad input, said in one line: what was expected, what came, what to do."""


def fail(
    what: str,
    expected: object,
    got: object,
    remedy: str = "",
    kind: type[InputError] = InputError,
) -> NoReturn:
    """Raise the one-line error that every check of flowinv ends in.

    Args:
        what: name of the argument or file.
        expected: what it should have been.
        got: what it was.
        remedy: what to do, one short sentence; empty when the expectation says it.
        kind: which error, for callers that tell some apart.

    Raises:
        InputError: always.
    """
    tail = f" {remedy}" if remedy else ""
    raise kind(f"Expected {what} {expected}; got {got}.{tail}")


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
    # A typing error has one near name; others are far behind it.
    if near and difflib.SequenceMatcher(None, near[0], name).ratio() > 0.9:
        near = near[:1]
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


def named(value: Any) -> str:
    """What a value is, in words that are the same in every process."""
    if isinstance(value, type):
        return f"the class {value.__name__}"
    if callable(value) and hasattr(value, "__qualname__"):
        return f"the function {value.__qualname__}"
    if value is None or isinstance(value, (bool, int, float, str)):
        return repr(value)
    kind = type(value).__name__
    return f"{'an' if kind[0] in 'AEIOUaeiou' else 'a'} {kind}"


def one_line(error: BaseException) -> str:
    """Kind and first words of an error, on one line."""
    words = re.sub(r" ?\(https?:[^)]*\)", "", " ".join(str(error).split()))
    return f"{type(error).__name__}: {words}"[:300].removesuffix(": ")


def whole(what: str, value: Any, least: int = 1) -> int:
    """Return a whole number of at least `least`; 1e3 is one, 64.5 and True are not."""
    if isinstance(value, (bool, np.bool_)) or not isinstance(
        value, (int, float, np.integer, np.floating)
    ):
        fail(what, "to be a whole number", f"{value!r} ({type(value).__name__})")
    if not (math.isfinite(value) and value == int(value)):
        fail(what, "to be a whole number", value)
    check_at_least(what, value, least)
    return int(value)


def one_key(key: Any, what: str = "key") -> Array:
    """Return one typed key; keys of `jax.random.PRNGKey` are taken.

    Raises:
        ValueError: a seed, several keys, or anything else.
    """
    remedy = "Give jax.random.key(seed)."
    if not isinstance(key, jax.Array):
        fail(what, "to be a key of jax.random", named(key), remedy)
    if not jax.dtypes.issubdtype(key.dtype, jax.dtypes.prng_key):
        if key.dtype != np.uint32 or key.shape != (2,):
            got = f"an array of {key.dtype} with shape {key.shape}"
            fail(what, "to be a key of jax.random", got, remedy)
        key = jax.random.wrap_key_data(key)
    if key.ndim:
        fail(what, "to be one key", f"{key.size} of them", "Give one of them.")
    return key


def finite_float32(what: str, value: Any) -> Any:
    """Return numbers as float32; traced arrays and jax arrays stay where they are.

    Raises:
        ValueError: no real numbers, or some that float32 cannot hold.
    """
    if not isinstance(value, jax.Array):
        if isinstance(value, np.ma.MaskedArray):
            fail(what, "without masked entries", "a masked array", "Fill or drop them.")
        try:
            value = np.asarray(value)
        except ValueError as error:  # rows of different lengths
            fail(what, "to be an array of numbers", one_line(error))
    if value.dtype.kind not in "biuf" and value.dtype.name != "bfloat16":
        fail(what, "to be real numbers", f"dtype {value.dtype}")
    if value.dtype == np.float32:
        return value
    if isinstance(value, jax.core.Tracer):
        return value.astype(np.float32)
    limit = float(np.finfo(np.float32).max)
    too_large = np.isfinite(value) & (np.abs(np.asarray(value, np.float64)) > limit)
    if count := int(too_large.sum()):
        remedy = "Give it in other units."
        fail(what, f"within float32's range ({limit:.1e})", f"{count} beyond", remedy)
    return value.astype(np.float32)
