"""The door for simulators and simulations of others: each mistake is one line here.

A simulator is the user's program. It is traced with the prior's own number of
parameters, run at a few fixed keys and parameters, and asked for what only a look at
its numbers tells: whether its noise comes from the key.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from flowinv.checks import InputError, fail, finite_float32, named, one_line
from flowinv.compiling import compiled, memory_limit
from flowinv.identity import by_content
from flowinv.priors.latent import Prior
from flowinv.types import Dataset, Simulator

__all__ = [
    "admit_dataset",
    "admit_prior",
    "admit_simulator",
    "check_varies",
    "host_rows",
    "is_host",
    "probe",
    "refuse_all_failed",
    "row_bytes",
    "rows_at_once",
    "x_shape_of",
]

# Parameters at which a simulator is probed: one run of a host's, many of a jitted one.
_PROBES, _HOST_PROBES = 32, 2
_KEYS = 2
# Share of the memory limit that rows are measured to fill: compiled for speed they take
# somewhat more than the probe does, and a program's own memory comes on top.
_FILL = 0.6


def admit_prior(prior: Any) -> Prior:
    """Return the prior.

    Raises:
        ValueError: something else, such as a distribution of numpyro.
    """
    if not isinstance(prior, Prior):
        remedy = "Build it with flowinv.priors: uniform, normal, from_numpyro."
        fail("prior", "to be a flowinv prior", type(prior).__name__, remedy)
    return prior


def is_host(simulator: Any) -> bool:
    """Whether a simulator runs outside jax: `simulate_batch` and no `simulate`."""
    return not hasattr(simulator, "simulate") and hasattr(simulator, "simulate_batch")


def x_shape_of(simulator: Any) -> tuple[int, ...]:
    """Shape of one observation, checked.

    Raises:
        ValueError: no simulator, or an `x_shape` that is no shape.
    """
    remedy = "Give an object with x_shape and simulate(key, theta)."
    methods = ("simulate", "simulate_batch")
    if isinstance(simulator, type):
        got = f"the class {simulator.__name__}"
        fail("simulator", "to be an object", got, "Call the class.")
    if not any(callable(getattr(simulator, name, None)) for name in methods):
        fail("simulator", "with simulate(key, theta)", named(simulator), remedy)
    if not hasattr(simulator, "x_shape"):
        fail("simulator", "with x_shape", type(simulator).__name__, remedy)
    shape = simulator.x_shape
    try:
        sizes = tuple(int(n) for n in shape)
        good = sizes and min(sizes) >= 1 and list(sizes) == list(shape)
    except (TypeError, ValueError):
        good = False
    if not good:
        remedy = "One number is the shape (1,)."
        fail("x_shape", "to be a tuple of sizes of at least 1", f"{shape!r}", remedy)
    return sizes


def admit_simulator(simulator: Any, prior: Prior) -> tuple[int, ...]:
    """Check a simulator before any long work, and return its `x_shape`.

    Raises:
        ValueError: no simulator; one that does not run on the prior's parameters, or
            reads more of them; an x of another shape or no real numbers; noise that
            does not come from the key (`deterministic = True` says that there is none).
    """
    x_shape = x_shape_of(simulator)
    if is_host(simulator):
        return x_shape
    _trace(simulator, prior, x_shape)
    if getattr(simulator, "deterministic", False):
        return x_shape
    x = _probed(simulator, prior)[0]
    if not np.isfinite(x).any() or np.any(x[0] != x[1]):
        return x_shape
    return fail(
        "simulate(key, theta)",
        "to draw its noise from key",
        "the same x for two keys",
        "Use jax.random with the key (numpy's noise is drawn once, when jax traces), "
        "or set deterministic = True where there is no noise.",
    )


def probe(simulator: Any, prior: Prior) -> np.ndarray:
    """What a simulator gives at fixed keys and parameters, `[keys, probes, *x_shape]`.

    Two simulators that differ where the prior has its mass differ here.
    """
    if not is_host(simulator):
        return _probed(simulator, prior)[0]
    theta = _probe_theta(prior, _HOST_PROBES)
    x, valid = host_rows(simulator, jax.random.key(0), theta)
    return np.where(valid.reshape(-1, *[1] * (x.ndim - 1)), x, np.nan)[None]


def _probe_theta(prior: Prior, count: int) -> Array:
    return prior.sample(jax.random.key(20211), count).astype(jnp.float32)


def row_bytes(simulator: Any, prior: Prior) -> int:
    """Memory that one more row of a jit-able simulator takes while it runs, in bytes.

    Measured on the compiled probe; at least what x itself takes.
    """
    return max(_probed(simulator, prior)[1], 4 * math.prod(x_shape_of(simulator)))


def rows_at_once(simulator: Any, prior: Prior, lanes: int = 1) -> int:
    """Rows of a jit-able simulator that fit the memory limit, for each lane."""
    room = _FILL * memory_limit() / lanes
    return max(1, int(room // row_bytes(simulator, prior)))


@by_content(maxsize=64)
def _probed(simulator: Simulator, prior: Prior) -> tuple[np.ndarray, int]:
    """The probe of a jit-able simulator, and bytes of a row."""
    each = jax.vmap(jax.vmap(simulator.simulate), (0, None))

    def probed(key: Array) -> Array:
        keys = jax.random.split(key, (_KEYS, _PROBES))
        return each(keys, _probe_theta(prior, _PROBES))

    key = jax.random.key(20212)
    program = compiled(probed, once=True).lower(key).compile()
    memory = program.memory_analysis()
    taken = 0
    if memory is not None:
        taken = memory.temp_size_in_bytes + memory.output_size_in_bytes
    return np.asarray(program(key), np.float32), taken // (_KEYS * _PROBES)


def _trace(simulator: Any, prior: Prior, x_shape: tuple[int, ...]) -> None:
    """Trace one simulation abstractly."""
    where = "simulate(key, theta)"
    key = jax.eval_shape(jax.random.key, 0)
    theta = jax.ShapeDtypeStruct((prior.dim,), jnp.float32)
    remedy = "Write it with jax.numpy, or give simulate_batch(key, theta) instead."
    try:
        got = jax.eval_shape(simulator.simulate, key, theta)
    except InputError:
        raise
    except Exception as error:
        what = f"to run on theta of shape {(prior.dim,)} under jit"
        fail(where, what, one_line(error), remedy)
    if not hasattr(got, "shape"):
        kind = type(got).__name__
        fail(where, f"to return x alone, of shape {x_shape}", f"a {kind}")
    if got.shape != x_shape:
        fail(where, f"with shape {x_shape} (x_shape)", got.shape)
    if got.dtype.kind not in "biuf" and got.dtype.name != "bfloat16":
        fail(where, "to return real numbers", f"dtype {got.dtype}")
    _check_reach(simulator, prior)


def _check_reach(simulator: Any, prior: Prior) -> None:
    """Raise where a simulator reads parameters that the prior does not have.

    jax takes the last entry for one beyond the end, without a word; numpy says so.
    """
    key = jax.eval_shape(jax.random.key, 0)
    numbers = np.zeros(prior.dim, np.float32)
    try:
        jax.eval_shape(lambda key: simulator.simulate(key, numbers), key)
    except IndexError as error:
        expected = f"to read the prior's {prior.dim} parameters"
        fail("simulate(key, theta)", expected, one_line(error))
    except Exception:  # what only arrays of jax can do
        return


def host_rows(
    simulator: Any, key: Array, theta: ArrayLike
) -> tuple[np.ndarray, np.ndarray]:
    """Rows of a host simulator: x `[N, *x_shape]` float32, and valid `[N]`.

    A row with a number that is not finite is not valid, whatever the simulator says;
    its numbers are 0.

    Raises:
        ValueError: `simulate_batch` did not run, or returned something else.
    """
    where, shape = "simulate_batch(key, theta)", x_shape_of(simulator)
    theta = np.asarray(theta)
    try:
        found = simulator.simulate_batch(key, theta)
    except InputError:
        raise
    except Exception as error:
        got = one_line(error)
        raise InputError(f"Expected {where} to run; got {got}.") from error
    if not (isinstance(found, (tuple, list)) and len(found) == 2):
        fail(where, "to return (x, valid)", f"a {type(found).__name__}")
    x, valid = found
    if isinstance(x, np.ma.MaskedArray):
        x = x.astype(np.float64).filled(np.nan)
    x = np.asarray(finite_float32(f"x of {where}", x))
    expected = (len(theta), *shape)
    if x.shape != expected:
        fail(f"x of {where}", f"with shape {expected}", x.shape)
    valid = _flags(f"valid of {where}", valid, len(theta))
    finite = np.isfinite(x)
    valid = valid & finite.reshape(len(x), -1).all(-1)
    return np.where(finite, x, 0), valid


def _flags(what: str, value: Any, count: int) -> np.ndarray:
    """True and False, or 1 and 0, one for each row."""
    flags = np.asarray(value)
    if flags.shape != (count,):
        fail(what, f"with shape {(count,)}", flags.shape)
    if flags.dtype.kind not in "biuf" or not np.isin(flags, (0, 1)).all():
        fail(what, "to hold True and False", f"{flags.dtype} with other values")
    return flags.astype(bool)


def admit_dataset(data: Any, prior: Prior) -> Dataset:
    """Check simulations that were put together by hand, and return them as float32.

    Raises:
        ValueError: no `Dataset`; columns of other lengths, shapes or kinds; valid rows
            outside the prior, not finite, or beyond float32.
    """
    if not isinstance(data, Dataset):
        remedy = "Build flowinv.Dataset(theta, x, valid, round)."
        fail("data", "to be a Dataset or a simulator", type(data).__name__, remedy)
    theta = finite_float32("theta", data.theta)
    if theta.ndim != 2 or theta.shape[1] != prior.dim:
        fail("theta", f"with shape (N, {prior.dim})", theta.shape)
    count = len(theta)
    masked = None
    x = data.x
    if isinstance(x, np.ma.MaskedArray):
        masked = np.ma.getmaskarray(x).reshape(len(x), -1).any(-1)
        x = x.filled(0)
    x = finite_float32("x", x)
    if x.ndim < 2 or len(x) != count:
        fail("x", f"with shape ({count}, *x_shape), a row for each theta", x.shape)
    valid = _flags("valid", data.valid, count)
    if masked is not None:
        valid &= ~masked
    rounds = np.asarray(data.round)
    if rounds.shape != (count,) or rounds.dtype.kind not in "iu":
        got = f"{rounds.dtype} with shape {rounds.shape}"
        fail("round", f"to hold {count} whole numbers", got)
    _check_rows(theta, x, valid, prior)
    columns = (theta, x, valid, rounds.astype(np.int32))
    return Dataset(*(jnp.asarray(column) for column in columns))


def _check_rows(theta: Any, x: Any, valid: np.ndarray, prior: Prior) -> None:
    """Raise unless all valid rows are finite and inside the prior, and some are."""
    refuse_all_failed(valid)
    remedy = "Mark such rows as not valid."
    inside = np.asarray(prior.contains(theta))
    if bad := int((valid & ~inside).sum()):
        fail("theta of valid rows", "inside the prior", f"{bad} outside", remedy)
    finite = np.isfinite(np.asarray(x)).reshape(len(valid), -1).all(-1)
    if bad := int((valid & ~finite).sum()):
        fail("x of valid rows", "to be finite", f"{bad} rows with NaN or inf", remedy)
    check_varies(np.asarray(x)[valid])


def check_varies(x: np.ndarray) -> None:
    """Raise for simulations `[N, *x_shape]` that are all the same, bit by bit."""
    if len(x) > 1 and (x == x[0]).all():
        remedy = "Such an x tells nothing of theta: look at how it was made."
        fail("x", "to differ between rows", f"the same in all {len(x)}", remedy)


def refuse_all_failed(valid: np.ndarray, what: str = "simulations") -> None:
    """Raise unless one of the simulations `[N]` called `what` has succeeded."""
    if not valid.any():
        remedy = "The simulator gives NaN or infinity everywhere: mend it."
        fail(what, "with a valid row", f"none of {valid.size}", remedy)
