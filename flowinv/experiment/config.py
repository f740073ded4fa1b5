"""The config of a run: frozen data, every field a flag, saved as `config.json`."""

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from flowinv.checks import check_at_least, check_known, fail
from flowinv.data.scan import ReadOptions
from flowinv.files import from_plain, read_json, to_plain
from flowinv.methods.npe import NPE
from flowinv.methods.registry import Method, method_class, method_name
from flowinv.models.registry import NetworkConfig

__all__ = ["DiagnoseConfig", "EvaluateConfig", "RunConfig"]


@dataclass(frozen=True)
class EvaluateConfig:
    """What is measured after training.

    Attributes:
        num_heldout: new simulations for estimates, calibration and coverage.
        num_samples: posterior draws for each of them; 199, 239, 279 or 399 give 50, 90
            and 95 % intervals of exactly these levels.
        observations: fixed observations to answer, such as "1-3,7"; "" for none.
        num_exact: draws of flow and exact posterior that are compared.
        references: folder with obs_<k>.npz (observation, true_parameters,
            reference_samples) to answer instead of the task's own observations.
        classifiers: C2ST classifiers: mlp (sbibm's), forest (sbi's), jax (fast).
        point_estimates: also find the MAP of every held-out simulation.
        thorough: also what takes longer: weights by the likelihood, a local two-sample
            test, networks of an ensemble one by one; `flowinv diagnose` always does.
        score_rounds: one of so many rounds, counted from the last, gets a C2ST of 500
            draws where the exact posterior is known; 0 for none.
    """

    num_heldout: int = 1_000
    num_samples: int = 279
    observations: str = "1-3"
    num_exact: int = 2_000
    references: str = ""
    classifiers: tuple[str, ...] = ("mlp", "forest")
    point_estimates: bool = True
    thorough: bool = False
    score_rounds: int = 2

    def check(self) -> None:
        """Raise one line for the first field out of its range."""
        check_at_least("num_heldout", self.num_heldout, 100)
        check_at_least("num_samples", self.num_samples, 20)
        check_at_least("num_exact", self.num_exact, 100)
        check_at_least("score_rounds", self.score_rounds, 0)
        for name in self.classifiers:
            check_known("classifier", name, ("mlp", "forest", "jax"))
        if self.references and not Path(self.references).expanduser().is_dir():
            fail("references", "to be a folder", self.references)


@dataclass(frozen=True)
class DiagnoseConfig:
    """What is asked of a run.

    Attributes:
        num_simulations: fresh simulations that the network answers.
        num_samples: posterior draws for each of them; 199, 239, 279 or 399 give 50, 90
            and 95 % intervals of exactly these levels.
        x: scan files to look at instead of the run's observations.
        data: an npz with arrays theta and x, pairs that the network has not seen, where
            there is no simulator.
        task: the task, "file.py:name", of a run that a script gave its own.
        seed: of simulations and draws; another than the run's.
        widened: folder for the model with widths calibrated on these simulations; ""
            saves none.
    """

    num_simulations: int = 1_000
    num_samples: int = 279
    x: tuple[str, ...] = ()
    data: str = ""
    task: str = ""
    seed: int = 1
    widened: str = ""

    def check(self) -> None:
        """Raise one line for the first field out of its range."""
        check_at_least("--num-simulations", self.num_simulations, 100)
        check_at_least("--num-samples", self.num_samples, 20)
        if not 0 <= self.seed < 2**32:
            fail("--seed", "from 0 to 2^32 - 1", self.seed)
        if self.widened and Path(self.widened).expanduser().exists():
            fail("--widened", "to name a new folder", repr(self.widened))

    @property
    def evaluate(self) -> EvaluateConfig:
        """The same as settings of an evaluation."""
        return EvaluateConfig(
            num_heldout=self.num_simulations,
            num_samples=self.num_samples,
            classifiers=("jax",),
            point_estimates=False,
            thorough=True,
        )


@dataclass(frozen=True)
class RunConfig:
    """One experiment.

    Attributes:
        task: task name with options, such as "beam_profile:prior=slides,points=100", or
            a task of your own, "file.py:name".
        method: how the posterior is learned, with the method's own settings.
        flow: one or more of the method's networks (spline, cinn, maf, spline-ar for
            most); each is trained and shown. None takes the method's own.
        seed: seed of everything.
        seeds: independent repetitions of every model.
        out: folder of the run; "" takes runs/<task>-<flows>.
        x: a scan file to answer in the report as well; in rounds, instead of the
            task's observations.
        like: a scan as your instrument writes it, or a .toml that describes one: the
            step scan is built at its positions, in its units, and answers it.
        any_positions: learn scans of up to so many positions along an axis, wherever
            they are in the range of `like`: one network for all scans of an instrument.
            0 learns the positions of `like`.
        prior: ranges of the prior of such a scan, such as "std=5..50um".
        reading: what scan files do not say themselves.
        network: flow and embedding; None takes the method's own.
        evaluate: what to measure.
        memory: GiB that simulations may take while they run; 0 takes 2, or what
            FLOWINV_MEMORY says.
    """

    task: str = "beam_profile"
    method: Method = field(default_factory=NPE)
    flow: tuple[str, ...] = ()
    seed: int = 0
    seeds: int = 1
    out: str = ""
    x: str = ""
    like: str = ""
    any_positions: int = 0
    prior: tuple[str, ...] = ()
    reading: ReadOptions = field(default_factory=ReadOptions)
    network: NetworkConfig | None = None
    evaluate: EvaluateConfig = field(default_factory=EvaluateConfig)
    memory: float = 0.0

    def __post_init__(self) -> None:
        if self.network is None:
            object.__setattr__(self, "network", self.method.network)
        if not self.flow:
            object.__setattr__(self, "flow", self.method.flows[:1])

    def check(self) -> None:
        """Raise one line for the first field out of its range.

        Raises:
            ValueError: what, expected, got, remedy.
        """
        if not self.flow or len(set(self.flow)) != len(self.flow):
            fail("flow", "to name at least one flow, each once", self.flow)
        for name in self.flow:
            what = f"flow of {method_name(self.method)}"
            check_known(what, name, self.method.flows)
        if not 0 <= self.seed < 2**32:
            fail("seed", "from 0 to 2^32 - 1", self.seed)
        check_at_least("seeds", self.seeds, 1)
        check_at_least("memory", self.memory, 0)
        self.network.check()
        self.evaluate.check()
        self.method.check()
        if self.prior and not self.like:
            remedy = "Tasks have options: --task beam_profile:prior=slides."
            fail("--prior", "with --like", "none", remedy)
        check_at_least("any_positions", self.any_positions, 0)
        if self.any_positions and not self.like:
            fail("--any-positions", "with --like", "none", "Hand a scan in.")
        if self.any_positions and not self.method.amortised:
            remedy = "Leave it out: rounds learn the scan that they answer."
            got = method_name(self.method)
            fail("method with --any-positions", "to be npe", got, remedy)
        if not (self.method.amortised or self.scan or self.evaluate.observations):
            fail("observations", "to name one to infer in rounds", "none")

    def folder(self) -> Path:
        """Return the folder of the run."""
        if self.out:
            return Path(self.out).expanduser()
        task = Path(self.like).name if self.like else self.task
        task = "".join(c if c.isalnum() or c in "._" else "-" for c in task)
        return Path("runs") / f"{task}-{'-'.join(self.flow)}"

    @property
    def scan(self) -> str:
        """The scan file to answer: that of `x`, or of `like`."""
        described = self.like.lower().endswith((".toml", "instrument.json"))
        return self.x or ("" if described else self.like)

    def models(self) -> tuple[tuple[str, str, int], ...]:
        """Name, flow and seed of every model: a flow, with a number if repeated."""
        return tuple(
            (flow if self.seeds == 1 else f"{flow}-seed-{seed + 1}", flow, seed)
            for flow in self.flow
            for seed in range(self.seeds)
        )

    def to_json(self) -> dict[str, Any]:
        """Return the config as plain data; the method with its name."""
        plain = to_plain(self)
        method = {"name": method_name(self.method), **plain["method"]}
        return {**plain, "method": method}

    @classmethod
    def read(cls, path: str | Path) -> "RunConfig":
        """Read a `config.json` of an earlier run, or a part of one.

        What the file leaves out takes the defaults of the method that it names.

        Raises:
            ValueError: for a missing file, no JSON, an unknown or mistyped field.
        """
        data, where = read_json(path, "config"), str(path)
        if isinstance(data, dict):
            data = data.get("config", data)
        return cls.from_data(data, where)

    @classmethod
    def from_data(cls, data: Any, where: str) -> "RunConfig":
        """Build a config from plain data, such as `to_json` gives.

        Raises:
            ValueError: for an unknown or mistyped field.
        """
        if not isinstance(data, dict):
            fail(where, "to hold an object", type(data).__name__)
        given = data.get("method", {})
        given = {"name": given} if isinstance(given, str) else given
        if not isinstance(given, dict):
            fail(f"{where}: method", "to hold an object", type(given).__name__)
        default = method_class(str(given.get("name", "npe")))()
        fields = {name: value for name, value in given.items() if name != "name"}
        method = from_plain(default, fields, f"{where}: method")
        rest = {name: value for name, value in data.items() if name != "method"}
        return from_plain(cls(method=method), rest, where)


def same_run(one: RunConfig, other: RunConfig) -> bool:
    """Whether two configs are one run: it may be moved, or given more memory."""
    one, other = (dataclasses.replace(c, out="", memory=0.0) for c in (one, other))
    return one == other
