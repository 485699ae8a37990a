"""Score all items, leave out the seen ones, keep the top K: exact, in blocks, on the device.

Ties are broken by the lower item row, as a stable sort of all items by descending score does; a run
puts its rows into an order that no id has a say in (``Split.in_canonical_order``). On a CPU with
the compiled kernels the scores are read once; elsewhere :func:`exact_top_k` sorts a few.
"""

from __future__ import annotations

import dataclasses
import numbers
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from lightgcn_jax.arrays import Ids, UserTable, few_lengths, power_of_two
from lightgcn_jax.data.pairs import Pairs, check_rows
from lightgcn_jax.diffusion.native import runs_by_default
from lightgcn_jax.errors import InputError
from lightgcn_jax.evaluation.block import rank_block, tables_of_one_pass
from lightgcn_jax.evaluation.scorer import InnerProduct, Scorer, restricted_to
from lightgcn_jax.evaluation.seen import SeenRows, whole_rows
from lightgcn_jax.evaluation.sharded import (
    ReadySharded,
    ShardedTables,
    rank_sharded,
    ready_sharded,
)
from lightgcn_jax.evaluation.top_k import Ranking, group_width
from lightgcn_jax.fields import scalar
from lightgcn_jax.graph.bipartite import CsrRows, csr_rows

ItemsOfUsers = CsrRows | SeenRows | Pairs | tuple[ArrayLike, ArrayLike]
"""Items of each user: rows, a part of a split, or two columns ``int[E]`` of users and items."""

# Scores of one block, in elements: 16 MB, below the size from which the C allocator maps fresh
# pages for every block, which made the matrix product three times slower.
_BLOCK_SCORES = 4_000_000
# Products of one block that holds none of its scores: some hundredths of a second. The kernel takes
# as many queries at once.
_BLOCK_PRODUCTS, _QUERIES_OF_PASS = 1 << 31, 256
# What a scorer may hold for a block beside the scores.
_BLOCK_BYTES = 48_000_000
# Queries of a block come in multiples of this, so that a row of scores is whole vector registers:
# 96 in place of 97 made inner products a tenth to a third faster, sparse products a third.
_QUERIES_STEP = 32
# Blocks under way at once: sorting keeps one core busy, so the next block multiplies meanwhile. Two
# cores gain a third; more blocks gain nothing and hold more memory. It takes threads, for a CPU
# runs the programs that one thread has dispatched one after another.
_WORKERS = 2
# Wider groups, for lower cut-offs still, would gain less than their padding costs.
_LEAST_CUT_OFF = 8
# Capacities for seen items are rounded up to this, so that few programs are ever compiled.
_CAPACITY_STEP = 4096
# Interactions of a log that is copied for every ranking, which takes microseconds.
_MOST_FILLED_UP = 1 << 16
# Queries that are filled up with others, so that parts of a small log share programs.
_MOST_QUERIES_FILLED_UP = 512
# Where any queries of a block stay below this, its capacity is theirs, so that none is compiled.
_LARGEST_FIXED_CAPACITY = 1 << 22


class ReadyScorer(NamedTuple):
    """A scorer made ready for ranking: on the device, and filled up to whole groups of items.

    Attributes:
        scorer: of N rows, among them the C items that may be ranked, in row order.
        excluded: ``int32[X]``, the other rows, repeated at will.
        places: ``int32[I]``, the row of each item, out of range for those that may not be ranked;
            None where every item is its own row.
        items: ``int32[N]``, the item of each row; None where every item is its own row.
        num_items: C.
        all_items: I.
        group: the power of two that divides N; groups are no wider.
    """

    scorer: Scorer
    excluded: Ids
    places: Ids | None
    items: np.ndarray | None
    num_items: int
    all_items: int
    group: int


def ready_scorer(scorer: Scorer | ReadyScorer, candidates: ArrayLike | None = None) -> ReadyScorer:
    """Do what all rankings by a scorer share: choose items, fill up, put on the device.

    A few candidates are scored alone; where they are many, all items are scored and the others
    excluded, which copies nothing. Sizes are rounded up, so that few programs are ever compiled.

    Args:
        scorer: R queries and I items; or what this made of it without candidates.
        candidates: ``int[C]``, the item rows that may be ranked, ascending; None for all.

    Returns:
        What :func:`rank` and :func:`lightgcn_jax.evaluate` take in the place of the scorer.

    Raises:
        InputError: candidates are out of range or do not ascend, or were chosen before.
    """
    if candidates is None:
        return scorer if isinstance(scorer, ReadyScorer) else _all_items(scorer)
    if not isinstance(scorer, ReadyScorer):
        inner, total = scorer, scorer.num_items
    elif scorer.num_items == scorer.all_items:
        inner, total = scorer.scorer, scorer.all_items
    else:
        raise InputError("candidates: expected none beside a scorer whose candidates are chosen")
    rows = np.asarray(candidates)
    if rows.size:
        check_rows("candidates", rows, total)
    rows = rows.astype(np.int32)
    if (np.diff(rows) <= 0).any():
        raise InputError("candidates: expected distinct item rows in ascending order")
    if 4 * len(rows) < total:
        return _few_items(inner, rows, total)
    ready = scorer if isinstance(scorer, ReadyScorer) else _all_items(scorer)
    others = np.setdiff1d(np.arange(total, dtype=np.int32), rows, assume_unique=True)
    excluded = np.concatenate([np.asarray(ready.excluded), others])
    if excluded.size:
        excluded = np.pad(excluded, (0, power_of_two(len(excluded)) - len(excluded)), "edge")
    return ready._replace(excluded=jax.device_put(excluded), num_items=len(rows))


def ready_to_rank(
    scorer: Scorer | ReadyScorer | ShardedTables | ReadySharded, candidates: ArrayLike | None = None
) -> ReadyScorer | ReadySharded:
    """As :func:`ready_scorer`, of tables on a mesh too.

    Args:
        scorer: what ranks, or what this made of it.
        candidates: as there; none of tables on a mesh.

    Raises:
        InputError: as there.
    """
    if not isinstance(scorer, ShardedTables | ReadySharded):
        return ready_scorer(scorer, candidates)
    if candidates is not None:
        raise InputError("candidates: expected none beside tables on a mesh")
    if isinstance(scorer, ReadySharded):
        return scorer
    return ready_sharded(scorer, _LEAST_CUT_OFF)


def _all_items(scorer: Scorer) -> ReadyScorer:
    count = scorer.num_items
    group = group_width(count, min(count, _LEAST_CUT_OFF))
    padding = -count % group
    filled = jax.device_put(restricted_to(scorer, None, padding))
    excluded = jnp.arange(count, count + padding, dtype=jnp.int32)
    return ReadyScorer(filled, excluded, None, None, count, count, group)


def _few_items(scorer: Scorer, chosen: np.ndarray, total: int) -> ReadyScorer:
    size = len(chosen)
    count = power_of_two(size)
    places = np.full(total, count, np.int32)
    places[chosen] = np.arange(size, dtype=np.int32)
    items = np.pad(chosen, (0, count - size), constant_values=-1)
    # As many as there are rows, most of them out of range, so that their number tells nothing.
    excluded = np.where(np.arange(count) < size, count, np.arange(count)).astype(np.int32)
    filled = jax.device_put(restricted_to(scorer, jax.device_put(items.clip(0))))
    group = group_width(count, min(count, _LEAST_CUT_OFF))
    others, places = jax.device_put(excluded), jax.device_put(places)
    return ReadyScorer(filled, others, places, items, size, total, group)


def with_queries(ready: ReadyScorer, scorer: Any, queries: UserTable) -> ReadyScorer:
    """The same items for others who ask.

    Args:
        ready: what :func:`ready_scorer` made of the scorer.
        scorer: the scorer, whose field ``queries`` holds vectors.
        queries: ``float[Q, D]``, the others' vectors.
    """
    if type(ready.scorer) is InnerProduct:
        return ready._replace(scorer=InnerProduct(queries, ready.scorer.items))
    return ready_scorer(dataclasses.replace(scorer, queries=queries))


def rank(
    scorer: Scorer | ReadyScorer | ShardedTables | ReadySharded,
    rows: ArrayLike,
    k: int,
    *,
    seen: ItemsOfUsers | None = None,
    candidates: ArrayLike | None = None,
    allowed: np.ndarray | None = None,
) -> Ranking:
    """Rank items for chosen queries of a scorer, block by block.

    Args:
        scorer: R queries and I items, :class:`InnerProduct` for embeddings; or what
            :func:`ready_scorer` made of it, which saves a copy of the items at each of many calls.
            Of tables on a mesh each device ranks its own items.
        rows: ``int[Q]``, the queries to rank for.
        k: cut-off K.
        seen: items to leave out, row r for query r; None leaves out nothing.
        candidates: ``int[C]``, the item rows that may be ranked, ascending; None for all.
        allowed: ``bool[I]``, which items may be ranked, or ``bool[Q, I]``, which for each query;
            for few queries: all are scored, and another filter needs no other program; in the
            place of candidates.

    Returns:
        Host arrays: ``items int32[Q, K]`` and ``scores float32[Q, K]``.

    Raises:
        InputError: K is not in [1, C], rows or candidates are out of range or no integers, or the
            seen items do not fit.

    Examples:
        >>> from lightgcn_jax.evaluation import InnerProduct, rank
        >>> scorer = InnerProduct(np.eye(2), np.array([[1, 0], [3, 2], [2, 5]]))
        >>> rank(scorer, [0, 1], 2, seen=([0], [1])).items
        array([[2, 0],
               [2, 1]], dtype=int32)
    """
    ready = ready_to_rank(scorer, candidates)
    rows = np.asarray(rows)
    k = whole_number("k", k, 1, ready.num_items, " (items to rank)")
    if not rows.size:
        return Ranking(np.zeros((0, k), np.int32), np.zeros((0, k), np.float32))
    num_queries = ready.scorer.num_queries
    check_rows("rows", rows, num_queries)
    wanted = len(rows) if len(rows) > _MOST_QUERIES_FILLED_UP else few_lengths(len(rows))
    block_size = min(wanted, queries_at_once(ready))
    if isinstance(ready, ReadySharded):
        if allowed is not None:
            raise InputError("allowed: expected none beside tables on a mesh")
        if seen is not None and not isinstance(seen, SeenRows):
            seen = items_of_users("seen", seen, num_queries, ready.all_items)
        return rank_sharded(ready, rows, k, seen, block_size)
    # The last block is filled up with its last row, so that one program serves all blocks.
    spare = -len(rows) % block_size
    padded = rows.astype(np.int32)
    padded = np.pad(padded, (0, spare), mode="edge") if spare else padded
    blocks = padded.reshape(-1, block_size)
    capacity = 0
    if seen is not None:
        seen = items_of_users("seen", seen, num_queries, ready.all_items)
        offsets = np.asarray(seen.offsets)
        most = int((offsets[blocks + 1] - offsets[blocks]).sum(axis=1).max())
        if allowed is not None:  # few queries, as are asked for again and again
            bound = block_size * seen.longest
            most = bound if bound <= _LARGEST_FIXED_CAPACITY else power_of_two(most)
        capacity = -(-most // _CAPACITY_STEP) * _CAPACITY_STEP
        seen = _filled_up(seen)
    if allowed is not None:
        shapes = (ready.all_items,), (len(rows), ready.all_items)
        if ready.places is not None or allowed.shape not in shapes:
            raise InputError(
                f"allowed: expected bool of {shapes[0]} or {shapes[1]}, and no candidates beside "
                f"it, got {allowed.dtype}{list(allowed.shape)}"
            )
        padding = (0, spare), (0, ready.scorer.num_items - ready.all_items)
        padding = padding[-allowed.ndim :]
        allowed = np.pad(allowed, padding) if np.any(padding) else allowed
    inputs = []
    for at, block in enumerate(blocks):
        mask = allowed
        if mask is not None and mask.ndim == 2:
            mask = mask[at * block_size : (at + 1) * block_size]
        inputs.append((block, ready.scorer, ready.excluded, ready.places, seen, mask))
    width = min(ready.group, group_width(ready.scorer.num_items, k))
    static = {"k": k, "width": width, "seen_capacity": capacity}
    if len(blocks) == 1 or jax.debug_nans.value:
        ranked = [Ranking(*map(np.asarray, rank_block(*given, **static))) for given in inputs]
    else:
        # Traced and compiled in this thread, where the settings of the caller hold.
        program = rank_block.lower(*inputs[0], **static).compile()
        with ThreadPoolExecutor(_WORKERS) as workers:
            ranked = list(workers.map(lambda given: jax.device_get(program(*given)), inputs))
    best, scores = (np.concatenate(blocks)[: len(rows)] for blocks in zip(*ranked, strict=True))
    if ready.items is not None:
        best = np.where(best >= 0, ready.items[best], -1)
    return Ranking(best, scores)


def _filled_up(seen: CsrRows) -> CsrRows:
    """Rows of a small log with columns behind the last one, so that its parts share programs."""
    entries = len(seen.columns)
    filled, longest = power_of_two(entries), power_of_two(seen.longest)
    is_filled = (entries, seen.longest) == (filled, longest) and seen.weights is None
    if is_filled or not 0 < entries <= _MOST_FILLED_UP:
        return seen
    columns = np.pad(np.asarray(seen.columns), (0, filled - entries))
    return CsrRows(seen.offsets, jax.device_put(columns), longest)


def items_of_users(field: str, given: ItemsOfUsers, num_users: int, num_items: int) -> CsrRows:
    """The items of each user, or of whatever asks, as rows.

    Args:
        field: what an error calls them.
        given: rows as they are, a part of a split, or columns of users and items in any order.
        num_users: U.
        num_items: I.

    Returns:
        U rows of items.

    Raises:
        InputError: there are not U rows, ids are out of range, or a pair stands twice.
    """
    if isinstance(given, CsrRows | SeenRows):
        given = whole_rows(given)
        if given.num_rows != num_users:
            raise InputError(
                f"{field}: expected {num_users} rows, one for each query, got {given.num_rows}"
            )
        return given
    users, items = (given.users, given.items) if isinstance(given, Pairs) else given
    users, items = np.asarray(users), np.asarray(items)
    if users.shape != items.shape:
        raise InputError(
            f"{field}: expected as many items as users, got {items.size} and {users.size}"
        )
    if users.size:
        check_rows(f"{field}, users", users, num_users)
        check_rows(f"{field}, items", items, num_items)
    return csr_rows(users, items, num_users)


def whole_number(field: str, value: Any, low: int, high: int, of: str = "") -> int:
    """A whole number in a range, whether Python, NumPy or JAX holds it.

    Args:
        field: what an error calls it.
        value: the number.
        low: the least that is allowed.
        high: the most.
        of: what an error says behind the range.

    Raises:
        InputError: it is no whole number, or out of range.
    """
    number = scalar(value)
    is_whole = isinstance(number, numbers.Integral) and not isinstance(number, bool)
    if not (is_whole and low <= int(number) <= high):
        raise InputError(f"{field}: expected {low} to {high}{of}, got {number!r}")
    return int(number)


def queries_at_once(ready: ReadyScorer | ReadySharded) -> int:
    """Queries of a block: as many as its scores and the scorer's own arrays leave room for.

    Args:
        ready: what ranks.
    """
    scorer: Any = ready.scorer
    places, shards = None, 1
    if isinstance(ready, ReadySharded):  # a shard holds the scores of its own items alone
        scorer, shards = scorer.scorer, scorer.shards
    else:
        places = ready.places
    tables = tables_of_one_pass(scorer, places)
    if tables is not None and runs_by_default():
        most = shards * _BLOCK_PRODUCTS // max(1, tables.items.size)
        step = _QUERIES_OF_PASS
    else:
        most = shards * _BLOCK_BYTES // max(1, scorer.block_bytes_per_query)
        most = min(shards * _BLOCK_SCORES // scorer.num_items, most)
        step = _QUERIES_STEP
    most = max(1, most)
    return most if most < step else most // step * step
