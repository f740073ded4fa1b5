"""Neural ratio estimation: a classifier learns p(x | theta) / p(x), a sampler the rest.

References:
    Hermans et al. 2020, arXiv:1903.04057 (A); Durkan et al. 2020, arXiv:2002.03712 (B);
    Miller et al. 2022, arXiv:2210.06170 (C); Delaunoy et al. 2022, arXiv:2208.13624
    (balanced).
"""

from dataclasses import dataclass, field
from typing import Any, ClassVar

from jax import Array

from flowinv.losses.npe import Loss
from flowinv.losses.nre import make_nre_loss
from flowinv.methods.amortised import AmortisedMethod, Data, Trained, refuse_failures
from flowinv.models.estimator import Estimator
from flowinv.models.ratio import Ratio
from flowinv.models.registry import NetworkConfig
from flowinv.models.sampled import SampledPosterior, SamplerConfig
from flowinv.priors.latent import Prior
from flowinv.types import Dataset

__all__ = ["NRE"]


@dataclass(frozen=True)
class NRE(AmortisedMethod):
    """Ratio estimation, and a sampler of the posterior.

    Attributes:
        variant: "a" (two classes), "b" (which of the atoms) or "c" (contrastive).
        num_atoms: parameters of a comparison, of b and c.
        gamma: odds of c that the right one is among them.
        balance: weight of the balancing condition, 0 for none (100 in the paper).
        sampling: how the posterior is drawn from.
    """

    variant: str = "c"
    num_atoms: int = 10
    gamma: float = 1.0
    balance: float = 0.0
    sampling: SamplerConfig = field(default_factory=SamplerConfig)

    network: ClassVar[NetworkConfig] = NetworkConfig(hidden=(128, 128, 128))
    flows: ClassVar[tuple[str, ...]] = ("ratio",)

    def loss(self, prior: Prior) -> Loss:
        """The variant's loss, balanced if asked."""
        own = self.variant, self.num_atoms, self.gamma, self.balance
        return make_nre_loss(*own, prior.latent_log_prob)

    def fit(
        self,
        key: Array,
        estimator: Estimator,
        data: Data,
        **options: Any,
    ) -> Trained:
        """Train the classifier; `options` are those of `train`."""
        if isinstance(data, Dataset):
            refuse_failures(data)
        fit = super().fit(key, estimator, data, **options).fit
        learned = Ratio(fit.estimator, fit.variables)
        return Trained(fit, SampledPosterior(learned, self.sampling))

    def check(self) -> None:
        """Raise one line for the first field out of its range."""
        super().check()
        make_nre_loss(self.variant, self.num_atoms, self.gamma, self.balance)
        self.sampling.check()
