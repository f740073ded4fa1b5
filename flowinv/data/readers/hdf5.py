"""Scans in HDF5 files: eveH5, NeXus, or arrays by name."""

from pathlib import Path
from typing import Any

import numpy as np

from flowinv.checks import InputError, check_known, fail
from flowinv.data.readers.arrays import of_arrays
from flowinv.data.scan import ReadOptions, Scan

__all__ = ["read"]


def read(path: Path, options: ReadOptions) -> list[Scan]:
    """Read an HDF5 file by the rule of the format that it says it is.

    - eveH5: the root has `EVEH5Version`; chain `/c1` (or `entry`) names its
      `preferredAxis`, `preferredChannel` and `preferredNormalizationChannel`; their
      tables under `main` are joined on the position count.
    - NeXus: `@default` leads to the plot group, `@signal` and `@axes` name the arrays;
      `<signal>_errors`; the only NXmonitor of the entry.
    - else `dataset` names the arrays.
    """
    import h5py

    try:
        with h5py.File(path, "r") as file:
            if "EVEH5Version" in file.attrs:
                return [_eve(path, file, options)]
            if not options.dataset:
                group, entry = _plot_group(path, file, options.entry)
                if group is not None:
                    return [_nexus(path, group, entry)]
            arrays: dict[str, np.ndarray] = {}

            def note(name: str, item: object) -> None:
                if isinstance(item, h5py.Dataset) and item.dtype.kind in "iuf":
                    arrays[name] = item[()]

            file.visititems(note)
            return of_arrays(path, arrays, options)
    except InputError:
        raise
    except (OSError, KeyError, RuntimeError) as error:
        return fail(path.name, "as a readable HDF5 file", " ".join(str(error).split()))


def _text(value: Any) -> str:
    """An attribute as text, whatever h5py makes of it."""
    if isinstance(value, np.ndarray):
        value = value.ravel()[0] if value.size else ""
    return value.decode() if isinstance(value, bytes) else str(value)


def _texts(value: Any) -> list[str]:
    if isinstance(value, np.ndarray):
        return [_text(part) for part in value.ravel()]
    return [part for part in _text(value).replace(",", ":").split(":") if part]


def _plot_group(path: Path, file: Any, entry: str) -> tuple[Any, Any]:
    """The group whose attributes name a signal, and the entry that it is in."""
    entries = [
        name
        for name, item in file.items()
        if _text(item.attrs.get("NX_class", "")) == "NXentry"
    ]
    group = file
    if entry:
        check_known(f"entry of {path.name}", entry, entries)
        group = file[entry]
    elif "default" not in file.attrs and len(entries) == 1:
        group = file[entries[0]]
    elif "default" not in file.attrs and len(entries) > 1:
        remedy = f"Name one: --entry {entries[0]}."
        fail(f"entries of {path.name}", "with a default", ", ".join(entries), remedy)
    own = group if group.name != "/" else None
    for _ in range(8):
        if "signal" in group.attrs:
            return group, own
        if "default" not in group.attrs:
            break
        name = _text(group.attrs["default"])
        if name not in group:
            fail(f"default of {path.name}", "to name a group", repr(name))
        group = group[name]
        own = own if own is not None else group
    # An entry without defaults: its only NXdata with a signal.
    plots = []

    def note(_: str, item: Any) -> None:
        if "signal" in getattr(item, "attrs", {}) and hasattr(item, "keys"):
            plots.append(item)

    group.visititems(note)
    if len(plots) > 1:
        names = ", ".join(plot.name for plot in plots)
        remedy = "Name arrays: --dataset position=...,signal=...."
        fail(f"NXdata of {path.name}", "to be one, or to have a default", names, remedy)
    return (plots[0] if plots else None), own


def _nexus(path: Path, group: Any, entry: Any) -> Scan:
    signal_name = _text(group.attrs["signal"])
    if signal_name not in group:
        fail(f"signal of {path.name}", "to be there", f"{group.name}/{signal_name}")
    axes = _texts(group.attrs.get("axes", ""))
    axes = [name for name in axes if name != "." and name in group]
    if len(axes) != 1:
        got = ", ".join(axes) or "none"
        remedy = "Name arrays: --dataset position=...,signal=...."
        fail(f"axes of {path.name} {group.name}", "to be one", got, remedy)
    signal, position = group[signal_name], group[axes[0]]
    if signal.ndim != 1:
        fail(f"signal of {path.name}", "as one number a position", signal.shape)
    errors = next(
        (
            group[name][()]
            for name in (f"{signal_name}_errors", f"{signal_name}_error", "errors")
            if name in group
        ),
        None,
    )
    monitor, exposure = _monitor(path, entry, len(signal))
    return Scan(
        axes[0],
        position[()],
        signal[()],
        monitor,
        errors,
        exposure,
        unit=_text(position.attrs.get("units", "")).replace("µ", "u"),
        signal_unit=_text(signal.attrs.get("units", "")),
        source=f"{path} {group.name}",
    )


def _monitor(path: Path, entry: Any, count: int) -> tuple[np.ndarray | None, float]:
    """Data of the entry's only NXmonitor and its count time."""
    found = []

    def note(_: str, item: Any) -> None:
        if _text(getattr(item, "attrs", {}).get("NX_class", "")) == "NXmonitor":
            found.append(item)

    if entry is not None:
        entry.visititems(note)
    if not found:
        return None, 0.0
    if len(found) > 1:
        control = [item for item in found if item.name.endswith("/control")]
        if len(control) != 1:
            names = ", ".join(item.name for item in found)
            fail(f"NXmonitor of {path.name}", "to be one, or called control", names)
        found = control
    group, exposure = found[0], 0.0
    times = [np.asarray(group[n][()]) for n in ("count_time", "preset") if n in group]
    mode = _text(group["mode"][()]) if "mode" in group else "timer"
    # In the other mode the preset counts pulses of the monitor.
    if times and mode != "monitor":
        exposure = float(np.median(times[0]))
    data = next((group[n][()] for n in ("data", "integral") if n in group), None)
    if data is None or np.size(data) <= 1:
        # One number is the sum of a whole scan: it belongs to no exposure.
        return None, exposure
    if np.size(data) != count:
        got = f"{np.size(data)} in {group.name}"
        remedy = "Name arrays: --dataset position=...,signal=...."
        fail(f"monitor of {path.name}", f"with {count} numbers", got, remedy)
    return np.asarray(data, np.float64), exposure


def _eve(path: Path, file: Any, options: ReadOptions) -> Scan:
    chains = [name for name in file if name.startswith("c") and name[1:].isdigit()]
    if len(chains) > 1 and not options.entry:
        remedy = f"Name one: --entry {chains[0]}."
        fail(f"chains of {path.name}", "to be one", ", ".join(chains), remedy)
    chain = options.entry or (chains[0] if chains else "")
    check_known(f"chain of {path.name}", chain, chains)
    group = file[chain]
    main = group["main"] if "main" in group else group
    by_kind: dict[str, list[str]] = {"Axis": [], "Channel": []}
    for name, item in main.items():
        kind = _text(item.attrs.get("DeviceType", ""))
        if kind in by_kind:
            by_kind[kind].append(name)

    def chosen(attribute: str, kind: str) -> str | None:
        name = _text(group.attrs[attribute]) if attribute in group.attrs else ""
        if name:
            check_known(f"{attribute} of {path.name}", name, by_kind[kind])
            return name
        known = by_kind[kind]
        if attribute == "preferredNormalizationChannel":
            return None
        if len(known) != 1:
            got = ", ".join(known) or "none"
            fail(f"{attribute} of {path.name}", f"or one {kind}", got)
        return known[0]

    axis = chosen("preferredAxis", "Axis")
    channel = chosen("preferredChannel", "Channel")
    monitor = chosen("preferredNormalizationChannel", "Channel")
    tables = [main[name] for name in (axis, channel, monitor) if name is not None]
    # Devices are not read at every position: rows belong together by their count.
    columns = [_counted(path, table) for table in tables]
    common = set(columns[0]).intersection(*columns[1:])
    if not common:
        fail(f"position counts of {path.name}", "that axis and channel share", "none")
    order = sorted(common)
    values = [np.array([column[count] for count in order]) for column in columns]
    lost = max(map(len, columns)) - len(order)
    notes = (f"{lost} rows without a partner left out",) if lost else ()

    def called(table: Any) -> str:
        return _text(table.attrs.get("Name", table.name.rpartition("/")[2]))

    return Scan(
        called(tables[0]),
        values[0],
        values[1],
        values[2] if monitor is not None else None,
        unit=_text(tables[0].attrs.get("Unit", tables[0].attrs.get("unit", ""))),
        signal_unit=_text(tables[1].attrs.get("Unit", "")),
        source=f"{path} {chain}",
        notes=notes,
    )


def _counted(path: Path, table: Any) -> dict[int, float]:
    """Values of a device by position count."""
    rows = table[()]
    fields = rows.dtype.names
    if not fields or len(fields) < 2:
        fail(f"{table.name} of {path.name}", "with counts and values", rows.dtype)
    key = next((name for name in fields if "poscount" in name.lower()), fields[0])
    value = next(name for name in fields if name != key)
    pairs = zip(rows[key].tolist(), rows[value].tolist(), strict=True)
    return {int(count): float(number) for count, number in pairs}
