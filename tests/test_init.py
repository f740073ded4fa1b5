"""The front door: names, laziness, the compilation cache."""

import os
import subprocess
import sys

import pytest

import flowinv

HEAVY = (
    "distrax",
    "numpyro",
    "matplotlib",
    "sklearn",
    "scipy.optimize",
    "orbax",
    "zarr",
)


def python(code, **variables):
    kept = {
        name: value
        for name, value in os.environ.items()
        if name not in ("JAX_COMPILATION_CACHE_DIR", "FLOWINV_CACHE", "XDG_CACHE_HOME")
    }
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env={**kept, **{name: str(value) for name, value in variables.items()}},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_every_public_name_resolves():
    assert flowinv.__version__
    assert dir(flowinv) == sorted(flowinv.__all__)
    for name in flowinv.__all__:
        thing = getattr(flowinv, name)
        module = getattr(thing, "__module__", None) or thing.__name__
        assert module.startswith("flowinv."), name


def test_unknown_names_are_attribute_errors():
    with pytest.raises(AttributeError, match="'flowinv' has no attribute 'posterior'"):
        flowinv.posterior  # noqa: B018


@pytest.mark.parametrize(
    "use",
    [
        "",
        "flowinv.Estimator, flowinv.Posterior, flowinv.load, flowinv.TrainConfig",
        "flowinv.priors.uniform([0], [1])",
        "flowinv.train, flowinv.simulate, flowinv.flows.CINN()",
    ],
)
def test_heavy_libraries_wait_until_they_are_needed(use):
    loaded = f"print(*(h for h in {HEAVY} if h in sys.modules))"
    assert python(f"import sys, flowinv\n{use}\n{loaded}") == ""


def test_the_cache_folder_of_jax_is_respected(tmp_path):
    code = "import flowinv, jax; print(jax.config.jax_compilation_cache_dir)"
    mine = tmp_path / "mine"
    assert python(code, JAX_COMPILATION_CACHE_DIR=mine) == str(mine)
    given = python(code, XDG_CACHE_HOME=tmp_path)
    assert given == str(tmp_path / "flowinv" / "xla")
    assert (tmp_path / "flowinv" / "xla").is_dir()
    assert python(code, FLOWINV_CACHE="off", XDG_CACHE_HOME=tmp_path) == "None"
    # Set in jax itself before flowinv loads: left alone.
    first = f"import jax; jax.config.update('jax_compilation_cache_dir', '{mine}')\n"
    assert python(first + code) == str(mine)


def test_a_home_that_cannot_be_written_costs_nothing_else(tmp_path):
    (tmp_path / "file").touch()
    code = "import flowinv, jax; print(jax.config.jax_compilation_cache_dir)"
    assert python(code, XDG_CACHE_HOME=tmp_path / "file") == "None"
