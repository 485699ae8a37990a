"""The encoder: features to a common width, K convolutions over important neighbours, the head.

With h⁰_u the encoded features of item u, N(u) its T neighbours and α_uv their importance (which
adds up to 1), layer k is algorithm 1 of the paper, CONVOLVE:

    n_u    = Σ_{v ∈ N(u)} α_uv ReLU(Q h_v + q)        (importance pooling)
    h'_u   = ReLU(W [h_u ; n_u] + w)
    h_u    = h'_u / ‖h'_u‖₂

and the result is z_u = [G₂ ReLU(G₁ h_u + g) ; γ s_u], where s is the structure of the item
(:mod:`pinsage_jax.graph.structure`) and γ a learnt number. A pair scores ⟨z_q, z_p⟩, so the length
of z can tell how popular an item is. Other poolings weigh all neighbours alike (``mean``) or take
the largest entry of their messages (``max``).

Deviations: The paper has no structure. Each kind of feature has a linear map of its own, and their
results are added up; the paper leaves that open. With ``unit_length`` z is made unit length, so
that scores are cosines, a margin means the same for every pair and distance-weighted sampling is
defined. Vectors are divided by √(‖h‖² + ε), which keeps the gradient of a zero vector finite.

References:
    Ying et al. 2018, "Graph convolutional neural networks for web-scale recommender systems",
    section 3.2 and algorithms 1 and 2.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any, NamedTuple

import flax.linen as nn
import jax.numpy as jnp

from lightgcn_jax.arrays import Array, Bool, Float, Int, Mask, Vectors
from lightgcn_jax.errors import InputError
from lightgcn_jax.models.products import dense_product, product
from pinsage_jax.config import PinSageConfig, Pooling, Query
from pinsage_jax.encoder.pooling import pool
from pinsage_jax.features.inputs import Input
from pinsage_jax.features.schema import FeatureSchema

Params = Any
"""A nested dictionary of arrays."""

Features = Mapping[str, "Array | Masked"]
"""Encoded features by ``Input.name``, a row for each item."""

ID_INPUT = "item_id"
"""The input, a bag of one id, by which an item's own learnt vector is looked up."""

STRUCTURE = "structure"
"""The input that tells where an item stands in the graph."""

_EPSILON = 1e-12
# Adam moves all parameters alike: small vectors of words soon tell words apart.
_BAG_INIT = nn.initializers.normal(0.1)


class Masked(NamedTuple):
    """Dense features of which some rows count as zeros, without a copy that has them.

    Attributes:
        rows: ``float[n, w]``.
        absent: ``bool[n]``, the rows that are zeros.
    """

    rows: Float[Array, "items width"]
    absent: Bool[Array, " items"]

    @property
    def shape(self) -> tuple[int, ...]:
        """n and w."""
        return self.rows.shape

    def kept(self, results: Vectors) -> Vectors:
        """Clear what a linear map made of the absent rows.

        Args:
            results: ``float[n, D]``.
        """
        return jnp.where(self.absent[:, None], 0.0, results)


def plain(values: Array | Masked) -> Array:
    """The values with their zeros.

    Args:
        values: of one input.
    """
    return values.kept(values.rows) if isinstance(values, Masked) else values


def unit(vectors: Vectors) -> Vectors:
    """Scale vectors to length 1; a zero vector stays zero.

    Args:
        vectors: ``float[..., D]``.
    """
    return vectors / jnp.sqrt(jnp.square(vectors).sum(axis=-1, keepdims=True) + _EPSILON)


class _Combination(nn.Module):
    """W [h_u ; n_u] + w as two products: the two tables are never copied beside each other."""

    dim: int

    @nn.compact
    def __call__(self, own: Vectors, pooled: Vectors) -> Vectors:
        width = own.shape[1]
        shape = (width + pooled.shape[1], self.dim)
        kernel = self.param("kernel", nn.initializers.lecun_normal(), shape)
        bias = self.param("bias", nn.initializers.zeros, (self.dim,))
        return product(own, kernel[:width]) + product(pooled, kernel[width:]) + bias[None, :]


class PinSage(nn.Module):
    """Layers by name, so that a mini-batch, all items and a new item use the same ones.

    Attributes:
        inputs: the arrays of features, in the order in which they are added.
        dim, word_dim, layers, pooling, query, unit_length, structure: the settings of these names
            in :class:`pinsage_jax.config.PinSageConfig`.
    """

    inputs: tuple[Input, ...]
    dim: int
    word_dim: int
    layers: int
    pooling: Pooling
    query: Query
    unit_length: bool
    structure: int = 0

    @property
    def width(self) -> int:
        """The entries of z: D, and those of the structure."""
        return self.dim + self.structure

    def setup(self) -> None:
        """Name the layers, as flax asks for it."""
        dense = functools.partial(nn.Dense, dot_general=dense_product)
        self.words = {
            one.name: self.param(f"words_{one.name}", _BAG_INIT, (one.size, self.word_dim))
            for one in self.inputs
            if one.kind == "bag"
        }
        self.maps = [dense(self.dim, use_bias=False, name=f"map_{one.name}") for one in self.inputs]
        self.bias = self.param("bias", nn.initializers.zeros, (self.dim,))
        self.message = [dense(self.dim, name=f"message_{k}") for k in range(self.layers)]
        self.combine = [_Combination(self.dim, name=f"combine_{k}") for k in range(self.layers)]
        self.hidden = dense(self.dim, name="hidden")
        self.out = dense(self.dim, use_bias=False, name="out")
        if self.structure:
            gain = nn.initializers.constant(2 * self.structure**-0.5)
            self.gain = self.param("structure_gain", gain, ())
        if self.query == "tower":
            self.tower = [dense(self.width, name=f"tower_{k}") for k in range(2)]

    def encode(self, features: Features) -> Vectors:
        """Compute h⁰ of items, ``float[n, D]``: the linear maps of the inputs, added up.

        Args:
            features: n rows, by input.
        """
        return self.mapped(self.read(features))

    def read(self, features: Features) -> tuple[Array | Masked, ...]:
        """Read what the linear maps take, input by input: dense values, and means of bags.

        Args:
            features: n rows, by input.
        """
        return tuple(
            self._bag_mean(one.name, features[one.name])
            if one.kind == "bag"
            else features[one.name]
            for one in self.inputs
        )

    def mapped(self, values: tuple[Array | Masked, ...]) -> Vectors:
        """Compute h⁰, ``float[n, D]``.

        Args:
            values: what :meth:`read` returned.
        """
        total = self.bias[None, :]
        for one, linear in zip(values, self.maps, strict=True):
            total += one.kept(linear(one.rows)) if isinstance(one, Masked) else linear(one)
        return total

    def first_messages(self, values: tuple[Array | Masked, ...]) -> Vectors:
        """Compute ``messages(0, mapped(values))`` without h⁰: the maps and Q are one linear map.

        A node that is only a neighbour costs one product in place of two.

        Args:
            values: what :meth:`read` returned.
        """
        message = self.message[0].variables["params"]
        total = (self.bias @ message["kernel"] + message["bias"])[None, :]
        for one, linear in zip(values, self.maps, strict=True):
            both = linear.variables["params"]["kernel"] @ message["kernel"]
            total += one.kept(one.rows @ both) if isinstance(one, Masked) else one @ both
        return nn.relu(total)

    def _bag_mean(self, name: str, given: Array | Masked) -> Float[Array, "items words"]:
        """The mean of the vectors of an item's words; zero for an item without words."""
        ids = plain(given)
        present = ids >= 0
        weights = present / jnp.maximum(present.sum(axis=1, keepdims=True), 1)
        return pool(self.words[name], jnp.maximum(ids, 0), weights, "importance")

    def messages(self, layer: int, below: Vectors) -> Vectors:
        """Compute ReLU(Q h + q) of each node once, ``float[n, D]``.

        Args:
            layer: k, from 0.
            below: ``float[n, D]``, h of the layer below.
        """
        return nn.relu(self.message[layer](below))

    def convolve(
        self,
        layer: int,
        own: Vectors,
        messages: Vectors,
        places: Int[Array, "rows neighbors"],
        weights: Float[Array, "rows neighbors"],
    ) -> Vectors:
        """Compute one layer for chosen rows, ``float[rows, D]``.

        Args:
            layer: k, from 0.
            own: ``float[rows, D]``, their own vectors in the layer below.
            messages: ``float[nodes, D]``, the messages of the layer below.
            places: ``int32[rows, T]``, where their neighbours stand among these nodes.
            weights: ``float[rows, T]``, the importance of the neighbours; 0 for padding.
        """
        return self.combined(layer, own, pool(messages, places, weights, self.pooling))

    def combined(self, layer: int, own: Vectors, pooled: Vectors) -> Vectors:
        """Compute one layer from what was pooled, ``float[rows, D]``.

        Args:
            layer: k, from 0.
            own: ``float[rows, D]``, the rows' own vectors in the layer below.
            pooled: ``float[rows, D]``, n of the rows.
        """
        return unit(nn.relu(self.combine[layer](own, pooled)))

    def head(self, top: Vectors, features: Features) -> Vectors:
        """Compute z = [G₂ ReLU(G₁ h + g) ; γ s], without s where there is no structure.

        Args:
            top: ``float[n, D]``, h of the last layer.
            features: of the same n items, of which only the structure s is read.
        """
        z = self.learnt(top)
        if self.structure:
            z = jnp.concatenate([z, self.gain * plain(features[STRUCTURE])], axis=1)
        return self._scaled(z)

    def learnt(self, top: Vectors) -> Vectors:
        """Compute G₂ ReLU(G₁ h + g), ``float[n, D]``.

        Args:
            top: ``float[n, D]``, h of the last layer.
        """
        return self.out(nn.relu(self.hidden(top)))

    def _scaled(self, vectors: Vectors) -> Vectors:
        return unit(vectors) if self.unit_length else vectors

    def compose(self, vectors: Float[Array, "queries items dim"], valid: Mask) -> Vectors:
        """Compose the vector of a query from those of its items, ``float[queries, D]``.

        Args:
            vectors: ``float[queries, n, D]``, z of the items.
            valid: ``bool[queries, n]``; a query without any gets zeros.
        """
        counts = jnp.maximum(valid.sum(axis=1), 1)[:, None]
        mean = (vectors * valid[:, :, None]).sum(axis=1) / counts
        if self.query == "tower":
            # The mean is kept, so that an untrained tower already ranks.
            mean += self.tower[1](nn.relu(self.tower[0](mean))) * valid.any(axis=1)[:, None]
        return self._scaled(mean)

    def __call__(self, features: Features) -> Vectors:
        """Use every parameter once, for ``init``: each item is its own neighbour.

        Args:
            features: n rows, by input.
        """
        h = self.encode(features)
        places = jnp.zeros((h.shape[0], 1), jnp.int32)
        for layer in range(self.layers):
            ones = jnp.ones((h.shape[0], 1), h.dtype)
            h = self.convolve(layer, h, self.messages(layer, h), places, ones)
        z = self.head(h, features)
        return self.compose(z[:, None, :], jnp.ones((h.shape[0], 1), bool))


def make_model(inputs: tuple[Input, ...], config: PinSageConfig) -> PinSage:
    """Make the encoder that the settings describe.

    Args:
        inputs: the arrays of features that it reads.
        config: the settings.
    """
    return PinSage(
        inputs=inputs,
        dim=config.dim,
        word_dim=config.word_dim,
        layers=config.layers,
        pooling=config.pooling,
        query=config.query,
        unit_length=config.unit_length,
        structure=config.structure,
    )


def applied(model: PinSage, params: Any, part: str, *given: Any) -> Any:
    """Apply a part of the encoder by its name: ``encode``, ``convolve``, …

    Args:
        model: the encoder.
        params: its parameters.
        part: the name of the method.
        given: what the method takes.
    """
    return model.apply({"params": params}, *given, method=part)


def init_params(key: Array, model: PinSage) -> Any:
    """Draw initial parameters.

    Args:
        key: consumed.
        model: the encoder.
    """
    one = {
        given.name: jnp.zeros((1, given.width), jnp.float32 if given.kind == "dense" else jnp.int32)
        for given in model.inputs
    }
    return model.init(key, one)["params"]


def model_inputs(schema: FeatureSchema, config: PinSageConfig, num_items: int) -> tuple[Input, ...]:
    """List what the encoder reads: the schema's inputs, and learnt vectors of the items if asked.

    Args:
        schema: how features are encoded.
        config: the settings.
        num_items: I.

    Raises:
        InputError: a feature has the name of an input that is made of something else.
    """
    inputs = schema.inputs()
    made = {ID_INPUT: config.id_embedding, STRUCTURE: config.structure}
    for one in inputs:
        if made.get(one.name):
            raise InputError(
                f"columns: {one.name!r} is the name of an input of the encoder's own; rename the "
                f"feature, or leave it out (--skip-columns {one.name})"
            )
    if config.id_embedding:
        inputs = (*inputs, Input(ID_INPUT, "bag", num_items, 1))
    if config.structure:
        inputs = (*inputs, Input.dense(STRUCTURE, config.structure))
    return inputs
