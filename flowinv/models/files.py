"""Model folders: `model.json` and `params.safetensors`. No pickle.

`model.json` holds the schema version, the prior, the flow, embedding and summary as
names with fields, the shape of x, every array's shape, the SHA-256 of the tensor file,
and that of all these entries. Anything that does not fit is refused with the reason.
"""

import hashlib
import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from flowinv.checks import fail
from flowinv.files import from_plain, read_json, to_plain, write_bytes, write_json
from flowinv.models.coordinates import evenly_spread
from flowinv.models.estimator import Estimator
from flowinv.models.likelihood import Likelihood, Reader, likelihood_skeleton
from flowinv.models.posterior import Posterior
from flowinv.models.ratio import Ratio
from flowinv.models.registry import build, describe
from flowinv.models.sampled import AnyPosterior, SampledPosterior, SamplerConfig
from flowinv.priors.config import prior_from_config

__all__ = ["SCHEMA", "load", "save"]

SCHEMA = 2
_JSON, _TENSORS = "model.json", "params.safetensors"
# Entry of model.json with the SHA-256 of all others: a moved prior edge shows.
_SELF = "sha256_of_this"


def save(folder: str | Path, posterior: AnyPosterior) -> None:
    """Write a posterior to `folder`; existing model files there are replaced.

    Raises:
        ValueError: for a prior, flow or network that has no plain description.
    """
    from safetensors.numpy import save as to_bytes

    folder = Path(folder).expanduser()
    if not isinstance(posterior, (Posterior, SampledPosterior)):
        remedy = "Give fit.posterior, or rounds.posterior."
        fail("posterior", "to be a Posterior", type(posterior).__name__, remedy)
    text, tree = _described(posterior)
    arrays = _named(tree)
    blob = to_bytes(arrays)
    text |= {
        "arrays": {name: list(array.shape) for name, array in arrays.items()},
        "sha256": hashlib.sha256(blob).hexdigest(),
    }
    text[_SELF] = _digest(text)
    folder.mkdir(parents=True, exist_ok=True)
    write_bytes(folder / _TENSORS, blob)
    write_json(folder / _JSON, text)


def _described(posterior: AnyPosterior) -> tuple[dict[str, Any], Any]:
    """Entries of a model file but for its arrays, and the tree of these."""
    variables, estimator, more = posterior.variables, None, {}
    tree: Any = variables
    if isinstance(posterior, Posterior):
        estimator = posterior.estimator
    else:
        learned = posterior.learned
        estimator = learned.estimator
        more = {"kind": "ratio", "sampler": to_plain(posterior.sampler)}
        if isinstance(learned, Likelihood):
            even = evenly_spread(posterior.prior).tolist()
            more |= {"kind": "likelihood", "numbers": estimator.prior.dim, "even": even}
            tree = variables, learned.readings
    text = {
        "schema": SCHEMA,
        "prior": posterior.prior.to_config(),
        "flow": describe(estimator.flow),
        "embedding": describe(estimator.embedding),
        "summary": describe(posterior.summary),
        "input_scaling": posterior.input_scaling,
        "placed": estimator.placed,
        "x_shape": list(posterior.x_shape),
        "num_members": variables.num_members,
        "cut": variables.frozen.box is not None,
        **more,
    }
    return text, tree


def _rebuilt(
    text: dict[str, Any], modules: tuple[Any, ...]
) -> tuple[Any, Callable[[Any], AnyPosterior]]:
    """What a file's arrays are shaped like, and the posterior that they make.

    Raises:
        KeyError: the name of a missing entry.
    """
    flow, embedding, summary = (
        build(text[k], modules) for k in ("flow", "embedding", "summary")
    )
    prior = prior_from_config(text["prior"])
    x_shape, members = tuple(text["x_shape"]), text["num_members"]
    scaling, placed = text["input_scaling"], text["placed"]
    kind, sampler = text.get("kind", "posterior"), None
    if kind != "posterior":
        sampler = from_plain(SamplerConfig(), text["sampler"], "sampler")
    if kind == "likelihood":
        if text["even"] != evenly_spread(prior).tolist():
            fail("the model", "told of theta as flowinv does now", "another", _REMEDY)
        reader = Reader(x_shape, summary, scaling)
        own, like = likelihood_skeleton(prior, flow, placed, text["numbers"], members)
        return like, lambda tree: SampledPosterior(
            Likelihood(prior, own, tree[0], reader, tree[1]), sampler
        )
    estimator = Estimator(prior, flow, embedding, summary, scaling, placed)
    sizes = x_shape, members, text["cut"]
    like = jax.eval_shape(lambda: estimator.skeleton(*sizes))
    if kind == "ratio":
        return like, lambda tree: SampledPosterior(Ratio(estimator, tree), sampler)
    return like, lambda tree: Posterior(estimator, tree)


def load(folder: str | Path, modules: Iterable[Any] = ()) -> AnyPosterior:
    """Read a posterior that `save` wrote.

    Args:
        folder: the model's folder.
        modules: classes and functions of your own that the model was built from:
            flows, embeddings, summaries, element-wise maps. The file names them and
            holds no code.

    Raises:
        ValueError: one line, if a file is missing, is no model file of this schema,
            names a class that is not known, or does not match its SHA-256 or shapes.
    """
    folder = Path(folder).expanduser()
    text = _read_text(folder)
    try:
        like, posterior_of = _rebuilt(text, tuple(modules))
        shapes, digest = text["arrays"], text["sha256"]
    except KeyError as missing:
        fail(str(folder / _JSON), f"with the entry {missing}", "none", _REMEDY)
    arrays = _read_tensors(folder, shapes, digest)
    names = _named_shapes(like)
    if {name: list(s) for name, s in names.items()} != shapes:
        fail(str(folder / _JSON), "with the arrays of its flow", "others", _REMEDY)
    leaves = [jnp.asarray(arrays[name]) for name in names]
    return posterior_of(jax.tree.unflatten(jax.tree.structure(like), leaves))


_REMEDY = "Save the model again; flowinv reads only files that it wrote itself."


def _named_shapes(tree: Any) -> dict[str, tuple[int, ...]]:
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {jax.tree_util.keystr(path): leaf.shape for path, leaf in leaves}


def _named(tree: Any) -> dict[str, np.ndarray]:
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    # Not ascontiguousarray: it would turn a scalar into a vector.
    return {
        jax.tree_util.keystr(path): np.asarray(leaf, order="C") for path, leaf in leaves
    }


def _read_text(folder: Path) -> dict[str, Any]:
    path = folder / _JSON
    if not path.is_file():
        fail(f"a model in {folder}", f"({_JSON} and {_TENSORS})", f"no {_JSON}")
    text = read_json(path, "model file", _REMEDY)
    schema = text.get("schema") if isinstance(text, dict) else None
    if schema != SCHEMA:
        fail(str(path), f"of schema {SCHEMA}", f"schema {schema}", _REMEDY)
    if text.pop(_SELF, None) != _digest(text):
        fail(str(path), "as it was written (SHA-256)", "changed entries", _REMEDY)
    return text


def _digest(text: dict[str, Any]) -> str:
    """SHA-256 of the entries as canonical JSON."""
    return hashlib.sha256(json.dumps(text, sort_keys=True).encode()).hexdigest()


def _read_tensors(
    folder: Path, shapes: dict[str, list[int]], digest: str
) -> dict[str, np.ndarray]:
    from safetensors.numpy import load as from_bytes

    path = folder / _TENSORS
    if not path.is_file():
        fail(f"a model in {folder}", f"({_JSON} and {_TENSORS})", f"no {_TENSORS}")
    blob = path.read_bytes()
    got = hashlib.sha256(blob).hexdigest()
    if got != digest:
        fail(str(path), f"with SHA-256 {digest[:12]}..", f"{got[:12]}..", _REMEDY)
    arrays = from_bytes(blob)
    if {name: list(array.shape) for name, array in arrays.items()} != shapes:
        fail(str(path), f"with the shapes in {_JSON}", "others", _REMEDY)
    return arrays
