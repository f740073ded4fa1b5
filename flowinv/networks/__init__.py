"""Embeddings: networks from one standardised observation to a context vector."""

from flowinv.networks.conv import ConvEmbedding
from flowinv.networks.mlp import MLP, ResidualMLP
from flowinv.networks.moments import ProfileMoments, profile_moments
from flowinv.networks.sets import SetEmbedding

__all__ = [
    "MLP",
    "ConvEmbedding",
    "ProfileMoments",
    "ResidualMLP",
    "SetEmbedding",
    "profile_moments",
]
