"""A stored stream: the same rows however they were asked for, none drawn twice."""

import jax
import numpy as np
import pytest

from flowinv.data import stream
from flowinv.data.simulate import simulate
from flowinv.data.store import num_rows
from flowinv.data.stream import stored_rows
from flowinv.priors.latent import normal


class Noisy:
    x_shape = (2,)

    def simulate(self, key, theta):
        return theta[0] + jax.random.normal(key, (2,))


PROBLEM = jax.random.key(3), normal(np.zeros(1), 2.0 * np.ones(1)), Noisy()


def same(a, b):
    for left, right in zip(a, b, strict=True):
        np.testing.assert_array_equal(left, right)


def test_rows_do_not_depend_on_how_they_were_asked_for(tmp_path, monkeypatch):
    whole = simulate(*PROBLEM, 50)
    asked = []

    def counted(*arguments, **options):
        asked.append((arguments[3], options["first_row"]))
        return simulate(*arguments, **options)

    monkeypatch.setattr(stream, "simulate", counted)
    path = tmp_path / "rows"
    for count in (20, 10, 50, 35):
        found = stored_rows(path, *PROBLEM, count)
        same(found, jax.tree.map(lambda leaf, n=count: leaf[:n], whole))
    assert asked == [(20, 0), (30, 20)]
    assert num_rows(path) == 50


def test_a_process_killed_while_it_wrote_leaves_no_half_store(tmp_path, monkeypatch):
    def torn(path, data):
        path.mkdir()
        (path / "zarr.json").write_text("{")
        raise KeyboardInterrupt

    path = tmp_path / "rows"
    with monkeypatch.context() as patch:
        patch.setattr(stream, "write_dataset", torn)
        with pytest.raises(KeyboardInterrupt):
            stored_rows(path, *PROBLEM, 20)
    same(stored_rows(path, *PROBLEM, 20), simulate(*PROBLEM, 20))
