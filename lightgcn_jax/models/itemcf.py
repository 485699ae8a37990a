"""Item-based collaborative filtering by cosine (Deshpande and Karypis 2004, section 4).

Every user's row of the interaction matrix is scaled to length 1, so that a user of few items says
more about each; items are compared by the cosine of their columns; of each item's cosines the T
largest are kept; a user's score of an item is the sum of the cosines that the user's items keep to
it. Where interactions have weights, the matrix holds them, and so do the sums.
"""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import scipy.sparse

from lightgcn_jax.arrays import Array, Float, Ids, Int, PRNGKey, check_array
from lightgcn_jax.data.pairs import check_rows
from lightgcn_jax.fields import setting, whole
from lightgcn_jax.graph.bipartite import BipartiteGraph, CsrRows, fold_rows
from lightgcn_jax.graph.normalization import normalized_interactions
from lightgcn_jax.models.closed_form import ClosedForm, Tensors

# Cosines of one block of items, before the smallest are dropped: about 200 MB while it lasts.
_BLOCK_COSINES = 1 << 22
# Cosines added to a block of scores at once.
_ADDED_AT_ONCE = 1 << 18


class Neighbours(NamedTuple):
    """The items most like each item, in ascending order of rows.

    Attributes:
        items: ``int32[I, T]``, I where an item has fewer than T that it shares a user with.
        cosines: ``float32[I, T]``, 0 there.
    """

    items: np.ndarray
    cosines: np.ndarray


def nearest_items(graph: BipartiteGraph, neighbours: int) -> Neighbours:
    """Find every item's T nearest items by cosine, ties to the lower row.

    The products of one block of items after another are made sparsely on the host, Σ_u |N_u|²
    multiplications in all; memory is that of a block (at most its bound or one item's cosines) and
    of the result, 8·I·T bytes.

    Args:
        graph: the interactions.
        neighbours: T.
    """
    num_items = graph.num_items
    users = normalized_interactions(graph, "none").as_scipy()
    degrees = np.diff(users.indptr)
    items = users.T.tocsr()
    # Rows of length 1 multiply to w_ui w_uj / ‖w_u‖² for every user u that both items have.
    owners, weights = np.repeat(np.arange(graph.num_users), degrees), users.data
    squared_norms = np.bincount(owners, weights**2, minlength=graph.num_users)
    users.data = weights / squared_norms[owners]
    squared_lengths = np.bincount(users.indices, weights * users.data, minlength=num_items)
    inverse_lengths = 1 / np.sqrt(np.where(squared_lengths > 0, squared_lengths, 1))

    most = min(neighbours, max(1, num_items - 1))
    shape = num_items, most
    found = Neighbours(np.full(shape, num_items, np.int32), np.zeros(shape, np.float32))
    # What a row of the product can hold at most.
    entries = scipy.sparse.csr_array(
        (np.ones(items.nnz, np.int64), items.indices, items.indptr), shape=items.shape
    )
    bounds = np.minimum(entries @ degrees.astype(np.int64), num_items)
    ends = np.cumsum(bounds)
    start, longest = 0, 1
    while start < num_items:
        before = ends[start - 1] if start else 0
        stop = max(start + 1, int(np.searchsorted(ends, before + _BLOCK_COSINES, side="right")))
        products = items[start:stop] @ users
        longest = max(longest, _keep_largest(found, start, products, inverse_lengths))
        start = stop
    return Neighbours(found.items[:, :longest].copy(), found.cosines[:, :longest].copy())


def _keep_largest(
    found: Neighbours, start: int, products: scipy.sparse.csr_array, inverse_lengths: np.ndarray
) -> int:
    """Fill in the neighbours of the items from ``start`` on; returns the most that one has."""
    products.sort_indices()
    count = len(products.indptr) - 1
    rows = np.repeat(np.arange(start, start + count), np.diff(products.indptr))
    others = products.indices
    cosines = (products.data * inverse_lengths[rows] * inverse_lengths[others]).astype(np.float32)
    # A user of 10^8 items and more could underflow a cosine to zero, which says nothing.
    apart = (rows != others) & (cosines > 0)
    rows, others, cosines = rows[apart] - start, others[apart], cosines[apart]
    lengths = np.bincount(rows, minlength=count)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    kept = np.minimum(lengths, found.items.shape[1])

    # The bits of a positive float order as the float: one sort of integers ranks all rows.
    bits = cosines.view(np.int32).astype(np.int64)
    ranked = np.sort(rows.astype(np.int64) << 32 | (0x7FFFFFFF - bits))
    filled = kept > 0
    last = np.full(len(kept), np.iinfo(np.int64).max)
    last[filled] = 0x7FFFFFFF - (ranked[(offsets[:-1] + kept - 1)[filled]] & 0xFFFFFFFF)
    larger, equal = bits > last[rows], bits == last[rows]
    room = kept - np.bincount(rows[larger], minlength=len(kept))
    chosen = larger | (equal & (_places(equal, offsets, lengths) < room[rows]))
    places = _places(chosen, offsets, lengths)[chosen]
    found.items[start + rows[chosen], places] = others[chosen]
    found.cosines[start + rows[chosen], places] = cosines[chosen]
    return int(kept.max(initial=0))


def _places(marked: np.ndarray, offsets: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """How many of an entry's row are marked before it."""
    before = np.concatenate([[0], np.cumsum(marked)])
    return before[:-1] - np.repeat(before[offsets[:-1]], lengths)


@flax.struct.dataclass
class ItemCosines:
    """Scores an item for an item by their cosine, 0 where it was not kept.

    Attributes:
        neighbours: ``int32[I, T]``, see :class:`Neighbours`.
        cosines: ``float32[I, T]``.
    """

    neighbours: Int[Array, "items neighbours"]
    cosines: Float[Array, "items neighbours"]

    @property
    def num_queries(self) -> int:
        """I."""
        return self.neighbours.shape[0]

    @property
    def num_items(self) -> int:
        """I."""
        return self.neighbours.shape[0]

    @property
    def block_bytes_per_query(self) -> int:
        """The query's neighbours and cosines."""
        return 8 * self.neighbours.shape[1]

    def scores(self, rows: Ids) -> Float[Array, "items queries"]:
        """Scores of all items for some items.

        Args:
            rows: ``int32[Q]``, items.
        """
        blank = jnp.zeros((self.num_items, rows.shape[0]), jnp.float32)
        slots = jnp.arange(rows.shape[0], dtype=jnp.int32)
        return blank.at[self.neighbours[rows], slots[:, None]].set(self.cosines[rows], mode="drop")


@flax.struct.dataclass
class ItemCfScorer(ItemCosines):
    """Scores an item by the summed cosines of a user's items to it, times their weights if any.

    The sums run over the block's entries in a fixed order; an accelerator whose scatters are not
    deterministic may differ in the last bit.

    Attributes:
        neighbours: ``int32[I, T]``, see :class:`Neighbours`.
        cosines: ``float32[I, T]``.
        items_of_user: row u holds user u's training items, and their weights if any.
    """

    items_of_user: CsrRows

    @property
    def num_queries(self) -> int:
        """U."""
        return self.items_of_user.num_rows

    @property
    def block_bytes_per_query(self) -> int:
        """The query's sums, before they are turned."""
        return 4 * self.num_items

    def scores(self, rows: Ids) -> Float[Array, "items queries"]:
        """Scores of all items for some users.

        Args:
            rows: ``int32[Q]``, users.
        """
        blank = jnp.zeros((rows.shape[0], self.num_items), jnp.float32)
        width = max(1, _ADDED_AT_ONCE // self.neighbours.shape[1])

        def add(totals: Array, slots: Array, items: Array, weights: Array | float) -> Array:
            places = slots[:, None], self.neighbours[items]
            return totals.at[places].add(_times(weights, self.cosines[items]), mode="drop")

        return fold_rows(self.items_of_user, rows, width, add, blank).T

    def pair_scores(self, rows: Ids, items: Ids) -> Float[Array, " pairs"]:
        """Scores of single pairs.

        Args:
            rows: ``int32[P]``, users.
            items: ``int32[P]``.
        """
        width = max(1, _ADDED_AT_ONCE // self.neighbours.shape[1])

        def add(totals: Array, slots: Array, held: Array, weights: Array | float) -> Array:
            wanted = items.at[slots].get(mode="fill", fill_value=-1)
            is_wanted = self.neighbours[held] == wanted[:, None]
            found = jnp.where(is_wanted, _times(weights, self.cosines[held]), 0).sum(axis=1)
            return totals.at[slots].add(found, mode="drop")

        return fold_rows(self.items_of_user, rows, width, add, jnp.zeros(len(rows), jnp.float32))

    def of_histories(
        self, histories: CsrRows, whole: CsrRows | None = None, is_trained: bool = False
    ) -> ItemCfScorer:
        """The same sums for people who were never seen: they change no cosine.

        Args:
            histories: a row of items for each.
            whole: not used; parts of a sum add up.
            is_trained: not used.

        Returns:
            A scorer whose queries are the rows.
        """
        del whole, is_trained
        return dataclasses.replace(self, items_of_user=histories)

    def item_similarity(self) -> ItemCosines:
        """The kept cosines themselves, for similar items."""
        return ItemCosines(self.neighbours, self.cosines)


def _times(weights: Array | float, cosines: Array) -> Array:
    """Each row of cosines times its weight."""
    return cosines if isinstance(weights, (int, float)) else weights[:, None] * cosines


@dataclasses.dataclass(frozen=True)
class ItemCf(ClosedForm):
    """A user's score of an item is the sum of the cosines that the user's items keep to it.

    Attributes:
        neighbours: items T that are kept for each item. The model takes 8·I·T bytes.

    References:
        Deshpande and Karypis 2004, section 4.
    """

    neighbours: int = setting(500, whole(1))

    tensors = ("neighbours", "cosines")
    uses_operator = False

    def fit(self, graph: BipartiteGraph, key: PRNGKey, backend: Any = "auto") -> ItemCfScorer:
        """Find each item's nearest items.

        Args:
            graph: the interactions.
            key: not used.
            backend: not used.
        """
        found = nearest_items(graph, self.neighbours)
        tensors = {
            "neighbours": jax.device_put(found.items),
            "cosines": jax.device_put(found.cosines),
        }
        return self.rebuilt(tensors, graph, key, backend)

    def rebuilt(
        self, tensors: Tensors, graph: BipartiteGraph, key: PRNGKey, backend: Any = "auto"
    ) -> ItemCfScorer:
        del key, backend
        near, shape = tensors["neighbours"], (graph.num_items, None)
        check_array("neighbours", near, shape, np.int32)
        check_array("cosines", tensors["cosines"], near.shape, np.float32)
        # A row that is none would be dropped or clipped without a word where it is read.
        check_rows("neighbours", np.asarray(near).ravel(), graph.num_items + 1)
        return ItemCfScorer(items_of_user=graph.items_of_user, **tensors)
