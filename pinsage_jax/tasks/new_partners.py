"""Held-out pairs of items that training never saw together.

The known partners of a query, the items that share a training context with it, take the first ranks
of anything that has learnt the training contexts, and a held-out pair may well be of two of them.
Here they are left out of the ranking, and the pairs that ask for one are not asked.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import jax
import numpy as np
import scipy.sparse

from lightgcn_jax.errors import InputError
from lightgcn_jax.graph.bipartite import CsrRows, csr_rows
from pinsage_jax.tasks.task import HeldOut, Task

# How many partners of a block of queries are held beside the result: about 100 MB while it lasts.
_BLOCK_PARTNERS = 1 << 22


class NewPartners(NamedTuple):
    """Held-out pairs that share no training context.

    Attributes:
        held_out: the pairs, with all partners of a query among its seen items. Every query keeps
            its row; one without a pair has nothing relevant and the seen items that it had.
        kept: how many pairs there are.
        asked: how many there were.
    """

    held_out: HeldOut
    kept: int
    asked: int

    def describe(self) -> str:
        """One line of counts."""
        return f"{self.kept:,} of {self.asked:,} pairs share no training context"


def only_new_partners(task: Task, held_out: HeldOut) -> NewPartners:
    """Leave the known partners of each query out, and the pairs that ask for one.

    Memory is O(E), that of the partners of the queries that keep a pair, 4 bytes each, and that of
    one block.

    Args:
        task: its training edges say which items share a context.
        held_out: pairs of one item to others.

    Raises:
        InputError: a query has several items.
    """
    if held_out.queries.shape[1] != 1:
        raise InputError(
            "queries: new partners are those of one item, expected queries of one item, "
            f"got up to {held_out.queries.shape[1]}"
        )
    contexts = _contexts_of_items(task)
    queries = held_out.queries[:, 0]
    owners = np.repeat(np.arange(len(queries)), np.asarray(held_out.relevant.lengths()))
    positives = np.asarray(held_out.relevant.columns)
    common = contexts[queries[owners]].multiply(contexts[positives])
    new = np.asarray(common.sum(axis=1)).ravel() == 0
    relevant = csr_rows(owners[new], positives[new], len(queries))
    # The empty row stands for a query that nothing is asked of.
    asked = np.where(np.asarray(relevant.lengths()) > 0, queries, -1)
    seen = _with_partners(held_out.seen, contexts, asked, task.train.num_items)
    return NewPartners(HeldOut(held_out.queries, relevant, seen), int(new.sum()), len(new))


def _contexts_of_items(task: Task) -> scipy.sparse.csr_array:
    """How often each item stands in each training context, and an empty row behind the last item.

    ``int32[I + 1, C]``; a query of −1 finds the empty row.
    """
    train = task.train
    ones = np.ones(len(train), np.int32)
    shape = train.num_items + 1, train.num_users
    return scipy.sparse.coo_array((ones, (train.item_rows, train.user_rows)), shape=shape).tocsr()


def _with_partners(
    seen: CsrRows, contexts: scipy.sparse.csr_array, queries: np.ndarray, num_items: int
) -> CsrRows:
    """Seen items, and whatever shares a context with the query of a row."""
    items_of_context = contexts.T.tocsr()
    of_query = contexts[queries]
    own = scipy.sparse.csr_array(
        (np.ones(len(seen.columns), np.int32), np.array(seen.columns), np.array(seen.offsets)),
        shape=(len(queries), num_items + 1),
    )
    lengths, columns = [np.zeros(0, np.int64)], [np.zeros(0, np.int32)]
    for block in _blocks(of_query, np.diff(items_of_context.indptr), num_items):
        both = own[block] + of_query[block] @ items_of_context
        both.sort_indices()
        lengths.append(np.diff(both.indptr))
        columns.append(both.indices.astype(np.int32))
    counts = np.concatenate(lengths)
    return CsrRows(
        offsets=jax.device_put(np.concatenate([[0], np.cumsum(counts)]).astype(np.int32)),
        columns=jax.device_put(np.concatenate(columns)),
        longest=int(counts.max(initial=0)),
    )


def _blocks(of_query: scipy.sparse.csr_array, sizes: np.ndarray, num_items: int) -> Iterator[slice]:
    """Rows of queries whose partners fit into a block, at least one row each.

    Args:
        of_query: the contexts of each query.
        sizes: how many items each context has.
        num_items: the most partners that a query can have.
    """
    rows = np.repeat(np.arange(len(of_query.indptr) - 1), np.diff(of_query.indptr))
    bounds = np.bincount(rows, sizes[of_query.indices], minlength=len(of_query.indptr) - 1)
    ends = np.cumsum(np.minimum(bounds, num_items))
    start = 0
    while start < len(ends):
        before = ends[start - 1] if start else 0
        found = np.searchsorted(ends, before + _BLOCK_PARTNERS, side="right")
        stop = max(start + 1, int(found))
        yield slice(start, stop)
        start = stop
