"""A thousand observations with a thousand draws each, in one call of every check."""

import jax
import numpy as np
import pytest

from flowinv.diagnostics.averaged import data_averaged
from flowinv.diagnostics.c2st import c2st
from flowinv.diagnostics.coverage import interval_coverage
from flowinv.diagnostics.disagreement import disagreement
from flowinv.diagnostics.importance import importance
from flowinv.diagnostics.information import information
from flowinv.diagnostics.likeness import likeness
from flowinv.diagnostics.mmd import mmd_squared, mmd_test
from flowinv.diagnostics.prdc import prdc
from flowinv.diagnostics.predictive import predictive_check
from flowinv.diagnostics.regions import region_coverage
from flowinv.diagnostics.sbc import sbc, sbc_ranks
from flowinv.diagnostics.statistics import panel_statistics, statistic_p
from flowinv.diagnostics.tarp import tarp

KEY, COUNT = jax.random.key(0), 1_000
NAMES = ("theta", "right", "exact", "x", "simulated", "log_p")


@pytest.fixture(scope="module")
def given():
    """Standard normal everything: posteriors are the prior, and right."""
    rng = np.random.default_rng(0)
    shapes = [(4,), (COUNT, 4), (COUNT, 4), (20,), (COUNT, 20), (COUNT,)]
    every = (rng.normal(size=(COUNT, *shape)) for shape in shapes)
    return dict(zip(NAMES, every, strict=True))


def of_statistics(x, simulated):
    own, every = panel_statistics(x[..., None, :]), panel_statistics(simulated)
    return statistic_p({name: value[..., 0] for name, value in own.items()}, every)[1:]


PER_OBSERVATION = {
    "importance": (importance, ("log_p", "log_p", "log_p")),
    "prdc": (prdc, ("exact", "right")),
    "mmd": (lambda *own: (mmd_squared(*own),), ("exact", "right")),
    "mmd_test": (lambda *own: mmd_test(*own, 99), ("exact", "right")),
    "statistics": (of_statistics, ("x", "simulated")),
    "predictive": (
        lambda x, rows: predictive_check(x, rows, many=x.ndim > 1),
        ("x", "simulated"),
    ),
    "members": (
        lambda draws: disagreement(draws.reshape(*draws.shape[:-2], 4, 250, 4)),
        ("right",),
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", PER_OBSERVATION)
def test_each_of_a_thousand_is_as_alone(given, name):
    call, wanted = PER_OBSERVATION[name]
    arrays = [given[what] for what in wanted]
    count = 50 if name == "mmd_test" else COUNT  # permutations: 0.1 s each
    found = call(*(array[:count] for array in arrays))
    for s in (0, 17, count - 1):
        alone = call(*(array[s] for array in arrays))
        for many, one in zip(found, alone, strict=True):
            assert len(many) == count
            np.testing.assert_allclose(many[s], one, rtol=1e-9, atol=1e-12)


@pytest.mark.slow
def test_checks_over_a_thousand_pass(given):
    """Right posteriors: each p below 1e-4 once in 10,000."""
    theta, draws = given["theta"], given["right"]
    assert sbc(KEY, theta, draws).chi2_p_holm.min() > 1e-4
    assert tarp(KEY, theta, draws).p > 1e-4
    assert data_averaged(theta, draws).p_holm.min() > 1e-4
    log_q, log_q_true = (-0.5 * (a**2).sum(-1) for a in (draws, theta))
    assert region_coverage(log_q_true, log_q).p > 1e-4
    coverage = interval_coverage(sbc_ranks(KEY, theta, draws), COUNT)
    assert np.abs(coverage.z_score).max() < 4.5
    assert np.abs(information(theta, draws).shrinkage).max() < 0.2
    far = likeness(given["x"], given["simulated"][0], many=True)
    assert (far.p < 0.005).sum() < 20
    scores = c2st(given["exact"][:20], draws[:20], "jax").score
    assert np.abs(scores - 0.5).max() < 0.06
