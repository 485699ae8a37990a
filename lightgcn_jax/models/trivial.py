"""The floor that every other model stands on: most popular, and random."""

from __future__ import annotations

import dataclasses
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp

from lightgcn_jax.arrays import Array, Float, Ids, PRNGKey
from lightgcn_jax.graph.bipartite import BipartiteGraph
from lightgcn_jax.models.closed_form import ClosedForm


@flax.struct.dataclass
class PopularScorer:
    """Scores an item by its training users, or what these weigh, alike for everybody.

    Attributes:
        popularity: ``float32[I]``.
        num_queries: U.
    """

    popularity: Float[Array, " items"]
    num_queries: int = flax.struct.field(pytree_node=False)

    @property
    def num_items(self) -> int:
        """I."""
        return self.popularity.shape[0]

    @property
    def block_bytes_per_query(self) -> int:
        """Nothing."""
        return 0

    def scores(self, rows: Ids) -> Float[Array, "items queries"]:
        """Scores of all items for some users.

        Args:
            rows: ``int32[Q]``, users.
        """
        return jnp.broadcast_to(self.popularity[:, None], (self.num_items, rows.shape[0]))

    def pair_scores(self, rows: Ids, items: Ids) -> Float[Array, " pairs"]:
        """Scores of single pairs.

        Args:
            rows: ``int32[P]``, users.
            items: ``int32[P]``.
        """
        del rows
        return self.popularity[items]


@flax.struct.dataclass
class RandomScorer:
    """Scores uniform in [0, 1), drawn for each user and item from a key: no block changes them.

    Attributes:
        key: randomness of all scores.
        num_queries: U.
        num_items: I.
    """

    key: PRNGKey
    num_queries: int = flax.struct.field(pytree_node=False)
    num_items: int = flax.struct.field(pytree_node=False)

    @property
    def block_bytes_per_query(self) -> int:
        """The query's words."""
        return 8 * self.num_items

    def scores(self, rows: Ids) -> Float[Array, "items queries"]:
        """Scores of all items for some users.

        Args:
            rows: ``int32[Q]``, users.
        """
        # Two words a user are drawn, and hashed with the item: JAX's own generator takes a minute
        # for the billion scores of a ranking that takes seconds.
        keys = jax.vmap(jax.random.fold_in, in_axes=(None, 0))(self.key, rows)
        words = jax.vmap(lambda key: jax.random.bits(key, (2,), jnp.uint32))(keys)
        items = jnp.arange(self.num_items, dtype=jnp.uint32) * jnp.uint32(0x9E3779B9)
        mixed = _mix(_mix(items[:, None] + words[None, :, 0]) ^ words[None, :, 1])
        return (mixed >> 8).astype(jnp.float32) * jnp.float32(2**-24)


def _mix(words: Array) -> Array:
    """Every bit of a word decides every bit of the result: MurmurHash3's finaliser (Appleby)."""
    words = (words ^ (words >> 16)) * jnp.uint32(0x85EBCA6B)
    words = (words ^ (words >> 13)) * jnp.uint32(0xC2B2AE35)
    return words ^ (words >> 16)


@dataclasses.dataclass(frozen=True)
class Popular(ClosedForm):
    """An item's score is its number of training users, Σ_u R_ui: where interactions have weights,
    their sum."""

    uses_operator = False

    def fit(self, graph: BipartiteGraph, key: PRNGKey, backend: Any = "auto") -> PopularScorer:
        """Count each item's users.

        Args:
            graph: the interactions.
            key: not used.
            backend: not used.
        """
        del key, backend
        popularity = jnp.asarray(graph.users_of_item.degrees(), jnp.float32)
        return PopularScorer(popularity, graph.num_users)


@dataclasses.dataclass(frozen=True)
class Random(ClosedForm):
    """Scores are drawn."""

    uses_key = True
    uses_operator = False

    def fit(self, graph: BipartiteGraph, key: PRNGKey, backend: Any = "auto") -> RandomScorer:
        """Take the key and the sizes.

        Args:
            graph: the interactions.
            key: randomness of all scores.
            backend: not used.
        """
        del backend
        return RandomScorer(key, graph.num_users, graph.num_items)
