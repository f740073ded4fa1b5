"""Neural likelihood estimation: a flow learns p(x | theta), a sampler the posterior.

The likelihood does not depend on the prior or on a proposal. What was learned once
serves many observations of one theta, other priors, and models of numpyro
(`Likelihood.distribution`).

References:
    Papamakarios et al. 2019, Sequential neural likelihood, arXiv:1805.07226.
    Lueckmann et al. 2019, Likelihood-free inference with emulators, arXiv:1805.09294.
"""

from dataclasses import dataclass, field
from typing import Any, ClassVar

import jax
from jax import Array

from flowinv.checks import fail
from flowinv.losses.npe import Loss, npe_loss
from flowinv.methods.amortised import (
    FRESH,
    AmortisedMethod,
    Data,
    Trained,
    refuse_failures,
)
from flowinv.models.estimator import Estimator
from flowinv.models.likelihood import Likelihood, exchanged
from flowinv.models.registry import NetworkConfig
from flowinv.models.sampled import SampledPosterior, SamplerConfig
from flowinv.priors.latent import Prior
from flowinv.types import Dataset

__all__ = ["NLE"]

_SPREAD = 4  # stream of the key


@dataclass(frozen=True)
class NLE(AmortisedMethod):
    """Likelihood estimation by maximum likelihood, and a sampler of the posterior.

    Attributes:
        sampling: how the posterior is drawn from.
    """

    num_simulations: str = "10000"
    sampling: SamplerConfig = field(default_factory=SamplerConfig)

    # A sampler asks a network a thousand times as often as training does: one whose
    # density is a single pass. Splines or affine maps, as the rows say.
    flows: ClassVar[tuple[str, ...]] = (
        *("maf+spline-ar", "maf", "spline-ar"),
        *("spline", "cinn"),
    )
    network: ClassVar[NetworkConfig] = NetworkConfig(
        num_layers=5, hidden=(50, 50), head_hidden=(64, 64)
    )

    def loss(self, prior: Prior) -> Loss:
        """Maximum likelihood of x; the prior does not enter."""
        del prior
        return npe_loss

    def fit(
        self,
        key: Array,
        estimator: Estimator,
        data: Data,
        **options: Any,
    ) -> Trained:
        """Train p(x | theta) on a fixed set of simulations of any proposal."""
        if not isinstance(data, Dataset):
            fail("data", "to be a fixed set of simulations", "a simulator")
        refuse_failures(data)
        rows = exchanged(jax.random.fold_in(key, _SPREAD), estimator, data)
        own, swapped, reader, readings = rows
        fit = super().fit(key, own, swapped, **options).fit
        numbers = fit.estimator, fit.variables, reader, readings
        learned = Likelihood(estimator.prior, *numbers)
        return Trained(fit, SampledPosterior(learned, self.sampling))

    def check(self) -> None:
        """Raise one line for the first field out of its range."""
        if self.fresh:
            fail("num_simulations", "to be a whole number", repr(FRESH))
        super().check()
        self.sampling.check()
