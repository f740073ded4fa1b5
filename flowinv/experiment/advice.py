"""What to do next: sentences and commands, from verdicts and settings."""

import shlex

from flowinv.diagnostics import likeness, predictive
from flowinv.diagnostics.check import STATUSES, of_label
from flowinv.diagnostics.likeness import LIKENESS
from flowinv.diagnostics.predictive import PREDICTIVE
from flowinv.experiment.experiment import Experiment
from flowinv.report.content import ModelResult, Step

__all__ = ["next_steps"]


def next_steps(run: Experiment, best: ModelResult) -> tuple[Step, ...]:
    """Return what the verdicts ask for, and the command for the next scan."""
    verdicts = best.results.verdicts
    worst = max((v.status for v in verdicts), key=STATUSES.index, default="unchecked")
    bad = ", ".join(v.parameter for v in verdicts if v.status == worst)
    steps = []
    if worst in ("caution", "not trusted"):
        word = "Do not report" if worst == "not trusted" else "Report with care"
        steps.append(Step(f"{word} {bad}: the reasons are below. {_more(run)}"))
    if strange := _strange(best):
        steps.append(
            Step(
                f"First compare {', '.join(strange)} with what the simulator gives: "
                "it looks like none of that, and more simulations do not mend it."
            )
        )
    if any("Presses on" in verdict.words for verdict in verdicts):
        steps.append(Step("The prior cuts an answer: see the verdicts below."))
    folder = shlex.quote(str(run.folder))
    if run.config.method.amortised:
        command = f"flowinv infer {folder} --x scan.csv --out draws.npz"
        steps.append(Step("The next scan, answered by this network:", command))
    else:
        task = shlex.quote(run.config.task)
        name = run.config.to_json()["method"]["name"]
        scan = "--like" if run.config.like else "--x"
        command = f"flowinv run --task {task} --method {name} {scan} scan.csv"
        steps.append(Step("The next scan needs rounds of its own:", command))
    return tuple(steps)


def _strange(best: ModelResult) -> list[str]:
    """Observations that no simulation is like."""
    found = []
    for label in best.answers:
        own: dict = {}
        for check in (PREDICTIVE, LIKENESS):
            own |= of_label(best.results.numbers.get(check.name, {}), label)
        odd = own.get("predictive_p", 1.0) < predictive.P_LIMIT
        if odd or own.get("likeness_p", 1.0) < likeness.P_LIMIT:
            found.append(label)
    return found


def _more(run: Experiment) -> str:
    """How to make the answer better."""
    method = run.config.method
    if not method.amortised:
        return "More rounds, or more simulations in each, sharpen it (--num-rounds)."
    if method.fresh:
        steps = 2 * method.train.num_steps
        return f"Longer training may mend it: --num-steps {steps}."
    count = 4 * int(method.num_simulations)
    return f"More simulations mend most of it: --num-simulations {count}, or fresh."
