"""The benchmark's page: scores against simulations, beside published ones."""

import csv
import html
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from flowinv.benchmark.cells import METRICS, Cell, Metric
from flowinv.benchmark.results import Result
from flowinv.checks import fail
from flowinv.files import write_bytes
from flowinv.report.embed import embed_figure
from flowinv.report.style import MUTED, SERIES, panel_grid, styled
from flowinv.report.tables import number, table
from flowinv.report.theme import STYLESHEET

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Curves", "benchmark_figure", "means", "published_curves", "write_page"]

Curves = Mapping[str, Mapping[str, Mapping[int, float]]]
"""Task to method to budget to score."""

NAMES = {
    "c2st": "C2ST",
    "mmd": "MMD squared",
    "density": "density",
    "coverage": "coverage",
    "median_distance": "median distance",
}
PUBLISHED_COLUMNS = ("task", "algorithm", "num_simulations", "num_observation", "C2ST")
MARKS, LINES = "osD^v", ("-", "--", ":")


def means(results: Iterable[Result], metric: Metric) -> Curves:
    """Mean over observations and seeds; methods as `npe (spline)`."""
    values: dict = defaultdict(lambda: defaultdict(lambda: defaultdict(list)))
    for own in results:
        cell = own.cell
        if (cell.metric, cell.protocol) == metric:
            method = f"{cell.method} ({cell.flow})"
            values[cell.task][method][cell.budget].append(own.value)
    return _averaged(values)


def _averaged(values: Mapping[str, Mapping[str, Mapping[int, list[float]]]]) -> Curves:
    return {
        task: {
            method: {budget: float(np.mean(v)) for budget, v in sorted(own.items())}
            for method, own in methods.items()
        }
        for task, methods in values.items()
    }


def published_curves(path: str | Path) -> Curves:
    """Read published C2ST: means over observations.

    Args:
        path: csv with columns task, algorithm, num_simulations, num_observation, C2ST;
            where a row's source says that it is a rerun, it stands for the others.

    Raises:
        ValueError: without these columns.
    """
    path = Path(path).expanduser()
    with path.open(newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        missing = set(PUBLISHED_COLUMNS) - set(reader.fieldnames or ())
        if missing:
            fail(f"columns of {path}", ", ".join(PUBLISHED_COLUMNS), reader.fieldnames)
        rows = list(reader)
    rerun = {row["task"] for row in rows if "rerun" in (row.get("source") or "")}
    values: dict = defaultdict(lambda: defaultdict(lambda: defaultdict(list)))
    for row in rows:
        old = row["task"] in rerun and "rerun" not in row["source"]
        if not old:
            own = values[row["task"]][row["algorithm"]]
            own[int(row["num_simulations"])].append(float(row["C2ST"]))
    return _averaged(values)


@styled
def benchmark_figure(curves: Curves, published: Curves | None = None) -> "Figure":
    """Draw a panel for each task: C2ST against simulations.

    Args:
        curves: own scores.
        published: others', drawn behind in grey, with names where there is room.
    """
    tasks = list(curves)
    methods = list(dict.fromkeys(m for own in curves.values() for m in own))
    figure, panels = panel_grid(len(tasks), 3, 2.4)
    lines: dict[str, Any] = {}
    for task, axes in zip(tasks, panels, strict=False):
        behind = (published or {}).get(task, {})
        named = _apart({name: own[max(own)] for name, own in behind.items()})
        for name, own in behind.items():
            axes.plot(*zip(*own.items(), strict=True), color=MUTED, lw=0.7, alpha=0.6)
            last = max(own)
            if name not in named:
                continue
            axes.annotate(
                name, (last, own[last]), color=MUTED, fontsize=6, va="center",
                xytext=(3, 0), textcoords="offset points",
            )  # fmt: skip
        for number_of, method in enumerate(methods):
            own = curves[task].get(method, {})
            if own:
                (lines[method],) = axes.plot(
                    *zip(*own.items(), strict=True),
                    color=SERIES[number_of % len(SERIES)],
                    marker=MARKS[number_of % len(MARKS)],
                    ls=LINES[number_of // len(SERIES) % len(LINES)],
                    ms=4,
                    lw=1.6,
                    label=method,
                )
        axes.set_xscale("log")
        axes.set_ylim(0.45, 1.02)
        axes.set_title(task)
        axes.set_xlabel("simulations")
        axes.set_ylabel("C2ST")
    # Of all panels: none need hold every method.
    shown = {method: lines[method] for method in methods}
    place = {"loc": "outside upper center", "ncols": 5, "frameon": False}
    figure.legend(shown.values(), shown.keys(), fontsize=7, **place)
    return figure


def _apart(ends: Mapping[str, float], least: float = 0.035) -> set[str]:
    """Names whose curves end far enough from others' to be read, best first."""
    kept: dict[str, float] = {}
    for name, value in sorted(ends.items(), key=lambda pair: pair[1]):
        if all(abs(value - other) >= least for other in kept.values()):
            kept[name] = value
    return set(kept)


def write_page(results: Mapping[Cell, Result], path: Path, published: str = "") -> None:
    """Write index.html: figure, scores, ranking, and times.

    Args:
        results: filled cells.
        path: the page.
        published: csv of published scores, or "".
    """
    others = published_curves(published) if published else {}
    sections = []
    for metric in METRICS:
        curves = means(results.values(), metric)
        if not curves:
            continue
        title = " ".join(filter(None, (NAMES[metric.name], metric.protocol)))
        inner = _scores(curves, title)
        if metric.name == "c2st":
            own = others if metric.protocol == "mlp" else {}
            alt = f"{title} against simulations, a panel for each task."
            svg = embed_figure(
                benchmark_figure(curves, own), f"c2st-{metric.protocol}", alt
            )
            inner = f"<figure>{svg}</figure>{inner}{_ranking(curves)}"
        sections.append((title, inner))
    sections.append(("Wall time of a training, in seconds", _times(results.values())))
    body = "".join(
        f"<section><h2>{html.escape(title)}</h2>{inner}</section>"
        for title, inner in sections
    )
    said = sorted({own.version for own in results.values()})
    words = f"{len(results)} numbers, by {html.escape('; '.join(said))}."
    page = (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>Benchmark</title><style>\n{STYLESHEET}\n</style></head>\n"
        f"<body><h1>Benchmark</h1><p>{words}</p>{body}</body></html>\n"
    )
    write_bytes(path, page.encode())


def _columns(curves: Curves) -> list[tuple[str, int]]:
    pairs = {(m, b) for own in curves.values() for m, each in own.items() for b in each}
    return sorted(pairs, key=lambda pair: (pair[1], pair[0]))


def _scores(curves: Curves, title: str) -> str:
    columns = _columns(curves)
    rows = [
        [task, *(number(own.get(m, {}).get(b)) for m, b in columns)]
        for task, own in curves.items()
    ]
    header = ["task", *(f"{method}, {budget:,}" for method, budget in columns)]
    return table(header, rows, f"{title}: mean over observations and seeds")


def _ranking(curves: Curves) -> str:
    """Mean rank of methods over the tasks that all of them have, by budget."""
    rows = []
    for budget in sorted({budget for _, budget in _columns(curves)}):
        methods = sorted({m for m, b in _columns(curves) if b == budget})
        scores = [
            [own[m][budget] for m in methods]
            for own in curves.values()
            if all(budget in own.get(m, {}) for m in methods)
        ]
        if scores:
            ranks = np.argsort(np.argsort(scores, 1), 1).mean(0) + 1
            order = np.argsort(ranks)
            words = ", ".join(f"{methods[i]} {ranks[i]:.1f}" for i in order)
            rows.append([f"{budget:,}", words, str(len(scores))])
    header = ["simulations", "mean rank, best first", "tasks"]
    return table(header, rows, "Ranks by C2ST") if rows else ""


def _times(results: Iterable[Result]) -> str:
    seconds: dict = defaultdict(dict)
    for own in results:
        cell = own.cell
        key = f"{cell.method} ({cell.flow})", cell.budget
        # One time of each training, whatever it was asked.
        seconds[cell.task].setdefault(key, {})[cell.seed] = own.seconds
    keys = {key for own in seconds.values() for key in own}
    columns = sorted(keys, key=lambda key: key[::-1])
    rows: Sequence[Sequence[str]] = [
        [task, *(_mean_of(own.get(key)) for key in columns)]
        for task, own in seconds.items()
    ]
    header = ["task", *(f"{method}, {budget:,}" for method, budget in columns)]
    words = "All observations together: one network, or the rounds of each"
    return table(header, rows, words)


def _mean_of(seconds: Mapping[int, float] | None) -> str:
    return number(float(np.mean(list(seconds.values()))) if seconds else None)
