"""What tells two objects apart: their contents, the same in every process.

A cache or a checkpoint that is found by less than it depends on answers with the
numbers of another problem, silently. Contents are fields, attributes, arrays, the code
of functions and classes of the user's own, what functions close over and the globals
that they name. What no content can be read from (a handle, a random generator) makes an
object opaque: nothing about it is cached.
"""

import enum
import functools
import hashlib
import sys
import threading
import types
from collections import OrderedDict
from collections.abc import Callable, Mapping, Set
from typing import Any, TypeVar

import jax
import numpy as np

__all__ = ["by_content", "identity"]

Made = TypeVar("Made")
Arrays = dict[int, tuple[np.ndarray, bytes]]

# Attributes of flax modules that say where they are, not what they are.
_PLACES = ("parent", "name", "scope", "_state", "_parent_ref", "_id")
_PLAIN = (type(None), bool, int, float, complex, str, bytes)
_DESCRIPTORS = (property, staticmethod, classmethod)
_SLOTS = (types.MemberDescriptorType, types.GetSetDescriptorType)


def identity(*values: Any, code: bool = True) -> tuple[str, bool]:
    """SHA-256 of the contents of `values`, and whether they could all be read.

    Args:
        values: any objects. Code of installed packages counts by name: their versions
            are another matter.
        code: read the code of the user's functions and classes as well, and the
            globals that it names; False leaves names and attributes.
    """
    reader = _read(values, code)
    return reader.digest.hexdigest(), not reader.opaque


def _read(values: tuple[Any, ...], code: bool = True) -> "_Reader":
    reader = _Reader(code)
    try:
        for value in values:
            reader(value)
    except RecursionError:
        reader.opaque = True
    return reader


def by_content(maxsize: int) -> Callable[[Callable[..., Made]], Callable[..., Made]]:
    """Like `functools.lru_cache`, for arguments that may be unhashable, or change.

    Arguments are equal when their contents are. A held result is given again only while
    the arguments that it was built from still have the contents that they had then;
    with opaque arguments nothing is held.
    """

    def decorate(build: Callable[..., Made]) -> Callable[..., Made]:
        held: OrderedDict[str, tuple[tuple[Any, Arrays], Made]] = OrderedDict()
        lock = threading.Lock()

        @functools.wraps(build)
        def find(*arguments: Any) -> Made:
            # Shapes and dtypes that are found while building depend on it.
            x64 = jax.config.jax_enable_x64
            key, readable = identity(x64, *arguments)
            if not readable:
                return build(*arguments)
            with lock:
                entry = held.pop(key, None)
                if entry is not None and identity(x64, *entry[0][0])[0] == key:
                    held[key] = entry
                    return entry[1]
                old = [name for name, entry in held.items() if _other_arrays(*entry[0])]
                for name in old:
                    del held[name]
                if old:
                    # jax keeps its first conversion of an array that it has met.
                    jax.clear_caches()
            made = build(*arguments)
            with lock:
                held[key] = (arguments, _read(arguments).arrays), made
                while len(held) > maxsize:
                    held.popitem(last=False)
            return made

        find.cache_clear = held.clear  # type: ignore[attr-defined]
        return find

    return decorate


def _other_arrays(arguments: tuple[Any, ...], then: Arrays) -> bool:
    """Whether an array of numpy in `arguments` has changed in place since `then`."""
    now = _read(arguments).arrays
    return any(now[name][1] != then[name][1] for name in then.keys() & now.keys())


class _Reader:
    """Feeds the contents of objects to one hash."""

    def __init__(self, code: bool) -> None:
        self.digest, self.opaque, self.code = hashlib.sha256(), False, code
        # Kept alive: an id is a name only as long as its object lives.
        self._seen: dict[int, tuple[int, Any]] = {}
        # Arrays of numpy, which may change in place, with their contents, by id.
        self.arrays: Arrays = {}

    def __call__(self, value: Any) -> None:
        if isinstance(value, enum.Enum):
            self._say("enum", type(value).__qualname__, value.name)
        elif isinstance(value, _PLAIN):
            self._say(type(value).__name__, repr(value))
        elif isinstance(value, (np.ndarray, np.generic, jax.Array)):
            self._array(value)
        elif id(value) in self._seen:
            self._say("again", str(self._seen[id(value)][0]))
        else:
            self._seen[id(value)] = len(self._seen), value
            self._read(value)

    def _read(self, value: Any) -> None:
        if isinstance(value, (list, tuple)):
            self._many(type(value).__name__, value)
        elif isinstance(value, Mapping):
            pairs = sorted(value.items(), key=lambda pair: repr(pair[0]))
            self._many(type(value).__name__, [item for pair in pairs for item in pair])
        elif isinstance(value, Set):
            self._many("set", sorted(value, key=repr))
        elif isinstance(value, functools.partial):
            self._many("partial", (value.func, value.args, value.keywords))
        elif isinstance(value, types.MethodType):
            self._many("method", (value.__func__, value.__self__))
        elif isinstance(value, types.ModuleType):
            self._say("module", value.__name__)
        elif isinstance(value, types.CodeType):
            self._code(value)
        elif isinstance(value, type):
            self._class(value)
        elif isinstance(value, np.dtype):
            self._say("dtype", str(value))
        elif isinstance(value, (types.BuiltinFunctionType, np.ufunc)):
            self._say("builtin", getattr(value, "__qualname__", repr(value)))
        elif isinstance(value, types.FunctionType):
            self._function(value)
        elif callable(getattr(value, "__wrapped__", None)):
            self._many("wrapped", (type(value).__qualname__, value.__wrapped__))
        else:
            self._object(value)

    def _say(self, *words: str) -> None:
        for word in words:
            text = word.encode(errors="surrogatepass")
            self.digest.update(f"{len(text)}:".encode() + text)

    def _many(self, kind: str, values: Any) -> None:
        self._say(kind, str(len(values)))
        for value in values:
            self(value)

    def _array(self, value: Any) -> None:
        if isinstance(value, jax.core.Tracer):
            self.opaque = True
            return
        if isinstance(value, jax.Array) and _is_key(value):
            self._say("key", str(jax.random.key_impl(value)))
            value = jax.random.key_data(value)
        array = np.asarray(value)
        if array.dtype.hasobject:
            self._many(f"objects {array.shape}", array.ravel().tolist())
            return
        self._say("array", str(array.dtype), str(array.shape))
        contents = np.ascontiguousarray(array).tobytes()
        self.digest.update(contents)
        if isinstance(value, np.ndarray):
            self.arrays[id(value)] = value, hashlib.sha256(contents).digest()

    def _function(self, function: types.FunctionType) -> None:
        self._say("function", str(function.__module__), function.__qualname__)
        if not self.code or _is_installed(function.__module__):
            # Its code counts by name; what it closes over is the user's.
            self._cells(function)
            return
        self._code(function.__code__, function.__doc__)
        self._many("defaults", (function.__defaults__, function.__kwdefaults__))
        self._cells(function)
        known = function.__globals__
        names = sorted(_names(function.__code__) & set(known))
        self._many("globals", [item for name in names for item in (name, known[name])])

    def _cells(self, function: types.FunctionType) -> None:
        for cell in function.__closure__ or ():
            try:
                self(cell.cell_contents)
            except ValueError:  # a name that is not bound yet
                self._say("empty")

    def _code(self, code: types.CodeType, words: str | None = None) -> None:
        self._say("code", code.co_name, repr(code.co_varnames), repr(code.co_names))
        self.digest.update(code.co_code)
        constants = [c for c in code.co_consts if words is None or c != words]
        self._many("constants", constants)

    def _class(self, kind: type) -> None:
        self._say("class", str(kind.__module__), kind.__qualname__)
        if not self.code or _is_installed(kind.__module__):
            return
        for name, value in sorted(vars(kind).items()):
            if isinstance(value, _DESCRIPTORS):
                value = getattr(value, "__func__", None) or getattr(value, "fget", None)
            if isinstance(value, functools.cached_property):
                value = value.func
            # What Python and dataclasses write into a class says nothing of its own.
            if name.startswith("__") and not isinstance(value, types.FunctionType):
                continue
            if isinstance(value, _SLOTS):
                continue
            self._say(name)
            self(value)
        for base in kind.__bases__:
            self(base)

    def _object(self, value: Any) -> None:
        kind = type(value)
        self(kind)
        if hasattr(value, "to_config"):
            try:
                self(value.to_config())
                return
            except ValueError:
                pass  # it has no description: its attributes then
        state = _state(value)
        if state is None:
            self.opaque = True
            return
        cached = {
            name
            for base in kind.__mro__
            for name, item in vars(base).items()
            if isinstance(item, functools.cached_property)
        }
        names = sorted(set(state) - cached - set(_PLACES))
        self._many("state", [item for name in names for item in (name, state[name])])


def _state(value: Any) -> dict[str, Any] | None:
    """Attributes of an object by name; None where Python cannot see inside."""
    slots = [
        name
        for base in type(value).__mro__
        for name in _as_tuple(vars(base).get("__slots__", ()))
    ]
    found = {name: getattr(value, name) for name in slots if hasattr(value, name)}
    own = getattr(value, "__dict__", None)
    if own is None and not slots:
        return None if type(value) is not object else {}
    return {**found, **(own or {})}


def _as_tuple(slots: Any) -> tuple[str, ...]:
    return (slots,) if isinstance(slots, str) else tuple(slots)


def _names(code: types.CodeType) -> set[str]:
    """Globals that code and the functions inside it may name."""
    inner = [c for c in code.co_consts if isinstance(c, types.CodeType)]
    return set(code.co_names).union(*map(_names, inner))


def _is_key(value: jax.Array) -> bool:
    return jax.dtypes.issubdtype(value.dtype, jax.dtypes.prng_key)


@functools.lru_cache(maxsize=1024)
def _is_installed(name: str | None) -> bool:
    """Whether a module belongs to Python, an installed package, or to flowinv."""
    root = str(name).partition(".")[0]
    if root in sys.stdlib_module_names and root != "__main__":
        return True
    if root == "flowinv" and not str(name).startswith("flowinv_task_"):
        return True
    place = getattr(sys.modules.get(root), "__file__", None) or ""
    return "site-packages" in place or "dist-packages" in place
