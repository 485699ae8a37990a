"""Initial parameters whose units tell items apart before the first step.

A mean of the ReLUs of many neighbours is nearly the same vector for every item, and so is what
follows: at the start all items point one way, and training spends its first epochs on undoing that.
Here biases and scales of the dense layers are set from a batch of items, layer by layer, so that
every unit has mean 0 and deviation 1 over the batch before its ReLU. CONVOLVE joins an item's own
vector and that of its neighbours; the two are first brought to one deviation, so that the small
differences between neighbours count. Before them the inputs are brought to one deviation: whatever
their number and width, each has the same share in h⁰. The last layer is scaled so that the vectors'
mean square length is 1, and beside a structure far less.

This is not part of the paper, which leaves the initial values open. The encoder stays the same
function.

References:
    Salimans and Kingma 2016, "Weight normalization", section 3 (data-dependent initialisation);
    Krähenbühl et al. 2016, "Data-dependent initializations of convolutional neural networks".
"""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lightgcn_jax.arrays import Array
from pinsage_jax.encoder.blocks import LayerBlock, bounds, make_blocks, mark_layers
from pinsage_jax.encoder.pinsage import PinSage, applied
from pinsage_jax.encoder.pooling import pool
from pinsage_jax.graph.neighborhoods import NeighborTable

# A unit that hardly differs between items is not blown up.
_LEAST_DEVIATION = 1e-4
# The first ranking is that of the structure, to which learning adds.
_BESIDE_STRUCTURE = 0.1


def standardised(
    model: PinSage,
    params: Any,
    features: dict[str, np.ndarray],
    table: NeighborTable,
    items: np.ndarray,
) -> Any:
    """Shift and scale parameters so that units have mean 0 and deviation 1 over a batch of items.

    Args:
        model: the encoder.
        params: as :func:`pinsage_jax.encoder.pinsage.init_params` draws them.
        features: encoded, of all items, by input.
        table: neighbours of all items.
        items: ``int32[n]``, distinct rows, the batch.

    Returns:
        New parameters, with other kernels of ``map``, ``combine``, ``message``, ``hidden`` and
        ``out`` layers and other biases; words and a query tower are as they were.
    """
    most = bounds(len(items), table.ids.shape[1], model.layers, table.ids.shape[0])
    marks = _marks(table, jax.device_put(items), model.layers, most)
    blocks = _blocks(table, marks, tuple(int(count) for count in marks.counts))
    nodes = np.asarray(blocks.nodes)
    of_nodes = {name: jax.device_put(values[nodes]) for name, values in features.items()}
    return _layer_by_layer(model, params, of_nodes, blocks.layers)


_marks = jax.jit(mark_layers, static_argnums=(2, 3))
_blocks = jax.jit(make_blocks, static_argnums=2)


@functools.partial(jax.jit, static_argnums=0)
def _layer_by_layer(
    model: PinSage, params: Any, of_nodes: dict[str, Array], blocks: tuple[LayerBlock, ...]
) -> Any:
    params = dict(params)
    values = applied(model, params, "read", of_nodes)
    for one, given in zip(model.inputs, values, strict=True):
        kernel = params[f"map_{one.name}"]["kernel"]
        share = _inverse(_deviation(given @ kernel)) / len(values) ** 0.5
        params[f"map_{one.name}"] = {"kernel": kernel * share}
    encoded = applied(model, params, "encode", of_nodes)
    mean = encoded.mean(axis=0)
    params["bias"], h = params["bias"] - mean, encoded - mean[None, :]
    for k, layer in enumerate(blocks):
        params[f"message_{k}"] = _standardised(params[f"message_{k}"], h)
        messages = applied(model, params, "messages", k, h)
        own, pooled = h[layer.own], pool(messages, layer.places, layer.weights, model.pooling)
        combine = params[f"combine_{k}"]
        balanced = jnp.concatenate(
            [
                combine["kernel"][: model.dim] * _inverse(_deviation(own)),
                combine["kernel"][model.dim :] * _inverse(_deviation(pooled)),
            ]
        )
        both = jnp.concatenate([own, pooled], axis=1)
        params[f"combine_{k}"] = _standardised(combine | {"kernel": balanced}, both)
        h = applied(model, params, "combined", k, own, pooled)
    params["hidden"] = _standardised(params["hidden"], h)
    if not model.unit_length:
        length = jnp.sqrt(jnp.square(applied(model, params, "learnt", h)).sum(axis=1).mean())
        scale = _inverse(length) * (_BESIDE_STRUCTURE if model.structure else 1)
        params["out"] = {"kernel": params["out"]["kernel"] * scale}
    return params


def _standardised(layer: dict[str, Array], inputs: Array) -> dict[str, Array]:
    """A dense layer whose units have mean 0 and deviation 1 on these inputs."""
    before = inputs @ layer["kernel"]
    scale = _inverse(before.std(axis=0))
    return {"kernel": layer["kernel"] * scale[None, :], "bias": -before.mean(axis=0) * scale}


def _deviation(values: Array) -> Array:
    """The deviation of all units together, each around its own mean."""
    return jnp.sqrt(values.var(axis=0).mean())


def _inverse(deviation: Array) -> Array:
    return jnp.where(deviation > _LEAST_DEVIATION, 1 / deviation, 1.0)
