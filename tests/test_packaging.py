"""The package as a user gets it: versions, pins, import cost, floors, installation."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pytest
from packaging.requirements import Requirement

import flowinv

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
HEAVY = (
    "diffrax",
    "distrax",
    "h5py",
    "matplotlib",
    "numpyro",
    "orbax",
    "sklearn",
    "zarr",
)


def run(*command: object, **options: object) -> subprocess.CompletedProcess[str]:
    command = tuple(map(str, command))
    return subprocess.run(command, capture_output=True, text=True, **options)


def pins() -> list[Requirement]:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    return [Requirement(line) for line in lines if not line.startswith("#")]


def test_installed_version_is_the_declared_one():
    assert version("flowinv") == PROJECT["version"]


def test_constraints_are_names_and_versions_only():
    line = r'[a-z0-9-]+==[a-z0-9.]+( ; python_version (<|>=) "3\.12")?'
    for pin in (ROOT / "constraints.txt").read_text().splitlines():
        assert pin.startswith("#") or re.fullmatch(line, pin), pin


@pytest.mark.parametrize("python", ["3.11", "3.12"])
def test_every_dependency_is_pinned_once_within_its_range(python):
    extras = PROJECT["optional-dependencies"].values()
    asked = [*PROJECT["dependencies"], *(text for extra in extras for text in extra)]
    chosen = {}
    for pin in pins():
        if pin.marker is None or pin.marker.evaluate({"python_version": python}):
            assert pin.name not in chosen
            (chosen[pin.name],) = [spec.version for spec in pin.specifier]
    for requirement in map(Requirement, asked):
        assert requirement.specifier.contains(chosen[requirement.name]), requirement
    # distrax asks for any nightly build: the one thing that no range would hold.
    assert "dev" in chosen["tfp-nightly"]


def test_import_adds_at_most_300_ms_to_jax():
    code = (
        "import time, jax; start = time.perf_counter(); import flowinv;"
        "print(time.perf_counter() - start)"
    )
    # The fastest of three: a busy machine only ever adds.
    seconds = [float(run(sys.executable, "-c", code).stdout) for _ in range(3)]
    assert min(seconds) <= 0.3


@pytest.mark.parametrize(
    "module", ["flowinv", "flowinv.bijectors", "flowinv.networks", "flowinv.flows"]
)
def test_heavy_libraries_load_only_when_used(module):
    code = f"import sys, {module}; print(*(h for h in {HEAVY!r} if h in sys.modules))"
    done = run(sys.executable, "-c", code)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == []


def lint_imports(folder: Path) -> subprocess.CompletedProcess[str]:
    program = Path(sys.executable).parent / "lint-imports"
    return run(program, "--no-cache", cwd=folder)


@pytest.mark.parametrize(
    ("room", "line", "contract"),
    [
        ("bijectors", "from flowinv.flows import CINN", "only lower floors"),
        ("bijectors", "import flowinv.priors", "only lower floors"),
        ("diagnostics", "import flowinv.priors", "only lower floors"),
        ("stray", "", "only lower floors"),
        ("flows", "import numpyro", "only in its rooms"),
        ("diagnostics", "def late():\n    import matplotlib", "only in its rooms"),
    ],
)
def test_contracts_refuse(tmp_path, room, line, contract):
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    for name in {"bijectors", "priors", "diagnostics", "flows", room}:
        (tmp_path / "flowinv" / name).mkdir(parents=True)
        (tmp_path / "flowinv" / name / "__init__.py").touch()
    (tmp_path / "flowinv" / "__init__.py").touch()
    (tmp_path / "flowinv" / room / "__init__.py").write_text(line + "\n")
    done = lint_imports(tmp_path)
    assert done.returncode == 1
    (broken,) = re.findall(r"^(.*) BROKEN", done.stdout, flags=re.MULTILINE)
    assert contract in broken


def test_contracts_hold():
    done = lint_imports(ROOT)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("script", ["setup", "test", "demo"])
@pytest.mark.parametrize("python", ["python3.99", "3.99", "/nowhere/python"])
def test_scripts_refuse_a_python_that_does_not_run_in_one_line(script, python):
    done = run(ROOT / "scripts" / script, "--python", python)
    assert done.returncode == 2
    answer = done.stderr.strip().splitlines()[-1]
    assert f"expected a Python 3.11 or newer for --python; got {python}" in answer
    assert not (ROOT / ".venv-3.99").exists()


@pytest.mark.parametrize("script", ["setup", "test", "demo"])
@pytest.mark.parametrize("arguments", [["--python"], ["--python="]])
def test_scripts_refuse_an_empty_python(script, arguments):
    done = run(ROOT / "scripts" / script, *arguments)
    assert done.returncode == 2
    assert "--python needs an interpreter" in done.stderr


@pytest.mark.slow
def test_pip_installs_into_an_empty_environment(tmp_path):
    source, python = tmp_path / "source", tmp_path / "venv" / "bin" / "python"
    hidden = shutil.ignore_patterns(".*", "runs", "__pycache__")
    shutil.copytree(ROOT, source, ignore=hidden)
    run(sys.executable, "-m", "venv", tmp_path / "venv", check=True)
    done = run(python, "-m", "pip", "install", source)
    offline = ("NewConnectionError", "name resolution")
    if any(word in done.stderr + done.stdout for word in offline):
        pytest.skip("pip reaches no package index from here")
    assert done.returncode == 0, done.stderr
    # From another folder and with no PYTHONPATH: the installed package alone.
    clean = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    done = run(python.with_name("flowinv"), "list", cwd=tmp_path, env=clean)
    assert done.returncode == 0, done.stderr
    assert "beam_profile" in done.stdout


def test_a_source_tree_on_the_path_has_no_metadata(monkeypatch):
    from flowinv.experiment import experiment

    def none(name):
        raise PackageNotFoundError(name)

    monkeypatch.setattr(experiment, "version", none)
    assert experiment.versions()["flowinv"] == flowinv.__version__
    assert experiment.versions()["jax"] == "not installed"
