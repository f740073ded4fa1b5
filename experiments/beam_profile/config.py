"""Settings of the beam-profile experiments, as data."""

from flowinv.checks import check_known
from flowinv.experiment.config import EvaluateConfig, RunConfig
from flowinv.methods import NPE, Truncated
from flowinv.models.registry import NetworkConfig
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
    placed=False,
)
SLIDES_EPOCHS = {"cinn": 30, "spline": 100}


def slides(flow: str, num_simulations: int = 10_000) -> RunConfig:
    """The slides' settings for one flow."""
    check_known("flow", flow, SLIDES_EPOCHS)
    train = TrainConfig(
        batch_size=256,
        learning_rate=1e-3,
        schedule="constant",
        max_epochs=SLIDES_EPOCHS[flow],
        patience=0,
        ema_decay=0.0,
    )
    return RunConfig(
        task="beam_profile:prior=slides",
        method=NPE(str(num_simulations), train),
        flow=(flow,),
        out=f"runs/slides-{flow}",
        network=SLIDES_NETWORK,
    )


# Today's defaults: placed on moments, small layers, fresh simulations.
FRESH_TRAIN = TrainConfig(num_steps=20_000, learning_rate=2e-3)
# A fixed set can be overfitted: four networks, and smaller ones where rows are few.
FIXED_TRAIN = TrainConfig(num_members=4)
FEW = 30_000
SMALL_NETWORK = NetworkConfig(num_layers=5, hidden=(32, 32), head_hidden=(32, 32))
MEASURED = EvaluateConfig(observations="1-10", num_heldout=2_000)


def npe(num_simulations: str) -> RunConfig:
    """Today's settings for a number of simulations, or for fresh ones."""
    is_few = num_simulations.isdecimal() and int(num_simulations) < FEW
    fixed = num_simulations != "fresh"
    return RunConfig(
        method=NPE(num_simulations, FIXED_TRAIN if fixed else FRESH_TRAIN),
        flow=("cinn", "spline"),
        out=f"runs/beam-profile-npe-{num_simulations}",
        network=SMALL_NETWORK if is_few else None,
        evaluate=MEASURED,
    )


# Ten observations in rounds.
ROUNDS = RunConfig(
    method=Truncated(),
    out="runs/beam-profile-rounds",
    evaluate=EvaluateConfig(observations="1-10"),
)
