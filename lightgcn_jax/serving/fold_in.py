"""Vectors for people and things that come after training, from what they touch: nothing is trained.

Let somebody new touch the set S of items, |S| = n, and item i have d_i training users. Ã divides an
edge by powers of the degrees, by √(n (d_i + 1)) where it is symmetric: the newcomer is one more
user of the item; where interactions have weights, their own weigh the mean of all and d_i counts in
that unit. Of a model whose final vectors are Σ_k α_k Ã^k E (LightGCN, SGC) the newcomer's is

    α_0 e + Σ_{i∈S} m_i / √(n (d_i + 1)),    m_i = Σ_{k≥1} α_k (Ã^{k−1} E)_i,

where m is one diffusion of the trained layer-0 embeddings, made once for all newcomers, and e is
their own layer-0 embedding. That was never trained. It is estimated by the linear map from what
trained users receive (the second term) to their e, fitted by ridge regression.

The second term is exact where the graph gets an edge from each item to the newcomer and none back:
a newcomer changes nobody else. With edges both ways and one layer it is exact too. With more layers
those m_i change that the newcomer touches, which is left out: by their own e over d_i + 1, and by
the one more in the item's degree.

Of MF, or another model without layers that scores by inner products, the newcomer's vector p
minimises, over the final vectors q_i of the items,

    Σ_{i∈S} (1 − ⟨p, q_i⟩)² + w Σ_i ⟨p, q_i⟩² + λ‖p‖²

(Hu et al. 2008, equation 4, with one confidence for all pairs). Of any other model with vectors,
the linear map goes from Σ_{i∈S} q_i / √(n (d_i + 1)) to trained users' final vectors. Both are
scaled to the mean length of trained users' vectors, and their last columns, which only add to
scores, are trained users' mean. New items come to be as new users do, with users and items in
exchanged roles.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import scipy.sparse

from lightgcn_jax.arrays import Array, Bool, Float, Int, NodeTable, Scalar, Vectors, power_of_two
from lightgcn_jax.data.splits import Split
from lightgcn_jax.diffusion import Operator, diffuse
from lightgcn_jax.evaluation.scorer import InnerProduct, Tables
from lightgcn_jax.graph.bipartite import CsrRows, training_graph
from lightgcn_jax.graph.normalization import POWERS
from lightgcn_jax.models import Model, Score, unit_rows
from lightgcn_jax.models.lightgcn import MultiscaleModel
from lightgcn_jax.settings import Config, TrainConfig

# Of the mean eigenvalue of the Gram matrix: measured on three data sets by `benchmarks fold_in`.
_MAP_RIDGE = 1e-2
_SQUARES_RIDGE = 0.3
# The weight w of pairs that are no interactions.
_OTHERS_WEIGHT = 0.03
# Newcomers of one program, and the places of a block of them: what it gathers stays in the cache.
_AT_ONCE = 32
_PLACES_AT_ONCE = 1 << 16
# Shorter lists take no less time, and would each be a program of their own.
_LEAST_LENGTH = 16


class Learnt(NamedTuple):
    """What a trained model learnt, and how its vectors come to be.

    Attributes:
        model: the model.
        score: how its vectors are scored.
        params: the model's parameters.
        split: what it was trained on.
    """

    model: Model
    score: Score
    params: Any
    split: Split


def learnt_of(config: Config, params: Any, split: Split) -> Learnt | None:
    """What a run's model learnt; None of a closed form and where it is not at hand.

    Args:
        config: the run's settings, with the objects of one's own that it was made with.
        params: the model's parameters; None where the run keeps none.
        split: what it was trained on.
    """
    if not isinstance(config, TrainConfig):
        return None
    if params is None and config.model.normalization is not None:
        return None
    return Learnt(config.model, config.score, params, split)


class Maker(Protocol):
    """A pytree that makes vectors of lists of neighbours; it enters a compiled function."""

    def __call__(self, rows: Int[Array, "queries length"], inside: Bool[Array, "..."]) -> Vectors:
        """A vector for each list.

        Args:
            rows: ``int32[Q, L]``, rows of the neighbours.
            inside: ``bool[Q, L]``, which of them count.

        Returns:
            ``float[Q, D]``.
        """
        ...


@flax.struct.dataclass
class Received(Maker):
    """The sum of what the neighbours send, mapped.

    Attributes:
        sent: ``float[n, D]``, what each neighbour sends, its own degree taken into account.
        mapping: ``float[D, D]``, from the sum to the vector.
        power: of the number of neighbours, which scales the sum.
    """

    sent: Float[Array, "nodes dim"]
    mapping: Float[Array, "dim dim"]
    power: float = flax.struct.field(pytree_node=False)

    def __call__(self, rows: Int[Array, "queries length"], inside: Bool[Array, "..."]) -> Vectors:
        total = jnp.where(inside[..., None], self.sent[rows], 0).sum(axis=1)
        counts = jnp.maximum(inside.sum(axis=1, keepdims=True), 1).astype(total.dtype)
        return (counts**self.power * total) @ self.mapping


@flax.struct.dataclass
class LeastSquares(Maker):
    """The vector whose products with the neighbours' are 1, and 0 with all others, as nearly as it
    goes.

    Attributes:
        vectors: ``float[n, D]``, of all that may be neighbours.
        others: ``float[D, D]``, what all of them and the ridge add to the normal equations.
    """

    vectors: Float[Array, "nodes dim"]
    others: Float[Array, "dim dim"]

    def __call__(self, rows: Int[Array, "queries length"], inside: Bool[Array, "..."]) -> Vectors:
        given = jnp.where(inside[..., None], self.vectors[rows], 0)
        matrices = self.others[None] + jnp.einsum("qld,qle->qde", given, given)
        return jnp.linalg.solve(matrices, given.sum(axis=1)[..., None])[..., 0]


@flax.struct.dataclass
class Scored(Maker):
    """What the model and its score make of the sum over the layers.

    Attributes:
        sums: makes Σ_k α_k Ã^k E.
        params: the model's.
        model: makes a vector of the sum.
        score: says how it is ranked.
        is_item: whether the newcomers are items.
    """

    sums: Received
    params: Any
    model: MultiscaleModel = flax.struct.field(pytree_node=False)
    score: Score = flax.struct.field(pytree_node=False)
    is_item: bool = flax.struct.field(pytree_node=False)

    def __call__(self, rows: Int[Array, "queries length"], inside: Bool[Array, "..."]) -> Vectors:
        vectors = self.model.vectors_of(self.params, self.sums(rows, inside))
        both = (vectors[:0], vectors) if self.is_item else (vectors, vectors[:0])
        counts = inside.sum(axis=1).astype(vectors.dtype)[: len(both[1])]
        offsets = self.score.popularity_offset * jnp.log1p(counts)
        ranked = self.score.vectors(*both, offsets if self.score.offset_columns else None)
        return ranked[self.is_item]


@flax.struct.dataclass
class OfOneLength(Maker):
    """Vectors of one length, with last columns that only add to scores.

    Attributes:
        vectors: makes vectors of any length; zeros stay zeros.
        length: the length.
        offsets: ``float[X]``, the last columns.
    """

    vectors: Any
    length: Float[Array, ""]
    offsets: Float[Array, " columns"]

    def __call__(self, rows: Int[Array, "queries length"], inside: Bool[Array, "..."]) -> Vectors:
        vectors = self.length * unit_rows(self.vectors(rows, inside))
        columns = jnp.broadcast_to(self.offsets, (len(vectors), len(self.offsets)))
        return jnp.concatenate([vectors, columns], axis=1)


@jax.jit
def _made(maker: Any, rows: Array, inside: Array) -> Vectors:
    with jax.default_matmul_precision("highest"):
        return maker(rows, inside)


class Making(NamedTuple):
    """Makes the ranked vectors of newcomers of one kind.

    Attributes:
        maker: makes ``float[Q, D']`` from neighbours.
    """

    maker: Any

    def vectors(self, neighbours: Sequence[np.ndarray], longest: int = 0) -> np.ndarray:
        """A vector for each list of neighbours, on the host.

        Lists are made in blocks whose sizes are powers of two, so that few programs are compiled.

        Args:
            neighbours: ``int[n]`` for each of Q newcomers, distinct rows of what they touch.
            longest: lists are filled up to this length, so that shorter ones share a program.

        Returns:
            ``float[Q, D']``.
        """
        lengths = np.array([len(one) for one in neighbours], int)
        longest = power_of_two(max(int(lengths.max(initial=0)), longest, _LEAST_LENGTH))
        size = max(1, min(_AT_ONCE, power_of_two(len(lengths)), _PLACES_AT_ONCE // longest))
        blocks = []
        for start in range(0, max(1, len(lengths)), size):
            rows, counts = np.zeros((size, longest), np.int32), np.zeros(size, int)
            for at, one in enumerate(neighbours[start : start + size]):
                rows[at, : len(one)], counts[at] = one, len(one)
            inside = np.arange(longest) < counts[:, None]
            blocks.append(np.asarray(_made(self.maker, rows, inside)))
        return np.concatenate(blocks)[: len(lengths)]


class FoldIn(NamedTuple):
    """What a run makes newcomers of.

    Attributes:
        users: makes vectors of new users from rows of items.
        items: makes vectors of new items from rows of users.
    """

    users: Making
    items: Making


def fold_in_of(
    tables: Tables, train: CsrRows | None, offset_columns: int = 0, learnt: Learnt | None = None
) -> FoldIn:
    """Get ready for newcomers.

    Args:
        tables: the vectors that rank.
        train: row u holds the items that user u's vector was made from; None where that is unknown:
            the map is then the identity, and neighbours count alike.
        offset_columns: how many last columns only add to scores.
        learnt: what the model learnt; None where only its vectors are at hand.
    """
    if learnt is not None and isinstance(learnt.model, MultiscaleModel) and learnt.model.layers:
        return _by_diffusion(learnt, learnt.model)
    is_factorised = type(tables) is InnerProduct and learnt is not None and not learnt.model.layers
    vectors = tuple(np.asarray(table) for table in tables.embeddings())
    sides = [
        _by_vectors(made, others, edges, offset_columns, is_factorised)
        for made, others, edges in zip(vectors, vectors[::-1], _both_ways(train), strict=True)
    ]
    return FoldIn(*sides)


def _by_diffusion(learnt: Learnt, model: MultiscaleModel) -> FoldIn:
    graph, params = training_graph(learnt.split), jax.device_put(learnt.params)
    operator = model.operator_of(graph)
    sent, received, first = map(np.asarray, _diffused(model, params, operator))
    table, (own_power, other_power) = np.asarray(params.table), POWERS[model.normalization]
    users, items = slice(graph.num_users), slice(graph.num_users, None)
    weights = graph.weights()
    unit = 1 if weights is None else weights.mean()
    degrees_of = [rows.degrees() / unit for rows in (graph.items_of_user, graph.users_of_item)]
    sides = []
    for is_item, (made, others) in enumerate([(users, items), (items, users)]):
        known, degrees = degrees_of[is_item] > 0, degrees_of[1 - is_item]
        mapping = first * _linear_map(received[made][known], table[made][known])
        mapping += np.eye(len(mapping), dtype=sent.dtype)
        scales = ((degrees + 1.0) ** other_power).astype(sent.dtype)
        sums = Received(
            jax.device_put(scales[:, None] * sent[others]), jax.device_put(mapping), own_power
        )
        sides.append(Making(Scored(sums, params, model, learnt.score, bool(is_item))))
    return FoldIn(*sides)


@functools.partial(jax.jit, static_argnums=0)
def _diffused(
    model: MultiscaleModel, params: Any, operator: Operator
) -> tuple[NodeTable, NodeTable, Scalar]:
    """What each node sends, what each receives, and α_0."""
    sent = model.sent(params, operator)
    return sent, diffuse(operator, sent), jnp.asarray(model.weights(params), sent.dtype)[0]


def _both_ways(train: CsrRows | None) -> list[tuple[np.ndarray, np.ndarray] | None]:
    """The rows of users and of items, one of each a training pair; and the other way round."""
    if train is None:
        return [None, None]
    users = np.repeat(np.arange(train.num_rows), np.asarray(train.lengths()))
    items = np.asarray(train.columns)[: len(users)]
    return [(users, items), (items, users)]


def _by_vectors(
    made: np.ndarray,
    others: np.ndarray,
    edges: tuple[np.ndarray, np.ndarray] | None,
    offset_columns: int,
    is_factorised: bool,
) -> Making:
    """Newcomers from final vectors alone, ``float[n, D']``, of their own kind and of the other."""
    width = made.shape[1] - offset_columns
    given, kind = others[:, :width], made.dtype
    known = np.arange(len(made)) if edges is None else np.unique(edges[0])
    trained = made[known] if len(known) else made
    length = np.linalg.norm(trained[:, :width], axis=1).mean()
    if is_factorised:
        gram = given.T @ given
        ridge = _SQUARES_RIDGE * np.trace(gram) / width * np.eye(width, dtype=kind)
        others_weigh = jax.device_put(_OTHERS_WEIGHT * gram + ridge)
        vectors = LeastSquares(jax.device_put(given), others_weigh)
    else:
        degrees, mapping = np.zeros(len(others)), np.eye(width, dtype=kind)
        if edges is not None and len(known):
            degrees = np.bincount(edges[1], minlength=len(others))
            received = _received(edges, given, len(made))[known]
            mapping = _linear_map(received, trained[:, :width])
        weights = ((degrees + 1.0) ** -0.5).astype(kind)
        sent = jax.device_put(weights[:, None] * given)
        vectors = Received(sent, jax.device_put(mapping), -0.5)
    offsets = jnp.asarray(trained[:, width:].mean(axis=0))
    return Making(OfOneLength(vectors, jnp.asarray(length), offsets))


def _received(
    edges: tuple[np.ndarray, np.ndarray], vectors: np.ndarray, num_made: int
) -> np.ndarray:
    """What trained nodes receive through the symmetric Ã, ``float[n, D]``."""
    shape = (num_made, len(vectors))
    matrix = scipy.sparse.csr_array((np.ones(len(edges[0]), vectors.dtype), edges), shape=shape)
    scales = (np.maximum(matrix.sum(axis=axis), 1) ** -0.5 for axis in (1, 0))
    own, other = (scale.astype(vectors.dtype)[:, None] for scale in scales)
    return own * (matrix @ (other * vectors))


def _linear_map(from_: np.ndarray, to: np.ndarray) -> np.ndarray:
    """W of least ‖from W − to‖² + λ‖W‖², with λ a share of the mean eigenvalue of the Gram matrix.

    Nobody is left out of what they are estimated by: one row more or less changes little.
    """
    gram = from_.T @ from_
    ridge = _MAP_RIDGE * np.trace(gram) / len(gram)
    # No rows, or only zeros: nothing can be told.
    ridge = ridge if ridge > 0 else 1
    return np.linalg.solve(gram + ridge * np.eye(len(gram), dtype=gram.dtype), from_.T @ to)
