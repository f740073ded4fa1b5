"""The classical fit beside the answer."""

import numpy as np
import pytest

from flowinv.diagnostics.check import Answered, Inputs
from flowinv.diagnostics.fits import FITS, fit_distance
from flowinv.diagnostics.table import run_checks

RNG = np.random.default_rng(0)
DRAWS = RNG.normal([1.0, 10.0, 0.0], [0.3, 2.0, 1.0], (100_000, 3))


def test_distance_is_in_joint_errors():
    """Posterior sd 0.3 and a fit's error of 0.4 make 0.5; unknown ones count as 0."""
    values, errors = np.array([2.0, 14.0, np.nan]), np.array([0.4, np.nan, np.nan])
    found = fit_distance(DRAWS, values, errors).errors
    np.testing.assert_allclose(found, [2.0, 2.0, 0.0], rtol=0.01)


@pytest.mark.parametrize(("value", "is_said"), [(1.0, False), (6.0, True)])
def test_a_fit_far_from_the_answer_is_named(value, is_said):
    fit = np.array([value, np.nan, 0.1]), np.array([0.01, np.nan, 0.1])
    answered = Answered("scan", DRAWS, np.zeros((2, 3)), fit=fit)
    plain = Answered("other", DRAWS, np.zeros((2, 3)))
    edges = (("0", "1"),) * 3
    inputs = Inputs(("a", "b", "c"), edges, None, (answered, plain))
    results = run_checks(inputs, (FITS,))
    statuses = [verdict.status for verdict in results.verdicts]
    assert statuses == ["caution" if is_said else "unchecked", *["unchecked"] * 2]
    assert ("disagrees in scan (17)" in results.verdicts[0].words) == is_said
    nothing = Inputs(("a", "b", "c"), edges, None, (plain,))
    assert not FITS.needs(nothing)
