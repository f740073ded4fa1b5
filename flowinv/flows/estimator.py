"""The estimator: q(theta | x) from a prior, an embedding and a flow.

x -> features (frozen statistics) -> context (trained embedding) -> flow over the latent
z of the prior. Features depend on no trained number, so a fixed set of simulations is
turned into features once.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from flowinv.checks import check_at_least, check_shape, fail
from flowinv.compiling import compiler_options
from flowinv.data.standardise import (
    Statistics,
    fit_statistics,
    resolve_scaling,
    standardise,
)
from flowinv.flows.anchor import (
    AnyPrior,
    anchor_in_latent,
    anchor_terms,
    edge_distances,
    solve_anchor,
)
from flowinv.flows.base import ConditionalFlow
from flowinv.flows.start import RidgeStart
from flowinv.priors.cut import Box, CutPrior
from flowinv.priors.latent import Prior
from flowinv.types import Dataset

__all__ = ["Estimator", "Features", "Frozen", "Params", "Variables"]

# Rows of a solve: more would not move a few hundred coefficients by an error bar.
MAX_SOLVE = 20_000

Params = Any
"""Trained numbers: a dict with the trees `flow` and `embedding`."""


class Frozen(NamedTuple):
    """Numbers solved from the training rows before training, and then kept.

    Attributes:
        statistics: input statistics of x.
        summary: mean and sd of the summaries, each `[S]`.
        anchor: solved estimate of theta.
        start: the flow's `start` collection.
        box: box of the prior's latent that truncated rounds cut it to; None for the
            whole prior.
    """

    statistics: Statistics
    summary: tuple[Array, Array]
    anchor: RidgeStart
    start: Any
    box: Box | None = None


class Variables(NamedTuple):
    """Everything numeric about an estimator: a pytree."""

    params: Params
    frozen: Frozen


class Features(NamedTuple):
    """What the trained part sees of one x.

    Attributes:
        inputs: standardised x, `[..., *x_shape]`, or size 0 without an embedding.
        extras: standardised summaries, the anchor and its distances from the edges,
            `[..., S + 4 D]`.
    """

    inputs: Array
    extras: Array


@dataclass(frozen=True)
class Estimator:
    """q(theta | x) as a frozen description; its numbers live in `Variables`.

    Attributes:
        prior: prior of theta.
        flow: any flow of `flowinv.flows`.
        embedding: linen module from standardised x to `[..., C]`; None takes the
            summaries alone, or the flattened x where there are none.
        summary: raw x to summaries `[..., S]`, such as `profile_moments`; or None.
        input_scaling: map of x before standardisation, `auto` decides from the data
            (`resolve` then names the choice).
        anchored: solve the start (see `flowinv.flows.anchor`).
    """

    prior: Prior
    flow: ConditionalFlow
    embedding: nn.Module | None = None
    summary: Callable[[Array], Array] | None = None
    input_scaling: str = "auto"
    anchored: bool = True

    def resolve(self, data: Dataset) -> "Estimator":
        """Return this estimator with `auto` input scaling replaced by its choice."""
        scaling = resolve_scaling(data.x, data.valid, self.input_scaling)
        return Estimator(
            self.prior, self.flow, self.embedding, self.summary, scaling, self.anchored
        )

    def prior_of(self, frozen: Frozen) -> AnyPrior:
        """Return the prior whose latent the flow lives in: cut where rounds cut it."""
        return self.prior if frozen.box is None else CutPrior(self.prior, frozen.box)

    def init(self, key: Array, data: Dataset, num_validation: int) -> Variables:
        """Solve the frozen part on `data` and draw the trained one.

        Args:
            key: typed key.
            data: see `solve`.
            num_validation: see `solve`.
        """
        frozen = self.solve(data, num_validation)
        return Variables(self.draw(key, frozen), frozen)

    def solve(self, data: Dataset, num_validation: int) -> Frozen:
        """Solve what is known before training: statistics, anchor, start.

        Args:
            data: valid simulations, the validation rows last. Statistics and solves
                use the rows before them; validation rows choose penalties only.
            num_validation: number of validation rows, at least 2.

        Raises:
            ValueError: for unresolved `auto` scaling, too few rows, a theta of another
                size than the prior's.
        """
        count = len(data.theta) - num_validation
        check_at_least("num_validation", num_validation, 2)
        check_at_least("number of training simulations", count, 2)
        check_shape("theta", data.theta.shape[1:], (self.prior.dim,))
        rows = np.arange(len(data.theta)) < count
        statistics = fit_statistics(data.x, rows, self.input_scaling)
        summary = self._summary_scale(data.x[:count])
        frozen = Frozen(statistics, summary, self._no_anchor(0), None)
        if self.anchored:
            first = max(0, count - MAX_SOLVE)
            held = min(num_validation, MAX_SOLVE)
            some = slice(first, count + held)
            options = compiler_options(once=True)
            solve = jax.jit(self._solve, static_argnums=3, compiler_options=options)
            anchor = solve(frozen, data.theta[some], data.x[some], held)
            frozen = frozen._replace(anchor=anchor)
        return frozen._replace(start=self._start(frozen))

    def solve_rows(
        self, frozen: Frozen, theta: Array, x: Array, num_validation: int
    ) -> Frozen:
        """Solve summaries' scale, anchor and start anew; pure, for rounds.

        Args:
            frozen: input statistics and box are kept.
            theta: parameters inside the box, validation rows last, `[N, D]`.
            x: their simulations, `[N, *x_shape]`.
            num_validation: number of validation rows.
        """
        count = len(theta) - num_validation
        if self.summary is not None:
            values = self.summary(x[:count])
            mean, scale = values.mean(0), values.std(0)
            scale = jnp.where(scale > 1e-6 * jnp.abs(mean), scale, 1.0)
            frozen = frozen._replace(summary=(mean, scale))
        if self.anchored:
            anchor = self._solve(frozen, theta, x, num_validation)
            frozen = frozen._replace(anchor=anchor)
        return frozen._replace(start=self._start(frozen))

    def draw(self, key: Array, frozen: Frozen) -> Params:
        """Draw new trained parameters for frozen numbers; jit-able."""
        # Only shapes matter: initialisers alone are left in the compiled program.
        key_embedding, key_flow = jax.random.split(key)
        features, context = self._shapes(frozen)
        z = jax.ShapeDtypeStruct((1, self.prior.dim), jnp.float32)
        flow = self.flow.lazy_init(key_flow, z, context)["params"]
        if self.embedding is None:
            return {"embedding": {}, "flow": flow}
        embedding = self.embedding.lazy_init(key_embedding, features.inputs)
        return {"embedding": embedding["params"], "flow": flow}

    def features(self, frozen: Frozen, x: Array) -> Features:
        """Turn raw x `[..., *x_shape]` into features; no trained number enters."""
        inputs = standardise(frozen.statistics, x, self.input_scaling)
        event = frozen.statistics.shift.ndim
        batch = inputs.shape[: inputs.ndim - event]
        extras = [jnp.zeros((*batch, 0))]
        if self.summary is not None:
            extras.append(self._summaries(frozen, x))
        if self.anchored:
            regressors = self._regressors(frozen, x)
            prior = self.prior_of(frozen)
            extras.append(anchor_in_latent(prior, frozen.anchor, regressors))
            extras.append(edge_distances(prior, frozen.anchor, regressors))
        if self.embedding is None and self.summary is not None:
            inputs = jnp.zeros((*batch, 0))
        return Features(inputs, jnp.concatenate(extras, -1))

    def context(self, params: Params, features: Features) -> Array:
        """Return the context `[..., C]`: embedding, summaries, anchor."""
        inputs = features.inputs
        if self.embedding is not None:
            inputs = self.embedding.apply({"params": params["embedding"]}, inputs)
        inputs = inputs.reshape(*features.extras.shape[:-1], -1)
        return jnp.concatenate([features.extras, inputs], -1)

    def flow_variables(self, variables: Variables) -> dict[str, Any]:
        """Return the flow's own collections, for `flow.apply`."""
        start = variables.frozen.start
        return {"params": variables.params["flow"], "start": start}

    def latent_log_prob(
        self, variables: Variables, z: Array, features: Features
    ) -> tuple[Array, Array]:
        """Return log q(z | x) and the out-of-range share, `[...]` each."""
        context = self.context(variables.params, features)
        method = self.flow.log_prob_and_range
        return self.flow.apply(
            self.flow_variables(variables), z, context, method=method
        )

    def _regressors(self, frozen: Frozen, x: Array) -> Array:
        """What the anchor regresses on: summaries, or the flattened x."""
        if self.summary is not None:
            return self._summaries(frozen, x)
        inputs = standardise(frozen.statistics, x, self.input_scaling)
        event = frozen.statistics.shift.ndim
        return inputs.reshape(*inputs.shape[: inputs.ndim - event], -1)

    def _summaries(self, frozen: Frozen, x: Array) -> Array:
        mean, scale = frozen.summary
        return (self.summary(x) - mean) / scale

    def _summary_scale(self, x: Array) -> tuple[Array, Array]:
        if self.summary is None:
            return jnp.zeros(0), jnp.ones(0)
        summary = jax.jit(self.summary, compiler_options=compiler_options())
        values = np.asarray(summary(x), np.float64)
        if not np.isfinite(values).all():
            fail("summaries of the training rows", "to be finite", "inf or NaN")
        scale = np.where(values.std(0) > 0, values.std(0), 1.0)
        mean = values.mean(0)
        return jnp.asarray(mean, jnp.float32), jnp.asarray(scale, jnp.float32)

    def _solve(
        self, frozen: Frozen, theta: Array, x: Array, num_validation: int
    ) -> RidgeStart:
        prior = self.prior_of(frozen)
        features = self._regressors(frozen, x)
        return solve_anchor(prior, features, prior.to_latent(theta), num_validation)

    def _no_anchor(self, terms: int) -> RidgeStart:
        kernel = jnp.zeros((terms, self.prior.dim))
        return RidgeStart(kernel, kernel.sum(0), kernel, kernel.sum(0))

    def skeleton(self, x_shape: tuple[int, ...]) -> Variables:
        """Return variables of the right structure, for an x of shape `x_shape`.

        The numbers mean nothing; model files compare and fill the structure.
        """
        zeros = jnp.zeros(x_shape)
        ones = zeros + 1.0
        statistics = Statistics(zeros, ones, zeros, ones)
        size = 0 if self.summary is None else self.summary(ones).shape[-1]
        summary = jnp.zeros(size), jnp.ones(size)
        frozen = Frozen(statistics, summary, self._no_anchor(0), None)
        if self.anchored:
            terms = anchor_terms(self._regressors(frozen, ones)).shape[-1]
            frozen = frozen._replace(anchor=self._no_anchor(terms))
        frozen = frozen._replace(start=self._start(frozen))
        return Variables(self.draw(jax.random.key(0), frozen), frozen)

    def _start(self, frozen: Frozen) -> Any:
        """The flow's `start`: the head takes the anchor out of the context."""
        dim, rows = self.prior.dim, np.arange(self.prior.dim)
        context = self._shapes(frozen)[1]
        sizes = {"kernel": (context.shape[-1], dim), "bias": (dim,)}
        head = {
            f"{what}_{name}": np.zeros(size, np.float32)
            for what in ("mean", "scale")
            for name, size in sizes.items()
        }
        if self.anchored:
            begin = frozen.summary[0].shape[-1]
            head["mean_kernel"][begin + rows, rows] = 1.0
            head["scale_kernel"][begin + dim + rows, rows] = 1.0
        return {"head": {name: jnp.asarray(a) for name, a in head.items()}}

    def _shapes(self, frozen: Frozen) -> tuple[Features, jax.ShapeDtypeStruct]:
        """Shapes of the features and of the context of one observation."""

        def shapes(x: Array) -> tuple[Features, Array]:
            features = self.features(frozen, x)
            params = {}
            if self.embedding is not None:
                drawn = self.embedding.init(jax.random.key(0), features.inputs)
                params["embedding"] = drawn["params"]
            return features, self.context(params, features)

        x_shape = (1, *frozen.statistics.shift.shape)
        return jax.eval_shape(shapes, jax.ShapeDtypeStruct(x_shape, jnp.float32))
