"""PinSAGE in NumPy and float64, one item after another, line by line as the paper writes it."""

import numpy as np

EPSILON = 1e-12


def relu(x):
    return np.maximum(x, 0)


def unit(x):
    return x / np.sqrt((x**2).sum() + EPSILON)


def affine(params, name, x):
    layer = params[name]
    bias = np.asarray(layer["bias"], np.float64) if "bias" in layer else 0
    return x @ np.asarray(layer["kernel"], np.float64) + bias


def encode(params, inputs, features, item):
    total = np.asarray(params["bias"], np.float64)
    for one in inputs:
        values = np.asarray(features[one.name])[item]
        if one.kind == "bag":
            words = [
                np.asarray(params[f"words_{one.name}"], np.float64)[w] for w in values if w >= 0
            ]
            size = np.asarray(params[f"words_{one.name}"]).shape[1]
            values = np.mean(words, axis=0) if words else np.zeros(size)
        total = total + affine(params, f"map_{one.name}", np.asarray(values, np.float64))
    return total


def convolve(params, layer, own, neighbors, weights, pooling):
    """Algorithm 1, lines 1 to 3, of one node."""
    dim = len(own)
    messages = [relu(affine(params, f"message_{layer}", one)) for one in neighbors]
    if not messages:
        pooled = np.zeros(dim)
    elif pooling == "importance":
        pooled = sum(weight * one for weight, one in zip(weights, messages, strict=True))
    elif pooling == "mean":
        pooled = np.mean(messages, axis=0)
    else:
        pooled = np.max(messages, axis=0)
    new = relu(affine(params, f"combine_{layer}", np.concatenate([own, pooled])))
    return unit(new)


def vector(params, inputs, features, ids, weights, item, *, config):
    """Algorithm 2 for one item: h of layer K by recursion, then G and, where there is one, γ s."""

    def h(item, layer):
        if layer == 0:
            return encode(params, inputs, features, item)
        near = [(v, w) for v, w in zip(ids[item], weights[item], strict=True) if v >= 0]
        below = [h(v, layer - 1) for v, _ in near]
        shares = [w for _, w in near]
        return convolve(params, layer - 1, h(item, layer - 1), below, shares, config.pooling)

    top = relu(affine(params, "hidden", h(item, config.layers)))
    z = affine(params, "out", top)
    if config.structure:
        own = np.asarray(features["structure"], np.float64)[item]
        z = np.concatenate([z, float(params["structure_gain"]) * own])
    return unit(z) if config.unit_length else z
