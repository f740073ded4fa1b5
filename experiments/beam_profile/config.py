"""Settings of the beam-profile experiments, as data."""

from dataclasses import replace

from flowinv.config import EvaluateConfig, NetworkConfig, RunConfig
from flowinv.training.config import TrainConfig

# The study's slides of November 2021: two flows of 8 layers with 256 units that read
# the scan itself, 30 epochs for the cINN and 100 for the spline, 256 draws per scan,
# the posterior mean as the estimate. The slides give no number of simulations.
SLIDES_NETWORK = NetworkConfig(
    num_layers=8,
    hidden=(256, 256),
    num_bins=8,
    activation="relu",
    head_hidden=(),
    lu_mixing=False,
    embedding="none",
    summary="none",
    anchored=False,
)
SLIDES_EPOCHS = {"cinn": 30, "spline": 100}


def slides(flow: str, num_simulations: int = 10_000) -> RunConfig:
    """The slides' settings for one flow."""
    return RunConfig(
        task="beam_profile:prior=slides",
        flow=(flow,),
        num_simulations=str(num_simulations),
        out=f"runs/slides-{flow}",
        network=SLIDES_NETWORK,
        train=TrainConfig(
            max_epochs=SLIDES_EPOCHS[flow], schedule="constant", patience=0
        ),
        evaluate=EvaluateConfig(num_samples=256),
    )


# Today's defaults: the solved start on moments, small layers, fresh simulations.
NPE = RunConfig(
    flow=("cinn", "spline"),
    train=TrainConfig(num_steps=20_000, learning_rate=2e-3),
    out="runs/beam-profile-npe",
)

# A fixed set can be overfitted: four networks, and smaller ones where rows are few.
FIXED_TRAIN = TrainConfig(num_members=4)
FEW = 30_000
SMALL_NETWORK = NetworkConfig(num_layers=5, hidden=(32, 32), head_hidden=(32, 32))


def npe(num_simulations: str) -> RunConfig:
    """Today's settings for a number of simulations, or for fresh ones."""
    if num_simulations == "fresh" or not num_simulations.isdecimal():
        return NPE  # a text that is no number is refused by the config
    network = SMALL_NETWORK if int(num_simulations) < FEW else NPE.network
    return replace(NPE, network=network, train=FIXED_TRAIN)


# Ten observations in rounds.
ROUNDS = RunConfig(
    method="tsnpe",
    out="runs/beam-profile",
    evaluate=EvaluateConfig(observations="1-10"),
)
