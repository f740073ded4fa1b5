"""Model folders: `model.json` and `params.safetensors`. No pickle.

`model.json` holds the schema version, the prior, the flow, embedding and summary as
names with fields, the shape of x, every array's shape, the SHA-256 of the tensor file,
and that of all these entries. Anything that does not fit is refused with the reason.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from flowinv.checks import fail
from flowinv.flows.description import build, describe
from flowinv.flows.estimator import Estimator, Variables
from flowinv.posteriors.direct import Posterior
from flowinv.priors.config import prior_from_config
from flowinv.priors.cut import whole_box

__all__ = ["SCHEMA", "load", "save"]

SCHEMA = 1
_JSON, _TENSORS = "model.json", "params.safetensors"
# Entry of model.json with the SHA-256 of all others: a moved prior edge shows.
_SELF = "sha256_of_this"


def save(folder: str | Path, posterior: Posterior) -> None:
    """Write a posterior to `folder`; existing model files there are replaced.

    Raises:
        ValueError: for a prior, flow or network that has no plain description.
    """
    from safetensors.numpy import save as to_bytes

    folder = Path(folder)
    arrays = _named(posterior.variables)
    blob = to_bytes(arrays)
    estimator = posterior.estimator
    text = {
        "schema": SCHEMA,
        "prior": estimator.prior.to_config(),
        "flow": describe(estimator.flow),
        "embedding": describe(estimator.embedding),
        "summary": describe(estimator.summary),
        "input_scaling": estimator.input_scaling,
        "anchored": estimator.anchored,
        "x_shape": list(posterior.x_shape),
        "num_members": posterior.num_members,
        "cut": posterior.variables.frozen.box is not None,
        "arrays": {name: list(array.shape) for name, array in arrays.items()},
        "sha256": hashlib.sha256(blob).hexdigest(),
    }
    text[_SELF] = _digest(text)
    folder.mkdir(parents=True, exist_ok=True)
    _replace(folder / _TENSORS, blob)
    _replace(folder / _JSON, json.dumps(text, indent=1).encode())


def load(folder: str | Path) -> Posterior:
    """Read a posterior that `save` wrote.

    Raises:
        ValueError: one line, if a file is missing, is no model file of this schema, or
            does not match its SHA-256 or shapes.
    """
    folder = Path(folder)
    text = _read_json(folder)
    try:
        estimator = Estimator(
            prior_from_config(text["prior"]),
            build(text["flow"]),
            build(text["embedding"]),
            build(text["summary"]),
            text["input_scaling"],
            text["anchored"],
        )
        sizes = tuple(text["x_shape"]), text["num_members"], text["cut"]
        shapes, digest = text["arrays"], text["sha256"]
    except KeyError as missing:
        fail(str(folder / _JSON), f"with the entry {missing}", "none", _REMEDY)
    arrays = _read_tensors(folder, shapes, digest)
    like = jax.eval_shape(lambda: _skeleton(estimator, *sizes))
    names = _named_shapes(like)
    if {name: list(s) for name, s in names.items()} != shapes:
        fail(str(folder / _JSON), "with the arrays of its flow", "others", _REMEDY)
    leaves = [jnp.asarray(arrays[name]) for name in names]
    tree = jax.tree.structure(like)
    return Posterior(estimator, jax.tree.unflatten(tree, leaves))


_REMEDY = "Save the model again; flowinv reads only files that it wrote itself."


def _skeleton(
    estimator: Estimator, shape: tuple[int, ...], members: int, is_cut: bool
) -> Variables:
    """Variables of the right structure, for their shapes only."""
    variables = estimator.skeleton(shape)
    if is_cut:
        frozen = variables.frozen._replace(box=whole_box(estimator.prior.dim))
        variables = variables._replace(frozen=frozen)
    if members == 1:
        return variables
    stack = jax.tree.map(lambda a: jnp.stack([a] * members), variables.params)
    return variables._replace(params=stack)


def _named_shapes(tree: Any) -> dict[str, tuple[int, ...]]:
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {jax.tree_util.keystr(path): leaf.shape for path, leaf in leaves}


def _named(tree: Any) -> dict[str, np.ndarray]:
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    # Not ascontiguousarray: it would turn a scalar into a vector.
    return {
        jax.tree_util.keystr(path): np.asarray(leaf, order="C") for path, leaf in leaves
    }


def _replace(path: Path, blob: bytes) -> None:
    """Write next to the target, then rename: never half a file."""
    part = path.with_name(path.name + ".part")
    part.write_bytes(blob)
    part.replace(path)


def _read_json(folder: Path) -> dict[str, Any]:
    path = folder / _JSON
    if not path.is_file():
        fail(f"a model in {folder}", f"({_JSON} and {_TENSORS})", f"no {_JSON}")
    try:
        text = json.loads(path.read_text())
    except (ValueError, UnicodeDecodeError):
        fail(str(path), "to be JSON", "something else", _REMEDY)
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
