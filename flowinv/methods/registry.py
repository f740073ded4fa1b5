"""The methods by name: a row is all that the command line needs."""

from flowinv.checks import check_known
from flowinv.methods.apt import APT
from flowinv.methods.fmpe import FMPE
from flowinv.methods.nle import NLE
from flowinv.methods.npe import NPE
from flowinv.methods.nre import NRE
from flowinv.methods.sequential import SNLE, SNRE
from flowinv.methods.truncated import Truncated

__all__ = ["METHODS", "Method", "method_class", "method_name"]

METHODS = {
    "npe": NPE,
    "fmpe": FMPE,
    "nle": NLE,
    "nre": NRE,
    "tsnpe": Truncated,
    "apt": APT,
    "snle": SNLE,
    "snre": SNRE,
}

Method = NPE | FMPE | NLE | NRE | Truncated | APT | SNLE | SNRE
"""Any method."""


def method_class(name: str) -> type:
    """Return the method called `name`.

    Raises:
        ValueError: for an unknown name (with near names).
    """
    check_known("method", name, METHODS)
    return METHODS[name]


def method_name(method: Method) -> str:
    """Return the name of a method's row."""
    return {kind: name for name, kind in METHODS.items()}[type(method)]
