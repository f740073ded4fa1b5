"""What a report shows, as plain arrays and words; saved and read without pickle."""

import math
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from flowinv.checks import check_known, check_shape, fail
from flowinv.diagnostics.calibration import Curves
from flowinv.diagnostics.check import Numbers, Results, of_label
from flowinv.files import read_arrays, write_arrays
from flowinv.tasks.task import ClassicalFit, Derived, ScanLayout

__all__ = [
    "Answer",
    "Errors",
    "ModelResult",
    "Observation",
    "ReportContent",
    "RoundsTrace",
    "Step",
    "load_content",
    "save_content",
]

SCHEMA = 5
"""Version of the saved form; raised whenever a field changes its meaning."""


@dataclass(frozen=True)
class Errors:
    """Errors of posterior means of held-out simulations.

    Attributes:
        truth: true parameters, `[S, D]`.
        in_sds: (mean - truth) / sd, each by its own posterior, `[S, D]`.
    """

    truth: np.ndarray
    in_sds: np.ndarray


@dataclass(frozen=True)
class Observation:
    """One observed scan and what is known about it apart from any model.

    Attributes:
        label: its name; models answer by it.
        x: the observation, `[*x_shape]`.
        theta_true: true parameters `[D]` in their units, None for a measured scan.
        exact: draws of the exact posterior `[n, D]`, None where there is none.
        fit: the classical fit, or None.
        exact_note: how good the exact draws are, or why there are none; "" for draws
            without error.
        layout: how it is drawn; None draws x against its index.
        seen: what is drawn, flat, where x holds more than that; None draws x.
        scan_note: what was done to a measured scan: sorted, means taken.
    """

    label: str
    x: np.ndarray
    theta_true: np.ndarray | None = None
    exact: np.ndarray | None = None
    fit: ClassicalFit | None = None
    exact_note: str = ""
    layout: ScanLayout | None = None
    seen: np.ndarray | None = None
    scan_note: str = ""

    @property
    def drawn(self) -> np.ndarray:
        """What is drawn of it, flat."""
        return (self.x if self.seen is None else self.seen).ravel()


@dataclass(frozen=True)
class Answer:
    """What one model says about one observation.

    Attributes:
        samples: posterior draws `[n, D]`.
        predictive: observations simulated from posterior draws, `[m, *x_shape]`.
    """

    samples: np.ndarray
    predictive: np.ndarray | None = None


@dataclass(frozen=True)
class RoundsTrace:
    """How one observation was inferred in rounds; arrays over R rounds.

    Attributes:
        num_simulations: simulations so far, `[R]`.
        num_failed: those of the round that failed, `[R]`.
        num_used: rows that the round's network learned from, `[R]`.
        num_effective: as many rows of equal weight would say as much, `[R]`.
        mass_outside: share of the posterior outside the last region, `[R]`.
        unsimulated: share of the posterior beyond all simulated parameters, `[R]`.
        sample_efficiency: effective share of the round's rows, `[R]`.
        waste: nats by which the posterior is smaller than its Gaussian, `[R]`.
        distance: how far the posterior moved, in its sds, `[R]`.
        validation_loss: nats, `[R]`.
        mean: posterior mean, `[R, D]`.
        sd: posterior sd, `[R, D]`.
        c2st_forest: against the exact posterior, NaN where not scored, `[R]`.
    """

    num_simulations: np.ndarray
    num_failed: np.ndarray
    num_used: np.ndarray
    num_effective: np.ndarray
    mass_outside: np.ndarray
    unsimulated: np.ndarray
    sample_efficiency: np.ndarray
    waste: np.ndarray
    distance: np.ndarray
    validation_loss: np.ndarray
    mean: np.ndarray
    sd: np.ndarray
    c2st_forest: np.ndarray


@dataclass(frozen=True)
class ModelResult:
    """Everything measured about one trained model; every part may be absent.

    Attributes:
        history: per epoch, `[epochs]`: train_loss, validation_loss, gradient_norm,
            out_of_range; other names are kept but not drawn.
        errors: of point estimates for held-out simulations.
        calibration: histograms of ranks and coverage of intervals.
        answers: observation label to this model's answer.
        facts: name to value in words (parameters, training time, best epoch).
        rounds: observation label to the rounds that inferred it.
        validation_loss: best, nats; the smallest makes the best model,
            and infinity none.
        seconds: of training, or of the rounds of all observations, compilation
            included; 0 where it is not known.
        results: numbers of all checks, and a verdict for each parameter.
    """

    history: dict[str, np.ndarray] = field(default_factory=dict)
    errors: Errors | None = None
    calibration: Curves | None = None
    answers: dict[str, Answer] = field(default_factory=dict)
    facts: dict[str, str] = field(default_factory=dict)
    rounds: dict[str, RoundsTrace] = field(default_factory=dict)
    validation_loss: float = math.inf
    seconds: float = 0.0
    results: Results = field(default_factory=Results)

    def numbers(self, check: str, label: str) -> Numbers:
        """What a check found for one observation; empty where it found nothing."""
        return of_label(self.results.numbers.get(check, {}), label)


@dataclass(frozen=True)
class Step:
    """What to do next.

    Attributes:
        words: a sentence.
        command: what to type, "" for nothing.
    """

    words: str
    command: str = ""


@dataclass(frozen=True)
class ReportContent:
    """All that `page.write_report` needs.

    Attributes:
        title: heading of the page.
        names: parameter names, D of them.
        units: their units, "" for none.
        facts: name to value in words: versions, device, seed, time, simulations.
        models: model name to results, in the order of display.
        observations: the scans that models answered.
        best: name of the model that answers on the first screen.
        next_steps: what to do next.
        derived: quantities that are shown beside the parameters.

    Raises:
        ValueError: arrays whose last axis is not D, an answer to an unknown
            observation, a layout that does not fit x, or a quantity derived from an
            unknown parameter.
    """

    title: str
    names: tuple[str, ...]
    units: tuple[str, ...]
    facts: dict[str, str] = field(default_factory=dict)
    models: dict[str, ModelResult] = field(default_factory=dict)
    observations: tuple[Observation, ...] = ()
    best: str = ""
    next_steps: tuple[Step, ...] = ()
    derived: tuple[Derived, ...] = ()

    def __post_init__(self) -> None:
        dim = len(self.names)
        if len(self.units) != dim:
            fail("units", f"of length {dim}, one per parameter", len(self.units))
        for quantity in self.derived:
            check_known("parameter", quantity.parameter, self.names)
        labels = {observation.label for observation in self.observations}
        if len(labels) != len(self.observations):
            fail("observation labels", "to differ", len(labels))
        for observation in self.observations:
            self._check_observation(observation)
        for name, model in self.models.items():
            self._check_model(name, model, labels)

    def _check_observation(self, observation: Observation) -> None:
        dim, label = len(self.names), observation.label
        _check_width(f"exact of {label}", observation.exact, dim)
        if observation.theta_true is not None:
            check_shape(f"theta_true of {label}", observation.theta_true.shape, (dim,))
        if observation.fit is not None:
            check_shape(f"fit of {label}", observation.fit.values.shape, (dim,))
            check_shape(f"fit errors of {label}", observation.fit.errors.shape, (dim,))
        if observation.layout is not None:
            own = observation.layout.positions
            length, size = sum(len(one) for one in own), observation.drawn.size
            if length != size:
                fail(f"layout of {label}", f"of length {size}, that of x", length)

    def _check_model(self, name: str, model: ModelResult, labels: set[str]) -> None:
        dim = len(self.names)
        unknown = (set(model.answers) | set(model.rounds)) - labels
        if unknown:
            fail(f"answers of {name}", f"for {sorted(labels)}", sorted(unknown))
        for label, answer in model.answers.items():
            _check_width(f"samples of {name} for {label}", answer.samples, dim)
        for label, trace in model.rounds.items():
            _check_width(f"means of {name} for {label}", trace.mean, dim)
        if model.calibration is not None:
            _check_width(f"counts of {name}", model.calibration.counts, dim)
        if model.errors is not None:
            _check_width(f"truth of {name}", model.errors.truth, dim)
            shape = model.errors.truth.shape
            check_shape(f"errors of {name}", model.errors.in_sds.shape, shape)


def _check_width(what: str, array: np.ndarray | None, dim: int) -> None:
    if array is not None and (array.ndim != 2 or array.shape[1] != dim):
        fail(what, f"with shape (n, {dim})", array.shape)


def save_content(content: ReportContent, path: str | Path) -> None:
    """Write `content` to one compressed npz file: arrays, and a JSON of the rest."""
    write_arrays(path, content, SCHEMA)


def load_content(path: str | Path) -> ReportContent:
    """Read what `save_content` wrote; never unpickles.

    Raises:
        ValueError: the file is missing, damaged, or of another schema version.
    """
    return read_arrays(ReportContent, path, "report content", SCHEMA)
