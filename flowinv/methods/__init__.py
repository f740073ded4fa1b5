"""Methods of inference: one method, one file; `registry` names them."""

from flowinv.methods.apt import APT
from flowinv.methods.npe import NPE
from flowinv.methods.truncated import Truncated

__all__ = ["APT", "NPE", "Truncated"]
