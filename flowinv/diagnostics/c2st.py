"""Classifier two-sample test: how well can a classifier tell two sets of draws apart.

A classifier is trained to tell draws of the reference from draws of the approximation;
its accuracy on held-out folds is the score: 0.5 when the two agree as far as it can
see, 1.0 when they are disjoint. The neural classifier and the z-scoring are sbibm's,
the forest is sbi's; a forest sees small shifts of thin posteriors less well but is
steady, so both are reported. `"jax"` is a neural classifier of the same size that stops
before it learns its training rows by heart: all folds at once on the device, some 100
times faster than sbibm's at 10 dimensions and 10,000 draws, and nearer to the best
score that a classifier can have.

References: Lopez-Paz & Oquab 2017, arXiv:1610.06545; Lueckmann et al. 2021,
arXiv:2101.04653.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from flowinv.checks import check_at_least, check_known, fail
from flowinv.diagnostics.arrays import sets_of_draws, z_scored
from flowinv.diagnostics.classifier import Split, log_odds, train_classifiers
from flowinv.diagnostics.device import TOGETHER, at_once

__all__ = ["CLASSIFIERS", "C2ST", "c2st"]

CLASSIFIERS = ("mlp", "forest", "jax")
# scikit-learn's own number, and so sbi's.
NUM_TREES = 100


class C2ST(NamedTuple):
    """Result of a classifier two-sample test: numbers, or arrays `[S]`.

    Attributes:
        score: mean held-out accuracy over the folds, 0.5 (equal) to 1 (disjoint).
        std: standard deviation of the accuracy between folds.
    """

    score: float | np.ndarray
    std: float | np.ndarray


def c2st(
    reference: ArrayLike,
    samples: ArrayLike,
    classifier: str = "mlp",
    seed: int = 1,
    num_folds: int = 5,
) -> C2ST:
    """Return the cross-validated accuracy of telling `samples` from `reference`.

    Both sets are z-scored by the reference and cast to float32.

    Args:
        reference: draws of the exact posterior, shape `[n, D]`, or `[S, n, D]` for S
            observations in one call.
        samples: draws of the approximation, of the same shape: as many draws, so that
            guessing scores 0.5.
        classifier: `"mlp"`, two hidden layers of 10 D units (sbibm), `"forest"`,
            scikit-learn's random forest of 100 trees (sbi), or `"jax"`.
        seed: seed of the fold split and of the classifier.
        num_folds: number of cross-validation folds, at least 2.

    Raises:
        ValueError: sets of unequal size or width, non-finite draws, fewer draws than
            folds, or an unknown classifier.
    """
    check_known("classifier", classifier, CLASSIFIERS)
    check_at_least("num_folds", num_folds, 2)
    reference, samples = sets_of_draws(reference, samples)
    n = reference.shape[-2]
    if samples.shape[-2] != n:
        expected = f"to be as many as the {n} of reference"
        fail("samples", expected, samples.shape[-2])
    check_at_least("number of draws", n, num_folds)
    data = np.concatenate(z_scored(reference, samples), -2).astype(np.float32)
    accuracies = _on_device if classifier == "jax" else _by_sklearn(classifier)

    def every(data: np.ndarray) -> C2ST:
        scores = accuracies(data, np.repeat([0, 1], n), seed, num_folds)
        return C2ST(scores.mean(-1), scores.std(-1))

    return at_once(every, data.ndim == 2, data)


def _on_device(
    data: np.ndarray, target: np.ndarray, seed: int, num_folds: int
) -> np.ndarray:
    """Accuracies of all folds `[S, folds]` of tables `[S, 2 n, D]`.

    Rows that make folds unequal are only trained on. Observations stand below each
    other in one table, as many as train side by side.
    """
    count, rows, dim = data.shape
    order = np.random.default_rng(seed).permutation(rows)
    size = rows // num_folds
    tests = order[: size * num_folds].reshape(num_folds, size)
    rest = np.stack([np.setdiff1d(order, own, assume_unique=True) for own in tests])
    rest = np.random.default_rng(seed).permuted(rest, axis=1)
    together = 1 if jax.default_backend() == "cpu" else min(count, TOGETHER)
    offset = np.repeat(rows * np.arange(together), num_folds)[:, None]
    split = Split.of(np.tile(rest, (together, 1)) + offset)
    asked = np.tile(tests, (together, 1)) + offset
    scores = []
    for first in range(0, count, together):
        # The last ones begin again at the first: one program for all.
        own = data[np.arange(first, first + together) % count].reshape(-1, dim)
        labels, key = np.tile(target, together), jax.random.key(seed)
        classifiers = train_classifiers(key, own, labels, split)
        odds = np.asarray(log_odds(classifiers, jnp.asarray(own[asked])))
        right = ((odds > 0) == (labels[asked] > 0.5)).mean(1)
        scores.append(right.reshape(together, num_folds))
    return np.concatenate(scores)[:count]


def _by_sklearn(name: str) -> Callable[..., np.ndarray]:
    """As `_on_device`, by scikit-learn's classifier called `name`."""

    def accuracies(
        data: np.ndarray, target: np.ndarray, seed: int, num_folds: int
    ) -> np.ndarray:
        from sklearn.model_selection import KFold, cross_val_score

        folds = KFold(n_splits=num_folds, shuffle=True, random_state=seed)
        model = _classifier(name, data.shape[-1], seed)
        options = {"cv": folds, "scoring": "accuracy"}
        return np.stack([cross_val_score(model, x, target, **options) for x in data])

    return accuracies


def _classifier(name: str, dim: int, seed: int) -> object:
    """Build the scikit-learn classifier called `name` for D = `dim` parameters."""
    if name == "forest":
        from sklearn.ensemble import RandomForestClassifier

        return RandomForestClassifier(NUM_TREES, random_state=seed)
    from sklearn.neural_network import MLPClassifier

    return MLPClassifier(
        activation="relu",
        hidden_layer_sizes=(10 * dim, 10 * dim),
        max_iter=10_000,
        solver="adam",
        random_state=seed,
    )
