"""Conditioners of a whole stack: MLPs whose weights carry a leading layer axis.

The context enters each layer's first matrix only, and is the same for all layers. Its
products with all of them are therefore one matrix product, made once per context: 256
draws for one scan pay for it once, and so do all atoms of one x.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jax import Array

from flowinv.networks.activation import activation

__all__ = ["EVENT_RANGE", "Conditioner", "ConditionerLayer", "evaluate"]

# A conditioner sees the event clipped to this range; N(0, I) never leaves it. Without
# it a far outlier makes every later layer's shift as large as the outlier, the round
# trip loses its digits, and the D passes of an autoregressive inverse can overflow.
EVENT_RANGE = 10.0


class ConditionerLayer(NamedTuple):
    """Weights of the conditioners of a stack (leading axis L), or of one layer.

    Attributes:
        context: context product plus bias of the first layer, `[L, ..., H]`.
        inputs: first-layer weights of the event, `[L, I, H]`.
        kernels: further weights, each `[L, H, H']`, the last `[L, H, P]`.
        biases: their biases, each `[L, H']`.
    """

    context: Array
    inputs: Array
    kernels: tuple[Array, ...]
    biases: tuple[Array, ...]


class Conditioner(nn.Module):
    """All conditioners of a stack; the last layer starts at zero.

    Attributes:
        num_layers: L.
        hidden: widths of the hidden layers, at least one.
        masks: for autoregressive use, 0/1 masks of the input, hidden and output
            weights, as tuples of numpy arrays `[I, H], [H, H'], ..., [H, P]`.
    """

    num_layers: int
    hidden: tuple[int, ...]
    num_inputs: int
    num_outputs: int
    masks: tuple[np.ndarray, ...] | None = None

    @nn.compact
    def __call__(self, contexts: Sequence[Array]) -> ConditionerLayer:
        """Return the weights with the context products `[L, ..., H]` filled in.

        The parts of the context, each `[..., C_i]`, are multiplied one by one: a part
        that no trained number enters then costs no gradient.
        """
        layers, width = self.num_layers, self.hidden[0]
        num_context = sum(part.shape[-1] for part in contexts)
        scale = (1.0 / max(num_context + self.num_inputs, 1)) ** 0.5
        init = nn.initializers.normal(scale)
        product = self.param(
            "bias", nn.initializers.zeros, (layers * width,), jnp.float32
        )
        for i, part in enumerate(contexts):
            shape = (part.shape[-1], layers * width)
            product = (
                part @ self.param(f"context_{i}", init, shape, jnp.float32) + product
            )
        product = product.reshape(*product.shape[:-1], layers, width)
        inputs = self.param(
            "inputs", init, (layers, self.num_inputs, width), jnp.float32
        )
        sizes = (*self.hidden, self.num_outputs)
        kernels, biases = [], []
        for i, (fan_in, fan_out) in enumerate(zip(sizes[:-1], sizes[1:], strict=True)):
            last = i == len(sizes) - 2
            start = nn.initializers.normal((2.0 / fan_in) ** 0.5)
            start = nn.initializers.zeros if last else start
            kernels.append(
                self.param(f"kernel_{i}", start, (layers, fan_in, fan_out), jnp.float32)
            )
            zeros = nn.initializers.zeros
            biases.append(
                self.param(f"bias_{i}", zeros, (layers, fan_out), jnp.float32)
            )
        if self.masks is not None:
            inputs = inputs * self.masks[0]
            pairs = zip(kernels, self.masks[1:], strict=True)
            kernels = [kernel * mask for kernel, mask in pairs]
        return ConditionerLayer(
            jnp.moveaxis(product, -2, 0), inputs, tuple(kernels), tuple(biases)
        )


def evaluate(layer: ConditionerLayer, event: Array, act: str) -> Array:
    """Parameters `[..., P]` of one layer's map from the event part `[..., I]`.

    Beyond `EVENT_RANGE` they stay what they are on its edge.
    """
    nonlinear: Callable[[Array], Array] = activation(act)
    hidden = layer.context
    if event.shape[-1]:
        event = jnp.clip(event, -EVENT_RANGE, EVENT_RANGE)
        hidden = hidden + event @ layer.inputs
    for kernel, bias in zip(layer.kernels, layer.biases, strict=True):
        hidden = nonlinear(hidden) @ kernel + bias
    return hidden
