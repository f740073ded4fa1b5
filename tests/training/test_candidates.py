"""Several flows to choose from: the one that held-out rows ask for, and only that."""

import dataclasses
from types import SimpleNamespace

import jax
import numpy as np
import pytest

import flowinv as fi
from flowinv.flows import CINN, Candidates, SplineCouplingFlow
from flowinv.models.sampled import SamplerConfig
from flowinv.training.candidates import NeverFinite, preferred
from flowinv.training.config import TrainConfig
from flowinv.training.fit import Fit, Interrupted, train
from flowinv.training.update import surely_better

KEY = jax.random.key(1)
SMALL = {"num_layers": 1, "hidden": (8,), "head_hidden": ()}
FLOWS = CINN(**SMALL), SplineCouplingFlow(**SMALL, num_bins=4)


@pytest.fixture(scope="module")
def chosen_from(estimator):
    """The estimator with both flows for its own."""
    return estimator.with_flow(Candidates(FLOWS))


@pytest.fixture(scope="module")
def quick(settings):
    return dataclasses.replace(settings, max_epochs=6)


@pytest.fixture(scope="module")
def alone(estimator, data, quick):
    return [train(KEY, estimator.with_flow(flow), data, quick) for flow in FLOWS]


def same(one, two):
    for a, b in zip(
        jax.tree.leaves(one.variables), jax.tree.leaves(two.variables), strict=True
    ):
        np.testing.assert_array_equal(a, b)


def test_the_better_one_is_kept_as_if_it_had_been_alone(
    chosen_from, alone, data, quick
):
    """The same numbers, whichever comes first, and the losses of both are said."""
    best, other = alone
    assert surely_better(best.validation_losses, other.validation_losses)
    for order in (FLOWS, FLOWS[::-1]):
        fit = train(KEY, chosen_from.with_flow(Candidates(order)), data, quick)
        assert fit.estimator == best.estimator
        assert fit.validation_loss == best.validation_loss
        same(fit, best)
        for own, name in zip(alone, ("Affine", "Spline"), strict=True):
            assert f"({name}) {own.validation_loss:.3f}" in fit.message
        kept = 1 + order.index(best.estimator.flow)
        assert f"Candidate {kept} is kept" in fit.message


def test_the_first_is_kept_where_another_is_better_by_chance():
    """A gain of 1.5 errors is none, of 2.5 one; one wild row decides nothing."""
    rng = np.random.default_rng(0)
    gain = rng.normal(size=400)
    gain = (gain - gain.mean()) / gain.std() / 20  # an error of 1 / 400
    for errors, expected in ((1.5, False), (2.5, True), (-2.5, False)):
        assert surely_better(-gain - errors / 400, np.zeros(400)) is expected
    wild = np.where(np.arange(400) == 7, 1e6, gain)
    assert not surely_better(-wild, np.zeros(400))


def test_one_bar_for_all_and_stopped_in_the_second_it_goes_on_to_the_same_numbers(
    chosen_from, alone, data, quick, tmp_path
):
    seen = []

    def stop():
        return seen[-1].step > seen[-1].total_steps / 2

    how = {"folder": tmp_path, "progress": seen.append}
    with pytest.raises(Interrupted):
        train(KEY, chosen_from, data, quick, **how, should_stop=stop)
    steps = [told.step for told in seen]
    assert steps == sorted(steps)
    assert {told.total_steps for told in seen} == {2 * 6 * 18}
    assert steps[-1] < 2 * 6 * 18
    seen.clear()
    fit = train(KEY, chosen_from, data, quick, **how)
    # What was done is not done again.
    assert seen[0].step == 6 * 18
    same(fit, min(alone, key=lambda own: own.validation_loss))


@pytest.mark.slow
def test_rounds_choose_in_the_first_and_keep_that(linear, prior, quick, monkeypatch):
    tried = []

    def counted(key, estimator, *rest, **options):
        fit = train(key, estimator, *rest, **options)
        tried.append(fit.estimator.flow)
        return fit

    monkeypatch.setattr("flowinv.training.fit.train", counted)
    monkeypatch.setattr("flowinv.methods.amortised.train", counted)
    own = dataclasses.replace(quick, batch_size=50, max_epochs=2)
    sampling = SamplerConfig(num_particles=500)
    method = fi.SNLE(3, 200, own, sampling)
    estimator = fi.Estimator(prior, Candidates(FLOWS), input_scaling="none")
    done = method.run(jax.random.split(KEY, 1), estimator, linear, np.ones((1, 3)))
    # Both, the better one of them as what the first round gives, and two more rounds.
    assert tried[:2] == list(FLOWS)
    assert len(tried) == 5
    assert tried[2] in FLOWS
    assert tried[2:] == 3 * [tried[2]]
    assert done.posteriors[0].learned.flow == tried[2]


@pytest.mark.parametrize(
    ("flows", "words"),
    [
        ((), "at least two flows"),
        (FLOWS[:1], "at least two flows"),
        ((FLOWS[0], CINN(**SMALL)), "each once"),
        ((CINN, FLOWS[1]), "to be flows of flowinv; got the function CINN"),
    ],
)
def test_what_is_no_choice_is_refused(flows, words):
    with pytest.raises(ValueError, match=words):
        Candidates(flows)


def test_rounds_of_one_network_take_one_flow(chosen_from, linear):
    """Truncated and atomic rounds have no held-out rows of one kind to choose by."""
    with pytest.raises(ValueError, match="flow to be a flow of flowinv"):
        fi.run_rounds(KEY, chosen_from, linear, np.ones(3), fi.Truncated())


@pytest.mark.parametrize("mode", ["fresh", "ensemble"])
@pytest.mark.later("fresh")
def test_fresh_rows_and_ensembles_choose_too(
    chosen_from, estimator, linear, data, quick, mode
):
    """Each candidate is what it is alone, and the choice is the rule's."""
    if mode == "fresh":
        rows = linear
        own = TrainConfig(
            batch_size=32, num_steps=60, steps_per_epoch=20, num_validation=300
        )
    else:
        rows, own = data, dataclasses.replace(quick, max_epochs=2, num_members=2)
    alone = [train(KEY, estimator.with_flow(flow), rows, own) for flow in FLOWS]
    other_is_better = surely_better(*(fit.validation_losses for fit in alone[::-1]))
    expected = alone[int(other_is_better)]
    fit = train(KEY, chosen_from, rows, own)
    assert fit.variables.num_members == own.num_members
    assert fit.estimator == expected.estimator
    same(fit, expected)


def test_a_candidate_that_is_never_finite_is_none():
    """It is said, the others decide, and where all are so the first's error is it."""

    def told(*losses):
        """`preferred` on candidates of these losses; None is never finite."""

        def train(one, folder, progress):
            del folder, progress
            if losses[one.number] is None:
                raise NeverFinite(f"none in {one.number}")
            rows = losses[one.number] + np.linspace(-1e-3, 1e-3, 50)
            return Fit(one, None, {}, None, "Ended.", losses[one.number], rows)

        ones = [
            SimpleNamespace(number=number, flow=FLOWS[number % 2])
            for number in range(len(losses))
        ]
        fit = preferred(train, ones, None, None)
        return fit.estimator.number, fit.message

    kept, said = told(None, 2.0, 1.0)
    assert kept == 2
    assert "Candidate 3 is kept" in said
    assert "(Affine) never finite, " in said
    assert told(1.0, None)[0] == 0
    with pytest.raises(ValueError, match="none in 0"):
        told(None, None)


def test_every_candidates_loss_is_told_apart_from_bad_input(chosen_from, data, quick):
    """What no candidate can train on is refused at once, in one line."""
    with pytest.raises(NeverFinite, match="a finite loss in the first epoch"):
        train(KEY, chosen_from, data, dataclasses.replace(quick, learning_rate=1e30))
    with pytest.raises(ValueError, match="batch_size") as refused:
        train(KEY, chosen_from, data, dataclasses.replace(quick, batch_size=10**6))
    assert not isinstance(refused.value, NeverFinite)
