"""What all tests share: the same examples each time; GPU tests only on a GPU."""

import gc
from pathlib import Path

import pytest
from hypothesis import settings

from flowinv import cli

# The first call of a jitted function compiles: no deadline means anything. The same
# examples in every run: a failure is then a change of the code, never of the draw.
settings.register_profile("flowinv", deadline=None, derandomize=True, max_examples=50)
settings.load_profile("flowinv")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    marked = [item for item in items if item.get_closest_marker("gpu")]
    if not marked:
        return
    import jax

    if jax.default_backend() == "cpu":
        for item in marked:
            item.add_marker(pytest.mark.skip(reason="no accelerator on this machine"))


# A compiled program holds memory maps, and Linux allows a process 65,530 of them: two
# thousand tests in two processes would crash in the compiler.
MOST_MAPS = 20_000


@pytest.fixture(autouse=True)
def _few_programs():
    """Forget compiled programs after a test when there are many."""
    yield
    maps = Path("/proc/self/maps")
    if maps.is_file() and maps.read_bytes().count(b"\n") > MOST_MAPS:
        import jax

        jax.clear_caches()
        gc.collect()


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
