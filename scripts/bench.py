"""What `scripts/bench` runs: each measurement prints one JSON line."""

from __future__ import annotations

import argparse
import itertools
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

TASK = "beam_profile"
SHAPES = {
    "cinn 8x256": ("cinn", 8, (256, 256)),
    "spline 8x256": ("spline", 8, (256, 256)),
    "cinn 5x50": ("cinn", 5, (50, 50)),
    "spline 5x50": ("spline", 5, (50, 50)),
}
BATCH, ROWS = 256, 10_000


def emit(what: str, **numbers: object) -> None:
    """Print one line with the machine's load and this process's peak memory."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    load = round(os.getloadavg()[0], 2)
    print(json.dumps({"what": what, **numbers, "peak_mb": round(peak), "load": load}))
    sys.stdout.flush()


def seconds(work: Callable[[], object], repeats: int) -> list[float]:
    """Wall seconds of `repeats` calls."""
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        work()
        times.append(time.perf_counter() - began)
    return times


def bench_import(repeats: int) -> None:
    """`import flowinv` beside `import jax`, fresh processes in turn."""
    found: dict[str, list[float]] = {"jax": [], "flowinv": []}
    for _ in range(repeats + 1):
        for module, times in found.items():
            code = (
                f"import time;t=time.perf_counter();import {module};"
                "print(time.perf_counter()-t)"
            )
            done = subprocess.run(
                [sys.executable, "-c", code], capture_output=True, text=True, check=True
            )
            times.append(float(done.stdout))
    median = {name: statistics.median(times[1:]) for name, times in found.items()}
    emit("import", **{f"{k}_s": round(v, 3) for k, v in median.items()})


def bench_start(repeats: int) -> None:
    """Process start to first draw from a saved model, compile cache warm."""
    import jax

    import flowinv as fi

    with tempfile.TemporaryDirectory() as folder:
        posterior, x = trained("spline", 8, (256, 256), epochs=1)
        fi.save(folder, posterior)
        scan = Path(folder) / "x.npy"
        import numpy as np

        np.save(scan, x[0])
        code = (
            "import sys,jax,numpy as np,flowinv as fi;p=fi.load(sys.argv[1]);"
            "p.sample(jax.random.key(0),np.load(sys.argv[2]),256).block_until_ready()"
        )
        command = [sys.executable, "-c", code, folder, str(scan)]
        times = seconds(lambda: subprocess.run(command, check=True), repeats + 1)
    emit("start to first draw", first_s=round(times[0], 2), warm_s=median(times[1:], 2))
    del jax


def bench_gemm(repeats: int) -> None:
    """Float32 matrix products: the machine's peak as XLA reaches it."""
    emit("gemm", gflop_per_s=round(gemm(repeats), 1))


def gemm(repeats: int) -> float:
    """Best GFLOP/s of the products of a training step and of a large one."""
    import jax
    import jax.numpy as jnp

    rates = []
    for m, k, n in ((256, 256, 256), (256, 400, 2048), (2048, 2048, 2048)):
        count = max(1, int(4e9 / (2 * m * k * n)))

        @jax.jit
        def chain(a: jax.Array, b: jax.Array, count: int = count) -> jax.Array:
            def body(carry: jax.Array, _: None) -> tuple[jax.Array, None]:
                return carry + 1e-6 * ((a + carry[0, 0]) @ b)[:1, :1], None

            return jax.lax.scan(body, jnp.zeros((1, 1)), None, length=count)[0]

        a, b = jnp.ones((m, k)), jnp.ones((k, n))
        chain(a, b).block_until_ready()
        best = min(seconds(lambda a=a, b=b: chain(a, b).block_until_ready(), repeats))
        rates.append(2e-9 * m * k * n * count / best)
    return max(rates)


def bench_simulate(repeats: int) -> None:
    """Simulations of 400 numbers."""
    import jax

    import flowinv as fi
    from flowinv.data.simulate import simulate_rows

    task = fi.task(TASK)
    rows = jax.numpy.arange(10_000)
    run = jax.jit(lambda key: simulate_rows(key, rows, task.prior, task.simulator))
    first = seconds(lambda: jax.block_until_ready(run(jax.random.key(0))), 1)[0]
    times = seconds(lambda: jax.block_until_ready(run(jax.random.key(1))), repeats)
    emit(
        "simulate",
        compile_s=round(first - min(times), 2),
        seconds_per_100k=median([10 * t for t in times], 2),
    )


def estimator(flow: str, layers: int, hidden: tuple[int, ...]) -> object:
    """Estimator that reads the scan itself: no summaries, no embedding."""
    import flowinv as fi

    kinds = {"cinn": fi.flows.CINN, "spline": fi.flows.SplineCouplingFlow}
    built = kinds[flow](num_layers=layers, hidden=hidden, head_hidden=())
    return fi.Estimator(fi.task(TASK).prior, built, input_scaling="root")


def trained(flow: str, layers: int, hidden: tuple[int, ...], epochs: int) -> tuple:
    """A posterior after a few epochs, and 1,000 scans."""
    import jax

    import flowinv as fi

    task = fi.task(TASK)
    data = fi.simulate(jax.random.key(0), task.prior, task.simulator, 2_000)
    config = fi.TrainConfig(max_epochs=epochs, batch_size=BATCH)
    fit = fi.train(jax.random.key(1), estimator(flow, layers, hidden), data, config)
    return fi.Posterior(fit.estimator, fit.variables), data.x[:1_000]


def bench_step(repeats: int) -> None:
    """Milliseconds per training step, compile seconds, share of the GEMM peak.

    `start_s` is what comes before the first epoch (statistics, solve, draw),
    `first_epoch_excess_s` what tracing and compiling the epoch costs, both without the
    compile cache.
    """
    import jax

    import flowinv as fi

    jax.config.update("jax_enable_compilation_cache", False)
    task = fi.task(TASK)
    data = fi.simulate(jax.random.key(0), task.prior, task.simulator, ROWS)
    for name, shape in SHAPES.items():
        peak = gemm(3)
        clock: list[tuple[int, float]] = []
        jax.clear_caches()
        epochs = 2 + repeats
        config = fi.TrainConfig(max_epochs=epochs, batch_size=BATCH, patience=0)
        began = time.perf_counter()
        fit = fi.train(
            jax.random.key(1),
            estimator(*shape),
            data,
            config,
            progress=lambda p, c=clock: c.append((p.step, time.perf_counter())),
        )
        steps = [
            (after[1] - before[1]) / (after[0] - before[0])
            for before, after in itertools.pairwise(clock[1:])
        ]
        weights = fit.variables.params["flow"]
        size = sum(leaf.size for leaf in jax.tree.leaves(weights) if leaf.ndim > 1)
        step = statistics.median(steps)
        rate = 6e-9 * size * BATCH / step
        # The first call comes before the first epoch, the second after it.
        excess = clock[1][1] - clock[0][1] - clock[1][0] * step
        emit(
            f"step {name}",
            step_ms=round(1e3 * step, 3),
            start_s=round(clock[0][1] - began, 2),
            first_epoch_excess_s=round(excess, 2),
            gflop_per_s=round(rate, 1),
            gemm_gflop_per_s=round(peak, 1),
            share_of_gemm=round(rate / peak, 3),
        )


def bench_sample(repeats: int) -> None:
    """256 draws for each of 1,000 scans, and for one scan alone."""
    import jax

    for name in ("cinn 8x256", "spline 8x256"):
        posterior, x = trained(*SHAPES[name], epochs=1)

        def many(posterior: object = posterior, x: jax.Array = x) -> None:
            posterior.sample(jax.random.key(0), x, 256).block_until_ready()

        def one(posterior: object = posterior, x: jax.Array = x) -> None:
            posterior.sample(jax.random.key(0), x[0], 256).block_until_ready()

        first_many, first_one = seconds(many, 1)[0], seconds(one, 1)[0]
        emit(
            f"sample {name}",
            many_256x1000_s=median(seconds(many, repeats), 3),
            many_first_s=round(first_many, 2),
            one_scan_ms=median([1e3 * t for t in seconds(one, 20)], 2),
            one_first_s=round(first_one, 2),
        )


def median(times: list[float], digits: int) -> float:
    """Rounded median."""
    return round(statistics.median(times), digits)


BENCHES = {
    "import": bench_import,
    "start": bench_start,
    "gemm": bench_gemm,
    "simulate": bench_simulate,
    "step": bench_step,
    "sample": bench_sample,
}

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--what", nargs="*", choices=BENCHES, default=list(BENCHES))
    parser.add_argument("--repeats", type=int, default=5)
    chosen = parser.parse_args()
    for what in chosen.what:
        BENCHES[what](chosen.repeats)
