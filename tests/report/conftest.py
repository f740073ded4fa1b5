"""A made-up study with everything that a report can show."""

import dataclasses

import jax
import numpy as np
import pytest

from flowinv.diagnostics.calibration import calibration_curves
from flowinv.diagnostics.check import Answered, HeldOut, Inputs, labelled
from flowinv.diagnostics.sbc import sbc_ranks
from flowinv.diagnostics.table import run_checks
from flowinv.report.content import (
    Answer,
    Errors,
    ModelResult,
    Observation,
    ReportContent,
    RoundsTrace,
    Step,
)
from flowinv.report.page import render_report
from flowinv.tasks.task import ClassicalFit, Derived, ScanLayout

NAMES = ("mean_x", "mean_y", "std_x", "std_y")
UNITS = ("grid", "grid", "grid", "grid")
GRID = np.arange(200) * 0.5
LAYOUT = ScanLayout(
    ("profile over x", "profile over y"), (GRID, GRID), "position (grid)", "counts"
)
LOW, HIGH = np.array([20, 20, 1, 1.0]), np.array([80, 80, 15, 15.0])
NUM_PHOTONS = 4096


def profiles(theta):
    """Two normal profiles over the grid, 400 expected counts."""
    mean, std = theta[..., :2, None], theta[..., 2:, None]
    density = np.exp(-0.5 * ((GRID - mean) / std) ** 2) / (np.sqrt(2 * np.pi) * std)
    return (0.5 * NUM_PHOTONS * density).reshape(*theta.shape[:-1], -1)


def posterior_sd(theta):
    std = theta[..., 2:]
    return np.concatenate([std, std / np.sqrt(2)], -1) / np.sqrt(NUM_PHOTONS)


def make_model(rng, width, observations, seed):
    """A model whose posteriors are `width` times as wide as they should be."""
    theta = rng.uniform(LOW, HIGH, size=(1_000, 4))
    sd = posterior_sd(theta) * 3
    mean = theta + sd * rng.normal(size=theta.shape)
    samples = mean[:, None] + width * sd[:, None] * rng.normal(size=(1_000, 199, 4))
    ranks = np.asarray(sbc_ranks(jax.random.key(seed), theta, samples))
    answers = {}
    for item in observations:
        spread = width * posterior_sd(item.theta_true)
        draws = item.exact.mean(0) + 0.2 * spread + spread * rng.normal(size=(2_000, 4))
        predictive = rng.poisson(profiles(draws[:256])).astype(np.float32)
        answers[item.label] = Answer(draws.astype(np.float32), predictive)
    epochs = np.arange(30)
    history = {
        "train_loss": 12 * np.exp(-epochs / 4) - 3 + 0.02 * rng.normal(size=30),
        "validation_loss": 12 * np.exp(-epochs / 4) - 2.8 + 0.03 * rng.normal(size=30),
        "gradient_norm": 5 * np.exp(-epochs / 10) * rng.uniform(0.7, 1.3, 30),
        "out_of_range": 0.02 * np.exp(-epochs / 5),
    }
    mode = mean + 0.1 * sd
    facts = {"parameters": "1 054 232", "training time": "148 s", "best epoch": "29"}
    log_q = np.zeros((1_000, 199))
    found = HeldOut(theta, samples, log_q, log_q[:, 0], ranks, mode)
    answered = [
        Answered(item.label, answers[item.label].samples, np.zeros((2, 4)), item.exact)
        for item in observations
    ]
    edges = tuple(
        (f"{low:g}", f"{high:g}") for low, high in zip(LOW, HIGH, strict=True)
    )
    inputs = Inputs(NAMES, edges, found, tuple(answered), ())
    results = run_checks(inputs)
    for item in observations:
        scores = labelled(item.label, {"c2st_mlp": 0.56, "c2st_forest": 0.53})
        results.numbers["exactness"] |= scores
    results.numbers["exactness"] |= {"mean/c2st_mlp": 0.56, "mean/c2st_forest": 0.53}
    return ModelResult(
        history=history,
        errors=Errors(theta, found.errors_in_sds()),
        calibration=calibration_curves(ranks, 199),
        answers=answers,
        facts=facts,
        results=results,
    )


def make_trace(exact, num_rounds=6):
    """Rounds that close in on the exact posterior."""
    rounds = np.arange(num_rounds)
    off = 4.0 * np.exp(-rounds)[:, None] * np.array([1, -1, 0.5, -0.5])
    wide = 1 + 3 * np.exp(-rounds)[:, None] * np.ones(4)
    return RoundsTrace(
        num_simulations=1_000 * (rounds + 1),
        num_failed=10 * rounds,
        num_used=700 * (rounds + 1),
        num_effective=600.0 * (rounds + 1),
        unsimulated=0.001 * np.exp(-rounds),
        mass_outside=0.01 * np.exp(-rounds),
        sample_efficiency=0.05 - 0.04 * np.exp(-rounds),
        waste=0.02 * rounds,
        distance=5.0 * np.exp(-rounds) + 0.1,
        validation_loss=2.0 - rounds / 10,
        mean=exact.mean(0) + off * exact.std(0),
        sd=wide * exact.std(0),
        c2st_forest=0.52 + 0.4 * np.exp(-rounds),
    )


@pytest.fixture(scope="session")
def sequential(content):
    """The same study inferred in rounds; one observation is a user's, without exact."""
    first, second, _ = content.observations
    mine = dataclasses.replace(second, exact=None, theta_true=None)
    exact = first.exact
    unknown = dataclasses.replace(make_trace(exact), c2st_forest=np.full(6, np.nan))
    model = ModelResult(
        answers=dict(list(content.models["cINN"].answers.items())[:2]),
        results=content.models["cINN"].results,
        facts={"rounds": "6"},
        rounds={first.label: make_trace(exact), mine.label: unknown},
    )
    return dataclasses.replace(
        content, models={"spline": model}, observations=(first, mine), best="spline"
    )


@pytest.fixture(scope="session")
def content():
    rng = np.random.default_rng(0)
    observations = []
    for k in range(3):
        theta = rng.uniform(LOW, HIGH)
        x = rng.poisson(profiles(theta)).astype(np.float32)
        sd = posterior_sd(theta)
        exact = theta + sd * rng.normal(size=4) + sd * rng.normal(size=(2_000, 4))
        fit = ClassicalFit(
            theta + 1.3 * sd * rng.normal(size=4), 1.3 * sd, profiles(theta), "erf fit"
        )
        known = Observation(f"observation {k + 1}", x, theta, exact, fit, layout=LAYOUT)
        observations.append(known)
    models = {
        "cINN": make_model(rng, 1.0, observations, 1),
        "spline flow": make_model(rng, 0.7, observations, 2),
    }
    facts = {
        "task": "beam_profile",
        "simulations": "100,000 (fixed)",
        "device": "cpu, 2 cores",
        "seed": "0",
        "versions": "flowinv 0.1.0, jax 0.10.2",
    }
    steps = (Step("The next scan:", "flowinv infer runs/test --x scan.csv"),)
    return ReportContent(
        title="Beam profile <test>",
        names=NAMES,
        units=UNITS,
        facts=facts,
        models=models,
        observations=tuple(observations),
        best="cINN",
        next_steps=steps,
        derived=(Derived("fwhm_x", "um", "std_x", 11.774),),
    )


@pytest.fixture(scope="session")
def small(content):
    """One observation and one model of the study."""
    first, model = content.observations[0], content.models["cINN"]
    answers = {first.label: model.answers[first.label]}
    return dataclasses.replace(
        content,
        observations=(first,),
        models={"cINN": dataclasses.replace(model, answers=answers, errors=None)},
    )


@pytest.fixture(scope="session")
def text(content):
    """The page of the study."""
    return render_report(content)


@pytest.fixture(scope="session")
def rounds_text(sequential):
    """The page of the study in rounds."""
    return render_report(sequential)
