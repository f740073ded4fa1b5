"""Simulators: frozen dataclasses that draw x ~ p(x | theta) under jit and vmap."""

from flowinv.simulators.beam_profile import BeamProfile
from flowinv.simulators.knife_edge import StepScan

__all__ = ["BeamProfile", "StepScan"]
