"""Methods of inference: one method, one file; `registry` names them."""

from flowinv.methods.abc import SMCABC, RejectionABC
from flowinv.methods.apt import APT
from flowinv.methods.fmpe import FMPE
from flowinv.methods.nle import NLE
from flowinv.methods.npe import NPE
from flowinv.methods.nre import NRE
from flowinv.methods.sequential import SNLE, SNRE
from flowinv.methods.truncated import Truncated

__all__ = [
    "APT",
    "FMPE",
    "NLE",
    "NPE",
    "NRE",
    "SMCABC",
    "SNLE",
    "SNRE",
    "RejectionABC",
    "Truncated",
]
