"""Flow matching posterior estimation: a continuous flow, learned without solving it.

The network is a velocity that carries N(0, I) to the posterior of any x; straight paths
teach it, so a training step costs one pass. Draws and densities solve an ordinary
differential equation.

References:
    Lipman et al. 2022, Flow matching, arXiv:2210.02747.
    Dax et al. 2023, Flow matching for scalable simulation-based inference,
    arXiv:2305.17161.
"""

from dataclasses import dataclass
from typing import ClassVar

from flowinv.losses.flow_matching import flow_matching_loss
from flowinv.losses.npe import Loss
from flowinv.methods.amortised import AmortisedMethod
from flowinv.models.registry import NetworkConfig
from flowinv.priors.latent import Prior

__all__ = ["FMPE"]


@dataclass(frozen=True)
class FMPE(AmortisedMethod):
    """Amortised posterior estimation by flow matching."""

    network: ClassVar[NetworkConfig] = NetworkConfig(hidden=(128, 128, 128))
    flows: ClassVar[tuple[str, ...]] = ("field",)

    def loss(self, prior: Prior) -> Loss:
        """Squared error of the velocity; the prior does not enter."""
        del prior
        return flow_matching_loss
