"""Rounds for one observation: propose, simulate, append, fit."""

from flowinv.sequential.run import Rounds, run_rounds

__all__ = ["Rounds", "run_rounds"]
