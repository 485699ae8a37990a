"""The dense part of a layer of NGCF and its gradient, each in one pass over its tables."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import numpy as np

from lightgcn_jax.arrays import Array, Float, Vectors
from lightgcn_jax.diffusion.native.library import target_name
from lightgcn_jax.diffusion.storage import sum_dtype


class NgcfLayer(NamedTuple):
    """What h = LeakyReLU((m + e) W1 + (e ∘ m) W2) is made of, in one type.

    Attributes:
        messages: m, ``float[rows, width]``, what a node's neighbours send.
        own: e, ``float[rows, width]``, the node's own vector.
        sums: W1, ``float[width, D]``.
        products: W2, ``float[width, D]``.
    """

    messages: Float[Array, "rows width"]
    own: Float[Array, "rows width"]
    sums: Float[Array, "width dim"]
    products: Float[Array, "width dim"]


def ngcf_layer(given: NgcfLayer, slope: float) -> Vectors:
    """h = LeakyReLU((m + e) W1 + (e ∘ m) W2), without a derivative.

    The sums and products that the matrices are multiplied by are made for a few rows at a time and
    are never tables.

    Args:
        given: m, e, W1 and W2.
        slope: positive, LeakyReLU's factor of what is negative.

    Returns:
        ``float[rows, D]`` in the type of what is given.
    """
    kind = given.own.dtype
    shape = len(given.own), given.sums.shape[1]
    output = jax.ShapeDtypeStruct(shape, sum_dtype(kind))
    return _call("ngcf_layer", output, given, slope).astype(kind)


def ngcf_layer_gradient(
    given: NgcfLayer, output: Vectors, cotangent: Vectors, slope: float
) -> NgcfLayer:
    """The gradients by m, e, W1 and W2 of what has a gradient by h.

    With dz = dh ∘ LeakyReLU'(z), a = dz W1ᵀ and b = dz W2ᵀ they are a + b ∘ e, a + b ∘ m,
    (m + e)ᵀ dz and (e ∘ m)ᵀ dz. The sign of h is that of z. Those by W1 and W2 are summed over rows
    in runs of a fixed length, so the bits are the same whatever the threads are. Rows without a
    gradient cost little.

    Args:
        given: m, e, W1 and W2.
        output: h, ``float[rows, D]``.
        cotangent: dh, ``float[rows, D]``.
        slope: that of the layer.

    Returns:
        The gradients, in the type of what is given.
    """
    kind = given.own.dtype
    results = tuple(jax.ShapeDtypeStruct(one.shape, sum_dtype(kind)) for one in given)
    found = _call("ngcf_layer_gradient", results, (*given, output, cotangent), slope)
    return NgcfLayer(*(gradient.astype(kind) for gradient in found))


def _call(name: str, results: Any, given: Any, slope: float) -> Any:
    function = jax.ffi.ffi_call(target_name(name), results, vmap_method="sequential")
    wide = (one.astype(sum_dtype(one.dtype)) for one in given)
    return function(*wide, slope=np.float64(slope))
