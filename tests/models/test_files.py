"""Model folders: bitwise there and back, and nothing else is read."""

import dataclasses
import json
import pickle

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest

from flowinv.bijectors.affine import Affine
from flowinv.flows import CINN, CouplingFlow
from flowinv.models.estimator import Estimator
from flowinv.models.files import load, save
from flowinv.models.posterior import Posterior
from flowinv.priors import from_numpyro, uniform

KEY = jax.random.key(11)


@pytest.fixture
def folder(boxed, tmp_path):
    save(tmp_path / "model", boxed)
    return tmp_path / "model"


@pytest.mark.parametrize(
    "which",
    ["solved", pytest.param("boxed", marks=pytest.mark.slow), "line", "ensemble"],
)
def test_there_and_back_bitwise(which, request, tmp_path, scans):
    posterior = request.getfixturevalue(which)
    posterior = posterior[0] if which == "ensemble" else posterior
    save(tmp_path / "a" / "b", posterior)
    again = load(tmp_path / "a" / "b")
    assert again.estimator == posterior.estimator
    assert again.variables.num_members == posterior.variables.num_members
    assert again.x_shape == posterior.x_shape
    assert jax.tree.structure(again) == jax.tree.structure(posterior)
    pairs = zip(jax.tree.leaves(again), jax.tree.leaves(posterior), strict=True)
    for one, two in pairs:
        assert one.dtype == two.dtype
        np.testing.assert_array_equal(one, two)
    x = scans[0]
    draws = posterior.sample(KEY, x, 20)
    np.testing.assert_array_equal(again.sample(KEY, x, 20), draws)
    np.testing.assert_array_equal(
        again.log_prob(draws, x), posterior.log_prob(draws, x)
    )
    assert again.estimator.prior.names == posterior.estimator.prior.names
    assert again.estimator.prior.units == posterior.estimator.prior.units


def test_saving_twice_gives_the_same_files(boxed, folder):
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert set(before) == {"model.json", "params.safetensors"}
    save(folder, load(folder))
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_scalar_observations_survive(tmp_path):
    """x_shape () makes statistics of no axis at all."""
    flow = CINN(num_layers=1, hidden=(4,), head_hidden=(4,))
    estimator = Estimator(uniform([0.0], [1.0]), flow, input_scaling="none")
    posterior = Posterior(estimator, estimator.skeleton(()))
    save(tmp_path, posterior)
    again = load(tmp_path)
    assert again.x_shape == ()
    x = np.zeros(4, np.float32)
    draws = posterior.sample(KEY, x, 3)
    np.testing.assert_array_equal(again.sample(KEY, x, 3), draws)


def edit(folder, change):
    path = folder / "model.json"
    text = json.loads(path.read_text())
    change(text)
    path.write_text(json.dumps(text))


def refused(folder, message):
    with pytest.raises(ValueError, match=message) as error:
        load(folder)
    assert "\n" not in str(error.value)


def test_a_changed_tensor_is_refused(folder):
    path = folder / "params.safetensors"
    blob = bytearray(path.read_bytes())
    blob[-1] ^= 1
    path.write_bytes(bytes(blob))
    refused(
        folder, r"params.safetensors with SHA-256 .*\.\.; got .*Save the model again"
    )


def test_a_cut_tensor_file_is_refused(folder):
    path = folder / "params.safetensors"
    path.write_bytes(path.read_bytes()[:-10])
    refused(folder, "with SHA-256")


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text["prior"]["blocks"][0].update(low=[-9.0, 2.0]),
        lambda text: text["flow"].update(bound=7.0),
        lambda text: text["arrays"].popitem(),
        lambda text: text.update(sha256="0" * 64),
        lambda text: text.pop("prior"),
        lambda text: text.update(more=1),
        lambda text: text.pop("sha256_of_this"),
    ],
)
def test_a_changed_description_is_refused(folder, change):
    edit(folder, change)
    refused(folder, "model.json as it was written")


@pytest.mark.parametrize("schema", [0, 1, "2", None])
def test_another_schema_is_refused(folder, schema):
    edit(folder, lambda text: text.update(schema=schema))
    refused(folder, f"of schema 2; got schema {schema}")


def test_other_jsons_are_refused(folder):
    (folder / "model.json").write_text("[1, 2]")
    refused(folder, "of schema 2; got schema None")
    (folder / "model.json").write_text("{not json")
    refused(folder, "to be JSON")


def test_pickles_are_refused(folder, tmp_path):
    class Trap:
        def __reduce__(self):
            return (tmp_path.joinpath("sprung").touch, ())

    for name in ("model.json", "params.safetensors"):
        kept = (folder / name).read_bytes()
        (folder / name).write_bytes(pickle.dumps(Trap()))
        refused(folder, "to be JSON" if name == "model.json" else "with SHA-256")
        (folder / name).write_bytes(kept)
    assert not (tmp_path / "sprung").exists()
    load(folder)


@pytest.mark.parametrize("name", ["model.json", "params.safetensors"])
def test_missing_files_are_named(folder, name):
    (folder / name).unlink()
    refused(folder, f"got no {name}")


def test_missing_folder_is_named(tmp_path):
    refused(tmp_path / "nowhere", "a model in .*nowhere .*got no model.json")


def test_a_prior_of_transforms_comes_back(boxed, tmp_path):
    order = dist.transforms.OrderedTransform()
    base = dist.Normal(np.zeros(2), 1.0).to_event(1)
    prior = from_numpyro(dist.TransformedDistribution(base, order))
    estimator = dataclasses.replace(boxed.estimator, prior=prior)
    save(tmp_path, Posterior(estimator, estimator.skeleton((3,))))
    assert load(tmp_path).estimator.prior == prior


class Plain:
    """A summary that no file can describe."""

    def __call__(self, x):
        return x


def test_a_summary_without_description_is_not_saved(boxed, tmp_path):
    estimator = dataclasses.replace(boxed.estimator, summary=Plain())
    with pytest.raises(ValueError, match="module fit for saving"):
        save(tmp_path / "model", Posterior(estimator, boxed.variables))
    assert not (tmp_path / "model").exists()


def halves(x):
    return 0.5 * x


def test_a_summary_that_is_a_function_is_handed_in_again(tmp_path):
    prior, flow = uniform([0.0, 1.0], [1.0, 2.0]), CINN(num_layers=1, hidden=(4,))
    estimator = Estimator(prior, flow, None, halves, "none")
    posterior = Posterior(estimator, estimator.skeleton((3,)))
    save(tmp_path, posterior)
    refused(tmp_path, r"function of the model file .* got halves\. Give it: load")
    again = load(tmp_path, modules=[halves])
    assert again.estimator == estimator


class Doubled(nn.Module):
    """An embedding of a user's own."""

    width: int = 3

    @nn.compact
    def __call__(self, x):
        return nn.Dense(self.width)(2.0 * x)


@dataclasses.dataclass(frozen=True)
class Total:
    """A summary of a user's own."""

    power: float = 1.0

    def __call__(self, x):
        return (x**self.power).sum(-1, keepdims=True)


@dataclasses.dataclass(frozen=True)
class Shift:
    """An element-wise map of a user's own."""

    num_parameters = 1

    def check(self):
        pass

    def __call__(self, raw, bound):
        return Affine(raw[..., 0], jnp.zeros_like(raw[..., 0]))


def test_modules_of_the_users_own_come_back_by_their_class(tmp_path):
    flow = CouplingFlow(univariate=Shift(), num_layers=1, hidden=(4,), head_hidden=(4,))
    prior = uniform([0.0, 1.0], [1.0, 2.0])
    estimator = Estimator(prior, flow, Doubled(2), Total(2.0), "none")
    posterior = Posterior(estimator, estimator.skeleton((3,)))
    save(tmp_path, posterior)
    refused(tmp_path, r"got Shift. Give it: load\(folder, modules=\[Shift\]\)")
    with pytest.raises(ValueError, match=r"got Doubled\."):
        load(tmp_path, modules=[Shift])
    again = load(tmp_path, modules=[Shift, Doubled, Total])
    assert again.estimator == posterior.estimator
    x = np.ones((2, 3), np.float32)
    draws = posterior.sample(KEY, x, 5)
    np.testing.assert_array_equal(again.sample(KEY, x, 5), draws)
