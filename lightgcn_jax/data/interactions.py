"""Interactions: who met what, under contiguous rows, beside the ids of the outside world."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import polars as pl

from lightgcn_jax.data.canonical import canonical_order, edge_labels
from lightgcn_jax.data.changes import CountChange
from lightgcn_jax.data.columns import columns_of, ids_of, numbers_of, seconds_of
from lightgcn_jax.data.ids import IdMap
from lightgcn_jax.data.matrices import entries_of, ids_of_axis
from lightgcn_jax.data.pairs import check_rows, new_rows
from lightgcn_jax.data.reading import Reading
from lightgcn_jax.data.titles import Titles
from lightgcn_jax.data.weights import check_weights, summed_at
from lightgcn_jax.errors import InputError
from lightgcn_jax.shown import Shown

TRAIN, VALID, TEST = 0, 1, 2
"""Values of ``Interactions.parts``: which part of a split that came with the files a pair is in."""


@dataclass(frozen=True, eq=False, repr=False)
class Interactions(Shown):
    """E events between users and items, checked once, here.

    An id without an interaction may stand in the maps: a user whom the files name with no item.

    Attributes:
        users: U external user ids.
        items: I external item ids.
        user_rows: int32[E].
        item_rows: int32[E].
        ratings: float32[E].
        timestamps: float64[E], seconds.
        parts: uint8[E], TRAIN, VALID or TEST, where the files gave a split.
        report: What the steps of preparation left out.
        readings: How each file was read that they come from.
        notes: Lines that a user should read before work starts, guesses for instance.
        titles: What people call the items, where that is known.
        weights: float32[E], finite and above 0: how much each counts in graph and loss; None where
            all count alike.
    """

    users: IdMap
    items: IdMap
    user_rows: np.ndarray
    item_rows: np.ndarray
    ratings: np.ndarray | None = None
    timestamps: np.ndarray | None = None
    parts: np.ndarray | None = None
    report: tuple[CountChange, ...] = ()
    readings: tuple[Reading, ...] = ()
    notes: tuple[str, ...] = ()
    titles: Titles | None = None
    weights: np.ndarray | None = None

    def __post_init__(self) -> None:
        edges = len(self.user_rows)
        for name, values, dtype in (
            ("user_rows", self.user_rows, np.int32),
            ("item_rows", self.item_rows, np.int32),
            ("ratings", self.ratings, np.float32),
            ("timestamps", self.timestamps, np.float64),
            ("parts", self.parts, np.uint8),
        ):
            if values is None:
                continue
            if values.dtype != dtype or values.shape != (edges,):
                raise InputError(
                    f"{name}: expected {np.dtype(dtype).name}[{edges}], one for each interaction, "
                    f"got {values.dtype}{list(values.shape)}"
                )
            if name in ("ratings", "timestamps") and not np.isfinite(values).all():
                at = int(np.argmin(np.isfinite(values)))
                raise InputError(f"{name}[{at}]: expected a finite number, got {values[at]}")
        if self.weights is not None:
            check_weights("weights", self.weights, edges)
        check_rows("user_rows", self.user_rows, len(self.users))
        check_rows("item_rows", self.item_rows, len(self.items))
        if self.parts is not None and edges and self.parts.max() > TEST:
            raise InputError(f"parts: expected 0, 1 or 2, got {self.parts.max()}")

    @classmethod
    def from_arrays(
        cls,
        users: Any,
        items: Any,
        ratings: Any = None,
        timestamps: Any = None,
        parts: Any = None,
        *,
        weights: Any = None,
        null_ids: bool = False,
    ) -> "Interactions":
        """Builds interactions from columns of equal length.

        Args:
            users: External user ids, integers or strings, [E]; blanks around one are left out.
            items: External item ids likewise, [E].
            ratings: Finite numbers [E], or None.
            timestamps: Seconds, dates or ISO 8601 strings [E], or None.
            parts: TRAIN, VALID or TEST [E], or None.
            weights: Finite numbers above 0 [E], or None.
            null_ids: Whether spellings of a missing value, such as "nan", are ids.

        Raises:
            InputError: Lengths differ, a value is missing, masked or of another kind, a number is
                not finite, or a weight is not above 0.
        """
        user_ids = ids_of(users, "user ids", null_ids=null_ids)
        item_ids = ids_of(items, "item ids", null_ids=null_ids)
        if len(user_ids) != len(item_ids):
            raise InputError(
                f"expected as many item ids as user ids, got {len(item_ids)} and {len(user_ids)}"
            )
        user_map, item_map = IdMap.from_values(user_ids), IdMap.from_values(item_ids)
        return cls(
            users=user_map,
            items=item_map,
            user_rows=user_map.rows(user_ids),
            item_rows=item_map.rows(item_ids),
            ratings=None if ratings is None else numbers_of(ratings, "ratings", np.float32),
            timestamps=None if timestamps is None else seconds_of(timestamps, "timestamps"),
            parts=None if parts is None else numbers_of(parts, "parts", np.uint8),
            weights=None if weights is None else numbers_of(weights, "weights", np.float32),
        )

    @classmethod
    def from_frame(
        cls,
        frame: Any,
        user: str = "user",
        item: str = "item",
        rating: str | None = None,
        timestamp: str | None = None,
        *,
        weight: str | None = None,
        null_ids: bool = False,
    ) -> "Interactions":
        """Builds interactions from a table.

        Args:
            frame: A polars or pandas frame, an Arrow table, a mapping from names to columns, or
                whatever else ``polars.DataFrame`` takes.
            user: The column with user ids.
            item: The column with item ids.
            rating: The column with ratings, or None for none.
            timestamp: The column with times, or None for none.
            weight: The column with weights, or None for none.
            null_ids: Whether spellings of a missing value, such as "nan", are ids.

        Raises:
            InputError: A column is not there, or its values do not fit.
        """
        roles = {"user": user, "item": item, "rating": rating, "timestamp": timestamp}
        *columns, weights = columns_of(frame, {**roles, "weight": weight})
        return cls.from_arrays(*columns, weights=weights, null_ids=null_ids)

    @classmethod
    def from_scipy(cls, matrix: Any, users: Any = None, items: Any = None) -> "Interactions":
        """Builds interactions from a sparse matrix: an entry for each pair, with its rating.

        Entries of one cell add up, as SciPy has it. A matrix of booleans gives no ratings. Ids of
        rows and columns without an entry stay in the maps.

        Args:
            matrix: U×I, of any of SciPy's formats; every entry that it holds is an interaction.
            users: The external ids of the rows, each once; by default 0 … U - 1.
            items: The external ids of the columns, each once; by default 0 … I - 1.

        Raises:
            InputError: It is no sparse matrix of numbers, it holds zeros or entries that are not
                finite, or ids do not fit its shape.
        """
        entries = entries_of(matrix)
        return cls(
            users=ids_of_axis(users, "users", entries.shape[0]),
            items=ids_of_axis(items, "items", entries.shape[1]),
            user_rows=entries.rows,
            item_rows=entries.columns,
            ratings=entries.values,
        )

    def __len__(self) -> int:
        return len(self.user_rows)

    def facts(self) -> dict[str, str]:
        """How many there are of what, and what is known of each."""
        known = ("ratings", "timestamps", "weights", "parts")
        return {
            "holds": f"{len(self):,} interactions, {self.num_users:,} users, "
            f"{self.num_items:,} items",
            "with": ", ".join(one for one in known if getattr(self, one) is not None) or "no more",
        }

    @property
    def num_users(self) -> int:
        return len(self.users)

    @property
    def num_items(self) -> int:
        return len(self.items)

    @property
    def pair_keys(self) -> np.ndarray:
        """int64[E], user row · number of items + item row: ascending as (user, item) ascends."""
        return self.user_rows.astype(np.int64) * self.num_items + self.item_rows

    @property
    def has_duplicates(self) -> bool:
        """Whether some user-item pair stands more than once."""
        keys = self.pair_keys
        keys.sort()
        return bool((keys[1:] == keys[:-1]).any())

    def deduplicated(self) -> "Interactions":
        """Keeps one interaction of each user-item pair, and the order of those kept.

        The latest by time stays, or the last in order where there are no timestamps. A pair that
        stands in several parts stays in the earliest of them (train before valid before test).
        What its rows in that part weigh together is what it weighs. No id can vanish by this, so
        the id maps stay as they are.
        """
        step = "one interaction per user-item pair"
        if not self.has_duplicates:
            return self._kept(step, np.arange(len(self)))
        keys = self.pair_keys
        # Within a pair the one to keep comes last: latest part first, then oldest time first.
        by: list[np.ndarray] = [] if self.timestamps is None else [self.timestamps]
        if self.parts is not None:
            by.append(TEST - self.parts)
        order = np.lexsort((*by, keys))
        is_last = np.append(keys[order[1:]] != keys[order[:-1]], True)
        kept = np.sort(order[is_last])
        merged = self._kept(step, kept)
        if self.weights is None:
            return merged
        return replace(merged, weights=summed_at(kept, keys, self.weights, self.parts))

    def with_min_rating(self, threshold: float) -> "Interactions":
        """Keeps interactions rated at least as high as a threshold.

        Args:
            threshold: The lowest rating that is kept.

        Raises:
            InputError: There are no ratings, or none is that high.
        """
        if self.ratings is None:
            raise InputError(
                f"min_rating={threshold}: these interactions have no ratings; name the rating "
                "column when reading, or leave the filter out"
            )
        return self.filtered(f"rating ≥ {threshold:g}", self.ratings >= threshold)

    def with_k_core(self, users: int, items: int) -> "Interactions":
        """Keeps the largest subset in which every user and every item has enough interactions.

        Removing an item can leave a user short and the other way round, so both conditions are
        applied in turn until nothing changes. Interactions are counted as they stand:
        de-duplicate first where repeated pairs must count once.

        Args:
            users: The least number of interactions of a user.
            items: The least number of interactions of an item.

        Raises:
            InputError: A number is below 1, or nothing is left.
        """
        for name, least in (("users", users), ("items", items)):
            if least < 1:
                raise InputError(f"k-core {name}: expected an integer of 1 or more, got {least}")
        kept = np.arange(len(self), dtype=np.int64)
        while True:
            user_rows, item_rows = self.user_rows[kept], self.item_rows[kept]
            enough_users = np.bincount(user_rows, minlength=self.num_users) >= users
            enough_items = np.bincount(item_rows, minlength=self.num_items) >= items
            stays = enough_users[user_rows] & enough_items[item_rows]
            if stays.all():
                break
            kept = kept[stays]
        mask = np.zeros(len(self), dtype=bool)
        mask[kept] = True
        return self.filtered(f"k-core of users ≥ {users}, items ≥ {items}", mask)

    def taken(self, places: np.ndarray) -> "Interactions":
        """The interactions at some places, in the order of these.

        Args:
            places: int[n].
        """
        names = ("user_rows", "item_rows", "ratings", "timestamps", "parts", "weights")
        columns = {name: getattr(self, name) for name in names}
        return replace(
            self, **{name: one[places] for name, one in columns.items() if one is not None}
        )

    def in_canonical_order(self) -> tuple["Interactions", np.ndarray]:
        """The same events in rows and an order that no name and no order of a file has a say in.

        Returns:
            The events, and int64[I], the old row of the item at each new row.
        """
        labels = edge_labels(len(self), self.timestamps, self.parts)
        edges = (self.user_rows, self.item_rows)
        users, items = canonical_order(self.users, self.items, *edges, labels)
        user_rows = new_rows("users", users, self.num_users)[self.user_rows]
        item_rows = new_rows("items", items, self.num_items)[self.item_rows]
        moved = replace(
            self,
            users=IdMap(self.users.ids.gather(users)),
            items=IdMap(self.items.ids.gather(items)),
            user_rows=user_rows,
            item_rows=item_rows,
        )
        return moved.taken(np.lexsort((labels, item_rows, user_rows))), items

    def filtered(self, step: str, mask: np.ndarray) -> "Interactions":
        """Keeps the interactions where a mask holds, under maps of the ids still present.

        Args:
            step: What the report calls this.
            mask: bool[E].

        Raises:
            InputError: It holds nowhere.
        """
        if not mask.any():
            raise InputError(
                f"{step} removed all {len(self):,} interactions; set a lower threshold"
            )
        if self.parts is not None and mask.all():
            # Published splits are compared by their counts, ids without interactions included.
            return self._kept(step, np.arange(len(self)))
        return self._kept(step, np.flatnonzero(mask), all_ids=False)

    def _kept(self, step: str, keep: np.ndarray, *, all_ids: bool = True) -> "Interactions":
        """The interactions at ``keep`` (int[n]), with the step's counts added to the report.

        ``all_ids`` says whether ids that have lost all their interactions stay in the maps.
        """
        kept = self.taken(keep)
        if not all_ids:
            users, user_rows = _compacted(self.users, kept.user_rows)
            items, item_rows = _compacted(self.items, kept.item_rows)
            kept = replace(kept, users=users, items=items, user_rows=user_rows, item_rows=item_rows)
        change = CountChange(
            step,
            len(self),
            len(kept),
            self.num_users,
            kept.num_users,
            self.num_items,
            kept.num_items,
        )
        return replace(kept, report=(*self.report, change))


def _compacted(ids: IdMap, rows: np.ndarray) -> tuple[IdMap, np.ndarray]:
    """The ids that ``rows`` name, and ``rows`` in the numbers of that map."""
    stays = np.bincount(rows, minlength=len(ids)) > 0
    if stays.all():
        return ids, rows
    new_row = np.cumsum(stays, dtype=np.int64).astype(np.int32) - np.int32(1)
    return IdMap(ids.ids.filter(pl.Series(stays))), new_row[rows]
