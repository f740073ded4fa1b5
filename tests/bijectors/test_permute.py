"""Permutations: every dimension is moved, and the last one undoes all."""

import numpy as np
import pytest

from flowinv.bijectors import Chain, Permutation, mixing_permutations, permutation


@pytest.mark.parametrize("dim", [1, 2, 3, 4, 5, 8, 20])
@pytest.mark.parametrize("num_layers", [1, 2, 3, 8])
def test_the_last_permutation_undoes_all_before(dim, num_layers):
    layers, last = mixing_permutations(dim, num_layers, dim // 2)
    steps = [Permutation(indices) for indices in layers.indices]
    x = np.arange(dim, dtype=np.float32)
    np.testing.assert_array_equal(Chain([*steps, last]).forward_and_log_det(x)[0], x)
    np.testing.assert_array_equal(Chain([*steps, last]).inverse_and_log_det(x)[0], x)


@pytest.mark.parametrize("dim", [2, 3, 4, 5, 8, 20])
def test_each_pair_of_layers_moves_every_dimension(dim):
    split = dim // 2
    layers, _ = mixing_permutations(dim, 8, split)
    order, moved = np.arange(dim), []
    for row in layers.indices:
        moved.append(set(order[split:]))
        order = order[row]
    for first, second in zip(moved[::2], moved[1::2], strict=True):
        assert first | second == set(range(dim))


def test_four_dimensions_meet_in_every_split():
    layers, _ = mixing_permutations(4, 6, 2)
    order, splits = np.arange(4), set()
    for row in layers.indices:
        splits.add(frozenset([frozenset(order[:2]), frozenset(order[2:])]))
        order = order[row]
    assert len(splits) == 3


@pytest.mark.parametrize("indices", [[0, 0], [1, 2], [[0, 1], [1, 1]]])
def test_what_is_no_permutation_is_refused(indices):
    with pytest.raises(ValueError, match=r"Expected indices to hold each of 0..1 once"):
        permutation(np.array(indices))


@pytest.mark.parametrize(("num_layers", "split"), [(0, 1), (2, -1), (2, 5)])
def test_invalid_mixing(num_layers, split):
    with pytest.raises(
        ValueError, match=r"num_layers >= 1 and 0 <= split <= D at D = 4"
    ):
        mixing_permutations(4, num_layers, split)
