"""Rounds from the host: propose, simulate, append, fit, for every lane.

Lanes are observations, or seeds of one. On an accelerator they run as one vmapped
program, sharded over devices; on a CPU, whose small programs gain nothing from it, as
single programs on threads, one for each core.
"""

import contextlib
import dataclasses
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, ShapeDtypeStruct
from jax.typing import ArrayLike

from flowinv.checks import fail
from flowinv.data.entrance import host_rows, is_host, probe, rows_at_once
from flowinv.data.standardise import fit_statistics
from flowinv.identity import identity
from flowinv.models.entrance import estimator_marks
from flowinv.models.estimator import Estimator
from flowinv.models.posterior import Posterior
from flowinv.sequential.entrance import (
    TOO_NARROW,
    admit_rounds,
    check_first_rows,
    check_posterior,
    check_proposal,
    lane_keys,
    observations_of,
    resolved,
)
from flowinv.sequential.method import Plan, RoundsMethod
from flowinv.sequential.programs import (
    Programs,
    compile_ahead,
    lane_sharding,
    make_programs,
)
from flowinv.sequential.state import SIMULATE, RoundInfo, RoundsState, empty_info
from flowinv.training.checkpoint import Checkpoints, Marks
from flowinv.training.loop import Interrupted
from flowinv.types import Simulator

__all__ = ["Rounds", "run_rounds"]

History = list[RoundInfo]


class Rounds(NamedTuple):
    """Finished rounds.

    Attributes:
        posteriors: one for each lane.
        history: one `RoundInfo` of numpy arrays for each lane, round axis leading.
        states: final state of each lane: all rows with their proposals.
    """

    posteriors: tuple[Posterior, ...]
    history: tuple[RoundInfo, ...]
    states: tuple[RoundsState, ...]

    @property
    def posterior(self) -> Posterior:
        """Posterior of the only lane.

        Raises:
            ValueError: for several lanes.
        """
        if len(self.posteriors) != 1:
            fail("rounds", "of one lane", len(self.posteriors), "Use posteriors.")
        return self.posteriors[0]


def run_rounds(
    key: Array,
    estimator: Estimator,
    simulator: Simulator,
    x_obs: ArrayLike,
    method: RoundsMethod,
    *,
    folder: str | Path | None = None,
    progress: Callable[[int, RoundInfo], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> Rounds:
    """Infer theta of one observation, or of several at once, in rounds.

    Args:
        key: typed key; lane i uses fold_in(key, i). Or one key per lane.
        estimator: what is trained in every round.
        simulator: jit-able, or a host simulator with `simulate_batch`.
        x_obs: observations, `x_shape` or `[lanes, *x_shape]`.
        method: what rounds do.
        folder: where a checkpoint goes after each round; an earlier run's is continued
            to the same numbers. None keeps none.
        progress: called with the lane and its `RoundInfo` after each round; from
            several threads in turn, never at once.
        should_stop: asked after each round; True raises `Interrupted`.

    Returns:
        Posteriors, history and rows of all lanes.

    Raises:
        ValueError: a setting out of range, an x_obs of another shape or not finite, a
            prior that the method cannot work with, too few simulations that succeed,
            rows that do not come from their proposal, a posterior that is not finite.
        Interrupted: if `should_stop` said so.
    """
    method, x_shape = admit_rounds(estimator, simulator, method)
    observed = observations_of(x_obs, x_shape)
    keys = lane_keys(key, len(observed))
    per_call = method.lanes_per_call
    if not per_call:
        on_cpu = jax.default_backend() == "cpu" and jax.device_count() == 1
        per_call = 1 if on_cpu else len(observed)
    estimator = resolved(estimator, simulator)
    plan = Plan(estimator, method)
    batched = min(per_call, len(observed)) > 1
    at_once, lanes = None, per_call if batched else os.cpu_count()
    if not is_host(simulator):
        at_once = rows_at_once(simulator, estimator.prior, min(lanes, len(observed)))
        # Another number of lanes compiles nothing anew where all rows fit.
        at_once = None if at_once >= method.num_simulations else at_once
    programs = make_programs(plan, simulator, x_shape, batched, at_once)
    edges = range(per_call, len(observed), per_call)
    calls = np.split(np.arange(len(observed)), edges)
    driver = _Driver(plan, simulator, programs, folder, progress, should_stop)
    with ThreadPoolExecutor(os.cpu_count() if not batched else 1) as pool:
        done = list(pool.map(lambda c: driver(c, keys[c], observed[c]), calls))
    states = tuple(state for part, _ in done for state in part)
    history = tuple(history for _, part in done for history in part)
    posteriors = tuple(Posterior(estimator, state.variables) for state in states)
    return Rounds(posteriors, history, states)


class _Driver:
    """Runs the lanes of one call from the first round, or a checkpoint, to the last."""

    def __init__(
        self,
        plan: Plan,
        simulator: Any,
        programs: Programs,
        folder: str | Path | None,
        progress: Callable[[int, RoundInfo], None] | None,
        should_stop: Callable[[], bool] | None,
    ) -> None:
        self.plan, self.simulator, self.programs = plan, simulator, programs
        self.batched, self.folder = programs.batched, folder
        self.progress, self.should_stop = progress, should_stop
        self.lock, self.host = threading.Lock(), threading.Lock()
        # Found before the first lane: the same for all.
        self.probe = None if folder is None else probe(simulator, plan.estimator.prior)

    def __call__(
        self, lanes: np.ndarray, keys: Array, x_obs: Array
    ) -> tuple[list[RoundsState], list[RoundInfo]]:
        """Final states and histories of some lanes."""
        size = len(lanes)
        if not self.batched:
            keys, x_obs = keys[0], x_obs[0]
        sharding = lane_sharding(size) if self.batched else None
        with self.lock:  # the first lane compiles, the others find the programs
            if sharding is None:
                shapes = (ShapeDtypeStruct(a.shape, a.dtype) for a in (keys, x_obs))
                count = self.plan.method.num_simulations
                compile_ahead(self.programs, *shapes, count)
            state = self.programs.start(keys)
        if sharding is not None:
            state, x_obs = jax.device_put((state, x_obs), sharding)
        store, history = self._store(lanes, keys, x_obs), []
        if store is not None and store.latest() is not None:
            state, history = self._restored(store, state)
        try:
            while not np.asarray(state.stopped).all():
                state, info = self._round(state, x_obs)
                history.append(jax.tree.map(np.asarray, info))
                if store is not None:
                    store.save(len(history), (state, history))
                self._report(lanes, history[-1])
                if self.should_stop is not None and self.should_stop():
                    raise Interrupted
        finally:
            if store is not None:
                store.close()
        return self._lanes(state, history, size)

    def _round(self, state: RoundsState, x_obs: Array) -> tuple[RoundsState, RoundInfo]:
        programs = self.programs
        first = int(np.max(np.asarray(state.index))) == 0
        # All programs compile in the first round: once, in one thread.
        lock = self.lock if first else contextlib.nullcontext()
        with lock:
            proposal = programs.propose(state, x_obs)
            x, valid = self._simulated(state, proposal.theta)
            if first:
                check_first_rows(x, valid, self.plan.method.batch_rows, self.batched)
            state, distance = programs.append(state, proposal, x, valid, x_obs)
            check_proposal(distance, TOO_NARROW)
            if first:
                state = self._with_statistics(state)
            state, info = programs.fit(state, distance, x_obs)
            check_posterior(info)
            return state, info

    def _simulated(self, state: RoundsState, theta: Array) -> tuple[Array, Array]:
        if self.programs.simulate is not None:
            return self.programs.simulate(state, theta)
        key = self.plan.round_key
        if not self.batched:
            return self._host_rows(key(state, SIMULATE), theta)
        keys = jax.vmap(lambda s: key(s, SIMULATE))(state)
        rows = [self._host_rows(k, t) for k, t in zip(keys, theta, strict=True)]
        return tuple(jnp.stack(part) for part in zip(*rows, strict=True))

    def _host_rows(self, key: Array, theta: Array) -> tuple[np.ndarray, np.ndarray]:
        """Rows of a host simulator: one call at a time, unless it may have several."""
        if getattr(self.simulator, "thread_safe", False):
            return host_rows(self.simulator, key, theta)
        with self.host:
            return host_rows(self.simulator, key, theta)

    def _with_statistics(self, state: RoundsState) -> RoundsState:
        """Input statistics of the first round; later ones keep its map of x only."""
        scaling = self.plan.estimator.input_scaling
        valid, x = np.asarray(state.valid), np.asarray(state.x)
        if self.batched:
            parts = [
                fit_statistics(a[v], v[v], scaling)
                for a, v in zip(x, valid, strict=True)
            ]
            statistics = jax.tree.map(lambda *leaves: jnp.stack(leaves), *parts)
        else:
            statistics = fit_statistics(x[valid], valid[valid], scaling)
        frozen = state.variables.frozen
        if self.batched:  # on the devices where the rest of the state is
            like = jax.tree.map(lambda leaf: leaf.sharding, frozen.statistics)
            statistics = jax.device_put(statistics, like)
        frozen = frozen._replace(statistics=statistics)
        variables = dataclasses.replace(state.variables, frozen=frozen)
        return state._replace(variables=variables)

    def _store(self, lanes: np.ndarray, keys: Array, x_obs: Array) -> Any:
        if self.folder is None:
            return None
        plan = self.plan
        marks: Marks = {
            # How lanes share a program changes no answer.
            "method": identity(dataclasses.replace(plan.method, lanes_per_call=0))[0],
            "key": identity(keys)[0],
            "x_obs": identity(np.asarray(x_obs))[0],
            "simulator": self.probe,
            **estimator_marks(plan.estimator),
        }
        folder = Path(self.folder).expanduser() / f"lane-{lanes[0] + 1}"
        return Checkpoints(folder, marks)

    def _restored(
        self, store: Checkpoints, state: RoundsState
    ) -> tuple[RoundsState, History]:
        """State and history of the last finished round."""
        like = empty_info(*state.draws.shape[-2:], state.index.shape)
        return store.restore((state, [like] * store.latest()))

    def _report(self, lanes: np.ndarray, info: RoundInfo) -> None:
        if self.progress is None:
            return
        with self.lock:
            for position, lane in enumerate(lanes):
                own = info
                if self.batched:
                    own = jax.tree.map(lambda leaf, p=position: leaf[p], info)
                self.progress(int(lane), own)

    def _lanes(
        self, state: RoundsState, history: History, size: int
    ) -> tuple[list[RoundsState], list[RoundInfo]]:
        """Lane by lane: state, and the rounds that it took part in."""
        joined = jax.tree.map(lambda *leaves: np.stack(leaves), *history)
        if not self.batched:
            return [state], [joined]
        states, histories = [], []
        for lane in range(size):
            own = jax.tree.map(lambda leaf, i=lane: leaf[i], state)
            states.append(own)
            taken = slice(int(own.index))
            histories.append(
                jax.tree.map(lambda leaf, i=lane, t=taken: leaf[t, i], joined)
            )
        return states, histories
