"""Ranking by tables whose rows are shared out over the devices of a mesh.

Every shard ranks its own items for a block of queries, exactly as one device ranks all, and the
lists of all shards are merged: K items of each, so that neither scores nor vectors of all items
meet on one device. Shards hold consecutive items, so the merge breaks ties as one device does.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any, NamedTuple

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, PartitionSpec

from lightgcn_jax.arrays import Array, Ids, Int, power_of_two
from lightgcn_jax.evaluation.block import ranked_rows
from lightgcn_jax.evaluation.scorer import Tables
from lightgcn_jax.evaluation.seen import SeenRows
from lightgcn_jax.evaluation.top_k import Ranking, group_width, unsigned_zeros
from lightgcn_jax.graph.bipartite import CsrRows
from lightgcn_jax.processes.agreement import gathered
from lightgcn_jax.processes.placing import by_shards, own_shards


@flax.struct.dataclass
class ShardedTables:
    """A scorer by vectors, the rows of whose tables lie on the shards of a mesh.

    Attributes:
        scorer: queries ``float[S·u, D]`` and items ``float[S·i, D]``, as many rows on each of the S
            shards; what stands behind the last user and the last item stands for nobody. What else
            there is of it belongs to no single item.
        num_queries: U.
        num_items: I.
        mesh: the devices.
        axis: the axis of the mesh that rows of tables are shared out over; blocks of queries are
            shared out over the other one.
    """

    scorer: Tables
    num_queries: int = flax.struct.field(pytree_node=False)
    num_items: int = flax.struct.field(pytree_node=False)
    mesh: Mesh = flax.struct.field(pytree_node=False)
    axis: str = flax.struct.field(pytree_node=False)

    @property
    def shards(self) -> int:
        """S."""
        return self.mesh.shape[self.axis]


class ReadySharded(NamedTuple):
    """Sharded tables made ready for ranking: each shard's items filled up to whole groups.

    Attributes:
        scorer: what ranks, its items filled up.
        items_a_shard: i, items of a shard but for those that fill it up.
        all_items: I.
        group: the power of two that divides the rows of a shard.
    """

    scorer: ShardedTables
    items_a_shard: int
    all_items: int
    group: int

    @property
    def num_items(self) -> int:
        """I, as all may be ranked."""
        return self.all_items


class _SharedRows(NamedTuple):
    """Rows of items by the shard that holds them, numbered within it; the leading axis is the
    shard."""

    offsets: Int[Array, "shards rows_plus_one"]
    columns: Int[Array, "shards entries"]


def ready_sharded(scorer: ShardedTables, least_cut_off: int) -> ReadySharded:
    """Fill every shard's items up to whole groups.

    Args:
        scorer: what ranks.
        least_cut_off: the lowest cut-off for which groups are made.
    """
    each = scorer.scorer.items.shape[0] // scorer.shards
    group = group_width(each, min(each, least_cut_off))
    filled = _filled(scorer, -each % group) if each % group else scorer
    return ReadySharded(filled, each, scorer.num_items, group)


@functools.partial(jax.jit, static_argnames="spare")
def _filled(scorer: ShardedTables, spare: int) -> ShardedTables:
    of_rows = PartitionSpec(scorer.axis, None)
    pad = jax.shard_map(
        lambda items: jnp.pad(items, ((0, spare), (0, 0))),
        mesh=scorer.mesh,
        in_specs=of_rows,
        out_specs=of_rows,
    )
    own: Any = scorer.scorer
    return dataclasses.replace(scorer, scorer=own.replace(items=pad(own.items)))


def rank_sharded(
    ready: ReadySharded,
    rows: np.ndarray,
    k: int,
    seen: CsrRows | SeenRows | None,
    block_size: int,
) -> Ranking:
    """Rank items for chosen queries, block by block.

    Args:
        ready: what ranks.
        rows: ``int[Q]``, the queries.
        k: K, from 1 to I.
        seen: items to leave out, row r for query r; None leaves out nothing.
        block_size: queries of a block.

    Returns:
        Host arrays: ``items int32[Q, K]`` and ``scores float32[Q, K]``; the same in every process.
    """
    scorer = ready.scorer
    across = scorer.mesh.size // scorer.shards
    block_size = -(-block_size // across) * across
    spare = -len(rows) % block_size
    blocks = np.pad(rows.astype(np.int32), (0, spare), "edge").reshape(-1, block_size)
    shared, capacity = None, 0
    if seen is not None and (offsets := np.asarray(seen.offsets))[-1]:
        capacity = int((offsets[blocks + 1] - offsets[blocks]).sum(axis=1).max())
        # Few programs are compiled where capacities are rounded up.
        capacity = power_of_two(capacity)
        shared = _shared(seen, ready)
    filled = scorer.scorer.items.shape[0] // scorer.shards
    static = {
        "k": k,
        "each": ready.items_a_shard,
        "width": min(ready.group, group_width(filled, min(k, filled))),
        "longest": 0 if seen is None else seen.longest,
        "capacity": capacity,
    }
    # One block after another: processes have to exchange them in the same order.
    ranked = [jax.device_get(_rank_block(block, scorer, shared, **static)) for block in blocks]
    return Ranking(*(np.concatenate(one)[: len(rows)] for one in zip(*ranked, strict=True)))


def _shared(seen: CsrRows | SeenRows, ready: ReadySharded) -> _SharedRows:
    """Rows of items shared out as the items are; a process makes those of its own shards alone."""
    scorer, each = ready.scorer, ready.items_a_shard
    shards = own_shards(scorer.mesh, scorer.axis)
    if isinstance(seen, SeenRows):
        pairs_of = seen.of_items
    else:
        users = np.repeat(
            np.arange(seen.num_rows, dtype=np.int32), np.diff(np.asarray(seen.offsets))
        )
        pairs_of = functools.partial(_pairs_of, users, np.asarray(seen.columns))
    pairs = {}
    for shard in shards:
        bounds = (min(ready.all_items, (shard + more) * each) for more in (0, 1))
        pairs[shard] = pairs_of(*bounds)
    most = max(1, *(max(one) for one in gathered([len(users) for users, _ in pairs.values()])))

    def of_shard(shard: int) -> Any:
        users, items = pairs[shard]
        starts = np.concatenate([[0], np.cumsum(np.bincount(users, minlength=seen.num_rows))])
        own = np.pad(items - np.int32(shard * each), (0, most - len(items)))
        return starts.astype(np.int32), own.astype(np.int32)

    return _SharedRows(*by_shards(of_shard, scorer.mesh, scorer.axis))


def _pairs_of(
    users: np.ndarray, items: np.ndarray, start: int, stop: int
) -> tuple[np.ndarray, np.ndarray]:
    """The pairs of the items from one on and before another."""
    here = (items >= start) & (items < stop)
    return users[here], items[here]


@functools.partial(jax.jit, static_argnames=("k", "each", "width", "longest", "capacity"))
def _rank_block(
    rows: Ids,
    tables: ShardedTables,
    seen: _SharedRows | None,
    *,
    k: int,
    each: int,
    width: int,
    longest: int,
    capacity: int,
) -> Ranking:
    axis, total = tables.axis, tables.num_items
    [across] = set(tables.mesh.axis_names) - {axis}

    def of_shard(rows: Ids, scorer: Any, seen: _SharedRows | None) -> Ranking:
        shard, count = jax.lax.axis_index(axis), scorer.items.shape[0]
        own = scorer.replace(queries=_vectors(scorer.queries, rows, axis))
        # What fills the shard up, and what stands for no item behind the last one.
        behind = min(count, count - each + each * tables.shards - total)
        last = count - 1 - jnp.arange(behind, dtype=jnp.int32)
        nobody = (last >= each) | (shard * each + last >= total)
        excluded = jnp.where(nobody, last, count)
        rows_seen = None
        if seen is not None:
            rows_seen = CsrRows(seen.offsets[0], seen.columns[0], longest)
        slots = jnp.arange(len(rows), dtype=jnp.int32)
        ranked = ranked_rows(
            slots, rows, own, excluded, None, rows_seen,
            k=min(k, count), width=width, seen_capacity=capacity,
        )  # fmt: skip
        items = jnp.where(ranked.items >= 0, ranked.items + shard * each, -1)
        best = _merged(Ranking(items, ranked.scores), k, axis)
        # Every device gets the lists of all queries, so that every process has them.
        return Ranking(*(jax.lax.all_gather(one, across, tiled=True) for one in best))

    of_tables = jax.tree.map(lambda _: PartitionSpec(), tables.scorer)
    of_rows = PartitionSpec(axis, None)
    of_tables = of_tables.replace(queries=of_rows, items=of_rows)
    ranked = jax.shard_map(
        of_shard,
        mesh=tables.mesh,
        in_specs=(PartitionSpec(across), of_tables, PartitionSpec(axis)),
        out_specs=PartitionSpec(),
        check_vma=False,  # what the kernels give says nothing of the axes over which it varies
    )
    return ranked(rows, tables.scorer, seen)


def _vectors(queries: Array, rows: Ids, axis: str) -> Array:
    """The vectors of a block's queries, from whichever shards hold them."""
    place = rows - jax.lax.axis_index(axis) * queries.shape[0]
    here = (place >= 0) & (place < queries.shape[0])
    own = jnp.where(here[:, None], queries.at[place].get(mode="clip"), 0)
    return jax.lax.psum(own, axis)


def _merged(lists: Ranking, k: int, axis: str) -> Ranking:
    """The K best of all shards' lists; of equal scores that of the lower item, as shards stand in
    the order of their items."""
    items, scores = (
        jnp.moveaxis(jax.lax.all_gather(one, axis), 0, 1).reshape(len(one), -1) for one in lists
    )
    best, places = jax.lax.top_k(unsigned_zeros(scores), k)
    return Ranking(jnp.take_along_axis(items, places, axis=1), best)
