"""Training: one pure update, scanned; a host loop of chunks around it."""

from flowinv.training.config import TrainConfig
from flowinv.training.fit import Fit, train
from flowinv.training.state import TrainState

__all__ = ["Fit", "TrainConfig", "TrainState", "train"]
