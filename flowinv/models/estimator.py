"""The estimator: q(theta | x) from a prior, an embedding and a flow.

x -> features (frozen numbers) -> context (trained embedding) -> flow over the latent z
of the prior. Features depend on no trained number, so a fixed set of simulations is
turned into features once.
"""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from flowinv.compiling import indexed
from flowinv.data.standardise import Statistics, resolve_scaling, standardise
from flowinv.flows.candidates import Candidates
from flowinv.flows.density import Flow
from flowinv.models.placing import (
    AnyPrior,
    SelectedRows,
    edge_distances,
    place,
    predict,
    regression_terms,
    rest,
    scaled_estimate,
    settled,
)
from flowinv.models.ridge import Ridge, solve_ridges
from flowinv.priors.cut import Box, CutPrior, cut, whole_box
from flowinv.priors.latent import Prior
from flowinv.types import Dataset, Placed

__all__ = ["Estimator", "Features", "Frozen", "Params", "Rows", "Variables"]

# Rows of a solve: more would not move a few hundred coefficients by an error bar.
MAX_SOLVE = 20_000

Params = Any
"""Trained numbers: a dict with the trees `flow` and `embedding`."""


class Frozen(NamedTuple):
    """Numbers solved from the training rows before training, and then kept.

    Attributes:
        statistics: input statistics of x.
        summary: mean and sd of the summaries, each `[S]`.
        placing: regression that places the flow; None for a flow left at N(0, I).
        box: box of the prior's latent that the network lives in; None for all of it.
    """

    statistics: Statistics
    summary: tuple[Array, Array]
    placing: Ridge | None = None
    box: Box | None = None


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Variables:
    """Everything numeric about an estimator: a pytree.

    Attributes:
        params: trained numbers; an ensemble's have a leading member axis.
        frozen: solved numbers, shared by all members.
        num_members: networks of the ensemble, 1 without a member axis.
    """

    params: Params
    frozen: Frozen
    num_members: int = dataclasses.field(default=1, metadata={"static": True})

    def member(self, index: int) -> "Variables":
        """Numbers of one network of an ensemble."""
        return Variables(indexed(self.params, index), self.frozen)


class Rows(NamedTuple):
    """Simulations that frozen numbers are solved on.

    Attributes:
        theta: parameters, `[N, D]`.
        z: their latent under the whole prior, `[N, D]`.
        x: simulations, finite numbers, `[N, *x_shape]`.
        train: how much rows count that are fitted, 0 for the others, `[N]`.
        held: the same of those that say whether an sd varies, `[N]`.
        may_vary: False for an error that is the same for every x; may be traced.
        selected: True where nothing but a box or a region selected theta, no failed
            simulation that is missing either; may be traced. False asks nothing.
        x_obs: the one x that is asked about, `[*x_shape]`; None where all are.
    """

    theta: Array
    z: Array
    x: Array
    train: Array
    held: Array
    may_vary: ArrayLike = True
    selected: ArrayLike = False
    x_obs: Array | None = None


class Features(NamedTuple):
    """What the trained part sees of one x: two arrays, for a step gathers each.

    Attributes:
        inputs: standardised x, `[..., *x_shape]`, or size 0 without an embedding.
        known: standardised summaries, where the flow begins (mean and log sd) and the
            distances of that place from the prior's edges, `[..., S + 4 D]`; only the
            summaries for a flow that begins at N(0, I).
    """

    inputs: Array
    known: Array


@dataclass(frozen=True)
class Estimator:
    """q(theta | x) as a frozen description; its numbers live in `Variables`.

    Attributes:
        prior: prior of theta.
        flow: any flow of `flowinv.flows`, or `Candidates` for `flowinv.train`.
        embedding: linen module from standardised x to `[..., C]`; None takes the
            summaries alone, or the flattened x where there are none.
        summary: raw x to summaries `[..., S]`, such as `ProfileMoments()`; or None.
            One with a method `estimate(summaries)` to theta and its log error, as
            `EdgeFit` has, also says where the flow begins.
        input_scaling: map of x before standardisation, `auto` decides from the data
            (`resolve` then names the choice).
        placed: solve where the flow begins for each x (see `flowinv.models.placing`).
    """

    prior: Prior
    flow: Flow | Candidates
    embedding: nn.Module | None = None
    summary: Callable[[Array], Array] | None = None
    input_scaling: str = "auto"
    placed: bool = True

    def resolve(self, data: Dataset) -> "Estimator":
        """Return this estimator with `auto` input scaling replaced by its choice."""
        scaling = resolve_scaling(data.x, data.valid, self.input_scaling)
        return dataclasses.replace(self, input_scaling=scaling)

    def with_flow(self, flow: Flow) -> "Estimator":
        """Return the estimator with another flow of the same numbers."""
        return dataclasses.replace(self, flow=flow)

    def candidates(self) -> "tuple[Estimator, ...]":
        """Return one estimator for each candidate for its flow; itself with one."""
        if not isinstance(self.flow, Candidates):
            return (self,)
        return tuple(self.with_flow(flow) for flow in self.flow.flows)

    def prior_of(self, frozen: Frozen) -> AnyPrior:
        """Return the prior whose latent the flow lives in: cut where rounds cut it."""
        return self.prior if frozen.box is None else CutPrior(self.prior, frozen.box)

    def latent_of(self, frozen: Frozen, z: Array) -> Array:
        """Latent of the flow for latents `z` of the whole prior, `[..., D]`."""
        return z if frozen.box is None else cut(frozen.box, z)

    def solve(
        self, statistics: Statistics, rows: Rows, box: Box | None = None
    ) -> Frozen:
        """Solve what is known before training; pure, jit- and vmap-able.

        Args:
            statistics: input statistics of x (`fit_statistics` of the training rows).
            rows: simulations; summaries are scaled by the training rows.
            box: box that the network lives in.
        """
        summary = jnp.zeros(0, jnp.float32), jnp.ones(0, jnp.float32)
        raw = self._raw(rows.x)
        if raw is not None:
            summary = _moments(raw, rows.train > 0)
        frozen = Frozen(statistics, summary, None, box)
        if not self.placed:
            return frozen
        regressors = self._regressors(frozen, rows.x, raw)
        terms, first = regression_terms(regressors), regressors.shape[-1]
        prior, estimate = self.prior_of(frozen), self._estimate(frozen, raw)
        scaled = prior.to_scaled(rows.theta, rows.z)
        targets = rest(scaled, estimate)
        use = rows.train, rows.held, rows.may_vary
        num_simple = first if first < terms.shape[-1] else None
        ridge, *others = solve_ridges(terms, targets, *use, num_simple)
        turns = self.prior.has_normal_latent and estimate is None
        if turns and rows.selected is not False:
            w = self.latent_of(frozen, rows.z)
            asked = None
            if rows.x_obs is not None:
                one = self._regressors(frozen, rows.x_obs, self._raw(rows.x_obs))
                asked = regression_terms(one)
            own = SelectedRows(terms, scaled, w, rows.train, rows.held, asked)
            found = settled(prior, (ridge, *others), own)
            ridge = jax.tree.map(
                lambda a, b: jnp.where(rows.selected, a, b), found, ridge
            )
        return frozen._replace(placing=ridge)

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
        # One without trained numbers has none.
        return {"embedding": embedding.get("params", {}), "flow": flow}

    def features(self, frozen: Frozen, x: Array) -> Features:
        """Turn raw x `[..., *x_shape]` into features; no trained number enters."""
        inputs = standardise(frozen.statistics, x, self.input_scaling)
        event = frozen.statistics.shift.ndim
        batch = inputs.shape[: inputs.ndim - event]
        known = [jnp.zeros((*batch, 0), jnp.float32)]
        raw = self._raw(x)
        if raw is not None:
            known.append(_scaled(frozen, raw))
        if frozen.placing is not None:
            regressors = self._regressors(frozen, x, raw)
            base = self._estimate(frozen, raw)
            predicted = predict(frozen.placing, regressors, base)
            prior = self.prior_of(frozen)
            known += place(prior, predicted)
            known.append(edge_distances(prior, predicted))
        if self.embedding is None and self.summary is not None:
            inputs = jnp.zeros((*batch, 0), jnp.float32)
        return Features(inputs, jnp.concatenate(known, -1))

    def placed_of(self, features: Features) -> Placed | None:
        """Return where the flow begins, None at N(0, I)."""
        if not self.placed:
            return None
        dim, end = self.prior.dim, features.known.shape[-1] - 2 * self.prior.dim
        mean = features.known[..., end - 2 * dim : end - dim]
        return Placed(mean, features.known[..., end - dim : end])

    def context(self, params: Params, features: Features) -> Array:
        """Return the context `[..., C]`: summaries, place, edges, embedding."""
        inputs = features.inputs
        if self.embedding is not None:
            inputs = self.embedding.apply({"params": params["embedding"]}, inputs)
        inputs = inputs.reshape(*features.known.shape[:-1], -1)
        return jnp.concatenate([features.known, inputs], -1)

    def apply_flow(
        self, method: str, params: Params, value: Any, features: Features
    ) -> Any:
        """Call the flow's `method` on `value` `[..., D]` given features of x.

        Args:
            method: log_prob, out_of_range, forward, forward_and_log_det,
                inverse_and_log_det, or one that only some flows have, as `matching`.
            params: trained numbers of one network.
            value: z, draws of the base, or what else the method takes.
            features: leading axes broadcast against those of `value`.
        """
        context = self.context(params, features)
        variables = {"params": params["flow"]}
        placed = self.placed_of(features)
        return self.flow.apply(variables, value, context, placed, method=method)

    def _raw(self, x: Array) -> Array | None:
        """Summaries as they come, None without any."""
        return None if self.summary is None else self.summary(x)

    def _estimate(self, frozen: Frozen, raw: Array | None) -> Placed | None:
        """What summaries that fit theta say, in units of the regression."""
        if not hasattr(self.summary, "estimate"):
            return None
        return scaled_estimate(self.prior_of(frozen), self.summary.estimate(raw))

    def _regressors(self, frozen: Frozen, x: Array, raw: Array | None) -> Array:
        """What the placing regresses on: summaries, or the flattened x."""
        if raw is not None:
            return _scaled(frozen, raw)
        inputs = standardise(frozen.statistics, x, self.input_scaling)
        event = frozen.statistics.shift.ndim
        return inputs.reshape(*inputs.shape[: inputs.ndim - event], -1)

    def skeleton(
        self, x_shape: tuple[int, ...], num_members: int = 1, is_cut: bool = False
    ) -> Variables:
        """Return the variables of no data at all, for an x of shape `x_shape`.

        x is not scaled and the flow is placed on the prior. Model files fill the
        structure, and rounds begin from it.

        Args:
            x_shape: shape of one observation.
            num_members: networks of the ensemble.
            is_cut: the network lives in a box of the latent (here all of it).
        """
        zeros, dim = jnp.zeros(x_shape, jnp.float32), self.prior.dim
        statistics = Statistics(zeros, zeros + 1.0, zeros, zeros + 1.0)
        raw = self._raw(zeros + 1.0)
        size = 0 if raw is None else raw.shape[-1]
        summary = jnp.zeros(size, jnp.float32), jnp.ones(size, jnp.float32)
        frozen = Frozen(statistics, summary, None, whole_box(dim) if is_cut else None)
        if self.placed:
            regressors = self._regressors(frozen, zeros + 1.0, raw)
            terms = regression_terms(regressors).shape[-1]
            kernel, bias = (jnp.zeros(s, jnp.float32) for s in ((terms, dim), dim))
            frozen = frozen._replace(placing=Ridge(kernel, bias, kernel, bias, bias))
        params = self.draw(jax.random.key(0), frozen)
        if num_members > 1:
            params = jax.tree.map(lambda leaf: jnp.stack([leaf] * num_members), params)
        return Variables(params, frozen, num_members)

    def _shapes(self, frozen: Frozen) -> tuple[Features, jax.ShapeDtypeStruct]:
        """Shapes of the features and of the context of one observation."""

        def shapes(x: Array) -> tuple[Features, Array]:
            features = self.features(frozen, x)
            params = {}
            if self.embedding is not None:
                drawn = self.embedding.init(jax.random.key(0), features.inputs)
                params["embedding"] = drawn.get("params", {})
            return features, self.context(params, features)

        x_shape = (1, *frozen.statistics.shift.shape)
        return jax.eval_shape(shapes, jax.ShapeDtypeStruct(x_shape, jnp.float32))


def _scaled(frozen: Frozen, raw: Array) -> Array:
    """Summaries in sds of the training rows."""
    mean, scale = frozen.summary
    return (raw - mean) / scale


def _moments(values: Array, use: Array) -> tuple[Array, Array]:
    """Mean and sd of the used rows of `values` `[N, S]`; constants get sd 1.

    Taken from a used row, so that a constant is exactly 0 and a large offset costs no
    digits.
    """
    first = values[jnp.argmax(use)]
    use = use[:, None]
    offset = jnp.where(use, values - first, 0.0)
    mean = offset.mean(0, where=use)
    scale = jnp.sqrt(((offset - mean) ** 2).mean(0, where=use))
    varies = scale > np.float32(1e-6) * jnp.abs(first)
    return first + mean, jnp.where(varies, scale, 1.0)
