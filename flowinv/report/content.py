"""What a report shows, as plain arrays and words; saved and read without pickle."""

import io
import json
import math
import zipfile
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from flowinv.checks import check_shape, fail
from flowinv.diagnostics.check import Results
from flowinv.files import from_plain, to_plain, write_bytes
from flowinv.tasks.task import ClassicalFit, ScanLayout

__all__ = [
    "Answer",
    "Calibration",
    "Estimates",
    "ModelResult",
    "Observation",
    "ReportContent",
    "RoundsTrace",
    "Step",
    "load_content",
    "save_content",
]

SCHEMA = 3
"""Version of the saved form; raised whenever a field changes its meaning."""


@dataclass(frozen=True)
class Estimates:
    """Point estimates for held-out simulations, each `[S, D]`; None is left out.

    `sd` is the posterior's own standard deviation.
    """

    truth: np.ndarray
    mean: np.ndarray | None = None
    median: np.ndarray | None = None
    map: np.ndarray | None = None
    sd: np.ndarray | None = None

    def named(self) -> dict[str, np.ndarray]:
        """Return the estimates that exist, by name."""
        named = {"mean": self.mean, "median": self.median, "MAP": self.map}
        return {name: value for name, value in named.items() if value is not None}


@dataclass(frozen=True)
class Calibration:
    """SBC ranks of the truth among `num_samples` draws, integers `[S, D]`."""

    ranks: np.ndarray
    num_samples: int


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
    """

    label: str
    x: np.ndarray
    theta_true: np.ndarray | None = None
    exact: np.ndarray | None = None
    fit: ClassicalFit | None = None
    exact_note: str = ""


@dataclass(frozen=True)
class Answer:
    """What one model says about one observation.

    Attributes:
        samples: posterior draws `[n, D]`.
        predictive: observations simulated from posterior draws, `[m, *x_shape]`.
        metrics: names of `meanings.METRICS` to numbers, or to arrays `[D]` for
            `mean_shift` and `sd_ratio`.
    """

    samples: np.ndarray
    predictive: np.ndarray | None = None
    metrics: dict[str, float | np.ndarray] = field(default_factory=dict)


@dataclass(frozen=True)
class RoundsTrace:
    """How one observation was inferred in rounds; arrays over R rounds.

    Attributes:
        num_simulations: simulations so far, `[R]`.
        num_used: rows that the round's network learned from, `[R]`.
        mass_outside: share of the posterior outside the last region, `[R]`.
        sample_efficiency: effective share of the round's rows, `[R]`.
        distance: how far the posterior moved, in its sds, `[R]`.
        validation_loss: nats, `[R]`.
        mean: posterior mean, `[R, D]`.
        sd: posterior sd, `[R, D]`.
        c2st_forest: against the exact posterior, NaN where unknown, `[R]`.
    """

    num_simulations: np.ndarray
    num_used: np.ndarray
    mass_outside: np.ndarray
    sample_efficiency: np.ndarray
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
        estimates: point estimates for held-out simulations.
        calibration: SBC ranks.
        answers: observation label to this model's answer.
        facts: name to value in words (parameters, training time, best epoch).
        rounds: observation label to the rounds that inferred it.
        validation_loss: best, nats; the smallest makes the best model,
            and infinity none.
        results: numbers of all checks, and a verdict for each parameter.
    """

    history: dict[str, np.ndarray] = field(default_factory=dict)
    estimates: Estimates | None = None
    calibration: Calibration | None = None
    answers: dict[str, Answer] = field(default_factory=dict)
    facts: dict[str, str] = field(default_factory=dict)
    rounds: dict[str, RoundsTrace] = field(default_factory=dict)
    validation_loss: float = math.inf
    results: Results = field(default_factory=Results)


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
        layout: how to draw a scan; None draws x against its index.
        best: name of the model that answers on the first screen.
        next_steps: what to do next.

    Raises:
        ValueError: arrays whose last axis is not D, an answer to an unknown
            observation, or a layout that does not fit x.
    """

    title: str
    names: tuple[str, ...]
    units: tuple[str, ...]
    facts: dict[str, str] = field(default_factory=dict)
    models: dict[str, ModelResult] = field(default_factory=dict)
    observations: tuple[Observation, ...] = ()
    layout: ScanLayout | None = None
    best: str = ""
    next_steps: tuple[Step, ...] = ()

    def __post_init__(self) -> None:
        dim = len(self.names)
        if len(self.units) != dim:
            fail("units", f"of length {dim}, one per parameter", len(self.units))
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
        if self.layout is not None:
            length = sum(len(positions) for positions in self.layout.positions)
            if length != observation.x.size:
                fail("layout", f"of length {observation.x.size}, that of x", length)

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
            _check_width(f"ranks of {name}", model.calibration.ranks, dim)
        if model.estimates is not None:
            _check_width(f"truth of {name}", model.estimates.truth, dim)
            for kind, value in model.estimates.named().items():
                shape = model.estimates.truth.shape
                check_shape(f"{kind} estimates of {name}", value.shape, shape)


def _check_width(what: str, array: np.ndarray | None, dim: int) -> None:
    if array is not None and (array.ndim != 2 or array.shape[1] != dim):
        fail(what, f"with shape (n, {dim})", array.shape)


def save_content(content: ReportContent, path: str | Path) -> None:
    """Write `content` to one compressed npz file: arrays, and a JSON of the rest."""
    arrays: dict[str, np.ndarray] = {}
    tree = {"schema": SCHEMA, "content": to_plain(content, arrays)}
    buffer = io.BytesIO()
    np.savez_compressed(buffer, content=np.array(json.dumps(tree)), **arrays)
    write_bytes(path, buffer.getvalue())


def load_content(path: str | Path) -> ReportContent:
    """Read what `save_content` wrote; never unpickles.

    Raises:
        ValueError: the file is missing, damaged, or of another schema version.
    """
    path = Path(path)
    if not path.is_file():
        fail("report content", "to be a file", str(path), "Was the run finished?")
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {key: archive[key] for key in archive.files}
        tree = json.loads(str(arrays.pop("content")))
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        fail("report content", "to be a file of save_content", str(path))
    if not isinstance(tree, dict) or tree.get("schema") != SCHEMA:
        got = tree.get("schema") if isinstance(tree, dict) else type(tree).__name__
        fail("report content", f"of schema {SCHEMA}", got)
    try:
        return from_plain(ReportContent, tree["content"], str(path), arrays)
    except (KeyError, TypeError):
        fail("report content", f"to hold every field of schema {SCHEMA}", str(path))
