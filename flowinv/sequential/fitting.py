"""The fit of a round: place the flow on the rows so far, then train.

Buffers have the size of all rounds from the start, so one compiled program serves every
round; training ends inside the program.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from flowinv.data.standardise import restandardise
from flowinv.losses.npe import Batch
from flowinv.models.estimator import MAX_SOLVE, Estimator, Frozen, Rows, Variables
from flowinv.models.placing import nearness
from flowinv.models.residuals import errors_from_normal
from flowinv.sequential.method import Plan
from flowinv.sequential.rows import (
    filled,
    held_out,
    newest,
    packed,
)
from flowinv.sequential.state import TRAIN, RoundsState
from flowinv.training.engine import form_of, make_parts
from flowinv.training.epoch import answer, run_epoch
from flowinv.training.source import growing_source
from flowinv.training.state import Schedule, TrainState, init_state
from flowinv.types import Placed

__all__ = ["Prepared", "Trained", "prepare", "train_round"]

# Errors by which residuals near x_obs are unlike normals, and by which training must
# gain there: what begins to be doubted, and what is refuted. In 150 fits of Gaussian
# posteriors the first number was 3.8 at most, and below 3.4 in 147.
UNLIKE, GAIN = (3.4, 4.0), (3.0, -2.0)
# Streams of a network's key.
_DRAW, _STEPS = range(2)


class Prepared(NamedTuple):
    """Training data of a round.

    Attributes:
        frozen: statistics and solves.
        training: packed training rows, repeated ones marked as invalid.
        num_train: valid ones.
        validation: validation rows as one block, in the same way.
        num_used: usable rows of both kinds.
        num_effective: as many rows of equal weight would say as much.
        near: validation rows, weighed by how near their x is to x_obs.
        unlike: errors by which all rows near x_obs are unlike what the start says.
        params: networks that training begins with, one for each member.
    """

    frozen: Frozen
    training: Batch
    num_train: Array
    validation: Batch
    num_used: Array
    num_effective: Array
    near: Batch
    unlike: Array
    params: Any


class Trained(NamedTuple):
    """What training gives.

    Attributes:
        variables: best networks.
        validation_loss: their loss, nats, mostly of held-out rows near x_obs (mean over
            an ensemble).
        steps: steps taken.
    """

    variables: Variables
    validation_loss: Array
    steps: Array


def prepare(plan: Plan, state: RoundsState, x_obs: Array) -> Prepared:
    """Place the flow on the usable rows, and turn them into features."""
    weights = jnp.where(filled(state), plan.method.weights(plan, state, x_obs), 0.0)
    there = (weights > 0) & (state.valid | plan.method.keeps_failed)
    weights = jnp.where(state.valid, weights, 0.0)
    use = weights > 0
    weights = weights * use.sum() / jnp.maximum(weights.sum(), 1e-30)
    effective = weights.sum() ** 2 / jnp.maximum((weights**2).sum(), 1e-30)
    held = held_out(plan.num_rows)
    num_held = plan.num_rows // 10
    size = plan.num_rows - num_held
    train_rows, num_train = packed(there & ~held, size)
    others = packed(there & held, num_held)
    placing = plan.method.placing_weights(plan, state, weights)
    # Without the rows that it would rather have, the start is solved on all.
    placing = jnp.where((placing > 0).any(), placing, weights)
    frozen = _solve(plan, state, placing, x_obs)
    # All rows at once: the compiled program holds the features once.
    rows = jnp.concatenate([train_rows, others[0]])
    batch = Batch(
        plan.estimator.latent_of(frozen, state.z[rows]),
        plan.estimator.features(frozen, state.x[rows]),
        jnp.concatenate([_in_turn(train_rows, num_train), _in_turn(*others)]),
        plan.method.from_prior(state)[rows],
        weights[rows],
    )
    training, validation = (
        jax.tree.map(lambda leaf, part=part: leaf[part], batch)
        for part in (slice(size), slice(size, None))
    )
    own = plan.estimator.placed_of(plan.estimator.features(frozen, x_obs))
    near, unlike = validation, jnp.zeros(())
    if own is not None:
        near = _near(plan.estimator, own, validation)
        # By the rows that the start is solved on, which no atoms correct.
        unlike = _unlike(plan.estimator, own, batch._replace(weight=placing[rows]))
    validation, near = jax.tree.map(lambda leaf: leaf[None], (validation, near))
    return Prepared(
        frozen,
        training,
        num_train,
        validation,
        use.sum(),
        effective,
        near,
        unlike,
        _networks(plan, state, frozen),
    )


def _networks(plan: Plan, state: RoundsState, frozen: Frozen) -> Any:
    """New networks, or the last round's, of all members."""

    def new(key: Array) -> Any:
        return plan.estimator.draw(jax.random.fold_in(key, _DRAW), frozen)

    keys, one = _member_keys(plan, state), plan.method.train.num_members == 1
    drawn = new(keys) if one else jax.vmap(new)(keys)
    return _kept(plan, state, drawn, state.variables.params)


def _member_keys(plan: Plan, state: RoundsState) -> Array:
    """The key of the only network, or one for each member."""
    key, count = plan.round_key(state, TRAIN), plan.method.train.num_members
    return key if count == 1 else jax.random.split(key, count)


def _near(estimator: Estimator, own: Placed, rows: Batch) -> Batch:
    """Rows with weights that fall with the distance of their x from x_obs."""
    # Above 0, so that every row still counts.
    close = jnp.maximum(nearness(own, estimator.placed_of(rows.features)), 1e-12)
    mean = rows.weigh(close).sum() / jnp.maximum(rows.counts.sum(), 1)
    return rows._replace(weight=rows.weight * close / jnp.maximum(mean, 1e-30))


def _unlike(estimator: Estimator, own: Placed, rows: Batch) -> Array:
    """By how many errors the residuals of rows near x_obs are no normals.

    Those that are trained on say so as well, since the start has few numbers that they
    could have been fitted by: ten times as many as judge the trained network.
    """
    placed = estimator.placed_of(rows.features)
    # Nearer ones than those that judge: edges of a region bend the others.
    weights = rows.weigh(nearness(own, placed) ** 2)
    return jnp.nan_to_num(errors_from_normal(placed, rows.z, weights))


def _solve(
    plan: Plan,
    state: RoundsState,
    weights: Array,
    x_obs: Array,
) -> Frozen:
    """Statistics and solved Gaussian of the rows that count, made anew each round."""
    scaling = plan.estimator.input_scaling
    old = state.variables.frozen.statistics
    held, num_held = held_out(plan.num_rows), plan.num_rows // 10
    used = (weights > 0) & ~held
    statistics = restandardise(old, state.x, used, scaling)
    packs = (
        newest(used, min(MAX_SOLVE, plan.num_rows - num_held)),
        newest((weights > 0) & held, min(MAX_SOLVE, num_held)),
    )
    rows = jnp.concatenate([own for own, _ in packs])
    counts = [jnp.where(_in_turn(*pack), weights[pack[0]], 0.0) for pack in packs]
    none = [jnp.zeros_like(count) for count in counts]
    return plan.estimator.solve(
        statistics,
        Rows(
            state.theta[rows],
            state.z[rows],
            state.x[rows],
            jnp.concatenate([counts[0], none[1]]),
            jnp.concatenate([none[0], counts[1]]),
            # Later rounds ask about one x: errors at a region's edges are not its own.
            may_vary=state.index == 0,
            # Failures select as well; the first round's rows are the prior's.
            selected=plan.method.selects
            and (state.index > 0) & (state.valid | ~filled(state)).all(),
            x_obs=x_obs,
        ),
        plan.method.latent_box(state.region, state.index),
    )


def _in_turn(rows: Array, count: Array) -> Array:
    """True for the first turn of packed rows: each counts once."""
    return jnp.arange(len(rows)) < count


def _kept(plan: Plan, state: RoundsState, new: Any, old: Any) -> Any:
    """`old` in rounds that go on with the last network, else `new`."""
    keep = plan.method.keeps_network(state.index)
    if keep is None:
        return new
    return jax.tree.map(lambda a, b: jnp.where(keep, b, a), new, old)


def train_round(plan: Plan, state: RoundsState, prepared: Prepared) -> Trained:
    """Train this round's networks; a stopped lane takes no step.

    Training that does not surely improve on its start, for x near x_obs, returns that
    (`make_choose`): far off it, the region's edges cut what the start takes for a
    Gaussian, and training gains there whatever it does to the answer. Where rows near
    x_obs refute the start it is returned only if training is surely worse: a tenth of
    the rows, held out, is too few to see gains below 0.03 nats.
    """
    estimator, config = plan.estimator, plan.method.train
    frozen = prepared.frozen
    source = growing_source(plan.method.batch_rows, config.steps_per_epoch)
    loss = plan.method.loss(estimator.prior_of(frozen), state.index)
    form = form_of(jax.eval_shape(estimator.draw, state.key, frozen))
    # Every row is seen in every epoch, however many rounds there are.
    least = config.steps_per_epoch
    batches = prepared.num_train // plan.method.batch_rows
    steps = jnp.maximum(least, batches).astype(jnp.int32)
    # The last network is the answer: it is trained longer.
    is_last = state.index + 1 == plan.method.num_rounds
    times = jnp.where(is_last, plan.method.last_training, 1)
    schedule = Schedule(
        times * config.epochs(1),
        config.patience,
        rate_steps=least * config.epochs(1),
        longer=times * steps / least,
    )
    parts, optimizer = make_parts(estimator, loss, config, source, form, schedule)

    def epoch(s: TrainState) -> TrainState:
        # Before the first, what training begins with is validated.
        taken = jnp.where(s.epoch < 0, 0, steps)
        return run_epoch(parts, s, prepared.training, prepared.validation, taken)[0]

    def member(key: Array, params: Any) -> TrainState:
        first = form.ravel(params)
        start = init_state(
            jax.random.fold_in(key, _STEPS), first, optimizer, config.ema_decay > 0
        )
        trained = jax.lax.while_loop(
            lambda s: ~s.stopped,
            epoch,
            start._replace(stopped=state.stopped),
        )
        sure = jnp.interp(prepared.unlike, jnp.asarray(UNLIKE), jnp.asarray(GAIN))
        chosen = answer(parts, first, trained, prepared.near, sure)
        return trained._replace(best_params=chosen.params, best_loss=chosen.loss)

    keys, networks = _member_keys(plan, state), prepared.params
    if config.num_members == 1:
        trained = member(keys, networks)
        params = form.unravel(trained.best_params)
    else:
        trained = jax.vmap(member)(keys, networks)
        params = jax.vmap(form.unravel)(trained.best_params)
    variables = Variables(params, frozen, config.num_members)
    return Trained(variables, trained.best_loss.mean(), trained.step.mean())
