"""What all tests share: the same examples each time; GPU tests only on a GPU."""

import pytest
from hypothesis import settings

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
