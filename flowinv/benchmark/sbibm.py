"""sbibm's interface, both ways: our methods on its tasks, its metrics on our tasks.

    from flowinv.benchmark.sbibm import SbibmTask, run

    samples, calls, log_prob = run(sbibm.get_task("slcp"), 10_000, 1_000, 1)
    task = SbibmTask("beam_profile")      # for any of sbibm's own algorithms

sbibm and torch are not imported unless they are there: arrays go in and come out as
tensors of the kind that the task gives.

Reference: Lueckmann et al. 2021, Benchmarking simulation-based inference,
arXiv:2101.04653.
"""

import dataclasses
import importlib.util
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from flowinv.benchmark.cells import PRESETS, STANDARD, Training
from flowinv.checks import check_known, fail, whole
from flowinv.data.entrance import host_rows, is_host
from flowinv.experiment.build import build_estimator
from flowinv.models.sampled import AnyPosterior
from flowinv.priors.latent import Prior, uniform
from flowinv.tasks.registry import task as get_task
from flowinv.tasks.task import Task
from flowinv.types import Dataset

__all__ = ["Options", "SbibmTask", "run"]

FIT, DRAW = range(2)


class Options(NamedTuple):
    """How a task is answered.

    Attributes:
        method: a name of `flowinv benchmark`.
        seed: of flowinv's key; the simulator's random numbers are sbibm's.
        prior: the task's prior, for tasks that are none of the standard ten and whose
            prior is no box.
    """

    method: str = "npe"
    seed: int = 0
    prior: Prior | None = None


class _Counted:
    """sbibm's simulator as one on the host, which counts its calls.

    Attributes:
        x_shape: of one flat x.
        calls: simulations so far.
    """

    def __init__(self, simulator: Callable[..., Any], like: Any, size: int) -> None:
        self._simulator, self._like = simulator, like
        self.x_shape, self.calls = (size,), 0

    def simulate_batch(self, key: Any, theta: Any) -> tuple[np.ndarray, np.ndarray]:
        """Simulate `[n, D]`; sbibm's random numbers are torch's own."""
        del key
        theta = np.asarray(theta, np.float32)
        x = np.asarray(self._simulator(_as(self._like, theta)), np.float32)
        self.calls += len(theta)
        x = x.reshape(len(theta), -1)
        return x, np.isfinite(x).all(-1)


def run(
    task: Any,
    num_samples: int,
    num_simulations: int,
    num_observation: int | None = None,
    observation: Any = None,
    **options: Any,
) -> tuple[Any, int, Any]:
    """Run a method of flowinv on a task of sbibm, as sbibm's own algorithms run.

    Args:
        task: a task of sbibm, or anything with its methods.
        num_samples: posterior draws.
        num_simulations: budget, of all rounds together.
        num_observation: number of the observation, or
        observation: the observation itself, `[1, K]`.
        **options: fields of `Options`.

    Returns:
        Draws `[num_samples, D]`, the number of simulations (rounds look at some 200
        of an unknown simulator before they begin), and the log density of the
        true parameters (None where there are none, or where the method knows none);
        tensors of the observation's kind.

    Raises:
        ValueError: both or none of the observations, an unknown method, a prior that
            is not known.
    """
    if (num_observation is None) == (observation is None):
        got = "none" if observation is None else "both"
        fail("observation", "by number or by itself", got)
    for option in options:
        check_known("option", option, Options._fields)
    method, seed, prior = Options(**options)
    check_known("method", method, PRESETS)
    num_samples = whole("num_samples", num_samples)
    seen = task.get_observation(num_observation) if observation is None else observation
    x = np.asarray(seen, np.float32).reshape(-1)
    name = getattr(task, "name", "")
    simulator = _Counted(task.get_simulator(), seen, len(x))
    own = Task(prior or _prior(task, name), simulator)
    if name in STANDARD:
        # Our task knows how its x is read best.
        own = dataclasses.replace(get_task(name), simulator=simulator)
    training = Training(name, method, PRESETS[method].flows[0], num_simulations, seed)
    posterior = _posterior(training, own, task, x)
    key = jax.random.fold_in(jax.random.key(seed), DRAW)
    draws = np.asarray(posterior.sample(key, x, num_samples))
    truth = None
    if num_observation is not None and hasattr(posterior, "log_prob"):
        theta = np.asarray(task.get_true_parameters(num_observation), np.float32)
        found = posterior.log_prob(theta.reshape(-1), x)
        truth = _as(seen, np.asarray(found, np.float32).reshape(1))
    return _as(seen, draws), simulator.calls, truth


def _posterior(training: Training, own: Task, task: Any, x: np.ndarray) -> AnyPosterior:
    """Simulate and learn: once, or in rounds."""
    method = training.settings()
    estimator = build_estimator(own, training.flow, method.network)
    key = jax.random.fold_in(jax.random.key(training.seed), FIT)
    if not method.amortised:
        keys = jnp.stack([key])
        return method.run(keys, estimator, own.simulator, x[None]).posteriors[0]
    count = training.budget
    theta = np.asarray(task.get_prior()(num_samples=count), np.float32)
    seen, valid = own.simulator.simulate_batch(None, theta)
    rounds = jnp.zeros(count, jnp.int32)
    seen = jnp.asarray(np.where(valid[:, None], seen, 0.0))
    data = Dataset(jnp.asarray(theta), seen, jnp.asarray(valid), rounds)
    return method.fit(key, estimator, data).posterior


def _prior(task: Any, name: str) -> Prior:
    """The prior of a standard task, of ours, or of a box."""
    if isinstance(task, SbibmTask):
        return task.prior
    if name in STANDARD:
        return get_task(name).prior
    given = getattr(task, "prior_params", None) or {}
    if set(given) != {"low", "high"}:
        got = f"parameters {sorted(given)}" if given else "none that is known"
        fail(f"prior of {name or 'the task'}", "of a box", got, "Give prior=...")
    return uniform(*(np.asarray(given[k], np.float64) for k in ("low", "high")))


def _as(like: Any, array: np.ndarray) -> Any:
    """The array as a tensor of another's kind."""
    make = getattr(like, "new_tensor", None)
    return array if make is None else make(array)


def _tensor(array: Any) -> Any:
    """The array as a tensor of torch where it is installed."""
    array = np.asarray(array, np.float32)
    if importlib.util.find_spec("torch") is None:
        return array
    import torch

    return torch.as_tensor(array)


class SbibmTask:
    """A task of flowinv with the attributes and methods of sbibm's tasks.

    Attributes:
        name: the task's spec.
        name_display: the same.
        dim_parameters: D.
        dim_data: numbers of x.
        num_observations: fixed observations.
        num_posterior_samples: draws that are compared.
        num_reference_posterior_samples: draws that are made.
        num_simulations: budgets of the benchmark.
        prior: the prior, as flowinv's methods take it.
    """

    num_posterior_samples = 10_000
    num_reference_posterior_samples = 10_000
    num_simulations = (1_000, 10_000, 100_000)

    def __init__(self, task: str | Task, seed: int = 0) -> None:
        """Take a task by its spec, or itself.

        Args:
            task: such as "beam_profile:points=100".
            seed: of draws of the prior and of simulations.
        """
        self._task = get_task(task) if isinstance(task, str) else task
        self.name = self.name_display = task if isinstance(task, str) else task.name
        self.dim_parameters = self._task.prior.dim
        self.dim_data = int(np.prod(self._task.simulator.x_shape))
        self.num_observations = self._task.num_observations
        self.prior = self._task.prior
        self._key, self._asked = jax.random.key(seed), 0

    def get_prior(self) -> Callable[..., Any]:
        """Return `prior(num_samples=1)`, which gives `[num_samples, D]`."""

        def prior(num_samples: int = 1) -> Any:
            return _tensor(self._task.prior.sample(self._next(), num_samples))

        return prior

    def get_simulator(self, max_calls: int | None = None) -> "SbibmSimulator":
        """Return `simulator(parameters)`, `[n, D]` to `[n, K]`, which counts.

        Args:
            max_calls: simulations after which it refuses.
        """
        return SbibmSimulator(self._task.simulator, self._next, max_calls)

    def get_observation(self, num_observation: int) -> Any:
        """Return an observation, `[1, K]`."""
        return _tensor(np.reshape(self._task.observation(num_observation)[0], (1, -1)))

    def get_true_parameters(self, num_observation: int) -> Any:
        """Return what it was simulated from, `[1, D]`."""
        return _tensor(np.reshape(self._task.observation(num_observation)[1], (1, -1)))

    def get_reference_posterior_samples(self, num_observation: int) -> Any:
        """Return draws of the exact posterior, `[10000, D]`.

        Raises:
            ValueError: a task without exact posterior.
        """
        key = jax.random.fold_in(jax.random.key(0), num_observation)
        count = self.num_reference_posterior_samples
        drawn = self._task.reference(num_observation, count, key)
        if drawn is None or not drawn.good:
            got = "none" if drawn is None else drawn.words
            fail(f"exact draws of {self.name}", "that can be trusted", got)
        return _tensor(drawn.draws)

    def get_labels_parameters(self) -> list[str]:
        """Return names of the parameters."""
        return list(self._task.prior.names)

    def get_labels_data(self) -> list[str]:
        """Return names of the numbers of x."""
        return [f"data_{index + 1}" for index in range(self.dim_data)]

    def flatten_data(self, data: Any) -> Any:
        """Return data as `[n, K]`."""
        return data.reshape(-1, self.dim_data)

    def unflatten_data(self, data: Any) -> Any:
        """Return data as `[n, *x_shape]`."""
        return data.reshape(-1, *self._task.simulator.x_shape)

    def _next(self) -> Any:
        self._asked += 1
        return jax.random.fold_in(self._key, self._asked)


class SbibmSimulator:
    """A simulator as sbibm calls it.

    Attributes:
        num_simulations: rows so far.
    """

    def __init__(
        self, simulator: Any, key: Callable[[], Any], max_calls: int | None
    ) -> None:
        self._simulator, self._key, self._most = simulator, key, max_calls
        self.num_simulations = 0

    def __call__(self, parameters: Any) -> Any:
        """Simulate `[n, D]`, or one `[D]`; `[n, K]`."""
        theta = np.asarray(parameters, np.float32)
        theta = theta.reshape(-1, theta.shape[-1])
        if self._most is not None and self.num_simulations + len(theta) > self._most:
            got = f"{self.num_simulations + len(theta)}"
            fail("simulations", f"at most {self._most}", got)
        self.num_simulations += len(theta)
        if is_host(self._simulator):
            x, valid = host_rows(self._simulator, self._key(), theta)
            x = np.where(valid.reshape(-1, *[1] * (x.ndim - 1)), x, np.nan)
        else:
            keys = jax.random.split(self._key(), len(theta))
            x = jax.jit(jax.vmap(self._simulator.simulate))(keys, jnp.asarray(theta))
        return _tensor(np.reshape(x, (len(theta), -1)))
