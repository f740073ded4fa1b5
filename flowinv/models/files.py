"""Model folders: `model.json` and `params.safetensors`. No pickle.

`model.json` holds the schema version, the prior, the flow, embedding and summary as
names with fields, the shape of x, every array's shape, the SHA-256 of the tensor file,
and that of all these entries. Anything that does not fit is refused with the reason.
"""

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from flowinv.checks import fail
from flowinv.files import read_json, write_bytes, write_json
from flowinv.models.estimator import Estimator
from flowinv.models.posterior import Posterior
from flowinv.models.registry import build, describe
from flowinv.priors.config import prior_from_config

__all__ = ["SCHEMA", "load", "save"]

SCHEMA = 2
_JSON, _TENSORS = "model.json", "params.safetensors"
# Entry of model.json with the SHA-256 of all others: a moved prior edge shows.
_SELF = "sha256_of_this"


def save(folder: str | Path, posterior: Posterior) -> None:
    """Write a posterior to `folder`; existing model files there are replaced.

    Raises:
        ValueError: for a prior, flow or network that has no plain description.
    """
    from safetensors.numpy import save as to_bytes

    folder = Path(folder).expanduser()
    if not isinstance(posterior, Posterior):
        remedy = "Give fit.posterior, or rounds.posterior."
        fail("posterior", "to be a Posterior", type(posterior).__name__, remedy)
    variables, estimator = posterior.variables, posterior.estimator
    arrays = _named(variables)
    blob = to_bytes(arrays)
    text = {
        "schema": SCHEMA,
        "prior": estimator.prior.to_config(),
        "flow": describe(estimator.flow),
        "embedding": describe(estimator.embedding),
        "summary": describe(estimator.summary),
        "input_scaling": estimator.input_scaling,
        "placed": estimator.placed,
        "x_shape": list(posterior.x_shape),
        "num_members": variables.num_members,
        "cut": variables.frozen.box is not None,
        "arrays": {name: list(array.shape) for name, array in arrays.items()},
        "sha256": hashlib.sha256(blob).hexdigest(),
    }
    text[_SELF] = _digest(text)
    folder.mkdir(parents=True, exist_ok=True)
    write_bytes(folder / _TENSORS, blob)
    write_json(folder / _JSON, text)


def load(folder: str | Path, modules: Iterable[Any] = ()) -> Posterior:
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
    modules = tuple(modules)
    try:
        parts = (build(text[k], modules) for k in ("flow", "embedding", "summary"))
        prior = prior_from_config(text["prior"])
        estimator = Estimator(prior, *parts, text["input_scaling"], text["placed"])
        sizes = tuple(text["x_shape"]), text["num_members"], text["cut"]
        shapes, digest = text["arrays"], text["sha256"]
    except KeyError as missing:
        fail(str(folder / _JSON), f"with the entry {missing}", "none", _REMEDY)
    arrays = _read_tensors(folder, shapes, digest)
    like = jax.eval_shape(lambda: estimator.skeleton(*sizes))
    names = _named_shapes(like)
    if {name: list(s) for name, s in names.items()} != shapes:
        fail(str(folder / _JSON), "with the arrays of its flow", "others", _REMEDY)
    leaves = [jnp.asarray(arrays[name]) for name in names]
    tree = jax.tree.structure(like)
    return Posterior(estimator, jax.tree.unflatten(tree, leaves))


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
