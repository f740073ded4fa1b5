"""Scans of Bluesky: documents as JSON lines, `[name, document]` each."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from flowinv.checks import check_known, fail
from flowinv.data.readers.columns import named
from flowinv.data.readers.text import lines_of
from flowinv.data.scan import ReadOptions, Scan

__all__ = ["read"]


def read(path: Path, options: ReadOptions) -> list[Scan]:
    """Read a run: the start's `hints.dimensions` name the motor and the stream.

    The signal is the only other number that the descriptor's hints name, or
    `columns` says. Step scans have an event a point, fly scans arrays in one.
    """
    run = _run(path, _documents(path), options.entry)
    stream, axis = "primary", ""
    dimensions = run["start"].get("hints", {}).get("dimensions") or []
    if dimensions:
        (fields, stream), *more = dimensions
        if more:
            fail(f"dimensions of {path.name}", "to be one", 1 + len(more))
        axis = fields[0]
    descriptors = [d for d in run["descriptors"] if d.get("name", "primary") == stream]
    if not descriptors:
        fail(f"stream {stream} of {path.name}", "to be described", "nothing")
    keys: dict[str, Any] = {}
    hinted: list[str] = []
    for descriptor in descriptors:
        keys.update(descriptor.get("data_keys", {}))
        for own in descriptor.get("hints", {}).values():
            hinted += own.get("fields", [])
    data = _data(run["events"], {d["uid"] for d in descriptors})
    if options.columns:
        roles, *more = named(options.columns)
        if more:
            remedy = "Hand the other axis's run in as a file of its own."
            fail("axes of --columns", "to be one for a run", 1 + len(more), remedy)
    else:
        signals = [name for name in dict.fromkeys(hinted) if name != axis]
        if not axis or len(signals) != 1:
            known = ", ".join(data)
            remedy = "Name them: --columns position=MOTOR,signal=DETECTOR."
            fail(f"motor and signal of {path.name}", "in its hints", known, remedy)
        roles = {"position": axis, "signal": signals[0]}
    for name in roles.values():
        check_known(f"data of {path.name}", name, data)

    def unit(role: str) -> str:
        return str(keys.get(roles[role], {}).get("units") or "")

    found = {role: np.array(data[name], np.float64) for role, name in roles.items()}
    return [
        Scan(
            roles["position"],
            **found,
            unit=unit("position"),
            signal_unit=unit("signal"),
            source=f"{path} {run['start'].get('uid', '')}".strip(),
        )
    ]


def _documents(path: Path) -> list[tuple[str, dict[str, Any]]]:
    found = []
    for number, line in enumerate(lines_of(path), 1):
        if not line.strip():
            continue
        try:
            name, document = json.loads(line)
        except (ValueError, TypeError):
            expected = "as JSON lines [name, document]"
            fail(f"{path.name}", expected, f"{line[:40]!r} in line {number}")
        if not isinstance(name, str) or not isinstance(document, dict):
            fail(f"line {number} of {path.name}", "as [name, document]", line[:40])
        found.append((name, document))
    return found


def _run(
    path: Path, documents: list[tuple[str, dict[str, Any]]], uid: str
) -> dict[str, Any]:
    """Start, descriptors and events of the run called `uid`, or of the only one."""
    runs: dict[str, dict[str, Any]] = {}
    by_descriptor: dict[str, str] = {}
    for name, document in documents:
        if name == "start":
            own = {"start": document, "descriptors": [], "events": []}
            runs[document["uid"]] = own
        elif name == "descriptor" and document.get("run_start") in runs:
            by_descriptor[document["uid"]] = document["run_start"]
            runs[document["run_start"]]["descriptors"].append(document)
        elif name in ("event", "event_page"):
            start = by_descriptor.get(document.get("descriptor", ""))
            if start is not None:
                runs[start]["events"].append((name, document))
    if not runs:
        fail(path.name, "with the start of a run", "none")
    if not uid and len(runs) > 1:
        remedy = f"Name one: --entry {next(iter(runs))}."
        fail(f"runs of {path.name}", "to be one", len(runs), remedy)
    uid = uid or next(iter(runs))
    check_known(f"run of {path.name}", uid, runs)
    return runs[uid]


def _data(
    events: list[tuple[str, dict[str, Any]]], descriptors: set[str]
) -> dict[str, list[float]]:
    """Numbers of all events of a stream in order, arrays one after the other."""
    data: dict[str, list[float]] = {}
    for _, event in events:
        if event["descriptor"] not in descriptors:
            continue
        for name, value in event.get("data", {}).items():
            own = np.asarray(value)
            if own.dtype.kind in "iuf":
                data.setdefault(name, []).extend(own.ravel().tolist())
    return data
