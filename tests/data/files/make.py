"""Make the scan files of this folder by the libraries of their formats.

    pip install nexusformat silx event-model h5py && python make.py

nexusformat 2.1.0 wrote scan.nxs, silx 3.1.3 scan.spec, event-model 1.24.0 step.jsonl
and fly.jsonl. eveH5 has no writer of its own: scan_eve.h5 follows its description.
The truth is in truth(): a falling edge with a monitor, in mm.
"""

import json
import math
import os
from pathlib import Path

import h5py
import numpy as np

HERE = Path(__file__).parent


def truth() -> dict[str, np.ndarray]:
    """Position (mm), signal (counts) and monitor, as all files hold them."""
    rng = np.random.default_rng(7)
    position = np.round(np.r_[np.linspace(-2, -0.5, 11), np.linspace(-0.4, 2, 33)], 4)
    monitor = np.round(1_000 * (1 + 0.05 * np.sin(np.arange(44))), 3)
    width = (position - 0.3) / 0.25
    passed = np.array([0.5 * math.erfc(w) for w in width])
    signal = rng.poisson(4.0 * monitor * passed + 20.0)
    return {"position": position, "signal": signal, "monitor": monitor}


def nexus(data: dict[str, np.ndarray]) -> None:
    """Entry with a default plot, errors and a monitor."""
    from nexusformat.nexus import NXdata, NXentry, NXfield, NXmonitor, NXroot

    position = NXfield(data["position"], name="knife_x", units="mm")
    signal = NXfield(data["signal"], name="diode", units="counts")
    errors = NXfield(np.sqrt(data["signal"] + 1.0), name="diode_errors")
    entry = NXentry(NXdata(signal, position, errors=errors))
    entry["control"] = NXmonitor(data=NXfield(data["monitor"]))
    entry["control/mode"] = "timer"
    entry["control/preset"] = 0.5
    other = NXentry(NXdata(NXfield([1.0, 2.0], name="a"), NXfield([1, 2], name="b")))
    root = NXroot(entry)
    root["other"] = other
    root["entry/data"].set_default()
    root["entry"].set_default()
    root.save(str(HERE / "scan.nxs"), "w")
    with h5py.File(HERE / "scan.nxs", "a") as file:
        for name in ("file_name", "file_time"):  # of the machine that made it
            file.attrs.pop(name, None)


def spec(data: dict[str, np.ndarray]) -> None:
    """Two scans, the second one ours, by silx."""
    from silx.io.utils import savespec

    path = "scan.spec"  # it is written into the file
    first = np.arange(6.0)
    savespec(path, first, first**2, "motor", "other", scan_number=1, mode="w")
    pair = data["position"], data["signal"]
    savespec(path, *pair, "knife x", "diode", scan_number=2, mode="a")


def bluesky(data: dict[str, np.ndarray]) -> None:
    """A step scan, an event a point, and a fly scan, all points in one."""
    from event_model import compose_run

    hints = {"dimensions": [[["knife_x"], "primary"]]}
    count = len(data["position"])
    for name, shape in (("step", []), ("fly", [count])):
        dtype = "array" if shape else "number"
        bundle = compose_run(metadata={"hints": hints})
        documents = [("start", bundle.start_doc)]
        keys = {
            key: {"dtype": dtype, "shape": shape, "source": "x", "units": unit}
            for key, unit in (("knife_x", "mm"), ("diode", "counts"), ("ring", "mA"))
        }
        stream = bundle.compose_descriptor(
            data_keys=keys,
            name="primary",
            hints={"knife": {"fields": ["knife_x"]}, "det": {"fields": ["diode"]}},
            object_keys={"knife": ["knife_x"], "det": ["diode", "ring"]},
        )
        documents.append(("descriptor", stream.descriptor_doc))
        columns = (data["position"], data["signal"], data["monitor"])
        rows = [[c.tolist() for c in columns]] if shape else zip(*columns, strict=True)
        for row in rows:
            values = [v if shape else float(v) for v in row]
            filled = dict(zip(("knife_x", "diode", "ring"), values, strict=True))
            times = dict.fromkeys(filled, 0.0)
            documents.append(("event", stream.compose_event(filled, times)))
        documents.append(("stop", bundle.compose_stop()))
        text = "\n".join(json.dumps(list(pair)) for pair in documents)
        (HERE / f"{name}.jsonl").write_text(text + "\n")


def eve(data: dict[str, np.ndarray]) -> None:
    """A chain whose channel missed two positions and counted one more."""
    kinds = {"Knife": "Axis", "Diode": "Channel", "Ring": "Channel"}
    columns = dict(zip(kinds, data.values(), strict=True))
    with h5py.File(HERE / "scan_eve.h5", "w") as file:
        file.attrs["EVEH5Version"] = np.bytes_("7.1")
        chain = file.create_group("c1")
        chain.attrs["preferredAxis"] = np.bytes_("Knife")
        chain.attrs["preferredChannel"] = np.bytes_("Diode")
        chain.attrs["preferredNormalizationChannel"] = np.bytes_("Ring")
        main = chain.create_group("main")
        for name, values in columns.items():
            counts = np.arange(1, len(values) + 1)
            if name == "Diode":
                counts, values = np.r_[counts[2:], 99], np.r_[values[2:], 5]
            kind = [("PosCounter", "i4"), (name, "f8")]
            rows = np.array(list(zip(counts, values, strict=True)), kind)
            table = main.create_dataset(name, data=rows)
            table.attrs["DeviceType"] = np.bytes_(kinds[name])
            table.attrs["Unit"] = np.bytes_("mm" if kinds[name] == "Axis" else "counts")


if __name__ == "__main__":
    os.chdir(HERE)
    for write in (nexus, spec, bluesky, eve):
        write(truth())
