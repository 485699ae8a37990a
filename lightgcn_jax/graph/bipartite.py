"""The user–item graph as two sorted CSR structures, one row a user and one row an item."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from lightgcn_jax.arrays import Array, Float, Int, default_device
from lightgcn_jax.data.pairs import MappedPairs, Pairs, SortedRows, check_rows, new_rows
from lightgcn_jax.data.splits import Split
from lightgcn_jax.data.weights import check_weights
from lightgcn_jax.errors import InputError

_INT32_MAX = np.iinfo(np.int32).max


def check_counts(num_nodes: int, num_edges: int) -> None:
    """Refuse a graph that 32-bit ids cannot count.

    Args:
        num_nodes: N.
        num_edges: E.

    Raises:
        InputError: nodes or directed edges are 2³¹ − 1 or more.
    """
    if max(2 * num_edges, num_nodes) >= _INT32_MAX:
        raise InputError(
            f"graph: nodes and directed edges are counted in 32 bits, at most {_INT32_MAX:,}, "
            f"got {num_nodes:,} and {2 * num_edges:,}"
        )


@flax.struct.dataclass
class CsrRows:
    """Rows of sorted column ids: row r holds ``columns[offsets[r]:offsets[r + 1]]``.

    Attributes:
        offsets: ``int32[rows + 1]``, non-decreasing, from 0 to E.
        columns: ``int32[E]``, strictly increasing within a row.
        longest: static; the length of the longest row (bounds every binary search).
        weights: ``float32[E]``, above 0; None where every entry weighs 1.
    """

    offsets: Int[Array, " rows_plus_one"]
    columns: Int[Array, " edges"]
    longest: int = flax.struct.field(pytree_node=False)
    weights: Float[Array, " edges"] | None = None

    @property
    def num_rows(self) -> int:
        """How many rows there are, empty ones included."""
        return self.offsets.shape[0] - 1

    def lengths(self) -> Int[Array, " rows"]:
        """How many entries each row has, ``int32[rows]``."""
        return self.offsets[1:] - self.offsets[:-1]

    def degrees(self) -> np.ndarray:
        """What the entries of each row weigh together, on the host: its length without weights.

        Returns:
            ``int32[rows]``, or ``float64[rows]`` where there are weights.
        """
        lengths = np.diff(np.asarray(self.offsets))
        if self.weights is None:
            return lengths
        rows = np.repeat(np.arange(len(lengths)), lengths)
        return np.bincount(rows, np.asarray(self.weights), minlength=len(lengths))


@flax.struct.dataclass
class BipartiteGraph:
    """Interactions between U users and I items, in CSR both ways.

    A pytree whose arrays enter jitted functions as arguments; the counts are static.

    Attributes:
        items_of_user: rows are users, columns are item ids.
        users_of_item: rows are items, columns are user ids.
        num_users: U.
        num_items: I.
        num_edges: E, each interaction once.
    """

    items_of_user: CsrRows
    users_of_item: CsrRows
    num_users: int = flax.struct.field(pytree_node=False)
    num_items: int = flax.struct.field(pytree_node=False)
    num_edges: int = flax.struct.field(pytree_node=False)

    @property
    def num_nodes(self) -> int:
        """N = U + I; user u is node u, item i is node U + i."""
        return self.num_users + self.num_items

    @classmethod
    def from_pairs(
        cls,
        users: ArrayLike,
        items: ArrayLike,
        *,
        num_users: int,
        num_items: int,
        weights: np.ndarray | None = None,
    ) -> BipartiteGraph:
        """Build the graph from one pair of rows for each interaction, in any order.

        Args:
            users: ``int[E]`` user rows in [0, num_users).
            items: ``int[E]`` item rows in [0, num_items).
            num_users: U; a user without a pair becomes an isolated node.
            num_items: I; an item without a pair becomes an isolated node.
            weights: ``float32[E]``, finite and above 0; None where every interaction weighs 1.

        Returns:
            The graph. O(E) memory, O(E log E) time, on the host.

        Raises:
            InputError: lengths differ, a row is out of range, a weight is not above 0, or a pair
                stands twice (pairs are refused, not added up).
        """
        users, items = np.asarray(users), np.asarray(items)
        check_rows("users", users, num_users)
        check_rows("items", items, num_items)
        if users.size != items.size:
            raise InputError(
                f"users and items: expected equal lengths, got {users.size} and {items.size}"
            )
        if weights is not None:
            check_weights("weights", weights, users.size)
        check_counts(num_users + num_items, users.size)
        both_ways = (
            csr_rows(users, items, num_users, weights),
            csr_rows(items, users, num_items, weights),
        )
        return cls(*both_ways, num_users, num_items, num_edges=int(users.size))

    def reordered(self, users: np.ndarray, items: np.ndarray) -> BipartiteGraph:
        """The same graph with other rows: row p holds what row ``users[p]``, ``items[p]`` held.

        Args:
            users: ``int[U]``, the old row of the user at each new row, each once.
            items: ``int[I]``, the old row of the item at each new row, each once.

        Returns:
            A graph with as many nodes and edges.

        Raises:
            InputError: an order leaves a row out.
        """
        old_users, old_items = self.pairs()
        users = new_rows("users", users, self.num_users)[old_users]
        items = new_rows("items", items, self.num_items)[old_items]
        sizes = {"num_users": self.num_users, "num_items": self.num_items}
        return BipartiteGraph.from_pairs(users, items, **sizes, weights=self.weights())

    def pairs(self) -> tuple[np.ndarray, np.ndarray]:
        """The interactions as host arrays ``int32[E]``, sorted by user, then item."""
        rows = np.asarray(self.items_of_user.offsets)
        users = np.repeat(np.arange(self.num_users, dtype=np.int32), np.diff(rows))
        return users, np.asarray(self.items_of_user.columns)

    def weights(self) -> np.ndarray | None:
        """The weights of :meth:`pairs`, ``float32[E]`` on the host; None where each weighs 1."""
        weights = self.items_of_user.weights
        return None if weights is None else np.asarray(weights)


def csr_rows(
    rows: ArrayLike, columns: ArrayLike, num_rows: int, weights: np.ndarray | None = None
) -> CsrRows:
    """Sort pairs into :class:`CsrRows`; the caller checks that the ids are in range.

    Args:
        rows: ``int[E]`` in [0, num_rows).
        columns: ``int[E]``, 0 or more.
        num_rows: how many rows there are; those without a pair are empty.
        weights: ``float32[E]``, or None.

    Returns:
        The rows, on the device.

    Raises:
        InputError: a pair stands twice (de-duplicate the interactions first).
    """
    rows, columns = np.asarray(rows, np.int64), np.asarray(columns, np.int64)
    # One sort of a combined key is several times faster than a two-key lexsort.
    width = int(columns.max(initial=0)) + 1
    keys = rows * width + columns
    if weights is None:
        if (keys[1:] < keys[:-1]).any():  # Pairs of a split are sorted already.
            keys.sort()
    else:
        order = np.argsort(keys)
        keys, weights = keys[order], weights[order]
    repeated = np.flatnonzero(keys[1:] == keys[:-1])
    if repeated.size:
        row, column = divmod(int(keys[repeated[0]]), width)
        raise InputError(
            f"pairs: expected each once, got {repeated.size} repeated, the first "
            f"({row}, {column}); de-duplicate the interactions first"
        )
    lengths = np.bincount(keys // width, minlength=num_rows)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    return CsrRows(
        offsets=jax.device_put(offsets),
        columns=jax.device_put((keys % width).astype(np.int32)),
        longest=int(lengths.max(initial=0)),
        weights=None if weights is None else jax.device_put(weights),
    )


def walk_rows(
    rows: CsrRows, wanted: Int[Array, " wanted"], positions: Int[Array, " positions"]
) -> tuple[Array, Array, Array]:
    """Walk the entries of several rows as if they stood one after another.

    Args:
        rows: the sorted rows, with at least one entry.
        wanted: ``int32[W]``, row ids.
        positions: ``int32[P]``, positions in the concatenation of those rows.

    Returns:
        ``slots int32[P]``, which of the wanted rows each position lies in; ``columns int32[P]``,
        the entry there; ``inside bool[P]``, False past the last entry, where the other two mean
        nothing.
    """
    slots, edges, inside = _walk_edges(rows, wanted, positions)
    return slots, rows.columns.at[edges].get(mode="clip"), inside


def _walk_edges(
    rows: CsrRows, wanted: Int[Array, " wanted"], positions: Int[Array, " positions"]
) -> tuple[Array, Array, Array]:
    """As :func:`walk_rows`, with the place among all rows' entries in that of the entry."""
    ends = jnp.cumsum(rows.offsets[wanted + 1] - rows.offsets[wanted])
    slots = jnp.searchsorted(ends, positions, side="right").astype(jnp.int32)
    slots = jnp.minimum(slots, wanted.shape[0] - 1)
    edges = rows.offsets[wanted[slots] + 1] - (ends[slots] - positions)
    return slots, edges, positions < ends[-1]


def fold_rows(
    rows: CsrRows,
    wanted: Int[Array, " wanted"],
    block: int,
    update: Callable[[Any, Array, Array, Array | float], Any],
    total: Any,
) -> Any:
    """Go through the entries of several rows block by block: as many blocks as they have entries,
    whatever the longest row.

    Args:
        rows: the sorted rows.
        wanted: ``int32[W]``, row ids.
        block: entries that are taken at once.
        update: from the total, ``slots int32[block]`` and ``columns int32[block]``, as from
            :func:`walk_rows`, and ``weights float32[block]``, 1.0 for rows without weights, to the
            next total. Past the last entry a slot is W, which a scatter of ``mode="drop"`` leaves
            out.
        total: what the first update takes.

    Returns:
        The last total.
    """
    if not rows.columns.shape[0]:
        return total
    count = (rows.offsets[wanted + 1] - rows.offsets[wanted]).sum()

    def take_block(state):
        start, total = state
        positions = start + jnp.arange(block, dtype=jnp.int32)
        slots, edges, inside = _walk_edges(rows, wanted, positions)
        columns = rows.columns.at[edges].get(mode="clip")
        weights = 1.0 if rows.weights is None else rows.weights.at[edges].get(mode="clip")
        slots = jnp.where(inside, slots, len(wanted))
        return start + block, update(total, slots, columns, weights)

    start = jnp.zeros((), jnp.int32)
    return jax.lax.while_loop(lambda state: state[0] < count, take_block, (start, total))[1]


def first_edge(
    rows: CsrRows, row: Int[Array, "..."], is_before: Callable[[Array, Array], Array]
) -> Int[Array, "..."]:
    """Where in each row a condition stops to hold, by binary search on the device.

    Args:
        rows: the sorted rows.
        row: row ids, any shape.
        is_before: from edges (places among all rows' entries) and the entries there to whether the
            wanted edge comes later; true for the first edges of a row, and false for the others.

    Returns:
        ``int32``, the shape of ``row``, edges; the row's end where the condition holds throughout.
    """
    bounds = rows.offsets[row], rows.offsets[row + 1]
    if not rows.columns.shape[0]:
        return bounds[0]

    def halve(_, bounds):
        low, high = bounds
        middle = (low + high) // 2
        before = is_before(middle, rows.columns.at[middle].get(mode="clip")) & (low < high)
        return jnp.where(before, middle + 1, low), jnp.where(before, high, middle)

    return jax.lax.fori_loop(0, int(rows.longest).bit_length(), halve, bounds)[0]


def count_below(
    rows: CsrRows, row: Int[Array, "..."], value: Int[Array, "..."], *, minus_rank: bool = False
) -> Int[Array, "..."]:
    """How many entries of each row are smaller than a value, by binary search on the device.

    Args:
        rows: the sorted rows.
        row: row ids, any shape.
        value: values, broadcast against ``row``.
        minus_rank: compare ``entry - rank`` (its position in the row) in place of ``entry``, and
            count those that are smaller or equal. ``entry - rank`` is the number of absent ids
            before the entry, which is what drawing uniformly from a row's complement needs.

    Returns:
        ``int32``, the broadcast shape, each in [0, row length].
    """
    row, value = jnp.broadcast_arrays(row, value)
    start = rows.offsets[row]

    def is_before(edge: Array, entry: Array) -> Array:
        return entry - (edge - start) <= value if minus_rank else entry < value

    return first_edge(rows, row, is_before) - start


def contains(rows: CsrRows, row: Int[Array, "..."], value: Int[Array, "..."]) -> Array:
    """Whether each row holds a value, by binary search on the device.

    Args:
        rows: the sorted rows.
        row: ``int32``, row ids, any shape.
        value: ``int32``, values, broadcast against ``row``.

    Returns:
        ``bool``, the broadcast shape.
    """
    row, value = jnp.broadcast_arrays(row, value)
    if rows.columns.shape[0] == 0:
        return jnp.zeros(row.shape, bool)
    position = first_edge(rows, row, lambda _, entry: entry < value)
    found = rows.columns.at[position].get(mode="clip") == value
    return found & (position < rows.offsets[row + 1])


def training_graph(split: Split) -> BipartiteGraph:
    """The training pairs of a split over all its users and items.

    Args:
        split: whose ``train`` becomes edges, with its weights.

    Returns:
        The graph; users and items without training pairs are isolated nodes.
    """
    sizes = {"num_users": len(split.users), "num_items": len(split.items)}
    train = split.train
    if isinstance(train, MappedPairs):
        by_user, by_item = _as_they_are(train.by_user), _as_they_are(train.by_item)
        return BipartiteGraph(by_user, by_item, **sizes, num_edges=len(train))
    return BipartiteGraph.from_pairs(train.users, train.items, **sizes, weights=train.weights)


def rows_of_users(pairs: Pairs, num_users: int) -> CsrRows:
    """The items of each user; what is sorted already is not sorted again.

    Args:
        pairs: of users and items, weights left aside.
        num_users: U.
    """
    if isinstance(pairs, MappedPairs):
        return _as_they_are(pairs.by_user)
    return csr_rows(pairs.users, pairs.items, num_users)


def _as_they_are(rows: SortedRows) -> CsrRows:
    """The same arrays on the device; on a CPU what is mapped from a disk stays there."""
    lengths, columns = np.diff(rows.offsets), rows.columns
    place = jax.sharding.SingleDeviceSharding(default_device())
    # Unlike jnp.asarray this copies nothing on a CPU.
    mapped = jax.make_array_from_callback(columns.shape, place, lambda at: columns[at])
    return CsrRows(jnp.asarray(rows.offsets), mapped, longest=int(lengths.max(initial=0)))
