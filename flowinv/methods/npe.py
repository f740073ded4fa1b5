"""Neural posterior estimation: one network for all observations.

Simulations come from the joint p(theta) p(x | theta); the mean of -log q(theta | x)
over them is smallest where q(. | x) is the posterior of every x.

References:
    Papamakarios and Murray 2016, arXiv:1605.06376.
    Greenberg et al. 2019, Automatic Posterior Transformation, arXiv:1905.07488.
    Delaunoy et al. 2023, Balancing simulation-based inference, arXiv:2304.10978.
"""

from dataclasses import dataclass

from flowinv.checks import check_at_least
from flowinv.losses.npe import Loss
from flowinv.losses.nre import make_balanced_npe_loss
from flowinv.methods.amortised import FRESH, AmortisedMethod
from flowinv.priors.latent import Prior

__all__ = ["FRESH", "NPE"]


@dataclass(frozen=True)
class NPE(AmortisedMethod):
    """Amortised posterior estimation by maximum likelihood.

    Attributes:
        balance: weight of the balancing condition, 0 for none (100 in the paper): keeps
            posteriors of few simulations wide rather than too narrow.
    """

    balance: float = 0.0

    def loss(self, prior: Prior) -> Loss:
        """Maximum likelihood, balanced if asked."""
        return make_balanced_npe_loss(self.balance, prior.latent_log_prob)

    def check(self) -> None:
        """Raise one line for the first field out of its range."""
        super().check()
        check_at_least("balance", self.balance, 0)
