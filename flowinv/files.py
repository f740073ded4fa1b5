"""Files: one way to write them whole, and one between dataclasses and plain data.

A file is written beside its target and renamed: a reader finds the old one, the new one
or none, never half of one. Frozen dataclasses become JSON and come back with names and
types checked, so that a mistyped file answers in one line.
"""

import contextlib
import dataclasses
import fcntl
import io
import json
import os
import platform
import types
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import (
    Any,
    NoReturn,
    Self,
    TypeVar,
    Union,
    get_args,
    get_origin,
    get_type_hints,
)

import numpy as np

from flowinv.checks import check_known, fail, named

__all__ = [
    "LOCK",
    "Lock",
    "from_plain",
    "read_arrays",
    "read_json",
    "settled",
    "to_plain",
    "write_arrays",
    "write_bytes",
    "write_json",
]

Kind = TypeVar("Kind")

LOCK = ".lock"


class Lock:
    """One process at a time in a folder; a dead one's lock is free at once.

    The system holds the lock for as long as the process lives and the object is not
    released; where a file system knows no locks there is none.
    """

    def __init__(self, folder: str | Path) -> None:
        """Take the lock of `folder`, which exists.

        Raises:
            ValueError: another process has it; the line names it.
        """
        self._path = Path(folder) / LOCK
        while True:
            self._file = self._path.open("a+")
            try:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                self._refuse()
            except OSError:
                return
            # Whoever released it took the file away: then this one is nobody's.
            if self._is_there():
                break
            self._file.close()
        self._file.truncate(0)
        self._file.write(f"process {os.getpid()} on {platform.node()}")
        self._file.flush()

    def release(self) -> None:
        """Give the lock back; a second time does nothing."""
        if not self._file.closed:
            with contextlib.suppress(OSError):
                self._path.unlink()
            self._file.close()

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Release the lock."""
        self.release()

    def _is_there(self) -> bool:
        try:
            return os.path.samestat(self._path.stat(), os.fstat(self._file.fileno()))
        except OSError:
            return False

    def _refuse(self) -> NoReturn:
        self._file.seek(0)
        holder = self._file.read() or "another process"
        self._file.close()
        remedy = "Wait for it, or choose another folder."
        fail(f"folder {self._path.parent}", "to be in nobody's use", holder, remedy)


def write_bytes(path: str | Path, blob: bytes) -> None:
    """Write `blob` to `path`, whole or not at all."""
    path = Path(path)
    part = path.with_name(path.name + ".part")
    part.write_bytes(blob)
    part.replace(path)


def write_json(path: str | Path, data: Any) -> None:
    """Write plain data as JSON, whole or not at all."""
    write_bytes(path, json.dumps(data, indent=1).encode())


def read_json(path: str | Path, what: str, remedy: str = "") -> Any:
    """Read a JSON file.

    Args:
        path: the file.
        what: what it should be, for the message.
        remedy: what to do where it is none.

    Raises:
        ValueError: the file is missing or no JSON.
    """
    path = Path(path)
    if not path.is_file():
        fail(what, "to be a file", str(path), remedy)
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        return fail(f"{what} {path}", "to be JSON", "something else", remedy)


def write_arrays(path: str | Path, value: Any, schema: int | str = 1) -> None:
    """Write a dataclass with arrays to one npz file, whole or not at all.

    Args:
        path: the file.
        value: the dataclass.
        schema: version of its fields' meaning, or of what it was made from, asked for
            by `read_arrays`.
    """
    arrays: dict[str, np.ndarray] = {}
    tree = {"schema": schema, "content": to_plain(value, arrays)}
    buffer = io.BytesIO()
    np.savez_compressed(buffer, content=np.array(json.dumps(tree)), **arrays)
    write_bytes(path, buffer.getvalue())


def read_arrays(
    kind: type[Kind], path: str | Path, what: str, schema: int | str = 1
) -> Kind:
    """Read what `write_arrays` wrote; never unpickles.

    Args:
        kind: the dataclass.
        path: the file.
        what: what it should be, for the message.
        schema: expected version.

    Raises:
        ValueError: the file is missing, damaged, or of another schema version.
    """
    path = Path(path)
    if not path.is_file():
        fail(what, "to be a file", str(path), "Was the run finished?")
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {key: archive[key] for key in archive.files}
        tree = json.loads(str(arrays.pop("content")))
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        fail(what, "to be a whole npz file of flowinv", str(path))
    if not isinstance(tree, dict) or tree.get("schema") != schema:
        got = tree.get("schema") if isinstance(tree, dict) else type(tree).__name__
        fail(what, f"of schema {schema}", got)
    try:
        return from_plain(kind, tree["content"], str(path), arrays)
    except (KeyError, TypeError):
        return fail(what, f"to hold every field of schema {schema}", str(path))


def to_plain(value: Any, arrays: dict[str, np.ndarray] | None = None) -> Any:
    """Turn dataclasses, mappings, sequences and numbers into what JSON can hold.

    Args:
        value: what to describe.
        arrays: where numpy arrays go, a number for each; None allows none.

    Raises:
        ValueError: for anything else.
    """
    if isinstance(value, np.ndarray) and arrays is not None:
        # Numbered, because names of observations need not be names of files.
        key = f"array_{len(arrays)}"
        arrays[key] = value
        return {"$array": key}
    if dataclasses.is_dataclass(value):
        fields = [field.name for field in dataclasses.fields(value)]
        return {name: to_plain(getattr(value, name), arrays) for name in fields}
    if isinstance(value, Mapping):
        return {str(name): to_plain(item, arrays) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_plain(item, arrays) for item in value]
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if value is None or isinstance(value, (str, int, float)):
        return value
    return fail("value", "as array, number, text or None", type(value).__name__)


def settled(kind: type[Kind], config: Any, what: str) -> Kind:
    """Return a config with every field of its type: tuples for lists, plain numbers.

    Args:
        kind: what it should be.
        config: what was given.
        what: its name, for the message.

    Raises:
        ValueError: another type, or a field of another type.
    """
    if not isinstance(config, kind):
        fail(what, f"to be a {kind.__name__}", named(config))
    return from_plain(config, to_plain(config), what)


def from_plain(
    kind: Any, data: Any, where: str, arrays: Mapping[str, np.ndarray] | None = None
) -> Any:
    """Build a value from plain data, checking names and types.

    Args:
        kind: a dataclass, an annotation, or an instance: what the data leaves out is
            then taken from it, at every depth.
        data: what `to_plain` gave, or its JSON round trip.
        where: name of the file or entry, for the message.
        arrays: arrays that the data refers to.

    Raises:
        ValueError: for an unknown field or a value of another type.
    """
    return _Reader(arrays or {})(kind, data, where)


class _Reader:
    """`from_plain` with what is the same for all fields."""

    def __init__(self, arrays: Mapping[str, np.ndarray]) -> None:
        self.arrays = arrays

    def __call__(self, kind: Any, data: Any, where: str) -> Any:
        if dataclasses.is_dataclass(kind):
            return self._object(kind, data, where)
        if isinstance(data, dict) and set(data) == {"$array"}:
            return self.arrays[data["$array"]]
        origin, inside = get_origin(kind), get_args(kind)
        if origin in (Union, types.UnionType):
            return self._one_of(inside, data, where)
        if origin is tuple:
            if not isinstance(data, list):
                fail(where, "to be a list", repr(data))
            return tuple(self(inside[0], item, where) for item in data)
        if origin is dict:
            if not isinstance(data, dict):
                fail(where, "to hold an object", type(data).__name__)
            return {n: self(inside[1], v, f"{where}.{n}") for n, v in data.items()}
        return _plain((kind,), data, where)

    def _object(self, kind: Any, data: Any, where: str) -> Any:
        """A dataclass: a new one, or an instance with the given fields replaced."""
        if not isinstance(data, dict):
            fail(where, "to hold an object", type(data).__name__)
        is_new = isinstance(kind, type)
        hints = get_type_hints(kind if is_new else type(kind))
        fields = {field.name for field in dataclasses.fields(kind)}
        values = {}
        for name, value in data.items():
            check_known(f"field in {where}", name, fields)
            inner = hints[name] if is_new else getattr(kind, name)
            if not dataclasses.is_dataclass(inner):
                inner = hints[name]
            values[name] = self(inner, value, f"{where}: {name}")
        return kind(**values) if is_new else dataclasses.replace(kind, **values)

    def _one_of(self, kinds: tuple[Any, ...], data: Any, where: str) -> Any:
        """A value of one of several types: None, plain, or the only structured one."""
        if data is None and type(None) in kinds:
            return None
        if isinstance(data, (dict, list)):
            plain = (type(None), np.ndarray, bool, int, float, str)
            rich = [kind for kind in kinds if kind not in plain]
            if rich:
                return self(rich[0], data, where)
        return _plain(kinds, data, where)


def _plain(kinds: tuple[Any, ...], data: Any, where: str) -> Any:
    if Any in kinds:
        return data
    if float in kinds and type(data) is int:
        return float(data)
    if type(data) not in kinds:
        names = " or ".join(kind.__name__ for kind in kinds if kind is not np.ndarray)
        fail(where, f"of type {names}", repr(data))
    return data
