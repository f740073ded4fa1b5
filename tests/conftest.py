"""What all tests share: the same examples each time; GPU tests only on a GPU."""

import ctypes
import fnmatch
import gc
import os
from importlib.metadata import version
from pathlib import Path

import pytest
from hypothesis import settings

# Tests run small programs once or twice: LLVM's optimiser takes longer than they do.
# Programs that ask for options of their own keep them. XLA_FLAGS that are set win, as
# those of scripts/test --all, whose slow tests want optimised programs.
QUICK = ["--xla_backend_optimization_level=0"]
if version("jax").startswith("0.10."):  # an unknown flag would end the process
    QUICK.append("--xla_cpu_use_fusion_emitters=false")
    QUICK.append("--xla_llvm_disable_expensive_passes=true")
    # Splitting a small program for threads costs more than the threads save.
    QUICK.append("--xla_cpu_parallel_codegen_split_count=1")
os.environ.setdefault("XLA_FLAGS", " ".join(QUICK))

from flowinv import cli  # noqa: E402

# The first call of a jitted function compiles: no deadline means anything. The same
# examples in every run: a failure is then a change of the code, never of the draw.
settings.register_profile("flowinv", deadline=None, derandomize=True, max_examples=50)
settings.load_profile("flowinv")


# Files of a minute or so: begun last, one of them would keep one core waiting.
LONG = (
    "experiment/test_run.py",
    "sequential/test_run.py",
    "flows/test_flows.py",
    "experiment/test_rounds_run.py",
    "priors/test_joint.py",
    "sequential/test_proposals.py",
    "models/test_estimator.py",
    "samplers/test_grid.py",
    "experiment/test_shipped.py",
    "sequential/test_devices.py",
    "report/test_page.py",
    "models/test_posterior.py",
    "training/test_fit.py",
    "training/test_candidates.py",
    "test_cli.py",
    "test_x64.py",
)


def _is_short(item: pytest.Item) -> int:
    path = item.path.as_posix()
    ranks = (rank for rank, name in enumerate(LONG) if path.endswith(f"tests/{name}"))
    return next(ranks, len(LONG))


def _is_later(item: pytest.Item) -> bool:
    """Whether a test's parameters are named in its mark `later`."""
    name = item.callspec.id if hasattr(item, "callspec") else ""
    patterns = (p for mark in item.iter_markers("later") for p in mark.args)
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)


@pytest.hookimpl(tryfirst=True)  # before slow tests are put aside
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=_is_short)
    for item in items:
        if _is_later(item):
            item.add_marker(pytest.mark.slow)
    marked = [item for item in items if item.get_closest_marker("gpu")]
    if not marked:
        return
    import jax

    if jax.default_backend() == "cpu":
        for item in marked:
            item.add_marker(pytest.mark.skip(reason="no accelerator on this machine"))


# Tracing makes objects by the million and hardly a cycle of them: collections as often
# as Python makes them take a twelfth of a test's time.
gc.set_threshold(100_000, 20, 100)


# A compiled program holds memory and memory maps, of which Linux allows a process
# 65,530: two thousand tests in two processes would crash in the compiler, and hold
# 6 GiB. They are forgotten when they are many; the cache on disk has most of them.
MOST_MEMORY, LEAST_GROWTH = 1_400 * 2**20, 300 * 2**20
_last = {"memory": 0}


def _memory() -> int:
    """Resident bytes of this process; 0 where there is no /proc."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")


@pytest.fixture(autouse=True)
def _few_programs():
    """Forget compiled programs after a test when they have become many."""
    yield
    if _memory() < max(MOST_MEMORY, _last["memory"] + LEAST_GROWTH):
        return
    import jax

    jax.clear_caches()
    gc.collect()
    if os.path.exists("/proc/self/statm"):
        ctypes.CDLL(None).malloc_trim(0)
    _last["memory"] = _memory()


@pytest.fixture
def pageless(monkeypatch):
    """Nothing is drawn: for tests that look at no page."""
    monkeypatch.setattr("flowinv.report.page.write_report", lambda *_: None)


@pytest.fixture(scope="module")
def small_forests():
    """Forests of ten trees: for tests of what is done with a score."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("flowinv.diagnostics.c2st.NUM_TREES", 10)
        yield


@pytest.fixture
def flowinv(capsys):
    """Run a command in this process: exit code, lines of stdout and of stderr."""

    def run(*arguments):
        with pytest.raises(SystemExit) as end:
            cli.main([str(argument) for argument in arguments])
        said = capsys.readouterr()
        return end.value.code, said.out.splitlines(), said.err.splitlines()

    return run


@pytest.fixture
def refused():
    """Check of a result: exit code 2 and one line on stderr with all the words."""

    def check(result, *words):
        code, out, err = result
        assert code == 2, (out, err)
        assert len(err) == 1, err
        assert out == []
        for word in ("flowinv: ", *words):
            assert word in err[0]

    return check


@pytest.fixture(scope="session")
def timeless():
    """Metrics without what a clock measured."""

    def without(metrics):
        return {k: v for k, v in metrics.items() if not k.endswith("seconds")}

    return without
