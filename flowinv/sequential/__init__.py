"""Rounds for one observation: propose, simulate, append, fit."""

from flowinv.sequential.config import APT, Truncated
from flowinv.sequential.run import Rounds, run_rounds

__all__ = ["APT", "Rounds", "Truncated", "run_rounds"]
