"""Small neural classifiers on the device, many at once: what two-sample tests train.

Multilayer perceptrons with two hidden layers, all of one shape, trained side by side in
one compiled program: Adam with a rate that falls by epochs, stopped early by each
one's own validation rows, of which the best state is kept.
"""

import functools
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array

__all__ = ["Split", "log_odds", "train_classifiers"]

LEARNING_RATE, DECAY = 3e-3, 0.9  # the rate's factor an epoch
MOST_EPOCHS, PATIENCE = 60, 5
LEAST_GAIN = 1e-4  # nats
# Rows of a step: a tenth of all, between these.
LEAST_BATCH, MOST_BATCH = 20, 500
VALIDATION = 0.1


class Split(NamedTuple):
    """Which rows each of K classifiers sees.

    Attributes:
        train: numbers of rows, `[K, n]`.
        valid: numbers of the rows that stop it, `[K, v]`.
    """

    train: np.ndarray
    valid: np.ndarray

    @classmethod
    def of(cls, rows: np.ndarray) -> "Split":
        """Take a tenth of each one's rows `[K, n]`, in random order, to stop it by."""
        count = max(1, round(VALIDATION * rows.shape[1]))
        return cls(rows[:, count:], rows[:, :count])


def train_classifiers(key: Array, x: Array, labels: Array, split: Split) -> Any:
    """Train K classifiers of one table.

    Args:
        key: typed key.
        x: features of about unit size, `[N, F]`.
        labels: 0 or 1 of every row, `[N]`, or for every classifier, `[K, N]`.
        split: the rows of each.

    Returns:
        Their numbers, for `log_odds`.
    """
    x, labels = jnp.asarray(x, jnp.float32), jnp.asarray(labels, jnp.float32)
    batch = split.train.shape[1] // 10
    batch = max(1, min(max(batch, LEAST_BATCH), MOST_BATCH, split.train.shape[1]))
    width = 10 * x.shape[1]
    return _train(key, x, labels, Split(*map(jnp.asarray, split)), batch, width)


@jax.jit
def log_odds(classifiers: Any, x: Array) -> Array:
    """Log odds `[K, n]` of label 1: rows `[K, n, F]` of each, or `[n, F]` of all."""
    return jax.vmap(_logit, (0, 0 if x.ndim == 3 else None))(classifiers, x)


def _logit(layers: Any, x: Array) -> Array:
    for weights, bias in layers[:-1]:
        x = jax.nn.relu(x @ weights + bias)
    weights, bias = layers[-1]
    return (x @ weights + bias)[..., 0]


def _loss(layers: Any, x: Array, labels: Array) -> Array:
    return optax.sigmoid_binary_cross_entropy(_logit(layers, x), labels).mean()


def _initial(key: Array, sizes: tuple[int, ...]) -> list[tuple[Array, Array]]:
    layers = []
    for index, (first, last) in enumerate(zip(sizes[:-1], sizes[1:], strict=True)):
        bound = math.sqrt(6.0 / (first + last))
        keys = jax.random.split(jax.random.fold_in(key, index))
        weights = jax.random.uniform(keys[0], (first, last), jnp.float32, -bound, bound)
        layers.append((weights, jax.random.uniform(keys[1], (last,), jnp.float32)))
        layers[-1] = weights, bound * (2 * layers[-1][1] - 1)
    return layers


class _State(NamedTuple):
    layers: Any
    optimiser: Any
    best: Any
    best_loss: Array  # [K]
    waited: Array  # epochs without a gain, [K]
    epoch: Array


@functools.partial(jax.jit, static_argnames=("batch", "width"))
def _train(
    key: Array, x: Array, labels: Array, split: Split, batch: int, width: int
) -> Any:
    count, rows = split.train.shape
    adam, steps = optax.adam(LEARNING_RATE), rows // batch
    keys = jax.random.split(jax.random.fold_in(key, 0), count)
    layers = jax.vmap(lambda k: _initial(k, (x.shape[1], width, width, 1)))(keys)

    def labels_of(index: Array) -> Array:
        if labels.ndim == 1:
            return labels[index]
        return jnp.take_along_axis(labels, index, 1)

    seen = x[split.valid], labels_of(split.valid)
    validate = jax.vmap(_loss)

    def step(state: tuple[Any, Any], taken: tuple[Array, Array]) -> tuple[Any, None]:
        layers, optimiser = state
        index, rate = taken
        gradients = jax.vmap(jax.grad(_loss))(layers, x[index], labels_of(index))
        updates, optimiser = jax.vmap(adam.update)(gradients, optimiser)
        layers = jax.tree.map(lambda a, b: a + rate * b, layers, updates)
        return (layers, optimiser), None

    def epoch(state: _State) -> _State:
        seed = jax.random.fold_in(jax.random.fold_in(key, 1), state.epoch)
        shuffle = jax.vmap(jax.random.permutation)
        order = shuffle(jax.random.split(seed, count), split.train)[:, : steps * batch]
        order = order.reshape(count, steps, batch).swapaxes(0, 1)
        rate = jnp.full(steps, DECAY**state.epoch, jnp.float32)
        moved, _ = jax.lax.scan(step, (state.layers, state.optimiser), (order, rate))
        loss = validate(moved[0], *seen)
        better = loss < state.best_loss

        def kept(new: Array, old: Array) -> Array:
            return jnp.where(better.reshape(-1, *[1] * (new.ndim - 1)), new, old)

        best = jax.tree.map(kept, moved[0], state.best)
        gained = loss < state.best_loss - LEAST_GAIN
        waited = jnp.where(gained, 0, state.waited + 1)
        least = jnp.minimum(loss, state.best_loss)
        return _State(*moved, best, least, waited, state.epoch + 1)

    def goes_on(state: _State) -> Array:
        return (state.waited < PATIENCE).any() & (state.epoch < MOST_EPOCHS)

    optimiser = jax.vmap(adam.init)(layers)
    waited = jnp.zeros(count, jnp.int32)
    start = _State(
        *(layers, optimiser, layers, validate(layers, *seen), waited, jnp.int32(0))
    )
    return jax.lax.while_loop(goes_on, epoch, start).best
