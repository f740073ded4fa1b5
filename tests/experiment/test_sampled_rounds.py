"""Runs of likelihoods in rounds: a model for each observation, resumed where it was."""

import json

import jax
import numpy as np
import pytest

import flowinv as fi
from flowinv import cli
from flowinv.methods import SNLE, SNRE
from flowinv.models.likelihood import Likelihood

TINY = [
    *("run", "--task=gaussian_linear:dim=2", "--method=snle", "--flow=maf"),
    *("--num-layers=1", "--hidden=4", "--head-hidden=4", "--max-epochs=1"),
    *("--num-rounds=2", "--num-simulations=200", "--num-particles=50", "--moves=1"),
    *("--last-moves=2", "--observations=1-2", "--num-exact=100", "--classifiers=jax"),
    *("--no-point-estimates", "--quiet"),
]


def asked(*flags):
    with pytest.raises(SystemExit) as end:
        cli.main([*TINY, *map(str, flags)])
    return end.value.code


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("snle") / "run"
    assert asked(f"--out={folder}") == 0
    return folder


def test_every_observation_has_a_model_and_an_answer(made):
    metrics = json.loads((made / "metrics.json").read_text())
    assert metrics["best_flow"] == "maf"
    for number in (1, 2):
        # Linear and Gaussian: right from where the flow begins.
        assert metrics[f"maf/observation_{number}/c2st_jax"] < 0.75
        posterior = fi.load(made / "maf" / f"observation_{number}")
        assert isinstance(posterior.learned, Likelihood)
    page = (made / "report.html").read_text()
    for words in (
        "observation 2",
        "200 a round",
        "--method snle",
        "2, 2",
        "its own numbers",
    ):
        assert words in page


SOME_FAIL = """
import jax, jax.numpy as jnp
import flowinv as fi

class Rare:
    x_shape = (2,)

    def simulate(self, key, theta):
        fails = jax.random.uniform(jax.random.fold_in(key, 1)) < 0.004
        x = theta + 0.1 * jax.random.normal(key, (2,))
        return jnp.where(fails, jnp.nan, x)

rare = fi.Task(fi.priors.normal([0, 0], [1, 1]), Rare())
"""


@pytest.mark.slow
@pytest.mark.parametrize("method", ["snle", "nle"])
def test_few_failures_are_left_out_and_said(method, tmp_path):
    """None of them is taken for a simulation that x may be like."""
    file, out = tmp_path / "rare.py", tmp_path / "run"
    file.write_text(SOME_FAIL)
    words = [w for w in TINY if not w.startswith(("--task", "--method", "--num-exact"))]
    if method == "nle":
        words = [w.replace("200", "600") for w in words if "rounds" not in w]
    with pytest.raises(SystemExit) as end:
        cli.main(
            [
                *words,
                *(f"--task={file}:rare", f"--method={method}", f"--out={out}"),
                *(["--num-heldout=100"] if method == "nle" else []),
            ]
        )
    assert end.value.code == 0
    page = (out / "report.html").read_text()
    assert "failed simulations" in page
    assert ", left out" in page
    if method == "snle":
        kept = np.load(out / "maf" / "observation_1" / "rounds.npz")
        (seen,) = (kept[name] for name in kept if kept[name].ndim == 2)
        assert len(seen) < 200
        assert (seen != 0).any(-1).all()


def test_what_is_finished_is_read_and_the_rest_is_the_same(made, monkeypatch):
    """A lost answer of the second observation comes again; the first is not touched."""
    before = json.loads((made / "metrics.json").read_text())
    kept = (made / "maf" / "observation_1" / "params.safetensors").stat().st_mtime_ns
    lost = made / "maf" / "observation_2"
    numbers = (lost / "params.safetensors").read_bytes()
    for path in (*lost.iterdir(), made / "maf" / "result.npz"):
        path.unlink()
    runs, run = [], SNLE.run

    def counted(self, keys, *rest, **options):
        runs.append(len(keys))
        return run(self, keys, *rest, **options)

    monkeypatch.setattr(SNLE, "run", counted)
    assert asked(f"--out={made}", "--resume") == 0
    assert runs == [1]
    assert (lost / "params.safetensors").read_bytes() == numbers
    first = made / "maf" / "observation_1" / "params.safetensors"
    assert first.stat().st_mtime_ns == kept
    after = json.loads((made / "metrics.json").read_text())
    times = {name for name in before if "seconds" in name}
    same = {name: before[name] for name in before if name not in times}
    assert {name: after[name] for name in same} == same


def test_a_model_answers_by_its_name(made, flowinv, tmp_path):
    (tmp_path / "mine.csv").write_text("0.1,-0.4\n")
    file, name = f"--x={tmp_path / 'mine.csv'}", "--model=maf/observation_2"
    code, said, err = flowinv("infer", made, file, name)
    assert code == 0
    assert any("theta_2" in line for line in said)
    # Of rounds, which another scan needs anew.
    assert any("trained in rounds" in own and "--method snle" in own for own in err)


def test_settings_reach_what_learns():
    own = SNRE(variant="b", num_atoms=5, gamma=2.0, balance=3.0).learner
    assert (own.variant, own.num_atoms, own.gamma, own.balance) == ("b", 5, 2.0, 3.0)
    with pytest.raises(ValueError, match="num_rounds"):
        SNLE(num_rounds=0).check()
    with pytest.raises(ValueError, match="variant"):
        SNRE(variant="d").check()
    prior = fi.task("two_moons").prior
    assert SNLE().check_prior(prior) is None
    keys = jax.random.split(jax.random.key(0), 2)
    with pytest.raises(ValueError, match="keys one for each of 1"):
        SNLE().run(keys, None, None, np.zeros((1, 2)))
