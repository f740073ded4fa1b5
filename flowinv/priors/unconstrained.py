"""The fallback: any continuous numpyro distribution by `biject_to` of its support.

z = (biject_to(support)^-1(theta) - shift) / scale is then only roughly normal, so the
block keeps the exact density of z: log p(theta) + log |dtheta/dz|.
"""

import inspect
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from flowinv.checks import check_known, fail

if TYPE_CHECKING:
    from numpyro.distributions import Distribution

__all__ = ["Unconstrained", "describe", "rebuild"]

# Draws that set shift and scale: 1.6 % of an sd, which conditions the flow well enough.
_NUM_CALIBRATION = 4096


class Unconstrained:
    """One numpyro distribution over a number or a vector, as a block of d columns."""

    kind = "unconstrained"

    def __init__(
        self,
        distribution: "Distribution",
        shift: np.ndarray | None = None,
        scale: np.ndarray | None = None,
    ) -> None:
        """Find the bijection and, unless given, the standardisation.

        The calibration draws come from one fixed key: they set shift and scale, which
        belong to the configuration and change no density.

        Args:
            distribution: continuous, without batch shape, event shape () or (d,).
            shift: mean of the unconstrained value, `[d]`.
            scale: its sd, `[d]`.

        Raises:
            ValueError: a support whose unconstrained form has another size (a simplex)
                or that numpyro cannot unconstrain.
        """
        from numpyro.distributions import biject_to

        self.distribution = distribution
        self._scalar = distribution.event_shape == ()
        size = 1 if self._scalar else distribution.event_shape[0]
        name = type(distribution).__name__
        try:
            self._transform = biject_to(distribution.support)
            free = self._transform.inverse_shape(distribution.event_shape)
        except NotImplementedError:
            fail("prior", "with a support that biject_to knows", name)
        if tuple(free) != tuple(distribution.event_shape):
            fail(
                "prior",
                f"with as many free numbers as components ({size})",
                f"{name}, whose support has {int(np.prod(free))}",
                "Leave the dependent component out.",
            )
        self.low, self.high = _hull(distribution.support, size)
        if shift is None or scale is None:
            try:
                draws = distribution.sample(jax.random.key(0), (_NUM_CALIBRATION,))
            except NotImplementedError:
                fail("prior", "with draws (a proper distribution)", name)
            flat = np.asarray(self._transform.inv(draws), np.float64)
            flat = flat.reshape(_NUM_CALIBRATION, size)
            # Quartiles: heavy tails have no sd. 1.349 is a normal's range between them.
            first, shift, third = np.quantile(flat, [0.25, 0.5, 0.75], axis=0)
            scale = np.maximum((third - first) / 1.349, 1e-12)
        self.shift = np.asarray(shift, np.float64)
        self.scale = np.asarray(scale, np.float64)

    def to_latent_and_log_det(self, theta: Array) -> tuple[Array, Array]:
        """Unconstrained, standardised theta and log |det dz/dtheta|."""
        event = self._event(theta)
        free = self._transform.inv(event)
        log_det = self._reduce(self._transform.log_abs_det_jacobian(free, event), theta)
        shift, scale = (jnp.asarray(v, theta.dtype) for v in (self.shift, self.scale))
        z = (free[..., None] if self._scalar else free) - shift
        return z / scale, -log_det - jnp.log(scale).sum()

    def from_latent_and_log_det(self, z: Array) -> tuple[Array, Array]:
        """Theta and log |det dtheta/dz|."""
        shift, scale = (jnp.asarray(v, z.dtype) for v in (self.shift, self.scale))
        free = self._event(shift + scale * z)
        event = self._transform(free)
        log_det = self._reduce(self._transform.log_abs_det_jacobian(free, event), z)
        theta = event[..., None] if self._scalar else event
        return theta.astype(z.dtype), log_det + jnp.log(scale).sum()

    def log_prob(self, theta: Array) -> Array:
        """The distribution's own log density."""
        return self._reduce(self.distribution.log_prob(self._event(theta)), theta)

    def latent_log_prob(self, z: Array) -> Array:
        """Log p(theta(z)) + log |det dtheta/dz|: exact, not N(0, I)."""
        theta, log_det = self.from_latent_and_log_det(z)
        return self.log_prob(theta) + log_det

    def contains(self, theta: Array) -> Array:
        """The support's own check; False where it fails or is not finite."""
        inside = self.distribution.support(self._event(theta))
        return inside & jnp.all(jnp.isfinite(theta), axis=-1)

    def sample_latent(self, key: Array, num_samples: int, dtype: np.dtype) -> Array:
        """Z of the distribution's own draws, `[num_samples, d]`."""
        draws = self.distribution.sample(key, (num_samples,)).astype(dtype)
        return self.to_latent_and_log_det(draws.reshape(num_samples, -1))[0]

    def to_config(self) -> dict[str, Any]:
        """The distribution by name and arguments, shift and scale."""
        return {
            "kind": self.kind,
            "distribution": describe(self.distribution),
            "shift": self.shift.tolist(),
            "scale": self.scale.tolist(),
        }

    def spread(self) -> tuple[np.ndarray, np.ndarray]:
        """Theta at two sds of the latent to either side, in float32."""
        z = jnp.asarray([[-2.0], [2.0]], jnp.float32) * jnp.ones(len(self.shift))
        ends = np.asarray(self.from_latent_and_log_det(z)[0], np.float64)
        return ends.min(0), ends.max(0)

    def _event(self, value: Array) -> Array:
        return value[..., 0] if self._scalar else value

    def _reduce(self, value: Array, theta: Array) -> Array:
        """Sum what numpyro left per component."""
        extra = value.ndim - (theta.ndim - 1)
        return value.sum(tuple(range(-extra, 0))) if extra else value


def _hull(support: Any, size: int) -> tuple[np.ndarray, np.ndarray]:  # noqa: ANN401
    """Box hull of a numpyro support, as far as it names its bounds."""
    inner = getattr(support, "base_constraint", support)
    low = getattr(inner, "lower_bound", -np.inf)
    high = getattr(inner, "upper_bound", np.inf)
    if type(inner).__name__ in ("_PositiveOrderedVector", "PositiveOrderedVector"):
        low = 0.0
    return tuple(
        np.array(np.broadcast_to(np.asarray(e, np.float64), (size,)))
        for e in (low, high)
    )


# Arguments that numpyro keeps under another name, and those that restate others.
_ALIASES = {"base_distribution": "base_dist"}
_RESTATED = ("self", "validate_args", "domain", "args", "kwargs")


def describe(distribution: "Distribution") -> dict[str, Any]:
    """Class and arguments of a numpyro distribution as JSON, nested where needed.

    Raises:
        ValueError: an argument that is neither numbers nor a distribution or transform.
    """
    kind = type(distribution)
    arguments = {}
    for name in inspect.signature(kind.__init__).parameters:
        if name in _RESTATED:
            continue
        value = getattr(distribution, _ALIASES.get(name, name), None)
        if value is not None:
            arguments[name] = _described(value, f"{kind.__name__} with {name}")
    return {"class": kind.__name__, "arguments": arguments}


def _described(value: Any, where: str) -> Any:
    from numpyro.distributions import Distribution
    from numpyro.distributions.transforms import Transform

    if isinstance(value, (Distribution, Transform)):
        return describe(value)
    if _is_numeric(value):
        return np.asarray(value).tolist()
    if isinstance(value, (list, tuple)):
        return [_described(item, where) for item in value]
    expected = "that JSON can hold, a numpyro distribution of numbers"
    return fail("prior", expected, f"{where}={type(value).__name__}")


def _is_numeric(value: object) -> bool:
    """True for numbers, arrays and sequences of numbers."""
    plain = (bool, int, float, np.ndarray, np.generic, jax.Array)
    if isinstance(value, (list, tuple)):
        return all(isinstance(item, plain) for item in value)
    return isinstance(value, plain)


def rebuild(description: dict[str, Any]) -> "Distribution":
    """Build the distribution that `describe` described.

    Raises:
        ValueError: an unknown class name.
    """
    from numpyro import distributions
    from numpyro.distributions import transforms

    known = {
        name: kind
        for room in (transforms, distributions)
        for name, kind in vars(room).items()
        if isinstance(kind, type)
        and issubclass(kind, (distributions.Distribution, transforms.Transform))
    }
    check_known("prior distribution", str(description.get("class")), known)
    arguments = {n: _rebuilt(n, v) for n, v in description["arguments"].items()}
    return known[description["class"]](**arguments)


def _rebuilt(name: str, value: Any) -> Any:
    if isinstance(value, dict):
        return rebuild(value)
    if isinstance(value, list) and any(isinstance(item, dict) for item in value):
        return [_rebuilt(name, item) for item in value]
    if name.endswith("_shape"):
        return tuple(value)
    if isinstance(value, (bool, int)):
        return value  # a number of steps or of axes
    return jnp.asarray(value, None if _is_whole(value) else jnp.result_type(float))


def _is_whole(value: Any) -> bool:
    return np.asarray(value).dtype.kind in "bi"
