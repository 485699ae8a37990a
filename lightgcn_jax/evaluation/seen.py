"""What users have seen, of pairs that lie on a disk: read for the items that are asked for."""

from __future__ import annotations

from functools import cached_property

import numpy as np

from lightgcn_jax.data.pairs import MappedPairs, Pairs, check_rows, merge_pairs, pair_keys
from lightgcn_jax.graph.bipartite import CsrRows, rows_of_users


class SeenRows:
    """Training pairs and others beside them, a row of items for each user.

    Args:
        train: on a disk, by user and by item.
        more: others, none of which are in ``train``; None for none.
        num_users: U.
        rows: those of ``train`` where they are there already.
    """

    def __init__(
        self, train: MappedPairs, more: Pairs | None, num_users: int, rows: CsrRows | None = None
    ):
        self._train, self._more, self.num_rows, self._rows = train, more, num_users, rows

    @cached_property
    def offsets(self) -> np.ndarray:
        """Where each user's row would begin, ``int64[U + 1]``."""
        lengths = np.diff(self._train.by_user.offsets).astype(np.int64)
        if self._more is not None:
            lengths += np.bincount(self._more.users, minlength=self.num_rows)
        return np.concatenate([[0], np.cumsum(lengths)])

    @property
    def longest(self) -> int:
        """The length of the longest row."""
        return int(np.diff(self.offsets).max(initial=0))

    @cached_property
    def whole(self) -> CsrRows:
        """All rows, in memory."""
        if self._more is None:
            return self._rows or rows_of_users(self._train, self.num_rows)
        return rows_of_users(merge_pairs(self._train, self._more), self.num_rows)

    def of_items(self, start: int, stop: int) -> tuple[np.ndarray, np.ndarray]:
        """The pairs of some items. Of ``train`` no others are read.

        Args:
            start: the first item.
            stop: the first that is left out.

        Returns:
            ``int32[n]`` users and items, ascending by user, then item.

        Raises:
            InputError: the file that ``train`` lies in is damaged.
        """
        offsets = self._train.by_item.offsets[start : stop + 1]
        users = np.array(self._train.by_item.columns[offsets[0] : offsets[-1]])
        check_rows("users of items", users, self.num_rows, ": the prepared folder is damaged")
        items = np.repeat(np.arange(start, stop, dtype=np.int32), np.diff(offsets))
        keys = pair_keys(users, items)
        if self._more is not None:
            here = (self._more.items >= start) & (self._more.items < stop)
            more = pair_keys(self._more.users[here], self._more.items[here])
            keys = np.concatenate([keys, more])
        keys.sort()
        return (keys >> 32).astype(np.int32), (keys & 0xFFFFFFFF).astype(np.int32)


def whole_rows(seen: CsrRows | SeenRows) -> CsrRows:
    """All of what users have seen, in memory.

    Args:
        seen: by users.
    """
    return seen.whole if isinstance(seen, SeenRows) else seen
