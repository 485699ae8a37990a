"""Users and items about which nothing is known: no training interaction names them.

No model has anything to rank them by, so what comes out for them is its initial values, or an order
of equal scores. They are counted apart, and one of three policies says what figures make of them:

=========  =====================================================================================
skip       pairs of a user or an item without training interactions are left out of the means
popular    items are ranked for such users by their number of training users; pairs of such items
           stay, and are found where the model ranks the items high
keep       everything stays, ranked by whatever the model makes of it
=========  =====================================================================================
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import flax.struct
import jax.numpy as jnp
import numpy as np

from lightgcn_jax.arrays import Array, Bool, Float, Ids
from lightgcn_jax.data.pairs import Pairs
from lightgcn_jax.graph.bipartite import CsrRows

Cold = Literal["skip", "popular", "keep"]
"""What figures make of users and items without training interactions."""


class ColdCounts(NamedTuple):
    """What of a part no training interaction names.

    Attributes:
        users: of the part without a training interaction.
        all_users: of the part.
        items: of the part without a training interaction.
        all_items: of the part.
        pairs: of such a user or such an item.
        all_pairs: of the part.
    """

    users: int
    all_users: int
    items: int
    all_items: int
    pairs: int
    all_pairs: int

    def sentence(self, part: str, policy: Cold) -> str | None:
        """What a person should know of it; None where there is nothing.

        Args:
            part: the part's name.
            policy: what figures make of it.
        """
        if not self.pairs:
            return None
        named = [
            f"{count:,} of {total:,} {part} {kind}"
            for kind, count, total in (
                ("users", self.users, self.all_users),
                ("items", self.items, self.all_items),
            )
            if count
        ]
        done = {
            "skip": f"their {self.pairs:,} of {self.all_pairs:,} pairs are left out of the means",
            "popular": "items are ranked for these users by popularity",
            "keep": f"their {self.pairs:,} of {self.all_pairs:,} pairs are in the means",
        }
        which = " and ".join(named)
        return f"{which} have no training interaction: {done[policy]} (cold {policy})."


def cold_counts(pairs: Pairs, train: Pairs) -> ColdCounts:
    """Count what of a part no training interaction names.

    Args:
        pairs: the part.
        train: the training pairs.
    """
    users, items = pairs.named("users"), pairs.named("items")
    return ColdCounts(
        len(np.setdiff1d(users, train.named("users"))),
        len(users),
        len(np.setdiff1d(items, train.named("items"))),
        len(items),
        int((~is_known(pairs, train)).sum()),
        len(pairs),
    )


def is_known(pairs: Pairs, train: Pairs) -> np.ndarray:
    """Whether training interactions name both ends of a pair, ``bool[E]``.

    Args:
        pairs: E pairs.
        train: the training pairs.
    """
    by_user, by_item = train.named("users"), train.named("items")
    return np.isin(pairs.users, by_user) & np.isin(pairs.items, by_item)


@flax.struct.dataclass
class PopularForCold:
    """A scorer that ranks items for users without training interactions by their popularity.

    Attributes:
        scorer: of U queries and I items.
        known: ``bool[U]``, who has training interactions.
        popularity: ``float32[I]``, training users of each item.
    """

    scorer: Any
    known: Bool[Array, " users"]
    popularity: Float[Array, " items"]

    @classmethod
    def of(cls, scorer: Any, train: CsrRows) -> PopularForCold:
        """The scorer for a run's users.

        Args:
            scorer: of U queries and I items.
            train: row u holds user u's training items.
        """
        popularity = jnp.zeros(scorer.num_items, jnp.float32).at[train.columns].add(1.0)
        return cls(scorer, train.lengths() > 0, popularity)

    @property
    def num_queries(self) -> int:
        """U."""
        return self.scorer.num_queries

    @property
    def num_items(self) -> int:
        """I."""
        return self.scorer.num_items

    @property
    def block_bytes_per_query(self) -> int:
        """The scorer's, and its scores."""
        return self.scorer.block_bytes_per_query + 4 * self.num_items

    def scores(self, rows: Ids) -> Float[Array, "items queries"]:
        """Scores of all items for some users.

        Args:
            rows: ``int32[Q]``, users.
        """
        scores = self.scorer.scores(rows)
        popularity = self.popularity[:, None].astype(scores.dtype)
        return jnp.where(self.known[rows][None, :], scores, popularity)
