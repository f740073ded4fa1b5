"""Simulators: frozen dataclasses that draw x ~ p(x | theta) under jit and vmap."""

from flowinv.simulators.beam_profile import BeamProfile
from flowinv.simulators.gaussian_linear import GaussianLinear
from flowinv.simulators.knife_edge import StepScan
from flowinv.simulators.slcp import Slcp
from flowinv.simulators.two_moons import TwoMoons

__all__ = ["BeamProfile", "GaussianLinear", "Slcp", "StepScan", "TwoMoons"]
