"""The compiled programs of rounds: one of each kind serves all rounds and lanes."""

import functools
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, ShapeDtypeStruct
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from flowinv.compiling import compiled, strong
from flowinv.data.simulate import by_parts
from flowinv.identity import by_content
from flowinv.sequential.fitting import Prepared, Trained, prepare, train_round
from flowinv.sequential.method import Plan, Proposal
from flowinv.sequential.outcome import finish
from flowinv.sequential.rows import append
from flowinv.sequential.state import (
    PROPOSE,
    SIMULATE,
    RoundInfo,
    RoundsState,
)
from flowinv.types import Simulator

__all__ = ["Programs", "compile_ahead", "lane_sharding", "make_programs"]


class Programs(NamedTuple):
    """Jitted stages; states, keys and x_obs have a leading lane axis if batched.

    Attributes:
        batched: whether they take a batch of lanes.
        start: `(keys) -> state`.
        propose: `(state, x_obs) -> Proposal`.
        simulate: `(state, theta) -> (x, valid)`; None for host simulators.
        append: `(state, proposal, x, valid, x_obs) -> (state, distance)`, donates.
        prepare: `(state, x_obs) -> Prepared`.
        train: `(state, prepared) -> Trained`.
        finish: `(state, trained, prepared, distance, x_obs) -> (state, info)`.
    """

    batched: bool
    start: Callable[[Array], RoundsState]
    propose: Callable[[RoundsState, Array], Proposal]
    simulate: Callable[[RoundsState, Array], tuple[Array, Array]] | None
    append: Callable[..., tuple[RoundsState, Array]]
    prepare: Callable[[RoundsState, Array], Prepared]
    train: Callable[[RoundsState, Prepared], Trained]
    finish: Callable[..., tuple[RoundsState, RoundInfo]]

    def fit(
        self, state: RoundsState, distance: Array, x_obs: Array
    ) -> tuple[RoundsState, RoundInfo]:
        """The fit of a round and what follows from it."""
        ready = self.prepare(state, x_obs)
        return self.finish(state, self.train(state, ready), ready, distance, x_obs)


@by_content(maxsize=16)
def make_programs(
    plan: Plan,
    simulator: Simulator,
    x_shape: tuple[int, ...],
    batched: bool,
    at_once: int | None = None,
) -> Programs:
    """Compile-ready programs for one lane, or for a batch of lanes.

    Equal arguments give the same programs: a second call compiles nothing.

    Args:
        plan: what is static.
        simulator: with `simulate(key, theta)` it becomes a program as well.
        x_shape: shape of one observation.
        batched: vmap every stage over a leading lane axis.
        at_once: rows that a lane simulates side by side; None for all.
    """
    method = plan.method

    def program(stage: Callable, donate: tuple[int, ...] = (), **how: bool) -> Any:
        return compiled(_lanes(stage) if batched else stage, donate=donate, **how)

    def propose(state: RoundsState, x_obs: Array) -> Proposal:
        return method.propose(plan, plan.round_key(state, PROPOSE), state, x_obs)

    def simulate(state: RoundsState, theta: Array) -> tuple[Array, Array]:
        own = plan.round_key(state, SIMULATE)
        rows = jnp.arange(len(theta), dtype=jnp.int32)
        keys = jax.vmap(jax.random.fold_in, (None, 0))(own, rows)
        x = by_parts(lambda row: simulator.simulate(*row), (keys, theta), at_once)
        return x, jnp.isfinite(x).reshape(len(theta), -1).all(-1)

    def put(
        state: RoundsState, proposal: Proposal, x: Array, valid: Array, x_obs: Array
    ) -> tuple[RoundsState, Array]:
        distance = method.proposal_distance(plan, state, x_obs, proposal.theta)
        return append(plan, state, proposal, x, valid), distance

    in_jax = hasattr(simulator, "simulate")
    return Programs(
        batched,
        program(lambda key: strong(plan.start(key, x_shape)), once=True),
        program(propose, once=True),
        program(simulate, once=True) if in_jax else None,
        program(put, donate=(0,), once=True),
        # Three programs, so that only training is compiled for speed.
        program(functools.partial(prepare, plan), once=True),
        program(functools.partial(train_round, plan)),
        program(functools.partial(finish, plan), once=True),
    )


@functools.lru_cache(maxsize=16)
def compile_ahead(
    programs: Programs,
    keys: ShapeDtypeStruct,
    x_obs: ShapeDtypeStruct,
    num_simulations: int,
) -> None:
    """Compile the stages of a round side by side; calls of them find the programs.

    One after another they take longer: a process with two small runs took 31 s instead
    of 22 on two cores, its start and all else included.
    """
    lanes = keys.shape
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        jobs = []

        def compiling(stage: Any, *arguments: Any) -> Any:
            """What the stage returns, in shapes, while it is compiled."""
            lowered = stage.lower(*arguments)
            jobs.append(pool.submit(lowered.compile))
            return jax.tree.map(
                lambda leaf: ShapeDtypeStruct(leaf.shape, leaf.dtype), lowered.out_info
            )

        state = compiling(programs.start, keys)
        ready = compiling(programs.prepare, state, x_obs)
        trained = compiling(programs.train, state, ready)
        proposal = compiling(programs.propose, state, x_obs)
        if programs.simulate is not None:
            x, valid = compiling(programs.simulate, state, proposal.theta)
        else:
            rows = (*lanes, num_simulations)
            x = ShapeDtypeStruct((*rows, *x_obs.shape[len(lanes) :]), jnp.float32)
            valid = ShapeDtypeStruct(rows, jnp.bool_)
        _, distance = compiling(programs.append, state, proposal, x, valid, x_obs)
        compiling(programs.finish, state, trained, ready, distance, x_obs)
        for job in jobs:
            job.result()


def _lanes(stage: Callable) -> Callable:
    """`stage` over a leading lane axis, every device with lanes of its own.

    Left to the compiler, the loops of all devices would ask each other after every step
    whether some lane goes on.
    """
    batched = jax.vmap(stage)

    def run(*arguments: Any) -> Any:
        sharding = lane_sharding(len(jax.tree.leaves(arguments)[0]))
        if sharding is None:
            return batched(*arguments)
        leaves, tree = jax.tree.flatten(arguments)

        # Inputs without elements (no placed Gaussian, no embedding) are made inside:
        # they kill jax 0.11's compiler, by a segmentation fault in its canonicaliser.
        def whole(*full: Array) -> Any:
            rest, lanes = iter(full), len(full[0])
            parts = [
                next(rest) if a.size else jnp.zeros((lanes, *a.shape[1:]), a.dtype)
                for a in leaves
            ]
            return batched(*tree.unflatten(parts))

        # Nothing is exchanged between lanes: there is nothing to check.
        own = jax.shard_map(
            whole,
            mesh=sharding.mesh,
            in_specs=sharding.spec,
            out_specs=sharding.spec,
            check_vma=False,
        )
        return own(*(leaf for leaf in leaves if leaf.size))

    # Compilers and profilers speak of the stage.
    run.__name__ = getattr(stage, "func", stage).__name__
    return run


def lane_sharding(num_lanes: int) -> NamedSharding | None:
    """Lanes spread over all devices, None if there is one or lanes do not divide."""
    devices = jax.devices()
    if len(devices) == 1 or num_lanes % len(devices):
        return None
    mesh = Mesh(np.asarray(devices), ("lane",))
    return NamedSharding(mesh, PartitionSpec("lane"))
