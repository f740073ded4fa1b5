"""The fit of a round: solve the start on the rows so far, then train.

Buffers have the size of all rounds from the start, so one compiled program serves every
round; training ends inside the program.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from flowinv.flows.estimator import MAX_SOLVE, Frozen, Variables
from flowinv.losses.apt import make_apt_loss
from flowinv.losses.npe import Batch, npe_loss
from flowinv.sequential.config import APT
from flowinv.sequential.plan import TRAIN, Plan
from flowinv.sequential.rows import (
    as_block,
    held_out,
    packed,
    partial_source,
    usable,
)
from flowinv.sequential.state import RoundsState
from flowinv.training.config import make_optimizer
from flowinv.training.epoch import EpochParts, run_epoch
from flowinv.training.packing import Packing, as_vector
from flowinv.training.state import TrainState, init_state
from flowinv.training.update import make_update, make_validate

__all__ = ["Prepared", "Trained", "prepare", "train_round"]

# Streams of a network's key.
_DRAW, _STEPS = range(2)

Loss = Any


class Prepared(NamedTuple):
    """Training data of a round.

    Attributes:
        frozen: statistics and solves.
        training: packed training rows.
        num_train: those that differ.
        validation: validation rows as one block.
        num_used: usable rows of both kinds.
    """

    frozen: Frozen
    training: Batch
    num_train: Array
    validation: Batch
    num_used: Array


class Trained(NamedTuple):
    """What training gives.

    Attributes:
        variables: best networks.
        validation_loss: their loss, nats (mean over an ensemble).
        steps: steps taken.
    """

    variables: Variables
    validation_loss: Array
    steps: Array


def prepare(plan: Plan, state: RoundsState) -> Prepared:
    """Solve the start on the usable rows, and turn them into features."""
    use, held = usable(plan, state), held_out(plan.num_rows)
    num_held = plan.num_rows // 10
    size = plan.num_rows - num_held
    train_rows, num_train = packed(use & ~held, size)
    held_rows, count_held = packed(use & held, num_held)
    frozen = _solve(plan, state, train_rows, held_rows)
    # All rows at once: the compiled program holds the features once.
    rows = jnp.concatenate([train_rows, held_rows])
    batch = Batch(
        plan.estimator.prior_of(frozen).to_latent(state.theta[rows]),
        plan.estimator.features(frozen, state.x[rows]),
        state.valid[rows],
        state.round[rows],
    )
    training, validation = (
        jax.tree.map(lambda leaf, part=part: leaf[part], batch)
        for part in (slice(size), slice(size, None))
    )
    validation = as_block(validation, count_held)
    return Prepared(frozen, training, num_train, validation, use.sum())


def _solve(plan: Plan, state: RoundsState, train: Array, held: Array) -> Frozen:
    """Frozen numbers of this round; a warm start keeps those of the first."""
    old = state.variables.frozen
    if plan.is_cut:
        old = old._replace(box=plan.box(state, state.index))
    held = held[:MAX_SOLVE]
    rows = jnp.concatenate([train[:MAX_SOLVE], held])
    solved = plan.estimator.solve_rows(old, state.theta[rows], state.x[rows], len(held))
    if not plan.config.warm_start:
        return solved
    first = state.index == 0
    return jax.tree.map(lambda new, old: jnp.where(first, new, old), solved, old)


def train_round(plan: Plan, state: RoundsState, prepared: Prepared) -> Trained:
    """Train this round's networks; a stopped lane takes no step."""
    estimator, config = plan.estimator, plan.config.train
    frozen = prepared.frozen
    packing = as_vector(jax.eval_shape(estimator.draw, state.key, frozen))
    parts = _parts(plan, state, prepared, packing)

    def member(key: Array, old: Any) -> TrainState:
        params = estimator.draw(jax.random.fold_in(key, _DRAW), frozen)
        if plan.config.warm_start:
            first = state.index == 0
            params = jax.tree.map(lambda a, b: jnp.where(first, a, b), params, old)
        start = init_state(
            jax.random.fold_in(key, _STEPS),
            packing.pack(params),
            make_optimizer(config, config.epochs(1) * config.steps_per_epoch),
            config.ema_decay > 0,
        )
        return jax.lax.while_loop(
            lambda s: ~s.stopped,
            lambda s: run_epoch(parts, s, prepared.training, prepared.validation)[0],
            start._replace(stopped=state.stopped),
        )

    key, old = plan.round_key(state, TRAIN), state.variables.params
    if config.num_members == 1:
        trained = member(key, old)
        params = packing.unpack(trained.best_params)
    else:
        keys = jax.random.split(key, config.num_members)
        trained = jax.vmap(member)(keys, old)
        params = jax.vmap(packing.unpack)(trained.best_params)
    return Trained(
        Variables(params, frozen), trained.best_loss.mean(), trained.step.mean()
    )


def _parts(
    plan: Plan, state: RoundsState, prepared: Prepared, packing: Packing
) -> EpochParts:
    """Source, update and validation of this round."""
    config, estimator = plan.config.train, plan.estimator
    inner, frozen = _loss(plan, state, prepared.frozen), prepared.frozen

    def apply(params: Any, z: Array, features: Any) -> tuple[Array, Array]:
        variables = Variables(packing.unpack(params), frozen)
        return estimator.latent_log_prob(variables, z, features)

    def loss(params: Any, batch: Batch, key: Array) -> tuple[Array, Array]:
        return inner(apply, params, batch, key)

    epochs = config.epochs(1)
    source = partial_source(
        prepared.training,
        prepared.num_train,
        config.batch_size,
        config.steps_per_epoch,
    )
    optimizer = make_optimizer(config, epochs * config.steps_per_epoch)
    update = make_update(loss, optimizer, config.ema_decay)
    return EpochParts(source, update, make_validate(loss), config.patience, epochs)


def _loss(plan: Plan, state: RoundsState, frozen: Frozen) -> Loss:
    """Plain maximum likelihood for prior rows, atoms where a posterior proposed."""
    config = plan.config
    if not isinstance(config, APT):
        return npe_loss
    prior = plan.estimator.prior_of(frozen)
    atomic = make_apt_loss(config.num_atoms, prior.latent_log_prob, config.combined)
    plain = max(config.truncated_rounds, 1)

    def loss(apply: Any, params: Any, batch: Batch, key: Array) -> Any:
        # Until a row comes from a posterior the plain loss is exact, and sharper.
        return jax.lax.cond(
            state.index < plain,
            lambda: npe_loss(apply, params, batch, key),
            lambda: atomic(apply, params, batch, key),
        )

    return loss
