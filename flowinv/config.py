"""The config of a run: frozen data, every field a flag, saved as `config.json`."""

import dataclasses
import json
import types
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Union, get_args, get_origin, get_type_hints

from flowinv.checks import check_at_least, check_known, check_positive, fail
from flowinv.flows.description import EMBEDDINGS, FLOWS, SUMMARIES
from flowinv.networks.activation import ACTIVATIONS
from flowinv.training.config import TrainConfig

__all__ = ["METHODS", "EvaluateConfig", "NetworkConfig", "RoundsSettings", "RunConfig"]

METHODS = ("npe", "tsnpe", "apt")
FRESH = "fresh"
SCALINGS = ("task", "auto", "none", "root", "asinh", "log")


@dataclass(frozen=True)
class NetworkConfig:
    """Flow and embedding.

    Attributes:
        num_layers: layers of the flow.
        hidden: widths of each layer's conditioner.
        num_bins: bins of a spline.
        activation: of conditioners and head.
        head_hidden: widths of the affine head's correction.
        lu_mixing: learned linear map after every layer.
        unroll: write the layers out instead of scanning them: longer to compile, up
            to a third faster for small splines on a CPU.
        embedding: network that reads x: mlp, residual, conv, set, "none" or "task".
        embedding_width: units of its layers.
        embedding_layers: its layers, blocks or convolutions.
        summary: fixed summaries of x that join the context: moments, "none" or "task".
        input_scaling: root, log, asinh, none, "auto" from the data or "task".
        anchored: start from the solved regression.
    """

    num_layers: int = 8
    hidden: tuple[int, ...] = (64, 64)
    num_bins: int = 8
    activation: str = "silu"
    head_hidden: tuple[int, ...] = (128, 128)
    lu_mixing: bool = True
    unroll: bool = False
    embedding: str = "task"
    embedding_width: int = 128
    embedding_layers: int = 2
    summary: str = "task"
    input_scaling: str = "task"
    anchored: bool = True

    def check(self) -> None:
        """Raise one line for the first field out of its range."""
        check_at_least("num_layers", self.num_layers, 1)
        check_at_least("num_bins", self.num_bins, 2)
        check_at_least("embedding_width", self.embedding_width, 1)
        check_at_least("embedding_layers", self.embedding_layers, 1)
        if not self.hidden or min(self.hidden) < 1:
            fail("hidden", "to name layers of at least one unit", self.hidden)
        if self.head_hidden and min(self.head_hidden) < 1:
            fail("head_hidden", "to name layers of at least one unit", self.head_hidden)
        check_known("activation", self.activation, ACTIVATIONS)
        check_known("embedding", self.embedding, [*EMBEDDINGS, "none", "task"])
        check_known("summary", self.summary, [*SUMMARIES, "none", "task"])
        check_known("input scaling", self.input_scaling, SCALINGS)


@dataclass(frozen=True)
class EvaluateConfig:
    """What is measured after training.

    Attributes:
        num_heldout: new simulations for estimates, calibration and coverage.
        num_samples: posterior draws for each of them.
        observations: fixed observations to answer, such as "1-3,7"; "" for none.
        num_exact: draws of flow and exact posterior that are compared.
        references: folder with obs_<k>.npz (observation, true_parameters,
            reference_samples) to answer instead of the task's own observations.
        classifiers: C2ST classifiers.
        point_estimates: also find the MAP of every held-out simulation.
    """

    num_heldout: int = 1_000
    num_samples: int = 256
    observations: str = "1-3"
    num_exact: int = 2_000
    references: str = ""
    classifiers: tuple[str, ...] = ("mlp", "forest")
    point_estimates: bool = True

    def check(self) -> None:
        """Raise one line for the first field out of its range."""
        check_at_least("num_heldout", self.num_heldout, 100)
        check_at_least("num_samples", self.num_samples, 20)
        check_at_least("num_exact", self.num_exact, 100)
        for name in self.classifiers:
            check_known("classifier", name, ("mlp", "forest"))
        if self.references and not Path(self.references).is_dir():
            fail("references", "to be a folder", self.references)


@dataclass(frozen=True)
class RoundsSettings:
    """Sequential rounds, for the methods apt and tsnpe.

    Attributes:
        num_rounds: rounds for each observation.
        seeds: independent repetitions of every observation.
        region: tsnpe cuts the prior to a box or to the highest-density region (hdr).
        margin: a box is widened on each side by this share of its width.
        num_atoms: atoms of apt's loss, or "all" rows of the batch.
        combined: apt adds the plain loss on the first round's rows.
        truncated_rounds: apt's first rounds that draw from a box instead.
        warm_start: each round goes on with the last one's network.
        stop_when_converged: end when the posterior moves by less (in its sds); 0 never.
        lanes_per_call: observations in one compiled call; 0 lets the device decide.
    """

    num_rounds: int = 10
    seeds: int = 1
    region: str = "box"
    margin: float = 0.15
    num_atoms: int | str = 10
    combined: bool = False
    truncated_rounds: int = 0
    warm_start: bool = False
    stop_when_converged: float = 0.0
    lanes_per_call: int = 0

    def check(self) -> None:
        """Raise one line for what the methods do not check themselves."""
        check_at_least("seeds", self.seeds, 1)
        check_at_least("lanes_per_call", self.lanes_per_call, 0)


@dataclass(frozen=True)
class RunConfig:
    """One experiment.

    Attributes:
        task: task name with options, such as "beam_profile:prior=slides,points=100".
        method: npe (one network for all observations), or in rounds for each: tsnpe
            (truncated proposals) or apt (atomic proposals).
        flow: one or more of cinn, spline, maf, spline-ar; each is trained and shown.
        num_simulations: a number (a fixed set, as a text) or "fresh"; in rounds the
            number of each round, 1,000 for "fresh".
        seed: seed of everything.
        out: folder of the run; "" takes runs/<task>-<flows>.
        x: a scan file to answer in the report as well; in rounds, instead of the
            task's observations.
        network: flow and embedding; unless changed, rounds take 5 layers of 50 units.
        train: how to train; unless changed, rounds take 1,000 steps of 128 rows.
        rounds: how rounds run.
        evaluate: what to measure.
    """

    task: str = "beam_profile"
    method: str = "npe"
    flow: tuple[str, ...] = ("spline",)
    num_simulations: str = FRESH
    seed: int = 0
    out: str = ""
    x: str = ""
    network: NetworkConfig = field(default_factory=NetworkConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    rounds: RoundsSettings = field(default_factory=RoundsSettings)
    evaluate: EvaluateConfig = field(default_factory=EvaluateConfig)

    @property
    def sequential(self) -> bool:
        """Whether the method works in rounds."""
        return self.method != "npe"

    @property
    def fresh(self) -> bool:
        """Whether every step draws new simulations."""
        return self.num_simulations == FRESH

    def check(self) -> None:
        """Raise one line for the first field out of its range.

        Raises:
            ValueError: what, expected, got, remedy.
        """
        check_known("method", self.method, METHODS)
        if not self.flow or len(set(self.flow)) != len(self.flow):
            fail("flow", "to name at least one flow, each once", self.flow)
        for name in self.flow:
            check_known("flow", name, FLOWS)
        if not self.fresh:
            if not self.num_simulations.isdecimal():
                got = repr(self.num_simulations)
                fail("num_simulations", f"to be a whole number or {FRESH!r}", got)
            check_positive("num_simulations", int(self.num_simulations))
        if not 0 <= self.seed < 2**32:
            fail("seed", "from 0 to 2^32 - 1", self.seed)
        self.network.check()
        self.train.check()
        self.evaluate.check()
        self.rounds.check()
        if self.sequential:
            if not (self.x or self.evaluate.observations):
                fail("observations", "to name one to infer in rounds", "none")
        else:
            self._check_batches()

    def _check_batches(self) -> None:
        if self.fresh:
            return
        held = max(2, round(self.train.validation_share * int(self.num_simulations)))
        count, batch = int(self.num_simulations) - held, self.train.batch_size
        if count < 2 * batch:
            fail(
                "num_simulations",
                f"to leave two batches of {batch} for training",
                f"{count} after {held} for validation",
                "Simulate more or lower --batch-size.",
            )

    def folder(self) -> Path:
        """Return the folder of the run."""
        if self.out:
            return Path(self.out)
        task = self.task.replace(":", "-").replace(",", "-").replace("=", "-")
        return Path("runs") / f"{task}-{'-'.join(self.flow)}"

    def to_json(self) -> dict[str, Any]:
        """Return the config as plain data."""
        return dataclasses.asdict(self)

    @classmethod
    def read(cls, path: str | Path) -> "RunConfig":
        """Read a `config.json` of an earlier run, or a part of one.

        Raises:
            ValueError: for a missing file, no JSON, an unknown or mistyped field.
        """
        path = Path(path)
        if not path.is_file():
            fail("config", "to be a file", str(path))
        try:
            data = json.loads(path.read_text())
        except (ValueError, UnicodeDecodeError):
            fail(f"config {path}", "to be JSON", "something else")
        if isinstance(data, dict):
            data = data.get("config", data)
        return from_json(cls, data, str(path))


def from_json(kind: type, data: Any, where: str) -> Any:
    """Build a frozen dataclass from plain data, checking names and types.

    Raises:
        ValueError: for an unknown field or a value of another type.
    """
    if not isinstance(data, dict):
        fail(where, "to hold an object", type(data).__name__)
    hints = get_type_hints(kind)
    values = {}
    for name, value in data.items():
        check_known(f"field in {where}", name, hints)
        values[name] = _typed(hints[name], value, f"{where}: {name}")
    return kind(**values)


def _typed(hint: Any, value: Any, where: str) -> Any:
    if dataclasses.is_dataclass(hint):
        return from_json(hint, value, where)
    if get_origin(hint) is tuple:
        if not isinstance(value, list):
            fail(where, "to be a list", repr(value))
        return tuple(_typed(get_args(hint)[0], item, where) for item in value)
    kinds = get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)
    if float in kinds and type(value) is int:
        return float(value)
    if type(value) not in kinds:
        names = " or ".join(kind.__name__ for kind in kinds)
        fail(where, f"of type {names}", repr(value))
    return value
