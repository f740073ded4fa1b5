import numpy as np
import pytest

from flowinv.diagnostics import c2st as module
from flowinv.diagnostics.c2st import c2st

CASES = ("same", "shift05", "wide15", "far")
REFERENCE = {"mlp": "sbibm_mlp_z", "forest": "sbi_rf", "jax": "sbi_mlp"}


@pytest.mark.parametrize("classifier", REFERENCE)
@pytest.mark.parametrize("case", CASES)
def test_agrees_with_reference_implementation(vectors, classifier, case):
    """scikit-learn's versions differ in the last draws: tolerance 0.03."""
    v = vectors("c2st")
    result = c2st(v["X"], v[f"Y_{case}"], classifier)
    assert abs(result.score - v[f"{REFERENCE[classifier]}_{case}"]) <= 0.03
    assert 0 <= result.std < 0.05


@pytest.mark.parametrize("classifier", REFERENCE)
@pytest.mark.later("mlp", "forest")
def test_units_do_not_matter(classifier):
    """Thin posteriors far from zero are z-scored before the cast to float32."""
    rng = np.random.default_rng(3)
    a, b = rng.normal(size=(2, 200, 2))
    scale, shift = np.array([1e-4, 1e3]), np.array([80.0, -1e6])
    plain, moved = c2st(a, b, classifier), c2st(a * scale + shift, b * scale + shift)
    if classifier == "mlp":
        assert abs(plain.score - moved.score) < 0.02
    assert 0.4 < plain.score < 0.6


@pytest.mark.slow
def test_narrow_posterior_is_told_apart():
    """Accuracy of 1,000 against 1,000: sd 0.010 under the null, so 0.55 is 5 sd."""
    rng = np.random.default_rng(0)
    exact, same, narrow = rng.normal(size=(3, 1_000, 2)) * [[[1.0]], [[1.0]], [[0.5]]]
    for classifier in REFERENCE:
        assert c2st(exact, same, classifier).score < 0.55
        assert c2st(exact, narrow, classifier).score > 0.6


@pytest.mark.parametrize("together", [1, 2])
@pytest.mark.later("2")
def test_many_observations_in_one_call(monkeypatch, together):
    """Three, of which two train side by side: as each alone, but for their starts."""
    monkeypatch.setattr(module, "TOGETHER", together)
    monkeypatch.setattr(module.jax, "default_backend", lambda: "gpu")
    a, b = np.random.default_rng(2).normal(size=(2, 3, 400, 2))
    b = b * np.array([1.0, 0.4, 1.0])[:, None, None]
    b[2] += [3.0, 0.0]
    found = c2st(a, b, "jax")
    alone = [c2st(*own, "jax").score for own in zip(a, b, strict=True)]
    np.testing.assert_allclose(found.score, alone, atol=0.03)
    assert found.score[0] < 0.56 < 0.62 < found.score[1] < 0.8 < found.score[2]
    assert found.std.shape == (3,)


def test_same_seed_same_score():
    rng = np.random.default_rng(1)
    a, b = rng.normal(size=(2, 100, 2))
    assert c2st(a, b, "forest", seed=4) == c2st(a, b, "forest", seed=4)


@pytest.mark.parametrize(
    ("samples", "options", "message"),
    [
        (np.zeros((9, 2)), {}, "samples to be as many as the 10 of reference; got 9"),
        (np.zeros((10, 3)), {}, r"samples with shape \(..., 2\)"),
        (np.full((10, 2), np.nan), {}, "samples to hold finite numbers only; got 20"),
        (np.zeros(10), {}, r"samples with shape \(N, D\)"),
        (np.zeros((2, 10, 2)), {}, "samples of as many observations as reference"),
        (np.zeros((10, 2)), {"classifier": "tree"}, "classifier to be one of"),
        (np.zeros((10, 2)), {"num_folds": 1}, "num_folds of at least 2"),
        (np.zeros((10, 2)), {"num_folds": 11}, "number of draws of at least 11"),
    ],
)
def test_bad_input(samples, options, message):
    with pytest.raises(ValueError, match=message):
        c2st(np.ones((10, 2)), samples, **options)


@pytest.mark.parametrize("classifier", REFERENCE)
@pytest.mark.parametrize("shift", [0.0, 2.0])
@pytest.mark.later("0.0-mlp", "2.0-forest")
def test_is_near_the_best_that_can_be_known(classifier, shift):
    """Two normals at a distance s: no classifier is right more often than Phi(s / 2).

    4 sds of 2,000 decisions on top; a learned one loses up to 0.05.
    """
    from scipy.stats import norm

    a, b = np.random.default_rng(2).normal(size=(2, 1_000, 2))
    score = c2st(a, b + [shift, 0.0], classifier).score
    best = norm.cdf(0.5 * shift)
    assert score < best + 4 * np.sqrt(0.25 / 2_000)
    assert score > best - 0.05


@pytest.mark.slow
@pytest.mark.parametrize("shift", [0.0, 0.3])
def test_the_fast_one_agrees_with_scikit_learn(shift):
    """10-D, 10,000 draws each: to 0.01 of scikit-learn's, stopped early as ours is.

    Accuracies of 20,000 decisions have an sd of 0.0035 each.
    """
    from sklearn.model_selection import KFold, cross_val_score
    from sklearn.neural_network import MLPClassifier

    a, b = np.random.default_rng(0).normal(size=(2, 10_000, 10))
    b[:, 0] += shift
    model = MLPClassifier((100, 100), early_stopping=True, random_state=1)
    data, target = np.concatenate([a, b]), np.repeat([0, 1], 10_000)
    folds = KFold(5, shuffle=True, random_state=1)
    theirs = cross_val_score(model, data, target, cv=folds).mean()
    assert abs(c2st(a, b, "jax").score - theirs) < 0.0125
