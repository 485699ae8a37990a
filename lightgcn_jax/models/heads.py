"""Score functions f(u, i): inner product, cosine, or a network over both vectors."""

from __future__ import annotations

from typing import Any, Literal

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp

from lightgcn_jax.arrays import Array, Float, Ids, ItemTable, PRNGKey, UserTable

ScoreName = Literal["inner", "cosine", "mlp"]

# Hidden entries of the network that ranking holds at once for a query: it works through the items.
_HIDDEN_AT_ONCE = 1 << 16


class MLPHead(nn.Module):
    """w · ReLU(A u + B i + b) + c: a network of one hidden layer over u and i side by side.

    The hidden layer of the concatenation is a sum of two linear maps, each made once for a user and
    once for an item: O((users + items) D H) beside O(H) a pair.

    References:
        He et al. 2017, equation 10, with one hidden layer.
    """

    hidden: int

    def setup(self):
        self.of_user = nn.Dense(self.hidden)
        self.of_item = nn.Dense(self.hidden, use_bias=False)
        self.output = nn.Dense(1)

    def __call__(self, users: Array, items: Array) -> Array:
        """Scores of pairs whose vectors broadcast against each other: ``[..., D]`` to ``[...]``."""
        return self.output(nn.relu(self.of_user(users) + self.of_item(items)))[..., 0]


def init_head(key: PRNGKey, dim: int, hidden: int) -> Any:
    """The head's flax variables for vectors of ``dim`` columns."""
    return MLPHead(hidden).init(key, jnp.zeros((1, dim)), jnp.zeros((1, dim)))


def head_scores(head: Any, users: Array, items: Array) -> Array:
    """The head's scores of pairs, ``[..., D]`` against ``[..., D]``."""
    hidden = head["params"]["of_user"]["bias"].shape[0]
    scores = MLPHead(hidden).apply(head, users, items)
    assert isinstance(scores, jax.Array)
    return scores


def unit_rows(vectors: Array) -> Array:
    """Vectors scaled to length 1; zeros stay zeros, with a gradient of zero."""
    squares = jnp.square(vectors).sum(axis=-1, keepdims=True)
    empty = squares == 0
    return jnp.where(empty, 0, vectors / jnp.sqrt(jnp.where(empty, 1, squares)))


def positive_scores(
    name: ScoreName, users: Float[Array, "batch dim"], items: Array, *, head: Any = None
) -> Float[Array, " batch"]:
    """The score of each user and its item.

    Args:
        name: of the score.
        users: ``float[B, D]``.
        items: ``float[B, D]``.
        head: variables of the network, for ``mlp``.
    """
    return negative_scores(name, users, items[:, None], head=head)[:, 0]


def negative_scores(
    name: ScoreName, users: Float[Array, "batch dim"], items: Array, *, head: Any = None
) -> Float[Array, "batch negatives"]:
    """Scores of each user's negatives.

    Args:
        name: of the score.
        users: ``float[B, D]``.
        items: ``float[M, D]``, shared by the batch, or ``float[B, n, D]``, one set a user.
        head: variables of the network, for ``mlp``.
    """
    if name == "mlp":
        items = items if items.ndim == 3 else items[None]
        return head_scores(head, users[:, None], items)
    if name == "cosine":
        users, items = unit_rows(users), unit_rows(items)
    if items.ndim == 2:
        return users @ items.T
    return jnp.einsum("bd,bnd->bn", users, items)


@flax.struct.dataclass
class MLPScorer:
    """Ranks by the network.

    Attributes:
        queries: ``float[U, D]``, the users' final embeddings.
        items: ``float[I, D]``.
        head: the network's flax variables.
    """

    queries: UserTable
    items: ItemTable
    head: Any

    @property
    def num_queries(self) -> int:
        return self.queries.shape[0]

    @property
    def num_items(self) -> int:
        return self.items.shape[0]

    @property
    def block_bytes_per_query(self) -> int:
        """The query's vector, a chunk's hidden layers, and the scores before they are joined."""
        return 4 * (self.queries.shape[1] + _HIDDEN_AT_ONCE + self.num_items)

    def scores(self, rows: Ids) -> Float[Array, "items queries"]:
        users = self.queries[rows]
        hidden = self.head["params"]["of_user"]["bias"].shape[0]
        chunk = max(1, _HIDDEN_AT_ONCE // hidden)
        return jax.lax.map(
            lambda item: head_scores(self.head, users, item[None]), self.items, batch_size=chunk
        )

    def embeddings(self) -> tuple[UserTable, ItemTable]:
        return self.queries, self.items
