"""Scores f(u, i) of a user's and an item's final vectors: inner product, cosine, or a network."""

from __future__ import annotations

import dataclasses
from typing import Any, cast

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp

from lightgcn_jax.arrays import Array, Float, Ids, ItemTable, PRNGKey, UserTable, Vectors
from lightgcn_jax.evaluation.scorer import InnerProduct, Scorer, Tables
from lightgcn_jax.fields import SWITCH, Checked, at_least, setting, whole

# Hidden entries of the network that ranking holds at once for a query: it works through the items.
_HIDDEN_AT_ONCE = 1 << 16


class Score(Checked):
    """How a user's and an item's vectors become a score, in training and in ranking.

    A score of one's own derives from this class and defines ``__call__``, which is traced.

    Attributes:
        popularity_offset: γ; γ·log(1 + an item's training users) is added to its scores.
    """

    popularity_offset: float = 0.0

    @property
    def offset_columns(self) -> int:
        """How many last columns of the ranked vectors hold the popularity offset."""
        return int(self.popularity_offset > 0)

    def init(self, key: PRNGKey, width: int) -> Any:
        """What the score learns, a pytree; None for a score without parameters.

        Args:
            key: randomness of the initial values.
            width: D', the columns of the vectors.
        """
        del key, width

    def __call__(self, head: Any, users: Vectors, items: Array) -> Float[Array, "batch items"]:
        """The score of each user and each of its items.

        Args:
            head: what :meth:`init` gave, as learnt so far.
            users: ``float[B, D']``.
            items: ``float[M, D']``, shared by all users, or ``float[B, n, D']``, a set for each.

        Returns:
            ``float[B, M]`` or ``float[B, n]``.
        """
        del head
        return _products(users, items)

    def vectors(
        self, users: UserTable, items: ItemTable, offsets: Float[Array, " items"] | None
    ) -> tuple[UserTable, ItemTable]:
        """The vectors that ranking keeps; the popularity offset becomes a last column, which holds
        1 for a user and the offset for an item.

        Args:
            users: ``float[U, D']``.
            items: ``float[I, D']``.
            offsets: ``float[I]``, what is added to each item's scores; None for nothing.
        """
        if offsets is None:
            return users, items
        users = jnp.pad(users, ((0, 0), (0, 1)), constant_values=1)
        return users, jnp.concatenate([items, offsets[:, None]], axis=1)

    def scorer(self, users: UserTable, items: ItemTable, head: Any) -> Scorer:
        """What ranks by the vectors that :meth:`vectors` gave.

        Args:
            users: ``float[U, D'']``.
            items: ``float[I, D'']``.
            head: what was learnt beside the vectors.
        """
        return HeadScorer(users, items, head, self)


@dataclasses.dataclass(frozen=True)
class Inner(Score):
    """Inner products ⟨u, i⟩.

    Attributes:
        popularity_offset: γ; γ·log(1 + an item's training users) is added to its scores, in
            training and in ranking.
    """

    popularity_offset: float = setting(0.0, at_least(0))

    def __call__(self, head: Any, users: Vectors, items: Array) -> Float[Array, "batch items"]:
        """The inner product of each user and each of its items, as :meth:`multiplied` has them.

        Args:
            head: not used.
            users: ``float[B, D']``.
            items: ``float[M, D']`` or ``float[B, n, D']``.

        Returns:
            ``float[B, M]`` or ``float[B, n]``.
        """
        del head
        return _products(self.multiplied(users), self.multiplied(items))

    def multiplied(self, vectors: Array) -> Array:
        """The vectors of users or items whose inner products are the scores; by default their own.

        Args:
            vectors: ``float[..., D']``.
        """
        return vectors

    def scorer(self, users: UserTable, items: ItemTable, head: Any) -> InnerProduct:
        """Ranks by inner products.

        Args:
            users: ``float[U, D'']``.
            items: ``float[I, D'']``.
            head: not used.
        """
        del head
        return InnerProduct(users, items)


@dataclasses.dataclass(frozen=True)
class Cosine(Inner):
    """Cosines ⟨u, i⟩ / (‖u‖ ‖i‖); a vector of zeros has the cosine 0 to all.

    Attributes:
        popularity_offset: γ; γ·log(1 + an item's training users) is added to its scores, in
            training and in ranking. A cosine alone cannot say that everybody likes an item.
        ranked_by_length: rank by inner products: training compares directions, and lengths, which
            it leaves to the diffusion, tell popular items in ranking.
    """

    ranked_by_length: bool = setting(False, SWITCH)

    def multiplied(self, vectors: Array) -> Array:
        """The vectors at length 1.

        Args:
            vectors: ``float[..., D']``.
        """
        return unit_rows(vectors)

    def vectors(
        self, users: UserTable, items: ItemTable, offsets: Float[Array, " items"] | None
    ) -> tuple[UserTable, ItemTable]:
        """Vectors of length 1, whose inner products are the cosines, or as they are where lengths
        count; else as :meth:`Score.vectors`.

        Args:
            users: ``float[U, D']``.
            items: ``float[I, D']``.
            offsets: ``float[I]``, what is added to each item's scores; None for nothing.
        """
        if not self.ranked_by_length:
            users, items = unit_rows(users), unit_rows(items)
        return super().vectors(users, items, offsets)


@dataclasses.dataclass(frozen=True)
class MLP(Score):
    """Scores of a network of one hidden layer, see :class:`MLPHead`.

    Attributes:
        hidden: width of the hidden layer.
    """

    hidden: int = setting(64, whole(1))

    def init(self, key: PRNGKey, width: int) -> Any:
        """The network's flax variables.

        Args:
            key: randomness of the weights.
            width: D', the columns of the vectors.
        """
        return MLPHead(self.hidden).init(key, jnp.zeros((1, width)), jnp.zeros((1, width)))

    def __call__(self, head: Any, users: Vectors, items: Array) -> Float[Array, "batch items"]:
        """The network's score of each user and each of its items.

        Args:
            head: the network's flax variables.
            users: ``float[B, D']``.
            items: ``float[M, D']`` or ``float[B, n, D']``.
        """
        items = items if items.ndim == 3 else items[None]
        return cast(Array, MLPHead(self.hidden).apply(head, users[:, None], items))


class MLPHead(nn.Module):
    """w · ReLU(A u + B i + b) + c: a network of one hidden layer over u and i side by side.

    The hidden layer of the concatenation is a sum of two linear maps, each made once for a user and
    once for an item: O((users + items) D H) beside O(H) a pair.

    Attributes:
        hidden: H, the width of the hidden layer.

    References:
        He et al. 2017, equation 10, with one hidden layer.
    """

    hidden: int

    def setup(self):
        """Name the three linear maps."""
        self.of_user = nn.Dense(self.hidden)
        self.of_item = nn.Dense(self.hidden, use_bias=False)
        self.output = nn.Dense(1)

    def __call__(self, users: Array, items: Array) -> Array:
        """Scores of pairs.

        Args:
            users: ``float[..., D]``.
            items: ``float[..., D]``, broadcast against the users.

        Returns:
            ``float[...]``.
        """
        return self.output(nn.relu(self.of_user(users) + self.of_item(items)))[..., 0]


def unit_rows(vectors: Array) -> Array:
    """Vectors scaled to length 1; zeros stay zeros, with a gradient of zero.

    Args:
        vectors: ``float[..., D]``.
    """
    squares = jnp.square(vectors).sum(axis=-1, keepdims=True)
    empty = squares == 0
    return jnp.where(empty, 0, vectors / jnp.sqrt(jnp.where(empty, 1, squares)))


def _products(users: Array, items: Array) -> Array:
    if items.ndim == 2:
        return users @ items.T
    return jnp.einsum("bd,bnd->bn", users, items)


@flax.struct.dataclass
class HeadScorer(Tables):
    """Ranks by a score that is no inner product, a chunk of items at a time.

    Attributes:
        queries: ``float[U, D]``, the users' final embeddings.
        items: ``float[I, D]``.
        head: what the score learnt.
        score: the score.
    """

    head: Any = None
    score: Score = flax.struct.field(pytree_node=False, default_factory=Inner)

    @property
    def block_bytes_per_query(self) -> int:
        """The query's vector, the hidden layers of a chunk, and the scores before they are
        joined."""
        return 4 * (self.queries.shape[1] + _HIDDEN_AT_ONCE + self.num_items)

    def scores(self, rows: Ids) -> Float[Array, "items queries"]:
        """Scores of all items for some users.

        Args:
            rows: ``int32[Q]``, users.
        """
        # The last columns may hold a popularity offset, which the score itself never sees.
        width = self.items.shape[1] - self.score.offset_columns
        users, added = jnp.split(self.queries[rows], [width], axis=1)
        chunk = max(1, _HIDDEN_AT_ONCE // getattr(self.score, "hidden", width))

        def of_item(item: Float[Array, " dim"]) -> Float[Array, " queries"]:
            own = self.score(self.head, users, item[None, :width])[:, 0]
            return own + added @ item[width:] if self.score.offset_columns else own

        with jax.default_matmul_precision("highest"):
            return jax.lax.map(of_item, self.items, batch_size=chunk)

    def pair_scores(self, rows: Ids, items: Ids) -> Float[Array, " pairs"]:
        """Scores of single pairs.

        Args:
            rows: ``int32[P]``, users.
            items: ``int32[P]``.
        """
        width = self.items.shape[1] - self.score.offset_columns
        users, added = jnp.split(self.queries[rows], [width], axis=1)
        own, columns = jnp.split(self.items[items], [width], axis=1)
        return self.score(self.head, users, own[:, None])[:, 0] + (added * columns).sum(axis=1)
