"""Exact draws by rejection: propose, keep what fits, go on until there are enough."""

from collections.abc import Callable

import numpy as np

from flowinv.checks import fail

__all__ = ["kept_of"]

MAX_TRIES = 1_000
"""Rounds of twice the draws asked for."""


def kept_of(
    propose: Callable[[int], tuple[np.ndarray, np.ndarray]],
    x: np.ndarray,
    num_samples: int,
) -> np.ndarray:
    """Propose draws of a posterior until `num_samples` of them fit, `[n, D]`.

    Args:
        propose: number m to draws `[m, D]` and which of them fit, `[m]`.
        x: the observation, for the message.
        num_samples: draws n.

    Raises:
        ValueError: if hardly any theta of the prior can give this x.
    """
    kept, count = [], 0
    for _ in range(MAX_TRIES):
        if count >= num_samples:
            return np.concatenate(kept)[:num_samples]
        theta, fits = propose(2 * num_samples)
        kept.append(theta[fits])
        count += len(kept[-1])
    return fail("x", "that a theta of the prior can give", x)
